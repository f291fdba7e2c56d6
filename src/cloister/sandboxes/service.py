"""Asking for sandboxes and volumes, and looking at them."""

import shutil
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sqlalchemy import func

from cloister.access import scoped_get, scoped_select
from cloister.audit import Name, Outcome, record
from cloister.core.clock import Clock
from cloister.core.events import SandboxWanted
from cloister.core.ids import new_id
from cloister.core.pagination import Page
from cloister.core.principal import Scope
from cloister.platform import Settings, UnitOfWork
from cloister.platform.database import IntegrityError
from cloister.platform.logs import logger
from cloister.platform.paging import page_by
from cloister.sandboxes.blanks import Blanks
from cloister.sandboxes.environments_privileged import Environments
from cloister.sandboxes.errors import (
    EnvironmentFailed,
    EnvironmentNotReady,
    EnvironmentUnknown,
    ImageNotFound,
    SandboxNotFound,
    SizeUnknown,
    TeamNeeded,
    TooManySandboxes,
    TooManyVolumes,
    VolumeBusy,
    VolumeNotConfirmed,
    VolumeNotFound,
    VolumeOfWorkspace,
    WallsMissing,
)
from cloister.sandboxes.inside import Inside
from cloister.sandboxes.leases import Leases
from cloister.sandboxes.models import Sandbox, Volume
from cloister.sandboxes.ports import Backend, DataAccess
from cloister.sandboxes.programs import encoded_files, program_environ
from cloister.sandboxes.spec import Mount, SandboxSpec
from cloister.sandboxes.states import FINAL, LIVE, State
from cloister.sandboxes.volume_use import check_unused
from cloister.sandboxes.volumes_privileged import VolumeDisks
from cloister.spaces import (
    EnvironmentDeclaration,
    Size,
    SpaceDeclaration,
    active_space,
    declared,
    get_space,
    get_team,
    in_space,
)

if TYPE_CHECKING:
    from cloister.sandboxes.images import Images

log = logger(__name__)
WORKSPACE_VOLUME = "home"
"""What a workspace has as its home folder; sandboxes of its team may use it while the workspace rests."""
PLATFORM_UID_OFFSET = 1
"""The user id of sandboxes that belong to no team (conversion of data), next to that of their root."""


@dataclass(frozen=True)
class RunRequest:
    """What somebody asks to run."""

    command: tuple[str, ...]
    environment: str | None = None
    size: str | None = None
    team: int | None = None
    files: dict[str, str] = field(default_factory=dict)
    volume: str | None = None
    seconds: float | None = None


@dataclass
class Sandboxes:
    """Request, stop, list."""

    settings: Settings
    backend: Backend
    environments: Environments
    disks: VolumeDisks
    clock: Clock
    images: "Images | None" = None
    data_access: DataAccess | None = None
    blanks: Blanks | None = None
    leases: Leases | None = None

    def check_walls(self) -> None:
        """Refuse to go on where isolation is not what it must be.

        Raises:
            WallsMissing: naming each wall.
        """
        missing = [
            wall for wall in self.backend.walls()
            if wall.required and not wall.enforced and wall.name not in self.settings.sandbox_allow_unenforced
        ]  # fmt: skip
        if missing:
            raise WallsMissing(
                "This machine cannot isolate code as it must: "
                + "; ".join(f"{wall.name} ({wall.detail})" for wall in missing)
                + ". “cloister doctor” says more."
            )

    def uid_of(self, team: int | None) -> int:
        """The host user id of a team; 0 stands for none, and the first two are the platform's."""
        return self.settings.sandbox_uid_base + (PLATFORM_UID_OFFSET if team is None else 1 + team)

    async def request(
        self,
        uow: UnitOfWork,
        *,
        space: str,
        team: int | None,
        person: int | None,
        purpose: str,
        environment: str,
        size: str,
        spec: SandboxSpec,
    ) -> Sandbox:
        """Ask for a sandbox; the controller starts it as soon as this is committed.

        Raises:
            WallsMissing: when this machine cannot isolate it as it must, or as the space wants.
        """
        self.check_walls()
        if declared(await get_space(uow, space)).policies.isolation == "gvisor":
            if shutil.which("runsc") is None:
                raise WallsMissing("This space runs its code on gVisor, and this machine has no “runsc”.")
            spec = replace(spec, gvisor=True, warm=False, blank=False)
        uid = self.uid_of(team)
        row = Sandbox(
            id=(self.blanks and self.blanks.take(spec, uid)) or new_id("sbx"),
            space=space,
            team=team,
            person=person,
            purpose=purpose,
            environment=environment,
            size=size,
            spec=spec.dump(),
            uid=uid,
            state="requested",
            wanted="running",
            created_at=self.clock.now(),
        )
        if self.leases is not None:
            self.leases.take(row)
        uow.session.add(row)
        record(
            uow, Name.SANDBOX_REQUESTED, person=person, team=team, space=space, sandbox=row.id, subject=purpose,
            command=list(spec.command), environment=environment, size=size,
        )  # fmt: skip
        if spec.datasets:
            record(
                uow, Name.SANDBOX_MOUNTED, person=person, team=team, space=space, sandbox=row.id,
                datasets=sorted({edition.partition("@")[0].partition(".")[0] for edition in spec.datasets}),
                editions=list(spec.datasets),
            )  # fmt: skip
        uow.publish(SandboxWanted(row.id))
        return row

    async def may_run(self, uow: UnitOfWork, space: str, team: int, person: int | None) -> bool:
        """Whether something may run for a person and their team: both are still in the space."""
        return self.data_access is None or await self.data_access.still_granted(uow, space, team, person, [])

    async def run(self, uow: UnitOfWork, scope: Scope, wanted: RunRequest) -> Sandbox:
        """Run a command for a team, in an environment and size of its space, beside the data granted to it.

        Raises:
            TeamNeeded, TeamNotFound: when it is not clear for which team.
            EnvironmentUnknown, SizeUnknown, BadFile: naming what is wrong.
            TooManySandboxes: when the team's share is used up.
            WallsMissing: when this machine cannot isolate it.
        """
        if scope.space is None:
            raise TeamNeeded
        _, declaration = await active_space(uow, scope.space)
        team = await self._team(uow, scope, wanted.team)
        await self._check_share(uow, scope.space, team, declaration)
        size_name, size = self._size(declaration, wanted.size)
        environment = self._environment(declaration, wanted.environment)
        inside = self.inside(environment)
        mounts: list[Mount] = []
        editions: list[str] = []
        if self.data_access is not None:
            mounts, editions = await self.data_access.mounts(uow, scope.principal, scope.space, team)
        volume = None
        if wanted.volume is not None:
            await self._check_room(uow, scope.space, team, wanted.volume, declaration)
            volume = (await self.ensure_volume(uow, scope.space, team, wanted.volume, size.disk_bytes)).id
        spec = SandboxSpec(
            command=wanted.command,
            environment=inside.environment,
            image=inside.image,
            size=size.model_dump(),
            mounts=tuple(mounts),
            datasets=tuple(editions),
            volume=volume,
            files=encoded_files(wanted.files),
            environ=program_environ() | inside.environ,
            seconds=min(wanted.seconds or size.seconds, size.seconds),
        )
        return await self.request(
            uow, space=scope.space, team=team, person=scope.principal.person, purpose="run",
            environment=environment.name, size=size_name, spec=spec,
        )  # fmt: skip

    async def _team(self, uow: UnitOfWork, scope: Scope, wanted: int | None) -> int:
        if wanted is None and scope.teams is not None and len(scope.teams) == 1:
            wanted = next(iter(scope.teams))
        if wanted is None:
            raise TeamNeeded(
                "You are in no team yet. Make or join one first."
                if scope.teams is not None and not scope.teams
                else None
            )
        return (await get_team(uow, scope, wanted)).team

    async def _check_share(self, uow: UnitOfWork, space: str, team: int, declaration: SpaceDeclaration) -> None:
        running = await uow.session.scalar(
            scoped_select(Sandbox, in_space(space))
            .where(Sandbox.team == team, Sandbox.purpose == "run", Sandbox.state.in_([s.value for s in LIVE]))
            .with_only_columns(func.count())
        )
        if (running or 0) >= declaration.policies.sandboxes_per_team:
            raise TooManySandboxes

    @staticmethod
    async def _check_room(uow: UnitOfWork, space: str, team: int, volume: str, declaration: SpaceDeclaration) -> None:
        theirs = scoped_select(Volume, in_space(space)).where(Volume.team == team).with_only_columns(Volume.name)
        names = set((await uow.session.scalars(theirs)).all())
        if volume not in names and len(names - {WORKSPACE_VOLUME}) >= declaration.policies.volumes_per_team:
            raise TooManyVolumes

    @staticmethod
    def _size(declaration: SpaceDeclaration, name: str | None) -> tuple[str, Size]:
        name = name or next(iter(declaration.sizes))
        check_size(declaration, name)
        return name, declaration.sizes[name]

    @staticmethod
    def _environment(declaration: SpaceDeclaration, name: str | None) -> EnvironmentDeclaration:
        known = {environment.name: environment for environment in declaration.environments}
        name = name or next(iter(known))
        if name not in known:
            raise EnvironmentUnknown(f"This space has the environments {', '.join(known)}.")
        return known[name]

    def inside(self, environment: EnvironmentDeclaration) -> Inside:
        """What an environment puts into a sandbox.

        Raises:
            EnvironmentNotReady: when it is not built yet.
            EnvironmentFailed: when it cannot be built.
            ImageNotFound: when this machine does not have its image.
        """
        if environment.image is not None:
            return self.on_image(environment.image)
        built = self.environments.ready(environment.requirements)
        if built is None:
            failure = self.environments.failure(environment.requirements)
            if failure is not None:
                why = f"The environment “{environment.name}” could not be built: {failure[-800:]}"
                raise EnvironmentFailed(why, environment=environment.name)
            raise EnvironmentNotReady(environment=environment.name)
        return Inside(str(built.path), None, {}, ())

    def on_image(self, name: str) -> Inside:
        """What an image puts into a sandbox.

        Raises:
            ImageNotFound: when this machine does not have it.
        """
        image = None if self.images is None else self.images.find(name)
        if image is None:
            raise ImageNotFound(f"This machine does not have the image “{name}”. Its operator can import it.")
        return Inside(None, str(image.path), image.environ, image.command, image.cwd if len(image.cwd) > 1 else None)

    async def get(self, uow: UnitOfWork, scope: Scope, id_: str) -> Sandbox:
        """Return a sandbox that a scope reaches.

        Raises:
            SandboxNotFound: when there is none.
        """
        row = await scoped_get(uow, Sandbox, scope, id=id_)
        if row is None:
            raise SandboxNotFound
        return row

    async def page(self, uow: UnitOfWork, scope: Scope, cursor: str | None, limit: int, *, live: bool) -> Page[Sandbox]:
        """The sandboxes that a scope reaches, newest first."""
        query = scoped_select(Sandbox, scope)
        if live:
            query = query.where(Sandbox.state.in_([state.value for state in LIVE]))
        return await page_by(uow, query, Sandbox.id, cursor, limit, newest_first=True)

    async def stop(self, uow: UnitOfWork, scope: Scope, id_: str) -> Sandbox:
        """Ask for a sandbox's end. Asking twice is asking once."""
        row = await self.get(uow, scope, id_)
        if row.state not in FINAL and row.wanted != "stopped":
            row.wanted = "stopped"
            record(uow, Name.SANDBOX_STOP_REQUESTED, team=row.team, space=row.space, sandbox=row.id)
            uow.publish(SandboxWanted(row.id))
        else:
            uow.unrecorded("nothing changed")
        return row

    # -- volumes

    async def ensure_volume(self, uow: UnitOfWork, space: str, team: int | None, name: str, size_bytes: int) -> Volume:
        """Return a team's volume of a name, made on the first call."""
        found = await scoped_get(uow, Volume, in_space(space), team=team, name=name)
        if found is not None:
            return found
        volume = Volume(
            id=new_id("vol"), space=space, team=team, name=name, size_bytes=size_bytes, created_at=self.clock.now()
        )
        uow.session.add(volume)
        record(uow, Name.VOLUME_CREATED, team=team, space=space, subject=volume.id, bytes=size_bytes)
        await uow.session.flush()
        return volume

    async def volume(self, uow: UnitOfWork, scope: Scope, id_: str) -> Volume:
        """Return a volume that a scope reaches.

        Raises:
            VolumeNotFound: when there is none.
        """
        found = await scoped_get(uow, Volume, scope, id=id_)
        if found is None:
            raise VolumeNotFound
        return found

    async def delete_volume(self, uow: UnitOfWork, scope: Scope, id_: str, confirm: str | None) -> None:
        """Delete a volume and its copies for good.

        Raises:
            VolumeNotFound: when the scope reaches none.
            VolumeNotConfirmed: when its name is not given.
            VolumeBusy: when something uses it.
            VolumeOfWorkspace: when it is a workspace's.
        """
        volume = await self.volume(uow, scope, id_)
        if confirm != volume.name:
            raise VolumeNotConfirmed(name=volume.name)
        await check_unused(uow, self.disks, volume)
        record(uow, Name.VOLUME_DELETED, team=volume.team, space=volume.space, subject=volume.id)
        await uow.session.delete(volume)
        try:
            await uow.session.flush()
        except IntegrityError as error:
            raise VolumeOfWorkspace from error
        await self.disks.delete(volume.id)  # a kill before the commit leaves a volume that is empty, as was wished

    async def grow_volume(self, uow: UnitOfWork, scope: Scope, id_: str, size_bytes: int) -> Volume:
        """Make a volume larger: at once, or where this machine cannot grow one in use, when it is next mounted."""
        volume = await self.volume(uow, scope, id_)
        if size_bytes > volume.size_bytes:
            await self.disks.create(volume.id, volume.size_bytes, self.uid_of(volume.team))
            try:
                await self.disks.grow(volume.id, size_bytes)
            except VolumeBusy:
                log.info("volume.grows_later", volume=volume.id)
            volume.size_bytes = size_bytes
        record(uow, Name.VOLUME_CHANGED, team=volume.team, space=volume.space, subject=volume.id, bytes=size_bytes)
        return volume


def check_size(declaration: SpaceDeclaration, size: str) -> None:
    """Refuse a size that a space does not have.

    Raises:
        SizeUnknown: naming those that it has.
    """
    if size not in declaration.sizes:
        raise SizeUnknown(f"This space has the sizes {', '.join(declaration.sizes)}.")


def record_state(uow: UnitOfWork, row: Sandbox, state: State) -> None:
    """Put on record what people care about of a sandbox's way through its states."""
    names = {State.RUNNING: Name.SANDBOX_STARTED, State.STOPPED: Name.SANDBOX_ENDED, State.FAILED: Name.SANDBOX_ENDED}
    if state not in names:
        uow.unrecorded("a step between two recorded ones")
        return
    record(
        uow, names[state], outcome=Outcome.FAILED if state is State.FAILED else Outcome.OK, person=row.person,
        team=row.team, space=row.space, sandbox=row.id, subject=row.purpose, reason=row.reason, exit_code=row.exit_code,
    )  # fmt: skip
