"""Grants begin and end by the clock: whoever works under one hears of it in that moment."""

from sqlalchemy import func, or_

from cloister.access import scoped_select
from cloister.core.clock import Clock
from cloister.core.events import AccessChanged, GrantsChanged
from cloister.core.principal import EVERYTHING
from cloister.datasets.models import Grant
from cloister.platform import Bus, Controller, Database


class GrantPeriodController(Controller):
    """Tells of grants whose time has come or gone, so that open queries under them are looked at again."""

    name = "grant periods"
    wakes_on = (GrantsChanged,)
    interval = 60.0

    def __init__(self, database: Database, bus: Bus, clock: Clock) -> None:
        super().__init__()
        self._database = database
        self._bus = bus
        self._clock = clock
        self._looked = clock.now()

    async def look(self) -> float | None:
        since, now = self._looked, self._clock.now()
        live = scoped_select(Grant, EVERYTHING).where(Grant.revoked_at.is_(None))
        turned = or_(
            Grant.valid_from.between(since, now) & (Grant.valid_from > since),
            Grant.valid_until.between(since, now) & (Grant.valid_until > since),
        )
        async with self._database.read() as uow:
            spaces = set(await uow.session.scalars(live.where(turned).with_only_columns(Grant.space)))
            nexts = [
                await uow.session.scalar(live.where(moment > now).with_only_columns(func.min(moment)))
                for moment in (Grant.valid_from, Grant.valid_until)
            ]
        self._looked = now
        self._bus.publish([AccessChanged(space) for space in sorted(spaces)])
        return min(((moment - now).total_seconds() for moment in nexts if moment is not None), default=None)
