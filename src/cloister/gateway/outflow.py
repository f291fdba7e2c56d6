"""What leaves: counted by person, team and day; slowed, then stopped, past the budget."""

import asyncio
import math
from collections import defaultdict
from dataclasses import dataclass
from datetime import date
from time import monotonic

from sqlalchemy import func

from cloister.access import scoped_get, scoped_select
from cloister.audit import Name, record
from cloister.core.clock import Clock
from cloister.core.events import BudgetRenewed, Event
from cloister.core.ids import team_label
from cloister.core.principal import EVERYTHING
from cloister.gateway.decision import Allowed
from cloister.gateway.errors import BudgetSpent
from cloister.gateway.models import Outflow
from cloister.platform import Bus, Controller, Database, UnitOfWork
from cloister.spaces import in_space, parse_bytes

SLOW_BYTES = 256 * 1024
"""Per second, once the budget is used up and until a tenth more is."""
SLOW_PIECE = 32 * 1024
GRACE = 1.1


@dataclass(frozen=True)
class _Key:
    space: str
    team: int
    person: int
    day: date


class Outflows(Controller):
    """Counts in memory, and writes the sums down every few seconds."""

    name = "outflows"
    interval = 2.0

    def __init__(self, database: Database, clock: Clock, bus: Bus) -> None:
        super().__init__()
        bus.subscribe(BudgetRenewed, self._on_renewed)
        self._database = database
        self._clock = clock
        self._new: dict[_Key, int] = defaultdict(int)
        self._team: dict[tuple[str, int, date], int] = {}
        self._person: dict[_Key, int] = {}
        self._slowly: dict[tuple[str, int, int], float] = {}
        """Until when what a person has taken since their budget was used up has its turn."""

    async def used(self, allowed: Allowed) -> tuple[int, int]:
        """Bytes that left today for a person and for their team."""
        today = self._clock.now().date()
        key = _Key(allowed.space, allowed.team, allowed.person, today)
        team = (allowed.space, allowed.team, today)
        if key not in self._person or team not in self._team:
            here = scoped_select(Outflow, in_space(allowed.space)).where(
                Outflow.team == allowed.team, Outflow.day == today
            )
            async with self._database.read() as uow:
                total = await uow.session.scalar(here.with_only_columns(func.coalesce(func.sum(Outflow.bytes), 0)))
                own = await uow.session.scalar(
                    here.where(Outflow.person == allowed.person).with_only_columns(Outflow.bytes)
                )
            self._team.setdefault(team, int(total or 0))
            self._person.setdefault(key, int(own or 0))
        return self._person[key], self._team[team]

    async def check(self, allowed: Allowed, more: int = 0) -> None:
        """Look whether so many bytes more may leave.

        Raises:
            BudgetSpent: when they may not before tomorrow.
        """
        if await self.over(allowed, more) >= GRACE:
            raise BudgetSpent

    async def over(self, allowed: Allowed, more: int = 0) -> float:
        """How much of the budget is used, with some bytes more: 1 is all of it."""
        if allowed.policies.downloads == "allowed":
            return 0.0
        own, team = await self.used(allowed)
        policies = allowed.policies
        return max(
            (own + more) / max(1, parse_bytes(policies.download_per_person)),
            (team + more) / max(1, parse_bytes(policies.download_per_team)),
        )

    async def take(self, allowed: Allowed, count: int, *, gently: bool = False) -> None:
        """Count bytes about to leave; wait where they must go slowly.

        Args:
            allowed: for whom they leave.
            count: how many.
            gently: whether they belong to work that goes on without a budget, such as opening and saving files.

        Raises:
            BudgetSpent: when they may not leave before tomorrow; never when taken gently.
        """
        over = await self.over(allowed)
        if over >= GRACE and not gently:
            raise BudgetSpent
        self.note(allowed, count)
        whose = (allowed.space, allowed.team, allowed.person)
        while count > 0 and over >= 1:
            # One rate over all that somebody has open, in pieces: what is large lets what is small pass, and who goes away
            # or is given more leaves no queue behind.
            piece = min(count, SLOW_PIECE)
            turn = max(self._slowly.get(whose, 0), monotonic()) + piece / SLOW_BYTES
            self._slowly[whose] = turn
            await asyncio.sleep(turn - monotonic())  # a rate, not a wait for something
            count -= piece
            over = await self.over(allowed)

    def note(self, allowed: Allowed, count: int) -> None:
        """Count bytes that have left."""
        today = self._clock.now().date()
        key = _Key(allowed.space, allowed.team, allowed.person, today)
        self._new[key] += count
        if key in self._person:
            self._person[key] += count
            self._team[key.space, key.team, today] += count

    async def renew(self, uow: UnitOfWork, space: str, team: int) -> None:
        """Let today's budget of a team and of its people begin anew."""
        today = self._clock.now().date()
        rows = scoped_select(Outflow, in_space(space)).where(Outflow.team == team, Outflow.day == today)
        for row in (await uow.session.scalars(rows)).all():
            row.bytes = 0
        record(uow, Name.BUDGET_RENEWED, space=space, team=team, subject=team_label(team))
        uow.publish(BudgetRenewed(space, team))

    def _on_renewed(self, event: Event) -> None:
        """What was counted before counts no more."""
        if isinstance(event, BudgetRenewed):
            for counts in (self._new, self._person):
                for key in [key for key in counts if (key.space, key.team) == (event.space, event.team)]:
                    del counts[key]
            self._team = {key: count for key, count in self._team.items() if key[:2] != (event.space, event.team)}

    async def look(self) -> float | None:
        today = self._clock.now().date()
        self._person = {key: value for key, value in self._person.items() if key.day == today}
        self._team = {key: value for key, value in self._team.items() if key[2] == today}
        self._slowly = {whose: turn for whose, turn in self._slowly.items() if turn > monotonic()}
        if not self._new:
            return None
        async with self._database.write() as uow:
            uow.unrecorded("sums; each download is recorded")
            for key in list(self._new):
                row = await scoped_get(
                    uow, Outflow, EVERYTHING, space=key.space, team=key.team, person=key.person, day=key.day
                )
                # Only now, when this is the transaction that writes: a renewal that was under way has taken what it ends.
                count = self._new.pop(key, 0)
                if row is None:
                    uow.session.add(
                        Outflow(space=key.space, team=key.team, person=key.person, day=key.day, bytes=count)
                    )
                else:
                    row.bytes += count
        return None


class Rate:
    """Counts what a busy channel sends, and passes it on in lumps: a message need not cost a sum."""

    def __init__(self, outflows: Outflows) -> None:
        self._outflows = outflows
        self._count = 0
        self._since = -math.inf
        self._spent = False

    async def add(self, allowed: Allowed, count: int, *, gently: bool) -> None:
        """Count bytes.

        Raises:
            BudgetSpent: when no more may leave today; such bytes are not counted.
        """
        if self._spent:
            await self._outflows.check(allowed)
            self._spent = False
        self._count += count
        if self._count < 64 * 1024 and monotonic() - self._since <= 1:
            return
        lump, self._count, self._since = self._count, 0, monotonic()
        try:
            await self._outflows.take(allowed, lump, gently=gently)
        except BudgetSpent:
            self._spent = True
            self._outflows.note(allowed, lump - count)
            raise

    def settle(self, allowed: Allowed) -> None:
        """Count what was sent since the last lump."""
        if self._count:
            self._outflows.note(allowed, self._count)
        self._count = 0
