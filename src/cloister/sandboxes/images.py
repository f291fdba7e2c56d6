"""OCI images: unpacked once, in a build sandbox, into a root file system that sandboxes see read-only.

An operator brings an image under a name; spaces declare environments with it, modules name it. No registry is asked,
and no daemon runs: what is read is an image layout on this machine.
"""

import asyncio
import hashlib
import json
import re
import shutil
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from cloister.sandboxes.backends.oci import bundle
from cloister.sandboxes.backends.oci.bundle import HOST_MOUNT
from cloister.sandboxes.environments_privileged import Environments
from cloister.sandboxes.errors import BadImage, ImageNotFound
from cloister.sandboxes.spec import CACHE_MOUNT, Mount
from cloister.sandboxes.workshop import Job, Said, Workshop, copy_untrusted

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,60}")
PROGRAM = "/opt/cloister/builds/image.py"
MOUNT_POINTS = (*(point for point in bundle.MOUNT_POINTS if point != "usr"), HOST_MOUNT.strip("/"), "etc/ssl/certs")
"""What the platform mounts into a sandbox: an image has its own ``/usr``, and sees the host's elsewhere."""
MAX_DESCRIPTION = 1_000_000


class _Described(BaseModel):
    """What the unpacking left of the image's configuration. It is read as input that nobody trusts."""

    model_config = ConfigDict(extra="forbid")
    digest: str
    command: list[str]
    environ: list[str]
    cwd: str


@dataclass(frozen=True)
class Image:
    """An image that was brought."""

    name: str
    path: Path
    """What `Environments.add` kept: ``rootfs`` is in it."""
    digest: str
    command: tuple[str, ...]
    """What it runs by itself."""
    environ: dict[str, str]
    cwd: str
    size_bytes: int


@dataclass
class Images:
    """The images that this machine has, by name."""

    root: Path
    environments: Environments
    workshop: Workshop

    async def bring(self, name: str, source: Path, said: Said) -> Image:
        """Take an image layout (a folder, or a tar file of one) under a name; one of that name before is replaced.

        Raises:
            BadImage, BuildFailed: what is wrong with it.
        """
        if not NAME.fullmatch(name):
            raise BadImage("A name has small letters, digits, dots and dashes.")
        with tempfile.TemporaryDirectory(prefix="cloister-image-") as copy:
            said("INFO", "Reading the image ...\n")
            key = await asyncio.to_thread(_stage, source, Path(copy), self.workshop.disk_bytes)
            path = self.environments.layer(key)
            if path is None:
                job = Job(command=("python3", PROGRAM, *MOUNT_POINTS), mounts=(Mount(copy, CACHE_MOUNT),), links=True)
                path = await self.environments.add(key, [f"image-{name}"], partial(self.workshop.make, job, said))
        await asyncio.to_thread(self._remember, name, path)
        return await self.get(name)

    def _remember(self, name: str, path: Path) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / f"{name}.json").write_text(json.dumps({"key": path.name}))

    async def get(self, name: str) -> Image:
        """Return an image.

        Raises:
            ImageNotFound: when nobody brought it.
        """
        found = await asyncio.to_thread(self.find, name)
        if found is None:
            raise ImageNotFound(
                f"This machine has no image “{name[:60]}”. An operator can bring it: cloister image import."
            )
        return found

    def find(self, name: str) -> Image | None:
        """Return an image, or None; reads two small files."""
        kept = self.root / f"{name}.json"
        if not NAME.fullmatch(name) or not kept.exists():
            return None
        path = self.environments.layer(json.loads(kept.read_text())["key"])
        if path is None:
            return None
        described = _described(path)
        environ = dict(line.split("=", 1) for line in described.environ if "=" in line)
        size = json.loads((path / "meta.json").read_text())["size_bytes"]
        return Image(name, path, described.digest, tuple(described.command), environ, described.cwd, size)

    def all(self) -> list[Image]:
        return [found for file in sorted(self.root.glob("*.json")) if (found := self.find(file.stem)) is not None]

    def remove(self, name: str) -> None:
        """Forget a name; what was unpacked goes with ``environment gc``."""
        if self.find(name) is None:
            raise ImageNotFound
        (self.root / f"{name}.json").unlink()


def _described(path: Path) -> _Described:
    try:
        with (path / "image.json").open("rb") as file:
            return _Described.model_validate_json(file.read(MAX_DESCRIPTION))
    except (OSError, ValidationError) as error:
        raise BadImage("Its configuration could not be read.") from error


def _stage(source: Path, target: Path, limit: int) -> str:
    """Copy an image to where a sandbox may read it; return the key of what it will become."""
    target.chmod(0o755)
    if source.is_dir():
        if not (source / "index.json").is_file():
            raise BadImage(f"{source} is no image layout: it has no index.json.")
        copy_untrusted(source, target, limit)
        index = (target / "index.json").read_bytes()
    elif source.is_file():
        if source.stat().st_size > limit:
            raise BadImage("It is larger than a build's disk (CLOISTER_BUILD_DISK_MEGABYTES).")
        shutil.copyfile(source, target / "image.tar")
        (target / "image.tar").chmod(0o644)
        index = hashlib.file_digest((target / "image.tar").open("rb"), "sha256").digest()
    else:
        raise BadImage(f"There is nothing at {source}.")
    return hashlib.sha256(b"image\0" + index).hexdigest()[:24]
