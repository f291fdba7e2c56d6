"""The inner API: what the platform offers to a sandbox, over Unix sockets that only that sandbox can see.

Each sandbox has its own pair of sockets, so it is known by where it speaks; its tokens are checked all the same, and a
token of one is worth nothing on the socket of another. (aiohttp, not the public API's server: listeners come and go
here with every sandbox.)
"""

import asyncio
import hmac
import json
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

from cloister.audit import Draft, Name, Outcome, Recorder
from cloister.core.errors import CloisterError, Internal, TooLarge, TooManyRequests
from cloister.core.principal import Principal
from cloister.identity import secret_hash
from cloister.platform import Settings
from cloister.platform.logs import logger
from cloister.platform.ratelimit import RateLimit
from cloister.platform.sockets import short_path
from cloister.sandboxes.egress import Client, EgressProxy
from cloister.sandboxes.errors import BadToken
from cloister.sandboxes.output import OutputLog
from cloister.sandboxes.spec import Place
from cloister.spaces import EgressRule

log = logger(__name__)
MAX_MESSAGE = 1024 * 1024
MAX_BODY = 1536 * 1024
"""Statements have at most 1 MB; a sandbox may hold `MAX_CONNECTIONS` such bodies in our memory."""
MAX_CONNECTIONS = 64


@dataclass
class Connected:
    """One sandbox, as the inner API knows it while it lives."""

    id: str
    space: str
    team: int | None
    person: int | None
    place: Place
    assignment: dict[str, Any]
    rules: list[EgressRule]
    output: OutputLog
    queries: bool
    queries_of: frozenset[str] | None
    token_hash: str
    next_token_hash: str | None
    save_tokens: Callable[[str, str | None], Awaitable[None]]
    before_start: Callable[[], Awaitable[bool]] | None = None
    """Makes it durable that the program runs, before it does: so that no restart can run it a second time. False when
    it must not run any more."""
    forked_in: "asyncio.Task[bool] | None" = None
    """Brings the program in from the zygote; False when it has to be started instead."""
    waits: bool = False
    """Whether it is a blank: its agent is here, and is not told yet what to be."""
    access_hash: str = ""
    confirmed: bool = False
    """Whether the agent has the token that was issued last."""
    agent_here: asyncio.Event = field(default_factory=asyncio.Event)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    exited: "asyncio.Future[int]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    channel: web.WebSocketResponse | None = None
    runner: web.AppRunner | None = None
    listener: asyncio.Server | None = None
    egress: asyncio.Server | None = None
    outgoing: set["asyncio.Task[Any]"] = field(default_factory=set)

    def become(self, wanted: "Connected") -> None:
        """Take over, as a blank, whose sandbox it is from now on and what it is to do; its connection stays."""
        self.space, self.team, self.person = wanted.space, wanted.team, wanted.person
        self.assignment, self.rules = wanted.assignment, wanted.rules
        self.queries, self.queries_of = wanted.queries, wanted.queries_of
        self.output, self.save_tokens = wanted.output, wanted.save_tokens

    @property
    def tokens(self) -> dict[str, str | None]:
        """What its row is to keep of its tokens."""
        return {"token_hash": self.token_hash, "next_token_hash": self.next_token_hash}

    @property
    def principal(self) -> Principal:
        """The person that the sandbox acts for, as far as a sandbox may."""
        return Principal(person=self.person, kind="sandbox")


InnerHandler = Callable[[Connected, web.Request], Awaitable[web.StreamResponse]]


class InnerApi:
    """Opens and closes the sockets of sandboxes and answers on them."""

    def __init__(self, settings: Settings, recorder: Recorder, proxy: EgressProxy, key: bytes) -> None:
        self._settings = settings
        self._recorder = recorder
        self._proxy = proxy
        self._key = key
        self._limit = RateLimit(settings.sandbox_attempts_per_minute)
        self._handlers: list[tuple[str, str, InnerHandler]] = []

    def register(self, method: str, path: str, handler: InnerHandler) -> None:
        """Offer something more to programs in sandboxes (those above this package do)."""
        self._handlers.append((method, path, handler))

    def access_token(self, id_: str) -> str:
        """What programs in a sandbox show; derived, so that it need not be kept anywhere."""
        return hmac.new(self._key, f"access {id_}".encode(), "sha256").hexdigest()

    async def open(self, sandbox: Connected) -> None:
        """Listen for a sandbox."""
        sandbox.access_hash = secret_hash(self.access_token(sandbox.id))
        app = web.Application(client_max_size=MAX_BODY, middlewares=[_errors])

        async def control(request: web.Request) -> web.StreamResponse:
            return await self._control(sandbox, request)

        app.router.add_get("/v1/control", control)
        for method, path, handler in self._handlers:
            app.router.add_route(method, path, self._guarded(sandbox, handler))
        sandbox.runner = web.AppRunner(app, access_log=None, shutdown_timeout=1, handle_signals=False)
        await sandbox.runner.setup()
        if sandbox.listener is not None:
            sandbox.listener.close()  # opened before: the new one takes the name
        inner = sandbox.place.sockets / "inner.sock"
        inner.unlink(missing_ok=True)
        # Known before it serves: whoever is cancelled in between leaves it to `hang_up`.
        with short_path(inner) as name:
            sandbox.listener = await asyncio.get_running_loop().create_unix_server(
                _bounded(sandbox.runner), name, start_serving=False
            )
        await sandbox.listener.start_serving()
        inner.chmod(0o666)  # its folder is closed to all but us; inside, the team's user may connect
        if not sandbox.waits and sandbox.assignment.get("egress", True):
            await self._open_egress(sandbox)

    async def _open_egress(self, sandbox: Connected) -> None:
        client = Client(sandbox.space or None, sandbox.team, sandbox.person, sandbox.id)
        path = sandbox.place.sockets / "egress.sock"
        path.unlink(missing_ok=True)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            if task is not None:
                sandbox.outgoing.add(task)
                task.add_done_callback(sandbox.outgoing.discard)
            try:
                self._limit.take(f"egress {sandbox.id}")
                if len(sandbox.outgoing) > MAX_CONNECTIONS:
                    raise TooManyRequests
            except TooManyRequests:
                writer.close()
                return
            await self._proxy.serve(client, sandbox.rules, reader, writer)

        with short_path(path) as name:
            sandbox.egress = await asyncio.start_unix_server(serve, name, start_serving=False)
        await sandbox.egress.start_serving()
        path.chmod(0o666)

    async def close(self, sandbox: Connected) -> None:
        """Stop listening for good; whatever was being answered ends."""
        await sandbox.output.close()
        if sandbox.channel is not None:
            await sandbox.channel.close()
        await self.hang_up(sandbox)

    async def hang_up(self, sandbox: Connected) -> None:
        """End all connections, as when the platform goes away. `open` listens again."""
        if sandbox.egress is not None:
            sandbox.egress.close()
            for task in list(sandbox.outgoing):
                task.cancel()
            await asyncio.gather(*sandbox.outgoing, return_exceptions=True)
        if sandbox.listener is not None:
            sandbox.listener.close()  # first: whoever is let in while the runner cleans up is forgotten by it
        if sandbox.runner is not None:
            await sandbox.runner.cleanup()

    async def terminate(self, sandbox: Connected) -> None:
        """Tell the agent to stop its program."""
        if sandbox.channel is not None and not sandbox.channel.closed:
            await sandbox.channel.send_str(json.dumps({"type": "TERMINATE"}))

    def _guarded(
        self, sandbox: Connected, handler: InnerHandler
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def answer(request: web.Request) -> web.StreamResponse:
            given = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if not secrets.compare_digest(secret_hash(given), sandbox.access_hash):
                self._limit.take(f"token {sandbox.id}")
                self._refused(sandbox, "an access token that is not this sandbox's")
                raise BadToken
            return await handler(sandbox, request)

        return answer

    def _refused(self, sandbox: Connected, why: str) -> None:
        self._recorder.note(
            Draft(
                name=Name.TOKEN_REFUSED, outcome=Outcome.REFUSED, actor="sandbox", person=sandbox.person,
                team=sandbox.team, space=sandbox.space, sandbox=sandbox.id, details={"why": why},
            )
        )  # fmt: skip

    # -- the control channel

    async def _control(self, sandbox: Connected, request: web.Request) -> web.StreamResponse:
        self._limit.take(f"control {sandbox.id}")  # code inside may dial, too: it must not fill the log with refusals
        channel = web.WebSocketResponse(max_msg_size=MAX_MESSAGE, heartbeat=30)
        await channel.prepare(request)
        hello = await channel.receive(timeout=10)
        message = _parse(hello.data) if hello.type is WSMsgType.TEXT else {}
        next_token = await self._admit(sandbox, message)
        if next_token is None:
            await channel.close(code=4403, message=b"bad token")
            return channel
        if sandbox.channel is not None:
            await sandbox.channel.close()
        sandbox.channel = channel
        await channel.send_str(json.dumps(self._first(sandbox) | {"next_token": next_token}))
        await self._listen(sandbox, channel)
        return channel

    def _first(self, sandbox: Connected) -> dict[str, Any]:
        """What an agent is told first: what to be, or what to have ready until that is known."""
        if sandbox.waits:
            return {"type": "WAIT", **sandbox.assignment}
        return {"type": "INIT", **sandbox.assignment, "access_token": self.access_token(sandbox.id)}

    async def assign(self, sandbox: Connected) -> None:
        """Tell a blank what it is from now on. An agent that is away is told when it dials again."""
        sandbox.waits = False
        if sandbox.assignment.get("egress", True):
            await self._open_egress(sandbox)
        if sandbox.channel is not None and not sandbox.channel.closed:
            await sandbox.channel.send_str(json.dumps(self._first(sandbox)))

    async def _admit(self, sandbox: Connected, hello: dict[str, Any]) -> str | None:
        """Check a token, which works once, and issue the one for a reconnection; None when it is refused."""
        given = secret_hash(str(hello.get("token", "")))
        current = secrets.compare_digest(given, sandbox.token_hash)
        following = sandbox.next_token_hash is not None and secrets.compare_digest(given, sandbox.next_token_hash)
        # A token may come again only while the agent has not confirmed that it got the next.
        if hello.get("type") != "HELLO" or not (following or (current and not sandbox.confirmed)):
            self._refused(sandbox, "an instance token that is wrong or used")
            return None
        token = secrets.token_urlsafe(32)
        if following:
            sandbox.token_hash = given
        sandbox.next_token_hash = secret_hash(token)
        sandbox.confirmed = False
        await sandbox.save_tokens(sandbox.token_hash, sandbox.next_token_hash)
        return token

    async def _listen(self, sandbox: Connected, channel: web.WebSocketResponse) -> None:
        """Take messages as fast as the rate allows; a flood waits in the sandbox's own pipes."""
        rate, budget, then = (
            self._settings.sandbox_output_rate,
            float(self._settings.sandbox_output_rate),
            time.monotonic(),
        )
        async for message in channel:
            if message.type is not WSMsgType.TEXT:
                break
            now = time.monotonic()
            budget = min(float(rate), budget + (now - then) * rate) - len(message.data)
            then = now
            if not await self._on_message(sandbox, _parse(message.data)):
                break
            if budget < 0:
                await asyncio.sleep(-budget / rate)  # this is the rate limit itself, not a wait for a state

    async def _on_message(self, sandbox: Connected, message: dict[str, Any]) -> bool:
        match message:
            case {"type": "READY"}:
                sandbox.place.token.unlink(missing_ok=True)
                sandbox.confirmed = True
                sandbox.agent_here.set()
                may = sandbox.before_start is None or await sandbox.before_start()
                if may and sandbox.channel is not None:
                    await sandbox.channel.send_str(json.dumps({"type": "START"}))
            case {"type": "AWAIT"}:
                task = asyncio.create_task(self._fork_in(sandbox))
                sandbox.outgoing.add(task)
                task.add_done_callback(sandbox.outgoing.discard)
            case {"type": "STARTED"}:
                sandbox.started.set()
            case {"type": "STATUS", "level": "INFO" | "WARNING" | "ERROR" as level, "text": str(text)}:
                await sandbox.output.append(level, text)
            case {"type": "EXIT", "code": int(code)}:
                if not sandbox.exited.done():
                    sandbox.exited.set_result(code)
            case _:
                log.warning("inner.bad_message", sandbox=sandbox.id)
                return False
        return True

    async def _fork_in(self, sandbox: Connected) -> None:
        """Have the program forked into a sandbox that waits for it; if that cannot be, have it started there."""
        if sandbox.forked_in is not None and await sandbox.forked_in:
            return
        if sandbox.channel is not None and not sandbox.channel.closed:
            await sandbox.channel.send_str(json.dumps({"type": "EXEC"}))


class _Refusing(asyncio.Protocol):
    """Hangs up at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def _bounded(runner: web.AppRunner) -> Callable[[], asyncio.Protocol]:
    """Accept so many connections of one sandbox and no more: descriptors and memory are everybody's."""

    def accept() -> asyncio.Protocol:
        server = runner.server
        if server is None or len(server.connections) >= MAX_CONNECTIONS:
            return _Refusing()
        return server()

    return accept


def _parse(data: object) -> dict[str, Any]:
    try:
        message = json.loads(data) if isinstance(data, str) else None
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


@web.middleware
async def _errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except CloisterError as error:
        return _problem(error)
    except web.HTTPRequestEntityTooLarge:
        return _problem(TooLarge(f"This has more than {MAX_BODY // 1024:,} kB, the most that can be sent at once."))
    except (web.HTTPException, asyncio.CancelledError, ConnectionError):
        raise
    except Exception:  # the edge of the inner API: a sandbox learns nothing of our insides
        log.exception("inner.failed", path=request.path)
        return _problem(Internal())


def _problem(error: CloisterError) -> web.Response:
    return web.json_response(error.problem(), status=error.status, content_type="application/problem+json")
