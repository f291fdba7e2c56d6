"""Copies of volumes on schedule, of the workspaces that were used since the last."""

from datetime import UTC, datetime, timedelta

from cloister.access import scoped_select
from cloister.core.clock import Clock
from cloister.core.errors import CloisterError
from cloister.core.principal import EVERYTHING
from cloister.platform import Controller, Database
from cloister.platform.logs import logger
from cloister.sandboxes import Snapshots
from cloister.spaces import declared, get_space, in_space
from cloister.workspaces.models import Workspace

log = logger(__name__)
LONG_AGO = datetime.min.replace(tzinfo=UTC)


class SnapshotController(Controller):
    """Takes what is due, and removes the oldest."""

    name = "snapshots"
    interval = 60.0

    def __init__(self, database: Database, snapshots: Snapshots, clock: Clock) -> None:
        super().__init__()
        self._database = database
        self._snapshots = snapshots
        self._clock = clock
        self._began = False

    async def look(self) -> float | None:
        if not self._began:
            await self._snapshots.sandboxes.disks.forget_looks()
            self._began = True
        async with self._database.read() as uow:
            rows = (await uow.session.scalars(scoped_select(Workspace, EVERYTHING).order_by(Workspace.id))).all()
            spaces = {slug: await get_space(uow, slug) for slug in {row.space for row in rows}}
        for row in rows:
            space = spaces[row.space]
            policies = declared(space).policies
            if space.state != "active" or policies.snapshot_hours is None:
                continue
            taken = [s.taken_at for s in self._snapshots.of(row.volume)]
            last = max(taken, default=LONG_AGO)
            used = row.active_at or row.created_at
            due = max(last, row.created_at) + timedelta(hours=policies.snapshot_hours)
            if used <= last or self._clock.now() < due:
                continue
            try:
                scope = in_space(row.space)
                await self._snapshots.take(scope, row.volume, scheduled=True)
                await self._snapshots.prune(scope, row.volume, policies.snapshots_kept)
            except CloisterError as error:  # one volume must not hold up the others
                log.warning("snapshot.failed", workspace=row.id, error=error.detail)
        return None
