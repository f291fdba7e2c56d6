"""The live hub: one integration's outputs to all who look, each as fast as they can read.

Memory is bounded on both sides. Of an integration only the newest model is kept; of a viewer, which one it has. One
that reads slowly skips to the newest, one that never reads costs a reference. Each message is encoded once for all,
and goes to all who are ready for it in one turn of the event loop: a thousand viewers are a loop over a thousand
buffers, not a thousand tasks that wake.
"""

import asyncio
import json
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from cloister.dashboards.patch import diff

KEPT_STATUS = 100
KEPT_GONE = 500
PATCH_FROM = 512
"""Bytes; a smaller model is sent whole."""
REFERENCE_FROM = 256 * 1024
"""Characters; a larger model is fetched by those who want it, when they are ready for it, and holds up nothing else."""
PROTOCOL = 1
Steps = dict[tuple[int, int], str | None]
"""Patches between models that are known by their identity, while all of them are held."""


def step(before: Any, after: Any) -> str | None:
    """The patch from one model to another as JSON; None when the whole is the better way."""
    operations = diff(before, after)
    return None if operations is None else json.dumps(operations, separators=(",", ":"))


class Message:
    """One message to viewers, encoded once for all of them."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def frame(self) -> bytes:
        """The whole WebSocket frame, final, of text, unmasked as servers send them (RFC 6455, section 5.2)."""
        payload = self.text.encode()
        size = len(payload)
        if size < 126:
            head = bytes((0x81, size))
        elif size < 1 << 16:
            head = b"\x81\x7e" + size.to_bytes(2, "big")
        else:
            head = b"\x81\x7f" + size.to_bytes(8, "big")
        return head + payload


class Wire(Protocol):
    """A connection that frames can be written to at once. Where a server has none, messages go the long way."""

    def takes(self) -> bool: ...

    def write(self, frame: bytes) -> None: ...


@dataclass
class Output:
    """The newest model of an integration, and the step from the one before."""

    seq: int
    model: Any
    whole: Message
    """Has the model in it, or says where a large one is."""
    step: Message | None
    text: str
    """The model as JSON."""


@dataclass
class Channel:
    """One integration, as viewers see it."""

    id: str
    state: str = "amber"
    """``red``, ``amber`` or ``green``."""
    reason: str = "waits to start"
    status: Message = field(init=False)
    """The two as a message."""
    output: Output | None = None
    gone: bool = False
    """Whether it is not on the dashboard any more. It stays, so that its outputs count on when it comes back: viewers
    take none that is older than what they have."""
    console: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_STATUS))

    def __post_init__(self) -> None:
        self.be(self.state, self.reason)

    def be(self, state: str, reason: str) -> None:
        self.state, self.reason = state, reason
        said = {"type": "STATUS", "integration": self.id, "state": state, "reason": reason}
        self.status = Message(json.dumps(said))

    def put(self, text: str, model: Any, found: Steps | None = None) -> None:
        """Take a new output; ``text`` is its JSON. ``found`` are the steps between models that others had to find, too."""
        seq = 1 if self.output is None else self.output.seq + 1
        head = f'{{"type":"OUTPUT","integration":{json.dumps(self.id)},"seq":{seq},'
        following = None
        if self.output is not None and len(text) > PATCH_FROM:
            between = id(self.output.model), id(model)
            encoded = found[between] if found and between in found else step(self.output.model, model)
            if encoded is not None and len(encoded) < len(text):
                following = Message(f'{head}"base":{seq - 1},"patch":{encoded}}}')
        by_reference = len(text) >= REFERENCE_FROM
        whole = Message(f'{head}"bytes":{len(text)}}}' if by_reference else f'{head}"model":{text}}}')
        self.output = Output(seq, model, whole, following, text)


class Viewer:
    """One who looks. ``console`` says whether what programs print is for them: never for a share."""

    def __init__(self, send: Callable[[str], Awaitable[None]], *, console: bool, wire: Wire | None = None) -> None:
        self._send = send
        self._wire = wire
        self._idle = False
        """Whether it has all that there is, and waits."""
        self.console = console
        self.key = secrets.token_urlsafe(24)
        """What it shows when it fetches a large output."""
        self._seen: dict[str, int] = {}
        self._status: dict[str, Message] = {}
        self._lines: deque[str] = deque(maxlen=KEPT_STATUS)
        self._news: str | None = None
        self._wake = asyncio.Event()
        self.ended: str | None = None

    def offer(self, channel: Channel) -> None:
        """There is something new: write it at once where nothing stands before it, else leave it to `run`."""
        if self._idle and self._wire is not None and self._wire.takes() and not self._wake.is_set():
            for message in self._due(channel):
                self._wire.write(message.frame)
        else:
            self._wake.set()

    def _due(self, channel: Channel) -> Iterator[Message]:
        """What this viewer does not have of a channel; taken as sent."""
        if channel.gone and channel.id not in self._status:
            return  # it came after that one went
        if self._status.get(channel.id) is not channel.status:
            self._status[channel.id] = channel.status
            yield channel.status
        output, seen = channel.output, self._seen.get(channel.id)
        if output is not None and output.seq != seen:
            self._seen[channel.id] = output.seq
            yield output.step if output.step is not None and seen == output.seq - 1 else output.whole

    def line(self, text: str) -> None:
        if self.console:
            self._lines.append(text)
            self._wake.set()

    def tell(self, news: str) -> None:
        """Something about the whole; a later one takes the place of what has not been sent yet."""
        self._news = news
        self._wake.set()

    def end(self, reason: str) -> None:
        self.ended = reason
        self._wake.set()

    async def run(self, channels: dict[str, Channel]) -> None:
        """Send whatever this viewer does not have, until it is ended. Waiting for a slow one is what skips steps."""
        while True:
            self._idle = False
            self._wake.clear()
            if self.ended is not None:
                await self._send(json.dumps({"type": "TERMINATE", "reason": self.ended}))
                return
            if self._news is not None:
                news, self._news = self._news, None
                await self._send(news)
            for channel in list(channels.values()):
                for message in self._due(channel):
                    await self._send(message.text)
            while self._lines:
                await self._send(self._lines.popleft())
            self._idle = True
            await self._wake.wait()


@dataclass
class Hub:
    """All channels of one live session, and all who look."""

    channels: dict[str, Channel] = field(default_factory=dict)
    viewers: set[Viewer] = field(default_factory=set)

    def add(self, id_: str) -> None:
        """Have a channel of that name, as it was or a new one."""
        channel = self.channels.setdefault(id_, Channel(id_))
        if channel.gone:
            channel.gone = False
            channel.be("amber", "waits to start")

    def drop(self, id_: str) -> None:
        """Have it no more: what it showed is taken back from all who look."""
        self.take_back(id_)
        self.state(id_, "red", "is not on this dashboard any more")
        self.channels[id_].gone = True
        self.channels[id_].console.clear()
        gone = [channel.id for channel in self.channels.values() if channel.gone]
        for id_old in gone[:-KEPT_GONE]:
            del self.channels[id_old]

    def take_back(self, id_: str) -> None:
        """Show nothing of a channel."""
        channel = self.channels.get(id_)
        if channel is not None and channel.output is not None and channel.output.model is not None:
            self.output(id_, "null", None)

    @property
    def names(self) -> list[str]:
        """The channels that there are."""
        return [channel.id for channel in self.channels.values() if not channel.gone]

    def tell(self, news: str) -> None:
        """Something about the whole, to all who look."""
        for viewer in self.viewers:
            viewer.tell(news)

    def output(self, id_: str, text: str, model: Any, found: Steps | None = None) -> None:
        channel = self.channels.get(id_)
        if channel is not None and not channel.gone:
            channel.put(text, model, found)
            self._offer(channel)

    def state(self, id_: str, state: str, reason: str) -> None:
        channel = self.channels.get(id_)
        if channel is not None and not channel.gone and (channel.state, channel.reason) != (state, reason):
            channel.be(state, reason)
            self._offer(channel)

    def line(self, id_: str, level: str, text: str) -> None:
        channel = self.channels.get(id_)
        if channel is not None and not channel.gone:
            message = json.dumps({"type": "STATUS", "integration": id_, "level": level, "text": text})
            channel.console.append(message)
            for viewer in self.viewers:
                viewer.line(message)

    def _offer(self, channel: Channel) -> None:
        for viewer in self.viewers:
            viewer.offer(channel)

    def join(self, viewer: Viewer) -> None:
        self.viewers.add(viewer)
        for channel in self.channels.values():
            for message in channel.console:
                viewer.line(message)

    def leave(self, viewer: Viewer) -> None:
        self.viewers.discard(viewer)
