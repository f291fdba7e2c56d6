"""What a program prints, in whole lines: it arrives in pieces, cut wherever the program or a pipe happened to cut it."""

import asyncio
from collections.abc import Callable

WAIT_SECONDS = 0.2
"""A line that does not end for so long is shown as it is, such as a question or a row of dots."""
LONGEST = 8192


class Lines:
    """Puts pieces together, for each level by itself."""

    def __init__(self, say: Callable[[str, str], None]) -> None:
        self._say = say
        self._rests: dict[str, str] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def take(self, level: str, text: str) -> None:
        """A piece; what ends a line in it is said at once."""
        whole, newline, rest = (self._rests.pop(level, "") + text).rpartition("\n")
        if newline:
            self._say(level, whole + newline)
        if len(rest) > LONGEST:
            self._say(level, rest)
        elif rest:
            self._rests[level] = rest
            if level not in self._timers:  # else a program that never ends a line would never be heard
                self._timers[level] = asyncio.get_running_loop().call_later(WAIT_SECONDS, self._flush, level)

    def forget(self) -> None:
        """Say nothing more of what was taken, nor of what will be: the right to it has ended."""
        self._say = lambda _level, _text: None

    def _flush(self, level: str) -> None:
        self._timers.pop(level, None)
        rest = self._rests.pop(level, "")
        if rest:
            self._say(level, rest)
