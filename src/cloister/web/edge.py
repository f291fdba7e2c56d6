"""The edge of the API: who asks, whether they may, one transaction, its commit, the kept answer. In this order.

`Edge` is the outermost ASGI layer; `authorise` is a dependency of every route. A route's answer is held back until its
transaction has committed: nobody is told of something that did not happen.
"""

import asyncio
import re
import secrets
from collections.abc import MutableMapping
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import structlog
from fastapi import Request
from sqlalchemy.exc import DBAPIError, IntegrityError
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloister.audit import Draft, Name, Outcome
from cloister.bootstrap import Platform
from cloister.core.actions import Action
from cloister.core.errors import CloisterError, Conflict, Forbidden, Internal, Invalid, TooLarge, Unauthenticated
from cloister.core.ids import new_id
from cloister.core.principal import ANONYMOUS, Principal
from cloister.modules import MAX_BYTES as MAX_ARCHIVE
from cloister.platform import Call, UnitOfWork, metrics
from cloister.platform.idempotency import (
    fingerprint,
    kept_answer,
    reserve,
    storage_key,
)
from cloister.platform.logs import logger
from cloister.platform.pace import Pace
from cloister.web.answering import Answer, AnsweredBeforeError, Transaction
from cloister.web.reservation import Reservation
from cloister.web.streams import Stream, Streams

log = logger(__name__)
_ARCHIVE = re.compile(r"/modules/[^/]+/archive$")
SAFE = {"GET", "HEAD", "OPTIONS"}
CREATED = {201, 202}


class CrossSite(Forbidden):
    """This request came from another site. Changes are accepted from this platform's own pages, or with a token."""

    code = "access.cross_site"


class Edge:
    """Request ids, headers, metrics, and the end of transactions."""

    def __init__(self, app: ASGIApp, platform: Platform) -> None:
        self._app = app
        self._platform = platform
        self._streams = Streams(platform)

    @staticmethod
    def _cut_off(scope: Scope) -> CloisterError | None:
        """Why an answer was cut off, if it was not its reader who hung up."""
        stream: Stream | None = scope["state"].get("stream")
        if stream is None or stream.refusal is None or stream.task is None:
            return None
        stream.task.uncancel()
        return stream.refusal

    @staticmethod
    def _of_database(error: Exception, scope: Scope) -> CloisterError:
        """A value that no column holds (a NUL, half a surrogate pair, a number past its type) is the caller's: SQLSTATE
        class 22.
        """
        unencodable = "22000" if isinstance(error, UnicodeEncodeError) else ""
        state = str(getattr(getattr(error, "orig", None), "sqlstate", unencodable))
        if state.startswith("22"):
            return Invalid()
        log.error("http.failed", path=scope["path"], exc_info=error)
        return Internal()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = new_id("req")
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        answer = Answer(scope, send, request_id, self._platform)
        begun = perf_counter()
        scope["state"]["streams"] = self._streams
        try:
            await self._app(scope, self._bounded(scope, receive), answer.send)
        except asyncio.CancelledError:
            refusal = self._cut_off(scope)
            if refusal is None:
                raise
            await answer.problem(refusal)  # where it had begun, it ends unfinished, and visibly so
        except CloisterError as error:
            await answer.problem(error)
        except ClientDisconnect:  # who asked has gone, in the middle of what they sent: there is nobody to answer
            log.info("http.gone", path=scope["path"])
        except IntegrityError:  # somebody did the same in this moment, and the database let one of them
            await answer.problem(Conflict("Somebody did this at the same moment. Look again, then repeat it."))
        except (DBAPIError, UnicodeEncodeError) as error:
            await answer.problem(self._of_database(error, scope))
        except Exception:  # the outermost edge: the caller gets an id, the log gets the rest
            log.exception("http.failed", path=scope["path"])
            await answer.problem(Internal())
        finally:
            if (stream := scope["state"].get("stream")) is not None:
                self._streams.remove(stream)
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
        limit = _most(scope["path"], self._platform.settings.request_bytes)
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
            if space is not None and request.method == "GET":
                state["stream"] = Stream(principal, action, space, scope)
                await state["streams"].add(state["stream"])
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
        if "stream" in state:
            state["stream"].call = call

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
        if _streams_in(request.url.path):  # what streams in cannot be looked at before
            digest, length = (request.headers.get(name) for name in ("content-digest", "content-length"))
            if digest is None and length is None:
                raise Invalid("With an Idempotency-Key, say in Content-Length or Content-Digest what you send.")
            body = f"{length} {digest}".encode()
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


def _most(path: str, usual: int) -> int | None:
    """How many bytes a request's body may have; None where it streams and bounds itself."""
    if _streams_in(path):
        return None
    return max(usual, MAX_ARCHIVE) if _ARCHIVE.search(path) else usual


def _address(request: Request) -> str | None:
    return request.client.host if request.client else None
