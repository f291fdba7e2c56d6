"""Builds in sandboxes: what strangers wrote is installed, compiled or fetched where no team and no data are.

A build belongs to no space. It has every wall of a sandbox, a user id that no team has, a disk of its own with a hard
limit, and no way out but to the hosts that it is given. What it leaves is read when nothing of it runs any more, as
files that nobody trusts. It is in no row: whatever a crash leaves of it is swept, and the build is done again.
"""

import asyncio
import os
import secrets
import shutil
import signal
import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloister.core.ids import new_id
from cloister.identity import secret_hash
from cloister.platform import Settings
from cloister.platform.objects import remove_tree
from cloister.sandboxes.errors import BuildFailed
from cloister.sandboxes.inner import Connected, InnerApi
from cloister.sandboxes.output import OutputLog
from cloister.sandboxes.ports import Backend
from cloister.sandboxes.programs import program_environ
from cloister.sandboxes.spec import HOME, Companion, Mount, Place, SandboxSpec
from cloister.sandboxes.starting import make_place, start_error, tail
from cloister.sandboxes.volumes_privileged import VolumeDisks
from cloister.spaces import EgressRule, Size

UID_OFFSET = 50_000_000
"""Beyond the user ids of all teams."""
PREFIX = "build-"
CERTIFICATES = "/data/certificates.pem"
RESULT = f"{HOME}/result"
"""Where a build leaves what it made."""

Said = Callable[[str, str], None]
"""Called with the level and text of each piece of output."""


@dataclass(frozen=True)
class Job:
    """One build."""

    command: tuple[str, ...]
    environment: Path | None = None
    mounts: tuple[Mount, ...] = ()
    environ: tuple[tuple[str, str], ...] = ()
    hosts: tuple[EgressRule, ...] = ()
    links: bool = False
    """Whether links that lead anywhere are kept: of what becomes a root file system, where they lead inside it."""
    person: int | None = None
    """Whose wish it is, for the record of what it reaches."""


@dataclass
class Workshop:
    """Runs builds, each in a sandbox of its own."""

    settings: Settings
    backend: Backend
    inner: InnerApi
    disks: VolumeDisks
    place: Callable[[str], Place]
    ready: Callable[[], Awaitable[object]]
    """Returns when what an earlier process left has been swept: before, a build would be taken for a leftover."""
    swept: bool = False

    @property
    def disk_bytes(self) -> int:
        """How much a build may leave."""
        return self.settings.build_disk_megabytes * 2**20

    async def make(self, job: Job, said: Said, target: Path) -> None:
        """Run a build to its end, and copy what it made into a folder.

        Raises:
            BuildFailed: when it failed, took too long, or needed more than its limits.
            BackendFailed, VolumeFailed: when it could not be started.
        """
        await self._sweep()
        size = Size(
            cpus=self.settings.build_cpus, memory=f"{self.settings.build_memory_megabytes}M", scratch="256M",
            disk=f"{self.disk_bytes >> 20}M", processes=512, files=4096,
        )  # fmt: skip
        id_, token = new_id("sbx"), secrets.token_urlsafe(32)
        place, volume = self.place(id_), f"{PREFIX}{id_}"
        mounts, environ = job.mounts, {**program_environ(), **dict(job.environ)}
        if self.settings.build_certificates is not None:
            mounts = (*mounts, Mount(str(self.settings.build_certificates), CERTIFICATES))
            environ["SSL_CERT_FILE"] = CERTIFICATES
        environ["NODE_EXTRA_CA_CERTS"] = environ[
            "SSL_CERT_FILE"
        ]  # Node has its own list, and adds to it what this names
        spec = SandboxSpec(
            command=job.command, environment=None if job.environment is None else str(job.environment),
            size=size.model_dump(), mounts=mounts, environ=environ,
            egress=bool(job.hosts), queries=False,
        )  # fmt: skip
        uid = self.settings.sandbox_uid_base + UID_OFFSET

        async def keep(_current: str, _following: str | None) -> None:
            """No later process takes it up, so its tokens need not be written down."""

        connected = Connected(
            id=id_, space="", team=None, person=job.person, place=place, assignment=spec.assignment(),
            rules=list(job.hosts), queries=False, queries_of=None, token_hash=secret_hash(token), next_token_hash=None, save_tokens=keep,
            output=OutputLog(place.log, self.settings.sandbox_output_bytes, Companion(on_output=said)),
        )  # fmt: skip
        await asyncio.to_thread(make_place, place, token)
        try:
            await self.disks.create(volume, size.disk_bytes, uid)
            disk = await self.disks.mount(volume)
            await self.inner.open(connected)
            pid = await self.backend.start(id_, spec, place, uid, disk)
            await self._finish(connected, pid)
            await self.backend.remove(id_, place)  # nothing of it runs while what it left is read
            await asyncio.to_thread(copy_untrusted, disk / "result", target, size.disk_bytes, links=job.links)
        finally:
            await self.inner.close(connected)
            await self.backend.remove(id_, place)
            await self.disks.delete(volume)
            await asyncio.to_thread(remove_tree, place.root)

    async def _finish(self, connected: Connected, pid: int) -> None:
        gone = asyncio.ensure_future(self.backend.wait(pid))
        try:
            waits: set[asyncio.Future[Any]] = {gone, connected.exited}
            await asyncio.wait(waits, timeout=self.settings.build_seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
        if connected.exited.done():
            code = connected.exited.result()
            if code:
                raise BuildFailed(f"The build {_how(code)}.")
        elif not gone.done() or gone.cancelled():
            raise BuildFailed(f"The build took longer than {self.settings.build_seconds:g} seconds.")
        elif not connected.started.is_set():
            raise start_error(await asyncio.to_thread(tail, connected.place.agent_log), ended=True)
        else:
            raise BuildFailed(f"The build {_how(-signal.SIGKILL)}.")

    async def _sweep(self) -> None:
        await self.ready()
        if not self.swept:
            self.swept = True
            for volume in await asyncio.to_thread(self.disks.named, PREFIX):
                await self.disks.delete(volume)


def _how(code: int) -> str:
    if code == -signal.SIGKILL:
        return "was killed, most likely for using more memory than builds may"
    return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"


def copy_untrusted(source: Path, target: Path, limit: int, *, links: bool = False) -> None:
    """Copy a tree that nobody trusts: files, folders, and links that stay inside it; nothing is followed.

    Raises:
        BuildFailed: naming what else there was, or when it is more than ``limit`` bytes.
    """
    if source.is_symlink() or not source.is_dir():
        raise BuildFailed("It left nothing.")
    for folder, folders, names in os.walk(source, followlinks=False):
        here = Path(folder)
        there = target / here.relative_to(source)
        there.mkdir(exist_ok=True)
        there.chmod(0o755)
        for name in [*folders, *names]:
            path = here / name
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode) and links:
                (there / name).symlink_to(path.readlink())
            elif stat.S_ISLNK(mode):
                _copy_link(source, path, there / name)
            elif stat.S_ISREG(mode):
                limit -= path.lstat().st_size
                if limit < 0:  # it may pretend to any size: with holes, or with many names for one file
                    raise BuildFailed("It is more than a build's disk can hold.")
                _copy_file(path, there / name)
            elif not stat.S_ISDIR(mode):
                raise BuildFailed(f"In it is {path.relative_to(source)}, which is neither a file nor a folder.")


def _copy_link(root: Path, link: Path, target: Path) -> None:
    leads = os.path.normpath(link.parent.relative_to(root) / link.readlink())
    if leads.startswith(("/", "..")):
        raise BuildFailed(f"In it is {link.relative_to(root)}, a link that leads out of it.")
    target.symlink_to(link.readlink())


def _copy_file(source: Path, target: Path) -> None:
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file, target.open("xb") as copy:
        shutil.copyfileobj(file, copy, 1024 * 1024)
        copy.flush()
    target.chmod(0o755 if source.lstat().st_mode & 0o100 else 0o644)
