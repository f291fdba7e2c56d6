"""The controller of workspaces: starts, watches, restarts after a crash, stops what is idle."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from cloister.access import scoped_get, scoped_select
from cloister.audit import Name, record
from cloister.core.clock import Clock
from cloister.core.errors import CloisterError
from cloister.core.events import Event, SandboxChanged, WorkspaceChanged, WorkspaceWanted
from cloister.core.principal import EVERYTHING
from cloister.platform import Bus, Controller, Database, UnitOfWork, metrics
from cloister.platform.logs import logger
from cloister.sandboxes import FINAL, EnvironmentFailed, EnvironmentNotReady, Sandbox, SandboxController, SandboxSpec
from cloister.spaces import Size, SpaceDeclaration, declared, get_space, in_space
from cloister.workspaces.activity import Activity, Watch
from cloister.workspaces.apps import app_of
from cloister.workspaces.models import Workspace
from cloister.workspaces.ports import Pages
from cloister.workspaces.probe import answers
from cloister.workspaces.service import JUPYTER, Workspaces, environment_now

log = logger(__name__)
RESTARTS = 3
"""So often a workspace that ends by itself is started again before somebody has to look."""
FORGIVEN = timedelta(minutes=10)
"""After so long in order, earlier crashes no longer count."""
LOOK_AT_USE = timedelta(seconds=30)
"""How often it is looked whether one is used: an app has to be asked, which costs it and the platform some milliseconds."""
LOOKS_BEFORE_REST = 10
"""So often at least within the time after which an unused one is stopped, where that is short."""
LOOKS_AT_ONCE = 32
MAY_BUILD = timedelta(minutes=20)
MAY_FAIL = timedelta(minutes=3)
BUILDING = "Its environment is being built. It starts as soon as that is done; you need not wait here."


def held(size: Size) -> tuple[float, int, int]:
    """What of a size can be given and taken while something runs."""
    return size.cpus, size.memory_bytes, size.processes


class WorkspaceController(Controller):
    """Makes workspaces be what their rows want."""

    name = "workspaces"
    wakes_on = (WorkspaceWanted, SandboxChanged)
    interval = 5.0

    def __init__(
        self, database: Database, workspaces: Workspaces, sandboxes: SandboxController, clock: Clock, pages: Pages,
        answer_seconds: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self._database = database
        self._workspaces = workspaces
        self._sandboxes = sandboxes
        self._clock = clock
        self.watch = Watch(sandboxes, workspaces.sandboxes.backend, clock, pages)
        self._answer_within = timedelta(seconds=answer_seconds)
        self._probes: dict[str, asyncio.Task[None]] = {}
        self._looks: dict[str, asyncio.Task[None]] = {}
        self._looking = asyncio.Semaphore(LOOKS_AT_ONCE)
        self._due: dict[str, datetime] = {}
        """By workspace, when it is to be looked at next."""

    def wake(self, event: Event | None = None) -> None:
        if isinstance(event, WorkspaceWanted):
            self._due.pop(event.workspace, None)  # a larger size is not waited for
        super().wake(event)

    async def run(self, bus: Bus) -> None:
        try:
            await super().run(bus)
        finally:
            tasks = [*self._probes.values(), *self._looks.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def look(self) -> float | None:
        async with self._database.read() as uow:
            rows = (
                await uow.session.scalars(
                    scoped_select(Workspace, EVERYTHING)
                    .where((Workspace.state.not_in(("stopped", "failed"))) | (Workspace.wanted == "running"))
                    .order_by(Workspace.id)
                )
            ).all()
            have = [row.sandbox for row in rows if row.sandbox is not None]
            found = await uow.session.scalars(scoped_select(Sandbox, EVERYTHING).where(Sandbox.id.in_(have)))
            sandboxes = {one.id: one for one in found}
        for row in rows:
            sandbox = sandboxes.get(row.sandbox or "")
            try:
                if sandbox is None and row.wanted == "running" and row.state != "failed":
                    await self._launch(row)
                elif row.wanted == "stopped" or sandbox is None or sandbox.state in FINAL:
                    await self._settle(row.id)
                elif row.state == "running":
                    self._begin_to_look(row, sandbox)
                elif row.state == "starting" and sandbox.state == "running":
                    self._await_answer(row, sandbox.id)
            except Exception:  # one workspace must not hold up the others
                log.exception("workspace.failed_to_settle", workspace=row.id)
        return None

    async def _settle(self, id_: str) -> None:
        async with self._database.read() as uow:
            row = await uow.session.get(Workspace, id_)
            if row is None:  # its space has ended
                return
            sandbox = await self._sandbox(uow, row)
        live = sandbox is not None and sandbox.state not in FINAL
        if row.wanted == "stopped":
            await self._bring_down(row, sandbox, live=live)
        elif sandbox is not None and not live and row.state != "failed":
            await self._after_end(row, sandbox)

    async def _sandbox(self, uow: UnitOfWork, row: Workspace) -> Sandbox | None:
        return None if row.sandbox is None else await scoped_get(uow, Sandbox, in_space(row.space), id=row.sandbox)

    async def _set(self, id_: str, state: str, reason: str | None = None, **values: object) -> None:
        async with self._database.write() as uow:
            uow.unrecorded("the state of a workspace; what was asked and what the sandbox did is recorded")
            row = await uow.session.get_one(Workspace, id_)
            row.state, row.reason = state, reason
            for name, value in values.items():
                setattr(row, name, value)
            uow.publish(WorkspaceChanged(row.id, state))

    async def _launch(self, row: Workspace) -> None:
        try:
            async with self._database.write() as uow:
                current = await uow.session.get(Workspace, row.id, with_for_update=True)
                if current is None or (current.version, current.sandbox) != (row.version, row.sandbox):
                    return  # much may have been since it was read: its space has ended, somebody stopped it
                sandbox = await self._workspaces.launch(uow, current)
                await uow.session.flush()
                current.sandbox, current.state = sandbox.id, "starting"
                uow.publish(WorkspaceChanged(row.id, "starting"))
        except EnvironmentNotReady as error:
            if self._clock.now() - row.asked_at > MAY_BUILD:
                await self._set(row.id, "failed", f"{error.detail} It has been for long: ask an operator to look.")
            elif row.reason != BUILDING:
                await self._set(row.id, "starting", BUILDING)
        except EnvironmentFailed as error:  # it is tried again each minute: a registry may have been away
            given_up = self._clock.now() - row.asked_at > MAY_FAIL
            if given_up or row.reason != error.detail:
                await self._set(row.id, "failed" if given_up else "starting", error.detail)
        except CloisterError as error:
            await self._set(row.id, "failed", error.detail)

    async def _bring_down(self, row: Workspace, sandbox: Sandbox | None, *, live: bool) -> None:
        if live and sandbox is not None:
            if sandbox.wanted != "stopped":
                async with self._database.write() as uow:
                    await self._workspaces.sandboxes.stop(uow, in_space(row.space), sandbox.id)
            if row.state != "stopping":
                await self._set(row.id, "stopping", row.reason)
        elif row.state != "stopped":
            self.watch.forget(row.id)
            async with self._database.write() as uow:
                uow.unrecorded("that it has stopped; that it should was recorded")
                current = await uow.session.get(Workspace, row.id)
                if current is None or current.wanted != "stopped":  # somebody opened it again in this moment
                    return
                current.rest()
                uow.publish(WorkspaceChanged(row.id, "stopped"))

    async def _after_end(self, row: Workspace, sandbox: Sandbox) -> None:
        """It ended though it is wanted: again, a few times; then it is for a person to look at."""
        self.watch.forget(row.id)
        if row.state == "stopping":  # somebody opened it again while it stopped
            await self._set(row.id, "starting", sandbox=None, ready_at=None)
            self.wake()
            return
        if sandbox.wanted == "stopped" or (sandbox.reason or "").startswith("access"):
            async with self._database.write() as uow:
                await self._workspaces.stop(uow, await uow.session.get_one(Workspace, row.id), sandbox.reason or "")
            return
        forgiven = row.ready_at is not None and self._clock.now() - row.ready_at > FORGIVEN
        restarts = 0 if forgiven else row.restarts
        said = sandbox.reason or f"its program ended with exit code {sandbox.exit_code}"
        if restarts >= RESTARTS:
            await self._set(row.id, "failed", f"It ended {restarts + 1} times by itself: {said}.")
            return
        log.warning("workspace.restarted", workspace=row.id, reason=said)
        metrics.WORKSPACE_RESTARTS.inc()
        await self._set(
            row.id, "starting", f"Starting again: {said}.", sandbox=None, restarts=restarts + 1, ready_at=None
        )
        self.wake()

    def _await_answer(self, row: Workspace, sandbox: str) -> None:
        if row.id not in self._probes:
            task = self._probes[row.id] = asyncio.create_task(self._probe(row, sandbox))
            task.add_done_callback(lambda _task: self._probes.pop(row.id, None))

    async def _probe(self, row: Workspace, sandbox: str) -> None:
        """Wait until the app serves. Its sandbox's end wakes the controller, which ends this."""
        async with self._database.read() as uow:
            declaration = declared(await get_space(uow, row.space))
        app = app_of(environment_now(declaration, row, self._clock.now()))
        place, token = self._sandboxes.place(sandbox), self._sandboxes.app_token(sandbox)
        begun = self._clock.now()
        while sandbox in self._sandboxes.live:
            if self._clock.now() - begun > self._answer_within:
                await self._give_up(row, sandbox, app.health, app.port)
                return
            if await answers(place, app.health, token):
                now = self._clock.now()
                async with self._database.write() as uow:
                    current = await uow.session.get_one(Workspace, row.id)
                    if current.sandbox != sandbox:
                        uow.unrecorded("it was restarted meanwhile")
                        return
                    current.state, current.ready_at, current.active_at = "running", now, now
                    current.reason = None  # why it was not there before is over
                    seconds = (now - current.asked_at).total_seconds()
                    record(
                        uow, Name.WORKSPACE_READY, space=row.space, team=row.team, sandbox=sandbox, subject=row.id,
                        milliseconds=round(seconds * 1000),
                    )  # fmt: skip
                    uow.publish(WorkspaceChanged(row.id, "running"))
                metrics.WORKSPACE_START_SECONDS.observe(seconds)
                return
            await asyncio.sleep(0.02)  # a program that begins to listen tells nobody

    async def _give_up(self, row: Workspace, sandbox: str, health: str, port: int | None) -> None:
        """An app that does not answer holds a place, and whoever waits for it is owed the reason."""
        where = f"{health} on port {port}" if port is not None else f"{health} on its socket"
        why = f"Its app runs, but did not answer at {where} within {self._answer_within.total_seconds():g} seconds."
        async with self._database.write() as uow:
            current = await uow.session.get_one(Workspace, row.id)
            if current.sandbox != sandbox or current.wanted != "running":
                uow.unrecorded("it was restarted or stopped meanwhile")
                return
            current.state, current.reason = "failed", why
            await self._workspaces.sandboxes.stop(uow, in_space(row.space), sandbox)
            uow.publish(WorkspaceChanged(row.id, "failed"))

    # -- idle

    def _begin_to_look(self, row: Workspace, sandbox: Sandbox) -> None:
        """Beside everything else: an app may take its time to answer, and nobody else shall wait for it."""
        if row.id in self._looks or self._clock.now() < self._due.get(row.id, datetime.min.replace(tzinfo=UTC)):
            return
        self._due[row.id] = self._clock.now() + LOOK_AT_USE
        task = self._looks[row.id] = asyncio.create_task(self._look_at_use(row, sandbox))
        task.add_done_callback(lambda done: self._looked(row.id, done))

    def _looked(self, id_: str, task: asyncio.Task[None]) -> None:
        self._looks.pop(id_, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("workspace.look_failed", workspace=id_, error=repr(error))

    async def _look_at_use(self, row: Workspace, sandbox: Sandbox) -> None:
        async with self._looking:
            await self._look_now(row, sandbox)

    async def _look_now(self, row: Workspace, sandbox: Sandbox) -> None:
        async with self._database.read() as uow:
            current = await uow.session.get(Workspace, row.id)
            if current is None or current.sandbox != sandbox.id:  # much may have been since it was read
                return
            row, declaration = current, declared(await get_space(uow, row.space))
        often = timedelta(minutes=declaration.policies.idle_minutes) / LOOKS_BEFORE_REST
        if row.id in self._due:  # else it is wanted otherwise by now, and is looked at again at once
            self._due[row.id] = self._clock.now() + min(LOOK_AT_USE, often)
        await self._keep_to_size(row, sandbox, declaration)
        await self.judge(row, sandbox, declaration)

    async def _keep_to_size(self, row: Workspace, sandbox: Sandbox, declaration: SpaceDeclaration) -> None:
        """One that is to have more gets it while it runs. One that runs with more than it is to have now, or in another
        environment than the round says, is told, and after a while restarted with what it is to have.
        """
        allowed = declaration.sizes.get(row.size)
        has = SandboxSpec.load(sandbox.spec).limits
        larger = allowed is None or any(mine > theirs for mine, theirs in zip(held(has), held(allowed), strict=True))
        elsewhere = False
        if (pinned := declaration.pinned(self._clock.now())) is not None and pinned.environment is not None:
            # The round began while it ran; what works is not taken down for what could not start.
            elsewhere = sandbox.environment != pinned.environment and self._workspaces.startable(
                declaration, pinned.environment
            )
        if allowed is not None and not larger and held(has) != held(allowed):
            await self._give_more(sandbox, allowed)
        due = None if row.due_at is None else row.due_at <= self._clock.now()
        larger = larger or elsewhere
        if larger == (row.due_at is not None) and not due:
            return
        async with self._database.write() as uow:
            current = await uow.session.get_one(Workspace, row.id)
            if not larger or current.wanted != "running":
                uow.unrecorded("that it fits again")
                current.due_at = None
                uow.publish(WorkspaceChanged(row.id, row.state))
            elif not due:
                uow.unrecorded("when it will be restarted; who made it smaller is recorded")
                current.due_at = self._clock.now() + timedelta(minutes=declaration.policies.grace_minutes)
                uow.publish(WorkspaceChanged(row.id, row.state))
            else:
                await self._workspaces.restart(uow, in_space(row.space), current, safe=row.safe)

    async def _give_more(self, sandbox: Sandbox, size: Size) -> None:
        """Let a running sandbox have a larger size; where this machine cannot, it has it from its next start on."""
        has = SandboxSpec.load(sandbox.spec)
        wanted = replace(has, size={**has.size, "cpus": size.cpus, "memory": size.memory, "processes": size.processes})
        if not await self._workspaces.sandboxes.backend.resize(sandbox.id, wanted):
            return
        async with self._database.write() as uow:
            uow.unrecorded("who made it larger is recorded")
            current = await scoped_get(uow, Sandbox, in_space(sandbox.space), id=sandbox.id)
            if current is not None:
                current.spec = wanted.dump()

    async def judge(self, row: Workspace, sandbox: Sandbox, declaration: SpaceDeclaration) -> Activity:
        """Look whether a workspace is used; stop it when it has not been for long enough. Return what was seen."""
        # What it runs, whatever it is to run next, and whether or not the space still declares it.
        jupyter = JUPYTER in SandboxSpec.load(sandbox.spec).environ
        seen = await self.watch.look(row, sandbox.id, jupyter=jupyter)
        now = self._clock.now()
        idle = timedelta(minutes=declaration.policies.idle_minutes)

        def used(current: Workspace) -> datetime | None:
            return now if seen.busy else max(filter(None, (current.active_at, seen.last)), default=current.active_at)

        def over(current: Workspace) -> bool:
            active = used(current)
            kept = current.keep_until is not None and current.keep_until > now
            return not seen.busy and not kept and active is not None and now - active >= idle

        if (row.active_at, row.busy_word, row.busy_value) == (used(row), seen.word, seen.value) and not over(row):
            return seen  # most rest most of the time, and there is one writer for all
        async with self._database.write() as uow:
            current = await uow.session.get_one(Workspace, row.id)
            uow.unrecorded("when it was last used")
            if current.sandbox != sandbox.id:  # it was restarted while this was looking
                return seen
            if (active := used(current)) != current.active_at:
                uow.publish(WorkspaceChanged(row.id, current.state))  # an open page need not warn any more
            ends = over(current)
            current.active_at, current.busy_word, current.busy_value = active, seen.word, seen.value
            if ends and current.wanted == "running":
                why = f"Nothing ran and nobody worked in it for {declaration.policies.idle_minutes:g} minutes."
                await self._workspaces.stop(uow, current, why)
        return seen
