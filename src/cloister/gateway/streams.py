"""News to a browser, as server-sent events: how far a start is, when a workspace will rest, that access has ended."""

import asyncio
import contextlib
import json
import math
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime, timedelta
from time import monotonic

from aiohttp import web

from cloister.access import scoped_get
from cloister.core.clock import Clock
from cloister.core.errors import CloisterError
from cloister.core.events import Event
from cloister.gateway.decision import LOOK_AGAIN_SECONDS, NEWS, Allowed, Asked, Decisions
from cloister.gateway.outflow import GRACE, Outflows
from cloister.platform import Bus, Database
from cloister.sandboxes import OutputLog, Sandbox, SandboxController
from cloister.spaces import Enrolment, in_space

TICK_SECONDS = 1.0
"""How often a page is looked after though there is no news: its day's budget, the minutes until it rests."""
WARN_SHARE = 0.2
"""The warning comes in the last fifth of the idle time, but no earlier than ten minutes before."""
WARN_MINUTES = 10.0
RETRY_MS = 1000
"""After so long a browser comes back; its own three seconds are long when it is only Caddy that restarts."""
OUTPUT_BYTES = 4000
NEARLY = 0.75
ENDS_SOON = timedelta(days=3)
LOOK_AT_END_SECONDS = 60.0
SOON = (
    "Today's budget of data that may leave is nearly used up. What is larger than the rest of it cannot be downloaded."
)
SLOWED = "Today's budget of data that may leave is used up: it leaves slowly now. Your work is saved as ever."
SPENT = (
    "Today's budget of data that may leave is used up. Cells still run, small files still open, and all is saved; but what cells "
    "print is not shown, and nothing is downloaded, until tomorrow or until a steward gives more."
)


class Streams:
    """The two streams."""

    def __init__(
        self, database: Database, decisions: Decisions, sandboxes: SandboxController, outflows: Outflows,
        home: str, bus: Bus, clock: Clock, dials: Callable[[Allowed], bool],
    ) -> None:  # fmt: skip
        self._database = database
        self._decisions = decisions
        self._sandboxes = sandboxes
        self._outflows = outflows
        self._home = home
        self._dials = dials
        self._clock = clock
        self._waiting: set[asyncio.Event] = set()
        self._endings: dict[tuple[str, int], tuple[float, datetime | None]] = {}
        for kind in NEWS:
            bus.subscribe(kind, self._wake)

    def _wake(self, _event: Event) -> None:
        for waiting in self._waiting:
            waiting.set()

    @contextlib.contextmanager
    def _news(self) -> Iterator[asyncio.Event]:
        waiting = asyncio.Event()
        self._waiting.add(waiting)
        try:
            yield waiting
        finally:
            self._waiting.discard(waiting)

    async def _each(
        self, request: web.Request, asked: Asked, step: Callable[[Allowed, web.StreamResponse], Awaitable[bool]]
    ) -> web.StreamResponse:
        out = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
        await out.prepare(request)
        allowed, decided = None, -math.inf
        with self._news() as waiting, contextlib.suppress(ConnectionError):
            while True:
                waiting.clear()
                try:
                    if allowed is None or self._is_news(asked, allowed) or monotonic() - decided > LOOK_AGAIN_SECONDS:
                        decided = monotonic()
                        allowed = await self._decisions.decide(asked)
                except CloisterError as error:
                    await _send(out, "ended", reason=error.detail, home=self._home)
                    return out
                if await step(allowed, out):
                    return out
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TICK_SECONDS):
                        await waiting.wait()
                        while not self._is_news(asked, allowed):  # it was of somebody else's
                            waiting.clear()
                            await waiting.wait()
        return out

    def _is_news(self, asked: Asked, allowed: Allowed) -> bool:
        return not self._decisions.stands(asked, allowed)

    # -- in a workspace's page

    async def events(self, request: web.Request, asked: Asked, _allowed: Allowed) -> web.StreamResponse:
        """While a page is open."""
        last = ""

        async def step(allowed: Allowed, out: web.StreamResponse) -> bool:
            nonlocal last
            name, facts = await self._word(allowed)
            key = name + json.dumps(facts)
            if key == last:
                await out.write(b": still here\n\n")
            else:
                await _send(out, name, **facts)
            last = key
            return False

        return await self._each(request, asked, step)

    async def _word(self, allowed: Allowed) -> tuple[str, dict[str, object]]:
        if allowed.state == "starting":
            return "starting", {"reason": allowed.reason or ""}
        if allowed.state != "running":
            return "asleep", {"reason": allowed.reason or ""}
        if allowed.due_at is not None:
            minutes = (allowed.due_at - self._clock.now()).total_seconds() / 60
            return "due", {"minutes": max(1, round(minutes))}
        if allowed.idle_at is not None:
            minutes = (allowed.idle_at - self._clock.now()).total_seconds() / 60
            if minutes < min(WARN_MINUTES, allowed.policies.idle_minutes * WARN_SHARE):
                return "idle", {"minutes": max(1, round(minutes))}
        over = await self._outflows.over(allowed)
        if over >= NEARLY:
            return "budget", {"reason": SPENT if over >= GRACE else SLOWED if over >= 1 else SOON}
        return await self._last_word(allowed)

    async def _last_word(self, allowed: Allowed) -> tuple[str, dict[str, object]]:
        """When there is nothing more urgent."""
        ends = await self._ends(allowed)
        if ends is not None and ends - self._clock.now() < ENDS_SOON:
            return "ends", {"at": ends.isoformat()}
        return "here", {}

    async def _ends(self, allowed: Allowed) -> datetime | None:
        """When somebody's access to the space ends; looked up now and then."""
        key = (allowed.space, allowed.person)
        looked, ends = self._endings.get(key, (-math.inf, None))
        if monotonic() - looked > LOOK_AT_END_SECONDS:
            async with self._database.read() as uow:
                row = await scoped_get(uow, Enrolment, in_space(allowed.space), person=allowed.person)
            ends = row.expires_at if row is not None else None
            if len(self._endings) > 20_000:
                self._endings.clear()
            self._endings[key] = monotonic(), ends
        return ends

    # -- while it starts

    async def start(self, request: web.Request, asked: Asked, _allowed: Allowed) -> web.StreamResponse:
        """How far a start is, in the steps that really happen."""
        last = ""

        async def step(allowed: Allowed, out: web.StreamResponse) -> bool:
            nonlocal last
            facts = await self._step(allowed)
            text = json.dumps(facts)
            if text != last:
                await _send(out, "step", **facts)
            last = text
            return facts["step"] == "ready" or bool(facts.get("failed"))

        return await self._each(request, asked, step)

    async def _step(self, allowed: Allowed) -> dict[str, object]:
        if allowed.state == "running":
            # Just after the platform's own restart what runs is still being taken up.
            return {"step": "ready" if self._dials(allowed) else "app"}
        if allowed.state == "failed":
            output = await self._output(allowed)
            return {"step": "app", "failed": True, "can_restart": True, "reason": allowed.reason, "output": output}
        if allowed.state == "stopped":  # somebody stopped it while it started
            return {"step": "asked", "failed": True, "can_restart": True, "reason": allowed.reason}
        if allowed.sandbox is None:
            return {"step": "asked", "reason": allowed.reason}
        async with self._database.read() as uow:
            row = await scoped_get(uow, Sandbox, in_space(allowed.space), id=allowed.sandbox)
        return {"step": "app" if row is not None and row.state == "running" else "sandbox", "reason": allowed.reason}

    async def _output(self, allowed: Allowed) -> str:
        if allowed.sandbox is None:
            return ""
        text = ""
        async for line in OutputLog(self._sandboxes.place(allowed.sandbox).log, 0).lines(follow=False):
            text = (text + json.loads(line)["text"])[-OUTPUT_BYTES:]
        return text


async def _send(out: web.StreamResponse, event: str, **facts: object) -> None:
    await out.write(f"event: {event}\nretry: {RETRY_MS}\ndata: {json.dumps(facts)}\n\n".encode())
