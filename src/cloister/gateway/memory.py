"""What was decided a moment ago, and what each decision rests on: news forgets just the decisions that rest on what changed.
Otherwise every start of anybody's sandbox would make everybody be asked for anew.
"""

import contextlib
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from time import monotonic
from typing import Generic, TypeVar

Q = TypeVar("Q", bound=Hashable)
A = TypeVar("A")


@dataclass(frozen=True)
class _Kept(Generic[A]):
    at: float
    answer: A
    grounds: frozenset[Hashable]


@dataclass
class Memory(Generic[Q, A]):
    """Answers to questions, for so many seconds and so many at most."""

    seconds: float
    most: int
    _kept: dict[Q, _Kept[A]] = field(default_factory=dict)
    _on: dict[Hashable, set[Q]] = field(default_factory=lambda: defaultdict(set))
    _looking: list[set[Hashable]] = field(default_factory=list)
    """For each answer that is being looked for, what has changed since."""

    def get(self, question: Q) -> A | None:
        """What was answered, if that still counts."""
        found = self._kept.get(question)
        return None if found is None or monotonic() - found.at > self.seconds else found.answer

    @contextlib.contextmanager
    def looking(self) -> Iterator[set[Hashable]]:
        """While somebody looks for an answer: what was told to be forgotten meanwhile."""
        news: set[Hashable] = set()
        self._looking.append(news)
        try:
            yield news
        finally:
            self._looking = [other for other in self._looking if other is not news]

    def keep(self, question: Q, answer: A, since: float, grounds: Iterable[Hashable], news: set[Hashable]) -> None:
        """Remember an answer that was begun to be looked for at some time, unless what it rests on changed meanwhile."""
        resting = frozenset(grounds)
        if None in news or resting & news:
            return
        if len(self._kept) >= self.most:
            self.clear()
        self._drop(question)
        self._kept[question] = _Kept(since, answer, resting)
        for ground in resting:
            self._on[ground].add(question)

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
