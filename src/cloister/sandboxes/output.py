"""What a sandbox printed: kept in two files that take turns, so that its size is bounded, and followed live."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

from cloister.sandboxes.spec import Companion


class OutputLog:
    """The output of one sandbox."""

    def __init__(self, folder: Path, limit: int, companion: Companion | None = None) -> None:
        self._companion = companion or Companion()
        self._folder = folder
        self._limit = limit // 2
        self._old, self._new = folder / "0.jsonl", folder / "1.jsonl"
        self._changed = asyncio.Event()
        self.closed = False

    async def append(self, level: str, text: str) -> None:
        for secret in self._companion.masked:
            text = text.replace(secret, "•••")
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

    def close(self) -> None:
        self.closed = True
        self._notify()

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def lines(self, *, follow: bool) -> AsyncIterator[str]:
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
