"""Verification: reads the whole chain, recomputes each hash, and says what is wrong and where."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Table, select

from cloister.audit.checkpoints import Checkpoint, read_checkpoints, statement
from cloister.audit.models import AuditHead, AuditRecord
from cloister.audit.record import COLUMNS, GENESIS, link
from cloister.platform import Database

_TABLE = cast("Table", AuditRecord.__table__)
_READ = select(*(_TABLE.c[name] for name in COLUMNS), _TABLE.c.hash).order_by(_TABLE.c.seq)
_PAGE = 5_000


@dataclass(frozen=True)
class Verdict:
    """What verification found. ``at`` is the number of the first record that does not fit."""

    records: int
    checkpoints: int
    fault: str | None = None
    at: int | None = None

    @property
    def sound(self) -> bool:
        return self.fault is None


@dataclass
class _Walk:
    """How far the chain was followed."""

    points: dict[int, list[Checkpoint]]
    last: bytes = GENESIS
    seq: int = 0

    def follow(self, rows: Sequence[Any]) -> str | None:
        """Go on along some records; return what is wrong with the one that it stops at. Takes processor time alone."""
        for row in rows:
            self.seq += 1
            if row[0] != self.seq:
                return f"record {self.seq} is missing"
            self.last = link(self.last, row[:-1])
            if self.last != row[-1]:
                return f"record {self.seq} was changed, inserted or reordered"
            if self.seq in self.points and any(point.hash != self.last for point in self.points[self.seq]):
                return f"the chain up to record {self.seq} is not the one signed"
        return None


async def verify(
    database: Database,
    trusted_key: bytes | None,
    exported: list[Checkpoint] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Verdict:
    """Check the chain against itself, against the signed checkpoints kept in it, and against exported ones.

    Args:
        database: where the log is.
        trusted_key: the 32 raw bytes of the Ed25519 key that checkpoints must bear; None accepts any.
        exported: checkpoints kept elsewhere; they find even a chain that was recomputed from end to end.
        progress: called with records done and records in all.
    """
    points: dict[int, list[Checkpoint]] = {}
    checked = 0
    for point in [*await read_checkpoints(database), *(exported or [])]:
        fault = _check_signature(point, trusted_key)
        if fault:
            return Verdict(0, checked, fault, point.seq)
        points.setdefault(point.seq, []).append(point)
        checked += 1
    walk = _Walk(points)
    async with database.read() as uow:
        await uow.one_moment()  # or what is recorded meanwhile would lie behind the head
        head = (await uow.session.execute(select(AuditHead.seq, AuditHead.hash))).one_or_none()
        total = head.seq if head else 0

        # One after the other: the interpreter lets a thread that hashes and one that reads rows take turns, at a price.
        while rows := await uow.plain_rows(_READ.where(_TABLE.c.seq > walk.seq).limit(_PAGE)):
            fault = await asyncio.to_thread(walk.follow, rows)
            if fault:
                return Verdict(walk.seq - 1, checked, fault, walk.seq)
            if progress:
                progress(walk.seq, max(total, walk.seq))
    last, seq = walk.last, walk.seq
    if total != seq or (head is not None and head.hash != last):
        at = min(total, seq) + 1
        return Verdict(seq, checked, f"the log ends at record {seq}, but its head says {total}", at)
    if points and max(points) > seq:
        return Verdict(seq, checked, f"records after {seq} are missing: a checkpoint signs {max(points)}", seq + 1)
    return Verdict(seq, checked)


def _check_signature(point: Checkpoint, trusted_key: bytes | None) -> str | None:
    if trusted_key is not None and point.public_key != trusted_key:
        return f"the checkpoint at record {point.seq} is signed with a key that is not ours"
    try:
        Ed25519PublicKey.from_public_bytes(point.public_key).verify(
            point.signature, statement(point.seq, point.time, point.hash)
        )
    except InvalidSignature:
        return f"the checkpoint at record {point.seq} has a false signature"
    return None
