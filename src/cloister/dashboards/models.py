"""Dashboards, their history and their shares. Live sessions are in memory alone: a restart begins them anew."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from cloister.platform import Base


class Dashboard(Base):
    """A grid of widgets fed by integrations."""

    __tablename__ = "dashboards"

    id: Mapped[str] = mapped_column(primary_key=True)
    space: Mapped[str] = mapped_column(ForeignKey("spaces.space"), index=True)
    team: Mapped[int] = mapped_column(ForeignKey("teams.team"))
    name: Mapped[str]
    document: Mapped[dict[str, Any]]  # secrets in it are sealed
    version: Mapped[int]
    created_by: Mapped[int] = mapped_column(ForeignKey("people.number"))
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class DashboardVersion(Base):
    """A dashboard as it was, to go back to."""

    __tablename__ = "dashboard_versions"

    dashboard: Mapped[str] = mapped_column(ForeignKey("dashboards.id"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    space: Mapped[str] = mapped_column(ForeignKey("spaces.space"), index=True)
    document: Mapped[dict[str, Any]]
    person: Mapped[int | None] = mapped_column(ForeignKey("people.number"))
    at: Mapped[datetime]


class Share(Base):
    """A link that shows a dashboard and nothing behind it."""

    __tablename__ = "shares"

    id: Mapped[str] = mapped_column(primary_key=True)
    token_hash: Mapped[str] = mapped_column(unique=True)
    space: Mapped[str] = mapped_column(ForeignKey("spaces.space"), index=True)
    team: Mapped[int] = mapped_column(ForeignKey("teams.team"))
    dashboard: Mapped[str] = mapped_column(ForeignKey("dashboards.id"))
    passphrase_hash: Mapped[str | None]
    origins: Mapped[list[str]]  # that may embed it
    variables: Mapped[list[dict[str, Any]]]  # settings that visitors may choose
    paused: Mapped[bool]
    expires_at: Mapped[datetime | None]
    views: Mapped[int]
    created_by: Mapped[int] = mapped_column(ForeignKey("people.number"))
    created_at: Mapped[datetime]
