"""Ending a space: everything it had is removed, and the report lists each thing and proves it gone.

What stays is what must: the audit log, the agreements and their signatures, and the slug, which is not given out
again. Every step may be repeated, so an interrupted end is finished by asking again.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func

from cloister.access import Bindings, scoped_delete, scoped_select
from cloister.airlock import Export
from cloister.audit import Name, record
from cloister.core.clock import Clock
from cloister.core.errors import Conflict
from cloister.core.events import SandboxWanted, SpaceEnding
from cloister.core.principal import Principal
from cloister.dashboards import Dashboard, DashboardVersion, Share
from cloister.datasets import Dataset, DatasetVersion, Edition, Grant
from cloister.gateway import EntryCode, Outflow, WorkspaceSession
from cloister.platform import Base, Database, ObjectStore
from cloister.platform.objects import remove_tree
from cloister.sandboxes import LIVE, Sandbox, SandboxController, Volume, VolumeDisks
from cloister.spaces import Enrolment, Team, get_space, in_space
from cloister.spaces.models import AllowListEntry, Invitation
from cloister.workspaces import CapacityRequest, Workspace

STOP_SECONDS = 30.0
ROWS: tuple[type[Base], ...] = (
    Export, Outflow, WorkspaceSession, EntryCode, Share, DashboardVersion, Dashboard, CapacityRequest, Workspace, Volume, Sandbox, Edition, Grant, DatasetVersion, Dataset, Invitation, AllowListEntry, Enrolment, Team,
)  # fmt: skip
"""In the order in which they can go."""


class StillRunning(Conflict):
    """Some of the space's sandboxes or exports did not end in time. Ask again."""

    code = "space.still_running"


@dataclass(frozen=True)
class Removed:
    """One line of the report."""

    what: str
    count: int
    left: int

    def __str__(self) -> str:
        proof = "none left" if self.left == 0 else f"{self.left} LEFT"
        return f"{self.what}: {self.count} removed, {proof}"


@dataclass
class Endings:
    """Ends spaces."""

    database: Database
    objects: ObjectStore
    disks: VolumeDisks
    controller: SandboxController
    bindings: Bindings
    clock: Clock

    async def end(self, slug: str, actor: Principal) -> list[Removed]:
        """End a space; return what was removed, each counted again afterwards.

        Raises:
            SpaceNotFound: when there is none.
            StillRunning: when its sandboxes do not stop.
        """
        await self._close(slug, actor)
        await self._until_stopped(slug)
        report = [await self._volumes(slug), await self._objects(slug), await self._outputs(slug)]
        report += await self._rows(slug, actor)
        return report

    async def _close(self, slug: str, actor: Principal) -> None:
        """Nobody may anything any more, and what runs is told to stop."""
        async with self.database.write(actor) as uow:
            space = await get_space(uow, slug)
            space.state = "ending" if space.state == "active" else space.state
            space.version += 1
            space.updated_at = self.clock.now()
            record(uow, Name.SPACE_ENDED, space=slug, subject=slug, step="closed")
            for binding in await self.bindings.in_space(uow, slug):
                await self.bindings.revoke(uow, binding.person, space=slug)
            for workspace in (await uow.session.scalars(scoped_select(Workspace, in_space(slug)))).all():
                workspace.wanted, workspace.reason = "stopped", "The space has ended."
            live = scoped_select(Sandbox, in_space(slug)).where(Sandbox.state.in_([state.value for state in LIVE]))
            for row in (await uow.session.scalars(live)).all():
                row.wanted = "stopped"
                uow.publish(SandboxWanted(row.id))
            uow.publish(SpaceEnding(slug))

    async def _until_stopped(self, slug: str) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + STOP_SECONDS
        live = scoped_select(Sandbox, in_space(slug)).where(Sandbox.state.in_([state.value for state in LIVE]))
        copied = scoped_select(Export, in_space(slug)).where(Export.state == "copying")
        while True:
            async with self.database.read() as uow:
                if not any([(await uow.session.scalars(query.limit(1))).first() for query in (live, copied)]):
                    return
            if loop.time() > until:
                raise StillRunning
            await asyncio.sleep(0.1)  # a bounded poll: the sandboxes may be another process's

    async def _volumes(self, slug: str) -> Removed:
        async with self.database.read() as uow:
            ids = (await uow.session.scalars(scoped_select(Volume, in_space(slug)).with_only_columns(Volume.id))).all()
        for id_ in ids:
            await self.disks.delete(id_)
        left = [id_ for id_ in ids if self.disks.image(id_).exists() or self.disks.snapshots(id_)]
        return Removed("volumes, with their snapshots", len(ids), len(left))

    async def _objects(self, slug: str) -> Removed:
        prefix = f"spaces/{slug}"
        keys = await self.objects.remove(prefix)
        return Removed("stored objects", len(keys), len(await self.objects.keys(prefix)))

    async def _outputs(self, slug: str) -> Removed:
        async with self.database.read() as uow:
            ids = (
                await uow.session.scalars(scoped_select(Sandbox, in_space(slug)).with_only_columns(Sandbox.id))
            ).all()
        places: list[Path] = [self.controller.place(id_).root for id_ in ids]
        for place in places:
            await asyncio.to_thread(remove_tree, place)
        left = await asyncio.to_thread(lambda: [place for place in places if place.exists()])
        return Removed("outputs of sandboxes", len(places), len(left))

    async def _rows(self, slug: str, actor: Principal) -> list[Removed]:
        report = []
        async with self.database.write(actor) as uow:
            for model in ROWS:
                count = scoped_select(model, in_space(slug)).with_only_columns(func.count())
                before = await uow.session.scalar(count) or 0
                await uow.session.execute(scoped_delete(model, in_space(slug)))
                report.append(Removed(f"rows of {model.__tablename__}", before, await uow.session.scalar(count) or 0))
            space = await get_space(uow, slug)
            space.state, space.listed = "ended", False
            record(
                uow, Name.SPACE_ENDED, space=slug, subject=slug, step="removed",
                removed={line.what: line.count for line in report},
            )  # fmt: skip
        return report
