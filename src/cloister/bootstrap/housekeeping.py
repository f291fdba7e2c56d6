"""Removes what has served its time: kept answers, ended sessions, letters long delivered."""

from datetime import timedelta

from sqlalchemy import delete, select

from cloister.core.clock import Clock
from cloister.gateway import EntryCode, WorkspaceSession
from cloister.identity.models import Session
from cloister.platform import Controller, Database
from cloister.platform.idempotency import KeptAnswer
from cloister.platform.mail import Letter

ANSWERS_KEPT = timedelta(days=1)
LETTERS_KEPT = timedelta(days=30)


class HousekeepingController(Controller):
    """Looks once an hour."""

    name = "housekeeping"
    interval = 3600.0

    def __init__(self, database: Database, clock: Clock) -> None:
        super().__init__()
        self._database = database
        self._clock = clock

    async def look(self) -> float | None:
        now = self._clock.now()
        async with self._database.write() as uow:
            uow.unrecorded("what has served its time; nothing of it is anybody's work")
            await uow.session.execute(delete(KeptAnswer).where(KeptAnswer.created_at < now - ANSWERS_KEPT))
            await uow.session.execute(delete(Session).where(Session.expires_at < now))
            await uow.session.execute(delete(EntryCode).where(EntryCode.expires_at < now))
            ended = WorkspaceSession.session.not_in(select(Session.id))
            await uow.session.execute(delete(WorkspaceSession).where(ended))
            await uow.session.execute(
                delete(Letter).where(Letter.due_at.is_(None), Letter.created_at < now - LETTERS_KEPT)
            )
        return None
