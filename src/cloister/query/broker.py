"""The broker: check, record, run, stream. Nothing of an answer leaves before its record is durable."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from time import perf_counter
from typing import Any

from cloister.access import Decider
from cloister.audit import Draft, Name, Outcome, Recorder
from cloister.core.actions import Action
from cloister.core.clock import Clock
from cloister.core.errors import CloisterError, Forbidden
from cloister.core.events import AccessChanged, Event, SpaceEnding
from cloister.core.ids import new_id
from cloister.core.principal import Principal, Scope
from cloister.platform import Bus, Database, Settings, UnitOfWork, metrics
from cloister.platform.logs import logger
from cloister.query.answers import Answer, Begun, Keeper
from cloister.query.cache import AnswerCache, Kept, Parameters, cache_key
from cloister.query.cancelling import unless
from cloister.query.errors import (
    QueryCancelled,
    TimeLimit,
    WorkerUnavailable,
    from_worker,
)
from cloister.query.relations import GrantedTable, Limits, Relations, fingerprint
from cloister.query.wire import encode, read_frame, read_line
from cloister.query.workers import Worker, Workers

log = logger(__name__)
FORMS = {
    "application/vnd.apache.arrow.stream": "arrow",
    "text/csv": "csv",
    "application/json": "json",
}
OBEY_SECONDS = 3.0
LINE_LIMIT = 1024 * 1024


@dataclass(frozen=True)
class Question:
    """A statement that somebody asks."""

    sql: str
    parameters: Parameters = None
    form: str = "arrow"
    team: int | None = None
    sandbox: str | None = None
    request_id: str | None = None
    only: frozenset[str] | None = None
    """The datasets that may be asked and no other, of those granted; None for all of them."""

    def of(self, tables: list[GrantedTable]) -> list[GrantedTable]:
        """Of the tables that are granted, those that may be asked here."""
        return tables if self.only is None else [table for table in tables if table.dataset in self.only]


@dataclass
class Open:
    """A query under way."""

    id: str
    space: str
    principal: Principal
    team: int | None
    view: str
    question: Question
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    why: str | None = None

    def refusal(self) -> CloisterError:
        return QueryCancelled(self.why)


class Broker:
    """Answers governed SQL."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        relations: Relations,
        workers: Workers,
        recorder: Recorder,
        decider: Decider,
        bus: Bus,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._database = database
        self._relations = relations
        self._workers = workers
        self._recorder = recorder
        self._decider = decider
        self._clock = clock
        self._cache = AnswerCache(settings.query_cache_bytes, settings.query_cache_entry_bytes)
        self._rechecks: set[asyncio.Task[None]] = set()
        self.open: dict[str, Open] = {}
        bus.subscribe(AccessChanged, self._on_access_changed)
        bus.subscribe(SpaceEnding, lambda _event: self._cache.clear())

    async def ask(self, scope: Scope, question: Question) -> Answer:
        """Answer a statement with a stream.

        Raises:
            CloisterError: what is wrong with the statement, what is not granted, or which limit was met.
        """
        begun = perf_counter()
        space, principal = scope.space or "", scope.principal
        team = self._team(scope, question.team)
        changes = self._relations.changes
        tables = question.of(await self._relations.lately_granted(space, principal.person, team, "query"))
        view = fingerprint(tables)
        query = Open(new_id("qry"), space, principal, team, view, question)
        key = cache_key(space, view, question.sql, question.parameters, question.form)
        kept = self._cache.get(key)
        if kept is not None:
            await self._recorder.record(self._draft(Name.QUERY_ASKED, query, question, kept.tables, cached=True))
            metrics.QUERIES.labels("ok", "yes").inc()
            metrics.QUERY_SECONDS.labels("yes").observe(perf_counter() - begun)
            return Answer(query.id, question.form, True, self._replay(query, question, kept, begun))
        chunks = self._run(query, question, tables, key, begun, scope.until)
        # The first step of the stream runs until the record is durable and the engine has begun to answer.
        self.open[query.id] = query
        if self._relations.changes != changes:  # what was granted when it was looked up may not be any more
            await self._recheck(space)
        try:
            first = await anext(chunks)
        except WorkerUnavailable as error:  # perhaps because its data are no longer granted
            self.open[query.id] = query
            await self._recheck(space)
            self.open.pop(query.id, None)
            if query.cancelled.is_set():
                raise QueryCancelled(query.why) from error
            raise
        except BaseException:
            self.open.pop(query.id, None)
            raise
        return Answer(query.id, question.form, False, Begun(first, chunks))

    @staticmethod
    def _team(scope: Scope, wanted: int | None) -> int | None:
        if scope.teams is None:
            return wanted
        if wanted is not None and wanted not in scope.teams:
            raise Forbidden("You are not in that team.")
        return wanted if wanted is not None else min(scope.teams, default=None)

    async def _run(
        self,
        query: Open,
        question: Question,
        tables: list[GrantedTable],
        key: str,
        begun: float,
        until: datetime | None,
    ) -> AsyncGenerator[bytes]:
        """Ask the team's worker. The first item comes once the record is durable (it may be empty)."""
        worker = await unless(query.cancelled, self._workers.take(query.space, query.team, tables), query.refusal)
        writer: asyncio.StreamWriter | None = None
        obeyed = False
        touched: tuple[str, ...] = ()
        failure: CloisterError | None = None
        counts: dict[str, Any] = {}
        try:
            reader, writer = await self._workers.connect(worker)
            ready = await unless(query.cancelled, self._prepare(reader, writer, question), query.refusal)
            touched = tuple(str(name) for name in ready["tables"])
            limits = self._limits(tables, touched)
            await self._recorder.record(self._draft(Name.QUERY_ASKED, query, question, touched, cached=False))
            seconds = self._seconds(limits, until)
            writer.write(encode({"go": True, "rows": limits.rows, "bytes": limits.bytes, "seconds": seconds}))
            keeper = Keeper(None if ready["volatile"] else self._cache.entry_limit)
            async with contextlib.aclosing(self._frames(query, reader, seconds, until)) as frames:
                async for item in frames:
                    if isinstance(item, dict):
                        counts = item
                    else:
                        keeper.add(item)
                        yield item
            obeyed = True
            if counts.get("error"):
                raise self._explain(query, from_worker(counts["error"]))
            if keeper.chunks is not None:
                self._cache.put(key, Kept(tuple(keeper.chunks), touched, int(counts["rows"]), keeper.size))
            if not keeper.size:
                yield b""
        except CloisterError as error:
            failure = error
            obeyed = obeyed or not isinstance(error, QueryCancelled | TimeLimit | WorkerUnavailable)
            raise
        except (OSError, EOFError, ValueError) as error:
            await self._recheck(query.space)  # a worker whose data are no longer granted is stopped, too
            failure = QueryCancelled(query.why) if query.cancelled.is_set() else WorkerUnavailable()
            raise failure from error
        finally:
            self.open.pop(query.id, None)
            if writer is not None:
                writer.close()
            self._workers.give_back(worker)
            self._finish(query, question, touched, counts, failure, begun)
            if not obeyed and writer is not None:
                task = asyncio.ensure_future(self._make_obey(worker, reader))
                self._rechecks.add(task)
                task.add_done_callback(self._rechecks.discard)

    async def _prepare(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, question: Question
    ) -> dict[str, Any]:
        """Have the worker parse the statement and say which tables it touches; nothing has run yet."""
        writer.write(encode({"sql": question.sql, "params": question.parameters, "format": question.form}))
        ready = await read_line(reader)
        if "error" in ready:
            raise from_worker(ready["error"])
        return ready

    def _limits(self, tables: list[GrantedTable], touched: tuple[str, ...]) -> Limits:
        limits = Limits(seconds=self._settings.query_seconds)
        for table in tables:
            if table.name in touched:
                limits = limits.tighter(table.limits)
        return limits

    def _seconds(self, limits: Limits, until: datetime | None) -> float:
        seconds = limits.seconds or self._settings.query_seconds
        if until is not None:
            seconds = min(seconds, max(0.0, (until - self._clock.now()).total_seconds()))
        return seconds

    async def _frames(
        self, query: Open, reader: asyncio.StreamReader, seconds: float, until: datetime | None
    ) -> AsyncGenerator[bytes | dict[str, Any]]:
        """The worker's frames, then its last line. Ends with an error as soon as the query is cancelled.

        Time spent waiting for the client does not count: only the worker's own does, and the worker keeps the time.
        """
        cancelled = asyncio.ensure_future(query.cancelled.wait())
        try:
            while True:
                step = asyncio.ensure_future(read_frame(reader))
                done, _ = await asyncio.wait(
                    {step, cancelled}, timeout=seconds + 1, return_when=asyncio.FIRST_COMPLETED
                )
                if step not in done:
                    step.cancel()
                    raise QueryCancelled(query.why) if cancelled in done else TimeLimit()
                item = step.result()
                if cancelled.done() or (until is not None and until <= self._clock.now()):
                    raise QueryCancelled(query.why or "Your access ended.")
                yield item
                if isinstance(item, dict):
                    return
        finally:
            cancelled.cancel()

    async def _make_obey(self, worker: Worker, reader: asyncio.StreamReader) -> None:
        """After hanging up, the worker must end the query: give it a moment, else end the worker.

        The engine looks for an interruption between vectors only; one long vector may ignore it.
        """
        with contextlib.suppress(TimeoutError, OSError, EOFError, ValueError):
            async with asyncio.timeout(OBEY_SECONDS):
                probe_reader, probe_writer = await self._workers.connect(worker)
            try:
                probe_writer.write(encode({"sql": "SELECT 1", "params": None, "format": "json"}))
                async with asyncio.timeout(OBEY_SECONDS):
                    await read_line(probe_reader)
                probe_writer.write(encode({"go": True, "rows": None, "bytes": None, "seconds": OBEY_SECONDS}))
                async with asyncio.timeout(OBEY_SECONDS):
                    await read_frame(probe_reader)
                return
            finally:
                probe_writer.close()
        del reader
        log.warning("query.worker_discarded", sandbox=worker.sandbox)
        await self._workers.discard(worker)

    @staticmethod
    def _explain(query: Open, error: CloisterError) -> CloisterError:
        return QueryCancelled(query.why) if isinstance(error, QueryCancelled) and query.why else error

    async def _replay(self, query: Open, question: Question, kept: Kept, begun: float) -> AsyncGenerator[bytes]:
        for chunk in kept.chunks:
            yield chunk
        counts = {"rows": kept.rows, "bytes": kept.bytes}
        self._note_answer(query, question, kept.tables, counts, None, begun, cached=True)

    def _finish(
        self, query: Open, question: Question, touched: tuple[str, ...], counts: dict[str, Any],
        failure: CloisterError | None, begun: float,
    ) -> None:  # fmt: skip
        metrics.QUERIES.labels(failure.code if failure else "ok", "no").inc()
        metrics.QUERY_SECONDS.labels("no").observe(perf_counter() - begun)
        self._note_answer(query, question, touched, counts, failure, begun, cached=False)

    def _note_answer(
        self, query: Open, question: Question, touched: tuple[str, ...], counts: dict[str, Any],
        failure: CloisterError | None, begun: float, *, cached: bool,
    ) -> None:  # fmt: skip
        refused = isinstance(failure, Forbidden)
        draft = self._draft(
            Name.QUERY_REFUSED if refused and not counts else Name.QUERY_ANSWERED, query, question, touched,
            cached=cached,
        )  # fmt: skip
        draft.outcome = Outcome.REFUSED if refused else Outcome.FAILED if failure else Outcome.OK
        draft.details = {
            **draft.details,
            "rows": counts.get("rows"),
            "bytes": counts.get("bytes"),
            "milliseconds": round((perf_counter() - begun) * 1000, 1),
            "error": failure.code if failure else None,
        }
        if not refused:
            draft.details = {name: value for name, value in draft.details.items() if name != "sql"}
        self._recorder.note(draft)

    @staticmethod
    def _draft(name: Name, query: Open, question: Question, touched: tuple[str, ...], *, cached: bool) -> Draft:
        return Draft(
            name=name, person=query.principal.person, team=query.team, actor=query.principal.kind, space=query.space,
            sandbox=question.sandbox, subject=query.id, request_id=question.request_id,
            details={
                "sql": question.sql, "tables": list(touched), "datasets": sorted({name.split(".")[0] for name in touched}),
                "cached": cached,
            },
        )  # fmt: skip

    # -- cancellation

    def cancel(self, space: str, id_: str, may: Callable[[Open], bool], why: str) -> bool:
        """Cancel an open query; whether there was one that the caller may cancel."""
        query = self.open.get(id_)
        if query is None or query.space != space or not may(query):
            return False
        query.why = why
        query.cancelled.set()
        return True

    def _on_access_changed(self, event: Event) -> None:
        if isinstance(event, AccessChanged) and any(q.space == event.space for q in self.open.values()):
            task = asyncio.get_running_loop().create_task(self._recheck(event.space))
            self._rechecks.add(task)
            task.add_done_callback(self._rechecks.discard)

    async def _recheck(self, space: str) -> None:
        """Cancel the open queries of a space whose askers may no longer ask, or see something else now."""
        for query in [q for q in self.open.values() if q.space == space]:
            async with self._database.read(query.principal) as uow:
                if not await self._may_go_on(uow, query):
                    query.why = "Your access to this data has ended."
                    query.cancelled.set()

    async def _may_go_on(self, uow: UnitOfWork, query: Open) -> bool:
        try:
            await self._decider.decide(uow, query.principal, Action.QUERY_RUN, query.space)
        except CloisterError:
            return False
        tables = await self._relations.granted(
            uow, query.space, query.principal.person, query.team, "query", make=False
        )
        return fingerprint(query.question.of(tables)) == query.view
