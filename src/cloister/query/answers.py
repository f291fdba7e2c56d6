"""Answers to governed SQL, while they stream."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from cloister.platform.streamed import Source


@dataclass
class Answer:
    """What is streamed: its record is durable when this exists."""

    query: str
    form: str
    cached: bool
    chunks: Source[bytes]
    """To be closed by whoever reads it."""


class Begun:
    """A stream whose first item is there already."""

    def __init__(self, first: bytes, rest: AsyncGenerator[bytes]) -> None:
        self._first, self._rest = first, rest

    def __aiter__(self) -> "Begun":
        return self

    async def __anext__(self) -> bytes:
        if self._first:
            first, self._first = self._first, b""
            return first
        return await anext(self._rest)

    async def aclose(self) -> None:
        await self._rest.aclose()


class Keeper:
    """Collects an answer for the cache, as long as it is small enough."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit or 0
        self.size = 0
        self.chunks: list[bytes] | None = None if limit is None else []

    def add(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if self.chunks is not None:
            self.chunks.append(chunk)
            if self.size > self._limit:
                self.chunks = None
