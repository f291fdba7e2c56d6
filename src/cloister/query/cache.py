"""Answers kept for identical questions about identical data under identical policy. Asking is recorded all the same."""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Parameters = Sequence[object] | Mapping[str, object] | None


@dataclass(frozen=True)
class Kept:
    """An answer."""

    chunks: tuple[bytes, ...]
    tables: tuple[str, ...]
    rows: int
    bytes: int


def cache_key(space: str, view: str, sql: str, parameters: Parameters, form: str) -> str:
    """Names a question: the statement to the letter, its parameters, what it is asked of, and the answer's form."""
    text = json.dumps([space, view, sql, parameters, form], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


class AnswerCache:
    """Answers in memory, the least recently used first to go."""

    def __init__(self, limit: int, entry_limit: int) -> None:
        self.entry_limit = entry_limit
        self._limit = limit
        self._size = 0
        self._entries: OrderedDict[str, Kept] = OrderedDict()

    def get(self, key: str) -> Kept | None:
        found = self._entries.get(key)
        if found is not None:
            self._entries.move_to_end(key)
        return found

    def clear(self) -> None:
        self._entries.clear()
        self._size = 0

    def put(self, key: str, answer: Kept) -> None:
        if answer.bytes > self.entry_limit or answer.bytes > self._limit:
            return
        if key in self._entries:
            self._size -= self._entries.pop(key).bytes
        self._entries[key] = answer
        self._size += answer.bytes
        while self._size > self._limit:
            self._size -= self._entries.popitem(last=False)[1].bytes
