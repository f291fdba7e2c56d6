"""Copies of files on their way out: bounded, and counted while they pass."""

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from cloister.airlock.errors import ExportTooLarge


@dataclass
class Budget:
    """How many bytes may still come, of all files together."""

    left: int


@dataclass
class Passing:
    """One file's bytes on their way. Says of it afterwards what a reviewer wants to know first."""

    source: AsyncGenerator[bytes]
    budget: Budget
    size: int = 0
    lines: int = 0
    text: bool = True
    fault: Exception | None = None
    """What stopped it: the store that reads from here may raise another error for it."""
    _tail: bytes = field(default=b"", repr=False)

    async def chunks(self) -> AsyncGenerator[bytes]:
        """The bytes.

        Raises:
            ExportTooLarge: when they are more than may come.
            FileNotThere: when there is no such file.
        """
        try:
            async with contextlib.aclosing(self.source) as source:  # an open file would keep its volume in use
                async for chunk in source:
                    self.budget.left -= len(chunk)
                    if self.budget.left < 0:
                        raise ExportTooLarge
                    self._look_at(chunk)
                    yield chunk
        except Exception as error:  # kept for the caller, whatever it is
            self.fault = error
            raise

    def _look_at(self, chunk: bytes) -> None:
        self.size += len(chunk)
        self.lines += chunk.count(b"\n")
        self.text = self.text and b"\0" not in chunk
        self._tail = chunk[-1:]

    @property
    def counted(self) -> int | None:
        """How many lines, also where the last has no end; None for what is no text."""
        return self.lines + (self._tail not in {b"", b"\n"}) if self.text else None
