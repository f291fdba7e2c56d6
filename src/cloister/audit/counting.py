"""Counts over the log, for those who look at how a space is used."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import func, select

from cloister.audit.models import AuditRecord
from cloister.audit.names import Name
from cloister.audit.record import Outcome
from cloister.platform import UnitOfWork

HOUR = len("2026-11-21T10")


@dataclass(frozen=True)
class HourCount:
    """So many records of one name in one hour."""

    hour: str
    """Its beginning in UTC, such as ``2026-11-21T10``."""
    name: str
    count: int


async def by_hour(uow: UnitOfWork, space: str, names: Collection[Name]) -> list[HourCount]:
    """Records of some names in a space, by hour and name."""
    hour = func.substr(AuditRecord.time, 1, HOUR)
    query = (
        select(hour, AuditRecord.name, func.count())
        .where(AuditRecord.space == space, AuditRecord.name.in_(names), AuditRecord.outcome == Outcome.OK)
        .group_by(hour, AuditRecord.name)
        .order_by(hour)
    )
    return [HourCount(*row) for row in (await uow.session.execute(query)).all()]


async def by_person(uow: UnitOfWork, space: str, names: Collection[Name]) -> dict[int, dict[str, int]]:
    """Records of some names in a space, by person and name."""
    query = (
        select(AuditRecord.person, AuditRecord.name, func.count())
        .where(
            AuditRecord.space == space, AuditRecord.name.in_(names),
            AuditRecord.outcome == Outcome.OK,
        )
        .group_by(AuditRecord.person, AuditRecord.name)
    )  # fmt: skip
    found: dict[int, dict[str, int]] = {}
    for person, name, count in (await uow.session.execute(query)).all():
        if person is not None:
            found.setdefault(person, {})[name] = count
    return found
