"""Builds releases: what they need is made once, when they are published, and never when a dashboard opens."""

import asyncio
from time import monotonic

from cloister.access import scoped_get, scoped_select
from cloister.audit import Name, Outcome, record
from cloister.core.errors import CloisterError
from cloister.core.events import ReleaseWanted
from cloister.core.principal import EVERYTHING
from cloister.modules.layers import Layers, Recipe
from cloister.modules.manifest import Described
from cloister.modules.models import Module, Release
from cloister.modules.service import Modules
from cloister.platform import Controller, Database
from cloister.platform.logs import logger

log = logger(__name__)
LOG_CHARACTERS = 200_000
COLLECT_SECONDS, TRIED_SECONDS = 3600.0, 7 * 86_400.0
"""How often drafts that were tried are looked through, and after how long without a trial one's files go."""


class BuildLog:
    """What one build says. Of one that says too much, the beginning and the end are kept."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._size = 0

    def say(self, _level: str, text: str) -> None:
        self._parts.append(text)
        self._size += len(text)
        if self._size > 2 * LOG_CHARACTERS:
            whole = "".join(self._parts)
            half = LOG_CHARACTERS // 2
            self._parts = [f"{whole[:half]}\n...\n{whole[-half:]}"]
            self._size = len(self._parts[0])

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def end_of(self, characters: int = 600) -> str:
        """Its last whole lines."""
        return self.text.strip()[-characters:].partition("\n")[2] if len(self.text) > characters else self.text.strip()


class BuildController(Controller):
    """Makes releases ready, a few at a time."""

    name = "builds"
    wakes_on = (ReleaseWanted,)
    interval = 30.0

    def __init__(self, database: Database, modules: Modules, layers: Layers, at_once: int) -> None:
        super().__init__()
        self._database = database
        self._modules = modules
        self._layers = layers
        self._at_once = at_once
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._logs: dict[str, BuildLog] = {}
        self._collected = 0.0
        self._closed = False

    async def look(self) -> float | None:
        waiting = scoped_select(Release, EVERYTHING).where(Release.state == "building").order_by(Release.id)
        async with self._database.read() as uow:
            rows = (await uow.session.scalars(waiting)).all()
        if monotonic() - self._collected > COLLECT_SECONDS:
            self._collected = monotonic()
            async with self._database.read() as uow:
                await self._modules.collect(uow, TRIED_SECONDS)
        for row in rows:
            if not self._closed and row.id not in self._tasks and len(self._tasks) < self._at_once:
                self._tasks[row.id] = asyncio.create_task(self._look_after(row), name=f"build {row.id}")
        return None

    async def _look_after(self, row: Release) -> None:
        said = self._logs[row.id] = BuildLog()
        try:
            try:
                problem = await self._build(row, said)
            except Exception:  # the boundary of one build: it must end, and the others go on
                log.exception("modules.build_failed", release=row.id)
                problem = "The platform failed to build it. Its operators find the reason in the log."
            await self._modules.files.keep_log(row.id, said.text)
            async with self._database.write() as uow:
                current = await uow.session.get_one(Release, row.id)
                await self._modules.built(uow, current, problem)
                outcome = Outcome.OK if problem is None else Outcome.FAILED
                record(uow, Name.RELEASE_BUILT, outcome=outcome, subject=row.id, reason=problem)
        finally:
            del self._tasks[row.id], self._logs[row.id]
            self.wake()

    async def _build(self, row: Release, said: BuildLog) -> str | None:
        described = Described.model_validate(row.described)
        if described.manifest.kind == "widget":
            return None
        async with self._database.read() as uow:
            module = await scoped_get(uow, Module, EVERYTHING, number=row.module)
        author = None if module is None else module.author
        recipe = Recipe.of(described, row.requirements, row.digest, author)
        try:
            if described.manifest.image is None and await self._layers.ready(recipe) is not None:
                said.say("INFO", "What it needs was built before.\n")
            await self._layers.inside(recipe, said.say)
        except CloisterError as error:
            last = said.end_of()
            said.say("ERROR", f"{error.detail}\n")
            return f"{error.detail}\n{last}".strip()
        said.say("INFO", "Built.\n")
        return None

    async def said(self, row: Release) -> str:
        """What the build of a release has said so far."""
        log = self._logs.get(row.id)
        return log.text if log is not None else await self._modules.files.log(row.id)

    async def close(self) -> None:
        """The process ends; what is not done is done by the next."""
        self._closed = True
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


async def recipes(database: Database) -> list[Recipe]:
    """What every release needs that may still be run."""
    query = scoped_select(Release, EVERYTHING).where(Release.state == "ready", Release.removed.is_(False))
    async with database.read() as uow:
        rows = (await uow.session.scalars(query)).all()
    described = [(row, Described.model_validate(row.described)) for row in rows]
    return [
        Recipe.of(what, row.requirements, row.digest)
        for row, what in described
        if what.manifest.kind == "integration" and what.manifest.image is None
    ]
