"""Live sessions with real sandboxes: from a module's source to what a viewer sees."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.conftest import CLOCK, CONFIG, PAGE, SECRET, clock
from tests.support import until


async def test_an_integration_written_by_a_stranger_runs_on_ones_dashboard(studio):
    author, ada = await studio.person("author"), await studio.person("ada")
    release = await studio.publish(author, "clock", {"main.py": CLOCK, "config.json": CONFIG})
    assert (release["state"], release["configuration"][1]["type"]) == ("ready", "password")
    board = await studio.dashboard(ada, [clock(place="Lisbon", key=SECRET)])
    assert board["document"]["integrations"][0]["values"] == {"place": "Lisbon", "key": {"set": True}}
    async with studio.look(ada, board) as first:
        said = await first.output()
        assert said["model"]["place"] == "Lisbon"
        while (printed := "".join(m["text"] for m in first.heard if m.get("level"))) != "hello from Lisbon\n":
            assert "hello from Lisbon\n".startswith(printed)
            await first.hear(lambda m: m.get("level") == "INFO")
        async with studio.look(ada, board) as late:
            again = await late.output()
            assert "model" in again, "one that comes late gets the last output at once, whole"
            assert late.heard[0]["session"] == first.heard[0]["session"], "one instance serves all"
        document = {**board["document"], "integrations": [clock(place="Porto", key={"set": True})]}
        saved = await ada.put(f"/spaces/cup/dashboards/{board['id']}", json=document, headers={"If-Match": '"1"'})
        assert saved.status_code == 200, saved.text
        await first.hear(lambda m: m["type"] == "OUTPUT" and m.get("model", {}).get("place") == "Porto")
        stale = await ada.put(f"/spaces/cup/dashboards/{board['id']}", json=document, headers={"If-Match": '"1"'})
        assert stale.status_code == 412
    running = (await ada.get("/spaces/cup/sandboxes?live=true")).json()["items"]
    assert [s["purpose"] for s in running] == ["integration"]


async def test_modules_written_for_the_other_name_run_unchanged_in_python_and_node(studio):
    ada = await studio.person("ada")
    python = "import visualbox\nvisualbox.output([visualbox.MODEL['place']])\nimport time; time.sleep(60)\n"
    node = "const visualbox = require('visualbox');\nsetInterval(() => visualbox.output({ place: visualbox.MODEL.place }), 50);\n"
    await studio.publish(ada, "old-python", {"main.py": python, "config.json": CONFIG})
    released = await studio.publish(ada, "old-node", {"index.js": node, "package.json": {}, "config.json": CONFIG})
    assert released["state"] == "ready", released
    board = await studio.dashboard(
        ada, [{"id": n, "module": f"old-{n}", "values": {"place": "Faro"}} for n in ("python", "node")]
    )
    async with studio.look(ada, board) as viewer:
        models = {}
        while len(models) < 2:
            said = await viewer.output()
            models[said["integration"]] = said["model"]
    assert models == {"python": ["Faro"], "node": {"place": "Faro"}}


async def _whole_line(studio, person, sandbox):
    """What a sandbox printed, once it ends a line: it comes in pieces."""
    printed = await studio.api.output(person, sandbox)
    return printed if printed.endswith("\n") else None


async def test_secrets_reach_the_program_and_nobody_else(studio):
    ada = await studio.person("ada")
    main = """
import os, cloister, time
key = cloister.MODEL["key"]
def holds(path):
    try:
        return key.encode() in open(path, "rb").read()
    except PermissionError:
        return False
seen = [p for p in ("/proc/self/environ", "/proc/1/environ", "/proc/self/cmdline", "/proc/1/cmdline") if holds(p)]
print("my key is", key)
cloister.output({"length": len(key), "seen": seen})
time.sleep(60)
"""
    await studio.publish(ada, "keeper", {"main.py": main, "config.json": CONFIG})
    board = await studio.dashboard(ada, [{"id": "k", "module": "keeper", "values": {"key": SECRET}}])
    async with studio.look(ada, board) as viewer:
        said = await viewer.output()
        assert said["model"] == {"length": len(SECRET), "seen": []}
        if not any(m.get("level") for m in viewer.heard):
            await viewer.hear(lambda m: m.get("level") == "INFO")
        assert SECRET not in json.dumps(viewer.heard), "masked in the console"
    (sandbox,) = (await ada.get("/spaces/cup/sandboxes?live=true")).json()["items"]
    printed = await until(lambda: _whole_line(studio, ada, sandbox), 10)
    assert printed == "my key is •••\n"
    told = [
        (await ada.get(f"/spaces/cup/dashboards/{board['id']}{part}")).text for part in ("", "/versions", "/export")
    ]
    assert not any(SECRET in text for text in told)
    state = studio.api.platform.settings.state_directory
    files = await asyncio.to_thread(lambda: [p for p in state.rglob("*") if p.is_file() and "keys" not in p.name])
    holding = await asyncio.to_thread(lambda: [p for p in files if SECRET.encode() in p.read_bytes()])
    assert holding == [], "nowhere on disk in clear"


async def test_a_crash_is_said_and_tried_again_with_pauses_and_a_finished_one_is_green(studio):
    ada = await studio.person("ada")
    await studio.publish(ada, "crasher", {"main.py": "import sys\nsys.stderr.write('no luck\\n')\nsys.exit(3)\n"})
    await studio.publish(ada, "once", {"main.py": "import cloister\ncloister.output(42)\n"})
    board = await studio.dashboard(ada, [{"id": "c", "module": "crasher"}, {"id": "o", "module": "once"}])
    async with studio.look(ada, board) as viewer:
        said = await viewer.hear(lambda m: m.get("state") == "red" and m["integration"] == "c")
        assert "exit code 3; it starts again in 0.5 s" in said["reason"]
        await viewer.hear(lambda m: m.get("state") == "red" and "in 1 s" in m["reason"])
        assert "no luck\n" in [m["text"] for m in viewer.heard if m.get("level") == "ERROR"]
        assert any(m.get("reason") == "has finished" for m in viewer.heard)
        await viewer.say(type="RESTART", integration="o")
        assert (await viewer.output("o"))["seq"] == 2


async def test_what_is_not_declared_is_not_granted(studio):
    ada = await studio.person("ada")
    main = """
import cloister, time, urllib.request
try:
    said = cloister.sql("select sum(mm) as mm from rain").to_pylist()
except cloister.QueryError as error:
    said = error.code
try:
    urllib.request.urlopen("http://example.org/", timeout=3); out = "reached"
except OSError as error:
    out = "refused"
cloister.output([said, out])
time.sleep(60)
"""
    requirements = "pyarrow>=20\n"
    await studio.publish(ada, "asker", {"main.py": main, "requirements.txt": requirements})
    board = await studio.dashboard(ada, [{"id": "a", "module": "asker"}])
    async with studio.look(ada, board) as viewer:
        assert (await viewer.output())["model"] == ["forbidden", "refused"]
        needs = "kind: integration\npermissions: {datasets: true}\n"
        second = await studio.publish(ada, "asker", {"module.yaml": needs}, "1.1.0")
        assert second["asks_more"] == ["ask any governed data"]
        document = {**board["document"], "integrations": [{"id": "a", "module": "asker", "version": "^1.1"}]}
        await ada.put(f"/spaces/cup/dashboards/{board['id']}", json=document, headers={"If-Match": '"1"'})
        await viewer.hear(lambda m: m["type"] == "OUTPUT" and m["model"] == [[{"mm": 17.0}], "refused"])
    asked = await studio.api.records(name="query:statement:ask")
    assert [record["person"] for record in asked] == [(await ada.get("/me")).json()["number"]]
    shared = await ada.post(f"/spaces/cup/dashboards/{board['id']}/shares", json={})
    assert (shared.status_code, shared.json()["code"]) == (403, "share.data_not_shareable")


async def test_a_model_that_is_too_large_is_refused_with_its_limit(studio):
    ada = await studio.person("ada")
    main = """
import cloister, time
try:
    cloister.output("x" * 2_000_000)
except Exception as error:
    cloister.output(str(error))
time.sleep(60)
"""
    await studio.publish(ada, "huge", {"main.py": main})
    board = await studio.dashboard(ada, [{"id": "h", "module": "huge"}])
    async with studio.look(ada, board) as viewer:
        assert "1,536 kB" in (await viewer.output())["model"]


async def test_nobody_else_looks_and_a_ticket_works_once(studio):
    ada, eve = await studio.person("ada"), await studio.person("eve")
    await studio.publish(ada, "clock", {"main.py": CLOCK, "config.json": CONFIG})
    board = await studio.dashboard(ada, [clock()])
    for method, path in (("get", ""), ("post", "/live"), ("get", "/versions"), ("get", "/export")):
        answer = await getattr(eve, method)(f"/spaces/cup/dashboards/{board['id']}{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "dashboard.not_found")
    path = (await ada.post(f"/spaces/cup/dashboards/{board['id']}/live")).json()["path"]
    async with studio.socket(path) as viewer:
        await viewer.output()
    for wrong in (path, "/live?ticket=guess", "/live"):
        async with studio.socket(wrong) as viewer:
            assert (await viewer.end())["code"] == "live.bad_ticket"


async def test_one_who_is_put_out_sees_no_more_within_a_second(studio):
    ada, steward = await studio.person("ada"), await studio.api.sign_in("steward")
    await studio.publish(ada, "clock", {"main.py": CLOCK, "config.json": CONFIG})
    board = await studio.dashboard(ada, [clock()])
    async with studio.look(ada, board) as viewer:
        await viewer.output()
        url = f"/spaces/cup/enrolments/{(await ada.get('/me')).json()['number']}"
        etag = (await steward.get(url)).headers["etag"]
        await steward.put(f"{url}/removal", json={"reason": "cheating"}, headers={"If-Match": etag})
        assert "cheating" in (await viewer.end(2))["reason"]


async def test_a_share_shows_nodes_and_nothing_behind_them(studio):
    ada = await studio.person("ada")
    await studio.publish(ada, "clock", {"main.py": CLOCK, "config.json": CONFIG})
    await studio.publish(ada, "value", {"index.html": PAGE})
    widget = {
        "id": "w",
        "module": "value",
        "title": "N",
        "source": {"integration": "clock", "path": ["deep", "list", 1]},
    }
    board = await studio.dashboard(ada, [clock(place="hidden-place", key=SECRET)], [widget])
    shared = (await ada.post(f"/spaces/cup/dashboards/{board['id']}/shares", json={"passphrase": "open sesame"})).json()
    token = shared["link"].rpartition("#")[2]
    anybody = studio.api.anonymous()
    refused = await anybody.post("/shares/view", json={"token": token})
    assert (refused.status_code, refused.json()["code"]) == (401, "share.passphrase_needed")
    view = (await anybody.post("/shares/view", json={"token": token, "passphrase": "open sesame"})).json()
    async with studio.socket(view["live"]["path"]) as viewer:
        said = await viewer.output("w")
        assert isinstance(said["model"], int)
        await viewer.output("w")
        known = json.dumps([view, viewer.heard])
        for hidden in ("hidden-place", SECRET, "clock", "hello from", "module", board["id"]):
            assert hidden not in known, hidden
        await viewer.say(type="RESTART", integration="clock")
        await viewer.ws.receive()
    async with studio.socket(
        (await anybody.post("/shares/view", json={"token": token, "passphrase": "open sesame"})).json()["live"]["path"]
    ) as viewer:
        await viewer.output("w")
        await ada.put(f"/spaces/cup/shares/{shared['id']}/pause", json={"paused": True})
        assert "paused" in (await viewer.end(2))["reason"]
    assert (await ada.delete(f"/spaces/cup/shares/{shared['id']}")).status_code == 204
    gone = await anybody.post("/shares/view", json={"token": token, "passphrase": "open sesame"})
    assert (gone.status_code, gone.json()["code"]) == (404, "share.not_found")


async def test_a_session_nobody_looks_at_ends_and_leaves_no_sandbox(studio, monkeypatch):
    monkeypatch.setattr("cloister.dashboards.live.TICK_SECONDS", 0.5)
    ada = await studio.person("ada")
    await studio.publish(ada, "clock", {"main.py": CLOCK, "config.json": CONFIG})
    board = await studio.dashboard(ada, [clock()])
    async with studio.look(ada, board) as viewer:
        await viewer.output()

    async def ended():
        studio.api.platform.live.wake()
        return not (await ada.get("/spaces/cup/sandboxes?live=true")).json()["items"]

    await until(ended, 20, 0.1)
    assert studio.api.platform.live.sessions == {}


@pytest.mark.parametrize("flood", ["while True: cloister.output(list(range(3000)))"])
async def test_a_flood_keeps_memory_bounded_and_a_viewer_that_never_reads_costs_nothing(studio, flood):
    from tests.attacks.conftest import resident  # noqa: PLC0415

    ada = await studio.person("ada")
    await studio.publish(ada, "flood", {"main.py": f"import cloister\n{flood}\n"})
    board = await studio.dashboard(ada, [{"id": "f", "module": "flood"}])
    async with studio.look(ada, board) as reads, studio.look(ada, board):
        await reads.output()
        before = resident()
        end = asyncio.get_running_loop().time() + 4
        while asyncio.get_running_loop().time() < end:
            await reads.output()
        assert resident() - before < 60 * 2**20


async def test_an_author_tries_a_draft_that_nobody_else_can_see_and_each_save_starts_it_anew(studio):
    ada, rival = await studio.person("ada"), await studio.person("rival")
    main = "import cloister, time\ncloister.output(['first', cloister.MODEL['place']])\ntime.sleep(60)\n"
    await ada.post("/modules", json={"name": "sketch", "files": {"main.py": main, "config.json": json.dumps(CONFIG)}})
    body = {"team": ada.team, "values": {"place": "Faro"}}
    first = (await ada.post("/spaces/cup/trials/sketch", json=body)).json()
    async with studio.socket(first["live"]["path"]) as viewer:
        assert (await viewer.output())["model"] == ["first", "Faro"]
        await ada.put("/modules/sketch/files/main.py", json={"text": main.replace("first", "second")})
        again = (await ada.post("/spaces/cup/trials/sketch", json=body)).json()
        async with studio.socket(again["live"]["path"]) as after:
            assert (await after.hear(lambda m: m.get("model", [0])[0] == "second"))["model"] == ["second", "Faro"]
    for team in (ada.team, rival.team):
        refused = await rival.post("/spaces/cup/trials/sketch", json={"team": team, "values": {}})
        assert refused.status_code == 404
    broken = await ada.put("/modules/sketch/files/config.json", json={"text": "{}"})
    assert broken.status_code == 200, "a file may be wrong while it is written"
    said = await ada.post("/spaces/cup/trials/sketch", json=body)
    assert (said.status_code, "config.json" in said.json()["detail"]) == (422, True)


async def test_a_widgets_draft_is_drawn_for_its_author_alone(studio):
    ada, rival = await studio.person("ada"), await studio.person("rival")
    await ada.post("/modules", json={"name": "picture", "files": {"index.html": PAGE}})
    tried = (await ada.post("/spaces/cup/trials/picture", json={"team": ada.team})).json()
    assert tried["live"] is None
    host = {"Host": f"widgets.localhost:{studio.port}"}
    path = tried["frame"].split(str(studio.port))[1]
    seen = await rival.get(f"http://127.0.0.1:{studio.port}{path}", headers=host)
    assert (seen.status_code, "connect-src 'none'" in seen.headers["content-security-policy"]) == (200, True)
    guessed = await rival.get(f"http://127.0.0.1:{studio.port}/w/draft-{'x' * 32}/index.html", headers=host)
    assert guessed.status_code == 404


async def test_the_passphrase_of_a_share_cannot_be_tried_out(studio):
    ada = await studio.person("ada")
    board = await studio.dashboard(ada, [])
    shared = (await ada.post(f"/spaces/cup/dashboards/{board['id']}/shares", json={"passphrase": "open sesame"})).json()
    visit = {"token": shared["link"].rpartition("#")[2]}
    anybody = studio.api.anonymous()
    said = [
        (await anybody.post("/shares/view", json={**visit, "passphrase": f"guess {n}"})).status_code for n in range(15)
    ]
    assert set(said) == {401, 429}
    assert said[-1] == 429


async def test_a_folder_runs_from_the_command_line_anew_on_each_save_and_is_published(studio, tmp_path):
    ada = await studio.person("ada")
    made = await ada.post("/me/tokens", json={"name": "cli", "scopes": ["module.*", "dashboard.*"], "days": 1})
    environ = {**os.environ, "CLOISTER_URL": f"http://localhost:{studio.port}", "CLOISTER_TOKEN": made.json()["token"]}
    folder = tmp_path / "from-here"

    async def cli(*arguments):
        command = [str(Path(sys.executable).with_name("cloister")), "module", *arguments]
        return await asyncio.create_subprocess_exec(
            *command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    begun = await cli("init", str(folder))
    assert await begun.wait() == 0
    running = await cli("run", str(folder), "--space", "cup", "--team", ada.team, "--set", "every=1")

    async def printed(wanted):
        async with asyncio.timeout(40):
            while wanted not in (line := (await running.stdout.readline()).decode()):
                assert line, "it ended"

    await printed('OUTPUT {"now":')
    main = folder / "main.py"
    main.write_text(main.read_text().replace("now", "later"))
    await printed('OUTPUT {"later":')
    running.terminate()
    await running.wait()
    published = await cli("publish", str(folder), "1.0.0")
    said = (await published.communicate())[0].decode()
    assert (published.returncode, "from-here 1.0.0 is published." in said) == (0, True), said

    async def says(*arguments):
        done = await cli(*arguments)
        return (await done.communicate())[0].decode()

    assert "from-here" in await says("search", "from-here")
    assert "hidden" in await says("yank", "from-here", "1.0.0")
    assert "shown again" in await says("yank", "from-here", "1.0.0", "--back")
    await says("fork", "from-here", "mine", "--into", str(tmp_path / "mine"))
    assert (tmp_path / "mine" / "main.py").read_text() == main.read_text()
    assert "is gone" in await says("remove", "from-here", "1.0.0", "--yes")
    narrow = await ada.post("/me/tokens", json={"name": "narrow", "scopes": ["query.*"], "days": 1})
    environ["CLOISTER_TOKEN"] = narrow.json()["token"]
    assert "(module.write)" in await says("yank", "mine", "1.0.0"), "the scope that it would take is named"
