"""The controller of sandboxes: makes the world match the rows, adopts what still runs, reaps what nobody knows."""

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

from cloister.access import scoped_get, scoped_select
from cloister.audit import Recorder
from cloister.core.clock import Clock
from cloister.core.errors import CloisterError
from cloister.core.events import AccessChanged, Event, SandboxChanged, SandboxWanted
from cloister.core.principal import EVERYTHING
from cloister.identity import secret_hash
from cloister.platform import Bus, Controller, Database, Settings, UnitOfWork, metrics
from cloister.platform.logs import logger
from cloister.platform.objects import remove_tree
from cloister.sandboxes.blanks import Blank, Blanks, furnish
from cloister.sandboxes.egress import narrowed
from cloister.sandboxes.errors import BackendFailed
from cloister.sandboxes.inner import Connected, InnerApi
from cloister.sandboxes.leases import Leases
from cloister.sandboxes.models import Sandbox
from cloister.sandboxes.output import OutputLog
from cloister.sandboxes.ports import Backend, DataAccess
from cloister.sandboxes.service import record_state
from cloister.sandboxes.spec import Companion, Place, SandboxSpec
from cloister.sandboxes.starting import Live, make_place, start_error, tail
from cloister.sandboxes.states import FINAL, TIME_LIMIT, State, check_transition
from cloister.sandboxes.volume_use import VolumeUse
from cloister.sandboxes.volumes_privileged import VolumeDisks
from cloister.spaces import SpaceNotFound, declared, get_space

log = logger(__name__)
GRACE_SECONDS = 3.0
READOPT_SECONDS = 20.0
FORGET_AT_ONCE = 20


class SandboxController(Controller):
    """One per machine."""

    name = "sandboxes"
    wakes_on = (SandboxWanted, AccessChanged)
    interval = 5.0

    def __init__(
        self,
        settings: Settings,
        database: Database,
        backend: Backend,
        inner: InnerApi,
        disks: VolumeDisks,
        bus: Bus,
        clock: Clock,
        recorder: Recorder,
    ) -> None:
        super().__init__()
        self._settings = settings
        self._database = database
        self._backend = backend
        self._inner = inner
        self._disks = disks
        self._bus = bus
        self._clock = clock
        self._recorder = recorder
        self.leases = Leases(settings, database, clock)
        self.swept = asyncio.Event()
        """Set when what an earlier process left of sandboxes that nobody knows is gone."""
        self.volumes = VolumeUse(database, disks)
        self._check_access = True
        self.data_access: DataAccess | None = None
        self.blanks = Blanks(settings, backend, inner, self.place)
        self.live: dict[str, Live] = {}
        self.companions: dict[str, Companion] = {}
        """By sandbox, of those who gave one when they asked for it; they take it away when it has ended."""

    def wake(self, event: Event | None = None) -> None:
        self._check_access = self._check_access or event is None or isinstance(event, AccessChanged)
        super().wake(event)

    def place(self, id_: str) -> Place:
        return Place(self._settings.run_directory / "sandboxes" / id_)

    def app_token(self, id_: str) -> str:
        """What the gateway shows to the app in a sandbox. The app computes it from the token it was given inside."""
        return hashlib.sha256(b"app " + self._inner.access_token(id_).encode()).hexdigest()

    async def look(self) -> float | None:
        if not self.swept.is_set():
            await self._sweep()
            self.swept.set()
        rows = await self.leases.claim()
        for row in rows:
            if row.id not in self.live:
                live = self.live[row.id] = Live(row.id, asyncio.Event())
                live.task = asyncio.create_task(self._look_after(live, row), name=f"sandbox {row.id}")
            if row.wanted == "stopped":
                self.live[row.id].stop.set()
        check, self._check_access = self._check_access, False
        if check:
            await self._recheck(rows)
        return None

    async def _sweep(self) -> None:
        """Once at the start: remove what runs here under a name that the database does not have as live."""
        await self._disks.thaw_left()
        live = await self.leases.all_live()
        for id_ in await self._backend.known() - live:
            log.warning("sandbox.reaped", sandbox=id_)
            await self._backend.remove(id_, self.place(id_))
        in_use = {row.id: str(row.spec["volume"]) for row in await self.leases.claim() if row.spec.get("volume")}
        for id_, volume in in_use.items():
            self.volumes.expect(volume, id_)
        for volume in self._disks.all_mounted() - set(in_use.values()):
            await self._disks.unmount(volume)

    async def _recheck(self, rows: list[Sandbox]) -> None:
        """End what runs on access that is gone: no member left, or data no longer granted."""
        if self.data_access is None:
            return
        for row in rows:
            editions = row.spec.get("datasets", [])
            if row.team is None or row.id not in self.live:
                continue
            async with self._database.read() as uow:
                kept = await self.data_access.still_granted(uow, row.space, row.team, row.person, editions)
            live = self.live.get(row.id)  # it may have ended meanwhile
            if not kept and live is not None:
                live.revoked = "access to the data or the space has ended"
                live.stop.set()

    # -- one sandbox

    async def _look_after(self, live: Live, row: Sandbox) -> None:
        try:
            await self._life(live, row)
        except Exception as error:  # the boundary of one sandbox: the others must not suffer
            log.exception("sandbox.lost", sandbox=row.id)
            with contextlib.suppress(Exception):
                await self._end(live, row, State.FAILED, f"the platform failed to look after it: {error}", None)
        finally:
            del self.live[row.id]
            self.wake()

    async def _life(self, live: Live, row: Sandbox) -> None:
        state = State(row.state)
        if row.wanted == "stopped" and state is State.REQUESTED:
            await self._set(row, State.STOPPED, reason="stopped before it started")
            return
        if state is State.STOPPING:
            await self._end(live, row, State.STOPPED, row.reason, row.exit_code)
            return
        pid = await self._backend.alive(row.id)
        if state is State.RUNNING and pid is None:
            log.warning(
                "sandbox.ended_away", sandbox=row.id, agent=await asyncio.to_thread(tail, self.place(row.id).agent_log)
            )
            await self._end(live, row, State.FAILED, "it ended while the platform was away", None)
            return
        try:
            if pid is None or state is not State.RUNNING:
                connected, pid = await self._start(live, row)
            else:
                connected = await self._adopt(live, row)
        except CloisterError as error:
            await self._end(live, row, State.FAILED, error.detail, None)
            return
        await self._watch(live, row, connected, pid)

    async def _connect(self, row: Sandbox, token_hash: str, next_hash: str | None) -> Connected:
        """What the inner API is to know of a sandbox; it does not listen yet."""
        spec = SandboxSpec.load(row.spec)
        async with self._database.read() as uow:
            try:
                rules = declared(await get_space(uow, row.space)).policies.egress if spec.egress else []
                rules = narrowed(rules, spec.hosts)
            except SpaceNotFound:
                rules = []

        async def save(current: str, following: str | None) -> None:
            if row.state == State.STARTING:  # kept with "running": what is interrupted before that begins anew
                return
            async with self._database.write() as uow:
                uow.unrecorded("tokens of a control channel")
                stored = await self._row(uow, row.id)
                stored.token_hash, stored.next_token_hash = current, following

        companion = self.companions.get(row.id, Companion())
        assignment = {**spec.assignment(), "grace": GRACE_SECONDS}
        if companion.configuration is not None:
            assignment["configuration"] = companion.configuration
        output = OutputLog(self.place(row.id).log, self._settings.sandbox_output_bytes, companion)
        return Connected(
            id=row.id, space=row.space, team=row.team, person=row.person, place=self.place(row.id),
            assignment=assignment, rules=rules, output=output, queries=spec.queries,
            queries_of=None if spec.queries_of is None else frozenset(spec.queries_of),
            token_hash=token_hash, next_token_hash=next_hash, save_tokens=save,
        )  # fmt: skip

    async def _start(self, live: Live, row: Sandbox) -> tuple[Connected, int]:
        """From a row to a running program."""
        spec = SandboxSpec.load(row.spec)
        blank = await self.blanks.claim(row.id)
        began = self._begin(live, row, spec) if blank is None else self._become(live, row, spec, blank)
        connected, pid = await began
        gone = asyncio.ensure_future(self._backend.wait(pid))
        here = asyncio.ensure_future(connected.started.wait())
        stop = asyncio.ensure_future(live.stop.wait())
        try:
            await asyncio.wait(
                {gone, here, stop}, timeout=self._settings.sandbox_start_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if not connected.started.is_set() and not connected.exited.done() and not stop.done():
                said = await asyncio.to_thread(tail, connected.place.agent_log)
                raise start_error(said, ended=gone.done())
        finally:
            for waiting in (gone, here, stop):
                waiting.cancel()
        return connected, pid

    def _writes_down(self, row: Sandbox, spec: SandboxSpec, connected: Connected) -> Callable[[], Awaitable[bool]]:
        async def write_down() -> bool:
            if row.state == State.STARTING:
                now = self._clock.now()
                metrics.SANDBOX_START_SECONDS.labels(row.purpose).observe((now - row.created_at).total_seconds())
                deadline = None if spec.seconds is None else now + timedelta(seconds=spec.seconds)
                kept = connected.tokens
                await self._set(row, State.RUNNING, running_at=now, deadline_at=deadline, **kept)
                if connected.tokens != kept:  # it dialled again meanwhile
                    await connected.save_tokens(connected.token_hash, connected.next_token_hash)
            return row.state == State.RUNNING  # else it was stopped while it started

        return write_down

    async def _become(self, live: Live, row: Sandbox, spec: SandboxSpec, blank: Blank) -> tuple[Connected, int]:
        """Let one that waits be the row's."""
        known = live.connected = blank.connected
        await self._set(row, State.STARTING, **known.tokens)
        await asyncio.to_thread(furnish, known.place, spec)
        known.become(await self._connect(row, known.token_hash, known.next_token_hash))
        known.before_start = self._writes_down(row, spec, known)
        await self._inner.assign(known)
        return known, blank.pid

    async def _begin(self, live: Live, row: Sandbox, spec: SandboxSpec) -> tuple[Connected, int]:
        """Start one from nothing. Whatever an earlier attempt left is removed first."""
        token, place = secrets.token_urlsafe(32), self.place(row.id)
        await self._backend.remove(row.id, place)
        mounting = asyncio.create_task(self.volumes.mount(row, spec)) if spec.volume else None
        await self._set(row, State.STARTING, token_hash=secret_hash(token))
        await asyncio.to_thread(make_place, place, token)
        volume = await mounting if mounting else None
        connected = live.connected = await self._connect(row, secret_hash(token), None)
        connected.before_start = self._writes_down(row, spec, connected)
        await self._inner.open(connected)
        first: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if spec.warm:  # its program begins while the agent still dials; it waits for nothing but to be forked
            connected.forked_in = asyncio.create_task(self._fork_in(row.id, spec, first))
        try:
            pid = await self._backend.start(row.id, spec, place, row.uid, volume)
        except BaseException:
            first.cancel()
            raise
        first.set_result(pid)
        return connected, pid

    async def _fork_in(self, id_: str, spec: SandboxSpec, first: "asyncio.Future[int]") -> bool:
        return await self._backend.fork_in(id_, spec, await first, self.app_token(id_))

    async def _adopt(self, live: Live, row: Sandbox) -> Connected:
        """Take up a sandbox that outlived an earlier process: listen where its agent dials."""
        log.info("sandbox.adopted", sandbox=row.id)
        spec = SandboxSpec.load(row.spec)
        if spec.volume:
            await self.volumes.mount(row, spec)
        connected = live.connected = await self._connect(row, row.token_hash or "", row.next_token_hash)
        connected.started.set()
        await self._inner.open(connected)
        try:
            async with asyncio.timeout(READOPT_SECONDS):
                await connected.agent_here.wait()
        except TimeoutError as error:
            raise BackendFailed("It did not come back to the platform after a restart.") from error
        return connected

    async def _watch(self, live: Live, row: Sandbox, connected: Connected, pid: int) -> None:
        """Wait until it ends: by itself, on request, or because its time is up."""
        gone = asyncio.ensure_future(self._backend.wait(pid))
        stop = asyncio.ensure_future(live.stop.wait())
        left = None if row.deadline_at is None else max(0.0, (row.deadline_at - self._clock.now()).total_seconds())
        waits: set[asyncio.Future[Any]] = {gone, stop, connected.exited}
        try:
            await asyncio.wait(waits, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            exit_code = connected.exited.result() if connected.exited.done() else None
            if exit_code is not None:
                reason, state = (
                    None if exit_code >= 0 else f"its program was ended by signal {-exit_code}",
                    State.STOPPED,
                )
                await self._set(row, State.STOPPING, exit_code=exit_code, reason=reason)
            elif gone.done():
                state, reason = State.FAILED, "it was killed, most likely for using more memory than its size allows"
                if "Traceback" in (said := await asyncio.to_thread(tail, connected.place.agent_log)):
                    log.error("sandbox.agent_failed", sandbox=row.id, agent=said)
                    reason = "the platform's agent in it failed"
                await self._set(row, State.STOPPING, reason=reason)
            else:
                state = State.STOPPED
                reason = live.revoked or ("stopped on request" if live.stop.is_set() else TIME_LIMIT)
                await self._set(row, State.STOPPING, reason=reason)
                # One that has no program yet, or no right to its data any more, gets no time to end by itself.
                if connected.started.is_set() and live.revoked is None:
                    exit_code = await self._stop_gently(connected, gone)
        finally:
            gone.cancel()
            stop.cancel()
        await self._end(live, row, state, reason, exit_code)

    async def _stop_gently(self, connected: Connected, gone: "asyncio.Future[None]") -> int | None:
        await self._inner.terminate(connected)
        waits: set[asyncio.Future[Any]] = {gone, connected.exited}
        await asyncio.wait(waits, timeout=GRACE_SECONDS + 1, return_when=asyncio.FIRST_COMPLETED)
        return connected.exited.result() if connected.exited.done() else None

    async def _end(self, live: Live, row: Sandbox, state: State, reason: str | None, exit_code: int | None) -> None:
        """Remove every trace and say how it ended."""
        if row.state == State.RUNNING:
            await self._set(row, State.STOPPING, reason=reason)
        if live.connected is not None:
            await self._inner.close(live.connected)
        place = self.place(row.id)
        await self._backend.remove(row.id, place)
        spec = SandboxSpec.load(row.spec)
        if spec.volume:
            await self.volumes.release(spec.volume, row.id)
        for folder in (place.sockets, place.app_mount, place.module):
            await asyncio.to_thread(remove_tree, folder)
        await self._forget_old_output(row)
        await self._set(row, state, reason=reason, exit_code=exit_code, ended_at=self._clock.now())

    async def _forget_old_output(self, row: Sandbox) -> None:
        """Keep what a team's last sandboxes printed, and no more: else it could fill the disk with it."""
        ended = scoped_select(Sandbox, EVERYTHING).where(
            Sandbox.space == row.space, Sandbox.team.is_not_distinct_from(row.team), Sandbox.id < row.id,
            Sandbox.state.in_([state.value for state in FINAL]),
        )  # fmt: skip
        old = ended.order_by(Sandbox.id.desc()).offset(self._settings.sandbox_outputs_kept - 1).limit(FORGET_AT_ONCE)
        async with self._database.read() as uow:
            ids = (await uow.session.scalars(old.with_only_columns(Sandbox.id))).all()
        for id_ in ids:
            await asyncio.to_thread(remove_tree, self.place(id_).root)

    async def _row(self, uow: UnitOfWork, id_: str) -> Sandbox:
        row = await scoped_get(uow, Sandbox, EVERYTHING, id=id_)
        if row is None:
            message = f"the row of sandbox {id_} is gone"
            raise RuntimeError(message)
        return row

    async def _set(self, row: Sandbox, state: State, **values: str | int | datetime | None) -> None:
        """Move a row along the table of transitions, with a record where people care."""
        async with self._database.write() as uow:
            stored = await self._row(uow, row.id)
            if stored.state in FINAL:
                return
            check_transition(State(stored.state), state)
            stored.state = state.value
            for name, value in values.items():
                setattr(stored, name, value)
            uow.publish(SandboxChanged(row.id, state.value))
            record_state(uow, stored, state)
        row.state, row.reason, row.exit_code = stored.state, stored.reason, stored.exit_code
        row.deadline_at = stored.deadline_at

    async def shut_down(self, *, stop_sandboxes: bool) -> None:
        """End this process's care. Sandboxes go on for the next process to adopt, or are stopped first."""
        self.leases.closing = True
        lives = list(self.live.values())
        tasks = [live.task for live in lives if live.task is not None]
        if stop_sandboxes:
            await self.leases.stop_all()
            for live in self.live.values():
                live.stop.set()
            await asyncio.wait(tasks, timeout=15) if tasks else None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Again or not: agents dial the next process. All at once, since each may take a second to hear of it.
        closing = [self._inner.close(live.connected) for live in lives if live.connected is not None]
        await asyncio.gather(*closing, self.blanks.close())
