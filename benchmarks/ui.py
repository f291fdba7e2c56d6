"""The web application: what a first visit loads, and how soon it can be read. In a real Chromium, through Caddy."""

import asyncio
from typing import Any

from tests.chaos.server import Server
from tests.support import blueprint
from tests.workspaces.browser import chromium_browser

from benchmarks.table import Row, folder, middle, say

RUNS = 5
PAGES = {"public page": "/", "home": "/home", "dashboards": "/s/course/dashboards", "SQL": "/s/course/sql?sql=select 1"}
SCRIPTS = """() => performance.getEntriesByType('resource').filter((e) => e.name.endsWith('.js'))
  .reduce((sum, e) => sum + e.encodedBodySize, 0) / 1000"""
PAINT = """() => new Promise((resolve) => new PerformanceObserver((list) => resolve(list.getEntries().at(-1).startTime))
  .observe({ type: 'largest-contentful-paint', buffered: true }))"""


async def measure() -> list[Row]:
    with folder() as place:
        server = Server(place / "s", gateway="managed", gateway_domain="localhost")
        server.url = server.url.replace("127.0.0.1", "localhost")
        server.environ["CLOISTER_PUBLIC_URL"] = server.url
        server.declare(place, blueprint())
        server.start()
        try:
            async with chromium_browser() as browser:
                return await _measure(server.url, browser)
        finally:
            server.stop()


async def _measure(url: str, browser: Any) -> list[Row]:
    rows = []
    state = None
    for name, path in PAGES.items():
        sizes, times = [], []
        for _ in range(RUNS):
            context = await browser.new_context(storage_state=state, viewport={"width": 1280, "height": 800})
            page = await context.new_page()
            if state is None and path != "/":
                answer = await page.request.post(
                    f"{url}/api/v1/auth/demo", data={"email": "a@test.example", "name": "A"}
                )
                assert answer.ok
                form = await (await page.request.get(f"{url}/api/v1/spaces/course/registration")).json()
                hashes = {one["name"]: one["hash"] for one in form["agreements"]}
                await page.request.post(f"{url}/api/v1/spaces/course/enrolment", data={"signatures": hashes})
                await asyncio.sleep(1)
                state = await context.storage_state()
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
    return rows
