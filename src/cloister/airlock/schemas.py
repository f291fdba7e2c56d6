"""Exports in the API."""

from datetime import datetime
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cloister.airlock.models import Export
from cloister.core.ids import person_label, team_label

FilePath = Annotated[str, Field(min_length=1, max_length=4000)]


class ExportIn(BaseModel):
    """What to take out, and what for."""

    model_config = ConfigDict(extra="forbid")

    paths: Annotated[list[FilePath], Field(min_length=1, max_length=20)]
    """Plain files, from the home folder on."""
    volume: Annotated[str | None, Field(max_length=60)] = None
    """Where they are; by default the team's workspace."""
    why: Annotated[str, Field(min_length=1, max_length=2000)]


class ExportDecisionIn(BaseModel):
    """A reviewer's word."""

    model_config = ConfigDict(extra="forbid")

    approve: bool
    reason: Annotated[str, Field(max_length=2000)] = ""
    """A refusal needs one."""

    @model_validator(mode="after")
    def _says_why(self) -> Self:
        if not self.approve and not self.reason.strip():
            message = "say why it is refused"
            raise ValueError(message)
        return self


class ExportFileOut(BaseModel):
    """A file as it was when it was asked for."""

    path: str
    size: int
    """In bytes."""
    sha256: str
    lines: int | None
    """None for what is no text."""


class ExportOut(BaseModel):
    """A request, and what became of it."""

    id: str
    team: str
    person: str
    why: str
    files: list[ExportFileOut]
    state: str
    """``copying``, ``failed``, ``waiting``, ``withdrawn``, ``refused`` or ``approved``."""
    kept: bool
    """Whether the copies are still there."""
    kept_until: datetime | None
    reason: str | None
    decided_by: str | None
    asked_at: datetime
    decided_at: datetime | None

    @classmethod
    def of(cls, row: Export) -> "ExportOut":
        return cls(
            id=row.id, team=team_label(row.team), person=person_label(row.person), why=row.why,
            files=[ExportFileOut(**file) for file in row.files], state=row.state, kept=row.kept,
            kept_until=row.kept_until, reason=row.reason,
            decided_by=person_label(row.decided_by) if row.decided_by else None, asked_at=row.asked_at,
            decided_at=row.decided_at,
        )  # fmt: skip


class ExportPage(BaseModel):
    """Some requests, newest first."""

    items: list[ExportOut]
    next_cursor: str | None
