"""The audit log: durable records a second, in groups and one at a time, and verification."""

import asyncio
import hashlib
import os
import sqlite3
import time
from pathlib import Path

from tests.support import Postgres

from benchmarks.table import Row, folder, say
from cloister.audit import Draft, Name, Recorder, seal, verify
from cloister.bootstrap import upgrade_schema
from cloister.platform import Database

RECORDS = 200_000
SINGLE = 2_000
TASKS = 4_000


def draft(number: int) -> Draft:
    return Draft(
        name=Name.QUERY_ASKED, person=number % 5000, team=number % 1000, actor="person", space="course",
        subject=f"qry_{number:026d}", request_id=f"req_{number:026d}",
        details={"sql": "SELECT country, count(*) FROM patients GROUP BY 1", "tables": ["patients"], "cached": False},
    )  # fmt: skip


async def grouped(recorder: Recorder) -> float:
    """Many tasks, each of which waits for each of its records to be on disk."""
    begun = time.perf_counter()

    async def one(first: int) -> None:
        for number in range(first, RECORDS, TASKS):
            await recorder.record(draft(number))

    await asyncio.gather(*(one(first) for first in range(TASKS)))
    return RECORDS / (time.perf_counter() - begun)


async def single(recorder: Recorder) -> float:
    begun = time.perf_counter()
    for number in range(SINGLE):
        await recorder.record(draft(number))
    return SINGLE / (time.perf_counter() - begun)


async def verified(database: Database) -> float:
    begun = time.perf_counter()
    verdict = await verify(database, None)
    assert verdict.sound and verdict.records == RECORDS + SINGLE, verdict
    return verdict.records / (time.perf_counter() - begun)


def plain_sqlite(path: Path, group: int, records: int) -> float:
    """The limit: the same rows, written by the C library from one thread, with nothing around it."""
    with sqlite3.connect(path, isolation_level=None) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE log (seq INTEGER PRIMARY KEY, body TEXT, hash BLOB)")
        last, begun = bytes(32), time.perf_counter()
        for first in range(0, records, group):
            rows = []
            for number in range(first, first + group):
                body = f"{number}" + "x" * 250
                last = hashlib.sha256(last + body.encode()).digest()
                rows.append((number, body, last))
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO log VALUES (?, ?, ?)", rows)
            connection.execute("COMMIT")
        return records / (time.perf_counter() - begun)


def syncs(path: Path, seconds: float = 1.0) -> float:
    """How often a second this disk makes a small append durable."""
    descriptor, count, begun = os.open(path, os.O_WRONLY | os.O_CREAT), 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        os.write(descriptor, b"x" * 512)
        os.fdatasync(descriptor)
        count += 1
    os.close(descriptor)
    return count / (time.perf_counter() - begun)


async def on(dsn: str, name: str, limits: tuple[float, float, float]) -> list[Row]:
    groups, singles, disk = limits
    database = Database(dsn, seal=seal, publish=lambda _events: None)
    await upgrade_schema(database)
    recorder = Recorder(database)
    say(f"{name}: {RECORDS:,} records by {TASKS:,} tasks")
    many = await grouped(recorder)
    say(f"{name}: {SINGLE:,} records, one after the other")
    one = await single(recorder)
    say(f"{name}: verifying")
    checked = max([await verified(database) for _ in range(3)])
    await database.close()
    return [
        Row(f"{name}: durable records, grouped", many, "/s", "plain SQLite, groups of 1,000:", groups, 20_000, at_least=True),
        Row(f"{name}: durable records, one at a time", one, "/s", f"plain SQLite {singles:,.0f}; fdatasync:", disk),
        Row(f"{name}: verify", checked, "/s", "", None, 150_000, at_least=True),
    ]  # fmt: skip


async def measure() -> list[Row]:
    with folder() as place:
        say("the limits: plain SQLite and the disk")
        limits = (
            plain_sqlite(place / "many.sqlite", 1000, 100_000), plain_sqlite(place / "one.sqlite", 1, 2000),
            syncs(place / "sync"),
        )  # fmt: skip
        rows = await on(f"sqlite+aiosqlite:///{place / 'log.sqlite'}", "SQLite", limits)
    if any(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        server = Postgres()
        try:
            dsn = (await server.new_database()).replace("postgresql://", "postgresql+asyncpg://")
            rows += await on(dsn, "PostgreSQL (fsync off)", limits)
        finally:
            server.close()
    return rows
