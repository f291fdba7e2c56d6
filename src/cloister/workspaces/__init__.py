"""Workspaces: a team's long-lived app on a sandbox, with a volume that outlives it."""

from cloister.workspaces.apps import App, app_of
from cloister.workspaces.capacity import Capacity, price_of
from cloister.workspaces.controller import WorkspaceController
from cloister.workspaces.errors import WorkspaceNotFound
from cloister.workspaces.models import CapacityRequest, Workspace
from cloister.workspaces.ports import NoPages, Pages, Visit
from cloister.workspaces.service import Change, Workspaces, environment_now
from cloister.workspaces.snapshots import SnapshotController

__all__ = [
    "App",
    "Capacity",
    "CapacityRequest",
    "Change",
    "NoPages",
    "Pages",
    "SnapshotController",
    "Visit",
    "Workspace",
    "WorkspaceController",
    "WorkspaceNotFound",
    "Workspaces",
    "app_of",
    "environment_now",
    "price_of",
]
