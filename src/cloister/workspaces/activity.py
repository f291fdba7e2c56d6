"""Whether a workspace is used, and why it still runs. Several signs together; none alone decides.

What the app says of itself comes from code that nobody trusts: it can keep its own workspace awake (as far as running
something would), and nothing else. A busy kernel and used processor time keep it awake; an open page alone does not:
somebody must have done something in it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cloister.core.clock import Clock
from cloister.sandboxes import Backend, SandboxController
from cloister.workspaces.models import Workspace
from cloister.workspaces.ports import Pages
from cloister.workspaces.probe import read_json

BUSY_SHARE = 0.05
"""Of one processor: an idle JupyterLab with kernels uses about a hundredth."""


SEEN = {
    "kernels": "Kernels at work: {value}.",
    "deaf": "Its app does not answer just now. If that goes on, restart it.",
    "program": "A program uses {value} of a processor.",
    "kept": "Asked to be kept running until {value}.",
    "page": "A page of it is open, though nothing runs.",
    "nothing": "Nothing runs and no page is open.",
}
"""Words for what was seen, and the sentence of each."""

WORK = {"kernels", "program"}
"""Of these words those that say that something would be lost by a stop."""


@dataclass(frozen=True)
class Activity:
    """What was seen."""

    busy: bool
    word: str
    value: str | None
    last: datetime | None
    pages: int
    kernels: int
    cpu_share: float


def sentence(word: str | None, value: str | None) -> str | None:
    """What was seen, for people to read."""
    return SEEN[word].format(value=value) if word in SEEN else None


class Watch:
    """Looks at workspaces, and remembers the processor time they had used."""

    def __init__(self, sandboxes: SandboxController, backend: Backend, clock: Clock, pages: Pages) -> None:
        self._sandboxes = sandboxes
        self._backend = backend
        self._clock = clock
        self.pages = pages
        self._cpu: dict[str, tuple[datetime, float]] = {}

    def forget(self, workspace: str) -> None:
        self._cpu.pop(workspace, None)

    async def look(self, row: Workspace, sandbox: str, *, jupyter: bool) -> Activity:
        visit = self.pages.visit(row.id)
        share = await self._cpu_share(row.id, sandbox)
        running, last, deaf = 0, None, False
        kernels: list[Any] = []
        if jupyter:
            token = self._sandboxes.app_token(sandbox)
            found = await read_json(self._sandboxes.place(sandbox), "/api/kernels", token)
            deaf = found is None
            kernels = [k for k in found if isinstance(k, dict)] if isinstance(found, list) else []
            running = sum(k.get("execution_state") == "busy" for k in kernels)
            typed = await read_json(self._sandboxes.place(sandbox), "/api/terminals", token)
            terminals = [t for t in typed if isinstance(t, dict)] if isinstance(typed, list) else []
            moments = (_moment(each.get("last_activity")) for each in (*kernels, *terminals))
            last = max(filter(None, moments), default=None)
        latest = max(filter(None, (visit.last_input, last)), default=None)
        word, value = "nothing", None
        if running:
            word, value = "kernels", str(running)
        elif deaf:
            word = "deaf"
        elif share > BUSY_SHARE:
            word, value = "program", f"{share:.0%}"
        elif row.keep_until is not None and row.keep_until > self._clock.now():
            word, value = "kept", f"{row.keep_until:%d %b %H:%M} UTC"
        elif visit.pages:
            word = "page"
        busy = running > 0 or share > BUSY_SHARE
        return Activity(busy, word, value, latest, visit.pages, len(kernels), share)

    async def _cpu_share(self, workspace: str, sandbox: str) -> float:
        usage = await self._backend.usage(sandbox)
        now = self._clock.now()
        if usage is None:
            return 0.0
        before = self._cpu.get(workspace)
        self._cpu[workspace] = (now, usage.cpu_seconds)
        if before is None or usage.cpu_seconds < before[1]:
            return 0.0
        seconds = (now - before[0]).total_seconds()
        return (usage.cpu_seconds - before[1]) / seconds if seconds > 0 else 0.0


def _moment(text: object) -> datetime | None:
    """A time as an app writes it; None when it is none, or lies ahead."""
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    return min(found, datetime.now(UTC))
