"""Answers that stream."""

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Protocol, TypeVar

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

T_co = TypeVar("T_co", bytes, str, covariant=True)


class Source(Protocol[T_co]):
    """What is to come, such as an asynchronous generator, and what is held open for it."""

    def __aiter__(self) -> AsyncIterator[T_co]: ...

    async def aclose(self) -> None:
        """Let go of it, whether or not it was read to its end."""


class Streamed(StreamingResponse):
    """Passes a source on, and closes it however that ends.

    A generator that nobody reads on lives until it is collected, and with it the query, the file or the place in a list
    that it holds.
    """

    def __init__(
        self,
        source: Source[bytes] | Source[str],
        media_type: str,
        headers: Mapping[str, str] | None = None,
        status_code: int = 200,  # FastAPI reads its default
    ) -> None:
        super().__init__(source, status_code, headers, media_type)
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._source):
            await super().__call__(scope, receive, send)
