"""Appending: records get their place and hash at the very end of a transaction, under the lock of the head row.

Whoever holds that lock is the only writer of the chain, so numbers have no gaps and hashes no forks, on every
database and with several processes. The lock is held for the commit and no longer.
"""

from typing import cast

from sqlalchemy import Table, bindparam, insert, select, update

from cloister.audit.models import AuditHead, AuditRecord
from cloister.audit.record import COLUMNS, link, place, timestamp
from cloister.core.clock import Clock
from cloister.platform import UnitOfWork, metrics

_CLOCK = Clock()
_KEYS = (*COLUMNS, "hash")
# Made once, and of tables instead of classes: this is part of every commit, and the ORM's way takes twice as long.
_RECORDS, _HEAD = cast("Table", AuditRecord.__table__), cast("Table", AuditHead.__table__)
_LOCK = select(_HEAD.c.seq, _HEAD.c.hash).with_for_update()
_ADD = insert(_RECORDS)
_MOVE = update(_HEAD).values(seq=bindparam("last_seq"), hash=bindparam("last_hash"))


async def seal(uow: UnitOfWork) -> None:
    """Append a transaction's records to the chain; the last thing before its commit."""
    seq, last = (await uow.session.execute(_LOCK)).one()
    now = timestamp(_CLOCK.now())
    rows = []
    for draft in uow.records:
        seq += 1
        values = place(draft, seq, now)
        last = link(last, values)
        rows.append(dict(zip(_KEYS, (*values, last), strict=True)))
    await uow.session.execute(_ADD, rows)
    await uow.session.execute(_MOVE, {"last_seq": seq, "last_hash": last})
    metrics.AUDIT_RECORDS.inc(len(rows))
