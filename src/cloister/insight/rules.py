"""The rules that find what a steward should look at. Pure: signs go in, findings come out.

A **sign** is one observation (a line of code that names a miner, a refusal, a minute at full load). A rule adds up the
signs of one person in one team over a sliding window; past its threshold there is a **finding**, once a window.
"""

import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from cloister.audit import Name

KEPT_EVIDENCE = 5
MAX_SIGNS = 10_000
"""Of one person for one rule; the oldest go first. Far above every threshold."""


@dataclass(frozen=True)
class Rule:
    """What is looked for."""

    name: str
    title: str
    severity: Literal["high", "medium", "low"]
    threshold: float
    window: timedelta
    advice: str


RULES = {
    rule.name: rule
    for rule in (
        Rule(
            "mining.code", "Code names a program or protocol that mines cryptocurrency", "high", 1, timedelta(hours=1),
            "Look at the code in the record; if it is what it seems, stop the workspace and remove the member.",
        ),
        Rule(
            "mining.network", "Tries to reach mining pools", "high", 3, timedelta(minutes=10),
            "The egress proxy refused or recorded each try. Look at what runs in the workspace.",
        ),
        Rule(
            "load.cpu", "Uses all of its processors for an hour without a pause", "low", 3600, timedelta(minutes=75),
            "Often a long training run, sometimes mining. Ask the team, or look at the code on record.",
        ),
        Rule(
            "load.memory", "Has been at its memory limit for ten minutes", "low", 600, timedelta(minutes=15),
            "The team may need a larger size, or its code may try to exhaust the machine.",
        ),
        Rule(
            "scraping.queries", "Reads governed data by very many small queries", "medium", 200, timedelta(minutes=10),
            "Looks like copying a dataset in pieces. Compare the statements on record with the grant's caps.",
        ),
        Rule(
            "walls.hits", "Runs into walls again and again", "medium", 25, timedelta(minutes=10),
            "Each hit was refused. Many in a row are a mistake in code, or somebody trying doors.",
        ),
    )
}  # fmt: skip

SMALL_ROWS = 1000
_MINER = re.compile(
    r"stratum\+(?:tcp|ssl|tls)://|\b(?:xmrig|xmr-stak|cpuminer|minerd|ethminer|cgminer|bfgminer|nbminer|lolminer|t-rex"
    r"|phoenixminer|randomx|cryptonight)\b",
    re.IGNORECASE,
)
_POOL = re.compile(
    r"(?:^|\.)(?:[a-z0-9-]*(?:mining|miner|pool)[a-z0-9-]*|minexmr|nanopool|supportxmr|moneroocean|ethermine|f2pool"
    r"|nicehash|unmineable)\.",
    re.IGNORECASE,
)
_POOL_PORTS = frozenset({3333, 4444, 5555, 7777, 9999, 14433, 14444, 45560, 45700})

WALLS = {
    Name.EGRESS_DENIED: 1.0,
    Name.ACCESS_DENIED: 1.0,
    Name.QUERY_REFUSED: 1.0,
    Name.DOWNLOAD_REFUSED: 1.0,
    Name.EXPORT_DENIED: 1.0,
    Name.TOKEN_REFUSED: 10.0,  # an instance token is never used twice by accident
}
READ = (*WALLS, Name.CODE_RUN, Name.TERMINAL_TYPED, Name.EGRESS_ALLOWED, Name.QUERY_ANSWERED, Name.ANOMALY_FOUND)
"""The names of the records that rules look at, and of what was found before."""


@dataclass(frozen=True)
class Key:
    """About whom."""

    rule: str
    space: str
    team: int | None
    person: int | None


@dataclass(frozen=True)
class Sign:
    """One observation. ``record`` is the number of the record that it rests on, where there is one."""

    key: Key
    time: datetime
    weight: float
    record: int | None = None
    sandbox: str | None = None


@dataclass(frozen=True)
class Found:
    """What a rule found."""

    key: Key
    time: datetime
    weight: float
    records: tuple[int, ...]
    sandbox: str | None

    @property
    def rule(self) -> Rule:
        return RULES[self.key.rule]


@dataclass(frozen=True)
class Seen:
    """What a rule needs of a record."""

    seq: int
    name: str
    time: datetime
    space: str | None
    team: int | None
    person: int | None
    sandbox: str | None
    outcome: str
    subject: str | None
    details: Mapping[str, Any]


def signs(seen: Seen) -> Iterator[Sign]:
    """The signs in one record."""
    if seen.space is None:
        return
    name = Name(seen.name)
    hits: list[tuple[str, float]] = []
    if name in WALLS:
        hits.append(("walls.hits", WALLS[name]))
    if name in {Name.CODE_RUN, Name.TERMINAL_TYPED} and _MINER.search(
        str(seen.details.get("code") or seen.details.get("typed") or "")
    ):
        hits.append(("mining.code", 1))
    if name in {Name.EGRESS_DENIED, Name.EGRESS_ALLOWED} and _is_pool(seen):
        hits.append(("mining.network", 1))
    if name is Name.QUERY_ANSWERED and seen.outcome == "ok" and not seen.details.get("cached"):
        rows = seen.details.get("rows")
        if isinstance(rows, int) and 0 < rows <= SMALL_ROWS:
            hits.append(("scraping.queries", 1))
    for rule, weight in hits:
        yield Sign(Key(rule, seen.space, seen.team, seen.person), seen.time, weight, seen.seq, seen.sandbox)


def _is_pool(seen: Seen) -> bool:
    host, _, port = str(seen.subject or "").rpartition(":")
    return bool(_POOL.search(f"{host or seen.subject}.")) or (port.isdigit() and int(port) in _POOL_PORTS)


@dataclass
class _Window:
    signs: deque[Sign] = field(default_factory=deque)
    weight: float = 0.0
    quiet_until: datetime | None = None


@dataclass
class Engine:
    """Adds signs up. Its memory is bounded: by people who do something, and by the windows."""

    windows: dict[Key, _Window] = field(default_factory=dict)

    def known(self, key: Key, time: datetime) -> None:
        """That there was a finding already, before this process began."""
        if key.rule in RULES:
            self.windows.setdefault(key, _Window()).quiet_until = time + RULES[key.rule].window

    def take(self, sign: Sign) -> Found | None:
        """Add a sign; return a finding when it was one too many."""
        rule = RULES[sign.key.rule]
        window = self.windows.setdefault(sign.key, _Window())
        window.signs.append(sign)
        window.weight += sign.weight
        while window.signs and (window.signs[0].time <= sign.time - rule.window or len(window.signs) > MAX_SIGNS):
            window.weight -= window.signs.popleft().weight
        if window.weight < rule.threshold or (window.quiet_until is not None and sign.time < window.quiet_until):
            return None
        window.quiet_until = sign.time + rule.window
        records = tuple(s.record for s in window.signs if s.record is not None)[-KEPT_EVIDENCE:]
        return Found(sign.key, sign.time, round(window.weight, 1), records, sign.sandbox)

    def forget(self, now: datetime) -> None:
        """Drop what can no longer matter."""
        for key, window in list(self.windows.items()):
            old = now - RULES[key.rule].window
            quiet = window.quiet_until is None or window.quiet_until <= now
            if quiet and (not window.signs or window.signs[-1].time <= old):
                del self.windows[key]
