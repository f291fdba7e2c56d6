"""Removes copies that have served their time, and what a killed process left half copied."""

from cloister.access import scoped_get, scoped_select
from cloister.airlock.models import Export
from cloister.airlock.service import Airlock
from cloister.audit import Name, record
from cloister.core.events import ExportChanged
from cloister.core.principal import EVERYTHING
from cloister.platform import Controller

OVER = ("failed", "withdrawn", "refused")


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
        async with airlock.database.read() as uow:
            rows = (await uow.session.scalars(scoped_select(Export, EVERYTHING).where(Export.kept.is_(True)))).all()
        for row in rows:
            broken = row.state == "copying" and row.id not in airlock.copying
            late = row.state == "approved" and row.kept_until is not None and row.kept_until <= now
            if broken or late or row.state in OVER:
                await self._remove(row.id, row.space, broken=broken)
        return None

    async def _remove(self, id_: str, space: str, *, broken: bool) -> None:
        airlock = self._airlock
        await airlock.objects.delete(await airlock.objects.keys(airlock.key(space, id_, 0).rpartition("/")[0]))
        async with airlock.database.write() as uow:
            row = await scoped_get(uow, Export, EVERYTHING, id=id_)
            if row is None:
                uow.unrecorded("its space ended meanwhile")
                return
            row.kept = False
            if broken:
                row.state, row.reason = "failed", "The platform was stopped while it copied. Ask again."
            record(uow, Name.EXPORT_REMOVED, space=row.space, team=row.team, subject=row.id, state=row.state)
