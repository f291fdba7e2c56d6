"""What a module, a visitor or a mate may not do to the others, and what ends as planned."""

import asyncio
import json
import time

from tests.live.conftest import CLOCK, CONFIG, SECRET, clock
from tests.live.test_rights import _join, _save
from tests.support import until

HEAVY = """
import cloister
deep = list(range(60000))
for level in range(150):
    deep = [level, deep]
n = 0
while True:
    n += 1
    cloister.output({"n": n, "deep": [n, deep]})
"""


async def test_large_and_deep_outputs_at_full_speed_leave_everybody_else_their_time(studio):
    ada = await studio.person("ada")
    await studio.publish(ada, "heavy", {"main.py": HEAVY})
    await studio.publish(ada, "page", {"index.html": "<body></body>"})
    widgets = [
        {"id": f"w{n}", "module": "page", "y": n, "height": 1, "source": {"integration": "h", "path": []}}
        for n in range(20)
    ]
    board = await studio.dashboard(ada, [{"id": "h", "module": "heavy"}], widgets)
    share = (await ada.post(f"/spaces/cup/dashboards/{board['id']}/shares", json={})).json()
    view = await studio.api.anonymous().post("/shares/view", json={"token": share["link"].rpartition("#")[2]})
    lags = []

    async def measure():
        while True:
            begun = time.monotonic()
            await asyncio.sleep(0.01)
            lags.append(time.monotonic() - begun - 0.01)

    async with studio.look(ada, board) as viewer, studio.socket(view.json()["live"]["path"]) as visitor:
        await viewer.output()
        await visitor.output("w19")
        measuring = asyncio.create_task(measure())
        first = (await viewer.output())["seq"]
        last = await viewer.hear(lambda m: m["type"] == "OUTPUT" and m["seq"] >= first + 3)
        measuring.cancel()
    assert last["seq"] >= first + 3, "it goes on"
    assert sorted(lags)[len(lags) * 9 // 10] < 0.25, sorted(lags)[-5:]


async def test_who_signs_out_or_loses_a_token_looks_no_more_within_a_second(studio):
    ada = await studio.person("ada")
    await studio.publish(ada, "clock", {"main.py": CLOCK, "config.json": CONFIG})
    board = await studio.dashboard(ada, [clock()])
    made = (await ada.post("/me/tokens", json={"name": "wall", "scopes": ["dashboard.*"]})).json()
    wall = studio.api.anonymous(headers={"Authorization": f"Bearer {made['token']}"})
    async with studio.look(wall, board) as by_token, studio.look(ada, board) as by_session:
        await by_token.output()
        await by_session.output()
        begun = time.monotonic()
        assert (await ada.delete(f"/me/tokens/{made['id']}")).status_code == 204
        await by_token.end()
        assert time.monotonic() - begun < 1
        await by_session.output()
        begun = time.monotonic()
        assert (await ada.post("/auth/sign-out")).status_code < 300
        await by_session.end()
        assert time.monotonic() - begun < 1


async def test_a_release_that_reaches_more_hosts_does_not_take_anothers_secret_there(studio):
    author, ada = await studio.person("author"), await studio.person("ada")
    files = {"main.py": CLOCK, "config.json": CONFIG}
    needs = "kind: integration\nruntime: python\npermissions: {hosts: [{host: HOST}]}\n"
    await studio.publish(author, "poller", {**files, "module.yaml": needs.replace("HOST", "a.example")})
    ben = await _join(studio, ada, "ben")
    board = await studio.dashboard(ada, [{"id": "a", "module": "poller", "values": {"key": SECRET}}])
    await studio.publish(author, "poller", {**files, "module.yaml": needs.replace("HOST", "b.example")}, "1.1.0")

    async def accepted(client):
        now = (await client.get(f"/spaces/cup/dashboards/{board['id']}")).json()
        one = {**now["document"]["integrations"][0], "accepts": "1.1.0"}
        saved = await _save(client, now, {**now["document"], "integrations": [one]})
        assert saved.status_code == 200, saved.text
        return saved.json()["document"]["integrations"][0]["values"]

    assert "key" not in await accepted(ben), "ada gave it for a.example"
    await ada.post(f"/spaces/cup/dashboards/{board['id']}/revert", json={"version": 1}, headers={"If-Match": "*"})
    assert (await accepted(ada))["key"] == {"set": True}, "one's own goes where one says"


async def test_a_copy_is_made_though_a_part_of_it_was_taken_away_by_its_author(studio):
    ada = await studio.person("ada")
    for name in ("clock", "other"):
        await studio.publish(ada, name, {"main.py": CLOCK, "config.json": CONFIG})
    await studio.publish(ada, "page", {"index.html": "<body></body>"})
    board = await studio.dashboard(ada, [clock(), {"id": "o", "module": "other"}], [{"id": "w", "module": "page"}])
    await studio.publish(ada, "clock", {"main.py": CLOCK + "# newer"}, "1.0.1")
    for gone in ("clock/releases/1.0.0", "other/releases/1.0.0", "page/releases/1.0.0"):
        assert (await ada.delete(f"/modules/{gone}")).status_code == 204
    copied = await ada.post(f"/spaces/cup/dashboards/{board['id']}/copies")
    assert copied.status_code == 201, copied.text
    parts = (await ada.get(f"/spaces/cup/dashboards/{copied.json()['id']}/parts")).json()["items"]
    assert {part["id"]: part["version"] for part in parts} == {"clock": "1.0.1", "o": None, "w": None}
    elsewhere = (await ada.get(f"/spaces/cup/dashboards/{board['id']}/export")).json()
    elsewhere["integrations"] = [{**elsewhere["integrations"][0], "accepts": "7.0.0"}]
    brought = await ada.post(
        "/spaces/cup/dashboards", json={"team": ada.team, "document": {**elsewhere, "widgets": []}}
    )
    assert brought.json()["document"]["integrations"][0]["accepts"] == "1.0.1", brought.text


async def test_a_run_that_is_longer_than_its_limit_is_ended_and_begins_anew_as_planned(studio):
    ada = await studio.person("ada")
    main = "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n" + CLOCK
    needs = "kind: integration\nruntime: python\npermissions: {seconds: 2}\n"
    await studio.publish(ada, "clock", {"main.py": main, "config.json": CONFIG, "module.yaml": needs})
    board = await studio.dashboard(ada, [clock()])
    async with studio.look(ada, board) as viewer:
        await viewer.output()
        first = (await ada.get("/spaces/cup/sandboxes?live=true")).json()["items"][0]["id"]
        await viewer.hear(lambda m: m["type"] == "OUTPUT" and m.get("model", {}).get("n") == 1)
        states = [m["state"] for m in viewer.heard if m["type"] == "STATUS" and m.get("state")]
        assert "red" not in states, "nothing is wrong"
        live = (await ada.get("/spaces/cup/sandboxes?live=true")).json()["items"]
        assert first not in [one["id"] for one in live if one["state"] == "running"]


async def test_who_saves_while_an_integration_is_being_asked_for_leaves_no_sandbox_behind(studio, monkeypatch):
    platform = studio.api.platform
    ada = await studio.person("ada")
    await studio.publish(ada, "clock", {"main.py": CLOCK, "config.json": CONFIG})
    board = await studio.dashboard(ada, [clock(place="Faro")])
    real, asked = platform.sandboxes.request, asyncio.Event()

    async def slow(*arguments, **named):
        row = await real(*arguments, **named)
        if row.purpose == "integration" and not asked.is_set():
            asked.set()
            await asyncio.shield(asyncio.sleep(0.5))
        return row

    monkeypatch.setattr(platform.sandboxes, "request", slow)
    async with studio.look(ada, board) as viewer:
        await asked.wait()
        document = {**board["document"], "integrations": [clock(place="Porto")]}
        assert (await _save(ada, board, document)).status_code == 200
        await viewer.hear(lambda m: m["type"] == "OUTPUT" and m.get("model", {}).get("place") == "Porto")

        async def alone():
            live = (await ada.get("/spaces/cup/sandboxes?live=true")).json()["items"]
            return len([one for one in live if one["purpose"] == "integration"]) == 1

        await until(alone, 10)
        assert "Faro" not in json.dumps(viewer.heard)


async def test_a_passphrase_is_weighed_while_others_write(studio, monkeypatch):
    ada = await studio.person("ada")
    board = await studio.dashboard(ada, [])
    made = await ada.post(f"/spaces/cup/dashboards/{board['id']}/shares", json={"passphrase": "open sesame"})
    visit = {"token": made.json()["link"].rpartition("#")[2], "passphrase": "open sesame"}
    begun, may_end = asyncio.Event(), []
    loop, real = asyncio.get_running_loop(), studio.api.platform.shares.check_passphrase

    def slow(share, given):
        loop.call_soon_threadsafe(begun.set)
        while not may_end:
            time.sleep(0.01)
        real(share, given)

    monkeypatch.setattr(studio.api.platform.shares, "check_passphrase", slow)
    looking = asyncio.create_task(studio.api.anonymous().post("/shares/view", json=visit))
    await begun.wait()
    async with asyncio.timeout(10):
        assert (await ada.post("/modules", json={"name": "meanwhile", "files": {"main.py": "1"}})).status_code == 201
    may_end.append(True)
    assert (await looking).status_code == 200
