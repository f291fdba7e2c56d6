"""Looks again at whoever is connected: their right may have ended meanwhile."""

import asyncio
import contextlib
import time

from cloister.core.events import Event
from cloister.gateway.decision import LOOK_AGAIN_SECONDS, NEWS
from cloister.gateway.leaving import Leaving
from cloister.gateway.relay import Relay
from cloister.gateway.upstream import Upstreams
from cloister.platform import Bus
from cloister.platform.logs import logger
from cloister.sandboxes import SandboxController

log = logger(__name__)
TICK_SECONDS = 0.5


class Watching:
    """First at those of whom there is news, and at all of them now and then.

    Each tick sees whose right stands no more; also who was only connecting when the news came, or could not be looked at.
    """

    def __init__(
        self, relay: Relay, leaving: Leaving, upstreams: Upstreams, sandboxes: SandboxController, bus: Bus
    ) -> None:
        self._relay = relay
        self._leaving = leaving
        self._upstreams = upstreams
        self._sandboxes = sandboxes
        self._news = asyncio.Event()
        for kind in NEWS:
            bus.subscribe(kind, self._on_news)

    def _on_news(self, _event: Event) -> None:
        self._news.set()

    async def run(self) -> None:
        """Watch until cancelled."""
        due = time.monotonic() + LOOK_AGAIN_SECONDS
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._news.wait()
            self._news.clear()
            try:
                await self._recheck(everybody=False)
                if time.monotonic() >= due:
                    due = time.monotonic() + LOOK_AGAIN_SECONDS
                    await self._recheck(everybody=True)
                await self._upstreams.forget_ended()
                self._relay.forget_ended(self._sandboxes.live)
            except Exception:  # the watch must go on, whatever one connection did
                log.exception("gateway.watch_failed")

    async def _recheck(self, *, everybody: bool) -> None:
        await asyncio.gather(self._relay.recheck(everybody=everybody), self._leaving.recheck(everybody=everybody))
