"""Sandboxes and volumes as the API shows them."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from cloister.core.ids import person_label, team_label
from cloister.sandboxes.models import Sandbox, Volume
from cloister.sandboxes.snapshots import Snapshot


class RunIn(BaseModel):
    """A command to run in a sandbox."""

    model_config = ConfigDict(extra="forbid")

    command: Annotated[list[Annotated[str, Field(max_length=100_000)]], Field(min_length=1, max_length=1000)]
    environment: Annotated[str, Field(max_length=60)] | None = None
    size: Annotated[str, Field(max_length=60)] | None = None
    team: Annotated[str, Field(max_length=20)] | None = None
    files: Annotated[dict[str, str], Field(max_length=200)] = Field(default_factory=dict)
    """Small text files for the working folder, by relative path."""
    volume: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")] | None = None
    """A volume of the team to have as home; made on first use."""
    seconds: Annotated[float, Field(gt=0, le=86400 * 30)] | None = None


class SandboxOut(BaseModel):
    """A sandbox."""

    id: str
    space: str
    team: str | None
    person: str | None
    purpose: str
    environment: str
    size: str
    state: str
    reason: str | None
    exit_code: int | None
    command: list[str]
    datasets: list[str]
    created_at: datetime
    running_at: datetime | None
    deadline_at: datetime | None
    ended_at: datetime | None

    @classmethod
    def of(cls, row: Sandbox) -> "SandboxOut":
        return cls(
            id=row.id,
            space=row.space,
            team=None if row.team is None else team_label(row.team),
            person=None if row.person is None else person_label(row.person),
            purpose=row.purpose,
            environment=row.environment,
            size=row.size,
            state=row.state,
            reason=row.reason,
            exit_code=row.exit_code,
            command=row.spec["command"],
            datasets=row.spec.get("datasets", []),
            created_at=row.created_at,
            running_at=row.running_at,
            deadline_at=row.deadline_at,
            ended_at=row.ended_at,
        )


class SandboxPage(BaseModel):
    """Sandboxes, newest first."""

    items: list[SandboxOut]
    next_cursor: str | None


class UsageOut(BaseModel):
    """What a sandbox uses now."""

    cpu_seconds: float
    memory_bytes: int
    processes: int


class SnapshotOut(BaseModel):
    """A volume as it was at one moment."""

    name: str
    taken_at: datetime
    scheduled: bool

    @classmethod
    def of(cls, snapshot: Snapshot) -> "SnapshotOut":
        return cls(name=snapshot.name, taken_at=snapshot.taken_at, scheduled=snapshot.scheduled)


class VolumeOut(BaseModel):
    """A volume."""

    id: str
    team: str | None
    name: str
    size_bytes: int
    snapshots: list[SnapshotOut]

    @classmethod
    def of(cls, row: Volume, snapshots: list[Snapshot]) -> "VolumeOut":
        return cls(
            id=row.id, team=None if row.team is None else team_label(row.team), name=row.name,
            size_bytes=row.size_bytes, snapshots=[SnapshotOut.of(snapshot) for snapshot in snapshots],
        )  # fmt: skip


class VolumePage(BaseModel):
    """A team's volumes."""

    items: list[VolumeOut]
    next_cursor: str | None


class GrowIn(BaseModel):
    """A volume's new size."""

    model_config = ConfigDict(extra="forbid")

    size_bytes: Annotated[int, Field(ge=2**20, le=2**44)]


class EntryOut(BaseModel):
    """A file or folder of a volume."""

    name: str
    folder: bool
    size: int
    changed_at: datetime


class EntryList(BaseModel):
    """What is in a folder of a volume."""

    items: list[EntryOut]


class RestoreIn(BaseModel):
    """What to bring back: one file, or with no ``file`` the whole volume as it was."""

    model_config = ConfigDict(extra="forbid")

    file: Annotated[str | None, Field(min_length=1, max_length=4000)] = None


class RestoreOut(BaseModel):
    """What was brought back."""

    restored: str
    kept_as: str | None
    """The new name of the file that was in its place."""
