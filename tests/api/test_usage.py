"""How a space is used, as those see it who answer for it: by steps, by clocks, by countries."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.audit import Name
from cloister.audit.record import Draft
from cloister.insight import by_hour_of_week
from cloister.insight.places import zone_of
from cloister.spaces.form import FormField
from tests.support import blueprint, declare

FIELDS = [
    {"name": "land", "type": "country", "label": "Country", "required": False},
    {"name": "clock", "type": "time-zone", "label": "Time zone", "required": False},
]
moments = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(moments, st.timedeltas(timedelta(), timedelta(days=40)))
def test_cutting_a_period_by_hours_of_the_week_loses_nothing(begin, length):
    pieces = list(by_hour_of_week(begin, begin + length))
    assert sum(hours for _, hours in pieces) == pytest.approx(length / timedelta(hours=1))
    assert len(pieces) <= 2 * 168 + 1


@pytest.mark.parametrize(("country", "zone"), [("DE", "Europe/Berlin"), ("IN", "Asia/Kolkata"), ("US", None), ("XX", None)])  # fmt: skip
def test_a_country_tells_the_time_only_where_it_has_one(country, zone):
    assert zone_of(country) == zone


async def test_use_is_counted_by_steps_by_country_and_by_peoples_own_clocks(api):
    await declare(api.platform, blueprint(registration=[FormField(**field) for field in FIELDS]))
    said = {"ana": {"clock": "Asia/Kathmandu", "land": "NP"}, "ben": {"land": "JP"}, "cleo": {"land": "US"}, "dan": {}}
    number = {}
    for name, answers in said.items():
        member = await api.member(name, answers=answers)
        number[name] = int((await member.get("/me")).json()["number"].removeprefix("p-"))
    steward = await api.sign_in("steward")
    at = datetime(2026, 11, 2, 22, 30, tzinfo=UTC)  # a Monday
    asks = [("ana", Name.WORKSPACE_OPENED), ("ana", Name.QUERY_ASKED), ("ana", Name.CODE_RUN), ("ana", Name.CODE_RUN),
            ("ben", Name.QUERY_ASKED), ("cleo", Name.DASHBOARD_OPENED), ("cleo", Name.QUERY_ASKED)]  # fmt: skip
    async with api.platform.database.write() as uow:
        uow.records.extend(Draft(name, person=number[who], space="course", time=at) for who, name in asks)
        uow.records.append(Draft(Name.QUERY_ASKED, person=999, space="course", time=at))  # who has not registered here
    use = (await steward.get("/spaces/course/usage")).json()
    assert [step["people"] for step in use["funnel"]] == [4, 4, 3, 3, 1]
    assert use["countries"] == {"NP": 1, "JP": 1, "US": 1}
    assert {(one["weekday"], one["hour"], one["queries"], one["cells"]) for one in use["week"] if one["queries"]} == {
        (0, 22, 4, 2)
    }
    own = {(one["weekday"], one["hour"], one["queries"], one["cells"]) for one in use["own_week"] if one["queries"]}
    there = [at.replace(minute=0).astimezone(ZoneInfo(zone)) for zone in ("Asia/Kathmandu", "Asia/Tokyo")]
    assert own == {(there[0].weekday(), there[0].hour, 1, 2), (there[1].weekday(), there[1].hour, 1, 0)}
    assert (use["own_people"], use["active_people"]) == (2, 3)
    assert use["cells_per_person"] == [2]
