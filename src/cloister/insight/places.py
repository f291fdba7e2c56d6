"""Where people are and what time it is there, from what they said when they registered."""

import functools
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import resources
from typing import Any
from zoneinfo import ZoneInfo

from cloister.spaces import SpaceDeclaration


class Places:
    """Reads the answers to a space's form: its question of type ``country``, and that of type ``time-zone``."""

    def __init__(self, declaration: SpaceDeclaration) -> None:
        self._countries = [field.name for field in declaration.registration if field.type == "country"]
        self._zones = [field.name for field in declaration.registration if field.type == "time-zone"]

    def country(self, answers: Mapping[str, Any]) -> str | None:
        """The country (ISO 3166, two letters), or None when it was not asked for or not said."""
        return next((str(answers[name]) for name in self._countries if answers.get(name)), None)

    def zone(self, answers: Mapping[str, Any]) -> str | None:
        """The time zone: as said, or else that of the country, where it is the same everywhere there."""
        said = next((str(answers[name]) for name in self._zones if answers.get(name)), None)
        country = self.country(answers)
        return said or (zone_of(country) if country else None)


@functools.cache
def _zones() -> dict[str, list[str]]:
    """Each country's time zones, as the time zone database lists them (``zone.tab``)."""
    table = (resources.files("tzdata") / "zoneinfo" / "zone.tab").read_text()
    found: defaultdict[str, list[str]] = defaultdict(list)
    for line in table.splitlines():
        if line and not line.startswith("#"):
            country, _place, zone, *_comment = line.split("\t")
            found[country].append(zone)
    return found


@functools.cache
def zone_of(country: str) -> str | None:
    """The zone of a country in which all clocks show the same, winter and summer; None for others."""
    zones = _zones().get(country, [])
    year = datetime.now(UTC).year
    days = [datetime(year, month, 10, tzinfo=UTC) for month in (1, 7)]
    return zones[0] if len({tuple(ZoneInfo(zone).utcoffset(day) for day in days) for zone in zones}) == 1 else None


@functools.lru_cache(maxsize=100_000)
def local(hour: str, zone: str) -> tuple[int, int]:
    """The weekday (0 is Monday) and hour that clocks of a zone show when an hour of UTC begins (``2026-11-21T10``)."""
    there = datetime.fromisoformat(f"{hour}:00:00+00:00").astimezone(ZoneInfo(zone))
    return there.weekday(), there.hour
