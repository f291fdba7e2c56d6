"""The web application: what a first visit loads, how soon it can be read, and what Lighthouse says of it. In a real
Chromium, through Caddy.
"""

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.chaos.server import Server
from tests.support import ROOT, blueprint
from tests.workspaces.browser import chromium_browser
from tests.workspaces.conftest import chromium

from benchmarks.table import Row, folder, middle, say

RUNS = 5
PAGES = {
    "public page": "/",
    "home": "/home",
    "dashboard": "/s/course/dashboards/{dashboard}",
    "SQL": "/s/course/sql?sql=select 1",
}
SCRIPTS = """() => performance.getEntriesByType('resource').filter((e) => e.name.endsWith('.js'))
  .reduce((sum, e) => sum + e.encodedBodySize, 0) / 1000"""
PAINT = """() => new Promise((resolve) => new PerformanceObserver((list) => resolve(list.getEntries().at(-1).startTime))
  .observe({ type: 'largest-contentful-paint', buffered: true }))"""

LIGHTHOUSE = Path(__file__).parent / "lighthouse"
CATEGORIES = ("performance", "accessibility", "best-practices")


async def measure() -> list[Row]:
    with folder() as place:
        server = Server(place / "s", gateway="managed", gateway_domain="localhost")
        server.url = server.url.replace("127.0.0.1", "localhost")
        server.environ["CLOISTER_PUBLIC_URL"] = server.url
        server.declare(place, blueprint())
        server.start()
        try:
            async with chromium_browser() as browser:
                rows, pages, cookies = await _measure(server.url, browser)
            return rows + await asyncio.to_thread(_lighthouse, server.url, pages, cookies)
        finally:
            server.stop()


async def _settle(url: str, browser: Any) -> tuple[Any, str]:
    """Somebody who is in, with a dashboard: what their browser keeps, and the dashboard's id."""
    context = await browser.new_context()
    ask = context.request
    assert (await ask.post(f"{url}/api/v1/auth/demo", data={"email": "a@test.example", "name": "A"})).ok
    form = await (await ask.get(f"{url}/api/v1/spaces/course/registration")).json()
    hashes = {one["name"]: one["hash"] for one in form["agreements"]}
    await ask.post(f"{url}/api/v1/spaces/course/enrolment", data={"signatures": hashes})
    while (mine := await (await ask.get(f"{url}/api/v1/spaces/course/enrolment")).json())["state"] != "active":
        await asyncio.sleep(0.05)
    made = await ask.post(
        f"{url}/api/v1/spaces/course/dashboards", data={"team": mine["team"], "document": {"name": "Rain"}}
    )
    dashboard, state = (await made.json())["id"], await context.storage_state()
    await context.close()
    return state, dashboard


async def _measure(url: str, browser: Any) -> tuple[list[Row], dict[str, str], str]:
    rows = []
    state, dashboard = await _settle(url, browser)
    pages = {name: path.format(dashboard=dashboard) for name, path in PAGES.items()}
    for name, path in pages.items():
        sizes, times = [], []
        for _ in range(RUNS):
            context = await browser.new_context(
                storage_state=None if path == "/" else state, viewport={"width": 1280, "height": 800}
            )
            page = await context.new_page()
            await page.goto(url + path)
            await page.locator("main h1").first.wait_for()
            times.append(await page.evaluate(PAINT))
            await page.wait_for_load_state("networkidle")
            sizes.append(await page.evaluate(SCRIPTS))
            await context.close()
        hold = 250 if name in {"public page", "home"} else None
        rows.append(Row(f"{name}: script of a first visit, compressed", middle(sizes), "kB", "limit", 250, hold))
        rows.append(Row(f"{name}: largest paint, nothing cached", middle(times), "ms"))
        say(f"{name}: {middle(sizes):,.0f} kB, {middle(times):,.0f} ms")
    return rows, pages, "; ".join(f"{one['name']}={one['value']}" for one in state["cookies"])


def _lighthouse(url: str, pages: dict[str, str], cookies: str) -> list[Row]:
    """What Lighthouse says of some pages, as on a desktop; its packages are locked beside this file."""
    tools = {**os.environ, "PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}", "CHROME_PATH": chromium()}
    subprocess.run(["npm", "ci", "--silent", "--ignore-scripts"], cwd=LIGHTHOUSE, env=tools, check=True)
    rows = []
    for name in ("public page", "home", "dashboard"):
        say(f"Lighthouse: {name}")
        headers = [] if name == "public page" else [f"--extra-headers={json.dumps({'Cookie': cookies})}"]
        command = [
            str(LIGHTHOUSE / "node_modules" / ".bin" / "lighthouse"), url + pages[name], "--quiet", "--preset=desktop",
            f"--only-categories={','.join(CATEGORIES)}", "--output=json", "--chrome-flags=--headless=new --no-sandbox",
            *headers,
        ]  # fmt: skip
        found = json.loads(subprocess.run(command, env=tools, check=True, capture_output=True).stdout)
        assert found["finalDisplayedUrl"].startswith(url + pages[name]), found["finalDisplayedUrl"]
        rows += [
            Row(f"{name}: Lighthouse, {category}", found["categories"][category]["score"] * 100, "of 100")
            for category in CATEGORIES
        ]
    return rows
