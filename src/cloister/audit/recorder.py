"""Records that belong to no transaction of their own: durable in groups, so that thousands a second cost few commits.

`Recorder.record` returns when its record is on disk. Whatever it guards is revealed only then.
"""

import asyncio
import contextlib

from cloister.audit.record import Draft
from cloister.core.errors import Unavailable
from cloister.platform import Database
from cloister.platform.logs import logger

log = logger(__name__)
GROUP = 2_000
WAITING = 20_000
NOTE_SECONDS = 0.05
"""How long news that guards nothing waits for a record that somebody waits for, to be on disk together with it."""


class LogFull(Unavailable):
    """The audit log cannot take more just now, and nothing is answered without its record. Try again shortly."""

    code = "audit.busy"


class LogUnavailable(Unavailable):
    """The audit log could not be written, and nothing is answered without its record."""

    code = "audit.unavailable"


class Recorder:
    """Groups records into transactions: while one commits, the next group gathers."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[tuple[Draft, asyncio.Future[None] | None]] = []
        self._writer: asyncio.Task[None] | None = None
        self._awaited = asyncio.Event()
        self._flushing = 0

    async def record(self, draft: Draft) -> None:
        """Make a record durable.

        Raises:
            LogFull: when too many wait already.
            LogUnavailable: when the database refused it.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._enqueue(draft, done)
        await done

    def note(self, draft: Draft) -> None:
        """Make a record durable soon, for news that guards nothing (a refusal, an end).

        Raises:
            LogFull: when too many wait already.
        """
        self._enqueue(draft, None)

    def _enqueue(self, draft: Draft, done: "asyncio.Future[None] | None") -> None:
        if len(self._waiting) >= WAITING:
            raise LogFull
        self._waiting.append((draft, done))
        if done is not None:
            self._awaited.set()
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        while self._waiting:
            if not self._flushing and len(self._waiting) < GROUP and all(done is None for _, done in self._waiting):
                self._awaited.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(NOTE_SECONDS):
                        await self._awaited.wait()
            group, self._waiting = self._waiting[:GROUP], self._waiting[GROUP:]
            try:
                async with self._database.write() as uow:
                    uow.records = [draft for draft, _ in group]
            except Exception as error:  # whatever it was, each waiter must hear that its record is not there
                log.exception("audit.write_failed", records=len(group))
                for _, done in group:
                    if done is not None and not done.done():
                        failure = LogUnavailable()
                        failure.__cause__ = error
                        done.set_exception(failure)
                continue
            for _, done in group:
                if done is not None and not done.done():
                    done.set_result(None)

    async def flush(self) -> None:
        """Wait until all that was noted is on disk."""
        self._flushing += 1
        try:
            self._awaited.set()
            while self._writer is not None and not self._writer.done():
                await asyncio.shield(self._writer)
        finally:
            self._flushing -= 1
