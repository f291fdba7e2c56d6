"""What this package needs of those above it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True)
class Visit:
    """What the gateway knows of the pages that are open in a workspace."""

    pages: int
    last_input: datetime | None
    """When somebody last did something in one: ran code, typed, saved."""


class Pages(Protocol):
    """Who looks at a workspace. Implemented above, by ``gateway``."""

    def visit(self, workspace: str) -> Visit:
        """What is open, and when it was last used."""


class NoPages:
    """Before there is a gateway."""

    def visit(self, workspace: str) -> Visit:
        return Visit(0, None)
