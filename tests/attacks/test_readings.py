"""What the platform reads of a sandbox, the sandbox chose: links, pipes, holes and floods are not what they seem."""

import asyncio
import json
import os
import socket
import time
from contextlib import asynccontextmanager

import pytest

from cloister.core.errors import CloisterError
from cloister.datasets import Reading
from cloister.query import convert
from cloister.sandboxes.app_socket import AppNotListening, connect_app
from tests.support import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_app_socket_is_never_followed_elsewhere(arena, tmp_path):
    heard = []

    async def host_service(_reader, writer):
        heard.append(1)
        writer.close()

    server = await asyncio.start_unix_server(host_service, str(tmp_path / "host.sock"))
    sandbox = await arena.start(
        f"""
        import os, socket, time
        os.symlink({str(tmp_path / "host.sock")!r}, "/run/app/app.sock")
        os.symlink("../sockets/inner.sock", "/run/app/up.sock")
        os.symlink("/run/cloister/inner.sock", "/run/app/inner.sock")
        os.mkfifo("/run/app/fifo.sock")
        open("/run/app/file.sock", "w").close()
        os.mkdir("/run/app/folder.sock")
        print("ready", flush=True)
        time.sleep(30)
        """
    )

    async def ready():
        return "ready" in await arena.api.output(arena.attacker, sandbox)

    await until(ready, 20)
    place = arena.platform.sandbox_controller.place(sandbox["id"])
    assert (place.app / "app.sock").is_symlink()
    for name in ("app.sock", "up.sock", "inner.sock", "fifo.sock", "file.sock", "folder.sock", "none.sock"):
        with pytest.raises(AppNotListening):
            await asyncio.wait_for(connect_app(place, name), 5)
    assert heard == []
    await arena.stop(sandbox)
    server.close()
    await server.wait_closed()


@asynccontextmanager
async def evil_converter(arena, monkeypatch, folder, program):
    """A converter that a malicious file has taken over: it leaves what it likes in the volume."""
    folder.chmod(0o755)
    (folder / "convert.py").write_text("import json, os, sys\nos.chdir('/home/user')\n" + program)
    (folder / "convert.py").chmod(0o644)
    monkeypatch.setattr(convert, "worker_files", lambda: folder)
    source = folder / "source.csv"
    source.write_text("a\n1\n")
    source.chmod(0o644)
    stored = []

    async def store(converted):
        put = await arena.platform.objects.put_file(f"evil/{time.monotonic_ns()}", converted.path)
        stored.append(put)

    async def progress(_part, _message):
        return

    async def job():
        await asyncio.wait_for(
            arena.platform.converter.convert("course", source, Reading("csv", {}), store, progress), 25
        )

    yield job, stored


GOOD = "json.dump({'rows': 1, 'columns': []}, open('result.json', 'w'))\n"
EVIL = {
    "result.json is a link": "os.symlink('CANARY', 'result.json')\n",
    "result.json is a FIFO": "os.mkfifo('result.json')\n",
    "result.json is a folder": "os.mkdir('result.json')\n",
    "result.json is missing": "",
    "result.json is huge": "open('result.json', 'w').write('{\"error\": \"' + 'x' * 20_000_000 + '\"}')\n",
    "result.json is deep": "open('result.json', 'w').write('[' * 1_000_000)\n",
    "result.json has wrong types": "json.dump({'rows': 'many', 'columns': {}}, open('result.json', 'w'))\n",
    "result.json is not text": "open('result.json', 'wb').write(bytes(range(256)))\n",
    "result.parquet is a link": GOOD + "os.symlink('CANARY', 'result.parquet')\n",
    "result.parquet is a FIFO": GOOD + "os.mkfifo('result.parquet')\n",
    "result.parquet is a folder": GOOD + "os.mkdir('result.parquet')\n",
    "result.parquet is missing": GOOD,
    "result.parquet is a hole": GOOD + "open('result.parquet', 'w').truncate(2**30)\n",
    "progress is garbage": "print('{\"progress\"', flush=True)\nimport time\ntime.sleep(3)\n",
    "progress is deep": "print('{\"progress\": ' + '[' * 30_000, flush=True)\nimport time\ntime.sleep(3)\n",
}


@pytest.mark.parametrize("name", EVIL)
async def test_what_a_converter_leaves_is_read_with_care(arena, monkeypatch, tmp_path, name):
    canary = tmp_path / "canary"
    canary.write_text("CANARY")
    folder = tmp_path / "worker"
    folder.mkdir()
    for parent in tmp_path.parents:
        if "pytest" in parent.name or "tmp" in parent.name:
            parent.chmod(parent.stat().st_mode | 0o055)
    tmp_path.chmod(0o755)
    program = EVIL[name].replace("CANARY", str(canary))
    mounted, open_before = arena.platform.disks.all_mounted(), len(os.listdir("/proc/self/fd"))
    async with evil_converter(arena, monkeypatch, folder, program) as (job, stored):
        try:
            with pytest.raises(CloisterError) as refused:
                await job()
        finally:
            release_fifos(arena)
        assert refused.value.status < 600
        assert stored == []
    controller = arena.platform.sandbox_controller

    async def all_ended():
        return not [i for i, live in controller.live.items() if live.connected and live.connected.team is None]

    await until(all_ended, 6)
    assert arena.platform.disks.all_mounted() <= mounted, "a volume was left mounted"
    assert len(os.listdir("/proc/self/fd")) <= open_before + 4
    assert canary.read_text() == "CANARY"


def release_fifos(arena) -> None:
    """Let a thread of the platform go that waits at a FIFO (only where the test has failed)."""
    for volume in arena.platform.disks.all_mounted():
        fifo = arena.platform.disks.mount_point(volume) / "result.parquet"
        if fifo.is_fifo():
            os.close(os.open(fifo, os.O_RDWR | os.O_NONBLOCK))


async def test_a_socket_of_the_host_has_no_name_inside(arena):
    """Nor has one a number: no descriptor of the platform is inherited by a program."""
    found = await arena.attack(
        """
        import attack, os
        attack.report(open={fd: os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")})
        """
    )
    for number, target in found["open"].items():
        assert int(number) <= 3, found
        assert "socket" not in target, found
    assert socket.gethostname() not in json.dumps(found)
