"""The one decision. Pure given the bindings; `Decider` fetches them and says no in words that help."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from cloister.access.bindings import Bindings
from cloister.access.models import RoleBinding
from cloister.access.rules import RULES, Rule, Who
from cloister.core.actions import Action
from cloister.core.clock import Clock
from cloister.core.errors import CloisterError, Forbidden, Unauthenticated
from cloister.core.principal import Principal, Role, Scope
from cloister.platform import UnitOfWork

STAFF = frozenset({Role.OWNER, Role.STEWARD, Role.REVIEWER})


class RoleMissing(Forbidden):
    """Your role does not allow this."""

    code = "access.role_missing"


class Suspended(Forbidden):
    """Your access rests until something is done."""

    code = "access.suspended"


class TokenTooNarrow(Forbidden):
    """This token was not made for that. Make one with the scope that is named."""

    code = "access.token_scope"


Explain = Callable[[UnitOfWork, int, str], Awaitable[CloisterError]]
"""Says why a person without any role in a space is outside: no such space, waiting, expired, not enrolled."""


@dataclass(frozen=True)
class Standing:
    """What somebody is, here and now."""

    operator: bool
    roles: frozenset[Role]
    teams: frozenset[int]
    suspended: str | None
    until: datetime | None
    """When the first of the roles ends."""


def standing(principal: Principal, bindings: list[RoleBinding], space: str | None, now: datetime) -> Standing:
    """Sum up bindings. Ended ones count as none; suspended ones only where the rule says so."""
    live = [b for b in bindings if b.until is None or b.until > now]
    here = [b for b in live if b.space and b.space == space]
    return Standing(
        operator=principal.operator or any(b.space == "" and b.role == Role.OPERATOR for b in live),
        roles=frozenset(Role(b.role) for b in here),
        teams=frozenset(b.team for b in here if b.team),
        suspended=next((b.suspended for b in here if b.suspended), None),
        until=min((b.until for b in here if b.until is not None), default=None),
    )


def decide(  # noqa: PLR0911  (one return for each reason)
    rule: Rule, principal: Principal, stands: Standing, space: str | None
) -> Scope | CloisterError:
    """Answer with what the caller may reach, or with why not."""
    roles = stands.roles
    scope = Scope(space, None, roles, principal, stands.until)
    if rule.who is Who.ANYBODY:
        return scope
    if principal.person is None and not principal.operator:
        return Unauthenticated()
    if rule.who is Who.SIGNED_IN:
        people = principal.person is not None or rule.operator
        return scope if people else RoleMissing("This is for people, not for the platform.")
    if stands.operator and rule.operator:
        return scope
    if rule.who is Who.OPERATORS:
        return RoleMissing("Only operators of the platform may do this.")
    allowed = roles & rule.roles
    if not allowed:
        return RoleMissing("This needs the role " + " or ".join(sorted(role.value for role in rule.roles)) + ".")
    if stands.suspended and not rule.suspended and not allowed & STAFF:
        return Suspended(stands.suspended)
    if rule.own_team and not allowed & STAFF:
        return Scope(space, stands.teams, roles, principal, stands.until)
    return scope


def token_allows(principal: Principal, action: Action) -> bool:
    """Whether the token used, if any, covers an action. Every token may read who it is."""
    scopes = principal.token_scopes
    if scopes is None or action in {Action.PUBLIC_READ, Action.SELF_READ, Action.OPERATION_READ}:
        return True
    return action.value in scopes or action.value.split(".")[0] + ".*" in scopes


@dataclass
class Decider:
    """Decides on every request, before anything else happens."""

    bindings: Bindings
    clock: Clock
    explain: Explain

    async def decide(self, uow: UnitOfWork, principal: Principal, action: Action, space: str | None) -> Scope:
        """Return what the caller may reach.

        Raises:
            Unauthenticated: when nobody is signed in and somebody must be.
            Forbidden: when they may not; its sentence says what they can do about it.
            NotFound: when they may not know whether the space exists.
        """
        if not token_allows(principal, action):
            raise TokenTooNarrow(scope=action.value)
        rule = RULES[action]
        if rule.who is Who.ANYBODY:
            return Scope(space, None, frozenset(), principal)
        stands = await self.standing(uow, principal, space)
        answer = decide(rule, principal, stands, space)
        if isinstance(answer, Scope):
            return answer
        outside = isinstance(answer, RoleMissing) and not stands.roles and not stands.operator
        if outside and space and principal.person is not None:
            raise await self.explain(uow, principal.person, space)
        raise answer

    async def standing(self, uow: UnitOfWork, principal: Principal, space: str | None) -> Standing:
        found = [] if principal.person is None else await self.bindings.effective(uow, principal.person, space or "")
        return standing(principal, found, space, self.clock.now())
