"""Live sessions: one running instance of a dashboard for all who look at it."""

import asyncio
import hashlib
import json
from time import monotonic

from sqlalchemy import String, cast

from cloister.access import scoped_get, scoped_select
from cloister.core.errors import CloisterError
from cloister.core.events import AccessChanged, DashboardChanged, Event, ReleaseRemoved, SignedOut
from cloister.core.principal import EVERYTHING
from cloister.dashboards.document import Document, Integration
from cloister.dashboards.errors import OutputNotFound, TooManySessions
from cloister.dashboards.hub import Hub, Output, Viewer
from cloister.dashboards.models import Dashboard
from cloister.dashboards.running import Runner
from cloister.dashboards.sessions import Check, Instance, Session, least_missed, session_key
from cloister.dashboards.trials import Trials
from cloister.dashboards.uses import release_of
from cloister.dashboards.variables import Values, applied
from cloister.datasets import Grants
from cloister.modules import Described, Modules, Permissions, Release
from cloister.platform import Bus, Controller, Database
from cloister.spaces import declared, get_space

TICK_SECONDS = 60.0
"""A session in which nobody has said for so long that they look is ended."""
UNSEEN = "Nobody has looked for a minute."


class LiveSessions(Controller):
    """Begins sessions, keeps them what their dashboards say, and ends them."""

    name = "live sessions"
    wakes_on = (AccessChanged, DashboardChanged, ReleaseRemoved, SignedOut)
    interval = 5.0

    def __init__(
        self, database: Database, modules: Modules, grants: Grants, runner: Runner, bus: Bus, most_variants: int
    ) -> None:  # fmt: skip
        super().__init__()
        self._database = database
        self._modules = modules
        self._grants = grants
        self._runner = runner
        self._most_variants = most_variants
        self.trials = Trials(modules)
        self._swept = False
        self.sessions: dict[str, Session] = {}
        self._lock = asyncio.Lock()
        self._changed: set[str] = set()
        self._regranted: set[str] = set()
        for kind in (AccessChanged, DashboardChanged, ReleaseRemoved):
            bus.subscribe(kind, self._on_news)

    # -- what is heard

    def _on_news(self, event: Event) -> None:
        match event:
            case DashboardChanged(dashboard):
                self._changed.add(dashboard)
            case AccessChanged(space):
                self._regranted.add(space)
            case ReleaseRemoved(release):
                self._changed.update(
                    session.dashboard
                    for session in self.sessions.values()
                    if any(instance.release == release for instance in session.instances.values())
                )

    def asking(self, dashboard: str) -> dict[str, list[Permissions]]:
        """The integrations of a dashboard that run and may ask governed data, with what they declared when they began."""
        found: dict[str, list[Permissions]] = {}
        for session in self.sessions.values():
            for id_, instance in session.instances.items() if session.dashboard == dashboard else ():
                if instance.needs is not None and instance.needs.asks:
                    found.setdefault(id_, []).append(instance.needs)
        return found

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
            await self._runner.sweep()
            await self._resume()
            self._swept = True
        changed, self._changed = self._changed, set()
        regranted, self._regranted = self._regranted, set()
        try:
            await self._look(changed, regranted)
        except Exception:
            self._changed |= changed  # nobody else is told of them again
            self._regranted |= regranted
            raise
        await self._runner.look_for_ends()
        return None

    async def _look(self, changed: set[str], regranted: set[str]) -> None:
        for session in list(self.sessions.values()):
            await self._check(session)
            again = session.short and monotonic() - session.tried > self.interval
            if session.dashboard in changed or again:
                await self._follow(session)
            if session.space in regranted or "" in regranted or monotonic() - session.looked > self.interval:
                await self._check_data(session)
            if monotonic() - session.ticked > TICK_SECONDS and not session.resting:
                await self._rest(session)

    async def _rest(self, session: Session) -> None:
        """Nobody looks any more: end it, but for what is to be kept running."""
        for viewer in [*session.hub.viewers, *session.shown.viewers]:
            viewer.end(UNSEEN)
        if session.values or session.dashboard in self.trials.running:
            await self.end(session, UNSEEN)
            return
        session.resting = True
        await self._follow(session)
        if session.resting and not session.instances:  # else somebody has come meanwhile
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

    async def _check_data(self, session: Session) -> None:
        """Whoever may no longer ask some data shows none of it, and what has some of it in its memory begins anew."""
        session.looked = monotonic()
        for id_, instance in list(session.instances.items()):
            if instance.needs is None or not instance.needs.asks:
                continue
            rights = await self._rights(session, instance.integration, instance.needs.asks_only)
            if session.instances.get(id_) is not instance:
                continue  # another has taken its place meanwhile, with rights of its own
            lost, instance.rights = instance.rights - rights, rights
            if lost:
                self._runner.silence(instance)  # it may be about to say what it has just been told
                session.forget(id_)
                instance.again.set()

    async def _rights(self, session: Session, integration: Integration, only: frozenset[str] | None) -> frozenset[str]:
        async with self._database.read() as uow:
            if not await self._runner.may_run(uow, session.space, session.team, integration.added_by):
                return frozenset()  # whoever it runs for has left: what they could ask, nobody shows
            grants = await self._grants.effective(uow, session.space, integration.added_by, session.team, "query")
        return frozenset(grant.id for grant in grants if only is None or grant.dataset in only)

    async def _follow(self, session: Session) -> None:
        session.tried = monotonic()
        async with self._lock:
            trial = self.trials.running.get(session.dashboard)
            async with self._database.read() as uow:
                row = trial.board if trial else await scoped_get(uow, Dashboard, EVERYTHING, id=session.dashboard)
            if row is not None:
                await self._make_so(session, row)
        if row is None:
            await self.end(session, "This dashboard was deleted.")

    async def _make_so(self, session: Session, dashboard: Dashboard) -> None:
        """Start, restart and stop integrations until they are those of the dashboard."""
        session.follow(applied(Document.model_validate(dashboard.document), session.values), dashboard.version)
        async with self._database.read() as uow:
            policies = declared(await get_space(uow, session.space)).policies
        wanted = self._wanted(session, policies.integrations_kept_per_team)
        for id_ in session.instances.keys() - wanted.keys():
            session.forget(id_)
            await self._runner.stop(session.instances.pop(id_))
        for id_ in set(session.hub.names) - wanted.keys():
            session.hub.drop(id_)
        running = sum(len(s.instances) for s in self.sessions.values() if s.team == session.team)
        most = policies.integrations_per_team
        session.short = False
        for id_, integration in wanted.items():
            session.hub.add(id_)
            try:
                release = await self._release(session, integration)
            except CloisterError as error:
                if id_ in session.instances:
                    await self._runner.stop(session.instances.pop(id_))
                session.forget(id_)
                session.state(id_, "red", error.detail)
                session.short = True
                continue
            mark = hashlib.sha256(
                f"{release.digest}{integration.added_by}{json.dumps(integration.values, sort_keys=True)}".encode()
            ).hexdigest()
            instance = session.instances.get(id_)
            if instance is not None and instance.print == mark:
                instance.integration = integration
                continue
            if instance is not None:
                await self._runner.stop(instance)
            elif running >= most:
                session.state(id_, "red", str(TooManySessions.__doc__))
                session.short = True
                continue
            of = (release.digest, integration.added_by)
            another = instance is not None and (instance.digest, instance.integration.added_by) != of
            needs = Described.model_validate(release.described).manifest.permissions
            rights = await self._rights(session, integration, needs.asks_only) if needs.asks else frozenset[str]()
            lost = instance is not None and bool(instance.rights - rights)
            if lost or (another and session.dashboard not in self.trials.running):  # which only its author looks at
                session.forget(id_)  # another program, or for somebody else: it has not said anything yet
            running += 1
            made = Instance(integration, release.digest, mark, release=release.id, needs=needs, rights=rights)
            session.instances[id_] = made
            self._runner.start(session, made, release)

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
            return await release_of(uow, self._modules, integration)

    async def end(self, session: Session, reason: str) -> None:
        """End a session for all who look."""
        self.sessions.pop(session.key, None)
        for viewer in [*session.hub.viewers, *session.shown.viewers]:
            viewer.end(reason)
        for instance in session.instances.values():
            await self._runner.stop(instance)

    async def close(self) -> None:
        """The process ends."""
        for session in list(self.sessions.values()):
            await self.end(session, "The platform restarts. Look again in a moment.")
