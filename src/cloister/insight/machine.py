"""What the machine has and what runs on it now; which environments are there, and who uses them."""

import asyncio
import os
import shutil
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel

from cloister.access import scoped_select
from cloister.core.clock import Clock
from cloister.core.ids import person_label, team_label
from cloister.core.principal import EVERYTHING
from cloister.modules import Layers, recipes
from cloister.platform import Database, Settings, UnitOfWork
from cloister.query import WORKER_PACKAGES
from cloister.sandboxes import LIVE, Backend, Environments, Images, Sandbox, SandboxSpec
from cloister.spaces import JUPYTERLAB, Space, declared

MOST = 500
"""So many running sandboxes are shown, those with the most memory first."""


class Disk(BaseModel):
    """Where something is kept, and how much room there is."""

    keeps: str
    size_bytes: int
    free_bytes: int


class Running(BaseModel):
    """A sandbox and what it uses now; None while it starts."""

    sandbox: str
    space: str
    team: str | None
    person: str | None
    purpose: str
    environment: str
    state: str
    size: str
    since: datetime
    cpu_seconds: float | None
    """Of processor time since it started."""
    memory_bytes: int | None
    processes: int | None
    cpus: float
    """It may use so many at once."""
    memory_limit_bytes: int


class Machine(BaseModel):
    """The machine, and what runs on it."""

    at: datetime
    cpus: int
    load: float
    """Programs that wanted a processor, on average of the last minute."""
    memory_bytes: int
    memory_free_bytes: int
    """Available to programs without swapping."""
    disks: list[Disk]
    sandboxes: int
    """So many run or start now, of all spaces."""
    promised_cpus: float
    """The sum of what they may use; more than there is means that not all can at once."""
    promised_memory_bytes: int
    running: list[Running]
    """At most 500, those with the most memory first."""


class EnvironmentOut(BaseModel):
    """An environment, built or declared."""

    id: str | None
    """None: it is not built yet; it is when it is first needed."""
    kind: str
    """packages, or image."""
    size_bytes: int
    packages: list[str]
    used_by: list[str]
    """As SPACE/NAME; "platform" is what the platform itself runs on, "modules" what releases of modules need,
    "running" what runs now and is declared no more. An image stays until its name is removed."""


class EnvironmentList(BaseModel):
    """Every environment, largest first."""

    items: list[EnvironmentOut]


class Machines:
    """Looks at the machine on which this process runs."""

    def __init__(
        self, settings: Settings, database: Database, backend: Backend, clock: Clock, environments: Environments,
        images: Images, layers: Layers,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._database = database
        self._backend = backend
        self._clock = clock
        self._environments = environments
        self._images = images
        self._layers = layers

    async def machine(self, uow: UnitOfWork) -> Machine:
        """What it has, what it promised to sandboxes, and what each uses."""
        rows = await _live(uow)
        running = [await self._running(row) for row in rows]
        running.sort(key=lambda one: (-(one.memory_bytes or 0), one.sandbox))
        total, free = await asyncio.to_thread(_memory)
        return Machine(
            at=self._clock.now(), cpus=len(os.sched_getaffinity(0)), load=round(os.getloadavg()[0], 2),
            memory_bytes=total, memory_free_bytes=free, disks=await asyncio.to_thread(self._disks),
            sandboxes=len(running), promised_cpus=round(sum(one.cpus for one in running), 2),
            promised_memory_bytes=sum(one.memory_limit_bytes for one in running), running=running[:MOST],
        )  # fmt: skip

    async def _running(self, row: Sandbox) -> Running:
        use = await self._backend.usage(row.id)
        limits = SandboxSpec.load(row.spec).limits
        return Running(
            sandbox=row.id, space=row.space, team=None if row.team is None else team_label(row.team),
            person=None if row.person is None else person_label(row.person), purpose=row.purpose,
            environment=row.environment, state=row.state, size=row.size, since=row.running_at or row.created_at,
            cpu_seconds=use and use.cpu_seconds, memory_bytes=use and use.memory_bytes,
            processes=use and use.processes, cpus=limits.cpus, memory_limit_bytes=limits.memory_bytes,
        )  # fmt: skip

    def _disks(self) -> list[Disk]:
        kept: dict[int, tuple[list[str], Path]] = {}
        for what, path in (
            ("state", self._settings.state_directory), ("environments", self._environments.root),
        ):  # fmt: skip
            kept.setdefault(path.stat().st_dev, ([], path))[0].append(what)
        found = [(" + ".join(what), shutil.disk_usage(path)) for what, path in kept.values()]
        return [Disk(keeps=keeps, size_bytes=use.total, free_bytes=use.free) for keeps, use in found]

    async def environments(self, uow: UnitOfWork) -> EnvironmentList:
        """Those that are built, those that are declared, and who uses which."""
        wanted = await declared_environments(uow)
        users = {id_: ["modules"] for id_ in await self._layers.used(await recipes(self._database))}
        users |= {id_: ["running"] for id_ in _mounted(await _live(uow)) - users.keys()}
        return EnvironmentList(items=await asyncio.to_thread(self._list, wanted, await _images_of(uow), users))

    def _list(
        self, wanted: dict[str, list[str]], of_images: dict[str, list[str]], users: dict[str, list[str]]
    ) -> list[EnvironmentOut]:
        missing: list[EnvironmentOut] = []
        for name, requirements in (*wanted.items(), ("platform", WORKER_PACKAGES), ("platform", JUPYTERLAB)):
            built = self._environments.ready(requirements)
            if built is not None:
                users.setdefault(built.id, []).append(name)
            else:
                missing.append(
                    EnvironmentOut(id=None, kind="packages", size_bytes=0, packages=requirements, used_by=[name])
                )
        images = {image.path.name: image for image in self._images.all()}
        items = [
            EnvironmentOut(
                id=one.id, kind="image" if one.id in images else "packages", size_bytes=one.size_bytes,
                packages=[images[one.id].name] if one.id in images else one.packages,
                used_by=of_images.get(images[one.id].name, []) if one.id in images else users.get(one.id, []),
            )
            for one in self._environments.all()
        ]  # fmt: skip
        return [*sorted(items, key=lambda one: -one.size_bytes), *missing]

    async def collect(self) -> list[str]:
        """Remove the environments that no space, image, release of a module or running sandbox uses; return which."""
        async with self._database.read() as uow:
            wanted = [*(await declared_environments(uow)).values(), WORKER_PACKAGES, JUPYTERLAB]
            mounted = _mounted(await _live(uow))
        used = {built.id for requirements in wanted if (built := self._environments.ready(requirements))}
        used |= {image.path.name for image in self._images.all()}
        used |= await self._layers.used(await recipes(self._database))
        return await self._environments.collect(used | mounted)


async def declared_environments(uow: UnitOfWork) -> dict[str, list[str]]:
    """Every environment of packages that a space declares, as SPACE/NAME, with its requirements."""
    spaces = await _spaces(uow)
    return {f"{s.space}/{e.name}": e.requirements for s in spaces for e in declared(s).environments if not e.image}


async def _images_of(uow: UnitOfWork) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for space in await _spaces(uow):
        for one in declared(space).environments:
            if one.image:
                found.setdefault(one.image, []).append(f"{space.space}/{one.name}")
    return found


async def _spaces(uow: UnitOfWork) -> list[Space]:
    return list((await uow.session.scalars(scoped_select(Space, EVERYTHING).where(Space.state == "active"))).all())


async def _live(uow: UnitOfWork) -> list[Sandbox]:
    states = [state.value for state in LIVE]
    live = scoped_select(Sandbox, EVERYTHING).where(Sandbox.state.in_(states))
    return list((await uow.session.scalars(live)).all())


def _mounted(rows: list[Sandbox]) -> set[str]:
    """The environments that sandboxes have which run now, though nobody may declare them any more."""
    specs = [SandboxSpec.load(row.spec) for row in rows]
    places = [place for spec in specs for place in (spec.environment, spec.image, *(m.source for m in spec.mounts))]
    return {Path(place).name for place in places if place}


def _memory() -> tuple[int, int]:
    """Bytes in all, and available (Linux, ``/proc/meminfo``)."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    found = {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines}
    return found["MemTotal"], found["MemAvailable"]
