"""News. Published after the transaction that made it true; controllers wake on it and look for themselves.

An event is a hint, never the truth: the truth is in the database, and a timer looks there too.
"""

import json
from dataclasses import asdict, dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Event:
    """Something happened."""

    registry: ClassVar[dict[str, type["Event"]]] = {}

    def __init_subclass__(cls) -> None:
        Event.registry[cls.__name__] = cls

    def dump(self) -> bytes:
        return json.dumps({"event": type(self).__name__, **asdict(self)}).encode()

    @staticmethod
    def load(data: bytes) -> "Event":
        """Rebuild an event from another process.

        Raises:
            ValueError: when it is not one.
        """
        fields = json.loads(data)
        if not isinstance(fields, dict) or fields.get("event") not in Event.registry:
            message = "not an event"
            raise ValueError(message)
        kind = Event.registry[fields.pop("event")]
        try:
            return kind(**fields)
        except TypeError as error:
            raise ValueError(str(error)) from error


@dataclass(frozen=True)
class EnrolmentWanted(Event):
    """Somebody applied, or something they waited for arrived."""

    space: str


@dataclass(frozen=True)
class AccessChanged(Event):
    """Somebody's reach in a space may have shrunk: running work must be looked at again."""

    space: str
    person: int | None = None


@dataclass(frozen=True)
class SignedOut(Event):
    """A session or a token of somebody's counts no longer."""

    person: int


@dataclass(frozen=True)
class ReleaseRemoved(Event):
    """A release of a module was taken away: what runs of it ends."""

    release: str


@dataclass(frozen=True)
class BudgetRenewed(Event):
    """What left a team's workspace today counts no more."""

    space: str
    team: int


@dataclass(frozen=True)
class GrantsChanged(Event):
    """Grants or versions changed: narrowed editions may have to be made."""

    space: str


@dataclass(frozen=True)
class SandboxWanted(Event):
    """A sandbox's row asks for something that the world is not yet."""

    sandbox: str


@dataclass(frozen=True)
class SandboxChanged(Event):
    """A sandbox reached another state."""

    sandbox: str
    state: str


@dataclass(frozen=True)
class WorkspaceWanted(Event):
    """A workspace is to start, stop or change."""

    workspace: str


@dataclass(frozen=True)
class WorkspaceChanged(Event):
    """A workspace reached another state."""

    workspace: str
    state: str


@dataclass(frozen=True)
class ReleaseWanted(Event):
    """A module's release waits to be built."""

    release: str


@dataclass(frozen=True)
class SourceWanted(Event):
    """A module's repository is to be fetched."""

    module: int


@dataclass(frozen=True)
class DashboardChanged(Event):
    """A dashboard, or a share of it, is not what it was."""

    dashboard: str


@dataclass(frozen=True)
class VersionWanted(Event):
    """A dataset version waits to be loaded."""

    version: str


@dataclass(frozen=True)
class AnomalyFound(Event):
    """A rule found something that stewards and operators should look at."""

    space: str
    rule: str


@dataclass(frozen=True)
class MailQueued(Event):
    """A message waits in the outbox."""


@dataclass(frozen=True)
class ExportChanged(Event):
    """Somebody asked to take files out, or was answered."""

    space: str
    export: str


@dataclass(frozen=True)
class OperationChanged(Event):
    """A long operation moved on."""

    operation: str


@dataclass(frozen=True)
class SpaceEnding(Event):
    """A space ends: whatever is remembered of it must be forgotten."""

    space: str


@dataclass(frozen=True)
class SpaceChanged(Event):
    """A space was declared anew."""

    space: str
