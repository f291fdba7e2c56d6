"""Looking into volumes as they are now, whether a sandbox uses them or they rest."""

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from cloister.core.principal import Scope
from cloister.platform import Database
from cloister.platform.objects import CHUNK
from cloister.sandboxes.inside_volumes import Entry, entries, open_file
from cloister.sandboxes.models import Volume
from cloister.sandboxes.service import Sandboxes
from cloister.sandboxes.volume_use import VolumeUse


@dataclass
class VolumeFiles:
    """Reads what lies in them; nothing there is followed or run."""

    database: Database
    sandboxes: Sandboxes
    use: VolumeUse
    ready: Callable[[], Awaitable[object]]
    """Returns when it is known which sandboxes of an earlier process use which volumes."""

    async def entries(self, scope: Scope, id_: str, path: str) -> list[Entry]:
        """What is in a folder.

        Raises:
            VolumeNotFound: when the scope reaches none.
            FileNotThere: when there is no such folder.
        """
        volume = await self._volume(scope, id_)
        async with self.use.visited(volume, self.sandboxes.uid_of(volume.team)) as root:
            return await asyncio.to_thread(entries, root, path)

    @contextlib.asynccontextmanager
    async def reader(self, scope: Scope, id_: str) -> AsyncIterator[Callable[[str], AsyncGenerator[bytes]]]:
        """What gives the bytes of a plain file by its path, or raises FileNotThere, for as long as the block lasts.

        Who stops in the middle of a file closes the generator: an open file keeps the volume from being unmounted.

        Raises:
            VolumeNotFound: when the scope reaches none.
        """
        volume = await self._volume(scope, id_)
        async with self.use.visited(volume, self.sandboxes.uid_of(volume.team)) as root:

            async def read(path: str) -> AsyncGenerator[bytes]:
                descriptor = await asyncio.to_thread(open_file, root, path)
                with os.fdopen(descriptor, "rb") as file:
                    while chunk := await asyncio.to_thread(file.read, CHUNK):
                        yield chunk

            yield read

    async def _volume(self, scope: Scope, id_: str) -> Volume:
        await self.ready()
        async with self.database.read() as uow:
            return await self.sandboxes.volume(uow, scope, id_)
