"""Running integrations: each in a sandbox, again after a crash, until it is stopped."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from time import monotonic
from typing import Any, ParamSpec, TypeVar

from aiohttp import web

from cloister.access import scoped_get, scoped_select
from cloister.core.clock import Clock
from cloister.core.errors import CloisterError, Invalid
from cloister.core.events import Event, SandboxChanged
from cloister.core.principal import EVERYTHING, Principal
from cloister.dashboards.errors import AdderGone, ModuleTooDemanding
from cloister.dashboards.hub import PATCH_FROM, step
from cloister.dashboards.lines import Lines
from cloister.dashboards.service import Dashboards
from cloister.dashboards.sessions import Instance, Projection, Session, read_output
from cloister.modules import Described, Layers, Modules, Recipe, Release
from cloister.platform import Bus, Database, UnitOfWork
from cloister.platform.logs import logger
from cloister.sandboxes import (
    FINAL,
    LIVE,
    MODULE_MOUNT,
    TIME_LIMIT,
    Companion,
    Connected,
    InnerApi,
    Mount,
    Sandbox,
    SandboxController,
    Sandboxes,
    SandboxNotFound,
    SandboxSpec,
    program_environ,
)
from cloister.spaces import Size, SpaceDeclaration, declared, get_space, in_space, parse_bytes

log = logger(__name__)
FIRST_BACKOFF, LAST_BACKOFF = 0.5, 60.0
FORGIVEN_SECONDS = 60.0
PURPOSE = "integration"
LITTLE = Size(cpus=1, memory="1G", scratch="256M", processes=128)
"""What a module may take anywhere."""
LARGE = 64 * 1024
"""Characters; with a larger model nobody else waits while it is read and compared."""
NOTICED, OTHERS = 0.001, 4.0
"""After an output that took longer than so many seconds, its program waits this many times as long for the answer: however
large and many its outputs are, it has a fifth of this process at most.
"""
SHORTEST = 5.0
"""Seconds from one start to the next of a program whose own limit is shorter."""
SAID = 200
"""Characters of a program's last word that are shown as its state."""


P = ParamSpec("P")
T = TypeVar("T")


async def _at_once(function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    return function(*arguments, **named)


def check_fits(declaration: SpaceDeclaration, wanted: Size) -> None:
    """An author says what a module needs; how much one may take is for the space to say: no more than its largest sizes,
    or than is little anyway.

    Raises:
        ModuleTooDemanding: naming what is too much.
    """
    sizes = [LITTLE, *declaration.sizes.values()]
    for word, mine, most in (
        ("processors", wanted.cpus, max(size.cpus for size in sizes)),
        ("bytes of memory", wanted.memory_bytes, max(size.memory_bytes for size in sizes)),
        ("processes", wanted.processes, max(size.processes for size in sizes)),
        ("bytes of disk", parse_bytes(wanted.disk), max(parse_bytes(size.disk) for size in sizes)),
        ("bytes of scratch space", parse_bytes(wanted.scratch), max(parse_bytes(size.scratch) for size in sizes)),
    ):
        if mine > most:
            raise ModuleTooDemanding(f"It asks for {mine:,} {word}; the largest size of this space has {most:,}.")


class Runner:
    """Starts and stops what sessions are made of, and hears what it puts out."""

    def __init__(
        self, database: Database, dashboards: Dashboards, modules: Modules, sandboxes: Sandboxes,
        controller: SandboxController, inner: InnerApi, bus: Bus, clock: Clock, layers: Layers,
    ) -> None:  # fmt: skip
        self._database = database
        self._dashboards = dashboards
        self._modules = modules
        self._layers = layers
        self._sandboxes = sandboxes
        self._controller = controller
        self._begun = clock.now()
        self._by_sandbox: dict[str, tuple[Session, Instance]] = {}
        self._lines: dict[str, Lines] = {}
        self._ends: dict[str, asyncio.Future[None]] = {}
        bus.subscribe(SandboxChanged, self._on_sandbox)
        inner.register("POST", "/v1/output", self._on_output)

    def _on_sandbox(self, event: Event) -> None:
        if isinstance(event, SandboxChanged) and event.state in FINAL:
            end = self._ends.get(event.sandbox)
            if end is not None and not end.done():
                end.set_result(None)

    async def _on_output(self, sandbox: Connected, request: web.Request) -> web.StreamResponse:
        found = self._by_sandbox.get(sandbox.id)
        if found is None:
            raise Invalid("Only an integration of a dashboard that is looked at has somebody to tell.")
        session, instance = found
        body = await request.text()
        async with instance.turn:
            if self._by_sandbox.get(sandbox.id) is not found:
                raise Invalid("It was let go while it sent this.")
            began = monotonic()
            work = _at_once if len(body) < LARGE else asyncio.to_thread
            text, model = await work(read_output, body)
            id_ = instance.integration.id
            channel = session.hub.channels.get(id_)
            before = None if channel is None or channel.output is None else channel.output.model
            steps = {(id(before), id(model)): await work(step, before, model)} if len(text) > PATCH_FROM else {}
            projection = Projection.begin(session, id_, model) if session.shown.viewers else None
            if projection is not None:
                await work(projection.work_out)
            if self._by_sandbox.get(sandbox.id) is not found:
                raise Invalid("It was let go while it sent this.")
            session.hub.output(id_, text, model, steps)
            session.state(id_, "green", "runs")
            if projection is not None:
                session.show(projection)
            spent = monotonic() - began
            if spent > NOTICED:
                await asyncio.sleep(spent * OTHERS)
        return web.Response(status=204)

    def start(self, session: Session, instance: Instance, release: Release) -> None:
        """Run an integration until it is stopped."""
        described = Described.model_validate(release.described)
        work = self._run(session, instance, described, release.requirements)
        instance.task = asyncio.create_task(work, name=f"integration {instance.integration.id}")

    def silence(self, instance: Instance) -> None:
        """Take nothing more from the sandbox that an instance runs in just now, whatever it is about to say."""
        if instance.sandbox is not None:
            self._by_sandbox.pop(instance.sandbox, None)
            lines = self._lines.get(instance.sandbox)
            if lines is not None:
                lines.forget()

    async def may_run(self, uow: UnitOfWork, space: str, team: int, person: int | None) -> bool:
        """Whether what somebody has added may run in a space."""
        return person is not None and await self._sandboxes.may_run(uow, space, team, person)

    async def stop(self, instance: Instance) -> None:
        if instance.task is not None:
            instance.task.cancel()
            await asyncio.wait({instance.task})  # not awaited itself: its cancellation could not be told from ours

    async def _run(self, session: Session, instance: Instance, described: Described, requirements: list[str]) -> None:
        """Keep one integration running, with growing pauses between crashes."""
        id_, backoff = instance.integration.id, FIRST_BACKOFF
        while True:
            session.state(id_, "amber", "starts")
            began = monotonic()
            instance.again.clear()
            try:
                instance.sandbox = await self._request(session, instance, described, requirements)
                row = await self._ended(instance)
            except CloisterError as error:
                if isinstance(error, AdderGone):
                    session.forget(id_)
                session.state(id_, "red", error.detail)
                await instance.again.wait()
                continue
            except Exception:  # the boundary of one integration: its team must see that it does not run
                log.exception("dashboards.integration_failed", integration=id_, dashboard=session.dashboard)
                session.state(id_, "red", "The platform failed to start it. Its operators find the reason in the log.")
                await instance.again.wait()
                continue
            if row is None:
                continue  # somebody asked for it to be started anew
            if row.reason == TIME_LIMIT:  # as was planned, and whatever its program made of being told to end
                backoff = FIRST_BACKOFF
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, SHORTEST - (monotonic() - began))):
                        await instance.again.wait()
                continue
            if row.exit_code == 0:
                session.state(id_, "green", "has finished")
                await instance.again.wait()
                continue
            if monotonic() - began > FORGIVEN_SECONDS:
                backoff = FIRST_BACKOFF
            said = row.reason or f"its program ended with exit code {row.exit_code}"
            session.state(id_, "red", f"{said}; it starts again in {backoff:g} s")
            with contextlib.suppress(TimeoutError):  # a pause that a word of somebody's ends
                async with asyncio.timeout(backoff):
                    await instance.again.wait()
            backoff = min(backoff * 2, LAST_BACKOFF)

    async def _request(
        self, session: Session, instance: Instance, described: Described, requirements: list[str]
    ) -> str:
        manifest, integration = described.manifest, instance.integration

        def heard(level: str, text: str) -> None:
            session.hub.line(integration.id, level, text)
            channel = session.hub.channels.get(integration.id)
            if level == "ERROR" and channel is not None and channel.state != "red" and text.strip():
                # It runs, but says that something is wrong; its next output says that it is right again.
                session.state(integration.id, "amber", text.strip().rsplit("\n", 1)[-1][:SAID])

        recipe = Recipe.of(described, requirements, instance.digest)
        inside = await self._layers.inside(recipe, heard)
        needs = manifest.permissions
        folder = await self._modules.files.folder(instance.digest)
        configuration, secrets = self._dashboards.opened(integration, described.model)
        hosts = needs.reached(json.loads(configuration))
        spec = SandboxSpec(
            command=inside.command, environment=inside.environment, image=inside.image, size=needs.size.model_dump(),
            mounts=(Mount(str(folder), MODULE_MOUNT),), cwd=MODULE_MOUNT,
            environ={**program_environ(), **inside.environ, "NODE_PATH": "/opt/cloister/node"}, egress=bool(hosts),
            hosts=tuple(rule.model_dump() for rule in hosts), queries=needs.asks,
            queries_of=None if needs.asks_only is None else tuple(sorted(needs.asks_only)), seconds=needs.seconds, blank=True,
            expects=recipe.expects,
        )  # fmt: skip
        person = Principal(person=integration.added_by, kind="live")
        row = None
        try:
            async with self._database.write(person) as uow:
                check_fits(declared(await get_space(uow, session.space)), needs.size)
                if not await self._sandboxes.may_run(uow, session.space, session.team, integration.added_by):
                    raise AdderGone
                row = await self._sandboxes.request(
                    uow, space=session.space, team=session.team, person=integration.added_by, purpose=PURPOSE,
                    environment=integration.module, size="module", spec=spec,
                )  # fmt: skip
                lines = self._lines[row.id] = Lines(heard)
                self._controller.companions[row.id] = Companion(configuration, secrets, lines.take)
                self._by_sandbox[row.id] = (session, instance)
                self._ends[row.id] = asyncio.get_running_loop().create_future()
        except BaseException:
            # It may have been committed all the same: nobody else stops it.
            if row is not None and row.id in self._ends:
                await asyncio.shield(self._let_go(row.id))
            raise
        return row.id

    async def _ended(self, instance: Instance) -> Sandbox | None:
        """Wait for the end of an integration's sandbox; None when it was ended to be started anew."""
        sandbox = str(instance.sandbox)
        again = asyncio.ensure_future(instance.again.wait())
        try:
            waits: set[asyncio.Future[Any]] = {self._ends[sandbox], again}
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if again.done():
                return None
            async with self._database.read() as uow:
                return await scoped_get(uow, Sandbox, EVERYTHING, id=sandbox)
        finally:
            again.cancel()
            await asyncio.shield(self._let_go(sandbox))

    async def _let_go(self, sandbox: str) -> None:
        self._by_sandbox.pop(sandbox, None)
        self._lines.pop(sandbox, None)
        self._controller.companions.pop(sandbox, None)
        end = self._ends.pop(sandbox)
        if not end.done():
            with contextlib.suppress(SandboxNotFound):
                async with self._database.write() as uow:
                    await self._sandboxes.stop(uow, EVERYTHING, sandbox)

    async def look_for_ends(self) -> None:
        """News may be lost: whatever has ended is found here."""
        if not self._ends:
            return
        async with self._database.read() as uow:
            ended = scoped_select(Sandbox, EVERYTHING).where(
                Sandbox.id.in_(list(self._ends)), Sandbox.state.in_([state.value for state in FINAL])
            )
            rows = (await uow.session.scalars(ended)).all()
        for row in rows:
            self._on_sandbox(SandboxChanged(row.id, row.state))

    async def sweep(self) -> None:
        """Integrations of an earlier process have nobody to tell: they end."""
        live = scoped_select(Sandbox, EVERYTHING).where(
            Sandbox.purpose == PURPOSE, Sandbox.state.in_([state.value for state in LIVE])
        )
        async with self._database.write() as uow:
            uow.unrecorded("each stop is recorded")
            for row in (await uow.session.scalars(live)).all():
                if row.id not in self._by_sandbox and row.created_at < self._begun:
                    await self._sandboxes.stop(uow, in_space(row.space), row.id)
