"""Where the files of releases are: the ZIP file in the object store, and unpacked on this machine for sandboxes."""

import asyncio
import contextlib
import hashlib
import io
import tempfile
import time
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from cloister.modules.archive import check_path, pack
from cloister.modules.errors import BadPath, ModuleFileNotFound
from cloister.platform import ObjectStore
from cloister.platform.objects import remove_tree, settle

THUMBNAILS = {"thumbnail.svg": "image/svg+xml", "thumbnail.png": "image/png", "thumbnail.jpg": "image/jpeg"}
LEFT_BEHIND = {".git", "__pycache__", "node_modules", ".venv"}


@dataclass
class Files:
    """Content-addressed; whatever is here never changes."""

    objects: ObjectStore
    root: Path
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def keep(self, files: dict[str, bytes]) -> tuple[str, int]:
        """Keep the files of a release; return the digest of their ZIP file and its size in bytes."""
        data = await asyncio.to_thread(pack, files)
        digest = _digest(data)

        async def chunks() -> AsyncIterator[bytes]:
            yield data

        async with self._turn:  # what is kept now is not forgotten in the same moment
            await asyncio.to_thread(self._mark, digest)
            if not await self.objects.exists(_key(digest)):
                await self.objects.put(_key(digest), chunks())
        return digest, len(data)

    def _mark(self, digest: str) -> None:
        self._marks.mkdir(parents=True, exist_ok=True)
        (self._marks / digest).touch()

    @property
    def _marks(self) -> Path:
        """What was kept and is not known yet to belong to a release, with the time of the last wish."""
        return self.root / ".kept"

    async def unclaimed(self, seconds: float) -> list[str]:
        """What nobody has wished to be kept for so long, of what may belong to no release."""

        def look() -> list[str]:
            before = time.time() - seconds
            marks = self._marks.iterdir() if self._marks.is_dir() else iter(())
            return [mark.name for mark in marks if mark.stat().st_mtime < before]

        return await asyncio.to_thread(look)

    async def claim(self, digest: str) -> None:
        """It belongs to a release: it stays."""
        await asyncio.to_thread((self._marks / digest).unlink, missing_ok=True)

    async def forget(self, digest: str, seconds: float) -> bool:
        """Remove it, a draft on trial, unless somebody has wished it to be kept since; return whether it is gone."""
        async with self._turn:
            if digest not in await self.unclaimed(seconds):
                return False
            with contextlib.suppress(FileNotFoundError):  # a kill came before it was there, or after it was gone
                await self.objects.delete([_key(digest)])
            await asyncio.to_thread(remove_tree, self.root / digest)
            await self.claim(digest)
        return True

    async def zip(self, digest: str) -> bytes:
        return b"".join([chunk async for chunk in self.objects.stream(_key(digest))])

    async def read(self, digest: str) -> dict[str, bytes]:
        return await asyncio.to_thread(unpack_own, await self.zip(digest))

    async def keep_log(self, release: str, text: str) -> None:
        """Keep what a release's build said."""

        async def chunks() -> AsyncIterator[bytes]:
            yield text.encode()

        await self.objects.put(f"builds/{release}.log", chunks())

    async def log(self, release: str) -> str:
        """What a release's build said; empty when there is nothing."""
        key = f"builds/{release}.log"
        if not await self.objects.exists(key):
            return ""
        return b"".join([chunk async for chunk in self.objects.stream(key)]).decode("utf-8", "replace")

    async def file(self, digest: str, path: str) -> bytes:
        """Return one file of a release, from where they lie unpacked.

        Raises:
            ModuleFileNotFound: when there is none.
        """
        try:
            check_path(path)
            return await asyncio.to_thread((await self.folder(digest)).joinpath(path).read_bytes)
        except (BadPath, FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise ModuleFileNotFound from error

    async def picture(self, digest: str) -> tuple[str, bytes] | None:
        """The media type and the content of a release's thumbnail; None when it has none."""
        for path, kind in THUMBNAILS.items():
            with contextlib.suppress(ModuleFileNotFound):
                return kind, await self.file(digest, path)
        return None

    async def folder(self, digest: str) -> Path:
        """The files unpacked, readable by every sandbox that they are mounted into."""
        path = self.root / digest
        if not await asyncio.to_thread(path.exists):
            await asyncio.to_thread(self._write, path, await self.read(digest))
        return path

    def _write(self, path: Path, files: dict[str, bytes]) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=self.root, prefix=".partial-"))
        for name, content in files.items():
            target = partial / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        for each in [partial, *partial.rglob("*")]:
            each.chmod(0o755 if each.is_dir() else 0o644)
        settle(partial, path)


def read_folder(folder: Path) -> dict[str, bytes]:
    """All files of a module in a folder, but for what tools leave behind."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not LEFT_BEHIND & set(path.relative_to(folder).parts):
            with contextlib.suppress(FileNotFoundError):  # it went meanwhile, as editors' files do while they save
                files[path.relative_to(folder).as_posix()] = path.read_bytes()
    return files


def unpack_own(data: bytes) -> dict[str, bytes]:
    """The files of a ZIP file that `pack` made."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def digest_of(files: dict[str, bytes]) -> str:
    """By what the release of some files would be known."""
    return _digest(pack(files))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _key(digest: str) -> str:
    return f"modules/{digest}.zip"
