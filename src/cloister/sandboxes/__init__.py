"""Sandboxes: the only way that code of users runs."""

from cloister.sandboxes.app_socket import AppNotListening, connect_app, link_app
from cloister.sandboxes.building import EnvironmentController
from cloister.sandboxes.controller import SandboxController
from cloister.sandboxes.egress import EgressProxy
from cloister.sandboxes.environments_privileged import Bounds, Environments, install_agent
from cloister.sandboxes.errors import (
    BuildFailed,
    EnvironmentBuildFailed,
    EnvironmentFailed,
    EnvironmentNotReady,
    EnvironmentUnknown,
    SandboxNotFound,
    SizeUnknown,
    VolumeNotFound,
)
from cloister.sandboxes.following import Following
from cloister.sandboxes.images import Image, Images
from cloister.sandboxes.inner import Connected, InnerApi
from cloister.sandboxes.inside import Inside
from cloister.sandboxes.models import Sandbox, Volume
from cloister.sandboxes.output import OutputLog
from cloister.sandboxes.ports import Backend, DataAccess, Usage, Wall
from cloister.sandboxes.processes_privileged import take_over
from cloister.sandboxes.programs import program_environ
from cloister.sandboxes.service import WORKSPACE_VOLUME, RunRequest, Sandboxes, check_size
from cloister.sandboxes.snapshots import Snapshot, Snapshots
from cloister.sandboxes.spec import CACHE_MOUNT, MODULE_MOUNT, Companion, Mount, Place, SandboxSpec
from cloister.sandboxes.states import FINAL, LIVE, TIME_LIMIT, TRANSITIONS, State, diagram
from cloister.sandboxes.volume_files import VolumeFiles
from cloister.sandboxes.volumes_privileged import VolumeDisks
from cloister.sandboxes.workshop import Job, Workshop, copy_untrusted

__all__ = [
    "CACHE_MOUNT",
    "FINAL",
    "LIVE",
    "MODULE_MOUNT",
    "TIME_LIMIT",
    "TRANSITIONS",
    "WORKSPACE_VOLUME",
    "AppNotListening",
    "Backend",
    "Bounds",
    "BuildFailed",
    "Companion",
    "Connected",
    "DataAccess",
    "EgressProxy",
    "EnvironmentBuildFailed",
    "EnvironmentController",
    "EnvironmentFailed",
    "EnvironmentNotReady",
    "EnvironmentUnknown",
    "Environments",
    "Following",
    "Image",
    "Images",
    "InnerApi",
    "Inside",
    "Job",
    "Mount",
    "OutputLog",
    "Place",
    "RunRequest",
    "Sandbox",
    "SandboxController",
    "SandboxNotFound",
    "SandboxSpec",
    "Sandboxes",
    "SizeUnknown",
    "Snapshot",
    "Snapshots",
    "State",
    "Usage",
    "Volume",
    "VolumeDisks",
    "VolumeFiles",
    "VolumeNotFound",
    "Wall",
    "Workshop",
    "check_size",
    "connect_app",
    "copy_untrusted",
    "diagram",
    "install_agent",
    "link_app",
    "program_environ",
    "take_over",
]
