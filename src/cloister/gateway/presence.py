"""Which pages are open, and who works in them."""

from collections import defaultdict
from datetime import datetime

from cloister.core.clock import Clock
from cloister.workspaces import Visit


class Presence:
    """Counts. Implements `workspaces.Pages`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pages: dict[str, int] = defaultdict(int)
        self._input: dict[str, datetime] = {}

    def visit(self, workspace: str) -> Visit:
        return Visit(self._pages.get(workspace, 0), self._input.get(workspace))

    def opened(self, workspace: str) -> None:
        self._pages[workspace] += 1

    def closed(self, workspace: str) -> None:
        self._pages[workspace] -= 1
        if self._pages[workspace] <= 0:
            del self._pages[workspace]

    def worked(self, workspace: str | None) -> None:
        """Somebody did something: ran, typed, saved."""
        if workspace is not None:
            self._input[workspace] = self._clock.now()
