"""A platform behind a real Caddy, with modules that are published, built, and run in real sandboxes."""

import asyncio
import contextlib
import json

import aiohttp
import pytest

from tests.support import blueprint, csv_file, declare, free_port, make_settings, served, until

CLOCK = """
import time, cloister
print("hello from", cloister.MODEL["place"])
n = 0
while True:
    n += 1
    cloister.output({"n": n, "place": cloister.MODEL["place"], "deep": {"list": [n, n * 2]}})
    time.sleep(0.1)
"""
CONFIG = [
    {"type": "text", "name": "place", "label": "Place", "default": "nowhere"},
    {"type": "PASSWORD", "name": "key", "label": "Key", "default": ""},
]
PAGE = '<!doctype html><script src="/lib/cloister.js"></script><body></body><script>cloister.onDataChanged((d) => { document.body.textContent = JSON.stringify(d); });</script>'
SECRET = "s3cret-of-ada"


def clock(**values):
    return {"id": "clock", "module": "clock", "values": values}


@contextlib.asynccontextmanager
async def live_platform(folder, policies=None, **settings):
    """A served platform, with Caddy unless it says otherwise, and a competition with a dataset and two teams."""
    port = free_port()
    options = {"gateway": "managed", "listen_port": port, "public_url": f"http://localhost:{port}", **settings}
    rain = csv_file(folder, "rain.csv", "day,mm\n1,4.5\n2,0.0\n3,12.5\n")
    space = blueprint(
        slug="cup", kind="competition", title="A cup", teams={"max_members": 3},
        datasets=[{"name": "rain", "title": "Rain", "tables": [{"name": "rain", "source": rain}]}],
        policies=policies or {}, grants=[{"to": "everybody", "dataset": "rain", "allow": ["query"]}],
    )  # fmt: skip
    async with served(make_settings(folder / "s", **options)) as api:
        await declare(api.platform, space, folder)
        if options["gateway"] == "managed":
            async with asyncio.timeout(20):
                await api.platform.caddy.ready.wait()
        yield Studio(api)


class Studio:
    """Helps tests to do what a person would by clicking."""

    def __init__(self, api):
        self.api = api
        self.port = api.platform.settings.listen_port

    async def person(self, name, team=None):
        """A member of the cup with a team; the client knows its team's number."""
        client = await self.api.member(name, "cup")
        made = await client.post("/spaces/cup/teams", json={"name": team or f"team-{name}"})
        client.team = made.json()["number"]
        return client

    async def publish(self, client, name, files, version="1.0.0", seconds=90):
        """Write a module and publish it; wait until it is built."""
        files = {path: text if isinstance(text, str) else json.dumps(text) for path, text in files.items()}
        if (await client.get(f"/modules/{name}")).status_code == 404:
            made = await client.post("/modules", json={"name": name, "files": files})
            assert made.status_code == 201, made.text
        else:
            for path, text in files.items():
                assert (await client.put(f"/modules/{name}/files/{path}", json={"text": text})).status_code == 200
        asked = await client.post(f"/modules/{name}/releases", json={"version": version})
        assert asked.status_code == 202, asked.text

        async def done():
            release = (await client.get(f"/modules/{name}/releases/{version}")).json()
            return release if release["state"] != "building" else None

        return await until(done, seconds, 0.05)

    async def dashboard(self, client, integrations, widgets=(), name="Board"):
        document = {"name": name, "integrations": list(integrations), "widgets": list(widgets)}
        made = await client.post("/spaces/cup/dashboards", json={"team": client.team, "document": document})
        assert made.status_code == 201, made.text
        return made.json()

    @contextlib.asynccontextmanager
    async def look(self, client, dashboard, **options):
        """Look at a dashboard over its WebSocket."""
        answer = await client.post(f"/spaces/cup/dashboards/{dashboard['id']}/live")
        assert answer.status_code == 200, answer.text
        async with self.socket(answer.json()["path"], **options) as socket:
            yield socket

    @contextlib.asynccontextmanager
    async def socket(self, path):
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(
                f"http://127.0.0.1:{self.port}/api/v1{path}", headers={"Host": f"localhost:{self.port}"}
            ) as ws,
        ):
            yield Socket(ws)


class Socket:
    """A viewer: keeps what it heard, and waits for what it wants to hear."""

    def __init__(self, ws):
        self.ws = ws
        self.heard = []

    async def hear(self, wanted, seconds=30):
        """The first message, of those to come, that fits."""
        async with asyncio.timeout(seconds):
            while True:
                message = await self.ws.receive()
                assert message.type is aiohttp.WSMsgType.TEXT, (message, self.heard[-5:])
                said = json.loads(message.data)
                self.heard.append(said)
                if wanted(said):
                    return said

    async def output(self, integration=None, seconds=30):
        return await self.hear(lambda m: m["type"] == "OUTPUT" and integration in (None, m["integration"]), seconds)

    async def state(self, state, seconds=30):
        return await self.hear(lambda m: m["type"] == "STATUS" and m.get("state") == state, seconds)

    async def printed(self, text, seconds=30):
        """What a program prints comes by another way than what it puts out, before or after, and in pieces."""
        said = lambda: "".join(message["text"] for message in self.heard if message.get("level"))  # noqa: E731
        if text not in said():
            await self.hear(lambda _message: text in said(), seconds)

    async def end(self, seconds=10):
        return await self.hear(lambda m: m["type"] == "TERMINATE", seconds)

    async def say(self, **message):
        await self.ws.send_str(json.dumps(message))


@pytest.fixture
async def studio(tmp_path):
    async with live_platform(tmp_path) as made:
        yield made
