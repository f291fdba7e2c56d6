"""Sandboxes and volumes."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from cloister.platform import Base


class Sandbox(Base):
    """The desired and the reported state of one sandbox."""

    __tablename__ = "sandboxes"
    __table_args__ = (Index("ix_sandboxes_state", "state", "node"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    space: Mapped[str] = mapped_column(ForeignKey("spaces.space"), index=True)
    team: Mapped[int | None] = mapped_column(ForeignKey("teams.team"))
    person: Mapped[int | None] = mapped_column(ForeignKey("people.number"))
    purpose: Mapped[str]  # run, query, convert, build, workspace, integration, flow, endpoint, scorer
    environment: Mapped[str]
    size: Mapped[str]
    spec: Mapped[dict[str, Any]]
    uid: Mapped[int]
    state: Mapped[str]
    wanted: Mapped[str]  # running, stopped
    reason: Mapped[str | None]
    exit_code: Mapped[int | None]
    node: Mapped[str | None]
    lease_owner: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    token_hash: Mapped[str | None]
    next_token_hash: Mapped[str | None]
    created_at: Mapped[datetime]
    running_at: Mapped[datetime | None]
    deadline_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class Volume(Base):
    """Files that outlive the sandboxes that use them."""

    __tablename__ = "volumes"
    __table_args__ = (UniqueConstraint("space", "team", "name"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    space: Mapped[str] = mapped_column(ForeignKey("spaces.space"), index=True)
    team: Mapped[int | None] = mapped_column(ForeignKey("teams.team"))  # None: the platform's own, for conversions
    name: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime]
