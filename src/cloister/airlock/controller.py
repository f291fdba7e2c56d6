"""Removes copies that have served their time, and what a killed process left half copied."""

from sqlalchemy import and_, or_

from cloister.access import scoped_get, scoped_select
from cloister.airlock.models import Export
from cloister.airlock.service import Airlock
from cloister.audit import Name, record
from cloister.core.events import ExportChanged
from cloister.core.principal import EVERYTHING
from cloister.platform import Controller

OVER = ("failed", "withdrawn", "refused")
BOUNDED = ("waiting", "approved")


class AirlockController(Controller):
    """Looks when something is decided, and now and then."""

    name = "airlock"
    wakes_on = (ExportChanged,)
    interval = 60.0

    def __init__(self, airlock: Airlock) -> None:
        super().__init__()
        self._airlock = airlock

    async def look(self) -> float | None:
        airlock, now = self._airlock, self._airlock.clock.now()
        due = scoped_select(Export, EVERYTHING).where(
            Export.kept.is_(True),
            or_(
                Export.state.in_(OVER),
                Export.state == "copying",
                and_(Export.state.in_(BOUNDED), Export.kept_until <= now),
            ),
        )
        async with airlock.database.read() as uow:
            rows = (await uow.session.scalars(due)).all()
        for row in rows:
            if row.state not in OVER:
                await self._give_up(row.id)
            if row.id not in airlock.copying:
                await self._remove(row.id, row.space)
        return None

    async def _give_up(self, id_: str) -> None:
        """End what nobody copies any more, or nobody decided in time, or nobody took out in time; looked at anew."""
        airlock, now = self._airlock, self._airlock.clock.now()
        async with airlock.database.write() as uow:
            row = await scoped_get(uow, Export, EVERYTHING, id=id_)
            uow.unrecorded("it may have changed meanwhile; its removal is recorded")
            if row is None or id_ in airlock.copying:
                return
            if row.state == "copying":
                row.state, row.reason = "failed", "The platform was stopped while it copied. Ask again."
            elif row.state == "waiting" and row.kept_until is not None and row.kept_until <= now:
                row.state, row.reason = "failed", "Nobody decided on it in time. Ask again."

    async def _remove(self, id_: str, space: str) -> None:
        airlock = self._airlock
        async with airlock.database.read() as uow:
            row = await scoped_get(uow, Export, EVERYTHING, id=id_)
        if row is not None and row.state not in (*OVER, "approved"):
            return
        await airlock.objects.remove(airlock.key(space, id_, 0).rpartition("/")[0])
        async with airlock.database.write() as uow:
            row = await scoped_get(uow, Export, EVERYTHING, id=id_)
            if row is None:
                uow.unrecorded("its space ended meanwhile")
                return
            row.kept = False
            record(uow, Name.EXPORT_REMOVED, space=row.space, team=row.team, subject=row.id, state=row.state)
