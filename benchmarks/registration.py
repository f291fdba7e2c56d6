"""Five thousand people sign in, register, sign and are admitted into teams of one, over HTTP.

The server is a process of its own, so that it has one core and its clients the other.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
from tests.chaos.server import Server
from tests.support import blueprint

from benchmarks.hub import hub, processor
from benchmarks.table import Row, folder, middle, percentile, say

PEOPLE = int(os.environ.get("CLOISTER_BENCH_PEOPLE", "5000"))
CONNECTIONS = 48
ACCOUNTS = 1000
"""How many the peer creates; its time is multiplied up, since it is the same for each."""


class Crowd:
    """Everybody, each with their own session, over a few connections."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http, self._url = http, f"{url}/api/v1"
        self.cookies: list[str] = [""] * PEOPLE
        self.signatures: list[dict[str, str]] = [{}] * PEOPLE

    async def sign_in(self, number: int) -> None:
        body = {"email": f"person{number}@test.example", "name": f"Person {number}"}
        async with self._http.post(f"{self._url}/auth/demo", json=body) as answer:
            assert answer.status == 200, await answer.text()
            self.cookies[number] = answer.headers["Set-Cookie"].split(";")[0]

    async def read_form(self, number: int) -> None:
        headers = {"Cookie": self.cookies[number]}
        async with self._http.get(f"{self._url}/spaces/course/registration", headers=headers) as answer:
            form = await answer.json()
        self.signatures[number] = {a["name"]: a["hash"] for a in form["agreements"]}

    async def register(self, number: int) -> None:
        headers = {"Cookie": self.cookies[number], "Idempotency-Key": f"register-{number}"}
        body = {"signatures": self.signatures[number]}
        async with self._http.post(f"{self._url}/spaces/course/enrolment", json=body, headers=headers) as answer:
            assert answer.status == 202, await answer.text()
            await answer.read()


async def everybody(
    step: Callable[[int], Awaitable[None]], title: str, people: int = PEOPLE
) -> tuple[float, list[float]]:
    """Do a step for all people; return the seconds for all, and for each."""
    waiting = iter(range(people))
    each: list[float] = []

    async def some() -> None:
        for number in waiting:
            begun = time.perf_counter()
            await step(number)
            each.append(time.perf_counter() - begun)
            if len(each) % 1000 == 0:
                say(f"{title}: {len(each):,} of {people:,}")

    begun = time.perf_counter()
    await asyncio.gather(*(some() for _ in range(CONNECTIONS)))
    return time.perf_counter() - begun, each


def resident(pid: int) -> float:
    """Megabytes of memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def count(server: Server, table: str, where: str = "1") -> int:
    return int(server.rows(f"SELECT count(*) FROM {table} WHERE {where}")[0][0])


async def measure() -> list[Row]:
    with folder() as place:
        server = Server(place / "s", sandbox_backend="fake")
        server.declare(place, blueprint())
        server.start()
        try:
            rows = await crowd(server)
        finally:
            server.stop()
        async with hub(place) as peer:
            seconds, _ = await everybody(lambda number: peer.create(f"person{number}"), "JupyterHub: created", ACCOUNTS)
        rows[0].peer = seconds * PEOPLE / ACCOUNTS
        return rows


async def crowd(server: Server) -> list[Row]:
    pid = server.process.pid
    limit = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(connector=limit, cookie_jar=aiohttp.DummyCookieJar()) as http:
        people = Crowd(http, server.url)
        used = processor(pid)
        begun = time.perf_counter()
        signed_in, _ = await everybody(people.sign_in, "signed in")
        read, _ = await everybody(people.read_form, "read the form")
        registered, each = await everybody(people.register, "registered and signed")
        mark = time.perf_counter()
        while count(server, "enrolments", "state = 'active'") < PEOPLE:
            assert time.perf_counter() - mark < 120
            await asyncio.sleep(0.05)
        total = time.perf_counter() - begun
        used = processor(pid) - used
    assert count(server, "teams") == count(server, "role_bindings", "role = 'member'") == PEOPLE
    waited = [float(row[0]) for row in server.rows(
        "SELECT json_extract(details, '$.milliseconds') FROM audit_records WHERE name = 'spaces:enrolment:admit'"
    )]  # fmt: skip
    after = resident(pid)
    server.stop()
    server.start()
    await asyncio.sleep(3)
    server.run("audit", "verify")
    return [
        Row("5,000 people signed in, registered, admitted" if PEOPLE == 5000 else f"{PEOPLE} people", total, "s",
            "JupyterHub, to create as many users and no more:", None, 30 * PEOPLE / 5000),
        Row("  people a second", PEOPLE / total, "/s"),
        Row("  sign-in", signed_in, "s"), Row("  reading the form", read, "s"),
        Row("  registering with signature", registered, "s"),
        Row("  … one of them, p50", middle(each) * 1000, "ms", "p99:", percentile(each, 0.99) * 1000),
        Row("  processor time of the control plane", used, "s"),
        Row("submit → admitted, p50", middle(waited), "ms", "p99:", percentile(waited, 0.99), 1000),
        Row("control plane with 5,000 teams, after all that", after, "MB", "", None, 250),
        Row("control plane with 5,000 teams, started anew", resident(server.process.pid), "MB", "", None, 250),
    ]  # fmt: skip
