"""What people notice when a part is killed: Caddy, or the control plane. Their kernels and files go on."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import expect

from tests.chaos.server import Server
from tests.support import until
from tests.workspaces.browser import LONG, Visitor, chromium_browser
from tests.workspaces.conftest import Kernel, lab_blueprint


class Away:
    """A member who comes back: by API token, over whatever answers at the address now."""

    def __init__(self, server, http, token, team, host):
        self.server, self.http, self.team, self.host = server, http, team, host
        self.headers = {"Authorization": f"Bearer {token}"}

    async def ask(self, method, path, **more):
        try:
            async with self.http.request(
                method, self.server.url + path, headers={**self.headers, "Host": self.host}, **more
            ) as answer:
                return answer.status, await answer.json(content_type=None)
        except (aiohttp.ClientError, ConnectionError):
            return 0, None

    async def socket(self, path):
        return await self.http.ws_connect(self.server.url + path, headers={**self.headers, "Host": self.host})

    async def serves(self):
        return (await self.ask("GET", "/api/status"))[0] == 200


@pytest.fixture
async def away(tmp_path):
    server = Server(tmp_path / "s", gateway="managed", gateway_domain="localhost", log_level="info")
    server.declare(tmp_path, lab_blueprint())
    server.start()
    async with at_work(server) as found:
        yield found


@contextlib.asynccontextmanager
async def at_work(server):
    """Somebody whose workspace runs on a server; nothing of it is left afterwards."""
    port = server.url.rsplit(":", 1)[1]
    try:
        async with server.client() as client, aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
            await client.member("ada", "cup")
            team = (await client.insist("POST", "/spaces/cup/teams", json={"name": "blue"})).json()["number"]
            body = {"name": "t", "scopes": ["workspace.*"], "days": 1}
            token = (await client.insist("POST", "/me/tokens", json=body)).json()["token"]

            async def running():
                await client.insist(
                    "POST", f"/spaces/cup/teams/{team}/workspace/start"
                )  # again while it is being built
                found = (await client.insist("GET", f"/spaces/cup/teams/{team}/workspace")).json()
                return found["state"] == "running"

            await until(running, 90, 0.3)
            found = Away(server, http, token, team, f"blue.cup.localhost:{port}")
            found.port, found.client = int(port), client
            try:
                yield found
            finally:
                if not server.lives():  # a test that failed between the kill and the start leaves a sandbox behind
                    await asyncio.to_thread(server.start)
                await client.insist("POST", f"/spaces/cup/teams/{team}/workspace/stop")

                async def stopped():
                    found = (await client.insist("GET", f"/spaces/cup/teams/{team}/workspace")).json()
                    return found["state"] == "stopped"

                await until(stopped, 30, 0.1)
    finally:
        server.stop()


@pytest.mark.timeout(150)
async def test_kernels_go_on_when_caddy_or_the_control_plane_is_killed(away):
    _, kernel = await away.ask("POST", "/api/kernels", json={"name": "python3"})
    async with Kernel(away, kernel["id"]) as channel:
        await channel.run("x = 41")
    os.kill(caddy_of(away.server), signal.SIGKILL)
    await until(away.serves, 15, 0.1)
    async with Kernel(away, kernel["id"]) as channel:
        assert (await channel.run("x += 1; print(x)"))[0] == "42\n"
    away.server.kill()
    await asyncio.to_thread(away.server.start)
    await until(away.serves, 30, 0.1)
    async with Kernel(away, kernel["id"]) as channel:
        assert (await channel.run("print(x)"))[0] == "42\n", "the kernel outlived the platform"


@pytest.mark.timeout(200)
async def test_an_open_notebook_goes_on_by_itself_when_caddy_or_the_control_plane_was_killed(away):
    async with chromium_browser() as browser:
        visitor = await Visitor.of(browser, away)
        signed_in = {"name": "cloister", "value": away.client.cookies["cloister"], "url": away.server.url}
        await visitor.page.context.add_cookies([signed_in])
        await visitor.go()
        await visitor.new_notebook("open.ipynb")
        await expect(await visitor.run(0, "x = 20; print('before')")).to_have_text("before\n")
        os.kill(caddy_of(away.server), signal.SIGKILL)
        await visitor.write(1, "x += 1; print('x is', x)")  # what is typed meanwhile is not lost
        await until(away.serves, 15, 0.1)
        await goes_on(visitor, 1, "x is 21")
        away.server.kill()
        await expect(visitor.banner).to_contain_text("The connection is lost. What you write stays here")
        await visitor.write(2, "x *= 2; print('now', x)")  # no dialog of JupyterLab's takes the keyboard meanwhile
        await asyncio.to_thread(away.server.start)
        await until(away.serves, 30, 0.1)
        await goes_on(visitor, 2, "now 42")
        await expect(visitor.banner).to_be_hidden()
        await visitor.save("open.ipynb", "now 42")


@contextlib.contextmanager
def caddy_of_ones_own(folder, config):
    """A Caddy that nobody but its operator looks after."""
    file = folder / "Caddyfile"
    file.write_text(config)
    caddy = str(Path(sys.executable).with_name("caddy"))
    with (folder / "caddy.log").open("ab") as log:
        process = subprocess.Popen(
            [caddy, "run", "--config", str(file), "--adapter", "caddyfile"], stdout=log, stderr=log,
            env={**os.environ, "HOME": str(folder)},
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@pytest.mark.timeout(150)
async def test_a_caddy_of_ones_own_serves_the_platform_and_its_workspaces_with_the_printed_configuration(tmp_path):
    server = Server(tmp_path / "s", gateway="external", gateway_domain="localhost", log_level="info")
    server.declare(tmp_path, lab_blueprint())
    config = server.run("gateway", "config")
    with contextlib.ExitStack() as caddies:
        first = caddies.enter_context(caddy_of_ones_own(tmp_path, config))
        await asyncio.to_thread(server.start)
        async with at_work(server) as found:
            await until(found.serves, 15, 0.1)
            assert caddy_of(server, None) is None, "Cloister starts none beside it"
            first.terminate()
            first.wait()
            assert not await found.serves()
            caddies.enter_context(caddy_of_ones_own(tmp_path, config))
            await until(found.serves, 15, 0.1)


async def goes_on(visitor, index, text):
    """Run a cell that was written before; its page finds its kernel again by itself, in its own time."""
    await visitor.cell(index).locator(".cm-content").click()
    await visitor.page.keyboard.press("Shift+Enter")
    await expect(visitor.output(index)).to_contain_text(text, timeout=LONG)


def caddy_of(server, *default):
    folder = server.state / "run"
    return next((int(pid) for pid in os.listdir("/proc") if pid.isdigit() and _is_caddy_of(pid, folder)), *default)


def _is_caddy_of(pid, folder):
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/cwd") == str(folder) and os.readlink(f"/proc/{pid}/exe").endswith("/caddy")
    return False
