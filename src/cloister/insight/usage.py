"""How a space is used: from registered to running code, when, from where, and by how many."""

from collections import Counter, defaultdict
from collections.abc import Iterable

import pycountry
from pydantic import BaseModel

from cloister.access import scoped_select
from cloister.audit import Name, by_hour
from cloister.core.principal import Scope
from cloister.insight.places import Places, local
from cloister.platform import UnitOfWork
from cloister.spaces import Enrolment, declared, get_space

COUNTED = {Name.QUERY_ASKED: "queries", Name.CODE_RUN: "cells", Name.SANDBOX_STARTED: "sandboxes"}
CAME = (Name.WORKSPACE_OPENED, Name.DASHBOARD_OPENED)
"""Besides what is counted: who did any of it has been in the space."""


class Step(BaseModel):
    """One step of the funnel and how many people reached it."""

    step: str
    people: int


class Hour(BaseModel):
    """What happened in one hour of the week."""

    weekday: int
    """0 is Monday."""
    hour: int
    queries: int
    cells: int


class Day(BaseModel):
    """What happened on one day (UTC)."""

    day: str
    queries: int
    cells: int
    sandboxes: int


class Usage(BaseModel):
    """How a space is used."""

    funnel: list[Step]
    states: dict[str, int]
    countries: dict[str, int]
    """People by the country that they gave when they registered (ISO 3166)."""
    country_numbers: dict[str, str]
    """ISO 3166 numbers of those countries, by which maps know them."""
    week: list[Hour]
    """By the clock of UTC."""
    own_week: list[Hour]
    """By the clock of whoever did it, of those whose time zone is known."""
    own_people: int
    """So many of those who did anything have a known time zone, by their answers when they registered."""
    active_people: int
    """So many people did anything."""
    days: list[Day]
    queries_per_person: list[int]
    """Of those who asked any, most first."""
    cells_per_person: list[int]


async def usage(uow: UnitOfWork, scope: Scope, space: str) -> Usage:
    """Count. Reads every enrolment, and of the log its counts by hour and person."""
    places = Places(declared(await get_space(uow, space)))
    columns = (Enrolment.person, Enrolment.state, Enrolment.admitted_at, Enrolment.answers)
    rows = (await uow.session.execute(scoped_select(Enrolment, scope).with_only_columns(*columns))).all()
    zones = {row.person: places.zone(row.answers) for row in rows}
    week: Counter[tuple[int, int, str]] = Counter()
    own: Counter[tuple[int, int, str]] = Counter()
    days: Counter[tuple[str, str]] = Counter()
    people: defaultdict[str, Counter[int]] = defaultdict(Counter)
    async for count in by_hour(uow, space, [*COUNTED, *CAME]):
        if count.person is not None:
            people[count.name][count.person] += count.count
        if count.name not in COUNTED:
            continue
        what = COUNTED[Name(count.name)]
        week[(*local(count.hour, "UTC"), what)] += count.count
        days[count.hour[:10], what] += count.count
        if zone := zones.get(count.person) if count.person is not None else None:
            own[(*local(count.hour, zone), what)] += count.count
    queried, ran = people[Name.QUERY_ASKED], people[Name.CODE_RUN]
    came = set[int]().union(*people.values()) & zones.keys()  # a steward who tries something has not registered
    lands = Counter(land for row in rows if (land := places.country(row.answers)))
    return Usage(
        funnel=[
            Step(step="registered", people=len(rows)),
            Step(step="admitted", people=sum(row.admitted_at is not None for row in rows)),
            Step(step="came", people=len(came)), Step(step="asked data", people=len(came & queried.keys())),
            Step(step="ran code", people=len(came & ran.keys())),
        ],
        states=Counter(row.state for row in rows),
        countries=lands,
        country_numbers={code: found.numeric for code in lands if (found := pycountry.countries.get(alpha_2=code))},
        week=_week(week), own_week=_week(own), own_people=sum(zones.get(person) is not None for person in came),
        active_people=len(came),
        days=[
            Day(day=day, queries=days[day, "queries"], cells=days[day, "cells"], sandboxes=days[day, "sandboxes"])
            for day in sorted({day for day, _ in days})
        ],
        queries_per_person=_most_first(queried.values()), cells_per_person=_most_first(ran.values()),
    )  # fmt: skip


def _week(counts: Counter[tuple[int, int, str]]) -> list[Hour]:
    return [
        Hour(weekday=day, hour=hour, queries=counts[day, hour, "queries"], cells=counts[day, hour, "cells"])
        for day in range(7)
        for hour in range(24)
    ]


def _most_first(counts: Iterable[int]) -> list[int]:
    return sorted(counts, reverse=True)
