"""What benchmarks share: rows of a result, percentiles, progress, a place to work in."""

import contextlib
import os
import platform
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from tests.support import ROOT

RESULTS = ROOT / "bench-results"


@dataclass
class Row:
    """One line: our figure, what it is measured beside, and what was promised."""

    what: str
    ours: float
    unit: str
    beside: str = ""
    """The peer or limit, measured in the same run."""
    peer: float | None = None
    hold: float | None = None
    ratio: bool = False
    """Whether the number to hold is our figure divided by the peer's."""
    at_least: bool = False

    @property
    def held(self) -> bool | None:
        if self.hold is None:
            return None
        figure = self.ours / self.peer if self.ratio and self.peer else self.ours
        return figure >= self.hold if self.at_least else figure <= self.hold

    def dump(self) -> dict[str, object]:
        return {**asdict(self), "held": self.held}


def figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def show(rows: list[Row]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("what", overflow="fold")
    for name in ("Cloister", "peer or limit", "hold", ""):
        table.add_column(name, justify="left" if name == "peer or limit" else "right")
    for row in rows:
        beside = f"{row.beside} {figure(row.peer)}".strip()
        if row.peer and not row.hold and not row.at_least:
            beside += f" ({row.ours / row.peer:.2f} ×)"
        if row.ratio and row.peer:
            beside += f" ({row.ours / row.peer:.2f} ×)"
        sign = "≥" if row.at_least else "≤"
        hold = "" if row.hold is None else f"{sign} {figure(row.hold)}" + (" ×" if row.ratio else "")
        verdict = {True: "held", False: "MISSED", None: ""}[row.held]
        table.add_row(row.what, f"{figure(row.ours)} {row.unit}", beside, hold, verdict)
    Console(width=120).print(table)
    print()


def percentile(values: list[float], part: float) -> float:
    """The value below which a part (0 to 1) of all are."""
    assert 0 <= part <= 1, part
    return sorted(values)[min(len(values) - 1, round(part * (len(values) - 1)))]


def middle(values: list[float]) -> float:
    return statistics.median(values)


def machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}, load {load:.1f}"


def say(text: str) -> None:
    """Progress: over itself on a terminal, in lines elsewhere."""
    if sys.stdout.isatty():
        print(f"\r\033[K  {text}", end="", flush=True)
    else:
        print(f"  {text}", flush=True)


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A place to work in, gone afterwards; its name is short, since names of sockets have a limit."""
    path = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        yield path
    finally:
        if sys.stdout.isatty():
            print("\r\033[K", end="")
        shutil.rmtree(path, ignore_errors=True)
