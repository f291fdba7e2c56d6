"""Long operations: something that takes longer than an answer may, with progress that a person can watch."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Mapped, mapped_column

from cloister.core.clock import Clock
from cloister.core.errors import CloisterError, NotFound
from cloister.core.events import OperationChanged
from cloister.core.ids import new_id
from cloister.platform.database import Base, Database, UnitOfWork


class OperationNotFound(NotFound):
    """There is no such operation, or it is somebody else's."""

    code = "operation.not_found"


class Operation(Base):
    """One long operation and how far it is."""

    __tablename__ = "operations"

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    space: Mapped[str | None] = mapped_column(index=True)
    person: Mapped[int | None] = mapped_column(index=True)
    subject: Mapped[str]
    state: Mapped[str]  # running, done, failed
    progress: Mapped[float]  # 0 to 1
    message: Mapped[str]
    result: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


@dataclass
class Operations:
    """Start, advance and finish operations."""

    database: Database
    clock: Clock

    def start(self, uow: UnitOfWork, kind: str, subject: str, space: str | None, message: str) -> Operation:
        now = self.clock.now()
        operation = Operation(
            id=new_id("op"),
            kind=kind,
            space=space,
            person=uow.actor.person,
            subject=subject,
            state="running",
            progress=0.0,
            message=message,
            result=None,
            error=None,
            created_at=now,
            updated_at=now,
        )
        uow.session.add(operation)
        return operation

    async def advance(self, id_: str, progress: float, message: str) -> None:
        await self._set(id_, progress=progress, message=message)

    async def finish(self, id_: str, result: dict[str, Any]) -> None:
        await self._set(id_, state="done", progress=1.0, message="done", result=result)

    async def fail(self, id_: str, error: CloisterError) -> None:
        await self._set(id_, state="failed", message=error.detail, error=error.problem())

    async def _set(self, id_: str, **values: Any) -> None:
        async with self.database.write() as uow:
            uow.unrecorded("progress of an operation whose start and end are recorded by its owner")
            operation = await uow.session.get(Operation, id_)
            if operation is None or operation.state != "running":
                return
            for name, value in values.items():
                setattr(operation, name, value)
            operation.updated_at = self.clock.now()
            uow.publish(OperationChanged(id_))

    async def get(self, uow: UnitOfWork, id_: str, *, operator: bool = False) -> Operation:
        """Return an operation to whoever started it, or to an operator.

        Raises:
            OperationNotFound: when it is neither's.
        """
        found = await uow.session.scalar(select(Operation).where(Operation.id == id_))
        if found is None or not (operator or uow.actor.operator or found.person == uow.actor.person):
            raise OperationNotFound
        return found
