"""Who has which role where."""

from datetime import datetime

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from cloister.platform import Base


class RoleBinding(Base):
    """A person's role, on the platform (no space), in a space, or in a team of it."""

    __tablename__ = "role_bindings"
    __table_args__ = (UniqueConstraint("person", "space", "team", "role", "source"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    person: Mapped[int] = mapped_column(ForeignKey("people.number"), index=True)
    space: Mapped[str] = mapped_column(default="", index=True)  # empty: the platform
    team: Mapped[int] = mapped_column(default=0)  # 0: no team
    role: Mapped[str]
    source: Mapped[str]  # who gave it: enrolment, blueprint, operator, provider:NAME
    until: Mapped[datetime | None]
    suspended: Mapped[str | None]  # why it does not count for now, as a sentence
    created_at: Mapped[datetime]
