"""Looking at findings, and closing them."""

from cloister.audit import Filter, Name, record, search
from cloister.audit.schemas import RecordOut
from cloister.core.errors import NotFound
from cloister.core.pagination import Page
from cloister.core.principal import Scope
from cloister.insight.schemas import FindingOut
from cloister.platform import UnitOfWork


class FindingNotFound(NotFound):
    """There is no such finding here."""

    code = "finding.not_found"


async def page(uow: UnitOfWork, scope: Scope, cursor: str | None, limit: int) -> Page[FindingOut]:
    """The findings that a scope reaches, newest first."""
    found = await search(uow, Filter(space=scope.space, name=Name.ANOMALY_FOUND), cursor, limit)
    rows = [RecordOut.of(row) for row in found.items]
    items = [FindingOut.of(row, await _closing(uow, row)) for row in rows]
    return Page(items, found.next_cursor)


async def close(uow: UnitOfWork, scope: Scope, number: int, why: str) -> FindingOut:
    """Say that a finding needs nothing more, and why.

    Raises:
        FindingNotFound: when the scope reaches none of that number.
    """
    wanted = Filter(space=scope.space, name=Name.ANOMALY_FOUND, seq=number)
    found = next((RecordOut.of(row) for row in (await search(uow, wanted, None, 1)).items), None)
    if found is None:
        raise FindingNotFound
    record(uow, Name.ANOMALY_CLOSED, space=found.space, subject=str(number), why=why)
    closing = found.model_copy(update={"details": {"why": why}, "person": uow.actor.label})
    return FindingOut.of(found, closing)


async def _closing(uow: UnitOfWork, found: RecordOut) -> RecordOut | None:
    wanted = Filter(space=found.space, name=Name.ANOMALY_CLOSED, subject=str(found.seq))
    return next((RecordOut.of(row) for row in (await search(uow, wanted, None, 1)).items), None)
