"""Live dashboards: opened to the first OUTPUT in a WebSocket client; one integration to a thousand viewers; a flood.

Beside a plain start of the same program's interpreter in the same run.
"""

import asyncio
import json
import multiprocessing
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import aiohttp
import uvloop
from tests.chaos.server import Server
from tests.support import blueprint

from benchmarks.hub import pss
from benchmarks.table import Row, folder, middle, percentile, say
from benchmarks.workspaces import Member

RUNS, MANY, VIEWERS, SECONDS = 12, 20, 1000, 6
LULL = 1.5
"""Seconds between two openings, after which the platform starts a sandbox that waits for the next."""
MAIN = "import cloister\ncloister.output({'n': 1})\nimport time; time.sleep(600)\n"
GO_MOD = "module bench\n\ngo 1.24\n"
GO = """package main

import (
	"time"

	"cloister"
)

func main() {
	cloister.Output(map[string]any{"n": 1})
	time.Sleep(time.Hour)
}
"""
FRAMES = "import numpy, pandas, cloister\ncloister.output({'n': int(pandas.DataFrame({'a': numpy.arange(3)}).a.sum())})\nimport time; time.sleep(600)\n"
NODE = "const c = require('cloister'); c.output({ n: 1 }); setInterval(() => {}, 1000);\n"
TEN = """
import time, cloister
n = 0
while True:
    n += 1
    cloister.output({"n": n, "at": time.time()})
    time.sleep(0.1)
"""
FLOOD = """
import cloister
big, n = "x" * 100_000, 0
while True:
    n += 1
    cloister.output({"n": n, "big": big})
"""
AT = re.compile(rb'"(?:at"|path":"/at","value"|value"):\s?(1[0-9]{9}\.[0-9]+)')


class Author(Member):
    """A member who publishes modules and looks at dashboards."""

    scopes = ("module.*", "dashboard.*", "team.*", "space.*")

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        async with self._http.request(method, f"{self._url}/api/v1{path}", json=body, headers=self.headers) as answer:
            text = await answer.text()
            assert answer.status < 300, text
            return json.loads(text) if text else None

    async def publish(self, name: str, version: str = "1.0.0", **files: str) -> float:
        """Publish a release; return the milliseconds until it can run."""
        named = {path.replace("__", "."): text for path, text in files.items()}
        if version == "1.0.0":
            await self.call("POST", "/modules", {"name": name, "files": named})
        begun = time.perf_counter()
        await self.call("POST", f"/modules/{name}/releases", {"version": version})
        while True:
            release = await self.call("GET", f"/modules/{name}/releases/{version}")
            if release["state"] != "building":
                assert release["state"] == "ready", release
                return (time.perf_counter() - begun) * 1000
            await asyncio.sleep(0.01)

    async def board(self, *modules: str) -> str:
        integrations = [{"id": f"i{n}", "module": module} for n, module in enumerate(modules)]
        body = {"team": self.team, "document": {"name": "Board", "integrations": integrations}}
        made: dict[str, Any] = await self.call("POST", "/spaces/course/dashboards", body)
        return str(made["id"])

    async def opened(self, board: str, outputs: int = 1) -> float:
        """Open a dashboard; return the milliseconds until each of its integrations has put something out."""
        begun = time.perf_counter()
        ticket = await self.call("POST", f"/spaces/course/dashboards/{board}/live")
        seen: set[str] = set()
        async with self._http.ws_connect(f"{self._url}/api/v1{ticket['path']}") as ws:
            while len(seen) < outputs:
                said = json.loads(await ws.receive_str())
                if said["type"] == "OUTPUT":
                    seen.add(said["integration"])
        took = (time.perf_counter() - begun) * 1000
        await self.call("DELETE", f"/spaces/course/dashboards/{board}")
        return took


async def measure() -> list[Row]:
    rows = []
    for word, blanks in (("cold", 0), ("warm", 24)):
        with folder() as place:
            server = Server(
                place / "s", gateway="managed", gateway_domain="localhost", gateway_requests_per_minute=10_000_000,
                blank_sandboxes=blanks,
            )  # fmt: skip
            server.declare(place, blueprint(policies={"integrations_per_team": 40, "sandboxes_per_team": 60}))
            server.start()
            try:
                connector = aiohttp.TCPConnector(limit=0)
                async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as http:
                    author = Author(http, server.url, 1)
                    await author.enrol()
                    rows += await _publish(author) if not blanks else []
                    rows += await _open(author, word, LULL if blanks else 0.0)
                    rows += await _fan_out(author, server) + await _flood(author, server) if blanks else []
            finally:
                server.stop()
    return rows


async def _publish(author: Author) -> list[Row]:
    built = await author.publish("first", main__py=FRAMES, requirements__txt="numpy\npandas\n")
    again = await author.publish("first", "1.0.1")
    say(f"publish with numpy and pandas: {built:,.0f} ms, again {again:,.0f} ms")
    first, other = [
        await author.publish(f"compiled{n}", go__mod=GO_MOD, main__go=f"{GO}// {time.time_ns()}\n") for n in range(2)
    ]
    say(f"publish in Go: {first:,.0f} ms, another module {other:,.0f} ms")
    return [
        Row("publish again with numpy and pandas already built", again, "ms", "first time", built),
        Row("publish a module in Go, its standard library compiled before", other, "ms", "first in Go", first),
    ]


async def _open(author: Author, word: str, lull: float) -> list[Row]:
    """Open dashboards, with a while between so that sandboxes can be made ready where they are to be."""
    await author.publish("plain", main__py=MAIN)
    await author.publish("node", index__js=NODE, package__json="{}")
    await author.publish("go", go__mod=GO_MOD, main__go=GO)
    await author.publish("frames", main__py=FRAMES, requirements__txt="numpy\npandas\n")
    beside = middle([_plain_start() for _ in range(RUNS)])
    hold = {"cold": 120, "warm": 40}[word]
    rows = []

    async def opened(*modules: str) -> float:
        took = await author.opened(await author.board(*modules), len(modules))
        await asyncio.sleep(lull)
        return took

    for name, what in (
        ("plain", "Python, nothing to install"),
        ("node", "Node"),
        ("go", "Go"),
        ("frames", "numpy and pandas"),
    ):
        await opened(name)
        times = [await opened(name) for _ in range(RUNS)]
        title = f"{word}: dashboard opened → first OUTPUT, {what}, p50"
        rows.append(Row(title, middle(times), "ms", "plain start", beside, hold if name == "plain" else None))
        say(f"{word}, {what}: {middle(times):,.0f} ms, p95 {percentile(times, 0.95):,.0f}")
    lull *= 4  # so many are started one after the other
    await opened(*["plain"] * MANY)
    many = middle([await opened(*["plain"] * MANY) for _ in range(3)])
    rows.append(
        Row(
            f"{word}: {MANY} integrations at once, all have put something out",
            many,
            "ms",
            "plain starts",
            beside * MANY,
        )
    )
    return rows


def _plain_start() -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import json, http.client; print(1)"], check=True, capture_output=True)
    return (time.perf_counter() - begun) * 1000


class Looker(asyncio.Protocol):
    """A viewer that does as little as can be: it shares the processors with what is measured."""

    def __init__(self, host: str, path: str, late: list[float], ready: asyncio.Semaphore) -> None:
        self._request = (
            f"GET /api/v1{path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        self._late, self._ready, self._open = late, ready, False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.WriteTransport", transport).write(self._request.encode())

    def data_received(self, data: bytes) -> None:
        now = time.time()
        if not self._open:
            assert data.startswith(b"HTTP/1.1 101"), data
            self._open = True
            self._ready.release()
        for found in AT.finditer(data):
            self._late.append((now - float(found[1])) * 1000)


def _viewers(url: str, door: str | None, paths: list[str], seconds: float, results: Any) -> None:
    """A process of many viewers; puts the milliseconds from each output to its arrival. By a socket: past Caddy."""

    async def all_of_them() -> list[float]:
        late: list[float] = []
        ready = asyncio.Semaphore(0)
        loop = asyncio.get_running_loop()
        address = urlsplit(url)
        lines = []
        for path in paths:
            make = partial(Looker, address.netloc, path, late, ready)
            one = (
                loop.create_unix_connection(make, door)
                if door
                else loop.create_connection(make, "127.0.0.1", address.port)
            )
            lines.append((await one)[0])
        for _ in paths:
            await ready.acquire()
        await asyncio.sleep(1)
        late.clear()
        await asyncio.sleep(seconds)
        found = list(late)
        for line in lines:
            line.close()
        return found

    results.put(uvloop.run(all_of_them()))


async def _fan_out(author: Author, server: Server) -> list[Row]:
    await author.publish("ten", main__py=TEN)
    board = await author.board("ten")
    context = multiprocessing.get_context("spawn")

    async def with_viewers(count: int, door: str | None = None) -> list[float]:
        paths = [(await author.call("POST", f"/spaces/course/dashboards/{board}/live"))["path"] for _ in range(count)]
        results: Any = context.Queue()
        process = context.Process(target=_viewers, args=(server.url, door, paths, SECONDS, results))
        process.start()
        late: list[float] = await asyncio.to_thread(results.get)
        process.join()
        return late

    door = str(server.state / "run" / "control.sock")
    one = await with_viewers(1, door)
    hub, caddy = await with_viewers(VIEWERS, door), await with_viewers(VIEWERS)
    await author.call("DELETE", f"/spaces/course/dashboards/{board}")
    say(f"{VIEWERS} viewers: {len(hub) / SECONDS:,.0f} messages/s, p50 {middle(hub):.1f} ms")
    say(f"through Caddy: {len(caddy) / SECONDS:,.0f} messages/s, p50 {middle(caddy):.1f} ms")
    what = f"10 messages/s to {VIEWERS:,} viewers"
    return [
        Row(f"{what}: output → client, p99", percentile(hub, 0.99), "ms", "one viewer", percentile(one, 0.99), 40),
        Row(f"{what}: messages that arrived", len(hub) / SECONDS, "/s", "sent", 10.0 * VIEWERS),
        Row(
            f"{what} through Caddy on the same two cores, p99",
            percentile(caddy, 0.99),
            "ms",
            "one viewer",
            percentile(one, 0.99),
        ),
    ]


async def _flood(author: Author, server: Server) -> list[Row]:
    assert server.process is not None
    process = Path(f"/proc/{server.process.pid}")
    await author.publish("flood", main__py=FLOOD)
    before = pss(process)
    board = await author.board("flood")
    ticket = await author.call("POST", f"/spaces/course/dashboards/{board}/live")
    async with author._http.ws_connect(f"{author._url}/api/v1{ticket['path']}", max_msg_size=0) as ws:
        await asyncio.sleep(8)  # and nothing is read
        grown = pss(process) - before
        while (said := json.loads(await ws.receive_str()))["type"] != "OUTPUT":
            pass
    await author.call("DELETE", f"/spaces/course/dashboards/{board}")
    say(f"flood: {said['seq']} outputs of 100 kB seen first")
    return [Row("memory that a flooding producer and a viewer that never reads cost", grown, "MB", "before", before)]
