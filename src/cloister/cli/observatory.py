"""The demo's station: a web server of dated text files behind a password, as observatories have them."""

import asyncio
import base64
import csv
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from secrets import compare_digest

from aiohttp import web

HOST = "127.0.0.2"
"""This machine, by a name of its own: it is the one private address that the demo's sandboxes may reach."""
DEVICE, USER, PASSWORD = "seatac", "station", "rain-or-shine"
SENSORS = ("temp_max", "temp_min", "wind", "precipitation")
SOURCE = "_data/seattle-weather.csv"


def _read() -> dict[str, dict[str, str]]:
    """The observations by day, as NOAA has them for Seattle-Tacoma airport."""
    text = files("vega_datasets").joinpath(SOURCE).read_text()
    return {row["date"].replace("/", "-"): row for row in csv.DictReader(io.StringIO(text))}


@asynccontextmanager
async def observatory() -> AsyncIterator[int]:
    """Serve the files; the block is given the port."""
    days = await asyncio.to_thread(_read)
    word = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    async def answer(request: web.Request) -> web.Response:
        if not compare_digest(request.headers.get("Authorization", ""), word):
            return web.Response(status=401, headers={"WWW-Authenticate": "Basic"})
        parts = request.match_info
        row = days.get(parts["day"])
        if parts["device"] != DEVICE or parts["sensor"] not in SENSORS or row is None:
            return web.Response(status=404)
        return web.Response(text=f"# {parts['sensor']}\n{parts['day']} {row[parts['sensor']]}\n")

    app = web.Application()
    app.router.add_get("/{device}/{sensor}/{day}.txt", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, HOST, 0)
        await site.start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
