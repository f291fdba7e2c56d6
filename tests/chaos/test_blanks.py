"""kill -9 while sandboxes wait, and while they are taken: each restart leaves those that a row knows, and no other."""

import asyncio
import contextlib
import json
import random

import aiohttp
import pytest

from tests.chaos.test_kill import SEED
from tests.support import until

MAIN = "import cloister, time\ncloister.output(1)\ntime.sleep(600)\n"


def living(server):
    return {id_ for (id_,) in server.rows("SELECT id FROM sandboxes WHERE state NOT IN ('stopped', 'failed')")}


@pytest.mark.timeout(200)
async def test_what_waits_is_swept_and_what_was_taken_ends_once(server):
    dice = random.Random(SEED)
    async with server.client() as ada, aiohttp.ClientSession() as http:
        team = (await ada.member("ada"))["team"]
        await ada.create("/modules", "m", {"name": "plain", "files": {"main.py": MAIN}})
        await ada.create("/modules/plain/releases", "r", {"version": "1.0.0"})

        async def ready():
            return (await ada.insist("GET", "/modules/plain/releases/1.0.0")).json()["state"] == "ready"

        await until(ready, 60, 0.1)

        async def opened(number):
            """Open a dashboard, look until something comes, and delete it; whatever is cut off is cut off."""
            body = {"team": team, "document": {"name": "B", "integrations": [{"id": "i", "module": "plain"}]}}
            board = await ada.create("/spaces/course/dashboards", f"b{number}", body)
            path = f"/spaces/course/dashboards/{board['id']}"
            ticket = (await ada.insist("POST", f"{path}/live")).json()
            with contextlib.suppress(aiohttp.ClientError, TypeError):
                async with http.ws_connect(f"{server.url}/api/v1{ticket['path']}") as ws, asyncio.timeout(20):
                    while json.loads((await ws.receive()).data)["type"] not in {"OUTPUT", "TERMINATE"}:
                        pass
            await ada.insist("DELETE", path)

        async def one_waits():
            return len(server.containers() - living(server)) == 1

        await opened(0)
        await until(one_waits, 30, 0.1)
        server.kill()
        assert len(server.containers()) == 1, "it outlives the platform"
        await asyncio.to_thread(server.start)

        async def none():
            return not server.containers() and not living(server)

        await until(none, 30, 0.1)
        await opened(1)
        await until(one_waits, 30, 0.1)
        for number in range(2, 4):
            work = asyncio.create_task(opened(number))
            await asyncio.wait({work}, timeout=dice.uniform(0, 0.15))
            server.kill()
            await asyncio.to_thread(server.start)
            await work

            async def only_what_waits():
                return not living(server) and len(server.containers()) <= 1

            await until(only_what_waits, 60, 0.1)
    assert not [row for row in server.rows("SELECT state FROM sandboxes") if row[0] not in {"stopped", "failed"}]
