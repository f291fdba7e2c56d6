"""A request's transaction and its answer: held back until the one has committed, kept for whoever asks again."""

from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi.responses import JSONResponse
from starlette.types import Message, Scope, Send

from cloister.bootstrap import Platform
from cloister.core.errors import CloisterError, Unauthenticated
from cloister.platform import UnitOfWork
from cloister.platform.idempotency import KeptAnswer
from cloister.web.reservation import Reservation

KEPT_BODY = 1024 * 1024
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
]


class _RolledBackError(Exception):
    """Thrown into a transaction to undo it."""


class AnsweredBeforeError(Exception):
    """The same create was done before: this is what was answered."""

    def __init__(self, kept: KeptAnswer) -> None:
        self.kept = kept
        super().__init__()


class Transaction:
    """A request's transaction, opened by `authorise`, ended by `Edge`."""

    def __init__(self, manager: AbstractAsyncContextManager[UnitOfWork]) -> None:
        self._manager = manager
        self.uow: UnitOfWork | None = None
        self.key: str | None = None
        self.print = ""

    async def begin(self) -> UnitOfWork:
        self.uow = await self._manager.__aenter__()
        return self.uow

    async def commit(self) -> None:
        self.uow = None
        await self._manager.__aexit__(None, None, None)

    async def roll_back(self) -> None:
        if self.uow is not None:
            self.uow = None
            error = _RolledBackError()
            try:
                await self._manager.__aexit__(type(error), error, None)
            except _RolledBackError:
                return


class Answer:
    """Holds an answer's head back until it is known whether its transaction commits."""

    def __init__(self, scope: Scope, send: Send, request_id: str, platform: Platform) -> None:
        self._scope = scope
        self._send = send
        self._platform = platform
        self._request_id = request_id
        self._start: Message | None = None
        self._begun = False
        self.status = 0

    def _transaction(self) -> Transaction | None:
        found: Transaction | None = self._scope["state"].get("transaction")
        return found

    async def roll_back(self) -> None:
        transaction = self._transaction()
        if transaction is not None:
            await transaction.roll_back()
        reservation = self._reservation()
        if reservation is not None:
            await reservation.give_back()

    def _reservation(self) -> Reservation | None:
        found: Reservation | None = self._scope["state"].get("reservation")
        return found

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            self.status = message["status"]
            return
        if self._start is not None and message["type"] == "http.response.body":
            start, self._start = self._start, None
            await self._settle(start, message)
            have = {name.lower() for name, _ in start["headers"]}
            extra = [(name, value) for name, value in HEADERS if name not in have]
            start["headers"] = [*start["headers"], *extra, (b"cloister-request", self._request_id.encode())]
            self._begun = True
            await self._send(start)
        await self._send(message)

    async def _settle(self, start: Message, body: Message) -> None:
        if self.status >= 400:
            await self.roll_back()
            return
        whole = b"" if body.get("more_body") else body.get("body", b"")
        keeps = not body.get("more_body") and len(whole) <= KEPT_BODY
        reservation = self._reservation()
        if reservation is not None and keeps:
            await reservation.keep(self._kept(start, whole))
        transaction = self._transaction()
        if transaction is None or transaction.uow is None:
            return
        if transaction.key is not None and keeps:
            if not await transaction.uow.wrote():
                transaction.uow.unrecorded("nothing but its answer is kept")
            transaction.uow.session.add(
                KeptAnswer(key=transaction.key, fingerprint=transaction.print, **self._kept(start, whole))
            )
        await transaction.commit()

    def _kept(self, start: Message, body: bytes) -> dict[str, Any]:
        headers = {name.lower(): value.decode("latin-1") for name, value in start["headers"]}
        return {
            "status": self.status,
            "content_type": headers.get(b"content-type", "application/json"),
            "location": headers.get(b"location"),
            "body": self._platform.box.encrypt(body, "kept answers").encode(),  # it may hold a new token
            "created_at": self._platform.clock.now(),
        }

    async def problem(self, error: CloisterError) -> None:
        """Answer with a problem, if no answer has begun."""
        await self.roll_back()
        self._scope["state"]["transaction"] = None
        self._start = None
        if not self._begun:
            await problem_response(error, self._request_id)(self._scope, _no_receive, self.send)


async def _no_receive() -> Message:
    return {"type": "http.disconnect"}


def problem_response(error: CloisterError, request_id: str) -> JSONResponse:
    headers = {}
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    if "retry_after" in error.facts:
        headers["Retry-After"] = str(error.facts["retry_after"])
    content = {**error.problem(), "request": request_id}
    return JSONResponse(content, error.status, headers, media_type="application/problem+json")
