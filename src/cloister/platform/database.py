"""The database and the unit of work: one transaction per request or task, committed at the edge.

SQLite has one writer at a time. Here its writers queue for the only connection of a pool of one, in order, instead
of racing for the file's lock; readers have connections of their own and never wait (WAL).
"""

import json
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from sqlalchemy import JSON, DateTime, Dialect, MetaData, Select, String, event, text
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.types import TypeDecorator

from cloister.core.events import Event
from cloister.core.principal import SYSTEM, Principal
from cloister.platform import sqlite

READERS = max(2, os.cpu_count() or 2)
"""Connections that read SQLite. Each has a thread; more of them than cores fight for the interpreter: with eight on two
cores every read cost twice the processor time."""


class UnrecordedWriteError(RuntimeError):
    """A transaction changed rows, but no audit record goes with it. Add one, or say why none is needed."""


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime in UTC, on databases that know time zones and on those that do not."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            message = "a naive datetime has no place in the database"
            raise ValueError(message)
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Every table. Cross-domain foreign keys go by table name."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UtcDateTime,
        dict[str, Any]: JSON,
        list[Any]: JSON,
        list[str]: JSON,
        list[dict[str, Any]]: JSON,
        list[dict[str, str]]: JSON,
        str: String,
    }


@dataclass
class UnitOfWork:
    """One transaction, the audit records that commit with it, and the events that follow it."""

    session: AsyncSession
    actor: Principal = SYSTEM
    request_id: str | None = None
    records: list[Any] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    exempt: str | None = None
    reading: bool = False

    async def rest(self) -> None:
        """Give the connection of a reading transaction back while something slow happens; later reads see later news.

        Whoever holds one connection and waits for another may wait for ever: there are few.
        """
        if self.reading:
            await self.session.commit()  # nothing is expired by it, unlike by a rollback

    async def one_moment(self) -> None:
        """Let all that this transaction reads be of one moment; to be called before it reads. SQLite's always is."""
        if not self.is_sqlite:
            await self.session.connection(execution_options={"isolation_level": "REPEATABLE READ"})

    async def plain_rows(self, statement: Select[Any]) -> Sequence[Sequence[Any]]:
        """Rows of numbers, text and bytes as the driver gives them, in this transaction: half the time of `execute`.

        For reading a table from end to end. Parameters become part of the statement's text.
        """
        connection = await self.session.connection()
        await connection.exec_driver_sql("SELECT 1")  # a transaction begins with its first statement
        asked = str(statement.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True}))
        driver: Any = (await connection.get_raw_connection()).driver_connection
        rows: Sequence[Sequence[Any]] = await (
            driver.execute_fetchall(asked) if self.is_sqlite else driver.fetch(asked)
        )
        return rows

    @property
    def is_sqlite(self) -> bool:
        return self.session.get_bind().dialect.name == "sqlite"

    async def finish(self, work: Callable[[sqlite3.Connection], Any]) -> None:
        """Do this transaction's last work and commit it, on SQLite: in the connection's own thread, which is one
        crossing to it instead of one for each statement.
        """

        def there(session: Session) -> None:
            raw: Any = session.connection().connection.dbapi_connection
            raw.finish(work)

        await self.session.run_sync(there)

    async def wrote(self) -> bool:
        """Whether this transaction has changed rows so far."""
        await self.session.flush()
        return bool((await self.session.connection()).info.get("wrote"))

    def attempt(self) -> AbstractAsyncContextManager[Any]:
        """A part that may lose a race for a unique key and be undone alone.

        SQLite's one writer has nobody to race with, so there it costs nothing.
        """
        if self.is_sqlite:
            return nullcontext()
        return self.session.begin_nested()

    def publish(self, item: Event) -> None:
        """Announce something once, after the commit that makes it true."""
        if item not in self.events:
            self.events.append(item)

    def unrecorded(self, why: str) -> None:
        """Say why this transaction's writes need no audit record (bookkeeping that nobody asked for)."""
        self.exempt = why


Sealer = Callable[[UnitOfWork], Awaitable[None]]
Publisher = Callable[[list[Event]], None]


class Database:
    """The engines and the one way to get a transaction."""

    def __init__(self, dsn: str, *, seal: Sealer, publish: Publisher, pool: int = 16) -> None:
        self.dsn = dsn
        self.is_sqlite = dsn.startswith("sqlite")
        self._seal = seal
        self._publish = publish
        if self.is_sqlite:
            file = Path(dsn.split("///", 1)[1])
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch(mode=0o600)
            file.chmod(0o600)  # its companions (-wal, -shm) get the same
            self.writer = _sqlite_engine(dsn, begin="BEGIN IMMEDIATE", size=1)
            self.reader = _sqlite_engine(dsn, begin="BEGIN", size=READERS)
        else:
            self.writer = self.reader = create_async_engine(
                dsn, pool_size=pool, max_overflow=0, pool_timeout=60, json_serializer=_dumps
            )
        event.listen(self.writer.sync_engine, "before_cursor_execute", _note_write)
        event.listen(self.writer.sync_engine, "begin", _forget_write)

    @asynccontextmanager
    async def write(self, actor: Principal = SYSTEM, request_id: str | None = None) -> AsyncIterator[UnitOfWork]:
        """A transaction that commits when its block ends well, with its audit records, then publishes its events.

        Raises:
            UnrecordedWriteError: when rows changed and nothing was recorded.
        """
        async with AsyncSession(self.writer, expire_on_commit=False) as session:
            uow = UnitOfWork(session, actor, request_id)
            yield uow
            await self.commit(uow)

    async def commit(self, uow: UnitOfWork) -> None:
        """Seal the audit records, commit, publish. Called once, at the edge."""
        wrote = await uow.wrote()
        (await uow.session.connection()).info.pop("wrote", None)
        if wrote and not uow.records and uow.exempt is None:
            raise UnrecordedWriteError(UnrecordedWriteError.__doc__)
        if uow.records:
            await self._seal(uow)
        await uow.session.commit()
        events, uow.events = uow.events, []
        uow.records = []
        self._publish(events)

    @asynccontextmanager
    async def read(self, actor: Principal = SYSTEM) -> AsyncIterator[UnitOfWork]:
        """A transaction that only looks."""
        async with AsyncSession(self.reader, expire_on_commit=False) as session:
            yield UnitOfWork(session, actor, reading=True)

    async def ping(self) -> None:
        async with self.reader.connect() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        await self.writer.dispose()
        if self.reader is not self.writer:
            await self.reader.dispose()
        if self.is_sqlite:
            for engine in (self.writer, self.reader):
                await sqlite.ended(engine)


def _dumps(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _note_write(
    connection: Connection, _cursor: object, statement: str, _parameters: object, _context: object, _many: bool
) -> None:
    if statement[:6].upper() in {"INSERT", "UPDATE", "DELETE"}:
        connection.info["wrote"] = True


def _forget_write(connection: Connection) -> None:
    """Connections are used again: what an earlier transaction wrote, and undid, is not this one's."""
    connection.info.pop("wrote", None)


PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",  # a committed record survives a power cut
    "foreign_keys=ON",
    "cache_size=-16000",
    "temp_store=MEMORY",
    "wal_autocheckpoint=4000",
)


def _sqlite_engine(dsn: str, *, begin: str, size: int) -> AsyncEngine:
    sqlite.register()
    engine = create_async_engine(
        make_url(dsn).set(drivername="sqlite+cloister"),
        pool_size=size,
        max_overflow=0,
        pool_timeout=120,
        connect_args={"timeout": 60, "isolation_level": None},
        json_serializer=_dumps,
    )

    @event.listens_for(engine.sync_engine, "connect")
    def _connect(connection: Any, _entry: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        try:
            for pragma in PRAGMAS:
                cursor.execute(f"PRAGMA {pragma}")
        except BaseException:  # whoever wanted it was cancelled: it is in no pool yet, and nobody else ends its thread
            connection.give_up()
            raise
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.info.pop("wrote", None)
        raw: Any = connection.connection.dbapi_connection
        raw.begin(begin)

    return engine


__all__ = ["Base", "Database", "IntegrityError", "UnitOfWork", "UnrecordedWriteError", "UtcDateTime"]
