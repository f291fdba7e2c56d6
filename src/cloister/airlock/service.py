"""Asking to take files out, looking at them, and deciding.

Copies are made when something is asked for: what is looked at is what leaves, whatever the team changes meanwhile.
Copying takes time, so it stands in no transaction; short ones stand before and after, and what a killed process left
between them is undone by the controller.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import func

from cloister.access import Bindings, scoped_get, scoped_select
from cloister.airlock.copying import Budget, Passing
from cloister.airlock.errors import (
    ExportDecided,
    ExportGone,
    ExportNotApproved,
    ExportNotFound,
    ExportOwn,
    TooManyWaiting,
)
from cloister.airlock.letters import tell_asker, tell_reviewers
from cloister.airlock.models import Export
from cloister.audit import Draft, Name, Outcome, Recorder, record
from cloister.core.clock import Clock
from cloister.core.errors import CloisterError
from cloister.core.events import ExportChanged
from cloister.core.ids import new_id
from cloister.core.pagination import Page, decode_cursor, page_of
from cloister.core.principal import Role, Scope
from cloister.platform import Database, ObjectStore, Settings, UnitOfWork
from cloister.sandboxes import VolumeFiles, VolumeNotFound
from cloister.spaces import active_space, get_team, in_space
from cloister.workspaces import Workspaces

MAX_WAITING = 20
DECIDERS = frozenset({Role.STEWARD, Role.REVIEWER})


@dataclass
class Airlock:
    """The service."""

    settings: Settings
    database: Database
    objects: ObjectStore
    workspaces: Workspaces
    files: VolumeFiles
    bindings: Bindings
    recorder: Recorder
    clock: Clock
    copying: set[str] = field(default_factory=set)
    """Those that this process copies just now."""

    async def ask(self, scope: Scope, team: int, paths: list[str], why: str, *, volume: str | None = None) -> Export:
        """Copy files of a team's volume and have them reviewed.

        Args:
            scope: who asks, and what they reach.
            team: whose files.
            paths: plain files, from the home folder on.
            why: what they are for, for the reviewer.
            volume: where they are; by default in the team's workspace.

        Raises:
            TeamNotFound, WorkspaceNotFound, VolumeNotFound: when the scope does not reach it, or there is none.
            FileNotThere: when there is no such file.
            ExportTooLarge: when they are more than ``export_bytes`` together.
            TooManyWaiting: when many wait already.
        """
        id_ = new_id("exp")
        self.copying.add(id_)
        try:
            found = await self._begin(scope, team, id_, why, volume)
            try:
                files = await self._copy(scope, found, id_, paths)
            except CloisterError as error:
                await self._end(scope, id_, "failed", [], error.detail)
                raise
            return await self._end(scope, id_, "waiting", files, None)
        finally:
            self.copying.discard(id_)

    async def _begin(self, scope: Scope, team: int, id_: str, why: str, volume: str | None) -> str:
        async with self.database.write(scope.principal) as uow:
            uow.unrecorded("what is asked is recorded when it is copied")
            space, _ = await active_space(uow, str(scope.space))
            await get_team(uow, scope, team)
            if volume is None:
                volume = (await self.workspaces.find(uow, scope, team)).volume
            elif (await self.files.sandboxes.volume(uow, scope, volume)).team != team:
                raise VolumeNotFound
            waiting = scoped_select(Export, in_space(space.space)).with_only_columns(func.count())
            mine = waiting.where(Export.team == team, Export.state == "waiting")
            if (await uow.session.scalar(mine) or 0) >= MAX_WAITING:
                raise TooManyWaiting
            uow.session.add(
                Export(
                    id=id_, space=space.space, team=team, person=scope.principal.person, why=why, files=[],
                    state="copying", kept=True, kept_until=None, decided_by=None, reason=None,
                    asked_at=self.clock.now(), decided_at=None,
                )
            )  # fmt: skip
            return volume

    async def _copy(self, scope: Scope, volume: str, id_: str, paths: list[str]) -> list[dict[str, Any]]:
        budget, files = Budget(self.settings.export_bytes), []
        async with self.files.reader(scope, volume) as read:
            for number, path in enumerate(dict.fromkeys(paths)):
                passing = Passing(read(path), budget)
                try:
                    stored = await self.objects.put(self.key(str(scope.space), id_, number), passing.chunks())
                except Exception as error:
                    raise passing.fault or error from error
                files.append({"path": path, "size": stored.size, "sha256": stored.sha256, "lines": passing.counted})
        return files

    async def _end(self, scope: Scope, id_: str, state: str, files: list[dict[str, Any]], reason: str | None) -> Export:
        async with self.database.write(scope.principal) as uow:
            row = await self.find(uow, scope, id_)
            row.state, row.files, row.reason = state, files, reason
            record(
                uow, Name.EXPORT_ASKED, outcome=Outcome.FAILED if reason else Outcome.OK, space=row.space,
                team=row.team, subject=row.id, files=files, why=row.why, reason=reason,
            )  # fmt: skip
            if state == "waiting":
                await tell_reviewers(uow, self.clock, self.bindings, row, self.settings.public_url)
            uow.publish(ExportChanged(row.space, row.id))
        return row

    @staticmethod
    def key(space: str, id_: str, number: int) -> str:
        """Where a copy is; with all that a space has, so that its end removes it, too."""
        return f"spaces/{space}/exports/{id_}/{number}"

    async def find(self, uow: UnitOfWork, scope: Scope, id_: str) -> Export:
        """Return an export that a scope reaches.

        Raises:
            ExportNotFound: when there is none.
        """
        found = await scoped_get(uow, Export, scope, id=id_)
        if found is None:
            raise ExportNotFound
        return found

    async def page(
        self, uow: UnitOfWork, scope: Scope, cursor: str | None, limit: int, state: str | None = None
    ) -> Page[Export]:
        """The exports that a scope reaches, newest first."""
        query = scoped_select(Export, scope)
        before = decode_cursor(cursor, str)
        if before is not None:
            query = query.where(Export.id < before)
        if state is not None:
            query = query.where(Export.state == state)
        rows = (await uow.session.scalars(query.order_by(Export.id.desc()).limit(limit + 1))).all()
        return page_of(rows, limit, lambda row: row.id)

    async def withdraw(self, uow: UnitOfWork, scope: Scope, id_: str) -> Export:
        """Take a request back.

        Raises:
            ExportDecided: when it does not wait any more.
        """
        row = await self._waiting(uow, scope, id_)
        row.state, row.decided_at = "withdrawn", self.clock.now()
        record(uow, Name.EXPORT_WITHDRAWN, space=row.space, team=row.team, subject=row.id)
        uow.publish(ExportChanged(row.space, row.id))
        return row

    async def decide(self, uow: UnitOfWork, scope: Scope, id_: str, *, approve: bool, reason: str) -> Export:
        """Let files out, or not.

        Raises:
            ExportDecided: when it does not wait any more.
            ExportOwn: when the caller asked for it, or is in the team that did.
        """
        row = await self._waiting(uow, scope, id_)
        me = scope.principal.person
        if await self._is_own(uow, scope, row):
            raise ExportOwn
        row.state, row.reason = "approved" if approve else "refused", reason
        row.decided_by, row.decided_at = me, self.clock.now()
        row.kept_until = row.decided_at + timedelta(days=self.settings.export_days) if approve else None
        record(
            uow, Name.EXPORT_DECIDED, outcome=Outcome.OK if approve else Outcome.REFUSED, space=row.space,
            team=row.team, subject=row.id, files=row.files, reason=reason,
        )  # fmt: skip
        await tell_asker(uow, self.clock, row, self.settings.public_url)
        uow.publish(ExportChanged(row.space, row.id))
        return row

    async def _is_own(self, uow: UnitOfWork, scope: Scope, row: Export) -> bool:
        """Whether somebody asked for it, or belongs to the team that did, whatever else they are."""
        me = scope.principal.person
        if me is None or me == row.person:
            return True
        return any(binding.team == row.team for binding in await self.bindings.of(uow, me, row.space))

    async def _waiting(self, uow: UnitOfWork, scope: Scope, id_: str) -> Export:
        row = await self.find(uow, scope, id_)
        if row.state != "waiting":
            raise ExportDecided(f"It is {row.state} already.")
        return row

    async def content(
        self, scope: Scope, id_: str, number: int, request_id: str
    ) -> tuple[dict[str, Any], AsyncIterator[bytes]]:
        """What is known of a file, and its bytes. The record of it is durable before the first of them.

        Raises:
            ExportNotFound: when there is no such file.
            ExportNotApproved: when somebody who may not decide it asks before it is approved.
            ExportGone: when it was removed.
        """
        async with self.database.read(scope.principal) as uow:
            row = await self.find(uow, scope, id_)
            inspects = bool(scope.roles & DECIDERS) and not await self._is_own(uow, scope, row)
        if number >= len(row.files):
            raise ExportNotFound
        if not inspects and row.state != "approved":
            raise ExportNotApproved
        if not row.kept:
            raise ExportGone
        about = row.files[number]
        await self.recorder.record(
            Draft(
                name=Name.EXPORT_INSPECTED if inspects else Name.EXPORT_TAKEN, person=scope.principal.person,
                actor=scope.principal.kind, space=row.space, team=row.team, subject=row.id, request_id=request_id,
                details=dict(about),
            )
        )  # fmt: skip
        return about, self.objects.stream(self.key(row.space, row.id, number))
