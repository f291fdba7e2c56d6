"""What `test_rootless` runs as another user than root: a whole platform, one member, one sandbox."""

import asyncio
import json
import sys
import tempfile
from pathlib import Path

from tests.support import blueprint, declare, make_settings, served

INSIDE = """
import json, os
about = [line.split()[1] for line in open('/proc/self/status') if line[:6] in ('CapEff', 'NoNewP', 'Seccom')]
def until_refused(step, room):
    try:
        for number in range(room):
            step(number)
        return None
    except OSError as error:
        return error.errno
os.makedirs('/home/user/many', exist_ok=True)
with open('/home/user/big', 'wb') as big:
    disk = until_refused(lambda _: os.write(big.fileno(), bytes(1 << 20)), 4096)
os.remove('/home/user/big')
names = until_refused(lambda n: open(f'/home/user/many/{n}', 'w').close(), 200_000)
print(json.dumps([os.getuid(), about, disk, names]))
"""
AGAIN = "import os; print(len(os.listdir('/home/user/many')) > 100)"


async def main(environments: str, accepted: list[str]) -> dict[str, object]:
    settings = make_settings(
        Path(tempfile.mkdtemp()), sandbox_allow_unenforced=accepted, environment_directory=environments
    )
    async with served(settings) as api:
        await declare(api.platform, blueprint())
        member = await api.member("one")
        walls = {wall.name: wall.enforced for wall in api.platform.backend.walls() if wall.required}

        async def run(code: str) -> tuple[int, dict[str, object], object, str | None]:
            asked = await member.post(
                "/spaces/course/sandboxes", json={"command": ["python3", "-c", code], "volume": "home"}
            )
            answer = asked.json()
            done = await api.finish(member, answer) if asked.status_code == 202 else (None, None)
            return asked.status_code, answer, *done

        status, answer, state, output = await run(INSIDE)
        again = (await run(AGAIN))[3] if output else None
        return {
            "walls": walls, "status": status, "answer": answer, "state": state, "output": output, "again": again,
            "backend": api.platform.disks.backend,
        }  # fmt: skip


print(json.dumps(asyncio.run(main(sys.argv[1], sys.argv[2].split(",") if len(sys.argv) > 2 else []))))  # noqa: T201
