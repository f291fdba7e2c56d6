"""Findings in the API."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from cloister.audit.schemas import RecordOut
from cloister.insight.rules import RULES


class FindingOut(BaseModel):
    """Something that a rule found. It rests on records that can be looked up by their numbers."""

    number: int
    """Of the record that says so."""
    time: str
    rule: str
    title: str
    severity: str
    space: str | None
    team: str | None
    person: str | None
    sandbox: str | None
    weight: float
    threshold: float
    minutes: float
    records: list[int]
    advice: str
    closed: str | None
    """What a steward wrote when they closed it."""
    closed_by: str | None

    @classmethod
    def of(cls, found: RecordOut, closing: RecordOut | None) -> "FindingOut":
        details: dict[str, Any] = found.details
        rule = RULES.get(found.subject or "")
        return cls(
            number=found.seq, time=found.time, rule=found.subject or "", title=str(details.get("title", "")),
            severity=str(details.get("severity", "")), space=found.space, team=found.team, person=found.person,
            sandbox=found.sandbox, weight=details.get("weight", 0), threshold=details.get("threshold", 0),
            minutes=details.get("minutes", 0), records=list(details.get("records", [])),
            advice=rule.advice if rule else "", closed=None if closing is None else str(closing.details.get("why", "")),
            closed_by=None if closing is None else closing.person,
        )  # fmt: skip


class FindingPage(BaseModel):
    """Findings, newest first."""

    items: list[FindingOut]
    next_cursor: str | None


class ClosingIn(BaseModel):
    """Why a finding needs nothing more."""

    model_config = ConfigDict(extra="forbid")

    why: Annotated[str, Field(min_length=1, max_length=1000)]
