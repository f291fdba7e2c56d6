"""The one state machine. The diagram in ``docs/sandboxes.md`` is made from this table."""

from enum import StrEnum

from cloister.core.errors import Conflict


class State(StrEnum):
    """Where a sandbox is in its life."""

    REQUESTED = "requested"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.REQUESTED: frozenset({State.STARTING, State.STOPPED, State.FAILED}),
    State.STARTING: frozenset({State.STARTING, State.RUNNING, State.STOPPING, State.FAILED}),
    State.RUNNING: frozenset({State.STOPPING}),
    State.STOPPING: frozenset({State.STOPPED, State.FAILED}),
    State.STOPPED: frozenset(),
    State.FAILED: frozenset(),
}
TIME_LIMIT = "its time limit was reached"
"""Why one ended that ran as long as it may."""
FINAL = frozenset(state for state, after in TRANSITIONS.items() if not after)
LIVE = frozenset(TRANSITIONS) - FINAL


class BadTransition(Conflict):
    """A sandbox cannot go from its present state to that one."""

    code = "sandbox.bad_transition"


def check_transition(before: State, after: State) -> None:
    """Allow what the table allows.

    Raises:
        BadTransition: otherwise.
    """
    if after not in TRANSITIONS[before]:
        raise BadTransition(f"A sandbox that is {before} cannot become {after}.")


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> requested"]
    lines += [
        f"    {before} --> {after}"
        for before, afters in TRANSITIONS.items()
        for after in sorted(afters)
        if before != after
    ]
    lines += [f"    {state} --> [*]" for state in sorted(FINAL)]
    return "\n".join(lines)
