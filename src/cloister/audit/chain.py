"""Appending: records get their place and hash at the very end of a transaction, under the lock of the head row.

Whoever holds that lock is the only writer of the chain, so numbers have no gaps and hashes no forks, on every
database and with several processes. The lock is held for the commit and no longer.
"""

from sqlalchemy import insert, select, update

from cloister.audit.models import AuditHead, AuditRecord
from cloister.audit.record import COLUMNS, link, place, timestamp
from cloister.core.clock import Clock
from cloister.platform import UnitOfWork, metrics

_CLOCK = Clock()
_KEYS = (*COLUMNS, "hash")


async def seal(uow: UnitOfWork) -> None:
    """Append a transaction's records to the chain; the last thing before its commit."""
    seq, last = (await uow.session.execute(select(AuditHead.seq, AuditHead.hash).with_for_update())).one()
    now = timestamp(_CLOCK.now())
    rows = []
    for draft in uow.records:
        seq += 1
        values = place(draft, seq, now)
        last = link(last, values)
        rows.append(dict(zip(_KEYS, (*values, last), strict=True)))
    await uow.session.execute(insert(AuditRecord.__table__), rows)  # type: ignore[arg-type]
    await uow.session.execute(update(AuditHead).values(seq=seq, hash=last))
    metrics.AUDIT_RECORDS.inc(len(rows))
