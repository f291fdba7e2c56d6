"""Spaces, agreements and signatures, enrolments, teams."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from cloister.platform import Base


class Space(Base):
    """The bulkhead. Its slug is its key for ever: an ended space's slug is not given out again."""

    __tablename__ = "spaces"

    space: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    title: Mapped[str]
    listed: Mapped[bool]
    state: Mapped[str]  # active, ended
    declaration: Mapped[dict[str, Any]]
    version: Mapped[int]  # counts up with each change, for ETags
    starts_at: Mapped[datetime | None]
    ends_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class AgreementVersion(Base):
    """One version of an agreement's text, named by the hash of its content. Never changed, never deleted."""

    __tablename__ = "agreement_versions"
    __table_args__ = (UniqueConstraint("space", "name", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    space: Mapped[str] = mapped_column(ForeignKey("spaces.space"), index=True)
    name: Mapped[str]
    number: Mapped[int]
    title: Mapped[str]
    text: Mapped[str]
    hash: Mapped[str]  # of the text and the questions
    questions: Mapped[list[Any]]
    required: Mapped[bool]
    floor: Mapped[int]  # a signature under this or a later number is enough
    current: Mapped[bool]
    published_at: Mapped[datetime]


class Signature(Base):
    """One person's acceptance of one version. Never deleted."""

    __tablename__ = "signatures"
    __table_args__ = (UniqueConstraint("space", "person", "agreement", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    space: Mapped[str] = mapped_column(ForeignKey("spaces.space"))
    person: Mapped[int] = mapped_column(ForeignKey("people.number"), index=True)
    agreement: Mapped[str]
    number: Mapped[int]
    hash: Mapped[str]
    answers: Mapped[dict[str, Any]]
    address: Mapped[str | None]
    signed_at: Mapped[datetime]


class AllowListEntry(Base):
    """An address that may enrol."""

    __tablename__ = "allow_list"

    space: Mapped[str] = mapped_column(ForeignKey("spaces.space"), primary_key=True)
    canonical_email: Mapped[str] = mapped_column(primary_key=True)
    note: Mapped[str]


class Enrolment(Base):
    """A person's admission to a space. One row for ever; it goes round with its states."""

    __tablename__ = "enrolments"
    __table_args__ = (UniqueConstraint("space", "person"), Index("ix_enrolments_due", "state", "expires_at"))

    id: Mapped[int] = mapped_column(primary_key=True)
    space: Mapped[str] = mapped_column(ForeignKey("spaces.space"))
    person: Mapped[int] = mapped_column(ForeignKey("people.number"), index=True)
    state: Mapped[str]
    waiting_for: Mapped[str | None]  # while applied: what is missing, as a sentence; None: the controller's turn
    answers: Mapped[dict[str, Any]]
    approved: Mapped[bool]
    team: Mapped[int | None] = mapped_column(ForeignKey("teams.team"))
    wanted_team: Mapped[str | None]
    reason: Mapped[str | None]
    applied_at: Mapped[datetime]
    admitted_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    version: Mapped[int]


class Team(Base):
    """Who a cell belongs to."""

    __tablename__ = "teams"
    __table_args__ = (UniqueConstraint("space", "name"), {"sqlite_autoincrement": True})

    team: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    space: Mapped[str] = mapped_column(ForeignKey("spaces.space"))
    name: Mapped[str]
    created_by: Mapped[int] = mapped_column(ForeignKey("people.number"))
    created_at: Mapped[datetime]


class Invitation(Base):
    """A code that lets somebody join a team."""

    __tablename__ = "invitations"

    id: Mapped[str] = mapped_column(primary_key=True)
    code_hash: Mapped[str] = mapped_column(unique=True)
    space: Mapped[str] = mapped_column(ForeignKey("spaces.space"))
    team: Mapped[int] = mapped_column(ForeignKey("teams.team"))
    expires_at: Mapped[datetime]
    used_by: Mapped[int | None]
