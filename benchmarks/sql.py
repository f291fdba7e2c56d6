"""Governed SQL beside raw DuckDB in this process, on the same Parquet file with the same threads and memory."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
import duckdb
import pyarrow as pa
from tests.chaos.server import Server
from tests.support import blueprint

from benchmarks.table import Row, folder, middle, say

ROWS = 5_000_000
THREADS, MEGABYTES = 2, 1024
TIMES = 7
QUERIES = {
    "select 1": "SELECT 1 AS one",
    "count": "SELECT count(*) AS n, avg(value) AS mean FROM readings WHERE value > 50",
    "group by 40 keys": "SELECT country, count(*) AS n, avg(value) AS mean, max(day) AS last FROM readings GROUP BY ALL",
    "group by text": "SELECT station, sum(amount) AS total FROM readings GROUP BY ALL ORDER BY total DESC LIMIT 20",
    "distinct people": "SELECT country, count(DISTINCT person) AS people FROM readings GROUP BY ALL ORDER BY 1",
    "window": (
        "SELECT country, day, n, sum(n) OVER (PARTITION BY country ORDER BY day) AS running FROM "
        "(SELECT country, day, count(*) AS n FROM readings GROUP BY ALL)"
    ),
    "self join": (
        "SELECT a.country, count(*) AS n FROM readings a JOIN (SELECT person, max(value) AS top FROM readings "
        "GROUP BY person) b ON a.person = b.person AND a.value = b.top GROUP BY ALL"
    ),
    "11 MB result": "SELECT id, person, day, value FROM readings WHERE id % 12 = 0",
}


def generate(path: Path) -> None:
    duckdb.execute(f"""
        COPY (
            SELECT i AS id, (hash(i) % 200000)::INTEGER AS person, 'country ' || (hash(i + 1) % 40) AS country,
                'station ' || (hash(i + 2) % 5000) AS station, DATE '2020-01-01' + (hash(i + 3) % 1500)::INTEGER AS day,
                round((hash(i + 4) % 100000) / 1000.0, 2) AS value, (hash(i + 5) % 1000)::INTEGER AS amount,
                hash(i + 6) % 3 = 0 AS flag
            FROM range({ROWS}) AS r(i)
        ) TO '{path}' (FORMAT parquet)
    """)  # fmt: skip


class Member:
    """Somebody who asks, over HTTP, and reads the answer's Arrow."""

    def __init__(self, http: aiohttp.ClientSession, api: str) -> None:
        self._http, self._api = http, api

    async def join(self, name: str) -> None:
        body = {"email": f"{name}@test.example", "name": name}
        async with self._http.post(f"{self._api}/auth/demo", json=body) as answer:
            assert answer.status == 200
        form = await (await self._http.get(f"{self._api}/spaces/course/registration")).json()
        body = {"signatures": {a["name"]: a["hash"] for a in form["agreements"]}}
        async with self._http.post(f"{self._api}/spaces/course/enrolment", json=body) as answer:
            assert answer.status == 202
        while (await (await self._http.get(f"{self._api}/spaces/course/enrolment")).json())["state"] != "active":
            await asyncio.sleep(0.05)

    async def ask(self, sql: str, *, cached: str) -> tuple[float, pa.Table]:
        headers = {"Accept": "application/vnd.apache.arrow.stream"}
        begun = time.perf_counter()
        async with self._http.post(f"{self._api}/spaces/course/query", json={"sql": sql}, headers=headers) as answer:
            data = await answer.read()
            assert answer.status == 200, data
            assert answer.headers["Cloister-Cached"] == cached
        table = pa.ipc.open_stream(data).read_all()
        return (time.perf_counter() - begun) * 1000, table


def raw(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[float, pa.Table]:
    begun = time.perf_counter()
    table = connection.sql(sql).to_arrow_table()
    return (time.perf_counter() - begun) * 1000, table


def session(server: Server) -> tuple[aiohttp.ClientSession, Callable[[], Member]]:
    http = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
    return http, lambda: Member(http, f"{server.url}/api/v1")


async def measure() -> list[Row]:
    with folder() as place:
        say(f"making {ROWS:,} rows")
        generate(place / "readings.parquet")
        server = Server(place / "s", query_memory_megabytes=MEGABYTES, query_cpus=THREADS)
        table = {"name": "readings", "source": str(place / "readings.parquet")}
        say("loading them as a dataset")
        server.declare(place, blueprint(
            datasets=[{"name": "readings", "title": "Readings", "tables": [table]}],
            grants=[{"to": "everybody", "dataset": "readings", "allow": ["query"]}],
        ))  # fmt: skip
        server.start()
        try:
            return await compare(server)
        finally:
            server.stop()
            server.run("space", "apply", str(place / "space.json"))  # ends the workers


async def compare(server: Server) -> list[Row]:
    key = server.rows("SELECT json_extract(tables, '$[0].key') FROM dataset_versions WHERE state = 'ready'")[0][0]
    file = server.state / "objects" / key
    connection = duckdb.connect(config={"threads": THREADS, "memory_limit": f"{MEGABYTES * 7 // 10}MB"})
    connection.execute(f"CREATE VIEW readings AS SELECT * FROM '{file}'")
    cold = []
    for number in range(3):
        say(f"cold worker {number + 1} of 3")
        http, member = session(server)
        async with http:
            stranger = member()
            await stranger.join(f"cold{number}")
            # What another team asked of the same data is kept: each asks something new.
            cold.append((await stranger.ask(f"{QUERIES['count']} -- cold {number}", cached="no"))[0])
    http, member = session(server)
    rows = []
    async with http:
        ada = member()
        await ada.join("ada")
        await ada.ask("SELECT 0 AS zero", cached="no")
        for name, sql in QUERIES.items():
            say(name)
            rows += await beside(connection, ada, name, sql)
    plain = next(row.peer for row in rows if row.what.startswith("count,"))
    return [Row("count, cold worker", middle(cold), "ms", "raw DuckDB:", plain), *rows]


async def beside(connection: duckdb.DuckDBPyConnection, member: Member, name: str, sql: str) -> list[Row]:
    """One query here and there, in turn, so that the machine's moods meet both."""
    ours, theirs, cached = [], [], []
    raw(connection, sql)
    await member.ask(sql, cached="no")
    for number in range(TIMES):
        one, mine = await member.ask(f"{sql} -- {number}", cached="no")
        two, plain = raw(connection, sql)
        assert mine.num_rows == plain.num_rows
        ours.append(one)
        theirs.append(two)
    for _ in range(20):
        cached.append((await member.ask(sql, cached="yes"))[0])
    long, small = middle(theirs) > 50, mine.nbytes < 1_000_000
    return [
        Row(f"{name}, warm worker", middle(ours), "ms", "raw DuckDB:", middle(theirs), 1.15 if long else None, ratio=long),
        Row(f"{name}, cached", middle(cached), "ms", "", None, 5 if small else None),
    ]  # fmt: skip
