"""Answers kept under an ``Idempotency-Key``, so that a repeated create is answered again and not done again."""

import hashlib
from datetime import datetime, timedelta

from sqlalchemy.orm import Mapped, mapped_column

from cloister.core.errors import Conflict
from cloister.platform.database import Base, UnitOfWork

UNDER_WAY = timedelta(hours=1)


class KeyReused(Conflict):
    """That Idempotency-Key was used for a different request. Use a new one for each new thing."""

    code = "idempotency.key_reused"


class StillUnderWay(Conflict):
    """The first request with this Idempotency-Key has not been answered yet. Ask again in a moment."""

    code = "idempotency.under_way"


class KeptAnswer(Base):
    """What was answered the first time; status 0 while it is under way."""

    __tablename__ = "kept_answers"

    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    status: Mapped[int]
    content_type: Mapped[str]
    location: Mapped[str | None]
    body: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(index=True)


def storage_key(actor: str, key: str) -> str:
    return hashlib.sha256(f"{actor}\n{key}".encode()).hexdigest()


def fingerprint(method: str, path: str, body: bytes) -> str:
    return hashlib.sha256(f"{method} {path}\n".encode() + body).hexdigest()


async def kept_answer(uow: UnitOfWork, key: str, print_: str, *, lock: bool = False) -> KeptAnswer | None:
    """Return the answer kept under a key.

    Raises:
        KeyReused: when it answered another request.
    """
    kept = await uow.session.get(KeptAnswer, key, with_for_update=lock)
    if kept is not None and kept.fingerprint != print_:
        raise KeyReused
    return kept


async def reserve(uow: UnitOfWork, key: str, print_: str, now: datetime) -> KeptAnswer | None:
    """Take a key for a create that runs in no transaction of its own; return the answer if there was one before.

    A reservation that nobody answered or gave back within the hour (its process was killed) is taken over.

    Raises:
        KeyReused: when the key answered another request.
        StillUnderWay: when somebody has it at this moment.
    """
    uow.unrecorded("what is created is recorded")
    kept = await kept_answer(uow, key, print_, lock=True)
    if kept is None:
        uow.session.add(
            KeptAnswer(key=key, fingerprint=print_, status=0, content_type="", location=None, body=b"", created_at=now)
        )
        await uow.session.flush()
        return None
    if kept.status:
        return kept
    if now - kept.created_at < UNDER_WAY:
        raise StillUnderWay
    kept.created_at = now
    return None
