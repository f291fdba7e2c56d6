"""Workspaces: asked for to JupyterLab's API answering through the gateway; memory; a cell's round trip.

Beside JupyterHub with its local spawner, in the same run.
"""

import asyncio
import contextlib
import json
import time
import uuid
from pathlib import Path
from typing import Any

import aiohttp
from tests.chaos.server import Server
from tests.support import ARROW, blueprint

from benchmarks.hub import GIVEN_UP_SECONDS, Hub, hub, processor, pss, zmq_round_trip
from benchmarks.table import Row, folder, middle, percentile, say

TEAMS = 20
RUNS = 8
SHARE_SECONDS = 30.0


LAB = {"name": "lab", "packages": ARROW, "app": "jupyterlab"}


def space(environment: dict[str, Any], downloads: str = "allowed") -> Any:
    sizes = {"small": {"cpus": 2.0, "memory": "1G", "disk": "128M", "scratch": "64M", "processes": 256}}
    policies = {"workspace_disk": "128M", "downloads": downloads}
    return blueprint(environments=[environment], sizes=sizes, policies=policies)


class Member:
    """One learner and their workspace, by API token."""

    scopes = ("workspace.*",)

    def __init__(self, http: aiohttp.ClientSession, url: str, number: int) -> None:
        self._http, self._url, self._number = http, url, number
        self.team = self.host = ""
        self.headers: dict[str, str] = {}

    async def enrol(self) -> None:
        api = f"{self._url}/api/v1"
        body = {"email": f"m{self._number}@test.example", "name": "M"}
        async with self._http.post(f"{api}/auth/demo", json=body) as answer:
            cookie = {"Cookie": answer.headers["Set-Cookie"].split(";")[0]}
        async with self._http.get(f"{api}/spaces/course/registration", headers=cookie) as answer:
            hashes = {a["name"]: a["hash"] for a in (await answer.json())["agreements"]}
        async with self._http.post(
            f"{api}/spaces/course/enrolment", json={"signatures": hashes}, headers=cookie
        ) as answer:
            await answer.read()
        state: dict[str, Any] = {}
        while not state.get("team"):
            async with self._http.get(f"{api}/spaces/course/enrolment", headers=cookie) as answer:
                state = await answer.json()
        async with self._http.post(
            f"{api}/me/tokens", json={"name": "b", "scopes": list(self.scopes), "days": 1}, headers=cookie
        ) as answer:
            self.headers = {"Authorization": f"Bearer {(await answer.json())['token']}"}
        self.team, port = state["team"], self._url.rsplit(":", 1)[1]
        self.host = f"{state['person']}.course.localhost:{port}"

    async def post(self, what: str, body: dict[str, Any] | None = None, method: str = "POST") -> None:
        url = f"{self._url}/api/v1/spaces/course/teams/{self.team}/workspace{what}"
        async with self._http.request(method, url, json=body or {}, headers=self.headers) as answer:
            assert answer.status < 300, await answer.text()

    async def state(self) -> dict[str, Any]:
        url = f"{self._url}/api/v1/spaces/course/teams/{self.team}/workspace"
        async with self._http.get(url, headers=self.headers) as answer:
            found: dict[str, Any] = await answer.json()
            return found

    async def answers(self, path: str = "/api/status") -> bool:
        async with self._http.get(self._url + path, headers={**self.headers, "Host": self.host}) as answer:
            await answer.read()
            return answer.status == 200

    async def start(self) -> float:
        """Ask, be told by the gateway when it is there, as the page is that a browser shows meanwhile, and ask the app;
        return the milliseconds.
        """
        begun = time.perf_counter()
        await self.post("/start")
        async with asyncio.timeout(60):
            await self.told()
            while not await self.answers():
                await asyncio.sleep(0.005)
        return (time.perf_counter() - begun) * 1000

    def page(self) -> Any:
        """What an open page of it listens to."""
        return self._http.get(f"{self._url}/_cloister/events", headers={**self.headers, "Host": self.host})

    async def told(self) -> None:
        async with self._http.get(f"{self._url}/_cloister/start", headers={**self.headers, "Host": self.host}) as steps:
            async for line in steps.content:
                if b'"step": "ready"' in line:
                    return
                assert b'"failed"' not in line, line

    async def stop(self) -> None:
        await self.post("/stop")
        while (await self.state())["state"] != "stopped":
            await asyncio.sleep(0.02)

    async def cells(self, count: int) -> list[float]:
        url, headers = f"{self._url}/api/kernels", {**self.headers, "Host": self.host}
        return await round_trips(self._http, url, headers, count)

    async def first_cells(self) -> list[float]:
        headers = {**self.headers, "Host": self.host}
        return await first_cells(self._http, f"{self._url}/api/kernels", headers, f"{self._url}/lab")


async def execute(ws: aiohttp.ClientWebSocketResponse) -> float:
    """Run a cell; return the milliseconds to its reply. Returns when the kernel is idle again."""
    id_ = uuid.uuid4().hex
    names = {"silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
    header = {
        "msg_id": id_,
        "msg_type": "execute_request",
        "username": "",
        "session": id_,
        "version": "5.3",
        "date": "",
    }
    message = {"header": header, "parent_header": {}, "metadata": {}, "channel": "shell", "buffers": []}
    begun = time.perf_counter()
    await ws.send_json({**message, "content": {"code": "1", **names}})
    took, idle = 0.0, False
    while not (took and idle):
        said = json.loads(await ws.receive_str())
        if said["parent_header"].get("msg_id") != id_:
            continue
        if said["msg_type"] == "execute_reply":
            took = (time.perf_counter() - begun) * 1000
        idle = idle or (said["msg_type"] == "status" and said["content"]["execution_state"] == "idle")
    return took


async def round_trips(http: aiohttp.ClientSession, url: str, headers: dict[str, str], count: int) -> list[float]:
    """Milliseconds from sending a cell to its reply."""
    async with http.post(url, headers=headers, json={"name": "python3"}) as answer:
        kernel = (await answer.json())["id"]
    async with http.ws_connect(f"{url}/{kernel}/channels", headers=headers) as ws:
        times = [await execute(ws) for _ in range(count)]
    return sorted(times[5:])


async def first_cells(http: aiohttp.ClientSession, url: str, headers: dict[str, str], visit: str) -> list[float]:
    """Milliseconds from asking for a kernel, as a new notebook does, to the reply to its first cell."""
    times = []
    for _ in range(5):
        async with http.get(visit, headers={**headers, "Sec-Fetch-Dest": "document", "Accept": "text/html"}) as answer:
            await answer.read()  # the page, which somebody opens before
        await asyncio.sleep(3)
        begun = time.perf_counter()
        async with http.post(url, headers=headers, json={"name": "python3"}) as answer:
            kernel = (await answer.json())["id"]
        async with http.ws_connect(f"{url}/{kernel}/channels", headers=headers) as ws:
            await execute(ws)
            times.append((time.perf_counter() - begun) * 1000)
        async with http.delete(f"{url}/{kernel}", headers=headers) as answer:
            await answer.read()
    return times


def memory(sandboxes: list[str]) -> float:
    """Megabytes (PSS) of all processes of some sandboxes."""
    total = 0.0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            groups = (process / "cgroup").read_text()
            if any(line.rpartition("/")[2] in sandboxes for line in groups.splitlines()):
                total += pss(process)
        except OSError:
            continue
    return total


async def page_share(server: Server, members: list[Member]) -> tuple[float, float]:
    """Percent of a processor that the control plane uses: while workspaces run, and while a page of each is open, too."""
    assert server.process is not None
    pid = server.process.pid

    async def share() -> float:
        before = processor(pid)
        await asyncio.sleep(SHARE_SECONDS)
        return (processor(pid) - before) / SHARE_SECONDS * 100

    closed = await share()
    async with contextlib.AsyncExitStack() as pages:
        for member in members:
            await pages.enter_async_context(member.page())
        return closed, await share()


def server_memory(server: Server) -> float:
    """Megabytes (PSS) of the control plane and what it has started besides sandboxes."""
    assert server.process is not None
    every = {server.process.pid}
    for process in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        with contextlib.suppress(OSError, ValueError):
            if int((process / "stat").read_text().rpartition(")")[2].split()[1]) in every:
                every.add(int(process.name))
    total = 0.0
    for pid in every:
        with contextlib.suppress(OSError):
            total += pss(Path(f"/proc/{pid}"))
    return total


async def measure() -> list[Row]:
    rows: list[Row] = []
    with folder() as place:
        async with hub(place) as peer:
            beside = await hub_figures(peer)
        beside["zmq"] = await asyncio.to_thread(zmq_round_trip)
        say(f"ZMQ to the kernel: {beside['zmq']:.1f} ms")
        cold = await with_server(place / "c", place, space(LAB), _cold, warm_starts="false")
        rows += [
            Row("workspace, cold: asked → API through the gateway, p50", middle(cold), "ms", "JupyterHub", beside["one"], 2000),
        ]  # fmt: skip
        rows += await with_server(place / "w", place, space(LAB), lambda server, http: _warm(server, http, beside))
    return rows


async def with_server(state: Path, place: Path, declared: Any, work: Any, **settings: str) -> Any:
    server = Server(
        state,
        gateway="managed",
        gateway_requests_per_minute=10_000_000,
        gateway_domain="localhost",
        log_level="info",
        log_format="json",
        **settings,
    )
    server.declare(place, declared)
    server.start()
    try:
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar()
        ) as http:
            return await work(server, http)
    finally:
        server.stop()


async def hub_figures(peer: Hub) -> dict[str, float]:
    one = []
    for number in range(3):
        begun = time.perf_counter()
        await peer.spawn(f"one{number}")
        one.append((time.perf_counter() - begun) * 1000)
        say(f"JupyterHub: {one[-1]:,.0f} ms")
    cells = await round_trips(peer.http, f"{peer.url}/user/one0/api/kernels", {}, 40)
    home = f"{peer.url}/user/one0"
    first = middle(await first_cells(peer.http, f"{home}/api/kernels", {}, f"{home}/lab"))
    say(f"JupyterHub, first cell: {first:,.0f} ms")
    for number in range(3):
        await peer.stop(f"one{number}")
    begun = time.perf_counter()
    there = await asyncio.gather(*(peer.spawn(f"many{number}") for number in range(TEAMS)))
    came = [moment for moment in there if moment is not None]
    many = (max(came, default=begun + GIVEN_UP_SECONDS) - begun) * 1000
    say(f"JupyterHub: {len(came)} of {TEAMS} at once {many:,.0f} ms")
    used = peer.memory()
    return {
        "one": middle(one),
        "many": many,
        "memory": sum(used) / max(1, len(used)),
        "cell": middle(cells),
        "first": first,
    }


async def _cold(server: Server, http: aiohttp.ClientSession) -> list[float]:
    member = Member(http, server.url, 1)
    await member.enrol()
    await until_built(member)
    times = []
    for _ in range(4):
        times.append(await member.start())
        say(f"cold: {times[-1]:,.0f} ms")
        await member.stop()
    return times[1:]


async def until_built(member: Member) -> None:
    """The first start waits until the environment controller has seen what is built."""
    async with asyncio.timeout(120):
        while True:
            await member.post("/start")
            while (state := await member.state())["state"] == "starting":
                await asyncio.sleep(0.05)
            if state["state"] == "running":
                break
    await member.stop()


async def _warm(server: Server, http: aiohttp.ClientSession, beside: dict[str, float]) -> list[Row]:
    members = [Member(http, server.url, number) for number in range(TEAMS)]
    await asyncio.gather(*(member.enrol() for member in members))
    first = members[0]
    await until_built(first)
    async with asyncio.timeout(60):
        while "zygote.ready" not in server.log.read_text():
            await asyncio.sleep(0.1)
    one = []
    for _ in range(RUNS):
        one.append(await first.start())
        say(f"warm: {one[-1]:,.0f} ms")
        await first.stop()
    await asyncio.gather(*(member.start() for member in members))  # volumes are made by the first start
    await asyncio.gather(*(member.stop() for member in members))
    begun = time.perf_counter()
    await asyncio.gather(*(member.start() for member in members))
    many = (time.perf_counter() - begun) * 1000
    say(f"{TEAMS} at once: {many:,.0f} ms")
    sandboxes = [(await member.state())["sandbox"] for member in members]
    used = memory(sandboxes) / TEAMS
    cells = await first.cells(105)
    firsts = await first.first_cells()
    closed, opened = await page_share(server, members)
    say(f"control plane with {TEAMS} that run: {closed:.1f} % of a processor, with a page of each open: {opened:.1f} %")
    say(f"first cell: {middle(firsts):,.0f} ms")
    for member in members:
        await member.stop()
    left = memory(sandboxes)
    asleep = server_memory(server)
    say(f"control plane, Caddy and zygote with {TEAMS} that are stopped: {asleep:.1f} MB")
    return [
        Row("workspace, warm: asked → API through the gateway, p50", middle(one), "ms", "JupyterHub", beside["one"], 150),
        Row("  p95", percentile(one, 0.95), "ms"),
        Row(f"{TEAMS} workspaces at once, warm, all answering", many, "ms", "JupyterHub", beside["many"], 2000),
        Row("memory (PSS) of one that is idle, of 20", used, "MB", "JupyterHub's server", beside["memory"], 45),
        Row("  of one that is stopped", left / TEAMS, "MB", hold=0.1),
        Row(f"memory (PSS) of control plane, Caddy and zygote with {TEAMS} that are stopped", asleep, "MB"),
        Row(f"control plane's share of one processor with {TEAMS} that run and a page of each open", opened, "%",
            "without pages:", closed),
        Row("a cell's round trip through gateway and relay, on record, p50", middle(cells), "ms",
            f"JupyterHub {beside['cell']:,.1f}; ZMQ straight to the kernel:", beside["zmq"], 5),
        Row("  p95", percentile(cells, 0.95), "ms"),
        Row("a new notebook's kernel asked for → its first cell's reply, p50", middle(firsts), "ms", "JupyterHub", beside["first"], 100),
    ]  # fmt: skip
