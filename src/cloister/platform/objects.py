"""The object store: a local folder, or anything S3-compatible. Objects are immutable and named by their owner."""

import asyncio
import hashlib
import os
import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from cloister.core.errors import Unavailable
from cloister.core.ids import new_id
from cloister.platform.files import private_folder
from cloister.platform.logs import logger
from cloister.platform.settings import Settings

log = logger(__name__)
CHUNK = 1024 * 1024


class ObjectDamaged(Unavailable):
    """A stored object is not what was stored: its checksum differs. Restore it from a backup."""

    code = "object.damaged"


@dataclass(frozen=True)
class Stored:
    """An object as stored."""

    key: str
    size: int
    sha256: str


class ObjectStore:
    """Streams in, streams out, and a verified local copy for what must be a file."""

    def __init__(self, store: LocalStore | S3Store, root: Path | None, cache: Path) -> None:
        self._store = store
        self._root = root
        self._cache = cache
        private_folder(cache)

    @classmethod
    def from_settings(cls, settings: Settings) -> "ObjectStore":
        cache = settings.state_directory / "object-cache"
        if settings.object_store_url is None:
            root = settings.state_directory / "objects"
            private_folder(root)
            return cls(LocalStore(root, automatic_cleanup=True), root, cache)
        url = urlsplit(settings.object_store_url)
        if url.scheme != "s3":
            message = "object_store_url must look like s3://bucket/prefix"
            raise ValueError(message)
        return cls(s3_store(settings, url.netloc, url.path.strip("/") or None), None, cache)

    async def put(self, key: str, data: AsyncIterator[bytes]) -> Stored:
        """Store a stream under a key; nothing is visible there before all of it arrived."""
        digest = hashlib.sha256()
        size = 0

        async def counted() -> AsyncIterator[bytes]:
            nonlocal size
            async for chunk in data:
                digest.update(chunk)
                size += len(chunk)
                yield chunk

        await obstore.put_async(self._store, key, counted())
        return Stored(key, size, digest.hexdigest())

    async def put_file(self, key: str, path: Path) -> Stored:
        return await self.put(key, read_chunks(path))

    async def stream(self, key: str) -> AsyncGenerator[bytes]:
        result = await obstore.get_async(self._store, key)
        async for chunk in result.stream(min_chunk_size=CHUNK):
            yield bytes(chunk)

    async def exists(self, key: str) -> bool:
        try:
            await obstore.head_async(self._store, key)
        except FileNotFoundError:
            return False
        return True

    async def ping(self) -> None:
        """Ask for something that is not there.

        Raises:
            OSError: when the store does not answer that.
        """
        try:
            await self.exists("is-it-there")
        except BaseError as error:
            raise OSError(str(error)) from error

    async def keys(self, prefix: str) -> list[str]:
        keys: list[str] = []
        async for batch in obstore.list(self._store, prefix.rstrip("/")):
            keys.extend(str(item["path"]) for item in batch)
        return sorted(keys)

    async def delete(self, keys: list[str]) -> None:
        if keys:
            await obstore.delete_async(self._store, keys)

    async def remove(self, prefix: str) -> list[str]:
        """Delete all under a prefix, with what a killed process left of an upload there; return the keys there were."""
        keys = await self.keys(prefix)
        await self.delete(keys)
        if self._root is not None:  # no listing shows the partial files
            await asyncio.to_thread(remove_tree, self._root / prefix)
        return keys

    async def verified_file(self, key: str, sha256: str) -> Path:
        """The same, verified also where objects are files of this machine: for checksums that somebody else named.

        Raises:
            ObjectDamaged: when the content does not have the expected checksum.
        """
        path = await self.local_file(key, sha256)
        if self._root is not None and await asyncio.to_thread(_sum, path) != sha256:
            raise ObjectDamaged(key=key)
        return path

    async def local_file(self, key: str, sha256: str) -> Path:
        """A read-only file with this object's content, fetched and verified once per machine.

        Raises:
            ObjectDamaged: when the content does not have the expected checksum.
        """
        if self._root is not None:
            return self._root / key  # what was stored here was checksummed on the way
        target = self._cache / sha256
        if not target.exists():
            partial = self._cache / new_id("part")
            digest = hashlib.sha256()
            with await asyncio.to_thread(partial.open, "wb") as file:
                async for chunk in self.stream(key):
                    digest.update(chunk)
                    await asyncio.to_thread(file.write, chunk)
            if digest.hexdigest() != sha256:
                partial.unlink()
                raise ObjectDamaged(key=key)
            partial.chmod(0o444)
            partial.replace(target)
        return target


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def s3_store(settings: Settings, bucket: str, prefix: str | None = None) -> S3Store:
    """A bucket, with the endpoint and credentials of the settings."""
    options: dict[str, str] = {"region": settings.s3_region}
    if settings.s3_endpoint:
        options["endpoint"] = settings.s3_endpoint
    if settings.s3_access_key_id and settings.s3_secret_access_key:
        options["access_key_id"] = settings.s3_access_key_id.get_secret_value()
        options["secret_access_key"] = settings.s3_secret_access_key.get_secret_value()
    plain_http = {"allow_http": True} if (settings.s3_endpoint or "").startswith("http://") else {}
    return S3Store(bucket, prefix=prefix, client_options=plain_http, **options)  # type: ignore[arg-type]


async def s3_object(settings: Settings, url: str) -> tuple[int, AsyncIterator[bytes]]:
    """The size of an object in bytes, and its content, by its ``s3://bucket/key``.

    Raises:
        OSError: when there is none, or the store does not give it; its sentence is for those who asked for it.
    """
    parts = urlsplit(url)
    try:
        result = await obstore.get_async(s3_store(settings, parts.netloc), parts.path.lstrip("/"))
    except FileNotFoundError as error:
        raise FileNotFoundError("There is no such object.") from error
    except ValueError as error:  # a name that no object can have
        raise FileNotFoundError("There is no such object.") from error
    except BaseError as error:  # what it says names the store's address, which is the operators' business
        log.warning("object.not_given", url=url, error=str(error)[:500])
        raise OSError("The store does not give it to this platform.") from error

    async def chunks() -> AsyncIterator[bytes]:
        try:
            async for chunk in result.stream(min_chunk_size=CHUNK):
                yield bytes(chunk)
        except BaseError as error:
            log.warning("object.broke_off", url=url, error=str(error)[:500])
            raise OSError("The store broke off in the middle of it.") from error

    return int(result.meta["size"]), chunks()


async def s3_chunks(settings: Settings, url: str) -> AsyncIterator[bytes]:
    """An object's bytes by its ``s3://bucket/key``.

    Raises:
        OSError: when there is none, or the store does not give it.
    """
    _, chunks = await s3_object(settings, url)
    async for chunk in chunks:
        yield chunk


def may_be_read(settings: Settings, url: str) -> bool:
    """Whether those who look after data may have an object loaded: only from where operators say, and never from where
    the platform keeps its own, which is everybody's.
    """
    parts = urlsplit(url)
    if parts.scheme != "s3" or parts.query or parts.fragment or {"", ".", ".."} & set(parts.path.split("/")[1:]):
        return False
    if not url.isprintable():
        return False
    own = settings.object_store_url
    if own is not None and _under(url, own):
        return False
    return any(_under(url, prefix) for prefix in settings.dataset_urls)


def _under(url: str, prefix: str) -> bool:
    return url.startswith(prefix.rstrip("/") + "/")


async def read_chunks(path: Path) -> AsyncIterator[bytes]:
    """A file's bytes, read in threads. Links are not followed: the path may lie in a folder that others write."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe must not make us wait
    descriptor = await asyncio.to_thread(os.open, path, flags)
    with os.fdopen(descriptor, "rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK):
            yield chunk


def settle(partial: Path, path: Path) -> None:
    """Give a finished folder its name, unless somebody was faster: equal names stand for equal content."""
    try:
        partial.rename(path)
    except OSError:
        if not path.exists():
            raise
        shutil.rmtree(partial)


def remove_tree(path: Path) -> None:
    """Remove a folder and all in it, if it is there."""
    if path.exists():
        shutil.rmtree(path)
