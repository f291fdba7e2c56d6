"""What runs of a dashboard that is looked at."""

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from cloister.core.errors import Invalid
from cloister.core.ids import new_id
from cloister.dashboards.document import Document, Integration
from cloister.dashboards.errors import TooManyVariants
from cloister.dashboards.hub import PATCH_FROM, Hub, Output, Steps, Viewer, step
from cloister.dashboards.patch import node, same
from cloister.dashboards.variables import Values
from cloister.modules import Permissions

SHOWN_REASONS = {"green": "", "amber": "is not quite ready", "red": "does not run just now"}
"""What strangers are told of an integration; the reason is the team's."""
NOTHING = object()
"""What a widget shows that has shown nothing yet: not even null."""
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
    release: str = ""
    needs: Permissions | None = None
    """What it declared; None while that is not known."""
    rights: frozenset[str] = frozenset()
    """By which grants it may; what it has put out may come of any of them."""
    again: asyncio.Event = field(default_factory=asyncio.Event)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Its outputs come one after the other."""


@dataclass
class Session:
    """One dashboard that is looked at."""

    dashboard: str
    space: str
    team: int
    values: Values = ()
    """What those who look at this one have chosen; others look at others."""
    id: str = field(default_factory=lambda: new_id("live"))
    hub: Hub = field(default_factory=Hub)
    """Whole models and what programs print, by integration: for the team."""
    shown: Hub = field(default_factory=Hub)
    """The nodes that widgets draw, by widget: for those who came by a share, who get nothing else."""
    document: Document | None = None
    version: int = 0
    """Of the dashboard, as it was last followed."""
    instances: dict[str, Instance] = field(default_factory=dict)
    checks: dict[Viewer, tuple[str, Check]] = field(default_factory=dict)
    """Under what right each looks, in a word that is the same for all who have it from the same, and how to ask."""
    ticked: float = field(default_factory=monotonic)
    short: bool = False
    """Whether something of it could not be started, and is to be tried again."""
    tried: float = field(default_factory=monotonic)
    """When that was last tried."""
    looked: float = field(default_factory=monotonic)
    """When its rights were last looked at."""
    resting: bool = False
    """Whether nobody looks, and only what is to be kept running does run."""

    @property
    def key(self) -> str:
        return session_key(self.dashboard, self.values)

    def output_of(self, channel: str, key: str) -> Output | None:
        """The newest output of a channel as a viewer sees it, who is known by a key."""
        for hub in (self.hub, self.shown):
            if channel in hub.channels and any(
                one.ended is None and secrets.compare_digest(one.key.encode(), key.encode()) for one in hub.viewers
            ):
                return hub.channels[channel].output
        return None

    @property
    def integrations(self) -> list[Integration]:
        return self.document.integrations if self.document else []

    def follow(self, document: Document, version: int) -> None:
        """Be of a dashboard as it is now, and tell those who look that it is another."""
        if self.document is not None and version != self.version:
            for hub in (self.hub, self.shown):
                hub.tell(json.dumps({"type": "CHANGED", "version": version}))
        self.version = version
        before = {widget.id: widget.source for widget in self.document.widgets} if self.document else {}
        self.document = document
        shown = {widget.id: widget.source for widget in document.widgets if widget.source is not None}
        for id_ in set(self.shown.names) - shown.keys():
            self.shown.drop(id_)
        for id_, source in shown.items():
            self.shown.add(id_)
            if before.get(id_) != source:
                self.shown.take_back(id_)  # it draws something else now
        for channel in self.hub.channels.values():
            if channel.output is not None and not channel.gone:
                self.project(channel.id, channel.output.model)

    def project(self, integration: str, model: Any) -> None:
        """Give those who came by a share the nodes that widgets draw."""
        self.show(Projection.of(self, integration, model))

    def show(self, projection: "Projection") -> None:
        """The same, worked out before; of a dashboard that was changed meanwhile it is worked out anew."""
        if projection.document is not self.document:
            projection = Projection.of(self, projection.integration, projection.model)
        for id_, text, value in projection.news:
            self.shown.output(id_, text, value, projection.steps)

    def forget(self, integration: str) -> None:
        """Take back what an integration has put out and printed: whoever looks now has no right to it, or it was something
        else's.
        """
        channel = self.hub.channels.get(integration)
        if channel is not None:
            channel.console.clear()
        self.hub.take_back(integration)
        for widget in self.document.widgets if self.document else ():
            if widget.source is not None and widget.source.integration == integration:
                self.shown.take_back(widget.id)

    def state(self, integration: str, state: str, reason: str) -> None:
        """Say how an integration is: to the team with the reason, to those who came by a share in general words."""
        self.hub.state(integration, state, reason)
        for widget in self.document.widgets if self.document else ():
            if widget.source is not None and widget.source.integration == integration:
                self.shown.state(widget.id, state, SHOWN_REASONS[state])

    @property
    def watched(self) -> bool:
        return bool(self.hub.viewers or self.shown.viewers)

    def kept(self, others: int, most: int) -> set[str]:
        """The integrations that go on when nobody looks: those that ask for it, as far as a team may have so many.

        Args:
            others: how many of the team's other dashboards go on so.
            most: how many may.
        """
        asking = [one.id for one in self.integrations if one.keep_running]
        return set(asking[: max(0, most - others)])


@dataclass
class Projection:
    """The nodes of a model that widgets draw, each written down once for all that draw it."""

    document: Document | None
    integration: str
    model: Any
    drawn: list[tuple[str, tuple[str | int, ...], Any]]
    """The widgets, the nodes that they draw, and what they show now."""
    news: list[tuple[str, str, Any]] = field(default_factory=list)
    """The widgets that are to show something else, as JSON and as it is."""
    steps: Steps = field(default_factory=dict)

    @classmethod
    def begin(cls, session: Session, integration: str, model: Any) -> "Projection":
        """Note what is shown now; `work_out` needs nothing else, and may run anywhere."""
        widgets = session.document.widgets if session.document else ()
        mine = [w for w in widgets if w.source is not None and w.source.integration == integration]
        outputs = {w.id: session.shown.channels[w.id].output for w in mine}
        drawn = [
            (w.id, tuple(w.source.path), NOTHING if (now := outputs[w.id]) is None else now.model)
            for w in mine
            if w.source is not None
        ]
        return cls(session.document, integration, model, drawn)

    @classmethod
    def of(cls, session: Session, integration: str, model: Any) -> "Projection":
        return cls.begin(session, integration, model).work_out()

    def work_out(self) -> "Projection":
        nodes: dict[tuple[str | int, ...], tuple[str, Any]] = {}
        compared: dict[tuple[int, int], bool] = {}
        for id_, path, shows in self.drawn:
            if path not in nodes:
                value = node(self.model, path)
                nodes[path] = json.dumps(value, separators=(",", ":"), ensure_ascii=False), value
            text, value = nodes[path]
            both = id(shows), id(value)
            if both not in compared:
                compared[both] = same(shows, value)
                if not compared[both] and len(text) > PATCH_FROM:
                    self.steps[both] = step(shows, value)
            if not compared[both]:
                self.news.append((id_, text, value))
        return self


def session_key(dashboard: str, values: Values) -> str:
    """By what a session is known: one for all who look at the same with the same values."""
    return dashboard if not values else f"{dashboard} {json.dumps(values, sort_keys=True)}"


def least_missed(variants: list[Session]) -> Session:
    """Which one makes room: strangers' choices cost sandboxes, and who still looks comes first.

    Raises:
        TooManyVariants: when somebody looks at each.
    """
    idle = [session for session in variants if not session.watched]
    if not idle:
        raise TooManyVariants
    return min(idle, key=lambda session: session.ticked)


def read_output(text: str) -> tuple[str, Any]:
    """A model as a program sent it: as compact JSON, and as it is.

    Raises:
        Invalid: when it is no JSON.
    """
    try:
        model = json.loads(text, parse_constant=_refuse)
        compact = json.dumps(model, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        compact.encode()  # half a surrogate pair is no text that could be sent on
    except (ValueError, RecursionError) as error:
        raise Invalid("A model is JSON.") from error
    return compact, model


def _refuse(constant: str) -> Any:
    message = f"{constant} is no JSON"
    raise ValueError(message)
