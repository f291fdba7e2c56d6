"""The log's tables."""

from sqlalchemy import BigInteger, CheckConstraint, Index, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from cloister.platform import Base


class AuditRecord(Base):
    """One entry. ``time`` is text (RFC 3339, UTC): what is hashed is what is stored."""

    __tablename__ = "audit_records"
    __table_args__ = (
        Index("ix_audit_records_space", "space", "seq"),
        Index("ix_audit_records_person", "person", "seq"),
    )

    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    time: Mapped[str]
    name: Mapped[str]
    outcome: Mapped[str]
    actor: Mapped[str]
    person: Mapped[int | None]
    team: Mapped[int | None]
    space: Mapped[str | None]
    sandbox: Mapped[str | None]
    subject: Mapped[str | None]
    request_id: Mapped[str | None]
    details: Mapped[str]
    hash: Mapped[bytes] = mapped_column(LargeBinary(32))


class AuditHead(Base):
    """The end of the chain: a single row, whose lock is what orders writers."""

    __tablename__ = "audit_head"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    seq: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[bytes] = mapped_column(LargeBinary(32))


class AuditCheckpoint(Base):
    """A signed statement of where the chain stood."""

    __tablename__ = "audit_checkpoints"

    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    time: Mapped[str]
    hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    public_key: Mapped[bytes] = mapped_column(LargeBinary(32))
    signature: Mapped[bytes] = mapped_column(LargeBinary(64))
