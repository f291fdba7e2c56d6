"""Asking to take files out, looking at them, and deciding.

Copies are made when something is asked for: what is looked at is what leaves, whatever the team changes meanwhile.
Copying takes time, so it stands in no transaction; short ones stand before and after, and what a killed process left
between them is undone by the controller.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
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
    ExportOthers,
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
from cloister.core.pagination import Page
from cloister.core.principal import Role, Scope
from cloister.platform import Database, ObjectStore, Settings, UnitOfWork
from cloister.platform.paging import page_by
from cloister.platform.ratelimit import RateLimit
from cloister.sandboxes import VolumeFiles, VolumeNotFound
from cloister.spaces import Team, active_space, get_team, in_space, members
from cloister.workspaces import Workspaces

MAX_WAITING = 20
ASKS_PER_MINUTE = 30
"""Of one team: each asking writes letters to all who decide."""
COPIES_AT_ONCE = 2
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
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(COPIES_AT_ONCE))
    _rate: RateLimit = field(default_factory=lambda: RateLimit(ASKS_PER_MINUTE))

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
        self._rate.take(f"{scope.space} {team}")
        id_ = new_id("exp")
        self.copying.add(id_)
        try:
            found = await self._begin(scope, team, id_, why, volume)
            try:
                files = await self._copy(scope, found, id_, paths)
                return await self._end(scope, id_, "waiting", files, None)
            except BaseException as error:  # also when the caller hangs up: whoever looks must see what became of it
                told = error.detail if isinstance(error, CloisterError) else "The files could not be copied. Ask again."
                await self._end(scope, id_, "failed", [], told)
                raise
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
            await uow.session.scalar(
                scoped_select(Team, in_space(space.space)).where(Team.team == team).with_for_update()
            )
            mine = scoped_select(Export, in_space(space.space)).where(
                Export.team == team, Export.state.in_(("copying", "waiting"))
            )
            if (await uow.session.scalar(mine.with_only_columns(func.count())) or 0) >= MAX_WAITING:
                raise TooManyWaiting
            insiders = [enrolment.person for enrolment in await members(uow, space.space, team)]
            uow.session.add(
                Export(
                    id=id_, space=space.space, team=team, person=scope.principal.person,
                    insiders=insiders, why=why, files=[],
                    state="copying", kept=True, kept_until=None, decided_by=None, reason=None,
                    asked_at=self.clock.now(), decided_at=None,
                )
            )  # fmt: skip
            return volume

    async def _copy(self, scope: Scope, volume: str, id_: str, paths: list[str]) -> list[dict[str, Any]]:
        budget, files = Budget(self.settings.export_bytes), []
        async with self._slots, self.files.reader(scope, volume) as read:
            for number, path in enumerate(dict.fromkeys(paths)):
                passing = Passing(read(path), budget)
                async with contextlib.aclosing(passing.chunks()) as chunks:
                    try:
                        stored = await self.objects.put(self.key(str(scope.space), id_, number), chunks)
                    except Exception as error:
                        raise passing.fault or error from error
                files.append({"path": path, "size": stored.size, "sha256": stored.sha256, "lines": passing.counted})
        return files

    async def _end(self, scope: Scope, id_: str, state: str, files: list[dict[str, Any]], reason: str | None) -> Export:
        async with self.database.write(scope.principal) as uow:
            row = await self.find(uow, scope, id_)
            row.state, row.files, row.reason = state, files, reason
            row.kept_until = row.asked_at + timedelta(days=self.settings.export_days)
            record(
                uow, Name.EXPORT_ASKED, outcome=Outcome.FAILED if reason else Outcome.OK, space=row.space,
                team=row.team, subject=row.id, files=files, why=row.why, reason=reason,
            )  # fmt: skip
            others = scoped_select(Export, in_space(row.space)).where(
                Export.team == row.team, Export.state == "waiting", Export.id != row.id
            )
            if state == "waiting" and (await uow.session.scalars(others.limit(1))).first() is None:  # else they know
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
        if state is not None:
            query = query.where(Export.state == state)
        return await page_by(uow, query, Export.id, cursor, limit, newest_first=True)

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
            self.recorder.note(_draft(Name.EXPORT_DENIED, scope, row, {"code": ExportOwn.code}))
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
        """Whether somebody belongs to the team, now or when it asked, whatever else they are."""
        me = scope.principal.person
        if me is None or me == row.person or me in row.insiders:
            return True
        return any(binding.team == row.team for binding in await self.bindings.of(uow, me, row.space))

    async def _waiting(self, uow: UnitOfWork, scope: Scope, id_: str) -> Export:
        row = await self.find(uow, scope, id_)
        await uow.session.refresh(row, with_for_update=True)  # two who decide at once decide one after the other
        if row.state != "waiting":
            raise ExportDecided(f"It is {row.state} already.")
        return row

    async def content(
        self, scope: Scope, id_: str, number: int, request_id: str
    ) -> tuple[dict[str, Any], AsyncGenerator[bytes]]:
        """What is known of a file, and its bytes. The record of it is durable before the first of them.

        Raises:
            ExportNotFound: when there is no such file.
            ExportOthers: when the caller is neither of the team nor one who decides.
            ExportNotApproved: when the team's own people ask before it is approved.
            ExportGone: when it was removed.
        """
        async with self.database.read(scope.principal) as uow:
            row = await self.find(uow, scope, id_)
            own = await self._is_own(uow, scope, row)
        if number >= len(row.files):
            raise ExportNotFound
        inspects = bool(scope.roles & DECIDERS) and not own
        about = row.files[number]
        if not inspects and (not own or row.state != "approved"):
            self.recorder.note(_draft(Name.EXPORT_DENIED, scope, row, about, request_id))
            raise ExportNotApproved if own else ExportOthers
        if not row.kept or (row.kept_until is not None and row.kept_until <= self.clock.now()):
            raise ExportGone
        name = Name.EXPORT_INSPECTED if inspects else Name.EXPORT_TAKEN
        await self.recorder.record(_draft(name, scope, row, about, request_id))
        return about, self.objects.stream(self.key(row.space, row.id, number))


def _draft(name: Name, scope: Scope, row: Export, details: dict[str, Any], request_id: str | None = None) -> Draft:
    """A record about an export that belongs to no transaction."""
    return Draft(
        name=name, outcome=Outcome.REFUSED if name is Name.EXPORT_DENIED else Outcome.OK, person=scope.principal.person,
        actor=scope.principal.kind, space=row.space, team=row.team, subject=row.id, request_id=request_id,
        details=dict(details),
    )  # fmt: skip
