"""Writes docs/benchmarks.md from what `make bench` left in bench-results: ``python -m benchmarks.report``."""

import json
from typing import Any

from tests.support import ROOT

from benchmarks.__main__ import NAMES
from benchmarks.table import RESULTS

HEAD = """# What was measured

`make bench` prints each figure beside its peer, in the same run; `python -m benchmarks.report` makes this page of it.
Absolute figures drift between machines, and on shared ones between minutes: look at the load, and rerun them on yours.
"""


def number(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"


def section(found: dict[str, Any]) -> str:
    lines = [
        f"\n## {found['benchmark']}\n", f"{found['machine']}, {found['at'][:10]}\n",
        "| what | ours | beside | peer | hold | held |", "| --- | ---: | --- | ---: | ---: | :-: |",
    ]  # fmt: skip
    for row in found["rows"]:
        held = {True: "yes", False: "**no**", None: ""}[row["held"]]
        hold = number(row["hold"]) + (" ×" if row["ratio"] and row["hold"] else "")
        cells = (
            row["what"].strip(),
            f"{number(row['ours'])} {row['unit']}",
            row["beside"],
            number(row["peer"]),
            hold,
            held,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """What was not measured anew stays as it was, with its own machine and day."""
    page = ROOT / "docs" / "benchmarks.md"
    sections = {text.split("\n", 1)[0].strip(): f"\n## {text}" for text in page.read_text().split("\n## ")[1:]}
    for name in NAMES:
        if (path := RESULTS / f"{name}.json").exists():
            sections[name] = section(json.loads(path.read_text()))
    page.write_text(HEAD + "".join(sections[name].rstrip("\n") + "\n" for name in NAMES if name in sections))


if __name__ == "__main__":
    main()
