"""Caddy's question on every request, answered with as little work as there can be: a protocol of its own on a socket of
its own, since a general HTTP server costs more than the decision.

What was decided for the same asker in the last half second is answered at once, after one look whether the app still
listens on the very socket that was named. Everything else takes the long way.
"""

import asyncio
import json
import math
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from typing import cast

import httptools

from cloister.core.errors import CloisterError, Internal, TooManyRequests
from cloister.gateway.decision import Allowed, Asked, Decisions
from cloister.platform.logs import logger
from cloister.platform.ratelimit import RateLimit

log = logger(__name__)
SAFE = {"GET", "HEAD", "OPTIONS"}
BY_ITSELF = "/lab/api/workspaces"
"""Where an open JupyterLab notes every ten seconds how its panels lie, for ever. Whether somebody types or points in a
page, that page says itself."""
MAX_HEADERS = 64 * 1024


@dataclass(frozen=True)
class Question:
    """A request as Caddy tells of it."""

    host: str
    method: str
    path: str
    headers: dict[str, str]


@dataclass(frozen=True)
class Ready:
    """An answer that may be given again while nothing changed."""

    allowed: Allowed
    answer: bytes
    app: str
    link: str
    until: float = math.inf
    """When (``monotonic``) the pass in it is to be replaced: whom it lets in must still reach us with it."""

    def good(self) -> bool:
        """Whether its pass counts, and the app still listens on the socket that the answer names."""
        if monotonic() > self.until:
            return False
        try:
            here, there = os.lstat(self.app), os.lstat(self.link)
        except OSError:
            return False
        return here.st_ino == there.st_ino and here.st_dev == there.st_dev


Parse = Callable[[Question], Asked]
Long = Callable[[Question, Asked], Awaitable[Ready]]
Refuse = Callable[[Question, CloisterError], tuple[int, dict[str, str], str]]


class Asking:
    """Answers, and remembers answers as long as `Decisions` remembers what they rest on."""

    def __init__(
        self, decisions: Decisions, parse: Parse, long: Long, refuse: Refuse, worked: Callable[[str | None], None],
        limit: RateLimit,
    ) -> None:  # fmt: skip
        self._decisions = decisions
        self._parse = parse
        self._long = long
        self._refuse = refuse
        self._worked = worked
        self._limit = limit
        self._ready: dict[Asked, Ready] = {}

    def at_once(self, question: Question) -> bytes | None:
        """An answer without waiting, or None. Changes take the long way, where their origin is checked."""
        if question.method not in SAFE:
            return None
        try:
            asked = self._parse(question)
        except CloisterError:
            return None
        ready = self._ready.get(asked)
        if ready is None or self._decisions.remembered(asked) is not ready.allowed or not ready.good():
            return None
        try:
            self._limit.take(str(ready.allowed.person))
        except TooManyRequests as error:
            return response(*self._refuse(question, error))
        return ready.answer

    async def answer(self, question: Question) -> bytes:
        try:
            asked = self._parse(question)
            ready = await self._long(question, asked)
            self._limit.take(str(ready.allowed.person))
        except CloisterError as error:
            return response(*self._refuse(question, error))
        except Exception:  # Caddy must get an answer, and the log the reason
            log.exception("gateway.decision_failed", path=question.path)
            return response(*self._refuse(question, Internal()))
        if len(self._ready) > 20_000:
            self._ready.clear()
        if question.method in SAFE:
            self._ready[asked] = ready
        elif not question.path.startswith(BY_ITSELF):
            self._worked(ready.allowed.workspace)
        return ready.answer


def response(status: int, headers: dict[str, str], body: str = "") -> bytes:
    """An HTTP answer, whole."""
    data = body.encode()
    lines = [f"HTTP/1.1 {status} -", *(f"{name}: {value}" for name, value in headers.items())]
    if status != 204:
        lines.append(f"Content-Length: {len(data)}")
    return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + data


def problem(error: CloisterError) -> str:
    return json.dumps({**error.problem(), "message": error.detail})


class Connection(asyncio.Protocol):
    """One of Caddy's connections; it asks one thing at a time."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._headers: dict[str, str] = {}
        self._size = 0
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not of that class, and do the same

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        self._size += len(data)
        try:
            if self._size > MAX_HEADERS:
                raise httptools.HttpParserError("too large")
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):  # upgrades are asked for elsewhere
            if self._transport is not None:
                self._transport.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_message_complete(self) -> None:
        headers, self._headers, self._size = self._headers, {}, 0
        question = Question(
            headers.get("host", ""),
            headers.get("x-forwarded-method", "GET"),
            headers.get("x-forwarded-uri", "/"),
            headers,
        )
        found = self._asking.at_once(question)
        if found is not None:
            self._write(found)
        else:
            self._task = asyncio.ensure_future(self._wait(question))

    async def _wait(self, question: Question) -> None:
        self._write(await self._asking.answer(question))

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)
