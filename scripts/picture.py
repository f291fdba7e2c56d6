"""Makes docs/demo.svg, the picture in README: the demo's check as it really ran."""

import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parent.parent


def main() -> int:
    done = subprocess.run(
        [ROOT / ".venv/bin/cloister", "demo", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    lines = done.stdout.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("[    ok]"))
    console = Console(record=True, width=112, file=Path("/dev/null").open("w"), force_terminal=True)
    console.print(Text("$ make demo CHECK=1", style="bold"))
    for line in lines[first:]:
        style = "green" if line.startswith("[    ok]") else "red" if line.startswith("[FAILED") else "dim"
        console.print(Text(line, style=style, overflow="fold"))
    svg = re.sub(r"@font-face \{.*?\}|<!--.*?-->", "", console.export_svg(title="Cloister"), flags=re.DOTALL)
    (ROOT / "docs" / "demo.svg").write_text(svg)  # without the web fonts: no page of ours asks a third party
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
