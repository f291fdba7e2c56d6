"""Modules, their drafts and their releases. They belong to no space: the registry is everybody's."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, LargeBinary, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from cloister.core.ids import person_label
from cloister.platform import Base

PLATFORM = "Cloister"
"""The author of modules that come with the platform."""


class Module(Base):
    """A project: somebody's draft, and the releases made of it."""

    __tablename__ = "modules"
    __table_args__ = ({"sqlite_autoincrement": True},)

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(unique=True)
    author: Mapped[int | None] = mapped_column(ForeignKey("people.number"), index=True)  # None: comes with the platform
    kind: Mapped[str]  # integration, widget
    runtime: Mapped[str | None]
    title: Mapped[str]
    summary: Mapped[str]
    keywords: Mapped[list[str]]
    permissions: Mapped[dict[str, Any]]
    accepts: Mapped[list[str]]  # of a widget: the kinds of node that it draws
    latest: Mapped[str | None]  # the newest release that is neither yanked nor removed
    forked_from: Mapped[str | None]  # name@version
    uses: Mapped[int]  # so often it was put on a dashboard
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    version: Mapped[int]


def author_label(module: Module) -> str:
    """Who wrote it, as all are told."""
    return PLATFORM if module.author is None else person_label(module.author)


class DraftFile(Base):
    """A file of a module that is being worked on. Its author's alone."""

    __tablename__ = "module_files"

    module: Mapped[int] = mapped_column(ForeignKey("modules.number"), primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    content: Mapped[bytes] = mapped_column(LargeBinary)


class Release(Base):
    """One immutable edition."""

    __tablename__ = "module_releases"
    __table_args__ = (UniqueConstraint("module", "version"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    module: Mapped[int] = mapped_column(ForeignKey("modules.number"))
    version: Mapped[str]
    digest: Mapped[str]  # SHA-256 of its ZIP file
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    described: Mapped[dict[str, Any]]  # manifest and configuration model
    readme: Mapped[str]
    requirements: Mapped[list[str]]
    state: Mapped[str]  # building, ready, failed
    reason: Mapped[str | None]
    yanked: Mapped[bool]
    removed: Mapped[bool]
    published_at: Mapped[datetime]


class ModuleSource(Base):
    """The repository that a module is kept in."""

    __tablename__ = "module_sources"

    module: Mapped[int] = mapped_column(ForeignKey("modules.number"), primary_key=True)
    url: Mapped[str]
    branch: Mapped[str]
    folder: Mapped[str]  # of the repository; empty for all of it
    secret: Mapped[str]  # of its webhook, sealed
    state: Mapped[str]  # waiting, fetching, done, failed
    reason: Mapped[str | None]
    commit: Mapped[str | None]
    synced_at: Mapped[datetime | None]
