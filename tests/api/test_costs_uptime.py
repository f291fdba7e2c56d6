"""What work took, and when the platform was not there: seen by those who answer for it, and true after a kill."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.audit import Name, between, head
from cloister.bootstrap import Platform
from cloister.insight import by_day, incidents_of
from cloister.insight.uptime import READ, UptimeController
from cloister.sandboxes import Sandbox
from tests.support import ARROW, blueprint, declare, make_settings, until

SIZES = {"small": {"cpus": 0.5, "memory": "512M", "disk": "64M", "scratch": "16M", "processes": 64, "price": 2.0}}
moments = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(moments, st.timedeltas(timedelta(), timedelta(days=40)))
def test_cutting_a_period_at_midnight_loses_nothing(begin, length):
    pieces = list(by_day(begin, begin + length))
    assert sum(hours for _, hours in pieces) == pytest.approx(length / timedelta(hours=1))
    assert all(0 < hours <= 24 for _, hours in pieces)
    assert len({day for day, _ in pieces}) == len(pieces)


async def test_a_steward_sees_what_each_team_took_and_an_operator_what_each_space_did(api):
    await api.platform.environments.ensure(ARROW)
    await declare(api.platform, blueprint(sizes=SIZES))
    ana, steward = await api.member("ana"), await api.sign_in("steward")
    asked = await ana.post("/spaces/course/sandboxes", json={"command": ["python3", "-V"]})
    now = datetime.now(UTC)
    async with api.platform.database.write() as uow:
        uow.unrecorded("a test sets the clock back")
        row = await uow.session.get(Sandbox, asked.json()["id"])
        row.running_at, row.ended_at, row.state = now - timedelta(hours=4), now - timedelta(hours=1), "stopped"
    costs = (await steward.get("/spaces/course/costs")).json()
    assert (costs["priced"], costs["hours"], costs["cost"]) == (True, 3.0, 6.0)
    assert [(team["team"], team["hours"], team["cost"]) for team in costs["teams"]] == [("t-000001", 3.0, 6.0)]
    assert [one["purpose"] for one in costs["purposes"]] == ["run"]
    assert sum(day["cost"] for day in costs["days"]) == pytest.approx(6.0)
    assert sum(hour["cost"] for hour in costs["week"]) == pytest.approx(6.0)
    assert costs["countries"] == [{"country": None, "hours": 3.0, "cost": 6.0}]
    assert (await ana.get("/spaces/course/costs")).status_code == 403
    everywhere = (await api.operator().get("/platform/costs")).json()["items"]
    assert [(one["space"], one["cost"], one["teams"]) for one in everywhere] == [("course", 6.0, 1)]
    assert (await steward.get("/platform/costs")).status_code == 403


async def test_a_kill_and_a_stop_in_order_are_told_apart(tmp_path):
    settings = make_settings(tmp_path)
    seen = settings.state_directory / "seen.json"

    async def run_once(start: int, *, killed: bool) -> list:
        platform = Platform(settings)

        async def begun() -> list | None:
            async with platform.database.read() as uow:
                rows = list(await between(uow, READ, 0, await head(uow), datetime.min.replace(tzinfo=UTC)))
            return rows if sum(row.name == Name.SERVER_STARTED for row in rows) == start else None

        async with platform.running():
            rows = await until(begun)
            await until(lambda: asyncio.to_thread(seen.exists))
        if killed:  # as if its last word had never been said
            seen.write_text(json.dumps({**json.loads(seen.read_text()), "clean": False}))
        return [(one.part, one.planned) for one in incidents_of(rows)]

    assert await run_once(1, killed=True) == []
    assert await run_once(2, killed=False) == [("server", False)]
    assert await run_once(3, killed=False) == [("server", False), ("server", True)]


async def test_what_starts_together_with_the_server_has_not_failed_until_it_had_time(api, tmp_path):
    async def check() -> None:
        raise OSError("not yet")

    watch = UptimeController(api.platform.database, api.platform.clock, tmp_path / "seen.json", {"gateway": check})
    await watch.look()
    assert (await api.operator().get("/platform/uptime")).json()["incidents"] == []


async def test_a_part_that_fails_is_on_the_record_from_when_to_when(api, tmp_path):
    works = True

    async def check() -> None:
        if not works:
            raise OSError("no answer")

    watch = UptimeController(api.platform.database, api.platform.clock, tmp_path / "seen.json", {"objects": check})
    for works in (True, False, False):
        await watch.look()
    during = (await api.operator().get("/platform/uptime")).json()
    (incident,) = [one for one in during["incidents"] if one["part"] == "objects"]
    assert (incident["ended_at"], incident["why"]) == (None, "OSError: no answer")
    works = True
    await watch.look()
    after = (await api.operator().get("/platform/uptime")).json()
    (incident,) = [one for one in after["incidents"] if one["part"] == "objects"]
    assert incident["began_at"] < incident["ended_at"]
    (part,) = [one for one in after["parts"] if one["part"] == "objects"]
    assert 0 < part["available"] < 1
    assert part["incidents"] == 1
    assert (await (await api.sign_in("ana")).get("/platform/uptime")).status_code == 403
