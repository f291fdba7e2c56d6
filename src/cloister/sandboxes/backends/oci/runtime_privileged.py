"""Runs the OCI runtime. This file starts processes and enters mount namespaces; nothing else does either."""

import asyncio
import contextlib
import ctypes
import hashlib
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

from cloister.platform import Settings
from cloister.platform.files import write_whole
from cloister.platform.finishing import to_the_end
from cloister.platform.logs import logger
from cloister.sandboxes.backends.oci import doctor_privileged as doctor
from cloister.sandboxes.backends.oci.bundle import (
    LINKS,
    MOUNT_POINTS,
    USER,
    USR_LINKS,
    Layout,
    Python,
    config,
    resources,
)
from cloister.sandboxes.backends.oci.seccomp import profile
from cloister.sandboxes.backends.oci.zygote_privileged import Zygote
from cloister.sandboxes.errors import BackendFailed
from cloister.sandboxes.ports import Usage, Wall
from cloister.sandboxes.processes_privileged import ended, exit_code_of, output_of
from cloister.sandboxes.spec import Place, SandboxSpec

log = logger(__name__)
_HIDE = 'umount /sys/fs/cgroup/unified && exec "$@"'
_COVER = 'mount -t tmpfs none /sys/fs/cgroup/unified && exec "$@"'
DELETE_SECONDS = 30.0
HIDDEN = ("unshare", "--mount", "--propagation", "slave", "sh", "-c", _HIDE, "sh")
COVERED = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _COVER, "sh")
"""crun refuses hosts with both cgroup versions mounted: it is started where the second cannot be seen. Only root may
unmount it; anybody may cover it in a user namespace of their own."""


class OciBackend:
    """crun, runc or runsc, one process tree per sandbox."""

    def __init__(self, settings: Settings, agent: Path) -> None:
        self._usual = settings.oci_runtime
        self._root = settings.run_directory / "oci"
        self._root.mkdir(parents=True, exist_ok=True)
        self._root.chmod(0o700)
        rootless = os.geteuid() != 0
        # The runtime leaves its sandboxes behind; as their reaper we see them end, whatever process 1 here does.
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._hybrid = doctor.hybrid()
        self._host = doctor.examine(settings)
        self._warm = settings.warm_starts
        self.zygote: Zygote | None = None
        python = Python.of(settings.sandbox_python)
        self.layout = Layout(
            # The runtime looks this up as the sandbox's user, so every folder above it must be searchable by all.
            rootfs=self._root / "rootfs" if rootless else settings.sandbox_rootfs,
            etc=self._root / "etc",
            agent=agent,
            python=python,
            empty=self._root / "empty",
            hidden=tuple(python.packages()),
            seccomp=profile(),
            root_uid=settings.sandbox_uid_base,
            cgroup="cloister-" + hashlib.sha256(os.fsencode(self._root)).hexdigest()[:10],
            own_uid=(0 if self._hybrid and self._usual == "crun" else os.geteuid()) if rootless else None,
        )
        self._images = settings.sandbox_rootfs.parent / "images"
        _write_rootfs(self.layout.rootfs)
        _write_etc(self.layout.etc)
        self.layout.empty.mkdir(exist_ok=True)

    def walls(self) -> list[Wall]:
        return self._host.walls

    def _bundle(self, id_: str) -> Path:
        return self._root / "bundles" / id_

    def _runtime(self, id_: str) -> str:
        """What runs a sandbox, also after a restart: it is kept beside its bundle."""
        kept = ""
        with contextlib.suppress(FileNotFoundError):
            kept = (self._bundle(id_) / "runtime").read_text()
        return kept or self._usual

    def _command(self, runtime: str, *arguments: str, limits: bool = False) -> list[str]:
        base = [runtime, "--root", str(self._root / runtime)]
        if runtime == "crun":
            base.append("--cgroup-manager=" + ("disabled" if self.layout.rootless else "cgroupfs"))
        elif runtime == "runsc":
            base += [
                "--network=none",
                "--platform=systrap",
                *(["--rootless", "--ignore-cgroups"] if self.layout.rootless else []),
            ]
        base += arguments
        if limits and self._hybrid and not (self.layout.rootless and runtime != "crun"):
            return [*(COVERED if self.layout.rootless else HIDDEN), *base]
        return base

    async def start(self, id_: str, spec: SandboxSpec, place: Place, uid: int, volume: Path | None) -> int:
        if (pid := await self.alive(id_)) is not None:
            return pid
        if spec.image is None or self.layout.rootless:
            return await self._run(id_, spec, place, uid, volume)
        async with self._reachable(id_, f"{spec.image}/rootfs") as root:
            return await self._run(id_, spec, place, uid, volume, root)

    @contextlib.asynccontextmanager
    async def _reachable(self, id_: str, source: str) -> AsyncIterator[Path]:
        """An image's files where the sandbox's user may look them up, until the sandbox has them in its own namespace."""
        point = self._images / id_
        await asyncio.to_thread(point.mkdir, parents=True, exist_ok=True)
        code, output = await output_of("mount", "--bind", source, str(point))
        if code != 0:
            raise BackendFailed(f"The image could not be mounted: {output[-500:]}")
        try:
            yield point
        finally:
            await self._forget_image(point)

    @staticmethod
    async def _forget_image(point: Path) -> None:
        await output_of("umount", "--lazy", str(point))  # it may not be mounted any more
        try:
            await asyncio.to_thread(point.rmdir)
        except OSError as error:  # an empty folder is no reason for a sandbox that runs to count as failed
            log.warning("sandbox.image_point_left", path=str(point), error=str(error))

    async def _run(
        self, id_: str, spec: SandboxSpec, place: Place, uid: int, volume: Path | None, root: Path | None = None
    ) -> int:
        bundle = self._bundle(id_)
        document = json.dumps(config(id_, spec, place, self.layout, uid, volume, root))
        uid_outside = None if self.layout.rootless else uid
        # When this is cancelled, what the thread makes is there when `remove` looks, and not after.
        await to_the_end(asyncio.to_thread(_prepare, bundle, place, document, uid_outside))
        runtime = "runsc" if spec.gvisor else self._usual
        await asyncio.to_thread(write_whole, bundle / "runtime", runtime)
        pid_file = bundle / "pid"
        command = self._command(
            runtime, "run", "--detach", "--pid-file", str(pid_file), "--bundle", str(bundle), id_, limits=True
        )
        # The agent inherits the error stream; a file, so that it outlives this process.
        with await asyncio.to_thread(place.agent_log.open, "wb") as errors:
            # It takes some 30 ms; what it started is adopted or reaped by id. runsc leaves its own kernel beside that.
            code = await exit_code_of(*command, errors=errors, leaves_one=runtime == "runsc")
        if code != 0:
            said = (await asyncio.to_thread(place.agent_log.read_text, errors="replace")).strip()[-2000:]
            log.error("sandbox.runtime_failed", sandbox=id_, runtime=runtime, code=code, output=said)
            await self.remove(id_, place)
            raise BackendFailed(f"{runtime}: {said or f'exit {code}'}")
        return int(await asyncio.to_thread(pid_file.read_text))

    async def warm_up(self, packages: Path) -> None:
        if self.layout.rootless or not self._warm or (self.zygote and self.zygote.packages == packages):
            return
        old, self.zygote = self.zygote, Zygote(packages, self.layout, self._root)
        if old is not None:
            await old.stop()
        try:
            await self.zygote.start()
        except (OSError, TimeoutError) as error:  # then programs are started from their files, as always
            log.warning("zygote.unavailable", error=str(error))

    async def fork_in(self, id_: str, spec: SandboxSpec, pid: int, token: str) -> bool:
        zygote = self.zygote
        if zygote is None or not any(mount.source == str(zygote.packages) for mount in spec.mounts):
            return False
        return await zygote.fork(id_, spec, pid, _cgroups(self.layout.cgroup, id_), token)

    async def close(self) -> None:
        if self.zygote is not None:
            await self.zygote.stop()
            self.zygote = None
        await asyncio.to_thread(_leave, self.layout.cgroup)

    async def alive(self, id_: str) -> int | None:
        if not self._bundle(id_).exists():
            return None
        code, output = await output_of(*self._command(self._runtime(id_), "state", id_), may_end=True)
        if code != 0:
            log.warning("sandbox.not_known", sandbox=id_, output=output[-500:])
            return None
        state = json.loads(output[output.index("{") :])
        return int(state["pid"]) if state.get("status") in {"running", "created", "paused"} else None

    async def wait(self, pid: int) -> None:
        await ended(pid)

    async def remove(self, id_: str, place: Place) -> None:
        bundle = self._bundle(id_)
        groups = _cgroups(self.layout.cgroup, id_)
        if (self._images / id_).exists():  # a process that was killed while it started this one has left it
            await self._forget_image(self._images / id_)
        if not bundle.exists() and not groups and not place.app_mount.is_mount():
            return
        runtime = self._runtime(id_)
        try:
            async with asyncio.timeout(DELETE_SECONDS if groups else None):
                code, output = await output_of(*self._command(runtime, "delete", "--force", id_), may_end=True)
        except TimeoutError:  # it may try for ever; what is in its control groups is killed below
            code, output = 1, f"it did not end within {DELETE_SECONDS:g} s"
            await asyncio.to_thread(shutil.rmtree, self._root / runtime / id_, ignore_errors=True)
        if code != 0 and "does not exist" not in output and "No such file" not in output:
            log.warning("sandbox.delete_failed", sandbox=id_, output=output[-500:])
        for group in _cgroups(self.layout.cgroup, id_):
            await asyncio.to_thread(_kill_cgroup, group)
        if place.app_mount.is_mount():
            await asyncio.to_thread(unmount, place.app_mount)
        await asyncio.to_thread(shutil.rmtree, bundle, ignore_errors=True)

    async def resize(self, id_: str, spec: SandboxSpec) -> bool:
        runtime = self._runtime(id_)
        if self.layout.rootless or runtime == "runsc" or await self.alive(id_) is None:
            return False
        wanted = self._bundle(id_) / "resources.json"
        await asyncio.to_thread(write_whole, wanted, json.dumps(resources(spec)))
        code, output = await output_of(
            *self._command(runtime, "update", "--resources", str(wanted), id_, limits=True), may_end=True
        )
        if code != 0:  # less memory than it uses cannot be set, for instance
            log.info("sandbox.not_resized", sandbox=id_, output=output[-500:])
        return code == 0

    async def usage(self, id_: str) -> Usage | None:
        return await asyncio.to_thread(_usage, self.layout.cgroup, id_)

    async def known(self) -> set[str]:
        bundles = self._root / "bundles"
        known = {path.name for path in bundles.iterdir()} if bundles.exists() else set()
        return known | {path.name for path in _cgroups(self.layout.cgroup, "*")}


_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_CHILD_SUBREAPER = 36
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MNT_DETACH = 2, 4, 8, 2


def mount_tmpfs(target: Path, options: str) -> None:
    """Mount a small file system in memory; nothing on it can be run, nor be a device.

    Raises:
        OSError: when the kernel refuses.
    """
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    if _LIBC.mount(b"tmpfs", os.fsencode(target), b"tmpfs", flags, options.encode()) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


def unmount(target: Path) -> None:
    if _LIBC.umount2(os.fsencode(target), _MNT_DETACH) != 0:
        log.warning("sandbox.unmount_failed", path=str(target), error=os.strerror(ctypes.get_errno()))


def _prepare(bundle: Path, place: Place, document: str, uid: int | None) -> None:
    bundle.mkdir(parents=True, exist_ok=True)
    (bundle / "config.json").write_text(document)
    for folder in (place.sockets, place.app_mount):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
    if uid is not None and not place.app_mount.is_mount():
        # A file system of its own bounds what can be written there. The flags are set here because crun drops them
        # from writable binds when it runs as root with a user namespace; a bind inherits them from its source.
        mount_tmpfs(place.app_mount, "size=256k,nr_inodes=32,mode=0711")
    place.app.mkdir(exist_ok=True)
    place.app.chmod(0o700)
    if uid is not None:
        os.chown(place.app, uid, uid)


def _write_rootfs(root: Path) -> None:
    """Nothing but mount points and links; shared by all sandboxes, read-only."""
    for name in MOUNT_POINTS:
        (root / name).mkdir(parents=True, exist_ok=True)
    for name, leads in LINKS.items():
        if not (root / name).is_symlink():
            (root / name).symlink_to(leads)
    for name in USR_LINKS:
        link = root / name
        if not link.is_symlink() and (Path("/usr") / name).exists():
            link.symlink_to(f"usr/{name}")
    for name in ("tmp", "var/tmp", "home/user"):  # runc gives a mount the mode of its mount point
        (root / name).chmod(0o1777)
    root.chmod(0o755)


def _write_etc(etc: Path) -> None:
    etc.mkdir(parents=True, exist_ok=True)
    etc.chmod(0o755)
    texts = {
        "passwd": f"root:x:0:0:root:/:/usr/sbin/nologin\nuser:x:{USER}:{USER}:user:/home/user:/bin/bash\n",
        "group": f"root:x:0:\nuser:x:{USER}:\n",
        "hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
        "hostname": "sandbox\n",
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\nservices: files\nprotocols: files\n",
    }
    for name, text in texts.items():
        (etc / name).write_text(text)
    for name in ("ld.so.cache", "services", "protocols", "mime.types"):
        if (Path("/etc") / name).is_file():
            shutil.copyfile(Path("/etc") / name, etc / name)
    if Path("/etc/R").is_dir():  # R's own settings are there, by links from /usr
        shutil.copytree("/etc/R", etc / "R", dirs_exist_ok=True)
    for path in etc.iterdir():
        if path.is_file():
            path.chmod(0o644)
    for name in ("ssl/certs", "alternatives"):
        (etc / name).mkdir(parents=True, exist_ok=True)


def _cgroups(parent: str, id_: str) -> list[Path]:
    """The folders of a sandbox's control groups (of all of them: ``*``), one per hierarchy."""
    top = Path("/sys/fs/cgroup")
    tops = [top] if (top / "cgroup.controllers").exists() else [path for path in top.iterdir() if path.is_dir()]
    return [group for path in tops for group in (path / parent).glob(id_) if group.is_dir()]


def _leave(parent: str) -> None:
    """Remove this installation's own groups where no sandbox goes on in them."""
    for group in _cgroups("", parent):
        with contextlib.suppress(OSError):  # sandboxes are in it
            group.rmdir()


def _kill_cgroup(group: Path) -> None:
    """Whatever the runtime left in a group: kill it, and remove the group when it is empty."""
    for line in (group / "cgroup.procs").read_text().split():
        try:
            os.kill(int(line), signal.SIGKILL)
        except ProcessLookupError:
            continue
    try:
        group.rmdir()
    except OSError:
        log.warning("sandbox.cgroup_left", path=str(group))


def _usage(parent: str, id_: str) -> Usage | None:
    values: dict[str, int] = {}
    for group in _cgroups(parent, id_):
        for name, file, scale in (
            ("memory", "memory.usage_in_bytes", 1), ("memory", "memory.current", 1), ("pids", "pids.current", 1),
            ("cpu", "cpuacct.usage", 1),
        ):  # fmt: skip
            path = group / file
            if path.exists():
                values[name] = int(path.read_text()) * scale
        if (group / "cpu.stat").exists() and "cpu" not in values:
            stat = dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())
            if "usage_usec" in stat:
                values["cpu"] = int(stat["usage_usec"]) * 1000
    if not values:
        return None
    return Usage(values.get("cpu", 0) / 1e9, values.get("memory", 0), values.get("pids", 0))
