"""Runs the rules over the record of work and the use of sandboxes. A finding is a record itself: nothing is owned here."""

import json
from collections.abc import Iterable
from datetime import datetime

from cloister.access import scoped_select
from cloister.audit import Name, between, head, record
from cloister.core.clock import Clock
from cloister.core.events import AnomalyFound
from cloister.core.principal import EVERYTHING
from cloister.insight.rules import READ, RULES, Engine, Found, Key, Seen, Sign, signs
from cloister.platform import Controller, Database, metrics
from cloister.platform.logs import logger
from cloister.sandboxes import LIVE, Backend, Sandbox, SandboxSpec

log = logger(__name__)
STEP = 20_000
"""So many records are looked at in one transaction."""
USE_SECONDS = 15.0
BUSY = 0.95


class AnomalyController(Controller):
    """Looks at every new record, and at what sandboxes use."""

    name = "anomalies"
    interval = 2.0

    def __init__(self, database: Database, backend: Backend, clock: Clock) -> None:
        super().__init__()
        self._database = database
        self._backend = backend
        self._clock = clock
        self._engine = Engine()
        self._after: int | None = None
        self._used: dict[str, float] = {}
        self._used_at: datetime | None = None

    async def look(self) -> float | None:
        found = await self._read_records()
        found += await self._read_use()
        for one in found:
            await self._tell(one)
        self._engine.forget(self._clock.now())
        return None

    async def _read_records(self) -> list[Found]:
        longest = max(rule.window for rule in RULES.values())
        async with self._database.read() as uow:
            newest = await head(uow)
        if self._after is None:  # a new process: what the windows still cover is looked at again
            self._after = 0
        found: list[Found] = []
        while self._after < newest:
            until = newest if self._after == 0 else min(newest, self._after + STEP)
            async with self._database.read() as uow:
                rows = await between(uow, READ, self._after, until, self._clock.now() - longest)
            seen = [
                Seen(
                    row.seq, row.name, datetime.fromisoformat(row.time), row.space, row.team, row.person, row.sandbox,
                    row.outcome, row.subject, json.loads(row.details),
                )
                for row in rows
            ]  # fmt: skip
            found += self.judge(seen)
            self._after = until
        return found

    def judge(self, records: Iterable[Seen]) -> list[Found]:
        """Feed records, oldest first; return what they lead to."""
        fresh = []
        for seen in records:
            if seen.name == Name.ANOMALY_FOUND:  # first, so that a restart finds nothing twice
                self._engine.known(Key(str(seen.subject), seen.space or "", seen.team, seen.person), seen.time)
            else:
                fresh.append(seen)
        return [one for seen in fresh for sign in signs(seen) if (one := self._engine.take(sign)) is not None]

    async def _read_use(self) -> list[Found]:
        now = self._clock.now()
        seconds = USE_SECONDS if self._used_at is None else (now - self._used_at).total_seconds()
        if self._used_at is not None and seconds < USE_SECONDS:
            return []
        live = scoped_select(Sandbox, EVERYTHING).where(Sandbox.state.in_([state.value for state in LIVE]))
        async with self._database.read() as uow:
            rows = (await uow.session.scalars(live.where(Sandbox.team.is_not(None)))).all()
        found: list[Found] = []
        used: dict[str, float] = {}
        for row in rows:
            usage = await self._backend.usage(row.id)
            if usage is None:
                continue
            limits = SandboxSpec.load(row.spec).limits
            used[row.id] = usage.cpu_seconds
            spent = usage.cpu_seconds - self._used.get(row.id, usage.cpu_seconds)
            rules = [
                name
                for name, full in (
                    ("load.cpu", spent >= BUSY * limits.cpus * seconds),
                    ("load.memory", usage.memory_bytes >= BUSY * limits.memory_bytes),
                )
                if full and row.id in self._used
            ]
            for name in rules:
                sign = Sign(Key(name, row.space, row.team, row.person), now, seconds, None, row.id)
                found += [one] if (one := self._engine.take(sign)) is not None else []
        self._used, self._used_at = used, now
        return found

    async def _tell(self, found: Found) -> None:
        key, rule = found.key, found.rule
        log.warning("anomaly.found", rule=rule.name, space=key.space, team=key.team, person=key.person)
        metrics.ANOMALIES.labels(rule.name).inc()
        async with self._database.write() as uow:
            record(
                uow, Name.ANOMALY_FOUND, space=key.space, team=key.team, person=key.person, sandbox=found.sandbox,
                subject=rule.name, title=rule.title, severity=rule.severity, weight=found.weight,
                threshold=rule.threshold, minutes=rule.window.total_seconds() / 60, records=list(found.records),
            )  # fmt: skip
            uow.publish(AnomalyFound(key.space, rule.name))
