"""A workspace's life as the person in its page sees it: installing, resting, failing, falling over and getting up."""

import re
from datetime import timedelta
from ipaddress import ip_network

import pytest
from playwright.async_api import expect

from tests.support import until
from tests.workspaces.browser import LONG, Visitor, chromium_browser
from tests.workspaces.packages import package_index
from tests.workspaces.test_browser import one_desk

FRAGILE = """
import http.server, os, sys
print("no luck with the team's packages", flush=True)
if os.environ["CLOISTER_SAFE_MODE"] != "1":
    sys.exit(3)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<html><head></head><body><h1>Safe and sound</h1></body></html>")
http.server.ThreadingHTTPServer(("127.0.0.1", 8123), Handler).serve_forever()
"""


@pytest.fixture
async def browser():
    async with chromium_browser() as found:
        yield found


async def test_what_is_installed_in_a_notebook_comes_from_allowed_hosts_and_is_there_after_a_rest(tmp_path, browser):
    async with package_index({"alpha", "beta", "gamma"}) as (port, asked):
        egress = [{"host": "packages.test", "ports": [port]}]
        async with one_desk(tmp_path, policies={"egress": egress, "workspace_disk": "512M"}) as ada:
            proxy = ada.api.platform.proxy

            async def resolver(_host, _port):
                return ["127.0.0.1"]

            proxy.resolver = resolver
            proxy.settings = proxy.settings.model_copy(update={"egress_allow_networks": [ip_network("127.0.0.0/8")]})
            await ada.enter()
            await ada.start()
            visitor = await Visitor.of(browser, ada)
            await visitor.go()
            await visitor.new_notebook("install.ipynb")
            index = f"http://packages.test:{port}/simple"
            trusted = f"--index-url {index} --trusted-host packages.test"
            await expect(await visitor.run(0, f"%pip install alpha {trusted}")).to_contain_text(
                "Successfully installed alpha-1.0", timeout=LONG
            )
            await expect(
                await visitor.run(1, f"!pip install --quiet beta {trusted} && echo beta is in")
            ).to_contain_text("beta is in", timeout=LONG)
            uv = f"!uv pip install gamma --index-url {index} --allow-insecure-host packages.test"
            await expect(await visitor.run(2, uv)).to_contain_text("gamma==1.0", timeout=LONG)
            elsewhere = (
                "!pip install --retries 0 delta --index-url http://elsewhere.test/simple --trusted-host elsewhere.test"
            )
            await expect(await visitor.run(3, elsewhere)).to_contain_text("No matching distribution", timeout=LONG)
            (refused,) = {r["subject"] for r in await ada.api.records(name="sandboxes:egress:deny")}
            assert "elsewhere.test" in refused
            assert all("delta" not in path for path in asked)
            await ada.client.post(f"/spaces/cup/teams/{ada.team}/workspace/stop")
            await ada.becomes("stopped")
            await visitor.page.get_by_role("button", name="Wake it").click()
            await visitor.usable()
            await visitor.kernel_idle()
            code = "import alpha, beta, gamma; print(alpha.word, beta.word, gamma.word)"
            await expect(await visitor.run(4, code)).to_have_text("installed installed installed\n", timeout=LONG)


async def test_a_page_warns_before_a_rest_a_key_or_a_click_prevents_it_and_it_wakes_again(
    tmp_path, browser, monkeypatch
):
    monkeypatch.setattr("cloister.workspaces.controller.LOOK_AT_USE", timedelta(seconds=0.2))
    async with one_desk(tmp_path, policies={"idle_minutes": 0.2, "workspace_disk": "256M"}) as ada:
        ada.api.platform.workspace_controller.interval = 0.3
        await ada.enter()
        await ada.start()
        visitor = await Visitor.of(browser, ada)
        page = visitor.page
        await visitor.go()
        warning = re.compile("Nobody works here just now. This workspace will rest in 1 min")
        await expect(visitor.banner).to_contain_text(warning, timeout=LONG)
        await visitor.picture("idle")
        await page.get_by_role("button", name="Keep it awake").click()
        await expect(visitor.banner).to_be_hidden()
        await expect(visitor.banner).to_contain_text(warning, timeout=LONG)
        await page.keyboard.press("Shift")
        await expect(visitor.banner, "whoever types is there").to_be_hidden()
        explained = await ada.workspace()
        assert (explained["state"], explained["wanted"]) == ("running", "running")
        assert explained["busy"] == "A page of it is open, though nothing runs."
        await expect(visitor.banner).to_contain_text(
            "This workspace rests. Nothing ran and nobody worked in it for 0.2 minutes.", timeout=LONG
        )
        await ada.becomes("stopped")
        await page.get_by_role("button", name="Wake it").click()
        await visitor.usable()


async def test_a_start_that_fails_says_why_shows_what_was_said_and_offers_safe_mode(tmp_path, browser):
    app = {"name": "fragile", "app": {"command": ["python3", "-c", FRAGILE], "port": 8123}}
    async with one_desk(tmp_path, environments=[app]) as ada:
        visitor = await Visitor.of(browser, ada)
        page = visitor.page
        await page.goto(visitor.address("/deep/link?x=1"))
        await expect(page.locator("#reason")).to_contain_text("It ended 4 times by itself", timeout=LONG)
        await page.get_by_text("What it said last").click()
        await expect(page.locator("#output")).to_contain_text("no luck with the team's packages")
        await visitor.picture("failed")
        await page.get_by_role("button", name="Start in safe mode").click()
        await expect(page.get_by_role("heading", name="Safe and sound")).to_be_visible(timeout=LONG)
        assert page.url == visitor.address("/deep/link?x=1")
        assert (await ada.workspace())["safe"] is True


async def test_a_killed_kernel_and_a_killed_jupyter_cost_no_file_and_no_reload_by_hand(cup, desk, browser):
    ada = await desk("ada")
    await ada.enter()
    await ada.start()
    visitor = await Visitor.of(browser, ada)
    page = visitor.page
    await visitor.go()
    await visitor.new_notebook("mine.ipynb")
    await expect(await visitor.run(0, "x = 1; print('first')")).to_have_text("first\n")
    await visitor.save("mine.ipynb", "first")
    await visitor.run(1, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    dialog = page.locator(".jp-Dialog")
    await expect(dialog).to_contain_text("Kernel Restarting", timeout=LONG)
    await dialog.get_by_role("button").last.click()  # (its status bar says “Starting” until something runs again)
    await expect(await visitor.run(2, "print('second')")).to_have_text("second\n", timeout=LONG)
    await visitor.save("mine.ipynb", "second")

    before = (await ada.workspace())["sandbox"]
    told = visitor.told("This workspace starts again")  # for half a second, where it starts that fast
    await visitor.run(3, "os = __import__('os'); os.kill(os.getppid(), 9)")
    await told

    async def again():
        found = await ada.workspace()
        return found["state"] == "running" and found["sandbox"] != before

    await until(again, 30)
    await expect(visitor.banner, "the page comes back by itself").to_be_hidden(timeout=LONG)
    await visitor.usable()
    await visitor.kernel_idle()
    await expect(visitor.output(0)).to_have_text("first\n")
    await expect(visitor.output(2)).to_have_text("second\n")
    last = await visitor.notebook.locator(".jp-Cell").count() - 1  # what was typed in its last second went with it
    await expect(await visitor.run(last, "print('third')")).to_have_text("third\n", timeout=LONG)
