"""Answers that stream: who may read them is looked at again whenever somebody's access changes.

Other answers are decided, made and gone in a moment; a stream may go on for hours after its reader was put out.
"""

import asyncio
from dataclasses import dataclass, field

from cloister.bootstrap import Platform
from cloister.core.actions import Action
from cloister.core.errors import CloisterError
from cloister.core.events import AccessChanged, Event
from cloister.core.principal import Principal
from cloister.platform.logs import logger

log = logger(__name__)


@dataclass(eq=False)
class Stream:
    """One answer under way, and what was decided about it."""

    principal: Principal
    action: Action
    space: str
    task: "asyncio.Task[object] | None" = field(default_factory=asyncio.current_task)
    refusal: CloisterError | None = None
    """Why it was cut off, if it was."""


class Streams:
    """All that are under way in this process."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._open: set[Stream] = set()
        self._looks: set[asyncio.Task[None]] = set()
        platform.bus.subscribe(AccessChanged, self._on_changed)

    def add(self, stream: Stream) -> None:
        self._open.add(stream)

    def remove(self, stream: Stream) -> None:
        self._open.discard(stream)

    def _on_changed(self, event: Event) -> None:
        if isinstance(event, AccessChanged) and any(stream.space == event.space for stream in self._open):
            look = asyncio.get_running_loop().create_task(self._look(event.space))
            self._looks.add(look)
            look.add_done_callback(self._looks.discard)

    async def _look(self, space: str) -> None:
        for stream in [stream for stream in self._open if stream.space == space]:
            try:
                async with self._platform.database.read(stream.principal) as uow:
                    await self._platform.decider.decide(uow, stream.principal, stream.action, space)
            except CloisterError as error:
                if stream in self._open and stream.task is not None:
                    log.info("http.cut_off", space=space, action=stream.action.value, code=error.code)
                    stream.refusal = error
                    stream.task.cancel()
