"""Run the benchmarks: ``python -m benchmarks [NAME…]``."""

import asyncio
import importlib
import json
import sys
import time
from datetime import UTC, datetime

from benchmarks.table import RESULTS, machine, show

NAMES = ("audit", "sandbox", "sql", "gateway", "workspaces", "live", "ui", "registration")


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        print(f"No such benchmark: {', '.join(unknown)}. There are: {', '.join(NAMES)}.")
        return 2
    RESULTS.mkdir(exist_ok=True)
    print(f"on {machine()}\n")
    missed = 0
    for name in names or NAMES:
        print(f"{name} ...", flush=True)
        begun = time.monotonic()
        rows = asyncio.run(importlib.import_module(f"benchmarks.{name}").measure())
        found = {
            "benchmark": name, "at": datetime.now(UTC).isoformat(), "machine": machine(),
            "seconds": round(time.monotonic() - begun, 1), "rows": [row.dump() for row in rows],
        }  # fmt: skip
        (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=2) + "\n")
        show(rows)
        missed += sum(row.held is False for row in rows)
    print(f"{missed} number(s) not held" if missed else "all numbers held")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
