"""What commands print."""

from collections.abc import Iterable, Sequence


class Failure(Exception):
    """A command could not do what was asked; the message is for the person at the terminal."""


def table(rows: Iterable[Sequence[object]], header: Sequence[str]) -> str:
    """A plain table with aligned columns."""
    cells = [[str(name) for name in header], *[["" if c is None else str(c) for c in row] for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join(lines)
