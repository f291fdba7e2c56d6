"""A platform behind a real Caddy, with real JupyterLabs in real sandboxes."""

import asyncio
import contextlib
import shutil
import time

import aiohttp
import pytest

from cloister.spaces import JUPYTERLAB
from tests.support import ARROW, LAB, blueprint, csv_file, declare, free_port, make_settings, served, until

SIZES = {"small": {"cpus": 2.0, "memory": "1G", "disk": "256M", "scratch": "64M", "processes": 256}}
LAB_ENVIRONMENT = {"name": "lab", "packages": ARROW, "app": "jupyterlab"}


def lab_blueprint(**changes):
    """A competition whose teams have JupyterLab, and a dataset that all may query."""
    base = {
        "slug": "cup", "kind": "competition", "title": "A cup", "environments": [LAB_ENVIRONMENT], "sizes": SIZES,
        "teams": {"max_members": 3}, "policies": {"workspace_disk": "512M"},
    }  # fmt: skip
    return blueprint(**{**base, **changes})


@contextlib.asynccontextmanager
async def gateway_platform(folder, declared, **settings):
    """A served platform with Caddy, and a space declared in it."""
    port = free_port()
    options = {"gateway": "managed", "listen_port": port, "public_url": f"http://localhost:{port}", **settings}
    folder.mkdir(parents=True, exist_ok=True)
    async with served(make_settings(folder / "s", **options)) as api:
        await api.platform.environments.ensure(LAB)
        await api.platform.environments.ensure(JUPYTERLAB)
        await declare(api.platform, declared, folder)
        async with asyncio.timeout(20):
            await api.platform.caddy.ready.wait()
        yield api


@pytest.fixture
async def cup(tmp_path):
    """The platform, a space “cup” with a dataset, and nobody in it yet."""
    rain = csv_file(tmp_path, "rain.csv", "day,mm\n1,4.5\n2,0.0\n3,12.5\n")
    declared = lab_blueprint(
        datasets=[{"name": "rain", "title": "Rain", "tables": [{"name": "rain", "source": rain}]}],
        grants=[{"to": "everybody", "dataset": "rain", "allow": ["query"]}],
    )
    async with gateway_platform(tmp_path, declared) as api:
        yield api


class Desk:
    """One member of one team, as a browser or a program that visits the team's workspace."""

    def __init__(self, api, client, team, name, space="cup"):
        self.api, self.client, self.team, self.name, self.space = api, client, team, name, space
        self.port = api.platform.settings.listen_port
        self.host = f"{name}.{space}.localhost:{self.port}"
        self.cookie = ""
        self.http = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())

    async def get(self, path, method="GET", *, document=False, headers=None, cookie=None, **more):
        """Ask for a path at the workspace's own origin; return status, headers and body."""
        sent = {"Host": self.host, "Cookie": self.cookie if cookie is None else cookie}
        sent |= {"Sec-Fetch-Dest": "document", "Accept": "text/html"} if document else {}
        sent |= {} if method == "GET" else {"Origin": f"http://{self.host}"}
        address = f"http://127.0.0.1:{self.port}{path}"
        async with self.http.request(
            method, address, headers=sent | (headers or {}), allow_redirects=False, **more
        ) as a:
            return a.status, a.headers, await a.read()

    async def enter(self):
        """Go in as a browser does: bounced to the platform, handed a code, given a cookie of this origin alone."""
        status, headers, _ = await self.get("/lab", document=True)
        assert status == 302, status
        answer = await self.client.get(headers["Location"].replace("localhost", "127.0.0.1", 1))
        assert answer.status_code == 303, answer.text
        path = answer.headers["location"].split(str(self.port), 1)[1]
        status, headers, _ = await self.get(path)
        assert status == 303, status
        self.cookie = headers["Set-Cookie"].split(";")[0]
        return path

    async def workspace(self):
        return (await self.client.get(f"/spaces/{self.space}/teams/{self.team}/workspace")).json()

    async def becomes(self, state, seconds=30):
        async def there():
            found = await self.workspace()
            assert state == "failed" or found.get("state") != "failed", found
            return found if found.get("state") == state else None

        return await until(there, seconds, 0.05)

    async def start(self):
        answer = await self.client.post(f"/spaces/{self.space}/teams/{self.team}/workspace/start")
        assert answer.status_code == 202, answer.text
        return await self.becomes("running")

    async def kernel(self, name="python3"):
        status, _, body = await self.get("/api/kernels", "POST", json={"name": name})
        assert status == 201, body
        return Kernel(self, (await self._json(body))["id"])

    async def socket(self, path, **headers):
        sent = {"Host": self.host, "Cookie": self.cookie, "Origin": f"http://{self.host}", **headers}
        return await self.http.ws_connect(f"http://127.0.0.1:{self.port}{path}", headers=sent)

    @staticmethod
    async def _json(body):
        import json

        return json.loads(body)

    async def close(self):
        await self.http.close()


class Kernel:
    """A kernel of a workspace, spoken to through the gateway and the relay."""

    def __init__(self, desk, id_):
        self.desk, self.id, self.ws = desk, id_, None

    async def __aenter__(self):
        self.ws = await self.desk.socket(f"/api/kernels/{self.id}/channels")
        return self

    async def __aexit__(self, *_):
        await self.ws.close()

    async def run(self, code, cell="cell-1"):
        """Run code; return what it printed and the milliseconds until the reply."""
        import json
        import uuid

        message = uuid.uuid4().hex
        begun = time.perf_counter()
        await self.ws.send_str(json.dumps({
            "header": {"msg_id": message, "msg_type": "execute_request", "username": "", "session": "s", "version": "5.3", "date": ""},
            "parent_header": {}, "metadata": {"cellId": cell}, "channel": "shell", "buffers": [],
            "content": {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False},
        }))  # fmt: skip
        printed, replied, idle = "", None, False
        while replied is None or not idle:
            frame = await self.ws.receive(60)
            assert frame.type is aiohttp.WSMsgType.TEXT, frame
            said = json.loads(frame.data)
            if said["parent_header"].get("msg_id") != message:
                continue
            if said["msg_type"] == "stream":
                printed += said["content"]["text"]
            elif said["msg_type"] == "error":
                printed += f"{said['content']['ename']}: {said['content']['evalue']}"
            elif said["msg_type"] == "execute_reply":
                replied = (time.perf_counter() - begun) * 1000
            elif said["msg_type"] == "status":
                idle = idle or said["content"]["execution_state"] == "idle"
        return printed, replied


@pytest.fixture
async def desk(cup):
    """Make a desk for a new member: in a team of their own, or invited into another's."""
    desks = []

    async def make(person, team=None, mate=None):
        client = await cup.member(person, "cup")
        if mate is None:
            answer = await client.post("/spaces/cup/teams", json={"name": team or f"team-{person}"})
            assert answer.status_code == 201, answer.text
            found = Desk(cup, client, answer.json()["number"], answer.json()["name"])
        else:
            code = (await mate.client.post(f"/spaces/cup/teams/{mate.team}/invitations")).json()["code"]
            answer = await client.post("/spaces/cup/join", json={"code": code})
            assert answer.status_code == 200, answer.text
            found = Desk(cup, client, mate.team, mate.name)
        desks.append(found)
        return found

    yield make
    for made in desks:
        await made.close()


def chromium() -> str:
    """The browser that the tests drive; `make test` installs it."""
    found = shutil.which("chromium")
    assert found is not None, "chromium is missing; “make test” installs it"
    return found
