"""Whose rights an integration has, and what was accepted of it: with real sandboxes."""

import json

import aiohttp
import pytest

from tests.live.conftest import CLOCK, CONFIG, SECRET, clock
from tests.support import until

RAIN = """
const cloister = require("cloister");
setInterval(() => cloister.sql(cloister.MODEL.sql).then(
  (rows) => cloister.output({ rows }), (error) => cloister.output({ refused: error.code })), 200);
"""
ASKS = [{"type": "text", "name": "sql", "label": "SQL", "default": ""}]
GOVERNED = "kind: integration\nruntime: python\npermissions: {datasets: true}\n"


async def _join(studio, mate, name):
    other = await studio.api.member(name, "cup")
    code = (await mate.post(f"/spaces/cup/teams/{mate.team}/invitations")).json()["code"]
    assert (await other.post("/spaces/cup/join", json={"code": code})).status_code == 200
    return other


async def _save(client, board, document):
    url = f"/spaces/cup/dashboards/{board['id']}"
    etag = (await client.get(url)).headers["ETag"]
    return await client.put(url, json=document, headers={"If-Match": etag})


async def test_what_a_mate_makes_of_an_integration_runs_with_the_mates_rights(studio):
    ada = await studio.person("ada")
    needs = GOVERNED.replace("python", "node")
    await studio.publish(ada, "rain", {"index.js": RAIN, "config.json": ASKS, "module.yaml": needs})
    ben = await _join(studio, ada, "ben")
    steward = await studio.api.sign_in("steward")
    number = (await ada.get("/me")).json()["number"]
    grants = (await steward.get("/spaces/cup/grants")).json()["items"]
    await steward.delete(f"/spaces/cup/grants/{grants[0]['id']}")
    given = await steward.post(
        "/spaces/cup/grants", json={"to": f"person:{number}", "dataset": "rain", "allow": ["query"]}
    )
    assert given.status_code == 201, given.text
    board = await studio.dashboard(ada, [{"id": "a", "module": "rain", "values": {"sql": "select 1 as one from rain"}}])
    async with studio.look(ben, board) as viewer:
        await viewer.hear(lambda m: "rows" in str(m.get("model", "")), 40)
        moved = {**board["document"], "background": "#ffffff"}
        assert (await _save(ben, board, moved)).status_code == 200, "what does not touch it leaves it Ada's"
        changed = {**moved, "integrations": [{"id": "a", "module": "rain", "values": {"sql": "select * from rain"}}]}
        assert (await _save(ben, board, changed)).status_code == 200
        await viewer.hear(lambda m: "refused" in str(m.get("model", "")), 40)


async def test_a_module_asks_the_data_that_it_named_and_no_other(studio):
    ada = await studio.person("ada")
    files = {"index.js": RAIN, "config.json": ASKS}
    needs = GOVERNED.replace("python", "node").replace("true", "[rain]")
    await studio.publish(ada, "rain", {**files, "module.yaml": needs})
    board = await studio.dashboard(ada, [{"id": "a", "module": "rain", "values": {"sql": "select 1 as one from rain"}}])
    async with studio.look(ada, board) as viewer:
        await viewer.hear(lambda m: "rows" in str(m.get("model", "")), 40)
        refused = await ada.post(f"/spaces/cup/dashboards/{board['id']}/shares", json={})
        assert refused.json()["code"] == "share.data_not_shareable"
        other = await studio.publish(ada, "rain", {"module.yaml": needs.replace("rain", "tides")}, "1.1.0")
        assert other["asks_more"] == ["ask tides"]
        document = {**board["document"], "integrations": [{**board["document"]["integrations"][0], "version": "1.1.0"}]}
        assert (await _save(ada, board, document)).status_code == 200
        await viewer.hear(lambda m: "refused" in str(m.get("model", "")), 40)
        shared = await ada.post(f"/spaces/cup/dashboards/{board['id']}/shares", json={})
        assert shared.status_code == 201, "it can ask nothing that may not leave"
        visit = {"token": shared.json()["link"].partition("#")[2]}
        seen = await studio.api.anonymous().post("/shares/view", json=visit)
        async with studio.socket(seen.json()["live"]["path"]) as stranger:
            await studio.api.platform.live.look()
            await studio.api.platform.live.look()
            with pytest.raises(TimeoutError):
                await stranger.hear(lambda m: m["type"] == "TERMINATE", 1)


async def test_anothers_secret_is_not_sent_to_a_host_that_one_chose_oneself(studio):
    ada = await studio.person("ada")
    config = [{"type": "text", "name": "url", "label": "URL"}, {"type": "password", "name": "key", "label": "Key"}]
    needs = "kind: integration\nruntime: python\npermissions: {hosts_from: [url]}\n"
    await studio.publish(ada, "poller", {"main.py": CLOCK, "config.json": config, "module.yaml": needs})
    ben = await _join(studio, ada, "ben")
    values = {"url": "https://a.example", "key": SECRET}
    board = await studio.dashboard(ada, [{"id": "a", "module": "poller", "values": values}])
    taken = {**board["document"], "integrations": [
        {"id": "a", "module": "poller", "values": {"url": "https://b.example", "key": {"set": True}}}
    ]}  # fmt: skip
    saved = (await _save(ben, board, taken)).json()
    assert "key" not in saved["document"]["integrations"][0]["values"]


async def test_a_release_that_asks_for_more_runs_only_when_that_is_accepted(studio):
    author, ada = await studio.person("author"), await studio.person("ada")
    await studio.publish(author, "clock", {"main.py": CLOCK, "config.json": CONFIG})
    board = await studio.dashboard(ada, [clock(place="Faro")])
    accepted = board["document"]["integrations"][0]["accepts"]
    assert accepted == "1.0.0"
    await studio.publish(
        author, "clock", {"main.py": CLOCK.replace("hello", "again"), "module.yaml": GOVERNED}, "1.0.1"
    )
    parts = f"/spaces/cup/dashboards/{board['id']}/parts"
    part = (await ada.get(parts)).json()["items"][0]
    assert (part["version"], part["newer"], part["asks_more"]) == ("1.0.0", "1.0.1", ["ask any governed data"])
    async with studio.look(ada, board) as viewer:
        await viewer.printed("hello", 30)
        document = {**board["document"], "integrations": [{**board["document"]["integrations"][0], "accepts": "1.0.1"}]}
        assert (await _save(ada, board, document)).status_code == 200
        await viewer.printed("again", 30)
    part = (await ada.get(parts)).json()["items"][0]
    assert (part["version"], part["newer"]) == ("1.0.1", None)


async def test_a_removed_release_ends_where_it_runs_and_the_rest_can_still_be_changed(studio):
    ada = await studio.person("ada")
    await studio.publish(ada, "clock", {"main.py": CLOCK, "config.json": CONFIG})
    board = await studio.dashboard(ada, [clock(place="Faro")])
    async with studio.look(ada, board) as viewer:
        await viewer.output()
        assert (await ada.delete("/modules/clock/releases/1.0.0")).status_code == 204
        said = await viewer.state("red")
        assert "no release" in said["reason"]
    renamed = await _save(ada, board, {**board["document"], "name": "Still mine"})
    assert renamed.status_code == 200, renamed.text
    share = await ada.post(f"/spaces/cup/dashboards/{board['id']}/shares", json={})
    view = await studio.api.anonymous().post("/shares/view", json={"token": share.json()["link"].rsplit("#", 1)[1]})
    assert view.status_code == 200
    assert "clock" not in view.text.lower().replace("still mine", "")


async def test_node_asks_governed_data_and_odd_values_are_said_in_json(studio):
    ada = await studio.person("ada")
    node = (
        "const cloister = require('cloister');\n"
        "cloister.sql('select day, mm from rain where day > $day order by day', { day: 1 })"
        ".then((rows) => setInterval(() => cloister.output(rows), 50), (error) => console.error(error));\n"
    )
    await studio.publish(ada, "node-rain", {"index.js": node, "module.yaml": GOVERNED.replace("python", "node")})
    python = (
        "import cloister, datetime, decimal, time\n"
        "cloister.output([decimal.Decimal('1.5'), decimal.Decimal(2), float('nan'), b'a', datetime.timedelta(minutes=1)])\n"
        "time.sleep(60)\n"
    )
    await studio.publish(ada, "odd", {"main.py": python})
    board = await studio.dashboard(ada, [{"id": "n", "module": "node-rain"}, {"id": "o", "module": "odd"}])
    async with studio.look(ada, board) as viewer:
        said = {}
        while len(said) < 2:
            one = await viewer.output()
            said[one["integration"]] = one["model"]
    assert said["n"] == [{"day": 2, "mm": 0}, {"day": 3, "mm": 12.5}]
    assert said["o"] == [1.5, 2, None, "YQ==", 60]


async def test_the_password_of_a_draft_on_trial_is_masked_too(studio):
    ada = await studio.person("ada")
    main = "import cloister, time\nprint('key is', cloister.MODEL['key'], flush=True)\ntime.sleep(60)\n"
    made = await ada.post(
        "/modules", json={"name": "mine", "files": {"main.py": main, "config.json": json.dumps(CONFIG)}}
    )
    assert made.status_code == 201, made.text
    trial = await ada.post("/spaces/cup/trials/mine", json={"team": ada.team, "values": {"key": SECRET}})
    async with studio.socket(trial.json()["live"]["path"]) as viewer:
        await viewer.printed("key is", 30)
        assert SECRET not in str(viewer.heard)


async def test_shares_have_an_origin_of_their_own_where_nothing_else_answers(studio):
    ada = await studio.person("ada")
    board = await studio.dashboard(ada, [])
    made = (await ada.post(f"/spaces/cup/dashboards/{board['id']}/shares", json={})).json()
    assert made["link"].startswith(f"http://shares.localhost:{studio.port}/api/v1/view/{made['id']}/view.html#")
    async with aiohttp.ClientSession() as http:

        async def status(host, path):
            cookies = "; ".join(f"{name}={value}" for name, value in ada.cookies.items())
            sent = {"Host": f"{host}:{studio.port}", "Cookie": cookies}
            url = f"http://127.0.0.1:{studio.port}{path}"
            async with http.get(url, headers=sent, allow_redirects=False) as answer:
                return answer.status, answer.headers.get("Location")

        assert (await status("localhost", "/api/v1/me"))[0] == 200
        for path in ("/api/v1/me", "/", "/assets/x.js", "/w/x/index.html", "/api/v1/spaces/cup/dashboards"):
            assert (await status("shares.localhost", path))[0] == 404, path
        assert (await status("shares.localhost", "/api/v1/view/view.html"))[0] == 200
        old = await status("localhost", "/api/v1/view/view.html")
        assert old == (302, f"http://shares.localhost:{studio.port}/api/v1/view/view.html"), "links of before go on"


async def test_what_is_to_be_kept_running_goes_on_alone_and_ends_with_its_persons_access(studio, monkeypatch):
    monkeypatch.setattr("cloister.dashboards.live.TICK_SECONDS", 0.5)
    ada = await studio.person("ada")
    await studio.publish(ada, "clock", {"main.py": CLOCK, "config.json": CONFIG})
    board = await studio.dashboard(ada, [{**clock(), "keep_running": True}, {**clock(), "id": "other"}])
    live = studio.api.platform.live
    async with studio.look(ada, board) as viewer:
        await viewer.output("clock")
        await viewer.output("other")

    async def alone():
        live.wake()
        session = live.sessions.get(board["id"])
        return session is not None and session.resting and set(session.instances) == {"clock"}

    await until(alone, 20, 0.1)
    async with studio.look(ada, board) as viewer:
        await viewer.output("other")
    await until(alone, 20, 0.1)
    await live.close()  # as when the platform ends; the next one takes it up again
    live._swept = False
    await until(alone, 20, 0.1)
    steward = await studio.api.sign_in("steward")
    number = (await ada.get("/me")).json()["number"]
    row = await steward.get(f"/spaces/cup/enrolments/{number}")
    gone = await steward.put(
        f"/spaces/cup/enrolments/{number}/removal", json={"reason": "left"}, headers={"If-Match": row.headers["ETag"]}
    )
    assert gone.status_code == 200, gone.text

    async def red():
        live.wake()
        channel = live.sessions[board["id"]].hub.channels["clock"]
        return channel.state == "red" and "no longer in this space" in channel.reason

    await until(red, 20, 0.1)
    assert not (await steward.get("/spaces/cup/sandboxes?live=true")).json()["items"]


async def test_what_was_removed_is_taken_back_and_goes_on_at_once_when_it_is_brought_back(studio):
    ada = await studio.person("ada")
    await studio.publish(ada, "clock", {"main.py": CLOCK, "config.json": CONFIG})
    await studio.publish(ada, "page", {"index.html": "<p>page</p>"})
    widget = {"id": "w", "module": "page", "x": 0, "y": 0, "width": 4, "height": 4, "source": {"integration": "c", "path": []}}  # fmt: skip
    integration = {"id": "c", "module": "clock", "values": {"key": SECRET}}
    board = await studio.dashboard(ada, [integration], [widget])
    document = board["document"]
    link = (await ada.post(f"/spaces/cup/dashboards/{board['id']}/shares", json={})).json()["link"]
    visit = await studio.api.anonymous().post("/shares/view", json={"token": link.partition("#")[2]})
    async with studio.look(ada, board) as viewer, studio.socket(visit.json()["live"]["path"]) as stranger:
        assert visit.json()["version"] == 1
        for _ in range(4):
            seen = await viewer.output("c")
            shown = await stranger.output("w")
        assert (await _save(ada, board, {**document, "integrations": [], "widgets": [{**widget, "source": None}]})).status_code == 200  # fmt: skip
        assert (await viewer.hear(lambda m: m["type"] == "CHANGED"))["version"] == 2
        for socket, last in ((viewer, seen), (stranger, shown)):
            gone = await socket.hear(lambda m: m["type"] == "OUTPUT" and m.get("model", 0) is None)
            assert gone["seq"] > last["seq"]
        # As undo in the builder does: it knows that there was a secret, and not which.
        assert (await _save(ada, board, document)).status_code == 200
        for socket, last in ((viewer, seen), (stranger, shown)):
            back = await socket.hear(lambda m: m["type"] == "OUTPUT" and m.get("model") is not None)
            assert back["seq"] > last["seq"], "a page takes nothing that is older than what it has"
    kept = (await ada.get(f"/spaces/cup/dashboards/{board['id']}")).json()["document"]["integrations"][0]
    assert kept["values"]["key"] == {"set": True}


async def test_a_release_without_a_setting_forgets_what_it_was(studio):
    ada = await studio.person("ada")
    await studio.publish(ada, "clock", {"main.py": CLOCK, "config.json": CONFIG})
    board = await studio.dashboard(ada, [clock(place="Lisbon")])
    fewer = [entry for entry in CONFIG if entry["name"] != "place"]
    await studio.publish(ada, "clock", {"config.json": fewer}, "1.1.0")
    integration = board["document"]["integrations"][0]
    newer = {**integration, "version": "1.1.0", "accepts": None}
    assert (await _save(ada, board, {**board["document"], "integrations": [newer]})).status_code == 200
    document = (await ada.get(f"/spaces/cup/dashboards/{board['id']}")).json()["document"]
    assert "place" not in document["integrations"][0]["values"]
    odd = {**newer, "values": {"plaice": "Faro"}}
    refused = await _save(ada, board, {**document, "integrations": [odd]})
    assert (refused.status_code, refused.json()["setting"]) == (422, "plaice"), "what was never one is a mistake"
