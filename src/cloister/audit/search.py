"""Finding records: by person, team, space, dataset, sandbox, time and name, newest or oldest first."""

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, or_, select

from cloister.audit.models import AuditHead, AuditRecord
from cloister.audit.names import Name
from cloister.audit.record import timestamp
from cloister.core.pagination import Page
from cloister.platform import Database, UnitOfWork
from cloister.platform.paging import page_by


@dataclass(frozen=True)
class Filter:
    """What to find. ``name`` may end in ``*``. Unset fields match everything."""

    space: str | None = None
    person: int | None = None
    team: int | None = None
    sandbox: str | None = None
    subject: str | None = None
    name: str | None = None
    outcome: str | None = None
    request_id: str | None = None
    dataset: str | None = None
    """Records about a dataset, and of all that touched it: queries, mounts, downloads."""
    seq: int | None = None
    since: datetime | None = None
    until: datetime | None = None

    def apply(self, query: Select[AuditRecord]) -> Select[AuditRecord]:
        for field in ("space", "person", "team", "sandbox", "subject", "outcome", "request_id", "seq"):
            value = getattr(self, field)
            if value is not None:
                query = query.where(getattr(AuditRecord, field) == value)
        if self.name is not None:
            query = query.where(
                AuditRecord.name.startswith(self.name[:-1], autoescape=True)
                if self.name.endswith("*")
                else AuditRecord.name == self.name
            )
        if self.dataset is not None:
            # Details are text with sorted keys (`place`), so a name in the list of datasets can be looked for as it stands.
            name = self.dataset.replace("_", r"\_").replace("%", r"\%")
            touched = AuditRecord.details.like(f'%"datasets":[%"{name}"%', escape="\\")
            query = query.where(or_(AuditRecord.subject == self.dataset, touched))
        if self.since is not None:
            query = query.where(AuditRecord.time >= timestamp(self.since))
        if self.until is not None:
            query = query.where(AuditRecord.time < timestamp(self.until))
        return query


async def search(uow: UnitOfWork, wanted: Filter, cursor: str | None, limit: int) -> Page[AuditRecord]:
    """A page of records, newest first."""
    return await page_by(uow, wanted.apply(select(AuditRecord)), AuditRecord.seq, cursor, limit, newest_first=True)


async def head(uow: UnitOfWork) -> int:
    """The number of the newest record; 0 when there is none."""
    return await uow.session.scalar(select(AuditHead.seq)) or 0


async def between(
    uow: UnitOfWork, names: Collection[Name], after: int, until: int, since: datetime
) -> Sequence[AuditRecord]:
    """The records of some names with numbers in (after, until] and no older than a time, oldest first."""
    query = select(AuditRecord).where(
        AuditRecord.seq > after, AuditRecord.seq <= until, AuditRecord.name.in_([name.value for name in names]),
        AuditRecord.time >= timestamp(since),
    )  # fmt: skip
    return (await uow.session.scalars(query.order_by(AuditRecord.seq))).all()


async def stream(
    database: Database, wanted: Filter, after: int = 0, page: int = 5_000
) -> AsyncIterator[Sequence[AuditRecord]]:
    """All matching records after a number, oldest first, in pages."""
    while True:
        async with database.read() as uow:
            query = wanted.apply(select(AuditRecord)).where(AuditRecord.seq > after)
            rows = (await uow.session.scalars(query.order_by(AuditRecord.seq).limit(page))).all()
        if rows:
            yield rows
            after = rows[-1].seq
        if len(rows) < page:
            return
