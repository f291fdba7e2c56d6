"""A served platform with the built web application, and people in front of a real Chromium."""

import contextlib
import re

import pytest

from tests.support import ARROW, ROOT, blueprint, csv_file, declare, free_port, make_settings, served, until
from tests.workspaces.browser import chromium_browser

SERVES = ["python3", "-m", "http.server", "8000", "--bind", "127.0.0.1"]
SMALL = {"cpus": 1.0, "memory": "256M", "disk": "64M", "scratch": "16M", "processes": 64, "seconds": 60}
AXE = ROOT / "ui" / "node_modules" / "axe-core" / "axe.min.js"
RULES = """async () => (await axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'], iframes: false}))
  .violations.map((v) => `${v.id}: ${v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160) + ' ' + n.failureSummary).join(' | ')}`)"""
EXPECTED = re.compile(r"/api/v1/(me|spaces/[^/]+/teams/[^/]+/workspace|modules/[^/]+/(thumbnail|source))$")
"""Answers that are errors by design: nobody is signed in yet, no notebook was ever started, a draft has no picture,
a module is in no repository."""


class Somebody:
    """One person's window."""

    def __init__(self, page, base):
        self.page, self.base = page, base
        self.faults = []
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: self.faults.append(f"script: {error.message}"))
        page.on("console", self._on_console)

    def _on_console(self, message):
        if message.type == "error" and not EXPECTED.search(message.location.get("url", "")):
            self.faults.append(f"{message.text} {message.location}")

    async def go(self, path):
        await self.page.goto(self.base + path)
        await self.page.locator("main h1").first.wait_for()

    async def call(self, method, path, body=None):
        """Ask the API as the one who is signed in in this window."""
        answer = await self.page.request.fetch(f"{self.base}/api/v1{path}", method=method, data=body)
        assert answer.ok, await answer.text()
        return await answer.json() if await answer.body() else None

    async def sign_in(self, name):
        """As the form does; that people can is tried by those who come as strangers."""
        await self.call("POST", "/auth/demo", {"email": f"{name}@test.example", "name": name.title()})
        await self.go("/home")

    async def team(self):
        """The number of their team in the first of their spaces."""
        return (await self.call("GET", "/me/spaces"))["items"][0]["enrolment"]["team"]

    async def published(self, *names):
        """Whether modules that the platform brings can be used yet."""
        found = (await self.call("GET", "/modules?limit=100"))["items"]
        return set(names) <= {one["name"] for one in found if one["latest"]}

    async def accessible(self):
        """Zero violations of WCAG 2.2 AA that axe can see on the page as it is now."""
        await self.page.wait_for_timeout(400)  # colours fade in
        if not await self.page.evaluate("'axe' in window"):
            session = await self.page.context.new_cdp_session(self.page)  # past the page's own policy, as a tester may
            await session.send("Runtime.evaluate", {"expression": AXE.read_text()})
        assert await self.page.evaluate(RULES) == []
        assert self.faults == []


@pytest.fixture(scope="session")
def built():
    assert (ROOT / "src/cloister/web/ui/index.html").is_file(), "run scripts/ui first"


@pytest.fixture
async def site(tmp_path, built, request):
    port = free_port()
    rain = csv_file(tmp_path, "rain.csv", "day,town,mm\n1,Faro,4.5\n2,Faro,0.0\n1,Porto,12.5\n2,Porto,3.25\n")
    fields = [
        {"name": "country", "type": "country", "label": "Country", "required": True},
        {"name": "honest", "type": "consent", "label": "I will be honest", "required": True},
    ]
    space = blueprint(
        slug="course", title="A course on rain", description="Learn to forecast.", registration=fields,
        agreements=[{"name": "dua", "title": "Data use agreement", "text": "# Terms\n\n1. Be good.\n2. Keep it *here*.\n"}],
        datasets=[{"name": "rain", "title": "Rain in two towns", "keywords": ["weather"],
                   "tables": [{"name": "rain", "source": rain, "columns": {"mm": {"unit": "mm"}}}]}],
        grants=[{"to": "everybody", "dataset": "rain", "allow": ["query", "download"]}],
        environments=[{"name": "python-basic", "packages": ARROW, "app": {"command": SERVES, "port": 8000}}],
        sizes={"small": {**SMALL, "price": 1}, "large": {**SMALL, "memory": "512M", "price": 4}},
        policies={"team_budget": 2, "workspace_disk": "64M"},
    )  # fmt: skip
    options = {
        "gateway": "managed",
        "listen_port": port,
        "public_url": f"http://localhost:{port}",
        "shipped_modules": request.node.get_closest_marker("shipped_modules") is not None,
    }
    async with served(make_settings(tmp_path / "s", **options)) as api:
        await declare(api.platform, space, tmp_path)
        await api.platform.caddy.ready.wait()
        api.base = f"http://localhost:{port}"
        api.space, api.folder = space, tmp_path
        yield api


@pytest.fixture
async def browser():
    async with chromium_browser() as made:
        yield made


@pytest.fixture
async def somebody(site, browser):
    """Open a window; the page and whoever sits before it."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(name=None, **options):
            context = await browser.new_context(
                **{"viewport": {"width": 1280, "height": 850}, "locale": "en-GB", **options}
            )
            stack.push_async_callback(context.close)
            found = Somebody(await context.new_page(), site.base)
            if name is not None:
                await found.sign_in(name)
            return found

        yield make


async def begin_to_register(person):
    """Fill in the first step of the course's form, and go on to the agreements."""
    page = person.page
    await person.go("/s/course/register")
    await page.get_by_label("Country").fill("Portu")
    await page.get_by_role("option", name="Portugal").click()
    await page.get_by_label("I will be honest").check()
    await page.get_by_role("button", name="Next").click()


async def register(person, space="course"):
    """Get somebody who is signed in into a space, as the form does."""
    form = await person.call("GET", f"/spaces/{space}/registration")
    signatures = {one["name"]: one["hash"] for one in form["agreements"]}
    body = {"answers": {"country": "PT", "honest": True}, "signatures": signatures}
    await person.call("POST", f"/spaces/{space}/enrolment", body)

    async def admitted():
        return (await person.call("GET", f"/spaces/{space}/enrolment"))["state"] == "active"

    await until(admitted, 20, 0.05)
