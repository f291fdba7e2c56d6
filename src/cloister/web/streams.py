"""Answers that stream: who may read them is looked at again whenever somebody's access changes.

Other answers are decided, made and gone in a moment; a stream may go on for hours after its reader was put out.
"""

import asyncio
from dataclasses import dataclass, field

from sqlalchemy.exc import SQLAlchemyError

from cloister.bootstrap import Platform
from cloister.core.actions import Action
from cloister.core.errors import CloisterError, Forbidden, Unavailable
from cloister.core.events import AccessChanged, Event, SignedOut
from cloister.core.principal import Principal, Scope
from cloister.platform import Call, UnitOfWork
from cloister.platform.logs import logger

log = logger(__name__)


class NoLongerReached(Forbidden):
    """This belongs to a team that you are not in any more."""

    code = "access.no_longer_reached"


@dataclass(eq=False)
class Stream:
    """One answer under way, and what was decided about it."""

    principal: Principal
    action: Action
    space: str
    reach: Scope
    task: "asyncio.Task[object] | None" = field(default_factory=asyncio.current_task)
    call: Call | None = None
    refusal: CloisterError | None = None
    """Why it was cut off, if it was."""


class Streams:
    """All that are under way in this process."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._open: set[Stream] = set()
        self._looks: set[asyncio.Task[None]] = set()
        for kind in (AccessChanged, SignedOut):
            platform.bus.subscribe(kind, self._on_changed)

    async def add(self, stream: Stream) -> None:
        """Watch over an answer from now on, also over what changed since it was decided.

        Raises:
            CloisterError: when something did.
        """
        self._open.add(stream)
        async with self._platform.database.read(stream.principal) as uow:
            await self._check(uow, stream)

    def remove(self, stream: Stream) -> None:
        self._open.discard(stream)

    def _on_changed(self, event: Event) -> None:
        match event:
            case AccessChanged(space):
                touched = [stream for stream in self._open if space in {stream.space, ""}]
            case SignedOut(person):
                touched = [stream for stream in self._open if stream.principal.person == person]
            case _:
                touched = []
        if touched:
            look = asyncio.get_running_loop().create_task(self._look(touched))
            self._looks.add(look)
            look.add_done_callback(self._looks.discard)

    async def _look(self, touched: list[Stream]) -> None:
        for stream in touched:
            try:
                async with self._platform.database.read(stream.principal) as uow:
                    await self._check(uow, stream)
            except CloisterError as error:
                self._cut_off(stream, error)
            except SQLAlchemyError:  # nobody can say that they may go on
                log.exception("http.stream_look_failed", space=stream.space)
                self._cut_off(stream, Unavailable())

    async def _check(self, uow: UnitOfWork, stream: Stream) -> None:
        """Decide again.

        Raises:
            CloisterError: when the reader has no right to it any more.
        """
        who = stream.principal
        await self._platform.signed_in(uow, who)
        now = await self._platform.decider.decide(uow, who, stream.action, stream.space)
        had = stream.reach.teams
        if now.teams is not None and (had is None or not had <= now.teams):
            raise NoLongerReached
        for check in stream.call.while_streaming if stream.call else ():
            await check(uow)

    def _cut_off(self, stream: Stream, error: CloisterError) -> None:
        if stream in self._open and stream.task is not None:
            log.info("http.cut_off", space=stream.space, action=stream.action.value, code=error.code)
            stream.refusal = error
            stream.task.cancel()
