"""Counts over the log, for those who look at how a space is used."""

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass

from sqlalchemy import func, select

from cloister.audit.models import AuditRecord
from cloister.audit.names import Name
from cloister.audit.record import Outcome
from cloister.platform import UnitOfWork

HOUR = len("2026-11-21T10")
AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class HourCount:
    """So many records of one name and one person in one hour."""

    hour: str
    """Its beginning in UTC, such as ``2026-11-21T10``."""
    name: str
    person: int | None
    """None: of the platform itself."""
    count: int


async def by_hour(uow: UnitOfWork, space: str, names: Collection[Name]) -> AsyncIterator[HourCount]:
    """Records of some names in a space, by hour, name and person, in no order.

    Some hundred thousand in a large course: they come a few at a time, and whatever else waits goes on meanwhile.
    """
    hour = func.substr(AuditRecord.time, 1, HOUR)
    query = (
        select(hour, AuditRecord.name, AuditRecord.person, func.count())
        .where(AuditRecord.space == space, AuditRecord.name.in_(names), AuditRecord.outcome == Outcome.OK)
        .group_by(hour, AuditRecord.name, AuditRecord.person)
        .execution_options(yield_per=AT_ONCE)
    )
    async for rows in (await uow.session.stream(query)).partitions():
        for row in rows:
            yield HourCount(*row)
