"""What Caddy asks and hands over: the decision, our own paths on workspace origins, WebSockets, pages and downloads.

(aiohttp, not the public API's server: it proxies, and speaks WebSockets both ways. The decision itself has a socket of
its own, see `asking`. Caddy alone can reach either.)
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from cloister.audit import Recorder
from cloister.core.clock import Clock
from cloister.core.errors import CloisterError, Internal, NotFound, Unauthenticated
from cloister.core.ids import person_label, team_label
from cloister.core.paths import own_path
from cloister.core.principal import Scope
from cloister.gateway import pages
from cloister.gateway.asking import SAFE, Asking, Connection, Question, Ready, problem, response
from cloister.gateway.caddy import CERTIFICATE, CERTIFICATES, Sockets
from cloister.gateway.decision import Allowed, Asked, Decisions
from cloister.gateway.entering import Entering
from cloister.gateway.errors import CrookedPath, NoSuchWorkspace, WorkspaceAsleep, WrongOrigin
from cloister.gateway.hosts import cookie_name, plain
from cloister.gateway.leaving import Leaving
from cloister.gateway.outflow import Outflows
from cloister.gateway.passes import Passes
from cloister.gateway.presence import Presence
from cloister.gateway.relay import Relay
from cloister.gateway.streams import Streams
from cloister.gateway.upstream import Upstreams
from cloister.gateway.watching import Watching
from cloister.identity import people_by_number
from cloister.platform import Bus, Database, Settings
from cloister.platform.logs import logger
from cloister.platform.ratelimit import RateLimit
from cloister.platform.sockets import short_path
from cloister.sandboxes import SandboxController
from cloister.spaces import members
from cloister.workspaces import Workspaces

log = logger(__name__)
ALLOWED = web.RequestKey("allowed", Allowed)
PASS = "Cloister-Pass"  # noqa: S105  (the name of a scheme)
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


class Gateway:
    """The server behind Caddy."""

    def __init__(
        self, settings: Settings, database: Database, decisions: Decisions, entering: Entering, workspaces: Workspaces,
        sandboxes: SandboxController, outflows: Outflows, presence: Presence, recorder: Recorder, bus: Bus, clock: Clock,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._cookie = cookie_name(settings)
        self._database = database
        self._decisions = decisions
        self._entering = entering
        self._workspaces = workspaces
        self._presence = presence
        self.upstreams = Upstreams(settings, sandboxes)
        self.relay = Relay(decisions, self.upstreams, outflows, presence, recorder)
        self._own = Sockets.of(settings).gateway
        self._passes = Passes()
        self._limit = RateLimit(settings.gateway_requests_per_minute)
        self._leaving = Leaving(settings, decisions, self.upstreams, outflows, recorder)
        self._streams = Streams(
            database, decisions, sandboxes, outflows, settings.public_url, bus, clock, self.upstreams.dials
        )
        self._runner: web.AppRunner | None = None
        self._asking: asyncio.Server | None = None
        self._task: asyncio.Task[None] | None = None
        self._watching = Watching(self.relay, self._leaving, self.upstreams, sandboxes, bus)

    async def start(self) -> None:
        """Listen on the socket that Caddy speaks to."""
        app = web.Application(client_max_size=1024 * 1024, middlewares=[self._errors])
        app.router.add_get(CERTIFICATE, self._certificate)
        app.router.add_get("/_cloister/enter", self._enter)
        app.router.add_get("/_cloister/events", self._guarded(self._streams.events))
        app.router.add_get("/_cloister/start", self._guarded(self._streams.start, wake=True))
        app.router.add_post("/_cloister/restart", self._guarded(self._restart))
        app.router.add_post("/_cloister/keep", self._guarded(self._keep))
        app.router.add_post("/_cloister/active", self._guarded(self._active))
        app.router.add_get("/_cloister/mates", self._guarded(self._mates))
        app.router.add_get("/_cloister/{name}", self._asset)
        app.router.add_route("*", "/{path:.*}", self._pass)
        app.on_response_prepare.append(_name_for_the_log)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1)
        await self._runner.setup()
        path = self._settings.run_directory / "gateway.sock"
        path.unlink(missing_ok=True)
        with short_path(path) as name:
            await web.UnixSite(self._runner, name).start()
        path.chmod(0o600)
        asking = Asking(self._decisions, self._parse, self._long, self._refuse, self._presence.worked, self._limit)
        path = self._settings.run_directory / "decision.sock"
        path.unlink(missing_ok=True)
        with short_path(path) as name:
            self._asking = await asyncio.get_running_loop().create_unix_server(lambda: Connection(asking), name)
        path.chmod(0o600)
        self._task = asyncio.create_task(self._watching.run(), name="gateway")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._asking is not None:
            self._asking.close()
            self._asking = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        await self.upstreams.close()

    # -- who asks

    def _asked(self, request: web.Request) -> Asked:
        headers = _lower(request)
        token = request.query.get("token")
        if token and "authorization" not in headers and headers.get("upgrade", "").lower() == "websocket":
            # Clients of Jupyter's say it so where they connect: a browser's WebSocket can carry no header.
            headers["authorization"] = f"token {token}"
        return self._asker(request.host, request.rel_url.raw_path, headers)

    def _asker(self, host: str, path: str, headers: Mapping[str, str]) -> Asked:
        if not plain(path):
            raise CrookedPath
        address = self._entering.hosts.parse(host)
        if address is None:
            raise NoSuchWorkspace
        scheme, _, secret = headers.get("authorization", "").partition(" ")
        if scheme == PASS:
            asked = self._passes.asker(secret)
            if asked is None or asked.address != address:
                raise Unauthenticated
            return asked
        token = secret.strip() if scheme.lower() in {"bearer", "token"} and secret else None
        cookie = None if token else _cookie(headers.get("cookie", ""), self._cookie)
        client = headers.get("x-forwarded-for", "").rpartition(",")[2].strip() or None
        return Asked(address, cookie, token, client)

    def _check_origin(self, host: str, headers: Mapping[str, str], asked: Asked, method: str, *, socket: bool) -> None:
        """Changes and connections come from the workspace's own pages, or with a token.

        Raises:
            WrongOrigin: when they do not.
        """
        if asked.token is not None or (method in SAFE and not socket):
            return
        origin = headers.get("origin")
        if origin is not None:
            url = urlsplit(origin)
            good = url.scheme == self._entering.hosts.scheme and url.netloc == host
        else:
            good = not socket and headers.get("sec-fetch-site") in {"same-origin", "none"}
        if not good:
            raise WrongOrigin

    # -- Caddy's question: may this person do this here, and which socket is it now?

    def _parse(self, question: Question) -> Asked:
        return self._asker(question.host, question.path, question.headers)

    async def _long(self, question: Question, asked: Asked) -> Ready:
        self._check_origin(question.host, question.headers, asked, question.method, socket=False)
        allowed = await self._decisions.decide(asked)
        headers = {**self.upstreams.headers(allowed), "Cloister-Upstream": self.upstreams.dial(allowed)}
        until = math.inf
        if question.method not in SAFE or allowed.policies.downloads != "allowed":
            # What comes in is bounded, and where not everything may leave, whatever leaves is looked at: it comes to us.
            word, until = self._passes.give(asked)
            headers["Authorization"] = f"{PASS} {word}"
            headers["Cloister-Upstream"] = self._own
        return Ready(allowed, response(204, headers), *self.upstreams.paths(allowed), until)

    def _refuse(self, question: Question, error: CloisterError) -> tuple[int, dict[str, str], str]:
        person = "text/html" in question.headers.get("accept", "") and question.method == "GET"
        if person and isinstance(error, Unauthenticated):
            to = pages.entry(self._settings.public_url, question.host, question.path)
            return 302, {"Location": to, **HEADERS}, ""
        if person:
            text = pages.refusal("This did not work", error.detail, self._settings.public_url)
            return error.status, {**HEADERS, "Content-Type": "text/html; charset=utf-8"}, text
        return error.status, {**_problem_headers(error), "Content-Type": "application/problem+json"}, problem(error)

    def _guarded(
        self, handler: Callable[[web.Request, Asked, Allowed], Awaitable[web.StreamResponse]], *, wake: bool = False
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def guarded(request: web.Request) -> web.StreamResponse:
            asked = self._asked(request)
            self._check_origin(request.host, _lower(request), asked, request.method, socket=False)
            allowed = request[ALLOWED] = await self._decisions.decide(asked)
            self._limit.take(str(allowed.person))
            if wake:
                await self._wake(allowed)
            return await handler(request, asked, allowed)

        return guarded

    async def _wake(self, allowed: Allowed) -> None:
        if allowed.state not in {"stopped", "stopping"}:
            return
        async with self._database.write(allowed.principal) as uow:
            await self._workspaces.open(uow, _scope(allowed), allowed.team)
        self._decisions.forget_workspace(allowed.workspace)

    # -- everything that Caddy hands over

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        asked = self._asked(request)
        socket = request.headers.get("Upgrade", "").lower() == "websocket"
        self._check_origin(request.host, _lower(request), asked, request.method, socket=socket)
        document = _is_document(request)
        try:
            allowed = request[ALLOWED] = await self._decisions.decide(asked)
        except Unauthenticated:
            if document and asked.token is None:
                raise web.HTTPFound(
                    pages.entry(self._settings.public_url, request.host, request.rel_url.raw_path_qs)
                ) from None
            raise
        if not request.headers.get("Authorization", "").startswith(PASS):  # whose asker was counted when it was let in
            self._limit.take(str(allowed.person))
        if document and not self.upstreams.dials(allowed):
            space, team = asked.address.space, asked.address.team
            return _html(pages.waking(space, team), 503)
        try:
            if socket:
                return await self.relay.serve(request, asked, allowed)
            return await self._leaving.serve(request, asked, allowed, document=document)
        except aiohttp.ClientError as error:
            if request.transport is None or request.transport.is_closing():
                raise  # whoever asked has gone, as a page does that is loaded anew
            if document:
                return _html(pages.waking(asked.address.space, asked.address.team), 503)
            raise WorkspaceAsleep("The app in this workspace did not answer.") from error

    async def _certificate(self, request: web.Request) -> web.Response:
        """Caddy asks: is this name one of ours, so that a certificate for it may be asked for?"""
        name = request.query.get("domain", "").lower()
        if request.host != CERTIFICATES:
            raise NotFound
        if not self._entering.hosts.is_ours(name):
            address = self._entering.hosts.parse(name)
            if address is None:
                raise NoSuchWorkspace
            async with self._database.read() as uow:
                await self._entering.team_at(uow, address)
        return web.Response(status=204)

    async def _enter(self, request: web.Request) -> web.Response:
        address = self._entering.hosts.parse(request.host)
        if address is None:
            raise NoSuchWorkspace
        path = own_path(request.query.get("to", "/"))
        async with self._database.write() as uow:
            team = await self._entering.team_at(uow, address)
            secret = await self._entering.redeem(uow, request.query.get("code", ""), team)
        answer = web.Response(status=303, headers={"Location": path, **HEADERS})
        answer.set_cookie(
            self._cookie, secret, path="/", httponly=True, samesite="Lax", secure=self._settings.cookie_secure,
            max_age=self._settings.session_absolute_seconds,
        )  # fmt: skip
        return answer

    async def _restart(self, request: web.Request, _asked: Asked, allowed: Allowed) -> web.Response:
        try:
            safe = (await request.json()).get("safe") is True
        except (ValueError, AttributeError):
            safe = False
        async with self._database.write(allowed.principal) as uow:
            row = await self._workspaces.find(uow, _scope(allowed), allowed.team)
            await self._workspaces.restart(uow, _scope(allowed), row, safe=safe)
        return web.Response(status=204)

    async def _keep(self, _request: web.Request, _asked: Asked, allowed: Allowed) -> web.Response:
        self._presence.worked(allowed.workspace)
        async with self._database.write(allowed.principal) as uow:
            uow.unrecorded("somebody is there")
            row = await self._workspaces.find(uow, _scope(allowed), allowed.team)
            row.active_at = self._workspaces.clock.now()
        self._decisions.forget_workspace(allowed.workspace)
        return web.Response(status=204)

    async def _active(self, _request: web.Request, _asked: Asked, allowed: Allowed) -> web.Response:
        """A page says that somebody types or points in it. Not all of that is seen otherwise: words that two write in one
        text, or an app that speaks over sockets alone.
        """
        self._presence.worked(allowed.workspace)
        return web.Response(status=204)

    async def _mates(self, _request: web.Request, _asked: Asked, allowed: Allowed) -> web.Response:
        """What those are called who may work here, by number: a page's business, and no app's."""
        async with self._database.read() as uow:
            numbers = [row.person for row in await members(uow, allowed.space, allowed.team)]
            found = await people_by_number(uow, numbers)
        names = {person_label(number): person.name for number, person in found.items()}
        return web.json_response(names, headers=HEADERS)

    async def _asset(self, request: web.Request) -> web.Response:
        found = pages.asset(request.match_info["name"])
        if found is None:
            raise NotFound
        return web.Response(body=found[0], content_type=found[1], headers={**HEADERS, "Cache-Control": "max-age=300"})

    # -- errors

    @web.middleware
    async def _errors(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            return await handler(request)
        except CloisterError as error:
            if error.status >= 500:
                log.debug("gateway.refused", code=error.code, path=request.path)
            return self._refusal(request, error)
        except (web.HTTPException, asyncio.CancelledError, ConnectionError):
            raise
        except Exception:  # the edge: whoever asked gets an answer, and the log the reason
            log.exception("gateway.failed", path=request.path)
            return self._refusal(request, Internal())

    def _refusal(self, request: web.Request, error: CloisterError) -> web.Response:
        if _is_document(request):
            title = "You cannot go on here" if error.status in {401, 403} else "This did not work"
            return _html(pages.refusal(title, error.detail, self._settings.public_url), error.status)
        return web.Response(
            text=problem(error), status=error.status, content_type="application/problem+json",
            headers=_problem_headers(error),
        )  # fmt: skip


async def _name_for_the_log(request: web.Request, response: web.StreamResponse) -> None:
    """Tell Caddy whose request this was: its access log has the numbers. No app can say them instead."""
    allowed = request.get(ALLOWED)
    for name, label in (
        ("Cloister-Person", allowed and person_label(allowed.person)),
        ("Cloister-Team", allowed and team_label(allowed.team)),
    ):
        response.headers.popall(name, None)
        if label:
            response.headers[name] = label


def _problem_headers(error: CloisterError) -> dict[str, str]:
    return {**HEADERS, "Retry-After": "2"} if error.status == 503 else HEADERS


def _lower(request: web.Request) -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items()}


def _cookie(header: str, name: str) -> str | None:
    """One cookie of a Cookie header."""
    for part in header.split(";"):
        key, _, value = part.strip().partition("=")
        if key == name:
            return value
    return None


def _scope(allowed: Allowed) -> Scope:
    return Scope(allowed.space, frozenset({allowed.team}), frozenset(), allowed.principal)


def _is_document(request: web.Request) -> bool:
    """Whether a browser navigates, as opposed to a page's script or a program that asks."""
    fetch = request.headers.get("Sec-Fetch-Dest")
    return request.method == "GET" and (
        fetch == "document" or (fetch is None and "text/html" in request.headers.get("Accept", ""))
    )


def _html(text: str, status: int) -> web.Response:
    headers = {**HEADERS, "Content-Security-Policy": pages.POLICY}
    return web.Response(text=text, status=status, content_type="text/html", headers=headers)
