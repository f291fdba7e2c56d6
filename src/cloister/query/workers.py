"""Query workers: a sandbox per team and view of the data, warm while it is used, gone when it is not."""

import asyncio
import base64
import json
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from cloister.access import scoped_get, scoped_select
from cloister.core.events import Event, SandboxChanged, SandboxWanted
from cloister.core.principal import EVERYTHING
from cloister.platform import Bus, Controller, Database, Settings, UnitOfWork
from cloister.query.errors import WorkerUnavailable
from cloister.query.program import WORKER_MOUNT, WORKER_PACKAGES, worker_files
from cloister.query.relations import GrantedTable, Relations, fingerprint
from cloister.sandboxes import (
    FINAL,
    LIVE,
    Environments,
    Mount,
    Sandbox,
    SandboxController,
    Sandboxes,
    SandboxSpec,
    connect_app,
    program_environ,
)
from cloister.spaces import Size

READY_SECONDS = 20.0
POLL_SECONDS = 0.004
IMPORTS_MEGABYTES = 256


@dataclass
class Worker:
    """One running worker."""

    space: str
    team: int | None
    view: str
    sandbox: str
    busy: int = 0
    used: float = field(default_factory=monotonic)


class Workers(Controller):
    """Finds or starts the worker for a team's view; ends those that are idle, outdated or too many."""

    name = "query-workers"
    wakes_on = (SandboxChanged,)
    interval = 15.0

    def __init__(
        self,
        settings: Settings,
        database: Database,
        sandboxes: Sandboxes,
        controller: SandboxController,
        environments: Environments,
        relations: Relations,
        bus: Bus,
    ) -> None:
        super().__init__()
        self._settings = settings
        self._database = database
        self._sandboxes = sandboxes
        self._controller = controller
        self._environments = environments
        self._relations = relations
        self._bus = bus
        self._workers: dict[tuple[str, int | None, str], Worker] = {}
        self._starting: dict[tuple[str, int | None, str], asyncio.Lock] = {}
        self._swept = False
        self._begun = sandboxes.clock.now()

    def wake(self, event: Event | None = None) -> None:
        if isinstance(event, SandboxChanged) and event.state in FINAL:
            for key, worker in list(self._workers.items()):
                if worker.sandbox == event.sandbox:
                    del self._workers[key]
        elif event is None:
            super().wake()

    async def take(self, space: str, team: int | None, tables: list[GrantedTable]) -> Worker:
        """Return a worker whose sandbox has exactly these tables; call `give_back` when done.

        Raises:
            WorkerUnavailable: when none could be started.
        """
        view = fingerprint(tables)
        key = (space, team, view)
        async with self._starting.setdefault(key, asyncio.Lock()):
            worker = self._workers.get(key)
            if worker is None:
                worker = await self._start(key, tables)
                self._workers[key] = worker
            worker.busy += 1
        return worker

    def give_back(self, worker: Worker) -> None:
        worker.busy -= 1
        worker.used = monotonic()

    async def connect(self, worker: Worker) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await connect_app(self._controller.place(worker.sandbox))

    async def _start(self, key: tuple[str, int | None, str], tables: list[GrantedTable]) -> Worker:
        space, team, view = key
        await self._make_room()
        built = await self._environments.ensure(WORKER_PACKAGES)
        memory = self._settings.query_memory_megabytes
        configuration = {
            "relations": [
                {
                    "schema": table.dataset, "table": table.table, "path": table.inside, "bare": table.ask == table.dataset,
                    "min_group": table.min_group,
                }
                for table in tables
            ],
            "memory_mb": max(64, memory * 7 // 10),
            "threads": max(1, round(self._settings.query_cpus)),
        }  # fmt: skip
        spec = SandboxSpec(
            command=("python3", f"{WORKER_MOUNT}/main.py", "/home/user/relations.json"),
            environment=str(built.path),
            size=Size(
                cpus=self._settings.query_cpus, memory=f"{memory + IMPORTS_MEGABYTES}M", scratch="16M", processes=256
            ).model_dump(),
            mounts=(Mount(str(worker_files()), WORKER_MOUNT), *await self._relations.mounts(tables)),
            datasets=tuple(table.edition for table in tables),
            files={"relations.json": base64.b64encode(json.dumps(configuration).encode()).decode()},
            environ=program_environ(),
            egress=False,
            serves=True,
        )
        async with self._database.write() as uow:
            row = await self._sandboxes.request(
                uow, space=space, team=team, person=None, purpose="query", environment="worker", size="query",
                spec=spec,
            )  # fmt: skip
        await self._listening(row.id)
        return Worker(space, team, view, row.id)

    async def _listening(self, id_: str) -> None:
        """Wait until the worker's socket is there: a name in a folder, so it is looked for, for a bounded time."""
        path: Path = self._controller.place(id_).app / "app.sock"
        failed = asyncio.Event()

        def on_change(event: Event) -> None:
            if isinstance(event, SandboxChanged) and event.sandbox == id_ and event.state in FINAL:
                failed.set()

        unsubscribe = self._bus.subscribe(SandboxChanged, on_change)
        until = monotonic() + READY_SECONDS
        try:
            while not path.is_socket():  # noqa: ASYNC240  (one stat of a file system in memory)
                if monotonic() > until or failed.is_set():
                    raise WorkerUnavailable(await self._why(id_))
                await asyncio.wait({waiting := asyncio.ensure_future(failed.wait())}, timeout=POLL_SECONDS)
                waiting.cancel()
        except WorkerUnavailable:
            await self._stop(id_)
            raise
        finally:
            unsubscribe()

    async def _why(self, id_: str) -> str:
        async with self._database.read() as uow:
            row = await scoped_get(uow, Sandbox, EVERYTHING, id=id_)
        return f"The query worker did not start: {row.reason if row else 'it is gone'}."

    async def discard(self, worker: Worker) -> None:
        """End a worker that does not obey; the next query gets a new one."""
        self._workers.pop((worker.space, worker.team, worker.view), None)
        await self._stop(worker.sandbox)

    async def _stop(self, id_: str) -> None:
        async with self._database.write() as uow:
            await self._stop_in(uow, id_)

    async def _stop_in(self, uow: UnitOfWork, id_: str) -> None:
        await self._sandboxes.stop(uow, EVERYTHING, id_)
        uow.publish(SandboxWanted(id_))

    async def _make_room(self) -> None:
        idle = sorted((w for w in self._workers.values() if w.busy == 0), key=lambda w: w.used)
        while len(self._workers) >= self._settings.query_workers and idle:
            await self.discard(idle.pop(0))
        if len(self._workers) >= self._settings.query_workers:
            raise WorkerUnavailable("All query workers are busy. Try again in a moment.")

    async def look(self) -> float | None:
        if not self._swept:
            await self._sweep()
            self._swept = True
        oldest = monotonic() - self._settings.query_worker_idle_seconds
        for worker in [w for w in self._workers.values() if w.busy == 0 and w.used < oldest]:
            await self.discard(worker)
        return None

    async def _sweep(self) -> None:
        """Once at the start: workers of an earlier process are not known here, so they end."""
        query = scoped_select(Sandbox, EVERYTHING).where(
            Sandbox.purpose.in_(("query", "convert")), Sandbox.state.in_([state.value for state in LIVE])
        )
        async with self._database.write() as uow:
            uow.unrecorded("each stop is recorded")
            known = {worker.sandbox for worker in self._workers.values()}
            for row in (await uow.session.scalars(query)).all():
                if row.id not in known and row.created_at < self._begun:
                    await self._stop_in(uow, row.id)
