"""Workspaces."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from cloister.platform import Base


class Workspace(Base):
    """A team's long-lived app: what it is to be, and how it is."""

    __tablename__ = "workspaces"
    __table_args__ = (UniqueConstraint("space", "team"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    space: Mapped[str] = mapped_column(ForeignKey("spaces.space"), index=True)
    team: Mapped[int] = mapped_column(ForeignKey("teams.team"))
    environment: Mapped[str]
    size: Mapped[str]
    volume: Mapped[str] = mapped_column(ForeignKey("volumes.id"))
    wanted: Mapped[str]  # running, stopped
    state: Mapped[str] = mapped_column(index=True)  # stopped, starting, running, stopping, failed
    reason: Mapped[str | None]
    safe: Mapped[bool]  # without what the team installed
    sandbox: Mapped[str | None] = mapped_column(ForeignKey("sandboxes.id"))
    restarts: Mapped[int]  # by themselves, since somebody last asked
    asked_by: Mapped[int | None] = mapped_column(ForeignKey("people.number"))
    asked_at: Mapped[datetime]
    ready_at: Mapped[datetime | None]
    active_at: Mapped[datetime | None]  # when work was last seen in it
    keep_until: Mapped[datetime | None]
    busy: Mapped[str | None]  # read by the release before; to be dropped
    busy_word: Mapped[str | None]  # why it still runs: one of `SEEN`, and the figure in its sentence
    busy_value: Mapped[str | None]
    allowance: Mapped[float | None]  # the price per hour that a steward approved for it, if one did
    due_at: Mapped[datetime | None]  # when it is restarted to take a smaller size, or the environment of a round
    created_at: Mapped[datetime]
    version: Mapped[int]

    def rest(self) -> None:
        """Nothing of it runs: there is nothing to say of what did."""
        self.state, self.sandbox, self.ready_at, self.busy_word, self.busy_value = "stopped", None, None, None, None


class CapacityRequest(Base):
    """A team's wish for a larger size or disk than it may take by itself."""

    __tablename__ = "capacity_requests"

    id: Mapped[str] = mapped_column(primary_key=True)
    space: Mapped[str] = mapped_column(ForeignKey("spaces.space"), index=True)
    team: Mapped[int] = mapped_column(ForeignKey("teams.team"))
    person: Mapped[int] = mapped_column(ForeignKey("people.number"))
    size: Mapped[str]
    disk_bytes: Mapped[int] = mapped_column(BigInteger)
    price: Mapped[float]  # per hour, when it was asked
    why: Mapped[str]
    state: Mapped[str]  # waiting, approved, refused
    decided_by: Mapped[int | None] = mapped_column(ForeignKey("people.number"))
    reason: Mapped[str | None]
    asked_at: Mapped[datetime]
    decided_at: Mapped[datetime | None]
