"""Volumes on disk: sparse ext4 images, loop-mounted, so that bytes and inodes have a hard limit. This file mounts.

Names of files inside a volume are never followed by the platform; the image is all that it touches. An image that a
sandbox damaged is checked (``e2fsck``) before the kernel sees it again.
"""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from cloister.platform import Settings
from cloister.platform.logs import logger
from cloister.sandboxes.backends.oci.doctor_privileged import volume_backend
from cloister.sandboxes.errors import VolumeBusy, VolumeFailed
from cloister.sandboxes.processes_privileged import output_of

log = logger(__name__)
BYTES_PER_INODE = 8192
MOUNT_OPTIONS = "loop,nodev,nosuid,noatime,discard,errors=remount-ro"


async def _run(*command: str, accept: tuple[int, ...] = (0,)) -> str:
    code, text = await output_of(*command)
    if code not in accept:
        raise VolumeFailed(f"{command[0]}: {text[-500:] or f'exit {code}'}")
    return text


class VolumeDisks:
    """Makes, mounts, grows, copies and deletes the images. Every call may be repeated."""

    def __init__(self, settings: Settings) -> None:
        self._images = settings.state_directory / "volumes"
        self._mounts = settings.run_directory / "volumes"
        self._looks = settings.run_directory / "snapshots"
        self.backend = volume_backend(settings)
        for folder in (self._images, self._mounts, self._looks):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)

    def image(self, id_: str) -> Path:
        return self._images / (f"{id_}.ext4" if self.backend == "loop" else id_)

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
        if self.backend == "directory":
            image.mkdir(mode=0o700)
            if os.geteuid() == 0:
                os.chown(image, uid, uid)
            return
        partial = image.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        with partial.open("wb") as file:
            file.truncate(size)
        await _run(
            "mkfs.ext4", "-q", "-F", "-m", "0", "-i", str(BYTES_PER_INODE),
            "-E", f"root_owner={uid}:{uid},lazy_itable_init=1,lazy_journal_init=1,nodiscard", str(partial),
        )  # fmt: skip
        partial.replace(image)

    def mounted(self, id_: str) -> bool:
        return os.path.ismount(self.mount_point(id_))

    async def mount(self, id_: str) -> Path:
        """Mount a volume, checked first if it was not left in order; return where."""
        if self.backend == "directory":
            return self.image(id_)
        point = self.mount_point(id_)
        if self.mounted(id_):
            return point
        point.mkdir(exist_ok=True)
        await _run("e2fsck", "-p", str(self.image(id_)), accept=(0, 1))
        await _run("mount", "-t", "ext4", "-o", MOUNT_OPTIONS, str(self.image(id_)), str(point))
        lost = point / "lost+found"
        if lost.is_dir() and not lost.is_symlink():
            with contextlib.suppress(OSError):  # it has files that e2fsck found: they are the team's
                lost.rmdir()
        return point

    async def unmount(self, id_: str) -> None:
        if self.backend == "loop" and self.mounted(id_):
            await _run("umount", str(self.mount_point(id_)))
        if self.mount_point(id_).exists():
            self.mount_point(id_).rmdir()

    async def grow(self, id_: str, size: int) -> None:
        """Make a volume larger, also while it is mounted."""
        if self.backend == "directory":
            return
        image = self.image(id_)
        before = image.stat().st_size
        if size <= before:
            return
        os.truncate(image, size)
        if self.mounted(id_):
            device = await _run("findmnt", "-n", "-o", "SOURCE", str(self.mount_point(id_)))
            await _run("losetup", "-c", device)
            try:
                await _run("resize2fs", device)
            except VolumeFailed as error:  # needs CAP_SYS_RESOURCE, which some hosts withhold
                os.truncate(image, before)
                await _run("losetup", "-c", device)
                raise VolumeBusy(
                    "This machine cannot grow a volume in use. Stop what uses it, then try again."
                ) from error
        else:
            await _run("e2fsck", "-fp", str(image), accept=(0, 1))
            await _run("resize2fs", str(image))

    async def snapshot(self, id_: str, name: str) -> None:
        """Copy a volume as it is at one moment; writers wait meanwhile."""
        frozen = self.backend == "loop" and self.mounted(id_)
        if frozen:
            await _run("fsfreeze", "-f", str(self.mount_point(id_)))
        try:
            partial = self._images / f"{id_}.partial"
            await _run("cp", "-a", "--sparse=always", "--reflink=auto", "-T", str(self.image(id_)), str(partial))
            await asyncio.to_thread(partial.replace, self._snapshot(id_, name))
        finally:
            if frozen:
                await _run("fsfreeze", "-u", str(self.mount_point(id_)))

    async def restore(self, id_: str, name: str) -> None:
        """Put a snapshot in the place of an unmounted volume."""
        partial = self._images / f"{id_}.partial"
        await _run("cp", "-a", "--sparse=always", "--reflink=auto", "-T", str(self._snapshot(id_, name)), str(partial))
        if self.backend == "directory":
            await _run("rm", "-rf", str(self.image(id_)))
        await asyncio.to_thread(partial.replace, self.image(id_))

    @contextlib.asynccontextmanager
    async def look_into(self, id_: str, name: str) -> AsyncIterator[Path]:
        """A snapshot's files, read-only, for as long as the block lasts."""
        image = self._snapshot(id_, name)
        if self.backend == "directory":
            yield image
            return
        point = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=self._looks))
        try:
            await _run("mount", "-t", "ext4", "-o", "loop,ro,noload,nodev,nosuid,noexec", str(image), str(point))
            yield point
        finally:
            if os.path.ismount(point):
                await _run("umount", str(point))
            point.rmdir()

    async def forget_looks(self) -> None:
        """Unmount what a killed process was looking into."""
        for point in self._looks.iterdir():
            if os.path.ismount(point):
                await _run("umount", str(point))
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
