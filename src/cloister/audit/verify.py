"""Verification: reads the whole chain, recomputes each hash, and says what is wrong and where."""

from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import select

from cloister.audit.checkpoints import Checkpoint, read_checkpoints, statement
from cloister.audit.models import AuditHead, AuditRecord
from cloister.audit.record import COLUMNS, GENESIS, link
from cloister.platform import Database

_FIELDS = tuple(getattr(AuditRecord, name) for name in COLUMNS)
_PAGE = 20_000


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


async def verify(  # noqa: C901, PLR0911  (one straight walk along the chain; each return names one kind of fault)
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
    last, seq = GENESIS, 0
    async with database.read() as uow:
        head = (await uow.session.execute(select(AuditHead.seq, AuditHead.hash))).one_or_none()
        total = head.seq if head else 0
        while True:
            rows = (
                await uow.session.execute(
                    select(*_FIELDS, AuditRecord.hash)
                    .where(AuditRecord.seq > seq)
                    .order_by(AuditRecord.seq)
                    .limit(_PAGE)
                )
            ).all()
            for row in rows:
                seq += 1
                *values, stored = row
                if values[0] != seq:
                    return Verdict(seq - 1, checked, f"record {seq} is missing", seq)
                last = link(last, values)
                if last != stored:
                    return Verdict(seq - 1, checked, f"record {seq} was changed, inserted or reordered", seq)
                if seq in points and any(point.hash != last for point in points[seq]):
                    return Verdict(seq - 1, checked, f"the chain up to record {seq} is not the one signed", seq)
            if progress:
                progress(seq, max(total, seq))
            if len(rows) < _PAGE:
                break
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
