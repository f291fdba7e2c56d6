"""What datasets need of those above: turning a file into Parquet happens in a sandbox, which `query` knows to use."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

Progress = Callable[[float, str], Awaitable[None]]


@dataclass(frozen=True)
class Converted:
    """A table as it came out of conversion. ``path`` is valid inside the ``async with`` that gave it."""

    path: Path
    rows: int
    columns: list[dict[str, str]]
    """Name and SQL type, in order."""


@dataclass(frozen=True)
class Reading:
    """How a file is to be read."""

    format: str
    types: dict[str, str]
    """SQL types of columns by name, where they are not to be found out."""
    null: str | None = None
    sheet: str | None = None


class Converter(Protocol):
    """Makes Parquet of files nobody trusts, and narrowed copies of Parquet."""

    async def convert(
        self,
        space: str,
        source: Path,
        reading: Reading,
        store: Callable[[Converted], Awaitable[None]],
        progress: Progress,
    ) -> None:
        """Convert a file and hand the result to ``store`` before anything is cleaned up.

        Raises:
            BadSource: with the line and what is wrong in it.
        """

    async def narrow(
        self,
        space: str,
        source: Path,
        columns: list[str] | None,
        rows: str | None,
        store: Callable[[Converted], Awaitable[None]],
    ) -> None:
        """Write a copy with these columns and the rows for which a condition is true.

        Raises:
            BadGrant: when a column does not exist or the condition is no SQL.
        """
