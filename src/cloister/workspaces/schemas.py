"""Workspaces in the API."""

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from cloister.core.ids import person_label, team_label
from cloister.spaces import parse_bytes
from cloister.workspaces.activity import WORK, sentence
from cloister.workspaces.models import CapacityRequest, Workspace


def _is_size(value: str | None) -> str | None:
    if value is not None:
        parse_bytes(value)
    return value


DiskSize = Annotated[str | None, Field(max_length=20), AfterValidator(_is_size)]


class StartIn(BaseModel):
    """How to start."""

    model_config = ConfigDict(extra="forbid")

    safe: bool = False
    """Without what the team installed."""
    environment: Annotated[str | None, Field(max_length=60)] = None
    """Which one, when it is opened for the first time; absent: the space's first."""


class EnvironmentChoice(BaseModel):
    """An environment that a workspace can have."""

    name: str
    title: str
    description: str
    icon: str
    packages: list[str]
    """As its space names them."""
    ready: bool
    """Whether it is built; else the first start waits for that."""
    problem: str | None
    """Why it cannot be built, where that is so."""
    pinned: bool
    """Whether the present round says that all have this one."""


class EnvironmentChoices(BaseModel):
    """The environments that a space's workspaces can have; the first is what a new one gets."""

    items: list[EnvironmentChoice]


class WorkspaceIn(BaseModel):
    """What to change; absent fields stay."""

    model_config = ConfigDict(extra="forbid")

    environment: Annotated[str | None, Field(max_length=60)] = None
    size: Annotated[str | None, Field(max_length=60)] = None
    disk: DiskSize = None
    """For example ``8G``. Disks grow; they never shrink."""
    keep_until: datetime | None = None

    @field_validator("keep_until")
    @classmethod
    def _aware(cls, value: datetime | None) -> datetime | None:
        if value is not None and value.tzinfo is None:
            message = "needs a time zone, for example 2026-11-21T10:00:00Z"
            raise ValueError(message)
        return value


class WorkspaceOut(BaseModel):
    """A workspace as it is."""

    id: str
    space: str
    team: str
    url: str
    environment: str
    size: str
    volume: str
    state: str
    wanted: str
    reason: str | None
    safe: bool
    sandbox: str | None
    asked_by: str | None
    asked_at: datetime
    ready_at: datetime | None
    active_at: datetime | None
    keep_until: datetime | None
    busy: str | None
    """Why it is still running, as was seen last."""
    busy_word: str | None
    """The same as a stable word: ``kernels``, ``program``, ``kept``, ``page``, ``nothing`` or ``deaf``."""
    busy_value: str | None
    """How many kernels, which share of a processor, until when."""
    works: bool
    """Whether something runs that a stop would end."""
    due_at: datetime | None
    """When it is restarted to take a smaller size, or the environment of a round."""
    price: float
    """What it costs in an hour while it runs."""
    keep_hours: float
    """For how long its members may ask to keep it running."""
    version: int

    @classmethod
    def of(cls, row: Workspace, url: str, price: float, keep_hours: float) -> "WorkspaceOut":
        return cls(
            busy_word=row.busy_word, busy_value=row.busy_value, works=row.state == "running" and row.busy_word in WORK,
            id=row.id, space=row.space, team=team_label(row.team), url=url, environment=row.environment, size=row.size,
            volume=row.volume, state=row.state, wanted=row.wanted, reason=row.reason, safe=row.safe,
            sandbox=row.sandbox, asked_by=person_label(row.asked_by) if row.asked_by else None, asked_at=row.asked_at,
            ready_at=row.ready_at, active_at=row.active_at, keep_until=row.keep_until, busy=sentence(row.busy_word, row.busy_value),
            due_at=row.due_at, price=price, keep_hours=keep_hours, version=row.version,
        )  # fmt: skip


class CapacityIn(BaseModel):
    """A larger size or disk; what is absent stays as it is."""

    model_config = ConfigDict(extra="forbid")

    size: Annotated[str | None, Field(max_length=60)] = None
    disk: DiskSize = None
    """For example ``8G``."""
    why: Annotated[str, Field(max_length=2000)] = ""
    """For the steward, where one has to decide."""


class OfferOut(BaseModel):
    """A size that there is."""

    name: str
    cpus: float
    memory_bytes: int
    price: float
    """In an hour, with the disk that is asked for."""


class QuoteOut(BaseModel):
    """What a size and disk would cost, before anything is asked."""

    size: str
    disk_bytes: int
    price: float
    """In an hour, in the unit that the space counts in."""
    price_now: float
    budget: float | None
    needs_approval: bool
    sizes: list[OfferOut]


class CapacityOut(BaseModel):
    """A wish for more, and what became of it."""

    id: str | None
    """None when it was within what the team may take by itself."""
    team: str
    person: str
    size: str
    disk_bytes: int
    price: float
    why: str
    state: str
    """``granted`` at once, ``waiting``, ``approved`` or ``refused``."""
    reason: str | None
    decided_by: str | None
    asked_at: datetime
    decided_at: datetime | None

    @classmethod
    def of(cls, row: CapacityRequest) -> "CapacityOut":
        return cls(
            id=row.id, team=team_label(row.team), person=person_label(row.person), size=row.size,
            disk_bytes=row.disk_bytes, price=row.price, why=row.why, state=row.state, reason=row.reason,
            decided_by=person_label(row.decided_by) if row.decided_by else None, asked_at=row.asked_at,
            decided_at=row.decided_at,
        )  # fmt: skip


class CapacityPage(BaseModel):
    """Some wishes, newest first."""

    items: list[CapacityOut]
    next_cursor: str | None


class DecisionIn(BaseModel):
    """A steward's word."""

    model_config = ConfigDict(extra="forbid")

    approve: bool
    reason: Annotated[str, Field(max_length=2000)] = ""


class WorkspacePage(BaseModel):
    """Some workspaces."""

    items: list[WorkspaceOut]
    next_cursor: str | None
