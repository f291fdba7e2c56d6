"""The decision on every request to a workspace: who asks, whether they may, and which socket it is now.

What was decided is remembered for half a second, and forgotten at once when this process hears that access, a
workspace or a session changed. So removal counts within a second, and nothing waits for a table to be updated.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic

from cloister.access import Decider, scoped_get
from cloister.core.actions import Action
from cloister.core.errors import CloisterError, Unauthenticated
from cloister.core.events import AccessChanged, SandboxChanged, SpaceChanged, WorkspaceChanged
from cloister.core.principal import Principal
from cloister.gateway.entering import Entering
from cloister.gateway.hosts import Address
from cloister.gateway.models import WorkspaceSession
from cloister.identity import Sessions, Tokens, secret_hash
from cloister.platform import Bus, Database, UnitOfWork
from cloister.spaces import Policies, SpaceNotFound, active_space, in_space
from cloister.workspaces import Workspace, app_of, environment_of

REMEMBER_SECONDS = 0.5
REMEMBER_MANY = 20_000


@dataclass(frozen=True)
class Asked:
    """Who asks for what, as the request says it."""

    address: Address
    cookie: str | None
    token: str | None
    client: str | None


@dataclass(frozen=True)
class Allowed:
    """Somebody may use a workspace."""

    principal: Principal
    person: int
    space: str
    team: int
    workspace: str | None
    """None when nobody opened it yet."""
    state: str
    reason: str | None
    sandbox: str | None
    policies: Policies
    idle_at: datetime | None = None
    """When it will be stopped if nobody does anything."""
    due_at: datetime | None = None
    """When it will be restarted to take a smaller size."""


class Decisions:
    """Decides, and remembers for a moment."""

    def __init__(
        self, database: Database, sessions: Sessions, tokens: Tokens, decider: Decider, entering: Entering, bus: Bus
    ) -> None:
        self._database = database
        self._sessions = sessions
        self._tokens = tokens
        self._decider = decider
        self._entering = entering
        self._known: dict[Asked, tuple[float, Allowed | CloisterError]] = {}
        self._changes = 0
        for kind in (AccessChanged, WorkspaceChanged, SandboxChanged, SpaceChanged):
            bus.subscribe(kind, self.forget)

    def forget(self, _event: object = None) -> None:
        self._changes += 1
        self._known.clear()

    def remembered(self, asked: Asked) -> Allowed | None:
        """What was allowed a moment ago, if that still counts."""
        found = self._known.get(asked)
        if found is None or monotonic() - found[0] > REMEMBER_SECONDS or isinstance(found[1], CloisterError):
            return None
        return found[1]

    async def decide(self, asked: Asked) -> Allowed:
        """Return what is allowed.

        Raises:
            Unauthenticated: when nobody known asks.
            CloisterError: why they may not.
        """
        found = self._known.get(asked)
        if found is None or monotonic() - found[0] > REMEMBER_SECONDS:
            begun, changes = monotonic(), self._changes
            try:
                answer: Allowed | CloisterError = await self._look(asked)
            except CloisterError as error:
                answer = error
            found = (begun, answer)
            if changes == self._changes:  # else what was read may be old already
                if len(self._known) >= REMEMBER_MANY:
                    self._known.clear()
                self._known[asked] = found
        if isinstance(found[1], CloisterError):
            raise found[1].with_traceback(None)
        return found[1]

    async def _look(self, asked: Asked) -> Allowed:
        async with self._database.read() as uow:
            team = await self._entering.team_at(uow, asked.address)
            principal = await self._principal(uow, asked, team.team)
            try:
                scope = await self._decider.decide(uow, principal, Action.WORKSPACE_USE, team.space)
                _, declaration = await active_space(uow, team.space)
            except SpaceNotFound as error:
                raise Unauthenticated from error
            if principal.person is None or team.team not in (scope.teams or ()):
                raise NotYourTeam
            row = await scoped_get(uow, Workspace, in_space(team.space), team=team.team)
            if row is not None:
                app_of(environment_of(declaration, row.environment))  # one that is gone, or has no app, is said here
            return Allowed(
                principal, principal.person, team.space, team.team, row.id if row else None,
                row.state if row else "stopped", row.reason if row else None, row.sandbox if row else None,
                declaration.policies, _idle_at(row, declaration.policies) if row else None,
                row.due_at if row else None,
            )  # fmt: skip

    async def _principal(self, uow: UnitOfWork, asked: Asked, team: int) -> Principal:
        if asked.token is not None:
            found = await self._tokens.recognise(uow, asked.token, asked.client)
            if found is None:
                raise Unauthenticated("This token is not valid: wrong, expired or revoked.")
            return found
        if asked.cookie is None:
            raise Unauthenticated
        here = in_space(asked.address.space)
        session = await scoped_get(uow, WorkspaceSession, here, secret_hash=secret_hash(asked.cookie), team=team)
        if session is None:
            raise Unauthenticated
        if not await self._sessions.valid(uow, session.session):
            raise Unauthenticated("You have signed out. Sign in again.")
        return Principal(person=session.person, session=session.session, address=asked.client)


def _idle_at(row: Workspace, policies: Policies) -> datetime | None:
    if row.state != "running" or row.active_at is None:
        return None
    idle = row.active_at + timedelta(minutes=policies.idle_minutes)
    return max(idle, row.keep_until) if row.keep_until else idle


class NotYourTeam(CloisterError):
    """You are not in this team, or no longer."""

    status = 403
    code = "gateway.not_your_team"
