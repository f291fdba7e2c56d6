"""What was decided a moment ago, and what each decision rests on: news forgets just the decisions that rest on what changed.
Otherwise every start of anybody's sandbox would make everybody be asked for anew.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from time import monotonic
from typing import Generic, TypeAlias, TypeVar

from cloister.platform.logs import logger

log = logger(__name__)
Q = TypeVar("Q", bound=Hashable)
A = TypeVar("A")
Look: TypeAlias = Callable[[Q], Awaitable[tuple[A, Iterable[Hashable]]]]
"""How to find an answer and what it rests on."""

AHEAD = 0.6
"""Who asks when this share of an answer's time is over has the next looked for, so that nobody waits for it."""


@dataclass(frozen=True)
class _Kept(Generic[A]):
    at: float
    answer: A
    grounds: frozenset[Hashable]


@dataclass
class _Flight(Generic[A]):
    task: asyncio.Task[A]
    begun: float
    news: set[Hashable]
    waiting: int = 0


@dataclass
class Memory(Generic[Q, A]):
    """Answers to questions, for so many seconds and so many at most."""

    seconds: float
    most: int
    _kept: dict[Q, _Kept[A]] = field(default_factory=dict)
    _on: dict[Hashable, set[Q]] = field(default_factory=lambda: defaultdict(set))
    _looking: list[set[Hashable]] = field(default_factory=list)
    """For each answer that is being looked for, what has changed since."""
    _flights: dict[Q, _Flight[A]] = field(default_factory=dict)

    async def ask(self, question: Q, look: Look[Q, A]) -> A:
        """What is remembered, or else what is found now. All who ask the same thing meanwhile wait for one look."""
        found = self.get(question)
        if found is not None:
            self.look_ahead(question, look)
            return found
        flight = self._look(question, look)
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)  # the others wait on when one gives up
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():  # nobody wants to know any more
                self._land(question, flight.news)
                flight.task.cancel()

    def look_ahead(self, question: Q, look: Look[Q, A]) -> None:
        """Look for the next answer when the one there grows old, without making anybody wait."""
        kept = self._kept.get(question)
        if kept is not None and monotonic() - kept.at > self.seconds * AHEAD:
            self._look(question, look)

    def _look(self, question: Q, look: Look[Q, A]) -> _Flight[A]:
        now, flight = monotonic(), self._flights.get(question)
        # What began before a change, or as long ago as an answer counts, is no answer to who asks now.
        if flight is None or flight.news or now - flight.begun > self.seconds:
            news: set[Hashable] = set()
            task = asyncio.create_task(self._fly(question, look, now, news))
            task.add_done_callback(_heard)
            flight = self._flights[question] = _Flight(task, now, news)
        return flight

    async def _fly(self, question: Q, look: Look[Q, A], begun: float, news: set[Hashable]) -> A:
        try:
            with self.looking(news):
                answer, grounds = await look(question)
        finally:
            self._land(question, news)
        return self.keep(question, answer, begun, grounds, news)

    def get(self, question: Q) -> A | None:
        """What was answered, if that still counts."""
        found = self._kept.get(question)
        return None if found is None or monotonic() - found.at > self.seconds else found.answer

    def stands(self, question: Q, answer: A) -> bool:
        """Whether an answer is what was found last, however long ago, and nothing that it rests on has changed since."""
        found = self._kept.get(question)
        return found is not None and found.answer is answer

    def _land(self, question: Q, news: set[Hashable]) -> None:
        """From now on nobody joins this look."""
        if (flight := self._flights.get(question)) is not None and flight.news is news:
            del self._flights[question]

    @contextlib.contextmanager
    def looking(self, news: set[Hashable]) -> Iterator[None]:
        """While somebody looks for an answer: gather what is told to be forgotten meanwhile."""
        self._looking.append(news)
        try:
            yield
        finally:
            self._looking = [other for other in self._looking if other is not news]

    def keep(self, question: Q, answer: A, since: float, grounds: Iterable[Hashable], news: set[Hashable]) -> A:
        """Remember an answer that was begun to be looked for at some time, unless what it rests on changed meanwhile.

        Return it; the very same one that was there, if it is equal.
        """
        resting = frozenset(grounds)
        old = self._kept.get(question)
        if old is not None and old.answer == answer:
            answer = old.answer
        if None in news or resting & news or (old is not None and old.at > since):
            return answer
        if len(self._kept) >= self.most:
            self.clear()
        self._drop(question)
        self._kept[question] = _Kept(since, answer, resting)
        for ground in resting:
            self._on[ground].add(question)
        return answer

    def forget(self, *grounds: Hashable) -> None:
        """Forget what rests on any of these."""
        for news in self._looking:
            news.update(grounds)
        for ground in grounds:
            for question in tuple(self._on.get(ground, ())):
                self._drop(question)

    def clear(self) -> None:
        """Forget everything."""
        for news in self._looking:
            news.add(None)
        self._kept.clear()
        self._on.clear()

    def _drop(self, question: Q) -> None:
        gone = self._kept.pop(question, None)
        for ground in gone.grounds if gone else ():
            self._on[ground].discard(question)
            if not self._on[ground]:
                del self._on[ground]


def _heard(task: "asyncio.Task[A]") -> None:
    """Whoever waited has been told; when nobody did, the log is."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("gateway.look_failed", error=str(error))
