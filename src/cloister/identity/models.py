"""People, the identities that they sign in with, sessions and tokens."""

from datetime import datetime

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from cloister.platform import Base


class Person(Base):
    """Somebody who signs in. The number is stable and means nothing; it is all that machines running code know."""

    __tablename__ = "people"
    __table_args__ = ({"sqlite_autoincrement": True},)

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    name: Mapped[str]
    email: Mapped[str | None]  # as typed, for mail
    canonical_email: Mapped[str | None] = mapped_column(unique=True)  # for matching
    language: Mapped[str]  # of letters to them
    created_at: Mapped[datetime]
    disabled_at: Mapped[datetime | None]


class Identity(Base):
    """An (issuer, subject) pair: the key of a person."""

    __tablename__ = "identities"
    __table_args__ = (UniqueConstraint("issuer", "subject"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    issuer: Mapped[str]
    subject: Mapped[str]
    person: Mapped[int] = mapped_column(ForeignKey("people.number"), index=True)
    created_at: Mapped[datetime]


class Session(Base):
    """A browser that is signed in. Only a hash of its cookie is kept."""

    __tablename__ = "sessions"

    id: Mapped[str] = mapped_column(primary_key=True)
    secret_hash: Mapped[str] = mapped_column(unique=True)
    person: Mapped[int] = mapped_column(ForeignKey("people.number"), index=True)
    issuer: Mapped[str]
    created_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    address: Mapped[str | None]
    user_agent: Mapped[str | None]


class ApiToken(Base):
    """A key for programs. Only a hash of it is kept."""

    __tablename__ = "api_tokens"

    id: Mapped[str] = mapped_column(primary_key=True)
    secret_hash: Mapped[str] = mapped_column(unique=True)
    hint: Mapped[str]  # its last characters, so that its owner knows it again
    name: Mapped[str]
    person: Mapped[int] = mapped_column(ForeignKey("people.number"), index=True)
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
