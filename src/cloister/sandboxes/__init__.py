"""Sandboxes: the only way that code of users runs."""

from cloister.sandboxes.app_socket import connect_app
from cloister.sandboxes.building import EnvironmentController
from cloister.sandboxes.controller import SandboxController
from cloister.sandboxes.egress import EgressProxy
from cloister.sandboxes.environments_privileged import Environments, install_agent
from cloister.sandboxes.errors import SandboxNotFound
from cloister.sandboxes.inner import Connected, InnerApi
from cloister.sandboxes.models import Sandbox, Volume
from cloister.sandboxes.ports import Backend, DataAccess, Usage, Wall
from cloister.sandboxes.service import RunRequest, Sandboxes, program_environ
from cloister.sandboxes.spec import Mount, Place, SandboxSpec
from cloister.sandboxes.states import FINAL, LIVE, TRANSITIONS, State, diagram
from cloister.sandboxes.volumes_privileged import VolumeDisks

__all__ = [
    "FINAL",
    "LIVE",
    "TRANSITIONS",
    "Backend",
    "Connected",
    "DataAccess",
    "EgressProxy",
    "EnvironmentController",
    "Environments",
    "InnerApi",
    "Mount",
    "Place",
    "RunRequest",
    "Sandbox",
    "SandboxController",
    "SandboxNotFound",
    "SandboxSpec",
    "Sandboxes",
    "State",
    "Usage",
    "Volume",
    "VolumeDisks",
    "Wall",
    "connect_app",
    "diagram",
    "install_agent",
    "program_environ",
]
