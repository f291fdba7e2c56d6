"""A person in a real browser, and the few things people do in JupyterLab."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

from playwright.async_api import Browser, JSHandle, Locator, Page, async_playwright, expect

from tests.support import ROOT
from tests.workspaces.conftest import Desk, chromium

SCREENSHOTS = ROOT / "docs" / "screenshots"
VIEWPORT = {"width": 1280, "height": 800}
ARGUMENTS = [
    "--no-sandbox", "--headless=new", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--host-resolver-rules=MAP *.localhost 127.0.0.1",
]  # fmt: skip
expect.set_options(timeout=20_000)  # a slow machine is no fault; Playwright's own 5 s is about as long as one takes
LONG = 60_000
"""Milliseconds that a sandbox and a cold JupyterLab may take on a slow machine."""
SETTLED = """async (path) => (await (await fetch('/api/sessions')).json()).some((session) => session.path === path)"""
"""Whether the server calls an open notebook by this name: JupyterLab tells it a moment after its page shows it."""
SAVED = """async ([path, text]) => JSON.stringify(
    (await (await fetch('/api/contents/' + path)).json()).content ?? '').includes(text)"""
EXPECTED = re.compile(r"/favicon\.ico$|\.ipynb\?content=0|\.txt\?content=0")
"""Answers that are errors by JupyterLab's own habit: it asks whether a name is taken before it takes it."""

UPSTREAM = "Cannot read properties of null (reading 'observe')"
"""JupyterLab 4.6's own, when a notebook comes by collaboration before its panel is laid out; it has no effect."""


class Chromium:
    """The browser of an event loop, where tests share one: to start it takes longer than what many of them do in it."""

    loop: asyncio.AbstractEventLoop | None = None
    stack: contextlib.AsyncExitStack | None = None
    browser: Browser | None = None

    @classmethod
    async def get(cls) -> Browser:
        if cls.browser is None or not cls.browser.is_connected():
            await cls.close()
            cls.stack = contextlib.AsyncExitStack()
            cls.browser = await cls.stack.enter_async_context(_launched())
        return cls.browser

    @classmethod
    async def close(cls) -> None:
        if cls.stack is not None:
            await cls.stack.aclose()
        cls.stack = cls.browser = None


@contextlib.asynccontextmanager
async def _launched() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        try:
            yield browser
        finally:
            await browser.close()


@contextlib.asynccontextmanager
async def chromium_browser() -> AsyncIterator[Browser]:
    """A browser; what is opened in it ends with the block."""
    if asyncio.get_running_loop() is not Chromium.loop:
        async with _launched() as browser:
            yield browser
        return
    browser = await Chromium.get()
    others = set(browser.contexts)
    try:
        yield browser
    finally:
        for context in set(browser.contexts) - others:
            await context.close()


class Visitor:
    """One person's browser window, signed in to the platform and at nobody's workspace yet."""

    def __init__(self, desk: Desk, page: Page) -> None:
        self.desk, self.page = desk, page
        self.faults: list[str] = []
        page.set_default_timeout(20_000)
        page.on("response", self._on_response)
        page.on("pageerror", self._on_error)

    def _on_response(self, response) -> None:
        if response.status >= 400 and not EXPECTED.search(response.url):
            self.faults.append(f"{response.status} {response.request.method} {response.url}")

    def _on_error(self, error) -> None:
        if error.message != UPSTREAM:
            self.faults.append(f"script: {error.stack}")

    @classmethod
    async def of(cls, browser: Browser, desk: Desk) -> "Visitor":
        context = await browser.new_context(viewport=VIEWPORT, accept_downloads=True)
        home = f"http://localhost:{desk.port}"
        await context.add_cookies([{"name": "cloister", "value": desk.client.cookies["cloister"], "url": home}])
        return cls(desk, await context.new_page())

    async def number(self) -> str:
        return (await self.desk.client.get("/me")).json()["number"]

    def address(self, path: str) -> str:
        return f"http://{self.desk.host}{path}"

    async def go(self, path: str = "/lab") -> None:
        """Follow a link to a workspace, and wait until JupyterLab can be used."""
        await self.page.goto(self.address(path))
        await self.usable()

    async def usable(self) -> None:
        """Wait until JupyterLab can be used, through the waking page if need be."""
        await expect(self.page.locator("#jp-main-dock-panel")).to_be_visible(timeout=LONG)
        await expect(self.page.locator("#jupyterlab-splash")).to_have_count(0, timeout=LONG)
        await expect(self.page.locator(".jp-FileBrowser .jp-DirListing-content")).to_be_visible(timeout=LONG)

    async def launch(self, category: str, name: str) -> None:
        """Click a card of the launcher."""
        await self.page.locator(f'.jp-LauncherCard[data-category="{category}"]', has_text=name).click()

    # -- notebooks

    async def new_notebook(self, name: str) -> None:
        """Make a notebook and give it a name, by the dialogs that people see."""
        await self.launch("Notebook", "Python 3")
        await self.kernel_idle()
        await self.page.wait_for_function(SETTLED, arg="Untitled.ipynb")
        await self.rename_tab(name)
        await self.page.wait_for_function(SETTLED, arg=name)

    async def rename_tab(self, name: str) -> None:
        await self.page.locator("#jp-main-dock-panel .lm-TabBar-tab.lm-mod-current").click(button="right")
        await self.page.locator(".lm-Menu-item", has_text=re.compile("^Rename")).click()
        dialog = self.page.locator(".jp-Dialog")
        await dialog.locator("input").fill(name)
        await dialog.locator("button.jp-mod-accept").click()
        await expect(self.file(name)).to_be_visible()

    async def kernel_idle(self) -> None:
        await expect(self.notebook).to_be_visible(timeout=LONG)
        await expect(self.page.locator("#jp-main-statusbar")).to_contain_text("Python 3 | Idle", timeout=LONG)

    @property
    def notebook(self) -> Locator:
        return self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook")

    def cell(self, index: int) -> Locator:
        return self.notebook.locator(".jp-Cell").nth(index)

    def output(self, index: int) -> Locator:
        return self.cell(index).locator(".jp-OutputArea-output")

    async def write(self, index: int, text: str) -> None:
        """Write into a cell what was not there before."""
        await expect(self.cell(index)).to_be_visible()
        await self.cell(index).locator(".cm-content").click()
        await self.page.keyboard.press("Control+A")
        await self.page.keyboard.insert_text(text)

    async def run(self, index: int, code: str) -> Locator:
        """Write a cell and run it; return its output."""
        await self.write(index, code)
        await self.page.keyboard.press("Shift+Enter")
        return self.output(index)

    async def save(self, path: str, text: str) -> None:
        """Press Ctrl+S, and wait until the file on the server has a text."""
        await self.page.keyboard.press("Control+S")
        await self.page.wait_for_function(SAVED, arg=[path, text])

    # -- files

    def file(self, name: str) -> Locator:
        return self.page.locator(".jp-FileBrowser .jp-DirListing-item", has_text=re.compile(f"^{re.escape(name)}"))

    async def refresh(self) -> None:
        """Let the file browser look at once; by itself it does every ten seconds."""
        await self.page.get_by_role("button", name="Refresh the file browser").click()

    async def rename_file(self, old: str, new: str) -> None:
        await self.on_file(old, "Rename")
        await self.page.locator(".jp-DirListing-editor").fill(new)
        await self.page.keyboard.press("Enter")
        await expect(self.file(new)).to_be_visible()

    async def upload(self, *files: Path) -> None:
        async with self.page.expect_file_chooser() as chosen:
            await self.page.locator(
                '.jp-FileBrowser-toolbar [data-command="filebrowser:upload"], '
                '.jp-FileBrowser-toolbar [data-jp-item-name="uploader"] button, '
                '.jp-FileBrowser-toolbar [data-jp-item-name="uploader"] jp-button'
            ).first.click()
        await (await chosen.value).set_files([str(file) for file in files])
        for file in files:
            await expect(self.file(file.name)).to_be_visible()

    async def on_file(self, name: str, action: str) -> None:
        """Choose an entry of a file's context menu."""
        await self.file(name).click(button="right")
        await self.page.locator(".lm-Menu-item", has_text=re.compile(f"^{action}")).first.click()

    # -- the platform's word

    @property
    def banner(self) -> Locator:
        return self.page.locator("#cloister-banner")

    def told(self, text: str) -> "asyncio.Future[JSHandle]":
        """Wait from now on until the banner says something, however briefly."""
        said = "(text) => document.getElementById('cloister-banner')?.textContent.includes(text)"
        return asyncio.ensure_future(self.page.wait_for_function(said, arg=text, polling="raf", timeout=LONG))

    async def picture(self, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        await self.page.screenshot(path=SCREENSHOTS / f"{name}.png")
