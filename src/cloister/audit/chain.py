"""Appending: records get their place and hash at the very end of a transaction, under the lock of the head row.

Whoever holds that lock is the only writer of the chain, so numbers have no gaps and hashes no forks, on every
database and with several processes. The lock is held for the commit and no longer.
"""

import sqlite3
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

from sqlalchemy import Table, bindparam, insert, select, update
from sqlalchemy.dialects import sqlite

from cloister.audit.models import AuditHead, AuditRecord
from cloister.audit.record import COLUMNS, Draft, link, place, timestamp
from cloister.core.clock import Clock
from cloister.platform import UnitOfWork, metrics

_CLOCK = Clock()
_KEYS = (*COLUMNS, "hash")
# Made once, and of tables instead of classes: this is part of every commit, and the ORM's way takes twice as long.
_RECORDS, _HEAD = cast("Table", AuditRecord.__table__), cast("Table", AuditHead.__table__)
_LOCK = select(_HEAD.c.seq, _HEAD.c.hash).with_for_update()
_ADD = insert(_RECORDS)
_MOVE = update(_HEAD).values(seq=bindparam("last_seq"), hash=bindparam("last_hash"))


# The same as SQLite's own text, for its thread.
_LOCK_TEXT, _ADD_TEXT, _MOVE_TEXT = (str(one.compile(dialect=sqlite.dialect())) for one in (_LOCK, _ADD, _MOVE))


async def seal(uow: UnitOfWork) -> None:
    """Append a transaction's records to the chain; the last thing before its commit (and on SQLite with it)."""
    if uow.is_sqlite:
        await uow.finish(partial(_append, uow.records))
    else:
        seq, last = (await uow.session.execute(_LOCK)).one()
        rows = _chained(uow.records, seq, last)
        await uow.session.execute(_ADD, [dict(zip(_KEYS, row, strict=True)) for row in rows])
        await uow.session.execute(_MOVE, {"last_seq": rows[-1][0], "last_hash": rows[-1][-1]})
    metrics.AUDIT_RECORDS.inc(len(uow.records))


def _append(drafts: Sequence[Draft], database: sqlite3.Connection) -> None:
    """The same on SQLite, whose writing transaction is the lock."""
    seq, last = database.execute(_LOCK_TEXT).fetchone()
    rows = _chained(drafts, seq, last)
    database.executemany(_ADD_TEXT, rows)
    database.execute(_MOVE_TEXT, (rows[-1][0], rows[-1][-1]))


def _chained(drafts: Sequence[Draft], seq: int, last: bytes) -> list[tuple[Any, ...]]:
    now = timestamp(_CLOCK.now())
    rows = []
    for number, draft in enumerate(drafts, seq + 1):
        values = place(draft, number, now)
        last = link(last, values)
        rows.append((*values, last))
    return rows
