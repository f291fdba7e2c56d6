"""Live sessions: one running instance of a dashboard for all who look at it."""

import asyncio
import contextlib
import hashlib
import json
from time import monotonic
from typing import Any

from aiohttp import web
from sqlalchemy import String, cast

from cloister.access import scoped_get, scoped_select
from cloister.core.clock import Clock
from cloister.core.errors import CloisterError, Invalid
from cloister.core.events import AccessChanged, DashboardChanged, Event, ReleaseRemoved, SandboxChanged
from cloister.core.principal import EVERYTHING, Principal
from cloister.dashboards.document import Document, Integration
from cloister.dashboards.errors import AdderGone, OutputNotFound, TooManySessions
from cloister.dashboards.hub import Channel, Hub, Output, Viewer
from cloister.dashboards.models import Dashboard
from cloister.dashboards.service import Dashboards
from cloister.dashboards.sessions import Check, Instance, Session, least_missed, read_output, session_key
from cloister.dashboards.trials import Trials
from cloister.dashboards.variables import Values, applied
from cloister.modules import Described, Layers, Modules, Recipe, Release
from cloister.platform import Bus, Controller, Database
from cloister.platform.logs import logger
from cloister.sandboxes import (
    FINAL,
    LIVE,
    MODULE_MOUNT,
    Companion,
    Connected,
    InnerApi,
    Mount,
    Sandbox,
    SandboxController,
    Sandboxes,
    SandboxSpec,
    program_environ,
)
from cloister.spaces import declared, get_space, in_space

log = logger(__name__)
TICK_SECONDS = 60.0
"""A session in which nobody has said for so long that they look is ended."""
UNSEEN = "Nobody has looked for a minute."
FIRST_BACKOFF, LAST_BACKOFF = 0.5, 60.0
FORGIVEN_SECONDS = 60.0
PURPOSE = "integration"


class LiveSessions(Controller):
    """Begins sessions, keeps them what their dashboards say, and ends them."""

    name = "live sessions"
    wakes_on = (AccessChanged, DashboardChanged, ReleaseRemoved)
    interval = 5.0

    def __init__(
        self, database: Database, dashboards: Dashboards, modules: Modules, sandboxes: Sandboxes,
        controller: SandboxController, inner: InnerApi, bus: Bus, clock: Clock, layers: Layers,
        most_variants: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self._database = database
        self._dashboards = dashboards
        self._modules = modules
        self._layers = layers
        self._most_variants = most_variants
        self.trials = Trials(modules)
        self._sandboxes = sandboxes
        self._controller = controller
        self._begun = clock.now()
        self._swept = False
        self.sessions: dict[str, Session] = {}
        self._lock = asyncio.Lock()
        self._by_sandbox: dict[str, tuple[Session, Instance]] = {}
        self._ends: dict[str, asyncio.Future[None]] = {}
        self._changed: set[str] = set()
        bus.subscribe(SandboxChanged, self._on_sandbox)
        for kind in (DashboardChanged, ReleaseRemoved):
            bus.subscribe(kind, self._on_dashboard)
        inner.register("POST", "/v1/output", self._on_output)

    # -- what is heard

    def _on_sandbox(self, event: Event) -> None:
        if isinstance(event, SandboxChanged) and event.state in FINAL:
            end = self._ends.get(event.sandbox)
            if end is not None and not end.done():
                end.set_result(None)

    def _on_dashboard(self, event: Event) -> None:
        if isinstance(event, DashboardChanged):
            self._changed.add(event.dashboard)
        elif isinstance(event, ReleaseRemoved):
            self._changed.update(session.dashboard for session in self.sessions.values())

    async def _on_output(self, sandbox: Connected, request: web.Request) -> web.StreamResponse:
        found = self._by_sandbox.get(sandbox.id)
        if found is None:
            raise Invalid("Only an integration of a dashboard that is looked at has somebody to tell.")
        session, instance = found
        text, model = read_output(await request.text())
        session.hub.output(instance.integration.id, text, model)
        session.state(instance.integration.id, "green", "runs")
        if session.shown.viewers:
            session.project(instance.integration.id, model)
        return web.Response(status=204)

    # -- who looks

    async def join(
        self, dashboard: Dashboard, viewer: Viewer, right: str, check: Check, *, shared: bool, values: Values = ()
    ) -> tuple[Session, Hub]:
        """Let somebody look; the first to do so begins the session. Return it, and the hub that is theirs.

        Raises:
            TooManyVariants: when too many others look with values of their own.
        """
        async with self._lock:
            session = self.sessions.get(session_key(dashboard.id, values))
            new = session is None or session.resting
            if session is None:
                if values:
                    await self._make_room(dashboard.id)
                session = Session(dashboard.id, dashboard.space, dashboard.team, values)
                self.sessions[session.key] = session
            session.resting = False
            if new or dashboard.id in self.trials.running:  # a draft may have been saved since
                await self._make_so(session, dashboard)
        session.ticked = monotonic()
        session.checks[viewer] = right, check
        hub = session.shown if shared else session.hub
        hub.join(viewer)
        if shared:
            for channel in session.hub.channels.values():
                session.state(channel.id, channel.state, channel.reason)
                if channel.output is not None:
                    session.project(channel.id, channel.output.model)
        return session, hub

    async def _make_room(self, dashboard: str) -> None:
        variants = [session for session in self.sessions.values() if session.dashboard == dashboard and session.values]
        if len(variants) >= self._most_variants:
            await self.end(least_missed(variants), "Nobody looks.")

    def leave(self, session: Session, viewer: Viewer) -> None:
        session.checks.pop(viewer, None)
        session.hub.leave(viewer)
        session.shown.leave(viewer)

    def output_of(self, session: str, channel: str, key: str) -> Output:
        """The newest output of a channel, for a viewer who is connected.

        Raises:
            OutputNotFound: when there is none, or the key is nobody's.
        """
        found = next((one for one in self.sessions.values() if one.id == session), None)
        output = None if found is None else found.output_of(channel, key)
        if output is None:
            raise OutputNotFound
        return output

    def tick(self, session: Session) -> None:
        session.ticked = monotonic()

    def restart(self, session: Session, integration: str) -> None:
        """Start one integration anew, also one that has given up."""
        instance = session.instances.get(integration)
        if instance is not None:
            instance.again.set()

    # -- making sessions so

    async def look(self) -> float | None:
        if not self._swept:
            await self._sweep()
            await self._resume()
            self._swept = True
        changed, self._changed = self._changed, set()
        for session in list(self.sessions.values()):
            await self._check(session)
            if session.dashboard in changed:
                await self._follow(session)
            if monotonic() - session.ticked > TICK_SECONDS and not session.resting:
                await self._rest(session)
        await self._look_for_ends()
        return None

    async def _rest(self, session: Session) -> None:
        """Nobody looks any more: end it, but for what is to be kept running."""
        for viewer in [*session.hub.viewers, *session.shown.viewers]:
            viewer.end(UNSEEN)
        if not session.values and session.dashboard not in self.trials.running:
            session.resting = True
            await self._follow(session)
        if not session.instances or not session.resting:
            await self.end(session, UNSEEN)

    async def _resume(self) -> None:
        """What was kept running when the platform ended runs again."""
        asks = cast(Dashboard.document, String).contains('"keep_running":true')
        async with self._database.read() as uow:
            rows = (await uow.session.scalars(scoped_select(Dashboard, EVERYTHING).where(asks))).all()
        for row in rows:
            if row.id not in self.sessions:
                session = self.sessions[row.id] = Session(row.id, row.space, row.team, resting=True)
                await self._follow(session)
                if not session.instances:
                    await self.end(session, UNSEEN)

    async def _check(self, session: Session) -> None:
        asked: dict[str, str | None] = {}
        for viewer, (right, check) in list(session.checks.items()):
            if right not in asked:
                asked[right] = await check()
            reason = asked[right]
            if reason is not None:
                viewer.end(reason)

    async def _follow(self, session: Session) -> None:
        async with self._lock:
            async with self._database.read() as uow:
                row = await scoped_get(uow, Dashboard, EVERYTHING, id=session.dashboard)
            if row is not None:
                await self._make_so(session, row)
        if row is None:
            await self.end(session, "This dashboard was deleted.")

    async def _make_so(self, session: Session, dashboard: Dashboard) -> None:
        """Start, restart and stop integrations until they are those of the dashboard."""
        session.follow(applied(Document.model_validate(dashboard.document), session.values))
        async with self._database.read() as uow:
            policies = declared(await get_space(uow, session.space)).policies
        wanted = self._wanted(session, policies.integrations_kept_per_team)
        for id_ in session.instances.keys() - wanted.keys():
            await self._stop(session.instances.pop(id_))
            session.hub.channels.pop(id_, None)
        running = sum(len(s.instances) for s in self.sessions.values() if s.team == session.team)
        most = policies.integrations_per_team
        for id_, integration in wanted.items():
            session.hub.channels.setdefault(id_, Channel(id_))
            try:
                release = await self._release(session, integration)
            except CloisterError as error:
                if id_ in session.instances:
                    await self._stop(session.instances.pop(id_))
                session.state(id_, "red", error.detail)
                continue
            described = Described.model_validate(release.described)
            mark = hashlib.sha256(
                f"{release.digest}{integration.added_by}{json.dumps(integration.values, sort_keys=True)}".encode()
            ).hexdigest()
            instance = session.instances.get(id_)
            if instance is not None and instance.print == mark:
                instance.integration = integration
                continue
            if instance is not None:
                await self._stop(instance)
            elif running >= most:
                session.state(id_, "red", str(TooManySessions.__doc__))
                continue
            running += 1
            made = session.instances[id_] = Instance(integration, release.digest, mark)
            work = self._run(session, made, described, release.requirements)
            made.task = asyncio.create_task(work, name=f"integration {id_}")

    def _wanted(self, session: Session, most_kept: int) -> dict[str, Integration]:
        """The integrations that are to run: all of a dashboard, or while nobody looks those that are kept."""
        every = {integration.id: integration for integration in session.integrations}
        if not session.resting:
            return every
        theirs = [s for s in self.sessions.values() if s.team == session.team and s.resting and s is not session]
        kept = session.kept(sum(len(s.instances) for s in theirs), most_kept)
        return {id_: integration for id_, integration in every.items() if id_ in kept}

    async def _release(self, session: Session, integration: Integration) -> Release:
        trial = self.trials.running.get(session.dashboard)
        if trial is not None:
            return trial.release
        async with self._database.read() as uow:
            return (await self._modules.resolve(uow, integration.module, integration.version, integration.accepts))[1]

    async def end(self, session: Session, reason: str) -> None:
        """End a session for all who look."""
        self.sessions.pop(session.key, None)
        for viewer in [*session.hub.viewers, *session.shown.viewers]:
            viewer.end(reason)
        for instance in session.instances.values():
            await self._stop(instance)

    async def close(self) -> None:
        """The process ends."""
        for session in list(self.sessions.values()):
            await self.end(session, "The platform restarts. Look again in a moment.")

    async def _stop(self, instance: Instance) -> None:
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
            hosts=tuple(rule.model_dump() for rule in hosts), queries=needs.datasets, seconds=needs.seconds, blank=True,
            expects=recipe.expects,
        )  # fmt: skip
        person = Principal(person=integration.added_by, kind="live")
        async with self._database.write(person) as uow:
            if not await self._sandboxes.may_run(uow, session.space, session.team, integration.added_by):
                raise AdderGone
            row = await self._sandboxes.request(
                uow, space=session.space, team=session.team, person=integration.added_by, purpose=PURPOSE,
                environment=integration.module, size="module", spec=spec,
            )  # fmt: skip
            self._controller.companions[row.id] = Companion(configuration, secrets, heard)
            self._by_sandbox[row.id] = (session, instance)
            self._ends[row.id] = asyncio.get_running_loop().create_future()
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
        self._controller.companions.pop(sandbox, None)
        end = self._ends.pop(sandbox)
        if not end.done():
            async with self._database.write() as uow:
                await self._sandboxes.stop(uow, EVERYTHING, sandbox)

    async def _look_for_ends(self) -> None:
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

    async def _sweep(self) -> None:
        """Integrations of an earlier process have nobody to tell: they end."""
        live = scoped_select(Sandbox, EVERYTHING).where(
            Sandbox.purpose == PURPOSE, Sandbox.state.in_([state.value for state in LIVE])
        )
        async with self._database.write() as uow:
            uow.unrecorded("each stop is recorded")
            for row in (await uow.session.scalars(live)).all():
                if row.id not in self._by_sandbox and row.created_at < self._begun:
                    await self._sandboxes.stop(uow, in_space(row.space), row.id)
