"""The edge of the API: who asks, whether they may, one transaction, its commit, the kept answer. In this order.

`Edge` is the outermost ASGI layer; `authorise` is a dependency of every route. A route's answer is held back until its
transaction has committed: nobody is told of something that did not happen.
"""

import secrets
from collections.abc import MutableMapping
from contextlib import AbstractAsyncContextManager
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import structlog
from fastapi import Request
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError, IntegrityError
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloister.audit import Draft, Name, Outcome
from cloister.bootstrap import Platform
from cloister.core.actions import Action
from cloister.core.errors import CloisterError, Conflict, Forbidden, Internal, Invalid, TooLarge, Unauthenticated
from cloister.core.ids import new_id
from cloister.core.principal import ANONYMOUS, Principal
from cloister.platform import Call, UnitOfWork, metrics
from cloister.platform.idempotency import (
    KeptAnswer,
    fingerprint,
    kept_answer,
    reserve,
    storage_key,
)
from cloister.platform.logs import logger
from cloister.platform.pace import Pace

log = logger(__name__)
SAFE = {"GET", "HEAD", "OPTIONS"}
CREATED = {201, 202}
KEPT_BODY = 1024 * 1024
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
]


class CrossSite(Forbidden):
    """This request came from another site. Changes are accepted from this platform's own pages, or with a token."""

    code = "access.cross_site"


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


class Reservation:
    """A key taken for a create that runs in short transactions of its own, until it is answered or given back."""

    def __init__(self, platform: Platform, key: str) -> None:
        self._platform = platform
        self._key: str | None = key

    async def keep(self, fields: dict[str, Any]) -> None:
        """Keep what is about to be answered."""
        key, self._key = self._key, None
        if key is not None:
            async with self._platform.database.write() as uow:
                uow.unrecorded("what was created is recorded")
                kept = await uow.session.get(KeptAnswer, key)
                for name, value in fields.items() if kept is not None else ():
                    setattr(kept, name, value)

    async def give_back(self) -> None:
        """Nothing was created: the key is free again."""
        key, self._key = self._key, None
        if key is not None:
            async with self._platform.database.write() as uow:
                uow.unrecorded("nothing was created")
                kept = await uow.session.get(KeptAnswer, key)
                if kept is not None:
                    await uow.session.delete(kept)


class Edge:
    """Request ids, headers, metrics, and the end of transactions."""

    def __init__(self, app: ASGIApp, platform: Platform) -> None:
        self._app = app
        self._platform = platform

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = new_id("req")
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        answer = _Answer(scope, send, request_id, self._platform)
        begun = perf_counter()
        try:
            await self._app(scope, self._bounded(scope, receive), answer.send)
        except CloisterError as error:
            await answer.problem(error)
        except ClientDisconnect:  # who asked has gone, in the middle of what they sent: there is nobody to answer
            log.info("http.gone", path=scope["path"])
        except IntegrityError:  # somebody did the same in this moment, and the database let one of them
            await answer.problem(Conflict("Somebody did this at the same moment. Look again, then repeat it."))
        except (DBAPIError, UnicodeEncodeError) as error:
            # A value that no column holds (a NUL, half a surrogate pair, a number past its type): SQLSTATE class 22.
            state = str(
                getattr(
                    getattr(error, "orig", None), "sqlstate", "22000" if isinstance(error, UnicodeEncodeError) else ""
                )
            )
            if not state.startswith("22"):
                log.exception("http.failed", path=scope["path"])
            await answer.problem(Invalid() if state.startswith("22") else Internal())
        except Exception:  # the outermost edge: the caller gets an id, the log gets the rest
            log.exception("http.failed", path=scope["path"])
            await answer.problem(Internal())
        finally:
            await answer.roll_back()
            route = getattr(scope.get("route"), "path", "unmatched")
            metrics.REQUESTS.labels(scope["method"], route, str(answer.status)).inc()
            metrics.REQUEST_SECONDS.labels(route).observe(perf_counter() - begun)

    def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        """Refuse a body that says it is too large before any of it is read; stop one that turns out to be, or that
        comes a byte a second.

        Raises:
            TooLarge: at once, or from the returned function.
            TooSlow: from the returned function.
        """
        limit = (
            None if _streams_in(scope["path"]) else self._platform.settings.request_bytes
        )  # uploads bound themselves
        pace, seen, whole = Pace(self._platform.settings), 0, False
        said = dict(scope["headers"]).get(b"content-length", b"0")
        if limit is not None and said.isdigit() and int(said) > limit:
            raise TooLarge(f"A request may have {limit} bytes.")

        async def counted() -> Message:
            nonlocal seen, whole
            if whole:
                return await receive()  # what comes after a body is that they hang up, whenever that is
            async with pace.waiting():
                message = await receive()
            whole = not message.get("more_body")
            seen += len(message.get("body", b""))
            pace.got(len(message.get("body", b"")))
            if limit is not None and seen > limit:
                raise TooLarge(f"A request may have {limit} bytes.")
            return message

        return counted


class _Answer:
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


class Authoriser:
    """The dependency of every route: nothing else happens before it."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._host = urlsplit(platform.settings.public_url).netloc

    async def __call__(self, request: Request) -> None:
        extra: MutableMapping[str, Any] = request.scope["route"].openapi_extra
        action = Action(extra["x-cloister-action"])
        state = request.scope["state"]
        space = request.path_params.get("space")
        transaction: Transaction | None = None
        async with self._platform.database.read() as reading:
            principal = await self._principal(reading, request)
            reading.actor = principal
            if extra["x-cloister-transaction"]:
                transaction = self._transaction(request, principal)
            else:
                scope = await self._decide(request, reading, principal, action, space)
        if transaction is None:
            await self._reserve(request, principal)
        if transaction is not None:
            state["transaction"] = transaction
            uow = await transaction.begin()
            scope = await self._decide(request, uow, principal, action, space)
            await self._check_kept(request, transaction, principal)
        operator = scope.principal.operator
        call = Call(
            scope.principal, scope, transaction.uow if transaction else None, state["request_id"], _address(request)
        )
        if call.transaction is not None and operator:
            call.transaction.actor = scope.principal
        request.state.call = call

    def _transaction(self, request: Request, principal: Principal) -> Transaction:
        database = self._platform.database
        writes = request.scope["route"].openapi_extra["x-cloister-writes"]
        if request.method in SAFE and not writes:
            return Transaction(database.read(principal))
        return Transaction(database.write(principal, request.scope["state"]["request_id"]))

    async def _decide(
        self, request: Request, uow: UnitOfWork, principal: Principal, action: Action, space: str | None
    ) -> Any:
        try:
            return await self._platform.decider.decide(uow, principal, action, space)
        except Forbidden as error:
            self._platform.recorder.note(
                Draft(
                    name=Name.ACCESS_DENIED, outcome=Outcome.REFUSED, person=principal.person, actor=principal.kind,
                    space=space, subject=action.value, request_id=request.scope["state"]["request_id"],
                    details={"code": error.code},
                )
            )  # fmt: skip
            raise

    async def _principal(self, uow: UnitOfWork, request: Request) -> Principal:
        """Who asks: by token, else by cookie, else nobody. A wrong token is an error; an old cookie is nobody."""
        platform, address = self._platform, _address(request)
        authorization = request.headers.get("authorization", "")
        if authorization:
            scheme, _, secret = authorization.partition(" ")
            if scheme.lower() != "bearer":
                raise Unauthenticated("Use “Authorization: Bearer” with an API token.")
            operator = platform.operator_secret
            if operator is not None and secrets.compare_digest(secret.strip().encode(), operator.encode()):
                return Principal(person=None, operator=True, kind="system", address=address)
            found = await platform.tokens.recognise(uow, secret.strip(), address)
            if found is None:
                raise Unauthenticated("This token is not valid: wrong, expired or revoked.")
            return found
        cookie = request.cookies.get(platform.sessions.cookie_name())
        if cookie is None:
            return ANONYMOUS
        if request.method not in SAFE:
            self._check_origin(request)
        return await platform.sessions.recognise(uow, cookie, address) or ANONYMOUS

    def _check_origin(self, request: Request) -> None:
        """Refuse changes that a browser makes on behalf of another site.

        Raises:
            CrossSite: when the browser says so.
        """
        site = request.headers.get("sec-fetch-site")
        origin = request.headers.get("origin")
        hosts = {self._host, request.headers.get("host", "")}
        if site not in {None, "same-origin", "none"} or (origin is not None and urlsplit(origin).netloc not in hosts):
            raise CrossSite

    async def _reserve(self, request: Request, principal: Principal) -> None:
        """Take the key of a create that has no transaction to keep its answer in."""
        key = request.headers.get("idempotency-key")
        if key is None or request.method != "POST" or request.scope["route"].status_code not in CREATED:
            return
        if _streams_in(request.url.path):
            body = request.headers.get("content-length", "").encode()  # what streams in cannot be looked at before
        else:
            body = await request.body()
        kept_under, printed = _storage_key(principal, key), fingerprint(request.method, request.url.path, body)
        async with self._platform.database.write(principal) as uow:
            kept = await reserve(uow, kept_under, printed, self._platform.clock.now())
        if kept is not None:
            raise AnsweredBeforeError(kept)
        request.scope["state"]["reservation"] = Reservation(self._platform, kept_under)

    async def _check_kept(self, request: Request, transaction: Transaction, principal: Principal) -> None:
        key = request.headers.get("idempotency-key")
        if key is None or request.method != "POST" or transaction.uow is None:
            return
        body = await request.body()
        transaction.key = _storage_key(principal, key)
        transaction.print = fingerprint(request.method, request.url.path, body)
        kept = await kept_answer(transaction.uow, transaction.key, transaction.print)
        if kept is not None:
            transaction.key = None
            transaction.uow.unrecorded("a repeated request changes nothing")
            raise AnsweredBeforeError(kept)


def _storage_key(principal: Principal, key: str) -> str:
    who = principal.label if principal.person is not None else (principal.address or "")
    return storage_key(who, key)


def _streams_in(path: str) -> bool:
    """Whether a request's body goes on as it comes, and may be larger than memory."""
    return path.endswith("/uploads")


def _address(request: Request) -> str | None:
    return request.client.host if request.client else None
