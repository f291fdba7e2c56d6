"""The gateway's rate with a decision on every request, beside configurable-http-proxy, which decides nothing, in front of
the same server; both in the same run.
"""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from tests.chaos.server import Server
from tests.support import free_port

from benchmarks.hub import PEERS, install
from benchmarks.table import Row, folder, say
from benchmarks.workspaces import Member, space, until_built, with_server

CONNECTIONS = 64
SECONDS = 8
APP = """
import asyncio, sys
class Answer(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.data = transport, b""
    def data_received(self, data):
        self.data += data
        while b"\\r\\n\\r\\n" in self.data:
            _, self.data = self.data.split(b"\\r\\n\\r\\n", 1)
            self.transport.write(b"HTTP/1.1 200 OK\\r\\nContent-Type: text/plain\\r\\nContent-Length: 2\\r\\n\\r\\nok")
async def main():
    loop = asyncio.get_running_loop()
    if len(sys.argv) > 1:
        server = await loop.create_server(Answer, "127.0.0.1", int(sys.argv[1]))
    else:
        server = await loop.create_unix_server(Answer, "/run/app/app.sock")
    await server.serve_forever()
asyncio.run(main())
"""
WEB = {"name": "fast", "app": {"command": ["python3", "-c", APP]}}


def rate(url: str, headers: dict[str, str]) -> tuple[float, float]:
    """Requests a second and p99 (ms) of a small answer, asked for with wrk."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "--latency", url]
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Non-2xx" not in done.stdout, done.stdout
    found = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    late = re.search(r"99%\s+([\d.]+)(us|ms|s)", done.stdout)
    assert found and late, done.stdout
    return float(found[1]), float(late[1]) * {"us": 0.001, "ms": 1, "s": 1000}[late[2]]


@contextlib.asynccontextmanager
async def running(*command: str, port: int) -> AsyncIterator[None]:
    """A program, once it listens on a port."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                await asyncio.sleep(0.05)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # Node from PyPI is a child of what is started
        await process.wait()


async def peer() -> tuple[tuple[float, float], tuple[float, float]]:
    """The server alone, and behind configurable-http-proxy."""
    await asyncio.to_thread(install)
    app, proxy = free_port(), free_port()
    program = str(PEERS / "node_modules" / ".bin" / "configurable-http-proxy")
    target = ["--default-target", f"http://127.0.0.1:{app}", "--log-level", "error"]
    listen = ["--ip", "127.0.0.1", "--port", str(proxy), "--api-port", str(free_port())]
    async with running(sys.executable, "-c", APP, str(app), port=app), running(program, *target, *listen, port=proxy):
        alone = await asyncio.to_thread(rate, f"http://127.0.0.1:{app}/x", {})
        behind = await asyncio.to_thread(rate, f"http://127.0.0.1:{proxy}/x", {})
    return alone, behind


async def measure() -> list[Row]:
    declared = space(WEB)
    with folder() as place:
        say("configurable-http-proxy and the server alone")
        alone, behind = await peer()
        say("the gateway")
        ours, late = await with_server(place / "s", place, declared, _ours)
        say("the gateway where downloads are metered, as they are unless a space says otherwise")
        metered, metered_late = await with_server(place / "m", place, space(WEB, "metered"), _ours)
    return [
        Row(f"gateway with its decision, {CONNECTIONS} connections", ours, "/s",
            f"the server alone {alone[0]:,.0f}; configurable-http-proxy:", behind[0], 1, ratio=True, at_least=True),
        Row("  p99", late, "ms", "configurable-http-proxy", behind[1]),
        Row("gateway where downloads are metered: every answer is counted", metered, "/s",
            "configurable-http-proxy, which counts nothing:", behind[0], None, ratio=True, at_least=True),
        Row("  p99", metered_late, "ms", "configurable-http-proxy", behind[1]),
    ]  # fmt: skip


async def _ours(server: Server, http: aiohttp.ClientSession) -> Any:
    member = Member(http, server.url, 1)
    await member.enrol()
    await until_built(member)
    await member.start()
    return await asyncio.to_thread(rate, f"{server.url}/x", {"Host": member.host, **member.headers})
