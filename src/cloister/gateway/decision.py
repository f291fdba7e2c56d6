"""The decision on every request to a workspace: who asks, whether they may, and which socket it is now.

What was decided is remembered for half a second, and forgotten at once when this process hears that the person's access,
the space, the workspace or its sandbox changed. So removal counts within a second, and nothing waits for a table to be
updated.
"""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePath
from time import monotonic
from typing import TypeAlias

from cloister.access import Decider, scoped_get
from cloister.audit import Draft, Name, Outcome, Recorder
from cloister.core.actions import Action
from cloister.core.errors import CloisterError, Unauthenticated
from cloister.core.events import (
    AccessChanged,
    Event,
    SandboxChanged,
    SignedOut,
    SpaceChanged,
    WorkspaceChanged,
    WorkspaceWanted,
)
from cloister.core.ids import team_label
from cloister.core.principal import Principal
from cloister.gateway.entering import Entering
from cloister.gateway.hosts import STATIC, Address
from cloister.gateway.memory import Memory
from cloister.gateway.models import WorkspaceSession
from cloister.identity import Sessions, Tokens, secret_hash
from cloister.platform import Bus, Database, UnitOfWork
from cloister.sandboxes import Sandbox, SandboxSpec
from cloister.spaces import Policies, SpaceNotFound, Team, active_space, in_space
from cloister.workspaces import App, Workspace, app_of, environment_now

REMEMBER_SECONDS = 0.5
REMEMBER_MANY = 20_000
NEWS = (AccessChanged, SignedOut, WorkspaceChanged, WorkspaceWanted, SandboxChanged, SpaceChanged)
"""What decisions rest on changed."""
LOOK_AGAIN_SECONDS = 30.0
"""So long what is open (a page, a kernel's channel, a download) goes on without news. To decide costs some 5 ms: twice a second
for each of a few hundred open pages would be more than the machine has."""
NOTED_SECONDS = 60.0
Ground: TypeAlias = tuple[str | int | None, ...]


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
    until: datetime | None = None
    """When the right to it ends by itself, as far as that is known."""
    due_at: datetime | None = None
    """When it will be restarted to take a smaller size, or the environment of a round."""
    static: tuple[tuple[str, str], ...] = ()
    """Folders that its app's pages name, and the address at which Caddy has them."""


class Decisions:
    """Decides, and remembers for a moment."""

    def __init__(
        self, database: Database, sessions: Sessions, tokens: Tokens, decider: Decider, entering: Entering,
        recorder: Recorder, bus: Bus,
    ) -> None:  # fmt: skip
        self._database = database
        self._sessions = sessions
        self._tokens = tokens
        self._decider = decider
        self._entering = entering
        self._recorder = recorder
        self._turned_away: dict[tuple[int, int], float] = {}
        self._memory: Memory[Asked, Allowed | CloisterError] = Memory(REMEMBER_SECONDS, REMEMBER_MANY)
        for kind in NEWS:
            bus.subscribe(kind, self._on_news)

    def _on_news(self, event: Event) -> None:
        match event:
            case AccessChanged(space=""):  # a role on the platform
                self._memory.clear()
            case AccessChanged(space, person) if person is not None:
                self._memory.forget(("person", space, person), ("refused", space))
            case SignedOut(person):
                self._memory.forget(("who", person))
            case AccessChanged(space) | SpaceChanged(space):
                self._memory.forget(("space", space))
            case WorkspaceChanged(workspace) | WorkspaceWanted(workspace):
                self.forget_workspace(workspace)
            case SandboxChanged(sandbox):
                self._memory.forget(("sandbox", sandbox))

    def forget_workspace(self, workspace: str | None) -> None:
        """Look at a workspace anew; with it at those that had none, for this may be theirs now."""
        self._memory.forget(("workspace", workspace), ("workspace", None))

    def remembered(self, asked: Asked) -> Allowed | None:
        """What was allowed a moment ago, if that still counts."""
        found = self._memory.get(asked)
        self._memory.look_ahead(asked, self._look)
        return None if isinstance(found, CloisterError) else found

    def stands(self, asked: Asked, allowed: Allowed) -> bool:
        """Whether there was no news of what a decision rests on, and its time is not over. What is open need not be decided on
        anew while it stands, but now and then (`LOOK_AGAIN_SECONDS`): sessions and tokens end without news.
        """
        over = allowed.until is not None and allowed.until <= self._decider.clock.now()
        return not over and self._memory.stands(asked, allowed)

    async def decide(self, asked: Asked) -> Allowed:
        """Return what is allowed.

        Raises:
            Unauthenticated: when nobody known asks.
            CloisterError: why they may not.
        """
        answer = await self._memory.ask(asked, self._look)
        if isinstance(answer, CloisterError):
            raise answer.with_traceback(None)
        return answer

    async def _look(self, asked: Asked) -> tuple[Allowed | CloisterError, list[Ground]]:
        """Find the answer, which may be why not, and what it rests on."""
        try:
            answer: Allowed | CloisterError = await self._find(asked)
        except CloisterError as error:
            answer = error
        return answer, _grounds(asked, answer)

    async def _find(self, asked: Asked) -> Allowed:
        async with self._database.read() as uow:
            team = await self._entering.team_at(uow, asked.address)
            principal = await self._principal(uow, asked, team.team)
            try:
                scope = await self._decider.decide(uow, principal, Action.WORKSPACE_USE, team.space)
                _, declaration = await active_space(uow, team.space)
            except SpaceNotFound as error:
                raise Unauthenticated from error
            if principal.person is None or team.team not in (scope.teams or ()):
                self._note(principal, team)
                raise NotYourTeam
            row = await scoped_get(uow, Workspace, in_space(team.space), team=team.team)
            static: tuple[tuple[str, str], ...] = ()
            if row is not None:
                # One that is gone, or has no app, is said here.
                app = app_of(environment_now(declaration, row, self._decider.clock.now()))
                if app.static and row.sandbox is not None:
                    static = await self._static(uow, app, row)
            return Allowed(
                principal, principal.person, team.space, team.team, row.id if row else None,
                row.state if row else "stopped", row.reason if row else None, row.sandbox if row else None,
                declaration.policies, _idle_at(row, declaration.policies) if row else None,
                scope.until, row.due_at if row else None, static,
            )  # fmt: skip

    def _note(self, principal: Principal, team: Team) -> None:
        """Somebody known tries another team's door: on record once a minute, for a page that is open asks again and again."""
        key, now = (principal.person or 0, team.team), monotonic()
        if now - self._turned_away.get(key, -math.inf) < NOTED_SECONDS:
            return
        if len(self._turned_away) > REMEMBER_MANY:
            self._turned_away.clear()
        self._turned_away[key] = now
        self._recorder.note(
            Draft(
                name=Name.ACCESS_DENIED, outcome=Outcome.REFUSED, person=principal.person, actor=principal.kind,
                space=team.space, subject=team_label(team.team), details={"code": NotYourTeam.code, "what": "workspace"},
            )
        )  # fmt: skip

    async def _static(self, uow: UnitOfWork, app: App, row: Workspace) -> tuple[tuple[str, str], ...]:
        """By the environment that it runs in, whichever is declared by now."""
        sandbox = await scoped_get(uow, Sandbox, in_space(row.space), id=row.sandbox)
        environment = SandboxSpec.load(sandbox.spec).environment if sandbox is not None else None
        if environment is None:
            return ()
        root = f"{STATIC}/{PurePath(environment).name}/lib"
        return tuple((name, f"{root}/{folder}") for name, folder in app.static)

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


def _grounds(asked: Asked, answer: Allowed | CloisterError) -> list[Ground]:
    """What a decision rests on."""
    if isinstance(answer, CloisterError):
        space = asked.address.space
        return [("space", space), ("refused", space), ("workspace", None)]
    grounds: list[Ground] = [
        ("space", answer.space), ("person", answer.space, answer.person), ("who", answer.person),
        ("workspace", answer.workspace),
    ]  # fmt: skip
    if answer.sandbox is None or answer.state == "starting":  # when it serves or has failed, the workspace's news says
        return grounds
    return [*grounds, ("sandbox", answer.sandbox)]


def _idle_at(row: Workspace, policies: Policies) -> datetime | None:
    if row.state != "running" or row.active_at is None:
        return None
    idle = row.active_at + timedelta(minutes=policies.idle_minutes)
    return max(idle, row.keep_until) if row.keep_until else idle


class NotYourTeam(CloisterError):
    """You are not in this team, or no longer."""

    status = 403
    code = "gateway.not_your_team"
