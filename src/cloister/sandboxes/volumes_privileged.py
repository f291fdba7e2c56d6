"""Volumes on disk: sparse ext4 images, so that bytes and inodes have a hard limit. This file mounts.

``loop`` mounts them on loop devices, which needs root; ``fuse`` has a process of ``fuse2fs`` each, which does not;
``directory`` are plain folders that nothing bounds. Names of files inside a volume are never followed by the platform;
the image is all that it touches. It is checked (``e2fsck``) before it is mounted again.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import signal
import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Literal

from cloister.platform import Settings
from cloister.platform.logs import logger
from cloister.sandboxes.backends.oci.doctor_privileged import volume_backend
from cloister.sandboxes.errors import VolumeBusy, VolumeFailed
from cloister.sandboxes.processes_privileged import ended, output_of

log = logger(__name__)
BYTES_PER_INODE = 8192
LOOP_OPTIONS = "loop,nodev,nosuid,noatime,discard,errors=remount-ro"
FUSE_OPTIONS = "nodev,nosuid,noatime"
VALID = 1
"""A file system's state when it was unmounted; 2 stands for errors."""
UNCORRECTED = 4
"""What ``e2fsck -p`` exits with (as a bit) when it will not decide alone."""

RELEASE_SECONDS = 15.0
"""How long an image that was unmounted may stay open: until every sandbox that starts has left the host's mounts."""

SNAPSHOT_NAME = "%Y%m%dT%H%M%S%f"
NOT_IN_USE = "This machine cannot grow a volume in use. Stop what uses it, then try again."


async def _run(*command: str, accept: tuple[int, ...] = (0,), leaves_one: bool = False) -> str:
    code, text = await output_of(*command, leaves_one=leaves_one)
    if code not in accept:
        raise VolumeFailed(f"{command[0]}: {text[-500:] or f'exit {code}'}")
    return text


def _superblock(image: Path, *fields: tuple[int, int]) -> list[int]:
    """Numbers of ext4's superblock, by where they are and their bytes (https://docs.kernel.org/filesystems/ext4/super.html)."""
    with image.open("rb") as file:
        file.seek(1024)
        block = file.read(1024)
    return [int.from_bytes(block[at : at + size], "little") for at, size in fields]


def _formatted(image: Path) -> int:
    """How many bytes of an image its file system knows of, rounded up to its next block: after a kill in the middle of
    growing these are fewer than the image has.
    """
    low, shift, high = _superblock(image, (0x4, 4), (0x18, 4), (0x150, 4))
    return ((high << 32 | low) + 1) * (1024 << min(shift, 6)) - 1


def _in_order(image: Path) -> bool:
    """Whether a file system was unmounted and has no error on its books. ``e2fsck -p`` looks at hardly more then
    (``check_if_skip`` and what goes before it, e2fsck/unix.c), but takes as long as all else that a mount takes. The kernel
    refuses to mount one whose superblock or group descriptors are damaged all the same.
    """
    magic, state, incompatible, read_only, orphan = _superblock(
        image, (0x38, 2), (0x3A, 2), (0x60, 4), (0x64, 4), (0xE8, 4)
    )
    recover, orphans = incompatible & 0x4, read_only & 0x10000
    return (magic, state & 0x3, recover, orphans, orphan) == (0xEF53, VALID, 0, 0, 0)


def _open_elsewhere(image: Path) -> bool:
    """Whether somebody else has a file open, a loop device included: else a write lease is given (fcntl(2))."""
    with image.open("rb+") as file:
        fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)  # told when somebody opens it now; SIGIO would end us
        try:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                return True
            log.debug("volume.no_leases", image=str(image), error=str(error))  # such as NFS: nothing can be said
            return False
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


async def _released(image: Path) -> None:
    """Wait until nobody has an image open.

    Unmounting does not end a file system that another mount namespace still has: a sandbox that starts copies all mounts
    of the host's, and drops them a moment later, the last writes included. To check or mount an image meanwhile would
    destroy it.

    Raises:
        VolumeBusy: when it is still open after a while.
    """
    until = asyncio.get_running_loop().time() + RELEASE_SECONDS
    while await asyncio.to_thread(_open_elsewhere, image):
        if asyncio.get_running_loop().time() > until:
            raise VolumeBusy(f"The volume's image is still in use {RELEASE_SECONDS:g} s after it was unmounted.")
        await asyncio.sleep(0.005)  # a bounded poll: the kernel tells nobody


def _servers(point: Path) -> list[int]:
    """The processes of ``fuse2fs`` that serve a mount point."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            words = (process / "cmdline").read_bytes().split(b"\0")
            if words[0] == b"fuse2fs" and os.fsencode(point) in words:
                found.append(int(process.name))
    return found


class VolumeDisks:
    """Makes, mounts, grows, copies and deletes the images. Every call may be repeated."""

    def __init__(self, settings: Settings) -> None:
        self._images = settings.state_directory / "volumes"
        self._mounts = settings.run_directory / "volumes"
        self._looks = settings.run_directory / "snapshots"
        self._frozen = settings.run_directory / "frozen"
        self._settings = settings
        for folder in (self._images, self._mounts, self._looks, self._frozen):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)

    @cached_property
    def backend(self) -> Literal["loop", "fuse", "directory"]:
        """How images are mounted here: tried when the first is needed, not by each command that needs none."""
        return volume_backend(self._settings)

    def image(self, id_: str) -> Path:
        return self._images / (id_ if self.backend == "directory" else f"{id_}.ext4")

    def _snapshot(self, id_: str, name: str) -> Path:
        return self._images / f"{id_}@{name}"

    def mount_point(self, id_: str) -> Path:
        return self._mounts / id_

    async def create(self, id_: str, size: int, uid: int) -> None:
        """Make an empty volume of a size in bytes that belongs to a host user id; one that is there and rests is grown."""
        image = self.image(id_)
        if image.exists():
            if not self.mounted(id_):
                await self.grow(id_, size)
            return
        owner, group = (uid, uid) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
        if self.backend == "directory":
            image.mkdir(mode=0o700)
            os.chown(image, owner, group)
            return
        partial = image.with_suffix(".partial")
        await self._format(partial, size, owner, group)
        partial.replace(image)

    @staticmethod
    async def _format(image: Path, size: int, owner: int, group: int, *more: str) -> None:
        image.unlink(missing_ok=True)  # likewise: see `_copy`
        with image.open("wb") as file:
            file.truncate(size)
        await _run(
            "mkfs.ext4", "-q", "-F", "-m", "0", "-i", str(BYTES_PER_INODE), *more,
            "-E", f"root_owner={owner}:{group},lazy_itable_init=1,lazy_journal_init=1,nodiscard", str(image),
        )  # fmt: skip

    def mounted(self, id_: str) -> bool:
        return os.path.ismount(self.mount_point(id_))

    async def mount(self, id_: str) -> Path:
        """Mount a volume, checked first if it was not left in order; return where."""
        if self.backend == "directory":
            return self.image(id_)
        point = self.mount_point(id_)
        if self.mounted(id_):
            return point
        await self._clear(point)
        point.mkdir(exist_ok=True)
        await _released(self.image(id_))
        in_order = self.backend == "loop" and await asyncio.to_thread(_in_order, self.image(id_))
        if not in_order:
            await self._mend(id_)
        try:
            await self._attach(self.image(id_), point)
        except VolumeFailed:
            if not in_order:
                raise
            await _released(self.image(id_))
            await self._mend(id_)
            await self._attach(self.image(id_), point)
        lost = point / "lost+found"
        if lost.is_dir() and not lost.is_symlink():
            with contextlib.suppress(OSError):  # it has files that e2fsck found: they are the team's
                lost.rmdir()
        return point

    async def _mend(self, id_: str) -> None:
        """Mend an image. What cannot be mended without a choice is copied as it is first, as a snapshot to look into."""
        image = str(self.image(id_))
        code, text = await output_of("e2fsck", "-p", image)
        if code & UNCORRECTED:
            log.warning("volume.damaged", volume=id_, output=text[-500:])
            kept = self._snapshot(id_, datetime.now(UTC).strftime(SNAPSHOT_NAME))
            await self._copy(id_, self.image(id_), kept)
            await _run("e2fsck", "-fy", image, accept=(0, 1))
        elif code not in (0, 1):
            raise VolumeFailed(f"e2fsck: {text[-500:] or f'exit {code}'}")

    async def _attach(self, image: Path, point: Path, *, read_only: bool = False) -> None:
        if self.backend == "loop":
            options = "loop,ro,noload,nodev,nosuid,noexec" if read_only else LOOP_OPTIONS
            await _run("mount", "-t", "ext4", "-o", options, str(image), str(point))
            return
        # Without root there is one user id for all: fuse2fs must not weigh ids that it cannot know.
        who = "allow_other,default_permissions" if os.geteuid() == 0 else "fakeroot"
        options = "ro,norecovery,nodev,nosuid,noexec" if read_only else FUSE_OPTIONS
        said = await _run("fuse2fs", "-o", f"{options},{who}", str(image), str(point), leaves_one=True)
        if not os.path.ismount(point):  # no exit code says so; what cannot be read may hang there all the same
            await output_of("fusermount3", "-u", "-z", str(point))
            raise VolumeFailed(f"fuse2fs: {said[-500:]}")

    async def _detach(self, point: Path) -> None:
        if self.backend == "loop":
            await _run("umount", str(point))
            return
        servers = await asyncio.to_thread(_servers, point)
        await _run("fusermount3", "-u", str(point))
        for pid in servers:  # it writes the last of it when it is not mounted any more
            await ended(pid)

    async def _clear(self, point: Path) -> None:
        """Take away a mount whose ``fuse2fs`` was killed: nothing under it can even be looked at."""
        try:
            point.lstat()
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise
            await _run("fusermount3", "-u", "-z", str(point))

    async def unmount(self, id_: str) -> None:
        point = self.mount_point(id_)
        if self.mounted(id_):
            await self._detach(point)
        await self._clear(point)
        if point.exists():
            point.rmdir()

    async def grow(self, id_: str, size: int) -> None:
        """Make a volume larger, also while it is mounted."""
        if self.backend == "directory":
            return
        image = self.image(id_)
        if size <= _formatted(image):
            return
        if self.mounted(id_) and self.backend == "fuse":
            raise VolumeBusy(NOT_IN_USE)
        before = image.stat().st_size
        os.truncate(image, size)
        if self.mounted(id_):
            device = await _run("findmnt", "-n", "-o", "SOURCE", str(self.mount_point(id_)))
            await _run("losetup", "-c", device)
            try:
                await _run("resize2fs", device)
            except VolumeFailed as error:  # needs CAP_SYS_RESOURCE, which some hosts withhold
                os.truncate(image, before)
                await _run("losetup", "-c", device)
                raise VolumeBusy(NOT_IN_USE) from error
        else:
            await _released(image)
            await _run("e2fsck", "-fp", str(image), accept=(0, 1))
            await _run("resize2fs", str(image))

    async def snapshot(self, id_: str, name: str) -> None:
        """Copy a volume as it is at one moment; writers wait meanwhile.

        With ``fuse`` one in use is copied file by file while they go on: there is nothing that could make them wait.
        """
        image, point, partial = self.image(id_), self.mount_point(id_), self._images / f"{id_}.partial"
        if self.backend == "fuse" and self.mounted(id_):
            owner = point.stat()
            await self._format(partial, image.stat().st_size, owner.st_uid, owner.st_gid, "-d", str(point))
            await asyncio.to_thread(partial.replace, self._snapshot(id_, name))
            return
        frozen = self.backend == "loop" and self.mounted(id_)
        if frozen:
            await self._freeze(id_)
        elif self.backend != "directory":
            await _released(image)
        try:
            await self._copy(id_, image, self._snapshot(id_, name))
        finally:
            if frozen:
                await self._thaw(id_)

    async def _freeze(self, id_: str) -> None:
        (self._frozen / id_).touch()  # before: whoever comes after a kill in between must know
        await _run("fsfreeze", "-f", str(self.mount_point(id_)))

    async def _thaw(self, id_: str) -> None:
        await _run("fsfreeze", "-u", str(self.mount_point(id_)))
        (self._frozen / id_).unlink()

    async def thaw_left(self) -> None:
        """Let go on those who write to a volume that a killed process was copying."""
        for mark in list(self._frozen.iterdir()):
            if self.mounted(mark.name):
                await output_of("fsfreeze", "-u", str(self.mount_point(mark.name)))  # fails when it was not frozen yet
            mark.unlink()

    async def _copy(self, id_: str, source: Path, target: Path) -> None:
        """A copy is there whole or not at all."""
        partial = self._images / f"{id_}.partial"
        await _run("rm", "-rf", str(partial))  # what a killed platform left still writes to has no name any more
        await _run("cp", "-a", "--sparse=always", "--reflink=auto", "-T", str(source), str(partial))
        if target.is_dir():
            await _run("rm", "-rf", str(target))
        await asyncio.to_thread(partial.replace, target)

    async def restore(self, id_: str, name: str) -> None:
        """Put a snapshot in the place of an unmounted volume."""
        await self._copy(id_, self._snapshot(id_, name), self.image(id_))

    @contextlib.asynccontextmanager
    async def look_into(self, id_: str, name: str) -> AsyncIterator[Path]:
        """A snapshot's files, read-only, for as long as the block lasts."""
        image = self._snapshot(id_, name)
        if self.backend == "directory":
            yield image
            return
        point = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=self._looks))
        try:
            await self._attach(image, point, read_only=True)
            yield point
        finally:
            if os.path.ismount(point):
                await self._detach(point)
            point.rmdir()

    async def forget_looks(self) -> None:
        """Unmount what a killed process was looking into."""
        for point in self._looks.iterdir():
            if os.path.ismount(point):
                await self._detach(point)
            await self._clear(point)
            point.rmdir()

    async def delete_snapshot(self, id_: str, name: str) -> None:
        await _run("rm", "-rf", str(self._snapshot(id_, name)))

    def snapshots(self, id_: str) -> list[str]:
        return sorted(path.name.split("@", 1)[1] for path in self._images.glob(f"{id_}@*"))

    async def delete(self, id_: str) -> None:
        """Remove a volume and its snapshots for good."""
        await self.unmount(id_)
        await _run("rm", "-rf", str(self.image(id_)), *(str(self._snapshot(id_, name)) for name in self.snapshots(id_)))

    def named(self, prefix: str) -> list[str]:
        """The volumes whose ids begin so."""
        return sorted({path.name.removesuffix(".ext4") for path in self._images.glob(f"{prefix}*")})

    def all_mounted(self) -> set[str]:
        return {path.name for path in self._mounts.iterdir() if os.path.ismount(path)}
