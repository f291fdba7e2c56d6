"""The object store, on a folder and on an S3 server."""

import hashlib
import os

import boto3
import pytest
from moto.server import ThreadedMotoServer

from cloister.platform import ObjectStore
from cloister.platform.objects import CHUNK, ObjectDamaged
from tests.support import free_port, make_settings

LARGE = os.urandom(1024) * (12 * 1024)  # more than one part of a multipart upload


@pytest.fixture(scope="module")
def s3():
    os.environ |= {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    server = ThreadedMotoServer(port=free_port())
    server.start()
    address = f"http://127.0.0.1:{server._port}"
    boto3.client("s3", endpoint_url=address, region_name="us-east-1").create_bucket(Bucket="bkt")
    yield address
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def make(request, tmp_path):
    """Make a store on a machine of its own (a state directory).

    What only a remote store can do is tested with ``indirect``: a local folder's files are used in place.
    """

    def store(machine: str = "one") -> ObjectStore:
        options = {}
        if request.param == "s3":
            prefix = hashlib.sha256(str(tmp_path).encode()).hexdigest()[:12]
            options = {
                "object_store_url": f"s3://bkt/{prefix}", "s3_endpoint": request.getfixturevalue("s3"),
                "s3_access_key_id": "key", "s3_secret_access_key": "secret",
            }  # fmt: skip
        return ObjectStore.from_settings(make_settings(tmp_path / machine, **options))

    return store


async def chunks(data: bytes, size: int = 100_000):
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def collect(store: ObjectStore, key: str) -> bytes:
    return b"".join([chunk async for chunk in store.stream(key)])


@pytest.mark.parametrize("data", [b"", b"x", b"abc" * 1000, LARGE], ids=["empty", "one byte", "small", "12 MB"])
async def test_what_was_put_comes_back(make, data):
    store = make()
    stored = await store.put("spaces/a/originals/1", chunks(data))
    assert (stored.key, stored.size, stored.sha256) == (
        "spaces/a/originals/1", len(data), hashlib.sha256(data).hexdigest(),
    )  # fmt: skip
    assert await collect(store, stored.key) == data
    local = await store.local_file(stored.key, stored.sha256)
    assert local.read_bytes() == data


async def test_a_large_object_comes_in_pieces(make):
    store = make()
    await store.put("large", chunks(LARGE))
    sizes = [len(chunk) async for chunk in store.stream("large")]
    assert len(sizes) > 1 and max(sizes) < len(LARGE) and sum(sizes) == len(LARGE)
    assert max(sizes) <= 8 * CHUNK, "memory stays bounded"


async def test_a_file_is_put(make, tmp_path):
    (tmp_path / "f").write_bytes(b"from a file")
    stored = await make().put_file("k", tmp_path / "f")
    assert stored.sha256 == hashlib.sha256(b"from a file").hexdigest()


async def test_a_link_is_not_followed(make, tmp_path):
    (tmp_path / "secret").write_text("s")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic links"):
        await make().put_file("k", tmp_path / "link")
    assert not await make().exists("k")


async def test_nothing_is_visible_of_a_stream_that_broke(make):
    store = make()

    async def broken():
        for _ in range(80):
            yield b"x" * 100_000
        raise ConnectionError

    with pytest.raises(Exception):  # whatever the source or the store says
        await store.put("half", broken())
    assert not await store.exists("half")
    assert await store.keys("") == []


async def test_keys_and_deletion(make):
    store = make()
    for key in ("spaces/a/1", "spaces/a/2", "spaces/ab/1", "spaces/b/1"):
        await store.put(key, chunks(b"x"))
    assert await store.keys("spaces/a/") == ["spaces/a/1", "spaces/a/2"]
    assert await store.keys("spaces") == ["spaces/a/1", "spaces/a/2", "spaces/ab/1", "spaces/b/1"]
    assert await store.exists("spaces/a/1")
    await store.delete(["spaces/a/1", "spaces/b/1"])
    assert await store.keys("spaces") == ["spaces/a/2", "spaces/ab/1"]
    assert not await store.exists("spaces/a/1")
    await store.delete([])


async def test_what_is_not_there_is_not_found(make):
    with pytest.raises(FileNotFoundError):
        await collect(make(), "nothing")


REMOTE = pytest.mark.parametrize("make", ["s3"], indirect=True)


@REMOTE
async def test_damage_is_found_when_a_file_is_fetched(make):
    """Another machine's store holds something else than what was stored."""
    store = make()
    stored = await store.put("k", chunks(b"as it was"))
    await store.put("k", chunks(b"as it is now"))
    with pytest.raises(ObjectDamaged):
        await make("two").local_file("k", stored.sha256)
    assert not list((make("two")._cache).iterdir()), "nothing of it is kept"


@REMOTE
async def test_a_file_is_fetched_once_for_each_machine(make):
    store = make()
    stored = await store.put("k", chunks(b"once"))
    first = await store.local_file("k", stored.sha256)
    await store.delete(["k"])
    assert await store.local_file("k", stored.sha256) == first
    assert first.stat().st_mode & 0o777 == 0o444
