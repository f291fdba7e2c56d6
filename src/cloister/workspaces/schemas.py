"""Workspaces in the API."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from cloister.core.ids import person_label, team_label
from cloister.spaces import parse_bytes
from cloister.workspaces.models import Workspace


class StartIn(BaseModel):
    """How to start."""

    model_config = ConfigDict(extra="forbid")

    safe: bool = False
    """Without what the team installed."""


class WorkspaceIn(BaseModel):
    """What to change; absent fields stay."""

    model_config = ConfigDict(extra="forbid")

    environment: Annotated[str | None, Field(max_length=60)] = None
    size: Annotated[str | None, Field(max_length=60)] = None
    disk: Annotated[str | None, Field(max_length=20)] = None
    """For example ``8G``. Disks grow; they never shrink."""
    keep_until: datetime | None = None

    @field_validator("disk")
    @classmethod
    def _is_size(cls, value: str | None) -> str | None:
        if value is not None:
            parse_bytes(value)
        return value

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
    version: int

    @classmethod
    def of(cls, row: Workspace, url: str) -> "WorkspaceOut":
        return cls(
            id=row.id, space=row.space, team=team_label(row.team), url=url, environment=row.environment, size=row.size,
            volume=row.volume, state=row.state, wanted=row.wanted, reason=row.reason, safe=row.safe,
            sandbox=row.sandbox, asked_by=person_label(row.asked_by) if row.asked_by else None, asked_at=row.asked_at,
            ready_at=row.ready_at, active_at=row.active_at, keep_until=row.keep_until, busy=row.busy,
            version=row.version,
        )  # fmt: skip


class WorkspacePage(BaseModel):
    """Some workspaces."""

    items: list[WorkspaceOut]
    next_cursor: str | None
