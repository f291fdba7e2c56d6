"""Repositories that modules are kept in: fetched on demand or when a signed webhook says so; a tag makes a release."""

import asyncio
import hashlib
import hmac
import json
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError

from cloister.access import scoped_delete, scoped_get, scoped_select
from cloister.audit import Name, Outcome, record
from cloister.core.errors import CloisterError
from cloister.core.events import SourceWanted
from cloister.core.principal import EVERYTHING, Principal
from cloister.modules import versions
from cloister.modules.archive import MAX_BYTES, unpack
from cloister.modules.building import BuildLog
from cloister.modules.errors import BadSource, ModuleTooLarge, SourceNotFound, WrongSignature
from cloister.modules.models import Module, ModuleSource
from cloister.modules.service import Modules
from cloister.platform import Controller, Database, SecretBox, Settings, UnitOfWork
from cloister.platform.logs import logger
from cloister.sandboxes import CACHE_MOUNT, Environments, Job, Mount, Workshop, copy_untrusted
from cloister.spaces import EgressRule

DULWICH = ["dulwich>=0.22"]
PROGRAM = "/opt/cloister/builds/repository.py"
PURPOSE = "module webhooks"
SIGNATURES = ("X-Hub-Signature-256", "X-Gitea-Signature", "X-Forgejo-Signature")
"""What GitHub, Gitea and Forgejo call the HMAC-SHA256 of a webhook's body."""
MAX_INDEX = 100_000
FETCHING = "fetching"
"""Its state meanwhile; one that is found in it when nothing is fetched was left so by a crash."""
log = logger(__name__)


@dataclass(frozen=True)
class Address:
    """Where a repository is."""

    url: str
    host: EgressRule | None
    folder: Path | None
    """Of this machine, when it is no host's."""


class _Index(BaseModel):
    """What a look at a repository left. It is read as input that nobody trusts."""

    model_config = ConfigDict(extra="forbid")
    commit: str
    versions: list[str]


@dataclass
class Sources:
    """Which module comes from which repository."""

    settings: Settings
    modules: Modules
    box: SecretBox

    def address(self, url: str) -> Address:
        """Check that a repository may be fetched.

        Raises:
            BadSource: saying what may.
        """
        parts = urlsplit(url)
        if parts.scheme == "file" and not parts.netloc:
            return Address(url, None, self._local(Path(unquote(parts.path))))
        try:
            port = parts.port or 443
        except ValueError as error:
            raise BadSource("That is no address.") from error
        if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment:
            raise BadSource("Write the address of a repository as https://HOST/PATH.")
        if parts.username is not None or parts.password is not None:
            raise BadSource(
                "An address with a name or a password in it would show them. Only open repositories can be fetched."
            )
        allowed = [host.lower() for host in self.settings.git_hosts]
        if f"{parts.hostname}:{port}" not in allowed and not (port == 443 and parts.hostname in allowed):
            said = f"It fetches from {', '.join(allowed)}." if allowed else "It fetches from none yet."
            raise BadSource(
                f"This platform does not fetch repositories from {parts.hostname}. {said} An operator decides."
            )
        return Address(url, EgressRule(host=parts.hostname, ports=[port]), None)

    def _local(self, path: Path) -> Path:
        real = path.resolve()
        if not any(real.is_relative_to(root.resolve()) for root in self.settings.git_directories) or not real.is_dir():
            raise BadSource("This platform fetches from no such folder.")
        return real

    async def of(self, uow: UnitOfWork, module: Module) -> ModuleSource:
        """Where a module comes from.

        Raises:
            SourceNotFound: when it is written here.
        """
        found = await scoped_get(uow, ModuleSource, EVERYTHING, module=module.number)
        if found is None:
            raise SourceNotFound
        return found

    async def set(
        self, uow: UnitOfWork, module: Module, url: str, branch: str, folder: str
    ) -> tuple[ModuleSource, str]:
        """Say where a module comes from, and fetch it; return that, and the secret of its webhook, which is new.

        Raises:
            BadSource: when it may not be fetched.
        """
        self.address(url)
        if ".." in PurePosixPath(folder).parts:
            raise BadSource("The folder is one of the repository's.")
        secret = secrets.token_urlsafe(32)
        row = await scoped_get(uow, ModuleSource, EVERYTHING, module=module.number)
        if row is None:
            row = ModuleSource(module=module.number, url=url, branch=branch, folder=folder, secret="", state="waiting")
            uow.session.add(row)
        row.url, row.branch, row.folder = url, branch, folder.strip("/")
        row.secret = self.box.encrypt(secret.encode(), PURPOSE)
        self.want(uow, module, row, "its author set it")
        await uow.session.flush()
        return row, secret

    @staticmethod
    def want(uow: UnitOfWork, module: Module, row: ModuleSource, why: str) -> None:
        """Have it fetched soon."""
        row.state, row.reason = "waiting", None
        record(uow, Name.SOURCE_WANTED, subject=module.name, why=why)
        uow.publish(SourceWanted(module.number))

    async def remove(self, uow: UnitOfWork, module: Module) -> None:
        await self.of(uow, module)
        await uow.session.execute(scoped_delete(ModuleSource, EVERYTHING).where(ModuleSource.module == module.number))
        record(uow, Name.MODULE_CHANGED, subject=module.name, source=None)

    async def heard(self, uow: UnitOfWork, name: str, body: bytes, given: str | None) -> None:
        """A webhook says that a repository has changed.

        Raises:
            WrongSignature: when it is not signed with the source's secret; also when there is no such source.
        """
        module = await scoped_get(uow, Module, EVERYTHING, name=name)
        row = None if module is None else await scoped_get(uow, ModuleSource, EVERYTHING, module=module.number)
        key = secrets.token_bytes(32) if row is None else self.box.decrypt(row.secret, PURPOSE)
        right = hmac.new(key, body, hashlib.sha256).hexdigest()
        shown = (given or "").removeprefix("sha256=").lower().encode()
        if not hmac.compare_digest(right.encode(), shown) or module is None or row is None:
            raise WrongSignature
        self.want(uow, module, row, "a webhook")


class SourceController(Controller):
    """Fetches repositories: the branch becomes the draft, each new tag a release."""

    name = "repositories"
    wakes_on = (SourceWanted,)
    interval = 60.0

    def __init__(self, database: Database, sources: Sources, environments: Environments, workshop: Workshop) -> None:
        super().__init__()
        self._at_once = workshop.settings.builds_at_once
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._closed = False
        self._database = database
        self._sources = sources
        self._modules = sources.modules
        self._environments = environments
        self._workshop = workshop

    async def look(self) -> float | None:
        async with self._database.read() as uow:
            waiting = scoped_select(ModuleSource, EVERYTHING).where(ModuleSource.state.in_(("waiting", FETCHING)))
            rows = (await uow.session.scalars(waiting)).all()
        for row in rows:
            if not self._closed and row.module not in self._tasks and len(self._tasks) < self._at_once:
                self._tasks[row.module] = asyncio.create_task(self._look_after(row), name=f"repository {row.module}")
        return None

    async def _look_after(self, row: ModuleSource) -> None:
        try:
            await self._sync(row)
        except Exception:  # one author's repository must not hold up everybody's
            log.exception("modules.source_failed", module=row.module)
            await self._failed(row)
        finally:
            del self._tasks[row.module]
            self.wake()

    async def close(self) -> None:
        """The process ends; what is not done is done by the next."""
        self._closed = True
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _begin(self, row: ModuleSource) -> bool:
        """Take it up. Whoever asks from now on asks for what comes after this."""
        async with self._database.write() as uow:
            uow.unrecorded("that it has begun; how it ends is recorded")
            current = await scoped_get(uow, ModuleSource, EVERYTHING, module=row.module)
            if current is None:
                return False
            current.state = FETCHING
            row.url, row.branch, row.folder = current.url, current.branch, current.folder
        return True

    async def _failed(self, row: ModuleSource) -> None:
        async with self._database.write() as uow:
            uow.unrecorded("a fault of the platform; it is in the log")
            current = await scoped_get(uow, ModuleSource, EVERYTHING, module=row.module)
            if current is not None and current.state == FETCHING:  # else somebody has asked again meanwhile
                current.state = "failed"
                current.reason = "The platform failed to take it. Its operators find the reason in the log."

    async def _sync(self, row: ModuleSource) -> None:
        async with self._database.read() as uow:
            module = await scoped_get(uow, Module, EVERYTHING, number=row.module)
            releases = [] if module is None else await self._modules.releases(uow, module)
        if module is None or not await self._begin(row):
            return
        said = BuildLog()
        commit = row.commit
        faults: list[str] = []
        try:
            with tempfile.TemporaryDirectory(prefix="cloister-source-") as folder:
                target = Path(folder)
                await self._fetch(row, module, [release.version for release in releases], said, target)
                commit, faults = await self._take(module, target, releases[0].version if releases else None)
        except CloisterError as error:
            faults = [f"{error.detail} {said.end_of(300)}".strip()]
        async with self._database.write(Principal(person=module.author, kind="source")) as uow:
            current = await scoped_get(uow, ModuleSource, EVERYTHING, module=row.module)
            outcome = Outcome.FAILED if faults else Outcome.OK
            record(uow, Name.SOURCE_FETCHED, subject=module.name, outcome=outcome, commit=commit, reason=faults or None)
            if current is not None and current.state == FETCHING:  # else somebody has asked again meanwhile
                current.state, current.reason = ("failed", "\n".join(faults)) if faults else ("done", None)
                current.commit, current.synced_at = commit, self._modules.clock.now()

    async def _fetch(self, row: ModuleSource, module: Module, known: list[str], log: BuildLog, target: Path) -> None:
        address = self._sources.address(row.url)  # again: what operators allow may have changed
        built = await self._environments.ensure(DULWICH)
        mounts: tuple[Mount, ...] = ()
        url = row.url
        with tempfile.TemporaryDirectory(prefix="cloister-repository-") as copy:
            if address.folder is not None:
                await asyncio.to_thread(copy_untrusted, address.folder, Path(copy), self._workshop.disk_bytes)
                mounts, url = (Mount(copy, CACHE_MOUNT),), CACHE_MOUNT
            job = Job(
                command=("python3", PROGRAM, url, row.branch, row.folder, json.dumps(known)), environment=built.path,
                mounts=mounts, hosts=() if address.host is None else (address.host,), person=module.author,
            )  # fmt: skip
            await self._workshop.make(job, log.say, target)

    async def _take(self, module: Module, folder: Path, highest: str | None) -> tuple[str, list[str]]:
        """Make what was fetched the module's; return the branch's commit, and what was wrong with which tag."""
        index = await asyncio.to_thread(_read_index, folder)
        faults = []
        for version in index.versions:
            if highest is not None and versions.parse(version) <= versions.parse(highest):
                continue  # a tag from before: releases only go up
            try:
                files = await asyncio.to_thread(_read_zip, folder / f"{version}.zip")
                async with self._database.write(Principal(person=module.author, kind="source")) as uow:
                    current = await self._current(uow, module)
                    await self._modules.replace(uow, current, files)
                    await self._modules.publish(uow, current, version)
            except CloisterError as error:
                faults.append(f"{version}: {error.detail}")
        files = await asyncio.to_thread(_read_zip, folder / "branch.zip")
        async with self._database.write(Principal(person=module.author, kind="source")) as uow:
            await self._modules.replace(uow, await self._current(uow, module), files)
        return index.commit, faults

    @staticmethod
    async def _current(uow: UnitOfWork, module: Module) -> Module:
        found = await scoped_get(uow, Module, EVERYTHING, number=module.number)
        if found is None:
            raise SourceNotFound
        return found


def _read_index(folder: Path) -> _Index:
    path = folder / "index.json"
    try:
        if path.stat().st_size > MAX_INDEX:
            raise BadSource("The repository has too many tags.")
        index = _Index.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise BadSource("The repository could not be read.") from error
    for version in index.versions:
        versions.parse(version)  # each is a file's name, too
    return index


def _read_zip(path: Path) -> dict[str, bytes]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModuleTooLarge
        return unpack(path.read_bytes())
    except OSError as error:
        raise BadSource("The repository could not be read.") from error
