"""News between parts of the platform, and the controllers that act on it.

In one process an event is a function call. Another process on the machine (a command, say) hands its events over
through a datagram socket. Losing an event loses time, never work: each controller also looks at the database itself.
"""

import asyncio
import contextlib
import socket
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from cloister.core.events import Event
from cloister.platform import metrics
from cloister.platform.logs import logger
from cloister.platform.sockets import short_path

log = logger(__name__)
FORWARD_SECONDS = 2.0
"""So long a command waits for a busy server to take an event."""


class Bus:
    """Publish and subscribe, by type of event."""

    def __init__(self, mailbox: Path | None = None) -> None:
        self._handlers: dict[type[Event], list[Callable[[Event], None]]] = defaultdict(list)
        self._mailbox = mailbox
        self._listener: socket.socket | None = None

    def subscribe(self, kind: type[Event], handler: Callable[[Event], None]) -> Callable[[], None]:
        """Call ``handler`` on each event of a kind, until the returned function is called."""
        self._handlers[kind].append(handler)
        return lambda: self._handlers[kind].remove(handler)

    def publish(self, events: list[Event]) -> None:
        for item in events:
            for handler in list(self._handlers[type(item)]):
                handler(item)
        if self._listener is None and self._mailbox is not None and events:
            self._forward(events)

    def _forward(self, events: list[Event]) -> None:
        if self._mailbox is None:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(FORWARD_SECONDS)  # the kernel holds some ten for whoever is busy
            # No server runs, or it is too busy to be told: its controllers look by themselves soon enough.
            with contextlib.suppress(OSError), short_path(self._mailbox) as name:
                for item in events:
                    sender.sendto(item.dump(), name)

    def listen(self) -> None:
        """Receive the events of other processes (once, in the server)."""
        if self._mailbox is None:
            return
        self._mailbox.parent.mkdir(parents=True, exist_ok=True)
        self._mailbox.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._listener.setblocking(False)
        with short_path(self._mailbox) as name:
            self._listener.bind(name)
        self._mailbox.chmod(0o600)
        asyncio.get_running_loop().add_reader(self._listener, self._receive)

    def _receive(self) -> None:
        if self._listener is None:
            return
        try:
            item = Event.load(self._listener.recv(65536))
        except (ValueError, BlockingIOError) as error:
            log.warning("bus.bad_message", error=str(error))
            return
        self.publish([item])

    def close(self) -> None:
        if self._listener is not None and self._mailbox is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
            self._mailbox.unlink(missing_ok=True)


class Controller(ABC):
    """Makes the world match the database: looks when woken by an event, and by a timer as a safety net."""

    name: ClassVar[str]
    wakes_on: ClassVar[tuple[type[Event], ...]] = ()
    interval: ClassVar[float] = 5.0
    """Seconds between looks when nothing happens."""

    def __init__(self) -> None:
        self._wake = asyncio.Event()
        self._stopping = False

    @abstractmethod
    async def look(self) -> float | None:
        """Do what is due; return the seconds until something else will be, or None."""

    def wake(self, _event: Event | None = None) -> None:
        self._wake.set()

    async def run(self, bus: Bus) -> None:
        """Look, then wait for news or time, until cancelled."""
        unsubscribe = [bus.subscribe(kind, self.wake) for kind in self.wakes_on]
        failures = 0
        try:
            while True:
                self._wake.clear()
                due: float | None = None
                try:
                    due = await self.look()
                    failures = 0
                except asyncio.CancelledError:
                    raise
                except Exception:  # the boundary of a controller: whatever went wrong, it must look again
                    failures += 1
                    metrics.CONTROLLER_ERRORS.labels(self.name).inc()
                    log.exception("controller.failed", controller=self.name, failures=failures)
                    due = min(0.2 * 2**failures, 30)
                wait = self.interval if due is None else max(0.0, min(due, self.interval))
                # Not wait_for: in Python 3.11 it swallows a cancellation that comes together with the news.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._wake.wait()
        finally:
            for stop in unsubscribe:
                stop()
