"""How a space is used: from registered to running code, when, from where, and by how many."""

from collections import Counter
from datetime import datetime

import pycountry
from pydantic import BaseModel

from cloister.access import scoped_select
from cloister.audit import Name, by_hour, by_person
from cloister.core.principal import Scope
from cloister.platform import UnitOfWork
from cloister.spaces import Enrolment

COUNTED = {Name.QUERY_ASKED: "queries", Name.CODE_RUN: "cells", Name.SANDBOX_STARTED: "sandboxes"}


class Step(BaseModel):
    """One step of the funnel and how many people reached it."""

    step: str
    people: int


class Hour(BaseModel):
    """What happened in one hour of the week (UTC)."""

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
    days: list[Day]
    queries_per_person: list[int]
    """Of those who asked any, most first."""
    cells_per_person: list[int]


async def usage(uow: UnitOfWork, scope: Scope, space: str) -> Usage:
    """Count. Reads every enrolment, and of the log its counts by hour and by person."""
    enrolments = (await uow.session.scalars(scoped_select(Enrolment, scope))).all()
    people = await by_person(uow, space, list(COUNTED))
    hours = await by_hour(uow, space, list(COUNTED))
    week: Counter[tuple[int, int, str]] = Counter()
    days: Counter[tuple[str, str]] = Counter()
    for count in hours:
        what = COUNTED[Name(count.name)]
        moment = datetime.fromisoformat(f"{count.hour}:00:00+00:00")
        week[moment.weekday(), moment.hour, what] += count.count
        days[count.hour[:10], what] += count.count
    queried = [found.get(Name.QUERY_ASKED, 0) for found in people.values()]
    ran = [found.get(Name.CODE_RUN, 0) for found in people.values()]
    admitted = {row.person for row in enrolments if row.admitted_at is not None}
    lands = Counter(str(row.answers["country"]) for row in enrolments if row.answers.get("country"))
    return Usage(
        funnel=[
            Step(step="registered", people=len(enrolments)), Step(step="admitted", people=len(admitted)),
            Step(step="asked data", people=sum(count > 0 for count in queried)),
            Step(step="ran code", people=sum(count > 0 for count in ran)),
        ],
        states=Counter(row.state for row in enrolments),
        countries=lands,
        country_numbers={code: found.numeric for code in lands if (found := pycountry.countries.get(alpha_2=code))},
        week=[
            Hour(weekday=weekday, hour=hour, queries=week[weekday, hour, "queries"], cells=week[weekday, hour, "cells"])
            for weekday in range(7)
            for hour in range(24)
        ],
        days=[
            Day(day=day, queries=days[day, "queries"], cells=days[day, "cells"], sandboxes=days[day, "sandboxes"])
            for day in sorted({day for day, _ in days})
        ],
        queries_per_person=sorted((count for count in queried if count), reverse=True),
        cells_per_person=sorted((count for count in ran if count), reverse=True),
    )  # fmt: skip
