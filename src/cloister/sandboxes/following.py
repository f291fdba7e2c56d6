"""Reading what a sandbox prints, also of one that has not begun to."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from cloister.access import scoped_get
from cloister.core.events import Event, SandboxChanged
from cloister.core.principal import EVERYTHING
from cloister.platform import Bus, Database
from cloister.sandboxes.controller import SandboxController
from cloister.sandboxes.models import Sandbox
from cloister.sandboxes.output import OutputLog
from cloister.sandboxes.states import FINAL

LOOK_SECONDS = 1.0
"""How often the row is looked at while nothing is heard: another process may have moved it on."""


@dataclass
class Following:
    """Finds the output of a sandbox, when there is some."""

    controller: SandboxController
    database: Database
    bus: Bus

    async def lines(self, id_: str, *, follow: bool) -> AsyncGenerator[str]:
        """What was printed, a JSON object a line; when following, also what will be, from before it starts to its end."""
        live = await self._begun(id_) if follow else self._log(id_)
        found = live or OutputLog(self.controller.place(id_).log, 0)
        async with aclosing(found.lines(follow=follow and live is not None)) as lines:
            async for line in lines:
                yield line

    def _log(self, id_: str) -> OutputLog | None:
        live = self.controller.live.get(id_)
        return None if live is None or live.connected is None else live.connected.output

    async def _begun(self, id_: str) -> OutputLog | None:
        """The output of one that runs, or will; None when it has ended."""
        changed = asyncio.Event()

        def on_change(event: Event) -> None:
            if isinstance(event, SandboxChanged) and event.sandbox == id_:
                changed.set()

        unsubscribe = self.bus.subscribe(SandboxChanged, on_change)
        try:
            while (log := self._log(id_)) is None and not await self._ended(id_):
                waiting = asyncio.ensure_future(changed.wait())
                await asyncio.wait({waiting}, timeout=LOOK_SECONDS)
                waiting.cancel()
                changed.clear()
            return log
        finally:
            unsubscribe()

    async def _ended(self, id_: str) -> bool:
        async with self.database.read() as uow:
            row = await scoped_get(uow, Sandbox, EVERYTHING, id=id_)
        return row is None or row.state in FINAL
