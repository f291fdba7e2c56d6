"""Which volumes are in use: mounted for the first sandbox that needs one, unmounted after the last."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path

from cloister.access import scoped_get, scoped_select
from cloister.core.ids import new_id
from cloister.core.principal import EVERYTHING
from cloister.platform import Database, UnitOfWork
from cloister.sandboxes.errors import VolumeBusy, VolumeNotFound
from cloister.sandboxes.models import Sandbox, Volume
from cloister.sandboxes.spec import SandboxSpec
from cloister.sandboxes.states import LIVE
from cloister.sandboxes.volumes_privileged import VolumeDisks
from cloister.spaces import in_space


class VolumeUse:
    """Counts users of volumes on this machine."""

    def __init__(self, database: Database, disks: VolumeDisks) -> None:
        self._database = database
        self._disks = disks
        self._users: dict[str, set[str]] = defaultdict(set)
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def expect(self, volume: str, sandbox: str) -> None:
        """Count a user of an earlier process's, before it is taken up: nobody may unmount under it."""
        self._users[volume].add(sandbox)

    def used(self, volume: str) -> bool:
        """Whether anybody has it mounted."""
        return bool(self._users[volume])

    async def mount(self, row: Sandbox, spec: SandboxSpec) -> Path:
        """Mount a sandbox's volume; return where.

        Raises:
            VolumeNotFound: when it is not a volume of the sandbox's own team.
        """
        async with self._locks[str(spec.volume)]:
            async with self._database.read() as uow:
                volume = await scoped_get(uow, Volume, EVERYTHING, id=spec.volume)
            if volume is None or volume.space != row.space or volume.team != row.team:
                raise VolumeNotFound
            await self._disks.create(volume.id, volume.size_bytes, row.uid)
            path = await self._disks.mount(volume.id)
            self._users[volume.id].add(row.id)
        return path

    @contextlib.asynccontextmanager
    async def held(self, volume: str) -> AsyncIterator[None]:
        """For as long as the block lasts nobody begins to use a volume, and nobody's use of it ends."""
        async with self._locks[volume]:
            yield

    @contextlib.asynccontextmanager
    async def visited(self, volume: Volume, uid: int) -> AsyncIterator[Path]:
        """A volume's files for as long as the block lasts, whether or not a sandbox uses it, too."""
        visit = new_id("visit")
        async with self._locks[volume.id]:
            await self._disks.create(volume.id, volume.size_bytes, uid)
            path = await self._disks.mount(volume.id)
            self._users[volume.id].add(visit)
        try:
            yield path
        finally:
            await self.release(volume.id, visit)

    async def release(self, volume: str, sandbox: str) -> None:
        """One user less. A sandbox that ended before this process knew it was no user here."""
        async with self._locks[volume]:
            users = self._users[volume]
            if sandbox in users:
                users.remove(sandbox)
                if not users:
                    await self._disks.unmount(volume)


async def check_unused(uow: UnitOfWork, disks: VolumeDisks, volume: Volume) -> None:
    """See that nobody works with a volume: mounted or not, for not every kind of volume is.

    Raises:
        VolumeBusy: when a sandbox that has not ended has it, or somebody looks into it.
    """
    live = scoped_select(Sandbox, in_space(volume.space)).where(
        Sandbox.team == volume.team, Sandbox.state.in_([state.value for state in LIVE])
    )
    users = [row.id for row in await uow.session.scalars(live) if row.spec.get("volume") == volume.id]
    if users or disks.mounted(volume.id):
        raise VolumeBusy
