"""What a sandbox printed: kept in two files that take turns, so that its size is bounded, and followed live."""

import asyncio
import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path

from cloister.sandboxes.spec import Companion

MASKED = "•••"


class Mask:
    """Takes secrets out of a text that comes in pieces, however it was cut."""

    def __init__(self, secrets: tuple[str, ...]) -> None:
        self._secrets = sorted(filter(None, secrets), key=len, reverse=True)
        self._held = ""

    def pass_on(self, text: str) -> str:
        """What may be shown so far; an end that may be the beginning of a secret waits for what comes next."""
        text = self._held + text
        for secret in self._secrets:
            text = text.replace(secret, MASKED)
        longest = min(len(text), max((len(secret) for secret in self._secrets), default=1) - 1)
        for size in range(longest, 0, -1):
            if any(secret.startswith(text[-size:]) for secret in self._secrets):
                self._held = text[-size:]
                return text[:-size]
        self._held = ""
        return text

    def rest(self) -> str:
        """What waited, when nothing comes any more."""
        held, self._held = self._held, ""
        return held


class OutputLog:
    """The output of one sandbox."""

    def __init__(self, folder: Path, limit: int, companion: Companion | None = None) -> None:
        self._companion = companion or Companion()
        self._masks: dict[str, Mask] = {}
        self._folder = folder
        self._limit = limit // 2
        self._old, self._new = folder / "0.jsonl", folder / "1.jsonl"
        self._changed = asyncio.Event()
        self.closed = False

    async def append(self, level: str, text: str) -> None:
        if self._companion.masked:
            text = self._masks.setdefault(level, Mask(self._companion.masked)).pass_on(text)
        if text:
            await self._keep(level, text)

    async def _keep(self, level: str, text: str) -> None:
        if self._companion.on_output is not None:
            self._companion.on_output(level, text)
        line = json.dumps({"time": datetime.now(UTC).isoformat(), "level": level, "text": text}) + "\n"
        await asyncio.to_thread(self._write, line)
        self._notify()

    def _write(self, line: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._new.exists() and self._new.stat().st_size + len(line) > self._limit:
            self._new.replace(self._old)
        with self._new.open("a") as file:
            file.write(line)

    async def close(self) -> None:
        """Nothing comes any more."""
        for level, mask in self._masks.items():
            if rest := mask.rest():
                await self._keep(level, rest)
        self.closed = True
        self._notify()

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def lines(self, *, follow: bool) -> AsyncGenerator[str]:
        """What is kept, then, when following, what comes until the end."""
        if self._old.exists():
            for line in await asyncio.to_thread(_read_lines, self._old, 0):
                yield line
        position, inode = 0, None
        while True:
            changed, closed = self._changed, self.closed
            if self._new.exists():
                current = self._new.stat().st_ino
                if inode is not None and current != inode:
                    position = 0
                inode = current
                for line in await asyncio.to_thread(_read_lines, self._new, position):
                    position += len(line.encode())
                    yield line
            if not follow or closed:
                return
            await changed.wait()


def _read_lines(path: Path, position: int) -> list[str]:
    with path.open("rb") as file:
        file.seek(position)
        data = file.read()
    complete = data[: data.rfind(b"\n") + 1]
    return [line + "\n" for line in complete.decode("utf-8", "replace").split("\n") if line]
