"""A dialect for SQLite that crosses to its connection's thread once for each statement.

SQLAlchemy's own adapter crosses four times (open a cursor, execute, fetch, close) and once more for ``BEGIN``. A
crossing costs some 50 µs of processor time, which was more than half of what registering a person cost. Here a
statement with its rows is one crossing, ``BEGIN`` travels with the first statement, and nobody waits for the end of a
transaction that only looked.
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from threading import Thread
from typing import Any

from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.aiosqlite import (
    AsyncAdapt_aiosqlite_connection,
    AsyncAdapt_aiosqlite_dbapi,
    SQLiteDialect_aiosqlite,
)
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util.concurrency import await_

ENDING_SECONDS = 5.0
"""How long the thread of a connection that was given up is waited for; the statement that it is in may take longer."""
Parameters = Sequence[Any] | dict[str, Any]


class Cursor:
    """A DBAPI cursor whose rows are all here when `execute` returns."""

    server_side = False

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._rows: deque[Any] = deque()
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self.arraysize = 1

    def execute(self, operation: str, parameters: Parameters | None = None) -> "Cursor":
        self._run(lambda raw: raw.execute(operation, parameters or ()))
        return self

    def executemany(self, operation: str, parameters: Sequence[Parameters]) -> "Cursor":
        self._run(lambda raw: raw.executemany(operation, parameters))
        return self

    def _run(self, work: Callable[[sqlite3.Connection], sqlite3.Cursor]) -> None:
        def there(raw: sqlite3.Connection) -> tuple[Any, list[Any], int, int | None]:
            cursor = work(raw)
            rows = cursor.fetchall() if cursor.description else []
            found = (cursor.description, rows, cursor.rowcount, cursor.lastrowid)
            cursor.close()
            return found

        self.description, rows, self.rowcount, self.lastrowid = self._connection.cross(there)
        self._rows = deque(rows)

    def __iter__(self) -> Iterator[Any]:
        while self._rows:
            yield self._rows.popleft()

    def fetchone(self) -> Any:
        return self._rows.popleft() if self._rows else None

    def fetchmany(self, size: int | None = None) -> list[Any]:
        return [self._rows.popleft() for _ in range(min(size or self.arraysize, len(self._rows)))]

    def fetchall(self) -> list[Any]:
        rows, self._rows = list(self._rows), deque()
        return rows

    def setinputsizes(self, *_sizes: Any) -> None:
        """SQLite has no use for it."""

    def close(self) -> None:
        self._rows.clear()

    async def _async_soft_close(self) -> None:
        """Nothing is open: the rows are here."""


class Connection(AsyncAdapt_aiosqlite_connection):
    """The adapter's connection, with `begin` as part of the first statement."""

    __slots__ = ("_begin", "_open")

    def __init__(self, dbapi: Any, connection: Any) -> None:
        super().__init__(dbapi, connection)
        self._begin: str | None = None
        self._open = False

    def begin(self, statement: str) -> None:
        """Begin a transaction, with this statement, when something is asked in it."""
        self._begin = statement

    def cross(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        """Do something in the connection's thread, in the transaction."""
        begin, self._begin = self._begin, None
        self._open = self._open or begin is not None
        connection = self._connection

        def there() -> Any:
            raw = connection._conn  # noqa: SLF001 - as SQLAlchemy's adapter does; there is no public name
            if begin is not None:
                raw.execute(begin)
            return work(raw)

        try:
            return await_(connection._execute(there))  # noqa: SLF001
        except Exception as error:  # noqa: BLE001 - the adapter sorts them
            self._handle_exception(error)

    def finish(self, work: Callable[[sqlite3.Connection], Any]) -> None:
        """Do the transaction's last work and commit it, in one crossing."""

        def there(raw: sqlite3.Connection) -> None:
            work(raw)
            raw.commit()

        self.cross(there)
        self._open = False

    def cursor(self, server_side: bool = False) -> Any:
        return super().cursor(server_side=True) if server_side else Cursor(self)

    def commit(self) -> None:
        self._begin = None
        if self._open:
            self._open = False
            super().commit()

    def rollback(self) -> None:
        self._begin = None
        if self._open:
            self._open = False
            super().rollback()

    async def _end(self) -> None:
        """Close it, once. The driver's own way, asked twice, waits for a thread that has ended: for ever, where a task was
        cancelled in the middle of a statement and its connection is given up by two at a time.
        """
        done = self.give_up()
        if done is not None:
            await done

    def give_up(self) -> "asyncio.Future[Any] | None":
        """Let it end without waiting; return what may be waited for."""
        connection = self._connection
        if not connection._running:  # noqa: SLF001 - likewise
            return None
        going = [thread for thread in self.dbapi.ending if thread.is_alive()]
        self.dbapi.ending = [*going, connection._thread]  # noqa: SLF001 - likewise
        done: asyncio.Future[Any] | None = connection.stop()
        return done

    def close(self) -> None:
        await_(self._end())

    async def _terminate_graceful_close(self) -> None:
        await self._end()

    def _terminate_force_close(self) -> None:
        self.give_up()


class Dbapi(AsyncAdapt_aiosqlite_dbapi):
    """The adapter's module, whose connections are ours."""

    def __init__(self, aiosqlite: Any, sqlite: Any) -> None:
        super().__init__(aiosqlite, sqlite)
        self.ending: list[Thread] = []
        """Threads of connections that were given up, not all of which anybody has waited for."""

    async def ended(self) -> None:
        """Wait until the last of them is gone: it may still have a word for an event loop, which must not be closed yet."""
        while self.ending:
            await asyncio.to_thread(self.ending.pop().join, ENDING_SECONDS)

    def connect(self, *arguments: Any, **named: Any) -> Connection:
        return Connection(self, super().connect(*arguments, **named)._connection)  # noqa: SLF001


class Dialect(SQLiteDialect_aiosqlite):
    """``sqlite+cloister``."""

    driver = "cloister"
    supports_statement_cache = True

    @classmethod
    def import_dbapi(cls) -> Any:
        return Dbapi(__import__("aiosqlite"), sqlite3)


async def ended(engine: AsyncEngine) -> None:
    """Wait for what is left of an engine's connections."""
    dbapi: Any = engine.dialect.dbapi
    await dbapi.ended()


def register() -> None:
    """Make ``sqlite+cloister`` known to SQLAlchemy."""
    registry.register("sqlite.cloister", __name__, "Dialect")
