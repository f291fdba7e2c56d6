"""Data, grants and helpers that the tests of governed SQL share."""

import asyncio
import contextlib
import tempfile
import time
from pathlib import Path

import httpx2

from tests.support import blueprint, csv_file

PATIENTS = "id,name,country,disease,age\n" + "".join(
    f"{i},name{i},{country},{disease},{age}\n"
    for i, (country, disease, age) in enumerate(
        [("PT", "hiv", 31), ("PT", "flu", 45), ("ES", "flu", 52), ("ES", "flu", 18), ("FR", "flu", 7777), ("FR", "gout", 66),
         ("IT", "flu", 23), ("IT", "flu", 29), ("IT", "flu", 34), ("DE", "flu", 41), ("DE", "flu", 58), ("DE", "flu", 90)]
    )
)  # fmt: skip
SLOW = "select count(*) from range(3000000) a, range(3000000) b where (a.range * b.range) % 7 = 3"
HIDDEN = ("name0", "name1", "hiv", "PT", "7777")
"""Values that the narrowed edition does not have."""


@contextlib.contextmanager
def short_folder():
    """A folder whose name leaves room for those of Unix sockets (108 bytes)."""
    with tempfile.TemporaryDirectory(prefix="clo-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


def dataset(folder, name, tables, **more):
    return {
        "name": name, "title": name, **more,
        "tables": [{"name": table, "source": csv_file(folder, f"{name}-{table}.csv", text)} for table, text in tables.items()],
    }  # fmt: skip


def data_course(folder, slug="course", **changes):
    """Plain, narrowed, capped and ungranted data."""
    long = "n,pad\n" + "".join(f"{i},{'x' * 50}\n" for i in range(3000))
    return blueprint(
        slug=slug,
        datasets=[
            dataset(folder, "patients", {"patients": PATIENTS}),
            dataset(folder, "weather", {"stations": "s,place\n1,Faro\n", "readings": "s,t\n1,20.5\n1,21.5\n"}),
            dataset(folder, "people", {"people": PATIENTS}),
            dataset(folder, "capped", {"capped": long}),
            dataset(folder, "short", {"short": long}),
            dataset(folder, "secret", {"secret": "a\n1\n"}),
        ],
        grants=[
            {"to": "everybody", "dataset": "patients", "allow": ["query"]},
            {"to": "everybody", "dataset": "weather", "allow": ["query"]},
            {"to": "everybody", "dataset": "people", "allow": ["query"],
             "tables": {"people": {"columns": ["id", "country"], "rows": "country <> 'PT' and age < 70"}}},
            {"to": "everybody", "dataset": "capped", "allow": ["query"], "max_rows": 5, "max_bytes": 5000},
            {"to": "everybody", "dataset": "short", "allow": ["query"], "max_seconds": 0.5},
        ],
        **changes,
    )  # fmt: skip


def grouped_course(folder, slug="trial"):
    """Data of which only groups of at least three may be seen. Two names, one of them with a k."""
    return blueprint(
        slug=slug,
        datasets=[dataset(folder, "risk", {"risk": PATIENTS}), dataset(folder, "cases", {"cases": PATIENTS})],
        grants=[
            {"to": "everybody", "dataset": "risk", "allow": ["query"], "min_group": 3, "max_rows": 1000},
            {"to": "everybody", "dataset": "cases", "allow": ["query"], "min_group": 3},
        ],
    )


async def ask(client, sql, space="course", accept="application/json", params=None) -> httpx2.Response:
    body = {"sql": sql, "params": params}
    return await client.post(f"/spaces/{space}/query", json=body, headers={"Accept": accept})


async def rows(client, sql, space="course", params=None):
    answer = await ask(client, sql, space, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()["rows"]


async def code(client, sql, space="course", params=None):
    answer = await ask(client, sql, space, params=params)
    return (answer.status_code, answer.json().get("code") if answer.status_code != 200 else "ok")


async def opened(client, space="course"):
    """Wait until a query of the caller's is open; return it."""
    until = time.monotonic() + 20
    while True:
        items = (await client.get(f"/spaces/{space}/queries")).json()["items"]
        if items:
            return items[0]
        assert time.monotonic() < until, "no query opened"
        await asyncio.sleep(0.02)


async def cut(asker, task, act):
    """Do something that ends access; return the query's answer and how many seconds it took to come."""
    begun = time.monotonic()
    done = await act()
    assert done is None or done.status_code < 300, done.text
    answer = await asyncio.wait_for(task, 10)
    del asker
    return answer, time.monotonic() - begun
