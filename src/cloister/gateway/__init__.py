"""The way in: Caddy and its configuration, the decision on every request, the kernel relay, the metering of what leaves."""

from cloister.gateway.caddy import caddyfile
from cloister.gateway.caddy_privileged import CaddyController
from cloister.gateway.decision import Decisions
from cloister.gateway.entering import Entering
from cloister.gateway.hosts import Hosts
from cloister.gateway.models import EntryCode, Outflow, WorkspaceSession
from cloister.gateway.outflow import Outflows
from cloister.gateway.presence import Presence
from cloister.gateway.server import Gateway

__all__ = [
    "CaddyController",
    "Decisions",
    "Entering",
    "EntryCode",
    "Gateway",
    "Hosts",
    "Outflow",
    "Outflows",
    "Presence",
    "WorkspaceSession",
    "caddyfile",
]
