"""Snapshots of volumes: by hand and by schedule, and what can be brought back from them.

Copies take seconds, so none is made inside a transaction: short ones stand before and after.
"""

import asyncio
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from cloister.audit import Name, record
from cloister.core.clock import Clock
from cloister.core.principal import Principal, Scope
from cloister.platform import Database
from cloister.sandboxes.errors import TooManySnapshots, VolumeAsleep, VolumeNotFound
from cloister.sandboxes.inside_volumes import Entry, bring_back, entries
from cloister.sandboxes.models import Volume
from cloister.sandboxes.service import Sandboxes
from cloister.sandboxes.volume_use import VolumeUse, check_unused
from cloister.sandboxes.volumes_privileged import SNAPSHOT_NAME
from cloister.spaces import declared, get_space

SCHEDULED = "-scheduled"
_NAME = re.compile(r"^\d{8}T\d{12}(-scheduled)?$")


@dataclass(frozen=True)
class Snapshot:
    """A volume as it was at one moment."""

    name: str

    @property
    def taken_at(self) -> datetime:
        return datetime.strptime(self.name.removesuffix(SCHEDULED), SNAPSHOT_NAME).replace(tzinfo=UTC)

    @property
    def scheduled(self) -> bool:
        return self.name.endswith(SCHEDULED)


@dataclass
class Snapshots:
    """Takes, lists and restores them."""

    database: Database
    sandboxes: Sandboxes
    use: VolumeUse
    clock: Clock

    def of(self, volume: str) -> list[Snapshot]:
        """A volume's snapshots, oldest first."""
        return [Snapshot(name) for name in self.sandboxes.disks.snapshots(volume) if _NAME.match(name)]

    async def _volume(self, scope: Scope, id_: str) -> Volume:
        async with self.database.read() as uow:
            return await self.sandboxes.volume(uow, scope, id_)

    def _find(self, volume: Volume, name: str) -> Snapshot:
        found = next((snapshot for snapshot in self.of(volume.id) if snapshot.name == name), None)
        if found is None:
            raise VolumeNotFound("There is no such snapshot.")
        return found

    async def _record(
        self, actor: Principal, volume: Volume, what: str, snapshot: str, file: str | None = None
    ) -> None:
        async with self.database.write(actor) as uow:
            record(
                uow, Name.VOLUME_CHANGED, team=volume.team, space=volume.space, subject=volume.id, what=what,
                snapshot=snapshot, file=file,
            )  # fmt: skip

    async def take(self, scope: Scope, id_: str, *, scheduled: bool = False) -> Snapshot:
        """Copy a volume as it is now. Whoever writes to it waits meanwhile.

        Raises:
            VolumeNotFound: when the scope reaches none.
            TooManySnapshots: when people keep as many as they may.
        """
        volume = await self._volume(scope, id_)
        async with self.use.held(volume.id):
            return await self._copy(scope, volume, scheduled=scheduled)

    async def _copy(self, scope: Scope, volume: Volume, *, scheduled: bool) -> Snapshot:
        if not scheduled:
            await self._check_room(volume)
        disks = self.sandboxes.disks
        await disks.create(volume.id, volume.size_bytes, self.sandboxes.uid_of(volume.team))
        name = self.clock.now().strftime(SNAPSHOT_NAME) + (SCHEDULED if scheduled else "")
        await disks.snapshot(volume.id, name)
        await self._record(scope.principal, volume, "copied", name)
        return Snapshot(name)

    async def _check_room(self, volume: Volume) -> None:
        async with self.database.read() as uow:
            most = declared(await get_space(uow, volume.space)).policies.snapshots_by_hand
        if sum(not snapshot.scheduled for snapshot in self.of(volume.id)) >= most:
            raise TooManySnapshots

    async def delete(self, scope: Scope, id_: str, name: str) -> None:
        """Remove a copy for good.

        Raises:
            VolumeNotFound: when there is no such volume or snapshot.
        """
        volume = await self._volume(scope, id_)
        await self.sandboxes.disks.delete_snapshot(volume.id, self._find(volume, name).name)
        await self._record(scope.principal, volume, "copy removed", name)

    async def prune(self, scope: Scope, id_: str, kept: int) -> list[str]:
        """Remove the oldest of the scheduled ones, but for so many; return which."""
        volume = await self._volume(scope, id_)
        old = [snapshot.name for snapshot in self.of(volume.id) if snapshot.scheduled][: -kept or None]
        for name in old:
            await self.sandboxes.disks.delete_snapshot(volume.id, name)
            await self._record(scope.principal, volume, "copy removed", name)
        return old

    async def files(self, scope: Scope, id_: str, name: str, path: str) -> list[Entry]:
        """What is in a folder of a snapshot.

        Raises:
            VolumeNotFound, FileNotThere: when there is none such.
        """
        volume = await self._volume(scope, id_)
        async with self.sandboxes.disks.look_into(volume.id, self._find(volume, name).name) as root:
            return await asyncio.to_thread(entries, root, path)

    async def restore_file(self, scope: Scope, id_: str, name: str, path: str) -> str | None:
        """Bring one file back to its place in a volume in use; return what the one that was there is called now.

        Raises:
            VolumeNotFound, FileNotThere, VolumeFull: what is wrong.
            VolumeAsleep: when nothing has the volume mounted.
        """
        volume = await self._volume(scope, id_)
        snapshot = self._find(volume, name)
        if not self.use.used(volume.id):
            raise VolumeAsleep
        uid, stamp = self.sandboxes.uid_of(volume.team), self.clock.now().strftime("%Y%m%dT%H%M%S")
        looking = self.sandboxes.disks.look_into(volume.id, snapshot.name)
        async with self.use.visited(volume, uid) as target, looking as root:
            kept = await asyncio.to_thread(bring_back, root, target, path, uid, stamp)
        await self._record(scope.principal, volume, "file restored", name, path)
        return kept

    async def restore(self, scope: Scope, id_: str, name: str) -> None:
        """Put a snapshot in a volume's place; as it was before is kept as a snapshot of its own.

        Raises:
            VolumeNotFound: when there is no such volume or snapshot.
            VolumeBusy: when a sandbox uses it.
        """
        volume = await self._volume(scope, id_)
        snapshot = self._find(volume, name)
        async with self.use.held(volume.id):  # who opens it meanwhile waits, and has what was restored
            async with self.database.read() as uow:
                await check_unused(uow, self.sandboxes.disks, volume)
            await self._copy(scope, volume, scheduled=False)
            await self.sandboxes.disks.restore(volume.id, snapshot.name)
        await self._record(scope.principal, volume, "restored", name)
