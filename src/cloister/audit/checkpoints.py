"""Checkpoints: at intervals the end of the chain is signed (Ed25519) and copied to where the log's writer can't reach."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select

from cloister.audit.models import AuditCheckpoint, AuditHead
from cloister.audit.record import timestamp
from cloister.core.clock import Clock
from cloister.platform import Controller, Database


@dataclass(frozen=True)
class Checkpoint:
    """A signed statement: at this time the chain ended in this record with this hash."""

    seq: int
    time: str
    hash: bytes
    public_key: bytes
    signature: bytes

    def dump(self) -> str:
        return json.dumps(
            {
                "seq": self.seq,
                "time": self.time,
                "hash": self.hash.hex(),
                "public_key": self.public_key.hex(),
                "signature": self.signature.hex(),
            }
        )

    @classmethod
    def load(cls, line: str) -> "Checkpoint":
        """Read an exported checkpoint.

        Raises:
            ValueError: when the line is not one.
        """
        fields = json.loads(line)
        try:
            return cls(
                int(fields["seq"]),
                str(fields["time"]),
                *(bytes.fromhex(fields[name]) for name in ("hash", "public_key", "signature")),
            )
        except (KeyError, TypeError) as error:
            message = f"not a checkpoint: {line[:80]}"
            raise ValueError(message) from error


def statement(seq: int, time: str, hash_: bytes) -> bytes:
    """The bytes that are signed."""
    return f"cloister audit checkpoint\n{seq}\n{time}\n{hash_.hex()}\n".encode()


def sign(key: Ed25519PrivateKey, seq: int, time: str, hash_: bytes) -> Checkpoint:
    return Checkpoint(seq, time, hash_, key.public_key().public_bytes_raw(), key.sign(statement(seq, time, hash_)))


async def read_checkpoints(database: Database) -> list[Checkpoint]:
    async with database.read() as uow:
        rows = (await uow.session.scalars(select(AuditCheckpoint).order_by(AuditCheckpoint.seq))).all()
    return [Checkpoint(row.seq, row.time, row.hash, row.public_key, row.signature) for row in rows]


class CheckpointController(Controller):
    """Signs the head at intervals, if it moved."""

    name = "audit-checkpoints"

    def __init__(
        self, database: Database, key: Ed25519PrivateKey, clock: Clock, seconds: float, folder: Path | None
    ) -> None:
        super().__init__()
        self._database = database
        self._key = key
        self._clock = clock
        self.interval = seconds  # type: ignore[misc]  # a setting decides it for this instance
        self._folder = folder

    async def look(self) -> float | None:
        await self.sign_now()
        return self.interval

    async def sign_now(self) -> Checkpoint | None:
        """Sign where the chain stands, unless that is signed already."""
        async with self._database.write() as uow:
            uow.unrecorded("a checkpoint is about the log and not in it")
            head = (await uow.session.execute(select(AuditHead.seq, AuditHead.hash))).one_or_none()
            if head is None or head.seq == 0 or await uow.session.get(AuditCheckpoint, head.seq) is not None:
                return None
            point = sign(self._key, head.seq, timestamp(self._clock.now()), head.hash)
            uow.session.add(
                AuditCheckpoint(
                    seq=point.seq,
                    time=point.time,
                    hash=point.hash,
                    public_key=point.public_key,
                    signature=point.signature,
                )
            )
        if self._folder is not None:
            await asyncio.to_thread(_append, self._folder / "checkpoints.jsonl", point.dump())
        return point


def _append(path: Path, line: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(line + "\n")
