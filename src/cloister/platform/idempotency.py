"""Answers kept under an ``Idempotency-Key``, so that a repeated create is answered again and not done again."""

import hashlib
from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from cloister.core.errors import Conflict
from cloister.platform.database import Base, UnitOfWork


class KeyReused(Conflict):
    """That Idempotency-Key was used for a different request. Use a new one for each new thing."""

    code = "idempotency.key_reused"


class KeptAnswer(Base):
    """What was answered the first time."""

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


async def kept_answer(uow: UnitOfWork, key: str, print_: str) -> KeptAnswer | None:
    """Return the answer kept under a key.

    Raises:
        KeyReused: when it answered another request.
    """
    kept = await uow.session.get(KeptAnswer, key)
    if kept is not None and kept.fingerprint != print_:
        raise KeyReused
    return kept
