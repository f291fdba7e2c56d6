"""Requests to take files out."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from cloister.platform import Base


class Export(Base):
    """Some files of a team that somebody wants to take out: copies, as they were when they were asked for."""

    __tablename__ = "exports"

    id: Mapped[str] = mapped_column(primary_key=True)
    space: Mapped[str] = mapped_column(ForeignKey("spaces.space"), index=True)
    team: Mapped[int] = mapped_column(ForeignKey("teams.team"))
    person: Mapped[int] = mapped_column(ForeignKey("people.number"))
    insiders: Mapped[list[Any]]  # numbers of the team's people at that time, who may not decide
    why: Mapped[str]
    files: Mapped[list[dict[str, Any]]]  # path, size (bytes), sha256, lines (None for what is no text)
    state: Mapped[str] = mapped_column(index=True)  # copying, failed, waiting, withdrawn, refused, approved
    kept: Mapped[bool]  # whether the copies are (partly) there
    kept_until: Mapped[datetime | None]
    decided_by: Mapped[int | None] = mapped_column(ForeignKey("people.number"))
    reason: Mapped[str | None]
    asked_at: Mapped[datetime]
    decided_at: Mapped[datetime | None]
