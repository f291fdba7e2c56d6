"""What is shown of governed data ends with the right to it, and what could not start is tried again."""

import json
import textwrap

from tests.live.conftest import CLOCK, CONFIG, PAGE, SECRET, clock, live_platform
from tests.live.test_rights import ASKS, GOVERNED, RAIN, _join, _save
from tests.support import until

ROWS = {"id": "a", "module": "rain", "values": {"sql": "SELECT * FROM rain"}}
DRAWN = {"id": "w", "module": "value", "title": "Rain", "source": {"integration": "a", "path": []}}
NEEDS = GOVERNED.replace("python", "node")


async def governed(studio, allow=("query", "download")):
    """A dashboard over data whose grant allows so much; return its author, it, the grant and a steward."""
    ada = await studio.person("ada")
    await studio.publish(ada, "rain", {"index.js": RAIN, "config.json": ASKS, "module.yaml": NEEDS})
    await studio.publish(ada, "value", {"index.html": PAGE})
    steward = await studio.api.sign_in("steward")
    for grant in (await steward.get("/spaces/cup/grants")).json()["items"]:
        await steward.delete(f"/spaces/cup/grants/{grant['id']}")
    number = (await ada.get("/me")).json()["number"]
    body = {"to": f"person:{number}", "dataset": "rain", "allow": list(allow)}
    grant = (await steward.post("/spaces/cup/grants", json=body)).json()
    return ada, await studio.dashboard(ada, [ROWS], [DRAWN]), grant, steward


async def visit(studio, shared):
    token = shared["link"].rpartition("#")[2]
    return await studio.api.anonymous().post("/shares/view", json={"token": token, "share": shared["id"]})


async def test_when_a_grant_ends_what_was_shown_of_it_is_gone_for_team_and_strangers(studio):
    ada, board, grant, steward = await governed(studio)
    shared = (await ada.post(f"/spaces/cup/dashboards/{board['id']}/shares", json={})).json()
    async with studio.look(ada, board) as mate:
        await mate.hear(lambda m: "12.5" in str(m.get("model", "")), 40)
        async with studio.socket((await visit(studio, shared)).json()["live"]["path"]) as stranger:
            await stranger.hear(lambda m: "12.5" in str(m.get("model", "")))
            assert (await steward.delete(f"/spaces/cup/grants/{grant['id']}")).status_code in {200, 204}
            await stranger.hear(lambda m: m["type"] == "OUTPUT" and m.get("model", "") is None)
        await mate.hear(lambda m: m["type"] == "OUTPUT" and m.get("model", "") is None)
    seen = await visit(studio, shared)
    if seen.status_code == 200:
        async with studio.socket(seen.json()["live"]["path"]) as late:
            await late.output("w")
            assert "12.5" not in json.dumps(late.heard), "nor does it wait for those who come later"


async def test_another_program_in_its_place_does_not_inherit_what_it_had_put_out(studio):
    ada, board, _, _ = await governed(studio, allow=["query"])
    await studio.publish(ada, "silent", {"main.py": "import time; time.sleep(1000)", "config.json": []})
    async with studio.look(ada, board) as mate:
        await mate.hear(lambda m: "12.5" in str(m.get("model", "")), 40)
        refused = await ada.post(f"/spaces/cup/dashboards/{board['id']}/shares", json={})
        assert refused.json()["code"] == "share.data_not_shareable"
        changed = {**board["document"], "integrations": [{"id": "a", "module": "silent", "values": {}}]}
        assert (await _save(ada, board, changed)).status_code == 200
        await mate.hear(lambda m: m["type"] == "OUTPUT" and m.get("model", "") is None)
        shared = await ada.post(f"/spaces/cup/dashboards/{board['id']}/shares", json={})
        assert shared.status_code == 201
        async with studio.socket((await visit(studio, shared.json())).json()["live"]["path"]) as stranger:
            await stranger.hear(lambda m: m["type"] == "STATUS")
            await stranger.say(type="TICK")
            assert "12.5" not in json.dumps(stranger.heard)


async def test_a_release_that_asks_nothing_does_not_cover_for_the_one_that_runs(studio):
    ada, board, _, _ = await governed(studio, allow=["query"])
    board["document"]["integrations"][0]["version"] = "*"
    assert (await _save(ada, board, board["document"])).status_code == 200
    async with studio.look(ada, board) as mate:
        await mate.hear(lambda m: "12.5" in str(m.get("model", "")), 40)
        await studio.publish(ada, "rain", {"module.yaml": NEEDS.replace("{datasets: true}", "{}")}, "2.0.0")
        refused = await ada.post(f"/spaces/cup/dashboards/{board['id']}/shares", json={})
        assert refused.json()["code"] == "share.data_not_shareable", "1.0.0 still runs"


async def test_two_saves_do_not_send_anothers_secret_elsewhere(studio):
    ada = await studio.person("ada")
    config = [
        {"type": "text", "name": "url", "label": "URL"}, {"type": "text", "name": "unit", "label": "Unit"},
        {"type": "password", "name": "key", "label": "Key"}, {"type": "password", "name": "other", "label": "Other"},
    ]  # fmt: skip
    needs = "kind: integration\nruntime: python\npermissions: {hosts_from: [url]}\n"
    await studio.publish(ada, "poller", {"main.py": CLOCK, "config.json": config, "module.yaml": needs})
    ben = await _join(studio, ada, "ben")
    values = {"url": "https://a.example", "key": SECRET}
    board = await studio.dashboard(ada, [{"id": "a", "module": "poller", "values": values}])

    async def saved(client, **values):
        changed = {**board["document"], "integrations": [{"id": "a", "module": "poller", "values": values}]}
        answer = await _save(client, board, changed)
        assert answer.status_code == 200, answer.text
        return answer.json()["document"]["integrations"][0]["values"]

    kept = {"set": True}
    first = await saved(ben, url="https://a.example", unit="mm", key=kept, other="bens-own-secret")
    assert (first["key"], first["other"]) == (kept, kept), "it goes on to where it was given for"
    second = await saved(ben, url="https://b.example", unit="mm", key=kept, other=kept)
    assert "key" not in second
    assert second["other"] == kept, "one's own goes where one says"


async def test_what_found_no_room_starts_when_there_is_some(tmp_path):
    async with live_platform(tmp_path, {"integrations_per_team": 1}, gateway="off") as studio:
        ada = await studio.person("ada")
        await studio.publish(ada, "clock", {"main.py": CLOCK, "config.json": CONFIG})
        studio.api.platform.live.interval = 0.3
        first = await studio.dashboard(ada, [clock()])
        second = await studio.dashboard(ada, [clock()], name="Second")
        async with studio.look(ada, first) as one:
            await one.output()
            async with studio.look(ada, second) as two:
                assert "Close a dashboard" in (await two.state("red"))["reason"]
                await ada.delete(f"/spaces/cup/dashboards/{first['id']}")
                await two.output()


async def test_an_integration_that_prints_a_fault_is_amber_with_its_words_until_it_is_right_again(studio):
    ada = await studio.person("ada")
    program = """
    import sys, time, cloister
    while True:
        cloister.output("right")
        time.sleep(0.5)
        print("the server is down", file=sys.stderr, flush=True)
        time.sleep(0.5)
    """
    await studio.publish(ada, "poller", {"main.py": textwrap.dedent(program), "config.json": []})
    board = await studio.dashboard(ada, [{"id": "a", "module": "poller", "values": {}}])
    async with studio.look(ada, board) as viewer:
        await viewer.output()
        assert (await viewer.hear(lambda m: m.get("state") == "amber" and m["reason"] != "starts"))["reason"] == (
            "the server is down"
        )
        assert (await viewer.state("green"))["reason"] == "runs"


async def test_a_module_takes_no_more_than_the_largest_size_of_its_space(studio):
    ada = await studio.person("ada")
    needs = "kind: integration\nruntime: python\npermissions: {size: {memory: 900G}}\n"
    await studio.publish(ada, "greedy", {"main.py": CLOCK, "config.json": CONFIG, "module.yaml": needs})
    board = await studio.dashboard(ada, [{"id": "a", "module": "greedy", "values": {}}])
    async with studio.look(ada, board) as viewer:
        assert "bytes of memory; the largest size of this space has" in (await viewer.state("red"))["reason"]


async def test_a_class_behind_one_address_all_see_a_share_with_a_passphrase(studio):
    ada = await studio.person("ada")
    board = await studio.dashboard(ada, [])
    shared = (await ada.post(f"/spaces/cup/dashboards/{board['id']}/shares", json={"passphrase": "open sesame"})).json()
    other = (await ada.post(f"/spaces/cup/dashboards/{board['id']}/shares", json={})).json()
    anybody = studio.api.anonymous()
    body = {"token": shared["link"].rpartition("#")[2], "passphrase": "open sesame", "share": shared["id"]}
    assert {(await anybody.post("/shares/view", json=body)).status_code for _ in range(30)} == {200}
    assert (await anybody.post("/shares/view", json={**body, "again": True})).status_code == 200
    listed = (await ada.get(f"/spaces/cup/dashboards/{board['id']}/shares")).json()["items"]
    assert {one["views"] for one in listed} == {30, 0}, "who comes back after a lost connection is no view more"
    crossed = await anybody.post("/shares/view", json={**body, "share": other["id"]})
    assert crossed.status_code == 404, "another share's rules who may embed it do not hold for this one"


async def test_undo_and_delete_do_not_overlook_what_a_mate_has_just_saved(studio):
    ada = await studio.person("ada")
    board = await studio.dashboard(ada, [])
    url = f"/spaces/cup/dashboards/{board['id']}"
    seen = (await ada.get(url)).headers["ETag"]
    assert (await _save(ada, board, {**board["document"], "name": "Mine"})).status_code == 200
    undone = await ada.post(f"{url}/revert", json={"version": 1}, headers={"If-Match": seen})
    assert undone.status_code == 412
    assert (await ada.delete(url, headers={"If-Match": seen})).status_code == 412
    assert (await ada.get(url)).json()["name"] == "Mine"


async def test_a_module_is_found_by_its_name_as_it_is_written(studio):
    ada = await studio.person("ada")
    await studio.publish(ada, "sea-level", {"main.py": CLOCK, "config.json": CONFIG})

    async def found(words):
        return [m["name"] for m in (await ada.get("/modules", params={"q": words})).json()["items"]]

    assert await until(lambda: found("sea-level")) == ["sea-level"]
    assert await found("level") == ["sea-level"]
