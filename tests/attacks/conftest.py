"""Attacks from inside real sandboxes. One served platform per file; two rival teams in one space."""

import dataclasses
import json
import textwrap
from pathlib import Path

import pytest_asyncio

from tests.support import Api, blueprint, declare, make_settings, served

INSIDE = (Path(__file__).parent / "inside.py").read_text()
SMALL = {"cpus": 0.5, "memory": "192M", "disk": "64M", "scratch": "16M", "processes": 32, "seconds": 60}
ALLOWED = [
    {"host": "allowed.example", "ports": [80, 443]},
    {"host": "*.wild.example", "ports": [80]},
    {"host": "metadata.example", "ports": [80]},
]


@dataclasses.dataclass
class Arena:
    """The platform under attack, an attacker, and a victim in another team."""

    api: Api
    attacker: object
    victim: object
    state: Path

    @property
    def platform(self):
        return self.api.platform

    @staticmethod
    def body(code: str, **more) -> dict:
        files = {"main.py": textwrap.dedent(code), "attack.py": INSIDE, **more.pop("files", {})}
        return {"files": files, **more}

    async def start(self, code: str, client=None, **more) -> dict:
        return await self.api.start(client or self.attacker, code, **self.body(code, **more))

    async def run(self, code: str, client=None, seconds: float = 60, **more) -> tuple[dict, str]:
        return await self.api.finish(client or self.attacker, await self.start(code, client, **more), seconds)

    async def stop(self, sandbox: dict, client=None) -> tuple[dict, str]:
        client = client or self.attacker
        answer = await client.delete(f"/spaces/course/sandboxes/{sandbox['id']}")
        assert answer.status_code < 300, answer.text
        return await self.api.finish(client, sandbox)

    async def attack(self, code: str, client=None, **more) -> dict:
        """Run code that ends with ``attack.report()``; return what it reported."""
        state, output = await self.run(code, client, **more)
        assert state["state"] == "stopped", json.dumps([state, output])
        assert state["exit_code"] == 0, json.dumps([state, output])
        return json.loads(output.strip().splitlines()[-1])

    async def healthy(self) -> None:
        """The platform still answers, and a neighbour's sandbox still starts."""
        state, output = await self.run("print('neighbour', 6 * 7)", self.victim)
        assert (state["state"], state["exit_code"], output) == ("stopped", 0, "neighbour 42\n"), (state, output)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def arena(tmp_path_factory):
    state = tmp_path_factory.mktemp("state")
    settings = make_settings(state, sandbox_output_bytes=1024 * 1024, sandbox_output_rate=1024 * 1024)
    space = blueprint(
        sizes={"small": SMALL, "core": {**SMALL, "cpus": 1.0}, "large": {**SMALL, "processes": 128, "files": 1024}},
        policies={"egress": ALLOWED, "sandboxes_per_team": 6},
    )
    async with served(settings) as api:
        await declare(api.platform, space)
        yield Arena(api, await api.member("attacker"), await api.member("victim"), state)


def resident() -> int:
    """The memory of this process, which is the control plane's here, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
