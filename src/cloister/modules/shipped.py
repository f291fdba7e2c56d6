"""Modules that come with the platform: published at its start, again whenever their files have changed."""

import asyncio
from pathlib import Path

from cloister.access import scoped_get
from cloister.core.principal import EVERYTHING
from cloister.modules import versions
from cloister.modules.errors import NotYours
from cloister.modules.models import Module, Release
from cloister.modules.service import Modules
from cloister.modules.store import digest_of, read_folder
from cloister.platform import Controller, Database, UnitOfWork
from cloister.platform.logs import logger

log = logger(__name__)
FIRST = "1.0.0"


class ShippedModules(Controller):
    """Publishes what is in a folder, each module by the name of its own folder, and then has nothing more to do."""

    name = "shipped modules"
    interval = 3600.0

    def __init__(self, database: Database, modules: Modules, root: Path) -> None:
        super().__init__()
        self._database = database
        self._modules = modules
        self._root = root
        self._done = False

    async def look(self) -> float | None:
        if not self._done:
            for name, files in (await asyncio.to_thread(read_all, self._root)).items():
                await self._publish(name, files)
            self._done = True
        return None

    async def _publish(self, name: str, files: dict[str, bytes]) -> None:
        digest = await asyncio.to_thread(digest_of, files)
        async with self._database.read() as uow:  # most starts change nothing, and have nothing to write
            module, releases = await self._found(uow, name)
        if module is not None and module.author is not None:
            log.warning("modules.name_taken", module=name, reason=NotYours.__doc__)
            return
        if releases and releases[0].digest == digest and releases[0].state != "failed":
            return
        async with self._database.write() as uow:
            module, releases = await self._found(uow, name)
            if module is None:
                module = await self._modules.create(uow, None, name, files)
            else:
                await self._modules.replace(uow, module, files)
            version = str(versions.parse(releases[0].version).next_patch()) if releases else FIRST
            await self._modules.publish(uow, module, version)

    async def _found(self, uow: UnitOfWork, name: str) -> tuple[Module | None, list[Release]]:
        module = await scoped_get(uow, Module, EVERYTHING, name=name)
        return module, [] if module is None else await self._modules.releases(uow, module)


def read_all(root: Path) -> dict[str, dict[str, bytes]]:
    """The files of each module in a folder."""
    return {folder.name: read_folder(folder) for folder in sorted(root.iterdir()) if folder.is_dir()}
