"""Records as the API shows them."""

import json
from typing import Any

from pydantic import BaseModel

from cloister.audit.models import AuditRecord
from cloister.core.ids import person_label, team_label


class RecordOut(BaseModel):
    """One entry of the audit log."""

    seq: int
    time: str
    name: str
    outcome: str
    actor: str
    person: str | None
    team: str | None
    space: str | None
    sandbox: str | None
    subject: str | None
    request_id: str | None
    details: dict[str, Any]
    hash: str

    @classmethod
    def of(cls, row: AuditRecord) -> "RecordOut":
        return cls(
            seq=row.seq,
            time=row.time,
            name=row.name,
            outcome=row.outcome,
            actor=row.actor,
            person=None if row.person is None else person_label(row.person),
            team=None if row.team is None else team_label(row.team),
            space=row.space,
            sandbox=row.sandbox,
            subject=row.subject,
            request_id=row.request_id,
            details=json.loads(row.details),
            hash=row.hash.hex(),
        )


class RecordPage(BaseModel):
    """Records, newest first."""

    items: list[RecordOut]
    next_cursor: str | None
