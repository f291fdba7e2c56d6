"""Who is asking, and how far they reach. Plain data, made by ``identity`` and ``access``, read by all."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from cloister.core.ids import person_label


class Role(StrEnum):
    """What somebody is in a space, or (operator) on the platform."""

    OPERATOR = "operator"
    OWNER = "owner"
    STEWARD = "steward"
    REVIEWER = "reviewer"
    MEMBER = "member"
    VIEWER = "viewer"


@dataclass(frozen=True)
class Principal:
    """Somebody, or a part of the platform, that asks for something."""

    person: int | None
    operator: bool = False
    kind: str = "person"
    """``person``, ``anonymous``, ``sandbox`` or ``system``."""
    session: str | None = None
    token: str | None = None
    token_scopes: frozenset[str] | None = None
    """Actions a token is limited to; None when not signed in by token."""
    address: str | None = None

    @property
    def label(self) -> str:
        return self.kind if self.person is None else person_label(self.person)


ANONYMOUS = Principal(person=None, kind="anonymous")
SYSTEM = Principal(person=None, kind="system", operator=True)


@dataclass(frozen=True)
class Scope:
    """The rows somebody may reach: one space (None: all of them), and in it some teams (None: all of them)."""

    space: str | None
    teams: frozenset[int] | None = None
    roles: frozenset[Role] = field(default_factory=frozenset)
    principal: Principal = ANONYMOUS
    until: datetime | None = None
    """When the first of the roles that this rests on ends."""


EVERYTHING = Scope(space=None, principal=SYSTEM)
