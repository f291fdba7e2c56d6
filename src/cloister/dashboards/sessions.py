"""What runs of a dashboard that is looked at."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import monotonic

from cloister.core.ids import new_id
from cloister.dashboards.document import Document, Integration
from cloister.dashboards.hub import Hub, Viewer

Check = Callable[[], Awaitable[str | None]]
"""Asks whether somebody may still look; returns why not."""


@dataclass
class Instance:
    """One integration that runs."""

    integration: Integration
    digest: str
    print: str
    """What it was started with: another release or configuration starts it anew."""
    task: "asyncio.Task[None] | None" = None
    sandbox: str | None = None
    again: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Session:
    """One dashboard that is looked at."""

    dashboard: str
    space: str
    team: int
    id: str = field(default_factory=lambda: new_id("live"))
    hub: Hub = field(default_factory=Hub)
    """Whole models and what programs print, by integration: for the team."""
    shown: Hub = field(default_factory=Hub)
    """The nodes that widgets draw, by widget: for those who came by a share, who get nothing else."""
    document: Document | None = None
    instances: dict[str, Instance] = field(default_factory=dict)
    checks: dict[Viewer, tuple[str, Check]] = field(default_factory=dict)
    """Under what right each looks, in a word that is the same for all who have it from the same, and how to ask."""
    ticked: float = field(default_factory=monotonic)

    @property
    def kept(self) -> bool:
        return any(instance.integration.keep_running for instance in self.instances.values())
