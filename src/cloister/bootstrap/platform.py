"""Everything, put together from settings."""

import asyncio
import contextlib
import fcntl
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

from cloister.access import Bindings, Decider
from cloister.airlock import Airlock, AirlockController
from cloister.airlock import register_inner as register_airlock
from cloister.audit import CheckpointController, Recorder, seal
from cloister.blueprint import Blueprints, Endings
from cloister.bootstrap.backends import backend_of
from cloister.bootstrap.housekeeping import HousekeepingController
from cloister.bootstrap.migrations import upgrade_schema
from cloister.core.clock import Clock
from cloister.core.errors import Conflict
from cloister.core.principal import Role
from cloister.dashboards import Dashboards, LiveSessions, Runner, Shares, Tickets
from cloister.datasets import Datasets, GrantPeriodController, Grants, VersionController
from cloister.gateway import CaddyController, Decisions, Entering, Gateway, Hosts, Outflows, Presence
from cloister.identity import (
    Claims,
    Confirmations,
    OidcSignIn,
    Person,
    Sessions,
    SignedIn,
    Tokens,
    canonical_email,
    get_person,
)
from cloister.insight import AnomalyController, Machines, UptimeController
from cloister.modules import BuildController, Files, Layers, Modules, ShippedModules, SourceController, Sources
from cloister.platform import (
    Bus,
    Controller,
    Database,
    ObjectStore,
    OidcProvider,
    SecretBox,
    Settings,
    UnitOfWork,
)
from cloister.platform.logs import logger
from cloister.platform.mail import MailController
from cloister.platform.operations import Operations
from cloister.query import (
    Broker,
    EditionController,
    GrantedData,
    Relations,
    SandboxConverter,
    Workers,
    register_inner,
)
from cloister.sandboxes import (
    Backend,
    EgressProxy,
    EnvironmentController,
    Environments,
    Images,
    InnerApi,
    SandboxController,
    Sandboxes,
    Snapshots,
    VolumeDisks,
    VolumeFiles,
    Workshop,
    install_agent,
    take_over,
)
from cloister.spaces import AdmissionController, Enrolments, Spaces
from cloister.workspaces import Capacity, SnapshotController, WorkspaceController, Workspaces

log = logger(__name__)


class StateInUse(Conflict):
    """Another Cloister process uses this state directory."""

    code = "platform.state_in_use"


def part_directory(name: str) -> Path:
    """Files that are no part of the control plane's code: in the package when installed, beside it in a checkout."""
    package = Path(__file__).parent.parent
    for candidate in (package / f"_{name}", package.parent.parent / name):
        if candidate.is_dir():
            return candidate
    message = f"the {name} are missing from this installation"
    raise FileNotFoundError(message)


class Platform:
    """All services of one process."""

    def __init__(self, settings: Settings, *, clock: Clock | None = None, backend: Backend | None = None) -> None:
        self.settings = settings
        self.clock = clock or Clock()
        settings.state_directory.mkdir(parents=True, exist_ok=True)
        if settings.state_directory.stat().st_uid == os.geteuid():
            settings.state_directory.chmod(
                0o711
            )  # sandboxes' files are reached through it; what is beside them is closed
        settings.run_directory.mkdir(parents=True, exist_ok=True)
        settings.run_directory.chmod(0o711)
        self.bus = Bus(settings.run_directory / "bus.sock")
        self.database = Database(
            settings.database_dsn, seal=seal, publish=self.bus.publish, pool=settings.database_pool
        )
        self.box = SecretBox.from_settings(settings)
        self.objects = ObjectStore.from_settings(settings)
        self.recorder = Recorder(self.database)
        self.operations = Operations(self.database, self.clock)
        self.checkpoints = CheckpointController(
            self.database, self.box.signing_key("audit checkpoints"), self.clock,
            settings.audit_checkpoint_seconds, settings.audit_checkpoint_directory,
        )  # fmt: skip
        self._identity()
        self._spaces()
        self._sandboxes(backend)
        self._data()
        self._modules()
        self._lock: IO[str] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.operator_secret: str | None = None

    def _identity(self) -> None:
        self.sessions = Sessions(self.database, self.settings, self.clock)
        self.tokens = Tokens(self.database, self.clock)
        self.signed_in = SignedIn(self.sessions, self.tokens)
        self.confirmations = Confirmations(self.box, self.clock, self.settings.public_url)
        self.oidc = OidcSignIn(self.settings.oidc_providers, self.box, self.settings.public_url)

    def _spaces(self) -> None:
        self.bindings = Bindings(self.clock)
        self.enrolments = Enrolments(self.bindings, self.clock)
        self.decider = Decider(self.bindings, self.clock, self.enrolments.explain)
        self.spaces = Spaces(self.bindings, self.clock)
        self.admission = AdmissionController(self.database, self.enrolments, self.clock, self.settings.public_url)

    def _sandboxes(self, backend: Backend | None) -> None:
        settings = self.settings
        agent = install_agent(part_directory("runtimes"), settings.run_directory)
        self.backend = backend or backend_of(settings, agent)
        python = settings.sandbox_python or Path(os.path.realpath("/proc/self/exe"))
        self.environments = Environments(
            settings.environment_directory or settings.state_directory / "environments", python
        )
        self.disks = VolumeDisks(settings)
        self.proxy = EgressProxy(settings, self.recorder)
        self.inner = InnerApi(settings, self.recorder, self.proxy, self.box.derive("sandbox access tokens"))
        self.sandboxes = Sandboxes(settings, self.backend, self.environments, self.disks, self.clock)
        self.sandbox_controller = SandboxController(
            settings, self.database, self.backend, self.inner, self.disks, self.bus, self.clock, self.recorder
        )
        controller = self.sandbox_controller
        self.volume_files = VolumeFiles(self.database, self.sandboxes, controller.volumes, controller.swept.wait)
        self.snapshots = Snapshots(self.database, self.sandboxes, controller.volumes, self.clock)
        self.sandboxes.blanks, self.sandboxes.leases = controller.blanks, controller.leases
        self.workshop = Workshop(
            settings, self.backend, self.inner, self.disks, controller.place, controller.swept.wait
        )
        self.images = Images(settings.state_directory / "images", self.environments, self.workshop)
        self.sandboxes.images = self.images

    def _data(self) -> None:
        self.datasets = Datasets(self.objects, self.operations, self.clock)
        self.grants = Grants(self.clock)
        self.converter = SandboxConverter(
            self.settings,
            self.database,
            self.sandboxes,
            self.sandbox_controller,
            self.environments,
            self.disks,
            self.bus,
        )
        self.relations = Relations(
            self.database, self.objects, self.datasets, self.grants, self.clock, self.converter, self.bus
        )
        self.workers = Workers(
            self.settings, self.database, self.sandboxes, self.sandbox_controller, self.environments,
            self.relations, self.bus,
        )  # fmt: skip
        self.broker = Broker(
            self.settings,
            self.database,
            self.relations,
            self.workers,
            self.recorder,
            self.decider,
            self.bus,
            self.clock,
        )
        self._workspaces()
        access = GrantedData(self.relations, self.bindings, self.clock)
        self.sandboxes.data_access = self.sandbox_controller.data_access = access
        register_inner(self.inner, self.broker, self.relations, self.decider, self.database)
        self.versions = VersionController(
            self.settings, self.database, self.objects, self.operations, self.converter, self.clock
        )
        self.endings = Endings(
            self.database, self.objects, self.disks, self.sandbox_controller, self.bindings, self.clock
        )
        self.blueprints = Blueprints(self.settings, self.database, self.spaces, self.datasets, self.grants)

    def _modules(self) -> None:
        self.modules = Modules(Files(self.objects, self.settings.state_directory / "modules"), self.clock)
        settings, workshop = self.settings, self.workshop
        self.layers = Layers(
            self.modules.files,
            self.environments,
            workshop,
            self.sandboxes,
            part_directory("runtimes") / "go",
            settings.build_hosts,
        )
        self.machines = Machines(
            settings, self.database, self.backend, self.clock, self.environments, self.images, self.layers
        )
        self.builds = BuildController(self.database, self.modules, self.layers, settings.builds_at_once)
        self.sources = Sources(settings, self.modules, self.box)
        self.repositories = SourceController(self.database, self.sources, self.environments, workshop)
        self.dashboards = Dashboards(self.modules, self.box, self.clock)
        self.shares = Shares(self.modules, self.grants, self.clock)
        self.tickets = Tickets()
        runner = Runner(
            self.database, self.dashboards, self.modules, self.sandboxes, self.sandbox_controller, self.inner, self.bus,
            self.clock, self.layers,
        )  # fmt: skip
        self.live = LiveSessions(self.database, self.modules, self.grants, runner, self.bus, settings.share_variants)
        self.shares.asking = self.live.asking

    def _workspaces(self) -> None:
        settings = self.settings
        self.workspaces = Workspaces(self.sandboxes, self.clock)
        self.capacity = Capacity(self.workspaces, self.clock)
        self.airlock = Airlock(
            settings, self.database, self.objects, self.workspaces, self.volume_files, self.bindings, self.recorder,
            self.clock,
        )  # fmt: skip
        register_airlock(self.inner, self.airlock, self.decider)
        self.presence = Presence(self.clock)
        self.workspace_controller = WorkspaceController(
            self.database,
            self.workspaces,
            self.sandbox_controller,
            self.clock,
            self.presence,
            settings.workspace_answer_seconds,
        )
        self.hosts = Hosts.of(settings.public_url, settings.gateway_domain)
        self.entering = Entering(self.hosts, self.clock)
        self.decisions = Decisions(
            self.database, self.sessions, self.tokens, self.decider, self.entering, self.recorder, self.bus
        )
        self.outflows = Outflows(self.database, self.clock, self.bus)
        self.caddy = CaddyController(settings, self.environments.root)
        managed = {"gateway": self.caddy.ping} if settings.gateway == "managed" else {}
        checks = {"database": self.database.ping, "objects": self.objects.ping, **managed}
        self.uptime = UptimeController(self.database, self.clock, settings.state_directory / "seen.json", checks)
        self.gateway = Gateway(
            settings, self.database, self.decisions, self.entering, self.workspaces, self.sandbox_controller,
            self.outflows, self.presence, self.recorder, self.bus, self.clock,
        )  # fmt: skip

    async def on_sign_in(
        self,
        uow: UnitOfWork,
        person: Person,
        claims: Claims,
        provider: OidcProvider | None,
        groups: tuple[str, ...],
    ) -> None:
        """What a sign-in entitles to: the operator's list, directory groups, roles declared for an address."""
        operators = {canonical_email(address) for address in self.settings.operators}
        if claims.email_trusted and person.canonical_email in operators:
            await self.bindings.grant(uow, person.number, Role.OPERATOR, source="settings")
        await self.spaces.on_sign_in(uow, person, claims, provider, groups)

    def lock_state(self) -> None:
        """Make this the only process that acts on the state directory.

        Raises:
            StateInUse: when another does.
        """
        file = (self.settings.run_directory / "lock").open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise StateInUse from error
        self._lock = file

    async def _operators_by_settings(self) -> None:
        """Whoever is no longer on the operator's list is no longer an operator."""
        listed = {canonical_email(address) for address in self.settings.operators}
        async with self.database.write() as uow:
            uow.unrecorded("nothing, when the list is as it was")
            for binding in await self.bindings.in_space(uow, "", Role.OPERATOR):
                person = await get_person(uow, binding.person)
                if binding.source == "settings" and person.canonical_email not in listed:
                    await self.bindings.revoke(uow, binding.person, space="", role=Role.OPERATOR, source="settings")

    def controllers(self) -> list[Controller]:
        shipped = ShippedModules(self.database, self.modules, part_directory("modules"))
        return [
            self.sandbox_controller,
            self.sandbox_controller.blanks,
            self.admission,
            self.versions,
            EnvironmentController(self.database, self.environments, self.backend),
            self.workers,
            GrantPeriodController(self.database, self.bus, self.clock),
            EditionController(self.database, self.relations),
            self.workspace_controller,
            SnapshotController(self.database, self.snapshots, self.clock),
            self.outflows,
            AirlockController(self.airlock),
            *([self.caddy] if self.settings.gateway == "managed" else []),
            MailController(self.database, self.settings, self.clock),
            *([shipped] if self.settings.shipped_modules else []),
            self.builds,
            self.repositories,
            self.live,
            self.checkpoints,
            AnomalyController(self.database, self.backend, self.clock),
            self.uptime,
            HousekeepingController(self.database, self.clock),
        ]

    async def start(self) -> None:
        """Take the state directory, bring the schema up to date and let the controllers run.

        Raises:
            StateInUse: when another process has the state directory.
        """
        self.lock_state()
        await take_over(self.settings.run_directory)
        await upgrade_schema(self.database)
        await self._operators_by_settings()
        self.bus.listen()
        if self.settings.gateway != "off":
            await self.gateway.start()
        self.operator_secret = await asyncio.to_thread(_write_operator_secret, self.settings.run_directory)
        self._tasks = [
            asyncio.create_task(controller.run(self.bus), name=f"controller {controller.name}")
            for controller in self.controllers()
        ]

    async def stop(self, *, stop_sandboxes: bool = False) -> None:
        """Let the controllers end. Sandboxes go on, for the next process to adopt, unless they are to stop."""
        await self.gateway.stop()
        for part in (self.live, self.builds, self.repositories):
            await part.close()
        await self.sandbox_controller.shut_down(stop_sandboxes=stop_sandboxes)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await self.uptime.close()
        await self.caddy.stop()
        await self.backend.close()
        await self.recorder.flush()
        self.bus.close()
        (self.settings.run_directory / "operator-token").unlink(missing_ok=True)
        await self.database.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @contextlib.asynccontextmanager
    async def running(self, *, stop_sandboxes: bool = False) -> AsyncIterator["Platform"]:
        await self.start()
        try:
            yield self
        finally:
            await self.stop(stop_sandboxes=stop_sandboxes)


def _write_operator_secret(folder: Path) -> str:
    """A key for commands on this machine, new with every start, readable by this user alone."""
    secret = secrets.token_urlsafe(32)
    path = folder / "operator-token"
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secret)
    return secret
