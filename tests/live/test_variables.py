"""What visitors of a share may set: what its owner names, each for themselves, and never a secret or a host."""

import pytest

from tests.live.conftest import PAGE, live_platform
from tests.support import until
from tests.workspaces.browser import chromium_browser

CONFIG = [
    {"type": "text", "name": "place", "label": "Place", "default": "Porto"},
    {"type": "slider", "name": "days", "label": "Days", "default": 3, "min": 1, "max": 30},
    {"type": "password", "name": "key", "label": "Key", "default": ""},
    {"type": "text", "name": "url", "label": "Address", "default": ""},
]
MAIN = """
import time, cloister
cloister.output({"place": cloister.MODEL["place"], "days": cloister.MODEL["days"], "key": bool(cloister.MODEL["key"])})
time.sleep(600)
"""


async def shared(studio, client, name, *variables):
    files = {"main.py": MAIN, "config.json": CONFIG, "module.yaml": "permissions: {hosts_from: [url]}\n"}
    if (await client.get(f"/modules/{name}")).status_code == 404:
        assert (await studio.publish(client, name, files))["state"] == "ready"
        assert (await studio.publish(client, f"{name}-page", {"index.html": PAGE}))["state"] == "ready"
    use = {"id": "i", "module": name, "values": {"place": "Lisbon", "key": "s3cret"}}
    widget = {"id": "w", "module": f"{name}-page", "source": {"integration": "i", "path": []}}
    board = await studio.dashboard(client, [use], [widget])
    body = {"variables": [{"integration": "i", "name": name} for name in variables]}
    return board, await client.post(f"/spaces/cup/dashboards/{board['id']}/shares", json=body)


async def visit(studio, share, **values):
    token = share.json()["link"].partition("#")[2]
    return await studio.api.anonymous().post("/shares/view", json={"token": token, "values": values})


async def shown(studio, answer):
    assert answer.status_code == 200, answer.text
    async with studio.socket(answer.json()["live"]["path"]) as viewer:
        return await viewer.hear(lambda m: m["type"] in {"OUTPUT", "TERMINATE"})


@pytest.fixture
async def studio(tmp_path):
    async with live_platform(tmp_path, gateway="off", share_variants=2) as made:
        yield made


async def test_visitors_set_what_they_may_each_for_themselves(studio):
    ann = await studio.person("ann")
    board, share = await shared(studio, ann, "look", "place", "days")
    assert share.status_code == 201, share.text
    seen = await visit(studio, share)
    assert [(v["id"], v["label"], v["type"], v["value"]) for v in seen.json()["variables"]] == [
        ("v1", "Place", "text", "Lisbon"), ("v2", "Days", "slider", 3),
    ]  # fmt: skip
    assert "look" not in seen.text.replace("look-page", ""), "what a module is called stays with the team"
    other = await visit(studio, share, v1="Faro", v2=7)
    assert (await shown(studio, other))["model"] == {"place": "Faro", "days": 7, "key": True}
    assert (await shown(studio, seen))["model"] == {"place": "Lisbon", "days": 3, "key": True}
    async with studio.look(ann, board) as member:
        assert (await member.output())["model"]["place"] == "Lisbon"
    same = await visit(studio, share, v1="Lisbon", v2=3)
    await shown(studio, same)
    live = studio.api.platform.live.sessions
    assert len([s for s in live.values() if not s.values]) == 1, "the same values are the same session"


async def test_what_they_may_not_set_they_cannot(studio):
    bob = await studio.person("bob")
    for name in ("key", "url", "nothing"):
        _, refused = await shared(studio, bob, "look", name)
        assert refused.json()["code"] == "module.bad_configuration", name
        assert "cannot be set by those who look" in refused.json()["detail"]
    _, share = await shared(studio, bob, "look", "days")
    for values, said in (({"v2": "x"}, "no such setting"), ({"v1": 99}, "from 1 to 30"), ({"v1": "x"}, "is a number")):
        refused = await visit(studio, share, **values)
        assert refused.status_code == 422
        assert said in refused.json()["detail"]


async def test_strangers_choices_cost_so_much_and_no_more(studio):
    cleo = await studio.person("cleo")
    _, share = await shared(studio, cleo, "look", "days")
    async with (
        studio.socket((await visit(studio, share, v1=5)).json()["live"]["path"]) as one,
        studio.socket((await visit(studio, share, v1=6)).json()["live"]["path"]) as two,
    ):
        await one.output()
        await two.output()
        turned = await shown(studio, await visit(studio, share, v1=7))
        assert (turned["type"], turned["code"]) == ("TERMINATE", "share.too_many_variants")
        assert (await shown(studio, await visit(studio, share)))["model"]["days"] == 3, "the dashboard itself goes on"

    async def free():
        return not any(s.watched for s in studio.api.platform.live.sessions.values())

    await until(free)
    assert (await shown(studio, await visit(studio, share, v1=7)))["model"]["days"] == 7, "who has left makes room"


async def test_in_a_browser_a_value_is_chosen_and_stays_in_the_address(tmp_path):
    async with live_platform(tmp_path) as studio, chromium_browser() as browser:
        dora = await studio.person("dora")
        _, share = await shared(studio, dora, "look", "place", "days")
        page = await browser.new_page()
        await page.goto(share.json()["link"])
        frame = page.frame_locator("iframe")
        await frame.get_by_text('"Lisbon"').wait_for(timeout=30_000)
        await page.get_by_label("Place").fill("Faro")
        await page.get_by_label("Place").press("Enter")
        await frame.get_by_text('"Faro"').wait_for(timeout=30_000)
        assert "v1=%22Faro%22" in page.url
        await page.reload()
        await frame.get_by_text('"Faro"').wait_for(timeout=30_000)
        assert await page.get_by_label("Place").input_value() == "Faro"
