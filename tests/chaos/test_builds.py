"""kill -9 while a release is built: the next process builds it, and nothing of the first is left."""

import asyncio
import random
import uuid
from pathlib import Path

from tests.chaos.test_kill import SEED
from tests.support import ENVIRONMENTS, until

MAIN = """package main

import (
	"net/http"

	"cloister"
)

func main() {
	_, err := http.Get("http://nowhere.example")
	cloister.Output(map[string]any{"error": err.Error(), "made": "%s"})
}
"""


async def test_a_build_that_is_killed_is_done_again_and_leaves_nothing(server):
    async with server.client() as ann:
        await _built(server, ann, random.Random(SEED))

    async def clean():
        return not server.containers() and not server.mounts() and not server.loops()

    await until(clean, 20, 0.1)
    assert list((server.state / "volumes").glob("build-*")) == []
    assert server.processes(server.first_uid + 50_000_000, 1) == []
    mine = [path for path in ENVIRONMENTS.glob(".*.*") if not Path(f"/proc/{path.name.rsplit('.', 1)[1]}").exists()]
    assert mine == [], "half-made layers of processes that are gone"


async def _built(server, ann, choice):
    await ann.member("ann")
    main = MAIN % uuid.uuid4()  # so that it is built anew
    await ann.create(
        "/modules", "module", {"name": "look", "files": {"main.go": main, "go.mod": "module look\n\ngo 1.24\n"}}
    )
    release = await ann.create("/modules/look/releases", "release", {"version": "1.0.0"})
    assert release["state"] == "building"
    for _ in range(3):

        async def begun():
            return server.containers()

        await until(begun, 60, 0.05)
        await asyncio.sleep(choice.uniform(0, 1))  # somewhere in the build
        server.kill()
        server.start()

    async def ready():
        found = (await ann.insist("GET", "/modules/look/releases/1.0.0")).json()
        assert found["state"] != "failed", found["reason"]
        return found["state"] == "ready"

    await until(ready, 80, 0.1)
