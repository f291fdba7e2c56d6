"""Opening, stopping and changing workspaces: desired state, for the controller to make true."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cloister.access import scoped_get, scoped_select
from cloister.audit import Name, record
from cloister.core.clock import Clock
from cloister.core.errors import CloisterError
from cloister.core.events import WorkspaceWanted
from cloister.core.ids import new_id
from cloister.core.pagination import Page
from cloister.core.principal import Scope
from cloister.platform import UnitOfWork
from cloister.platform.paging import page_by
from cloister.sandboxes import (
    WORKSPACE_VOLUME,
    EnvironmentNotReady,
    EnvironmentUnknown,
    Mount,
    Sandbox,
    Sandboxes,
    SandboxSpec,
    SizeUnknown,
    Volume,
    check_size,
    program_environ,
)
from cloister.spaces import (
    JUPYTERLAB,
    EnvironmentDeclaration,
    SpaceDeclaration,
    active_space,
    get_team,
    in_space,
    parse_bytes,
)
from cloister.workspaces.apps import app_of, check_kernels
from cloister.workspaces.capacity import may_take, price_of
from cloister.workspaces.errors import EnvironmentPinned, KeepTooLong, NeedsApproval, NoApp, WorkspaceNotFound
from cloister.workspaces.models import Workspace

JUPYTER = "CLOISTER_JUPYTER"
"""In the environment of a sandbox that runs the platform's JupyterLab: which build of it."""


@dataclass(frozen=True)
class Change:
    """What somebody wants of a workspace; None leaves it as it is."""

    environment: str | None = None
    size: str | None = None
    disk_bytes: int | None = None
    keep_until: datetime | None = None


@dataclass
class Workspaces:
    """The service."""

    sandboxes: Sandboxes
    clock: Clock

    async def find(self, uow: UnitOfWork, scope: Scope, team: int) -> Workspace:
        """Return a team's workspace.

        Raises:
            TeamNotFound: when the scope does not reach the team.
            WorkspaceNotFound: when nobody opened it yet.
        """
        await get_team(uow, scope, team)
        found = await scoped_get(uow, Workspace, in_space(str(scope.space)), team=team)
        if found is None:
            raise WorkspaceNotFound
        return found

    async def page(self, uow: UnitOfWork, scope: Scope, cursor: str | None, limit: int) -> Page[Workspace]:
        """The workspaces that a scope reaches, oldest first."""
        query = scoped_select(Workspace, scope)
        return await page_by(uow, query, Workspace.id, cursor, limit)

    async def open(
        self, uow: UnitOfWork, scope: Scope, team: int, *, safe: bool = False, environment: str | None = None
    ) -> Workspace:
        """Want a team's workspace to run; made on the first call. Asking twice is asking once.

        Args:
            uow: the transaction.
            scope: of whoever asks.
            team: whose workspace.
            safe: whether without what the team installed.
            environment: which one it is to have when it is made now; later, `change` changes it.

        Raises:
            TeamNotFound: when the scope does not reach the team.
            EnvironmentUnknown: when the space has no such environment.
            NoApp: when the space has no environment with an app.
        """
        _, declaration = await active_space(uow, str(scope.space))
        await get_team(uow, scope, team)
        row = await scoped_get(uow, Workspace, in_space(declaration.slug), team=team)
        if row is None:
            row = await self._make(uow, declaration, team, environment)
        elif row.wanted == "running" and row.state != "failed":
            if safe and not row.safe:  # what runs was started with what the team installed
                return await self.restart(uow, scope, row, safe=True)
            uow.unrecorded("nothing changed")
            return row
        row.wanted, row.safe, row.restarts = "running", safe, 0
        if row.state in {"stopped", "failed"}:
            row.state, row.sandbox = "starting", None  # what is left of the last one ends by itself
        row.reason, row.ready_at = None, None
        row.asked_by, row.asked_at = scope.principal.person, self.clock.now()
        row.active_at = row.asked_at
        row.version += 1
        record(
            uow, Name.WORKSPACE_STARTED, space=row.space, team=row.team, subject=row.id, environment=row.environment,
            size=row.size, safe=safe,
        )  # fmt: skip
        await uow.session.flush()
        uow.publish(WorkspaceWanted(row.id))
        return row

    def choices(self, declaration: SpaceDeclaration) -> list[tuple[EnvironmentDeclaration, CloisterError | None]]:
        """The environments that a workspace can have, each with what keeps it from being started at once."""
        return [(one, self._problem(one)) for one in declaration.environments if one.app is not None]

    def startable(self, declaration: SpaceDeclaration, name: str) -> bool:
        """Whether a workspace could be started in an environment at once."""
        return any(one.name == name and problem is None for one, problem in self.choices(declaration))

    def _problem(self, environment: EnvironmentDeclaration) -> CloisterError | None:
        try:
            self.sandboxes.inside(environment)
        except CloisterError as error:
            return error
        return None

    async def _make(
        self, uow: UnitOfWork, declaration: SpaceDeclaration, team: int, wanted: str | None = None
    ) -> Workspace:
        environment = next((e for e in declaration.environments if e.app is not None), None)
        if environment is None:
            raise NoApp("No environment of this space has an app. Its owner can add one.")
        if wanted is not None:
            environment = environment_of(declaration, wanted)
            app_of(environment)
        disk = parse_bytes(declaration.policies.workspace_disk)
        volume = await self.sandboxes.ensure_volume(uow, declaration.slug, team, WORKSPACE_VOLUME, disk)
        now = self.clock.now()
        row = Workspace(
            id=new_id("wsp"), space=declaration.slug, team=team, environment=environment.name,
            size=next(iter(declaration.sizes)), volume=volume.id, wanted="stopped", state="stopped", reason=None,
            safe=False, sandbox=None, restarts=0, asked_by=None, asked_at=now, ready_at=None, active_at=None,
            keep_until=None, busy=None, busy_word=None, busy_value=None, allowance=None, due_at=None, created_at=now, version=1,
        )  # fmt: skip
        uow.session.add(row)
        record(uow, Name.WORKSPACE_CREATED, space=row.space, team=team, subject=row.id)
        return row

    async def stop(self, uow: UnitOfWork, row: Workspace, why: str) -> Workspace:
        """Want a workspace stopped. Its files stay. Asking twice is asking once."""
        if row.wanted == "stopped" and row.state != "failed":
            uow.unrecorded("nothing changed")
            return row
        if row.state == "failed":  # nothing of it runs
            row.rest()
        row.wanted, row.reason, row.keep_until = "stopped", why, None
        row.version += 1
        record(uow, Name.WORKSPACE_STOPPED, space=row.space, team=row.team, subject=row.id, reason=why)
        uow.publish(WorkspaceWanted(row.id))
        return row

    async def restart(self, uow: UnitOfWork, scope: Scope, row: Workspace, *, safe: bool) -> Workspace:
        """Stop what runs and start it anew, in safe mode without what the team installed."""
        row.asked_by, row.asked_at = scope.principal.person, self.clock.now()
        row.wanted, row.safe, row.restarts, row.reason = "running", safe, 0, None
        if row.sandbox is not None:
            found = await scoped_get(uow, Sandbox, in_space(row.space), id=row.sandbox)
            if found is not None and found.state not in {"stopped", "failed"}:
                await self.sandboxes.stop(uow, in_space(row.space), row.sandbox)
        row.sandbox, row.state, row.ready_at = None, "starting", None
        row.active_at = row.asked_at
        row.version += 1
        record(uow, Name.WORKSPACE_STARTED, space=row.space, team=row.team, subject=row.id, safe=safe, restart=True)
        uow.publish(WorkspaceWanted(row.id))
        return row

    async def change(self, uow: UnitOfWork, row: Workspace, wanted: Change, *, steward: bool) -> Workspace:
        """Change what a workspace is. A larger size holds at once, a smaller one after the space's grace; another
        environment from its next start.

        Raises:
            EnvironmentUnknown, SizeUnknown, NoApp, KeepTooLong: naming what is wrong.
            EnvironmentPinned: when the round says which environment all run in.
            NeedsApproval: when a member asks for more than a team may take by itself.
        """
        _, declaration = await active_space(uow, row.space)
        await self._check_capacity(uow, row, declaration, wanted, steward=steward)
        changes: dict[str, str | int] = {}
        if wanted.environment is not None:
            app_of(environment_of(declaration, wanted.environment))
            pinned = declaration.pinned(self.clock.now())
            if pinned is not None and pinned.environment != wanted.environment:
                raise EnvironmentPinned(environment=pinned.environment)
            row.environment = changes["environment"] = wanted.environment
        if wanted.size is not None:
            row.size = changes["size"] = wanted.size
        if wanted.keep_until is not None:
            latest = self.clock.now() + timedelta(hours=declaration.policies.keep_hours)
            if wanted.keep_until > latest:
                raise KeepTooLong(f"At most {declaration.policies.keep_hours:g} hours from now.")
            row.keep_until = wanted.keep_until
            changes["keep_until"] = wanted.keep_until.isoformat()
        if wanted.disk_bytes is not None:
            await self.sandboxes.grow_volume(uow, in_space(row.space), row.volume, wanted.disk_bytes)
            changes["disk_bytes"] = wanted.disk_bytes
        row.version += 1
        record(uow, Name.WORKSPACE_CHANGED, space=row.space, team=row.team, subject=row.id, changes=changes)
        uow.publish(WorkspaceWanted(row.id))
        return row

    async def _check_capacity(
        self, uow: UnitOfWork, row: Workspace, declaration: SpaceDeclaration, wanted: Change, *, steward: bool
    ) -> None:
        if wanted.size is not None:
            check_size(declaration, wanted.size)
        if wanted.size is None and wanted.disk_bytes is None:
            return
        size = wanted.size or row.size
        disk = max((await self.volume(uow, row)).size_bytes, wanted.disk_bytes or 0)
        if steward:
            row.allowance = max(row.allowance or 0, price_of(declaration, size, disk))
        elif not may_take(declaration, row.allowance, size, disk):
            raise NeedsApproval(price=price_of(declaration, size, disk), budget=declaration.policies.team_budget)

    async def launch(self, uow: UnitOfWork, row: Workspace) -> Sandbox:
        """Ask for the sandbox that a workspace runs in.

        Raises:
            EnvironmentUnknown, EnvironmentNotReady, SizeUnknown, NoApp, WallsMissing: why it cannot start.
        """
        _, declaration = await active_space(uow, row.space)
        environment = environment_now(declaration, row, self.clock.now())
        app = app_of(environment)
        check_kernels(environment)
        row.due_at = None
        if row.size not in declaration.sizes:
            raise SizeUnknown(f"This space no longer has the size “{row.size}”.")
        inside = self.sandboxes.inside(environment)
        settings: dict[str, str] = {}
        mounts: list[Mount] = []
        editions: list[str] = []
        if self.sandboxes.data_access is not None:
            mounts, editions = await self.sandboxes.data_access.mounts(
                uow, in_space(row.space).principal, row.space, row.team
            )
        if app.jupyter:
            server = self.sandboxes.environments.ready(JUPYTERLAB)
            if server is None:
                raise EnvironmentNotReady(environment="the platform's Jupyter server")
            mounts = [*mounts, Mount(str(server.path), "/opt/jupyter", executable=True)]
            self.sandboxes.environments.serve(server.path)
            settings = {JUPYTER: server.id}
        elif app.static and inside.environment is not None:
            self.sandboxes.environments.serve(Path(inside.environment))
        settings |= {
            "CLOISTER_TERMINALS": "0" if declaration.policies.terminals == "blocked" else "1",
            "CLOISTER_KERNELS": ",".join(environment.kernels),
            "CLOISTER_SAFE_MODE": "1" if row.safe else "0",
        }
        spec = SandboxSpec(
            command=app.command or inside.command, environment=inside.environment, image=inside.image, size=declaration.sizes[row.size].model_dump(),
            mounts=tuple(mounts), datasets=tuple(editions), volume=row.volume,
            environ={**program_environ(), **inside.environ, **settings}, serves=True,
            cwd=inside.cwd if inside.cwd and not app.command else SandboxSpec.cwd,
            warm=app.jupyter and declaration.policies.isolation == "shared-zygote", port=app.port, seconds=None,
        )  # fmt: skip
        return await self.sandboxes.request(
            uow, space=row.space, team=row.team, person=row.asked_by, purpose="workspace",
            environment=environment.name, size=row.size, spec=spec,
        )  # fmt: skip

    async def volume(self, uow: UnitOfWork, row: Workspace) -> Volume:
        return await self.sandboxes.volume(uow, in_space(row.space), row.volume)


def environment_now(declaration: SpaceDeclaration, row: Workspace, now: datetime) -> EnvironmentDeclaration:
    """Return the environment that a workspace has now: a round may pin one for all.

    Raises:
        EnvironmentUnknown: when the space no longer has it.
    """
    pinned = declaration.pinned(now)
    return environment_of(declaration, (pinned and pinned.environment) or row.environment)


def environment_of(declaration: SpaceDeclaration, name: str) -> EnvironmentDeclaration:
    """Return an environment of a space.

    Raises:
        EnvironmentUnknown: when it has none of that name.
    """
    found = next((e for e in declaration.environments if e.name == name), None)
    if found is None:
        raise EnvironmentUnknown(
            f"This space has the environments {', '.join(e.name for e in declaration.environments)}."
        )
    return found
