"""A dashboard of the demo: governed data and a station's files, live, and a share that shows the one and not the other."""

import asyncio
import json
from typing import Any

import aiohttp
import httpx2

from cloister.cli.observatory import DEVICE, HOST, PASSWORD, SENSORS, USER
from cloister.cli.story_steps import check, expect

MODULES = ("http-files", "sql", "line", "value", "table", "bar")
COUNTS = "select arms, count(*) as patients, round(avg(age), 1) as mean_age from actg175 group by arms order by arms"
NAMES = {True: "The trial and the weather", False: "The weather"}


def integration(id_: str, module: str, **values: Any) -> dict[str, Any]:
    return {"id": id_, "module": module, "values": values}


def widget(
    title: str, module: str, place: tuple[int, int, int, int], source: tuple[str, ...], **values: Any
) -> dict[str, Any]:
    x, y, width, height = place
    return {
        "id": title.lower().replace(" ", "-"), "module": module, "title": title, "x": x, "y": y, "width": width,
        "height": height, "values": values, "source": {"integration": source[0], "path": list(source[1:])},
    }  # fmt: skip


def document(port: int, *, trial: bool = True) -> dict[str, Any]:
    """The dashboard, with the part that asks the trial or without it."""
    sensors = ", ".join(SENSORS)
    station = integration(
        "station", "http-files", url=f"http://{HOST}:{port}", devices=DEVICE, sensors=sensors, user=USER,
        password=PASSWORD, seconds=60, **{"from": "2015-11-01", "until": "2015-12-31"},
    )  # fmt: skip
    shown = [
        widget("Rain on the last day", "value", (0, 0, 6, 5), ("station", "latest", DEVICE, "precipitation"), unit="mm"),
        widget("Temperatures", "line", (6, 0, 18, 7), ("station", "rows"), x="time", y=f"{DEVICE}.temp_max, {DEVICE}.temp_min"),
        widget("Wind", "line", (6, 7, 18, 6), ("station", "rows"), x="time", y=f"{DEVICE}.wind", area=True),
    ]  # fmt: skip
    integrations = [station]
    if trial:
        integrations.append(integration("trial", "sql", sql=COUNTS))
        shown.append(widget("Patients by arm", "bar", (0, 5, 6, 8), ("trial", "rows"), x="arms", y="patients"))
    return {"name": NAMES[trial], "integrations": integrations, "widgets": shown}


async def published(http: httpx2.AsyncClient) -> None:
    """Wait until the modules that the dashboard needs can run.

    Raises:
        TimeoutError: when one cannot be built.
    """
    async with asyncio.timeout(120):
        for name in MODULES:
            while (await http.get(f"/modules/{name}/releases/1.0.0")).json().get("state") != "ready":
                await asyncio.sleep(0.2)  # a bounded poll over HTTP, as any client would


async def make(http: httpx2.AsyncClient, space: str, team: str, port: int, *, trial: bool = True) -> dict[str, Any]:
    body = {"team": team, "document": document(port, trial=trial)}
    made: dict[str, Any] = expect(await http.post(f"/spaces/{space}/dashboards", json=body), 201)
    return made


async def look(url: str, path: str, outputs: int) -> tuple[dict[str, Any], list[float]]:
    """Look by a ticket until so many channels have put something out; return their models and when they came."""
    loop = asyncio.get_running_loop()
    begun, times = loop.time(), list[float]()
    models: dict[str, Any] = {}
    async with (
        asyncio.timeout(60),
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{url}/api/v1{path}", max_msg_size=0) as ws,
    ):
        while len(models) < outputs:
            said = json.loads(await ws.receive_str())
            if said["type"] == "TERMINATE":
                raise AssertionError(said["reason"])
            if said["type"] == "OUTPUT" and said["integration"] not in models:
                models[said["integration"]] = said["model"]
                times.append((loop.time() - begun) * 1000)
    return models, times


async def show(url: str, http: httpx2.AsyncClient, space: str, team: str, port: int) -> str:
    """What the story tells of it."""
    await published(http)
    board = await make(http, space, team, port)
    values = board["document"]["integrations"][0]["values"]
    check(values["password"] == {"set": True}, "the password came back")
    ticket = expect(await http.post(f"/spaces/{space}/dashboards/{board['id']}/live"), 200)
    models, times = await look(url, ticket["path"], 2)
    arms, days = models["trial"]["rows"], models["station"]["rows"]
    check(len(arms) == 4 and len(days) == 61, f"{len(arms)} arms, {len(days)} days")
    refused = await http.post(f"/spaces/{space}/dashboards/{board['id']}/shares", json={})
    problem = expect(refused, 403)
    check(problem["code"] == "share.data_not_shareable", refused.text)
    weather = await make(http, space, team, port, trial=False)
    shares = f"/spaces/{space}/dashboards/{weather['id']}/shares"
    share = expect(await http.post(shares, json={"passphrase": "umbrella"}), 201)
    async with httpx2.AsyncClient(base_url=f"{url}/api/v1") as stranger:
        visit = {"token": share["link"].rpartition("#")[2], "passphrase": "umbrella"}
        view = expect(await stranger.post("/shares/view", json=visit), 200)
    seen, _ = await look(url, view["live"]["path"], 3)
    told = json.dumps([view, seen])
    leaked = [word for word in (PASSWORD, weather["id"], "http-files", HOST) if word in told]
    check(not leaked, f"a share tells {leaked}")
    return (
        f"{sum(arm['patients'] for arm in arms)} patients in {len(arms)} arms by governed SQL, {len(days)} days from the "
        f"station: {max(times):.0f} ms from opened to both\n"
        f"a share of it is refused: {problem['detail']}\n"
        f"the weather alone is shared: a stranger with the passphrase sees {len(view['widgets'])} widgets, and neither "
        "password, address nor module"
    )
