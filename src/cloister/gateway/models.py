"""What the gateway keeps: single-use codes, sessions of workspace origins, and what left today."""

from datetime import date, datetime

from sqlalchemy import BigInteger, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from cloister.platform import Base


class EntryCode(Base):
    """Lets one browser carry a sign-in to one workspace's origin, once, within a minute."""

    __tablename__ = "entry_codes"

    code_hash: Mapped[str] = mapped_column(primary_key=True)
    session: Mapped[str]
    person: Mapped[int] = mapped_column(ForeignKey("people.number"))
    space: Mapped[str] = mapped_column(ForeignKey("spaces.space"))
    team: Mapped[int] = mapped_column(ForeignKey("teams.team"))
    expires_at: Mapped[datetime] = mapped_column(index=True)


class WorkspaceSession(Base):
    """A browser at one workspace's origin. It ends with the session at the platform that it came from."""

    __tablename__ = "workspace_sessions"

    secret_hash: Mapped[str] = mapped_column(primary_key=True)
    session: Mapped[str] = mapped_column(index=True)
    person: Mapped[int] = mapped_column(ForeignKey("people.number"))
    space: Mapped[str] = mapped_column(ForeignKey("spaces.space"), index=True)
    team: Mapped[int] = mapped_column(ForeignKey("teams.team"))
    created_at: Mapped[datetime]


class Outflow(Base):
    """Bytes that left workspaces of a team for one person's browser on one day."""

    __tablename__ = "outflows"

    space: Mapped[str] = mapped_column(ForeignKey("spaces.space"), primary_key=True)
    team: Mapped[int] = mapped_column(ForeignKey("teams.team"), primary_key=True)
    person: Mapped[int] = mapped_column(ForeignKey("people.number"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    bytes: Mapped[int] = mapped_column(BigInteger)
