"""The modules that come with the platform: each integration against a real server, each widget drawn in Chromium."""

import asyncio
import base64
import contextlib
import subprocess
from ipaddress import ip_network

import asyncpg
import pytest
from aiohttp import web
from paho.mqtt import publish

from cloister.bootstrap.platform import part_directory
from cloister.modules.manifest import describe
from cloister.modules.shipped import read_all
from tests.live.conftest import live_platform
from tests.support import Postgres, free_port, until
from tests.workspaces.browser import SCREENSHOTS, chromium_browser

SHIPPED = read_all(part_directory("modules"))
HOST = "127.0.0.2"
"""This machine by another name than its usual ones, which programs ask without the proxy."""
WORD = "Basic " + base64.b64encode(b"ada:s3cret-of-ada").decode()


@pytest.mark.parametrize("name", SHIPPED)
def test_each_says_what_it_is(name):
    files = SHIPPED[name]
    described = describe(files)
    assert described.manifest.title and described.manifest.summary and described.manifest.licence
    assert files["README.md"].startswith(f"# {described.manifest.title}".encode())
    assert files["thumbnail.svg"].startswith(b"<svg")
    assert all(entry.label for entry in described.model)


@contextlib.asynccontextmanager
async def file_server():
    """JSON, a CSV file, and an observatory's dated files behind a password."""

    async def answer(request):
        path = request.match_info["path"]
        if path == "numbers.json":
            return web.json_response({"degrees": 21.5})
        if path == "table.csv":
            return web.Response(text="place;degrees\nLisbon;21.5\nFaro;\n")
        if request.headers.get("Authorization") != WORD:
            raise web.HTTPUnauthorized
        if path == "mast/wind/2026-01-01.txt":
            return web.Response(text="# wind\n2026-01-01T00:00 4.5\n2026-01-01T01:00 5.5\n")
        if path == "mast/wind/2026-01-02.txt":
            return web.Response(text="2026-01-02T00:00;6\n")
        raise web.HTTPNotFound

    app = web.Application()
    app.router.add_get("/{path:.+}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, HOST, port).start()
    try:
        yield port
    finally:
        await runner.cleanup()


@contextlib.contextmanager
def broker(folder):
    port = free_port()
    passwords = folder / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "ada", "s3cret-of-ada"], check=True, capture_output=True)
    passwords.chmod(0o644)
    file = folder / "mosquitto.conf"
    file.write_text(f"listener {port} 127.0.0.1\npassword_file {passwords}\nuser root\n")
    process = subprocess.Popen(
        ["/usr/sbin/mosquitto", "-c", file], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield port
    finally:
        process.kill()
        process.wait()


@contextlib.asynccontextmanager
async def shipped(folder, *ports):
    """A platform that has published what it ships, in whose space some ports of this machine may be reached."""
    hosts = ["localhost", HOST]
    policies = {"egress": [{"host": host, "ports": list(ports)} for host in hosts]} if ports else {}
    options = {"shipped_modules": True, "egress_allow_networks": [ip_network("127.0.0.0/8"), ip_network("::1/128")]}
    async with live_platform(folder, policies, **options) as studio:
        ada = await studio.person("ada")

        async def published():
            found = (await ada.get("/modules?limit=100")).json()["items"]
            return found if len(found) == len(SHIPPED) else None

        await until(published, 300, 0.2)
        yield studio, ada


async def test_integrations_fetch_from_real_servers(tmp_path):
    postgres = Postgres()
    try:
        dsn = await postgres.new_database()
        connection = await asyncpg.connect(dsn)
        await connection.execute("CREATE TABLE t AS SELECT 'Lisbon' AS place, 21.5 AS degrees")
        await connection.close()
        async with file_server() as files:
            with broker(tmp_path) as mqtt:
                async with shipped(tmp_path, files, mqtt, postgres.port) as (studio, ada):
                    await _fetched(studio, ada, files, mqtt, postgres.port, dsn.rsplit("/", 1)[1])
    finally:
        postgres.close()


async def _fetched(studio, ada, files, mqtt, postgres, database):
    secret = {"user": "ada", "password": "s3cret-of-ada"}
    at = f"http://{HOST}:{files}"
    uses = {
        "http-json": {"url": f"{at}/numbers.json"},
        "csv-url": {"url": f"{at}/table.csv", "separator": ";"},
        "http-files": {
            "url": at, "devices": "mast", "sensors": "wind, rain", "from": "2026-01-01", "until": "2026-01-02", **secret
        },
        "sql": {"sql": "select day, mm from rain order by day"},
        "mqtt": {"broker": f"mqtt://localhost:{mqtt}", "topics": "house/#", **secret},
        "postgresql": {
            "server": f"postgresql://localhost:{postgres}/{database}", "user": "cloister", "tls": "disable",
            "sql": "select * from t",
        },
        "simulated-sensors": {"stations": 2}, "uptime": {"url": f"{at}/nothing-here.json"},
    }  # fmt: skip
    board = await studio.dashboard(ada, [{"id": name, "module": name, "values": v} for name, v in uses.items()])
    models = {}

    async def talk():
        auth = {"username": "ada", "password": secret["password"]}
        while True:
            await asyncio.to_thread(
                publish.single, "house/kitchen", '{"degrees": 19}', hostname="127.0.0.1", port=mqtt, auth=auth
            )
            await asyncio.sleep(0.3)

    async with studio.look(ada, board) as viewer:
        talking = asyncio.create_task(talk())
        try:
            while len(models) < len(uses):
                said = await viewer.output(seconds=60)
                models.setdefault(said["integration"], said.get("model"))
        except BaseException:
            print(
                "MISSING",
                uses.keys() - models.keys(),
                [m for m in viewer.heard if m["type"] == "STATUS" and m["integration"] not in models],
            )
            raise
        finally:
            talking.cancel()
    assert models["http-json"] == {"degrees": 21.5}
    assert models["csv-url"] == {
        "columns": ["place", "degrees"], "count": 2,
        "rows": [{"place": "Lisbon", "degrees": 21.5}, {"place": "Faro", "degrees": ""}],
    }  # fmt: skip
    observed = models["http-files"]
    assert [row["mast.wind"] for row in observed["rows"]] == [4.5, 5.5, 6.0]
    assert observed["latest"] == {"mast": {"wind": 6.0}}
    assert len(observed["missing"]) == 2
    assert models["sql"]["first"] == {"day": 1, "mm": 4.5}
    assert models["mqtt"]["topics"] == {"house/kitchen": {"degrees": 19}}
    assert models["postgresql"]["rows"] == [{"place": "Lisbon", "degrees": 21.5}]
    assert len(models["simulated-sensors"]["stations"]) == 2
    assert (models["uptime"]["light"], models["uptime"]["status"], models["uptime"]["percent"]) == ("red", 401, 0)


PICTURE = base64.b64encode(
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 4"><rect width="8" height="4" fill="teal"/></svg>'
).decode()
PAINTER = f"""
import cloister, time
matrix = [[(x * y) % 7 for x in range(8)] for y in range(5)]
cloister.output({{"picture": "{PICTURE}", "matrix": matrix, "word": "up"}})
time.sleep(60)
"""
DRAWN = {
    "value": (["mean", "temperature"], {"unit": "°C"}), "gauge": (["mean", "humidity"], {"unit": "%"}),
    "line": (["mean", "wind"], {"area": True}), "bar": (["stations"], {"x": "place", "y": "temperature, wind"}),
    "scatter": (["stations"], {"x": "humidity", "y": "wind", "group": "place"}), "table": (["stations"], {}),
    "map": (["stations"], {"value": "temperature", "label": "place"}), "text": (["at"], {"heading": "Weather", "text": "At {}."}),
    "log": (["mean"], {}), "orientation": (["orientation"], {}),
}  # fmt: skip
PAINTED = {"image": ["picture"], "heat-map": ["matrix"], "status-light": ["word"]}
MARKS = """() => (document.body?.innerText ?? "").trim().length + document.querySelectorAll(
    "svg path, svg circle, svg rect, canvas, img[src^='data:image']").length"""


async def test_each_widget_draws_in_a_browser_without_a_fault(tmp_path):
    async with shipped(tmp_path) as (studio, ada), chromium_browser() as browser:
        await studio.publish(ada, "painter", {"main.py": PAINTER})
        wanted = [(name, "sensors", path, values) for name, (path, values) in DRAWN.items()]
        wanted += [(name, "painter", path, {}) for name, path in PAINTED.items()]
        assert {name for name, *_ in wanted} == {name for name, files in SHIPPED.items() if "index.html" in files}
        widgets = [
            {
                "id": name, "module": name, "title": name, "x": n % 4 * 6, "y": n // 4 * 5, "width": 6, "height": 5,
                "values": values, "source": {"integration": integration, "path": path},
            }
            for n, (name, integration, path, values) in enumerate(wanted)
        ]  # fmt: skip
        sensors = {"id": "sensors", "module": "simulated-sensors", "values": {"stations": 6, "seconds": 0.5}}
        board = await studio.dashboard(ada, [sensors, {"id": "painter", "module": "painter"}], widgets, "Everything")
        link = (await ada.post(f"/spaces/cup/dashboards/{board['id']}/shares", json={})).json()["link"]
        page = await browser.new_page(viewport={"width": 1400, "height": 1000})
        faults = []
        page.on(
            "console",
            lambda message: faults.append(f"{message.text} {message.location}") if message.type == "error" else None,
        )
        page.on("pageerror", lambda error: faults.append(error.message))
        await page.goto(link)

        async def drawn():
            frames = [frame for frame in page.frames if "/w/" in frame.url]
            return len(frames) == len(widgets) and all([await frame.evaluate(MARKS) for frame in frames])

        await until(drawn, 60, 0.2)
        await page.wait_for_timeout(3000)  # for the picture: lines that are made of some values
        await page.screenshot(path=SCREENSHOTS / "widgets.png")
        assert faults == []
