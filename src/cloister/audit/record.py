"""A record before and after it has its place in the chain, and its canonical encoding."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeAlias

from cloister.audit.names import Name
from cloister.platform import UnitOfWork

Detail: TypeAlias = "str | int | float | bool | Sequence[Detail] | Mapping[str, Detail] | None"
GENESIS = bytes(32)


class Outcome(StrEnum):
    """How it ended."""

    OK = "ok"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass
class Draft:
    """What is to be recorded. People and teams are numbers, never names or addresses."""

    name: Name
    outcome: Outcome = Outcome.OK
    person: int | None = None
    team: int | None = None
    actor: str = "system"
    space: str | None = None
    sandbox: str | None = None
    subject: str | None = None
    request_id: str | None = None
    details: Mapping[str, Detail] = field(default_factory=dict)
    time: datetime | None = None


def record(
    uow: UnitOfWork,
    name: Name,
    *,
    outcome: Outcome = Outcome.OK,
    person: int | None = None,
    team: int | None = None,
    space: str | None = None,
    sandbox: str | None = None,
    subject: str | None = None,
    **details: Detail,
) -> None:
    """Add a record to a transaction; both commit, or neither. The actor is the transaction's unless given."""
    uow.records.append(
        Draft(
            name=name,
            outcome=outcome,
            person=uow.actor.person if person is None else person,
            team=team,
            actor=uow.actor.kind,
            space=space,
            sandbox=sandbox,
            subject=subject,
            request_id=uow.request_id,
            details=details,
        )
    )


COLUMNS = (
    "seq",
    "time",
    "name",
    "outcome",
    "actor",
    "person",
    "team",
    "space",
    "sandbox",
    "subject",
    "request_id",
    "details",
)
"""The columns that the hash covers, in the order in which it does."""

Row: TypeAlias = tuple[
    int, str, str, str, str, int | None, int | None, str | None, str | None, str | None, str | None, str
]


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds, so that text order is time order."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def place(draft: Draft, seq: int, now: str) -> Row:
    """The values of a draft at its place in the chain."""
    return (
        seq,
        now if draft.time is None else timestamp(draft.time),
        draft.name.value,
        draft.outcome.value,
        draft.actor,
        draft.person,
        draft.team,
        draft.space,
        draft.sandbox,
        draft.subject,
        draft.request_id,
        json.dumps(draft.details, separators=(",", ":"), sort_keys=True, default=str) if draft.details else "{}",
    )


def link(previous: bytes, row: Sequence[object]) -> bytes:
    """The hash of a record: SHA-256 over the hash before it and its fields, each as a netstring.

    ``-`` stands for an absent field; a netstring begins with a digit, so the two cannot be confused, nor can one
    field's end be moved into the next.
    """
    # Written out: verification does this for each record there is, and a loop over the fields takes twice as long.
    seq, time, name, outcome, actor, person, team, space, sandbox, subject, request_id, details = row
    n, often = _netstring, _OFTEN
    text = (
        f"{n(seq)},{n(time)},{often[name]},{often[outcome]},{often[actor]},{n(person)},{n(team)},"
        f"{often[space]},{n(sandbox)},{n(subject)},{n(request_id)},{n(details)}"
    )
    return hashlib.sha256(previous + text.encode("utf-8", "surrogatepass")).digest()


def _netstring(value: object) -> str:
    if value is None:
        return "-"
    text = value if type(value) is str else str(value)
    return f"{len(text)}:{text}"


class _Often(dict[object, str]):
    """The netstrings of texts that come again and again. (Of numbers, 1 and 1.0 would be one.)"""

    def __missing__(self, value: object) -> str:
        if len(self) > _OFTEN_KEPT:
            self.clear()
        self[value] = found = _netstring(value)
        return found


_OFTEN = _Often()
_OFTEN_KEPT = 20_000
