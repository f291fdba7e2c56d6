"""Whether the platform was there: looked at every few seconds, kept in the record, and added up from it.

A server that ends in order says so. One that is killed cannot; the next one finds when it was last seen, in a small file.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from cloister.audit import Name, between, head, record
from cloister.audit.models import AuditRecord
from cloister.core.clock import Clock
from cloister.platform import Controller, Database, UnitOfWork
from cloister.platform.files import write_whole
from cloister.platform.logs import logger

log = logger(__name__)
SERVER = "server"
CHECK_SECONDS = 5.0
FIRST_SECONDS = 30.0
"""What begins together with the server may take so long before that counts as a failure."""
READ = (Name.SERVER_STARTED, Name.PART_FAILED, Name.PART_RECOVERED)
Check = Callable[[], Awaitable[None]]
"""Returns when a part works; raises OSError or SQLAlchemyError when it does not."""


class Incident(BaseModel):
    """A time in which something did not work."""

    part: str
    began_at: datetime
    ended_at: datetime | None
    """None while it lasts."""
    planned: bool
    """Whether the server had been stopped in order."""
    why: str


class PartUptime(BaseModel):
    """How much of a period a part worked."""

    part: str
    available: float
    """From 0 to 1."""
    down_seconds: float
    incidents: int


class Uptime(BaseModel):
    """How much of a period each part worked, and when it did not."""

    since: datetime
    """When the period begins: not before the platform first ran."""
    until: datetime
    parts: list[PartUptime]
    incidents: list[Incident]
    """Newest first."""


class UptimeController(Controller):
    """Sees to it that the record says when the server, or a part that it rests on, was not there."""

    name = "uptime"
    interval = 5.0

    def __init__(self, database: Database, clock: Clock, seen: Path, checks: Mapping[str, Check]) -> None:
        super().__init__()
        self._database = database
        self._clock = clock
        self._seen = seen
        self._checks = checks
        self._failing: dict[str, datetime] = {}
        self._untold: set[str] = set()
        self._worked: set[str] = set()
        self._begun: datetime | None = None

    async def look(self) -> float | None:
        if self._begun is None:
            await self._begin()
        await asyncio.to_thread(self._note, clean=False)
        for part, check in self._checks.items():
            await self._look_at(part, check)
        return None

    async def _begin(self) -> None:
        last = await asyncio.to_thread(self._last)
        async with self._database.write() as uow:
            record(
                uow, Name.SERVER_STARTED, subject=SERVER, parts=sorted(self._checks), down_since=last.get("at"),
                planned=last.get("clean", False),
            )  # fmt: skip
        self._begun = self._clock.now()

    def _last(self) -> dict[str, str | bool]:
        try:
            found = json.loads(self._seen.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _note(self, *, clean: bool) -> None:
        write_whole(self._seen, json.dumps({"at": self._clock.now().isoformat(), "clean": clean}))

    async def _look_at(self, part: str, check: Check) -> None:
        began, why = self._clock.now(), ""
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await check()
        except (SQLAlchemyError, OSError) as error:
            why = f"{type(error).__name__}: {error}"[:300]
        running = began - (self._begun or began)
        if why and part not in self._worked and running < timedelta(seconds=FIRST_SECONDS):
            return
        self._worked.add(part)
        if why and part not in self._failing:
            log.error("uptime.part_failed", part=part, why=why)
            self._failing[part] = began
            self._untold.add(part)
        if why and part in self._untold and part != "database":
            async with self._database.write() as uow:
                record(uow, Name.PART_FAILED, subject=part, since=self._failing[part].isoformat(), why=why)
            self._untold.discard(part)
        if not why and part in self._failing:
            async with self._database.write() as uow:
                record(uow, Name.PART_RECOVERED, subject=part, since=self._failing[part].isoformat())
            log.info("uptime.part_recovered", part=part)
            del self._failing[part]
            self._untold.discard(part)

    async def close(self) -> None:
        """The server ends in order."""
        if self._begun is None:
            return
        async with self._database.write() as uow:
            record(uow, Name.SERVER_STOPPED, subject=SERVER)
        await asyncio.to_thread(self._note, clean=True)


def incidents_of(rows: list[AuditRecord]) -> list[Incident]:
    """What records say, oldest first. What failed before a start is looked at anew by the server that started."""
    found: list[Incident] = []
    lasting: dict[str, Incident] = {}
    for row in rows:
        at, said = datetime.fromisoformat(row.time), json.loads(row.details)
        part = str(row.subject)
        if row.name == Name.SERVER_STARTED:
            for incident in lasting.values():
                incident.ended_at = at
            lasting.clear()
            if said.get("down_since"):
                planned = bool(said.get("planned"))
                why = "stopped and started again" if planned else "ended without a word"
                down = datetime.fromisoformat(said["down_since"])
                found.append(Incident(part=SERVER, began_at=down, ended_at=at, planned=planned, why=why))
        elif row.name == Name.PART_FAILED:
            lasting[part] = Incident(
                part=part, began_at=datetime.fromisoformat(said["since"]), ended_at=None, planned=False, why=said["why"]
            )
            found.append(lasting[part])
        elif row.name == Name.PART_RECOVERED:
            if part in lasting:
                lasting.pop(part).ended_at = at
            else:  # nothing could be recorded while it lasted
                since = datetime.fromisoformat(said["since"])
                found.append(Incident(part=part, began_at=since, ended_at=at, planned=False, why="did not answer"))
    return found


async def uptime(uow: UnitOfWork, since: datetime, now: datetime) -> Uptime:
    """Add up what the record says of a period."""
    rows = list(await between(uow, READ, 0, await head(uow), since))
    starts = [row for row in rows if row.name == Name.SERVER_STARTED]
    if starts and not json.loads(starts[0].details).get("down_since"):
        since = max(since, datetime.fromisoformat(starts[0].time))
    incidents = incidents_of(rows)
    names = [SERVER, *(json.loads(starts[-1].details)["parts"] if starts else ())]
    whole = max((now - since).total_seconds(), 1.0)
    parts = []
    for name in names:
        own = [one for one in incidents if one.part == name]
        down = sum(((one.ended_at or now) - max(one.began_at, since)).total_seconds() for one in own)
        parts.append(PartUptime(part=name, available=max(0.0, 1 - down / whole), down_seconds=down, incidents=len(own)))
    return Uptime(since=since, until=now, parts=parts, incidents=incidents[::-1])
