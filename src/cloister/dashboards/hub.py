"""The live hub: one integration's outputs to all who look, each as fast as they can read.

Memory is bounded on both sides. Of an integration only the newest model is kept; of a viewer, which one it has. One
that reads slowly skips to the newest, one that never reads costs a reference. Each message is encoded once for all.
"""

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from cloister.dashboards.patch import diff

KEPT_STATUS = 100
PATCH_FROM = 512
"""Bytes; a smaller model is sent whole."""
PROTOCOL = 1


@dataclass
class Output:
    """The newest model of an integration, and the step from the one before."""

    seq: int
    model: Any
    whole: str
    step: str | None


@dataclass
class Channel:
    """One integration, as viewers see it."""

    id: str
    state: str = "amber"
    """``red``, ``amber`` or ``green``."""
    reason: str = "waits to start"
    status: str = ""
    """The two as a message, encoded once for all who look."""
    output: Output | None = None
    console: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_STATUS))

    def __post_init__(self) -> None:
        self.be(self.state, self.reason)

    def be(self, state: str, reason: str) -> None:
        self.state, self.reason = state, reason
        self.status = json.dumps({"type": "STATUS", "integration": self.id, "state": state, "reason": reason})

    def put(self, text: str, model: Any) -> None:
        """Take a new output; ``text`` is its JSON."""
        seq = 1 if self.output is None else self.output.seq + 1
        head = f'{{"type":"OUTPUT","integration":{json.dumps(self.id)},"seq":{seq},'
        step = None
        if self.output is not None and len(text) > PATCH_FROM:
            operations = diff(self.output.model, model)
            if operations is not None:
                encoded = json.dumps(operations, separators=(",", ":"))
                if len(encoded) < len(text):
                    step = f'{head}"base":{seq - 1},"patch":{encoded}}}'
        self.output = Output(seq, model, f'{head}"model":{text}}}', step)


class Viewer:
    """One who looks. ``console`` says whether what programs print is for them: never for a share."""

    def __init__(self, send: Callable[[str], Awaitable[None]], *, console: bool) -> None:
        self._send = send
        self.console = console
        self._seen: dict[str, int] = {}
        self._status: dict[str, str] = {}
        self._lines: deque[str] = deque(maxlen=KEPT_STATUS)
        self._wake = asyncio.Event()
        self.ended: str | None = None

    def wake(self) -> None:
        self._wake.set()

    def line(self, text: str) -> None:
        if self.console:
            self._lines.append(text)
            self._wake.set()

    def end(self, reason: str) -> None:
        self.ended = reason
        self._wake.set()

    async def run(self, channels: dict[str, Channel]) -> None:
        """Send whatever this viewer does not have, until it is ended. Waiting for a slow one is what skips steps."""
        while True:
            self._wake.clear()
            if self.ended is not None:
                await self._send(json.dumps({"type": "TERMINATE", "reason": self.ended}))
                return
            for channel in list(channels.values()):
                if self._status.get(channel.id) is not channel.status:
                    self._status[channel.id] = channel.status
                    await self._send(channel.status)
                output = channel.output
                seen = self._seen.get(channel.id)
                if output is not None and output.seq != seen:
                    self._seen[channel.id] = output.seq
                    await self._send(
                        output.step if output.step is not None and seen == output.seq - 1 else output.whole
                    )
            while self._lines:
                await self._send(self._lines.popleft())
            await self._wake.wait()


@dataclass
class Hub:
    """All channels of one live session, and all who look."""

    channels: dict[str, Channel] = field(default_factory=dict)
    viewers: set[Viewer] = field(default_factory=set)

    def output(self, id_: str, text: str, model: Any) -> None:
        channel = self.channels.get(id_)
        if channel is not None:
            channel.put(text, model)
            self._wake()

    def state(self, id_: str, state: str, reason: str) -> None:
        channel = self.channels.get(id_)
        if channel is not None and (channel.state, channel.reason) != (state, reason):
            channel.be(state, reason)
            self._wake()

    def line(self, id_: str, level: str, text: str) -> None:
        channel = self.channels.get(id_)
        if channel is not None:
            message = json.dumps({"type": "STATUS", "integration": id_, "level": level, "text": text})
            channel.console.append(message)
            for viewer in self.viewers:
                viewer.line(message)

    def _wake(self) -> None:
        for viewer in self.viewers:
            viewer.wake()

    def join(self, viewer: Viewer) -> None:
        self.viewers.add(viewer)
        for channel in self.channels.values():
            for message in channel.console:
                viewer.line(message)

    def leave(self, viewer: Viewer) -> None:
        self.viewers.discard(viewer)
