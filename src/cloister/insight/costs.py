"""What a space's work took: hours that its sandboxes ran, what that cost by the prices it declares now, and its disks."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Any, Generic, TypeVar

from pydantic import BaseModel
from sqlalchemy import or_

from cloister.access import scoped_select
from cloister.core.ids import team_label
from cloister.core.principal import EVERYTHING, Scope
from cloister.insight.places import Places
from cloister.platform import UnitOfWork
from cloister.sandboxes import Sandbox, Volume
from cloister.spaces import Enrolment, Space, SpaceDeclaration, Team, declared, get_space, in_space
from cloister.workspaces import price_of

HOUR = timedelta(hours=1)
WEEK = timedelta(days=7)


class Cost(BaseModel):
    """Hours that sandboxes ran, added up, and what they cost in the unit that the space counts in."""

    hours: float
    cost: float


class TeamCost(Cost):
    """Of one team; of none for what the platform runs for the whole space."""

    team: str | None
    name: str
    disk_bytes: int


class DayCost(Cost):
    """Of one day (UTC)."""

    day: str


class PurposeCost(Cost):
    """Of workspaces, queries, integrations and so on."""

    purpose: str


class HourCost(Cost):
    """Of one hour of the week (UTC)."""

    weekday: int
    """0 is Monday."""
    hour: int


class CountryCost(Cost):
    """Of the people who gave one country when they registered."""

    country: str | None
    """ISO 3166; None for those who gave none, and for what the platform runs."""


class Costs(Cost):
    """What a space's work took."""

    since: datetime
    until: datetime
    disk_bytes: int
    """How large its volumes are now."""
    priced: bool
    """Whether the space declares any price: else all costs are 0."""
    teams: list[TeamCost]
    """Dearest first, then by hours and disk."""
    days: list[DayCost]
    purposes: list[PurposeCost]
    week: list[HourCost]
    countries: list[CountryCost]
    """Dearest first, then by hours."""


class SpaceCost(Cost):
    """Of one space."""

    space: str
    title: str
    teams: int
    disk_bytes: int


class SpaceCostList(BaseModel):
    """What each space's work took, dearest first."""

    items: list[SpaceCost]


K = TypeVar("K")


@dataclass
class _Sums(Generic[K]):
    hours: defaultdict[K, float] = field(default_factory=lambda: defaultdict(float))
    cost: defaultdict[K, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, key: K, hours: float, price: float) -> None:
        self.hours[key] += hours
        self.cost[key] += hours * price

    def of(self, key: K) -> dict[str, float]:
        return {"hours": round(self.hours[key], 3), "cost": round(self.cost[key], 4)}


def by_day(begin: datetime, end: datetime) -> Iterator[tuple[str, float]]:
    """Cut a period at midnight (UTC): the days and the hours in each."""
    while begin < end:
        midnight = datetime.combine(begin.date() + timedelta(days=1), time(), UTC)
        yield begin.date().isoformat(), (min(end, midnight) - begin) / HOUR
        begin = midnight


def by_hour_of_week(begin: datetime, end: datetime) -> Iterator[tuple[tuple[int, int], float]]:
    """Cut a period at full hours (UTC): weekdays and hours, and the hours in each. However long, about 340 pieces."""
    weeks = max(0, (end - begin) // WEEK)
    if weeks:
        yield from (((day, hour), float(weeks)) for day in range(7) for hour in range(24))
    end -= weeks * WEEK
    while begin < end:
        full = begin.replace(minute=0, second=0, microsecond=0) + HOUR
        yield (begin.weekday(), begin.hour), (min(end, full) - begin) / HOUR
        begin = full


async def costs(uow: UnitOfWork, scope: Scope, space: str, since: datetime, now: datetime) -> Costs:
    """Add up what ran since a moment. Reads of each sandbox when it ran and on what."""
    declaration = declared(await get_space(uow, space))
    volumes = (
        await uow.session.execute(scoped_select(Volume, scope).with_only_columns(Volume.team, Volume.size_bytes))
    ).all()
    names = {team.team: team.name for team in (await uow.session.scalars(scoped_select(Team, scope))).all()}
    people = scoped_select(Enrolment, scope).with_only_columns(Enrolment.person, Enrolment.answers)
    places = Places(declaration)
    lands = {row.person: places.country(row.answers) for row in (await uow.session.execute(people)).all()}
    ran = scoped_select(Sandbox, scope).where(
        Sandbox.running_at.is_not(None), or_(Sandbox.ended_at.is_(None), Sandbox.ended_at > since)
    )
    columns = (Sandbox.team, Sandbox.person, Sandbox.purpose, Sandbox.size, Sandbox.running_at, Sandbox.ended_at)
    rows = (await uow.session.execute(ran.with_only_columns(*columns))).all()
    return await asyncio.to_thread(_add_up, declaration, rows, volumes, names, lands, since, now)


def _add_up(
    declaration: SpaceDeclaration, rows: Sequence[Any], volumes: Sequence[Any], names: dict[int, str],
    lands: dict[int, str | None], since: datetime, now: datetime,
) -> Costs:  # fmt: skip
    disks: defaultdict[int | None, int] = defaultdict(int)
    homes: defaultdict[int | None, int] = defaultdict(int)
    for volume in volumes:
        disks[volume.team] += volume.size_bytes
        homes[volume.team] = max(homes[volume.team], volume.size_bytes)
    teams: _Sums[int | None] = _Sums()
    days: _Sums[str] = _Sums()
    purposes: _Sums[str] = _Sums()
    week: _Sums[tuple[int, int]] = _Sums()
    countries: _Sums[str | None] = _Sums()
    for team, person, purpose, size, running_at, ended_at in rows:
        price = price_of(declaration, size, homes[team] if purpose == "workspace" else 0)
        begin, end = max(running_at or since, since), min(ended_at or now, now)
        for at, hours in by_hour_of_week(begin, end):
            week.add(at, hours, price)
        for day, hours in by_day(begin, end):
            days.add(day, hours, price)
            teams.add(team, hours, price)
            purposes.add(purpose, hours, price)
            countries.add(lands.get(person), hours, price)
    found = [
        TeamCost(
            team=None if team is None else team_label(team), name=names.get(team, "") if team else "",
            disk_bytes=disks[team], **teams.of(team),
        )
        for team in {*names, *teams.hours, *disks}
        if team is not None or teams.hours[team] or disks[team]
    ]  # fmt: skip
    found.sort(key=lambda one: (-one.cost, -one.hours, -one.disk_bytes, one.team or ""))
    from_where = [CountryCost(country=one, **countries.of(one)) for one in countries.hours]
    from_where.sort(key=lambda one: (-one.cost, -one.hours, one.country or ""))
    return Costs(
        since=since, until=now, hours=round(sum(days.hours.values()), 3), cost=round(sum(days.cost.values()), 4),
        disk_bytes=sum(disks.values()),
        priced=any(one.price for one in declaration.sizes.values()) or declaration.policies.disk_price > 0,
        teams=found,
        days=[DayCost(day=day, **days.of(day)) for day in sorted(days.hours)],
        purposes=[PurposeCost(purpose=one, **purposes.of(one)) for one in sorted(purposes.hours)],
        week=[HourCost(weekday=day, hour=hour, **week.of((day, hour))) for day in range(7) for hour in range(24)],
        countries=from_where,
    )  # fmt: skip


async def every_space(uow: UnitOfWork, since: datetime, now: datetime) -> list[SpaceCost]:
    """The same of each space that has not ended, dearest first."""
    spaces = (await uow.session.scalars(scoped_select(Space, EVERYTHING).where(Space.state == "active"))).all()
    found = []
    for space in spaces:
        took = await costs(uow, in_space(space.space), space.space, since, now)
        found.append(
            SpaceCost(
                space=space.space, title=space.title, teams=sum(one.team is not None for one in took.teams),
                disk_bytes=took.disk_bytes, hours=took.hours, cost=took.cost,
            )
        )  # fmt: skip
    return sorted(found, key=lambda one: (-one.cost, -one.hours, one.space))
