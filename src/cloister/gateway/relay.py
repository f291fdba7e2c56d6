"""The relay: every WebSocket of a workspace passes here. What is executed or typed is recorded, by the platform and
outside the sandbox; what leaves is counted; and a connection whose right has ended is closed, with the reason.

Frames pass through unread but for the few that execute something. Code is on the record before the kernel sees it.
"""

import asyncio
import hashlib
import json
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from time import perf_counter

import aiohttp
from aiohttp import WSMsgType, web
from yarl import URL

from cloister.audit import Draft, Name, Outcome, Recorder
from cloister.core.errors import CloisterError
from cloister.gateway.decision import Allowed, Asked, Decisions
from cloister.gateway.errors import BudgetSpent, TerminalsBlocked, UnreadableMessage
from cloister.gateway.kernel_protocol import V1, Execute, Reply, Unreadable, answered, asked, asks_secretly, bookkeeping
from cloister.gateway.outflow import Outflows, Rate
from cloister.gateway.presence import Presence
from cloister.gateway.upstream import Upstreams
from cloister.platform import metrics
from cloister.platform.logs import logger

log = logger(__name__)
MAX_MESSAGE = 128 * 1024 * 1024
KEPT_CODE = 64 * 1024
"""Bytes of one cell's code that are kept on the record; of more, the beginning and the hash of all."""
KEPT_LINE = 4096
LOOK_SECONDS = 1.0
ENDED = 4403
"""WebSocket close code: the right to be here has ended."""
SPENT = 4429
REFUSED = 4400
UNSENDABLE = {1005, 1006, 1015}
"""Close codes that mean “none came”: a browser takes them for a fault when they do come."""
_KERNEL = re.compile(r"^/api/kernels/(.+)/channels$")
_TERMINAL = re.compile(r"^/terminals/websocket/(.+)$")
KEPT_NAME = 64
"""Characters of a kernel's or terminal's name that are kept on the record; whoever opens one chooses it."""
_LINE_END = re.compile(r"[\r\n\x0f]")
"""What makes a shell run a line: Return, line feed, and operate-and-get-next (Ctrl+O)."""
RUNNING = 10_000


@dataclass
class Running:
    """A cell that was asked to be run and has not answered yet. Its page may close meanwhile."""

    channel: "Channel"
    begun: float


@dataclass(eq=False)
class Channel:
    """One open connection."""

    asked: Asked
    allowed: Allowed
    path: str
    here: web.WebSocketResponse
    kernel: str | None = None
    terminal: str | None = None
    protocol: str | None = None
    line: str = ""
    notebook: str | None = None
    looked: float = 0.0
    """When the app was last asked which notebook this is."""
    rate: Rate = field(kw_only=True)
    secretly: bool = False
    """Whether its kernel last asked for a password, as it said."""
    ending: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while the two sides say farewell."""

    async def end(self, code: int, why: str = "") -> None:
        """Close it, unless it is closed; either way return when the other side has answered."""
        async with self.ending:
            await self.here.close(code=code, message=why.encode()[:120].decode("utf-8", "ignore").encode())


def _without_token(url: URL) -> str:
    """A path with its query, without the asker's token: no app is told it."""
    if "token" not in url.query:
        return url.raw_path_qs
    return url.without_query_params("token").raw_path_qs


class Relay:
    """Opens channels, and closes those that may no longer be."""

    def __init__(
        self, decisions: Decisions, upstreams: Upstreams, outflows: Outflows, presence: Presence, recorder: Recorder
    ) -> None:
        self._decisions = decisions
        self._upstreams = upstreams
        self._outflows = outflows
        self._presence = presence
        self._recorder = recorder
        self.open: set[Channel] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._running: dict[tuple[str | None, str | None], dict[str, Running]] = {}
        """By sandbox and kernel, then by message."""

    async def serve(self, request: web.Request, asked: Asked, allowed: Allowed) -> web.WebSocketResponse:
        """Join a browser to a workspace's app until either ends, or the right to be joined does.

        Raises:
            TerminalsBlocked: for a terminal where there are none.
        BudgetSpent: for a terminal when no more may leave today.
            WorkspaceAsleep: when the app does not answer.
        """
        kernel, terminal = _KERNEL.match(request.path), _TERMINAL.match(request.path)
        if terminal:
            if allowed.policies.terminals == "blocked":
                self._recorder.note(
                    Draft(
                        name=Name.TERMINAL_OPENED, outcome=Outcome.REFUSED, person=allowed.person, team=allowed.team,
                        space=allowed.space, sandbox=allowed.sandbox, details={"code": TerminalsBlocked.code},
                    )
                )  # fmt: skip
                raise TerminalsBlocked
            await self._outflows.check(allowed)
        offered = [p.strip() for p in request.headers.get("Sec-WebSocket-Protocol", "").split(",") if p.strip()]
        client = self._upstreams.client(allowed)
        async with client.ws_connect(
            URL(f"http://localhost{_without_token(request.rel_url)}", encoded=True), protocols=offered, max_msg_size=MAX_MESSAGE,
            headers={**self._upstreams.headers(allowed), "Host": request.host}, autoping=True,
        ) as there:  # fmt: skip
            here = web.WebSocketResponse(
                protocols=[there.protocol] if there.protocol else [], max_msg_size=MAX_MESSAGE, heartbeat=30,
                compress=False,
            )  # fmt: skip
            await here.prepare(request)
            channel = Channel(
                asked, allowed, request.path, here, kernel[1][:KEPT_NAME] if kernel else None,
                terminal[1][:KEPT_NAME] if terminal else None,
                there.protocol, rate=Rate(self._outflows),
            )  # fmt: skip
            if terminal:
                self._recorder.note(self._draft(channel, Name.TERMINAL_OPENED))
            await self._join(channel, there)
        return here

    async def _join(self, channel: Channel, there: aiohttp.ClientWebSocketResponse) -> None:
        workspace = channel.allowed.workspace or ""
        self.open.add(channel)
        self._presence.opened(workspace)
        tasks = [
            asyncio.ensure_future(self._inward(channel, there)),
            asyncio.ensure_future(self._outward(channel, there)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.open.discard(channel)
            self._presence.closed(workspace)
            channel.rate.settle(channel.allowed)
            if channel.line and channel.allowed.policies.terminals == "recorded":  # what was typed without an end
                self._recorder.note(self._draft(channel, Name.TERMINAL_TYPED, typed=channel.line))
            for task in tasks:
                task.cancel()
            for ended in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(ended, CloisterError):
                    await channel.end(SPENT if isinstance(ended, BudgetSpent) else REFUSED, ended.detail)
                elif isinstance(ended, Exception) and not isinstance(ended, (ConnectionError, aiohttp.ClientError)):
                    log.error("relay.failed", path=channel.path, error=repr(ended))
            code = there.close_code
            await channel.end(1001 if code is None or code in UNSENDABLE else code)

    async def _inward(self, channel: Channel, there: aiohttp.ClientWebSocketResponse) -> None:
        v1 = channel.protocol == V1
        async for message in channel.here:
            if message.type not in {WSMsgType.TEXT, WSMsgType.BINARY}:
                continue
            metrics.RELAYED.labels("in").inc(len(message.data))
            if channel.kernel is not None:
                try:
                    asks = asked(message.data, v1=v1)
                except Unreadable as error:
                    raise UnreadableMessage from error
                if asks is not None:
                    await self._record_code(channel, asks)
            elif channel.terminal is not None:
                await self._record_typed(channel, message.data)
            if message.type is WSMsgType.TEXT:
                await there.send_str(message.data)
            else:
                await there.send_bytes(message.data)

    async def _outward(self, channel: Channel, there: aiohttp.ClientWebSocketResponse) -> None:
        v1 = channel.protocol == V1
        leaves = channel.kernel is not None or channel.terminal is not None  # else it is the editor's own, for instance
        running = self._running_in(channel) if channel.kernel is not None else {}
        async for message in there:
            if message.type not in {WSMsgType.TEXT, WSMsgType.BINARY}:
                continue
            data = message.data
            try:
                await channel.rate.add(channel.allowed, len(data), gently=not leaves)
            except BudgetSpent:
                if channel.kernel is None:
                    raise
                # Cells go on, and their results stay here: that one runs or has ended is all that is still said.
                data = bookkeeping(data, v1=v1)
                if data is None:
                    continue
                await self._outflows.take(channel.allowed, len(data), gently=True)
            metrics.RELAYED.labels("out").inc(len(message.data))
            if channel.kernel is not None:
                secretly = asks_secretly(data, v1=v1)
                channel.secretly = channel.secretly if secretly is None else secretly
            if running:
                says = answered(message.data, v1=v1)
                if says is not None and says.id in running:
                    self._record_done(running.pop(says.id), says)
            if isinstance(data, str):
                await channel.here.send_str(data)
            else:
                await channel.here.send_bytes(data)

    # -- the record

    def _draft(self, channel: Channel, name: Name, outcome: Outcome = Outcome.OK, **details: object) -> Draft:
        allowed = channel.allowed
        return Draft(
            name=name, outcome=outcome, person=allowed.person, team=allowed.team, actor=allowed.principal.kind,
            space=allowed.space, sandbox=allowed.sandbox, subject=channel.kernel or channel.terminal,
            details={key: value for key, value in details.items() if value is not None},  # type: ignore[misc]
        )  # fmt: skip

    async def _record_code(self, channel: Channel, asks: Execute) -> None:
        self._presence.worked(channel.allowed.workspace)
        if perf_counter() - channel.looked > LOOK_SECONDS:  # notebooks are renamed while they are open
            channel.notebook = await self._notebook(channel.allowed, str(channel.kernel)) or channel.notebook
            channel.looked = perf_counter()
        raw = asks.code.encode("utf-8", "surrogatepass")
        whole = len(raw) <= KEPT_CODE
        if asks.given:
            # A password is nobody's to read; that one was given is on the record, and its hash, should it have been code.
            hidden = channel.secretly
            given = self._draft(
                channel, Name.CODE_RUN, message=asks.id, notebook=channel.notebook, bytes=len(raw), given=True,
                code=None if hidden else raw[:KEPT_CODE].decode("utf-8", "replace"),
                sha256=hashlib.sha256(raw).hexdigest() if hidden or not whole else None,
            )  # fmt: skip
            await self._recorder.record(given)
            return
        draft = self._draft(
            channel, Name.CODE_RUN, message=asks.id, notebook=channel.notebook, cell=asks.cell,
            code=asks.code if whole else raw[:KEPT_CODE].decode("utf-8", "replace"), bytes=len(raw),
            sha256=None if whole else hashlib.sha256(raw).hexdigest(), silent=asks.silent or None,
            also=None if asks.also is None else asks.also[:KEPT_CODE],
        )  # fmt: skip
        await self._recorder.record(draft)
        running = self._running_in(channel)
        if len(running) < RUNNING:
            running[asks.id] = Running(channel, perf_counter())

    def _running_in(self, channel: Channel) -> dict[str, Running]:
        """What runs in a channel's kernel, also for those whose page has closed."""
        return self._running.setdefault((channel.allowed.sandbox, channel.kernel), {})

    def _record_done(self, run: Running, says: Reply) -> None:
        outcome = Outcome.OK if says.status == "ok" else Outcome.FAILED
        self._recorder.note(
            self._draft(
                run.channel,
                Name.CODE_DONE,
                outcome,
                message=says.id,
                status=says.status,
                milliseconds=round((perf_counter() - run.begun) * 1000, 1),
            )
        )

    async def _record_typed(self, channel: Channel, data: str | bytes) -> None:
        """Keep what was typed into a terminal, line by line."""
        try:
            message = json.loads(data)
        except ValueError:
            return
        if (
            not isinstance(message, list)
            or len(message) < 2
            or message[0] != "stdin"
            or not isinstance(message[1], str)
        ):
            return
        self._presence.worked(channel.allowed.workspace)
        if channel.allowed.policies.terminals != "recorded":
            return
        channel.line += message[1]
        while (end := _LINE_END.search(channel.line)) is not None or len(channel.line) >= KEPT_LINE:
            stop = KEPT_LINE if end is None else min(end.start(), KEPT_LINE)
            line, channel.line = channel.line[:stop], channel.line[stop + (end is not None and end.start() == stop) :]
            await self._recorder.record(self._draft(channel, Name.TERMINAL_TYPED, typed=line))

    async def _notebook(self, allowed: Allowed, kernel: str) -> str | None:
        """The path of the notebook that a kernel belongs to, as the app says."""
        try:
            client, headers = self._upstreams.client(allowed), self._upstreams.headers(allowed)
            async with asyncio.timeout(1), client.get("http://localhost/api/sessions", headers=headers) as answer:
                sessions = await answer.json()
        except (aiohttp.ClientError, CloisterError, ValueError, OSError):  # TimeoutError is an OSError
            return None
        for session in sessions if isinstance(sessions, list) else []:
            if (
                isinstance(session, dict)
                and isinstance(session.get("kernel"), dict)
                and session["kernel"].get("id") == kernel
            ):
                return str(session.get("path"))[:500]
        return None

    # -- ends

    def forget_ended(self, live: Collection[str]) -> None:
        """Say of what ran in sandboxes that are gone that nobody knows how it ended."""
        for key in [key for key in self._running if key[0] not in live]:
            for id_, run in self._running.pop(key).items():
                self._record_done(run, Reply(id_, "unknown"))

    async def recheck(self, *, everybody: bool) -> None:
        """Close connections whose right has ended, and say why; let the others go on under today's policies.

        Those of whom there is news are looked at, or everybody.

        None waits for another's farewell.
        """
        for channel in list(self.open):
            if not everybody and self._decisions.stands(channel.asked, channel.allowed):
                continue
            try:
                allowed = await self._decisions.decide(channel.asked)
                if channel.terminal and allowed.policies.terminals == "blocked":
                    raise TerminalsBlocked
            except CloisterError as error:
                self._begin_closing(channel, error.detail)
                continue
            if allowed.sandbox != channel.allowed.sandbox:
                self._begin_closing(channel, allowed.reason or "The workspace was restarted.", code=1001)
            else:
                channel.allowed = allowed

    def _begin_closing(self, channel: Channel, why: str, code: int = ENDED) -> None:
        self.open.discard(channel)
        task = asyncio.create_task(self._close(channel, why, code))
        self._closing.add(task)
        task.add_done_callback(self._closed)

    def _closed(self, task: asyncio.Task[None]) -> None:
        self._closing.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("relay.close_failed", error=repr(error))

    async def _close(self, channel: Channel, why: str, code: int) -> None:
        if code == ENDED:
            self._recorder.note(self._draft(channel, Name.WORKSPACE_LEFT, Outcome.REFUSED, reason=why))
        try:
            async with asyncio.timeout(1):
                await channel.end(code, why)
        except TimeoutError:  # it reads nothing: then without a farewell
            transport = channel.here._req.transport if channel.here._req else None  # noqa: SLF001
            if transport is not None:
                transport.abort()
