"""Dashboards: grids of widgets fed by integrations; their live sessions and shares."""

from cloister.dashboards.live import LiveSessions
from cloister.dashboards.models import Dashboard, DashboardVersion, Share
from cloister.dashboards.running import Runner
from cloister.dashboards.service import Dashboards
from cloister.dashboards.shares import Shares
from cloister.dashboards.tickets import Tickets

__all__ = ["Dashboard", "DashboardVersion", "Dashboards", "LiveSessions", "Runner", "Share", "Shares", "Tickets"]
