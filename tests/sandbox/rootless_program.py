"""What `test_rootless` runs as another user than root: a whole platform, one member, one sandbox."""

import asyncio
import json
import sys
import tempfile
from pathlib import Path

from tests.support import blueprint, declare, make_settings, served

INSIDE = "import os; print(json.dumps([os.getuid(), *(l.split()[1] for l in open('/proc/self/status') if l[:6] in ('CapEff', 'NoNewP', 'Seccom'))]))"


async def main(environments: str, accepted: list[str]) -> dict[str, object]:
    settings = make_settings(
        Path(tempfile.mkdtemp()), sandbox_allow_unenforced=accepted, environment_directory=environments
    )
    async with served(settings) as api:
        await declare(api.platform, blueprint())
        member = await api.member("one")
        walls = {wall.name: wall.enforced for wall in api.platform.backend.walls() if wall.required}
        asked = await member.post(
            "/spaces/course/sandboxes", json={"command": ["python3", "-c", f"import json; {INSIDE}"]}
        )
        answer = asked.json()
        done = await api.finish(member, answer) if asked.status_code == 202 else (None, None)
        return {"walls": walls, "status": asked.status_code, "answer": answer, "state": done[0], "output": done[1]}


print(json.dumps(asyncio.run(main(sys.argv[1], sys.argv[2].split(",") if len(sys.argv) > 2 else []))))  # noqa: T201
