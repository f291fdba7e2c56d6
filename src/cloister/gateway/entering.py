"""From a sign-in at the platform to a session at one workspace's origin, by a code that works once."""

import secrets
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import quote

from cloister.access import scoped_delete, scoped_get
from cloister.audit import Name, record
from cloister.core.clock import Clock
from cloister.core.paths import own_path
from cloister.core.principal import EVERYTHING, Scope
from cloister.gateway.errors import CodeInvalid, NoSuchWorkspace
from cloister.gateway.hosts import Address, Hosts
from cloister.gateway.models import EntryCode, WorkspaceSession
from cloister.identity import secret_hash
from cloister.platform import UnitOfWork
from cloister.spaces import Team, in_space

CODE_LIFE = timedelta(minutes=1)


@dataclass
class Entering:
    """Issues and redeems codes."""

    hosts: Hosts
    clock: Clock

    async def team_at(self, uow: UnitOfWork, address: Address) -> Team:
        """Return the team that a host name means.

        Raises:
            NoSuchWorkspace: when there is none.
        """
        team = await scoped_get(uow, Team, in_space(address.space), name=address.team)
        if team is None:
            raise NoSuchWorkspace
        return team

    async def issue(self, uow: UnitOfWork, scope: Scope, team: Team, path: str) -> str:
        """Return the address at a workspace's origin that redeems a new code and goes on to a path there.

        Raises:
            NoSuchWorkspace: when the scope does not reach the team, or no browser's session asks.
        """
        principal = scope.principal
        if principal.person is None or principal.session is None or team.team not in (scope.teams or ()):
            raise NoSuchWorkspace
        code = secrets.token_urlsafe(32)
        uow.session.add(
            EntryCode(
                code_hash=secret_hash(code), session=principal.session, person=principal.person, space=team.space,
                team=team.team, expires_at=self.clock.now() + CODE_LIFE,
            )
        )  # fmt: skip
        uow.unrecorded("a code; that somebody entered with it is recorded")
        return f"{self.hosts.origin(team.name, team.space)}/_cloister/enter?code={code}&to={quote(own_path(path), safe='')}"

    async def redeem(self, uow: UnitOfWork, code: str, team: Team) -> str:
        """Turn a code into a session at a workspace's origin; return the session's secret.

        Raises:
            CodeInvalid: when it was used, is too old, or is another workspace's.
        """
        found = await uow.session.get(EntryCode, secret_hash(code), with_for_update=True)
        if found is None:
            raise CodeInvalid
        await uow.session.execute(scoped_delete(EntryCode, EVERYTHING).where(EntryCode.code_hash == found.code_hash))
        now = self.clock.now()
        if found.expires_at <= now or (found.space, found.team) != (team.space, team.team):
            uow.unrecorded("a code that is no use to anybody is gone")
            raise CodeInvalid
        secret = secrets.token_urlsafe(32)
        uow.session.add(
            WorkspaceSession(
                secret_hash=secret_hash(secret), session=found.session, person=found.person, space=found.space,
                team=found.team, created_at=now,
            )
        )  # fmt: skip
        record(uow, Name.WORKSPACE_OPENED, person=found.person, space=found.space, team=found.team)
        return secret
