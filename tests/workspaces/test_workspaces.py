"""Workspaces through the gateway, without a browser: the way in, the record, the policies, the ends."""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from cloister.spaces.declaration import KERNEL
from tests.support import until
from tests.workspaces.conftest import LAB_ENVIRONMENT, gateway_platform, lab_blueprint
from tests.workspaces.test_policies import at_a_desk

INSTALLS = """import os, sysconfig
open('notes.txt', 'w').write('kept')
open(os.path.join(sysconfig.get_path('purelib'), 'mine.py'), 'w').write('x = 7')
None"""


async def test_a_team_is_in_its_own_jupyterlab_and_what_it_runs_is_on_the_record(cup, desk):
    ada = await desk("ada")
    assert (await ada.get("/api/status"))[0] == 401
    used = await ada.enter()
    assert (await ada.get(used))[0] == 403, "a code works once"
    status, _, page = await ada.get("/lab/tree/a.ipynb", document=True)
    assert status == 503
    assert b"Opening your workspace" in page, "a stopped workspace wakes on a visit"
    await ada.start()
    status, headers, page = await ada.get("/lab", document=True)
    assert status == 200
    assert b"/_cloister/banner.js" in page
    token = cup.platform.sandbox_controller.app_token((await ada.workspace())["sandbox"])
    assert token.encode() not in page, "the workspace's own token is known to the gateway alone"
    main = next(part for part in page.decode().split('"') if "/lab/static/main." in part)
    status, headers, _ = await ada.get(main, cookie="", headers={"Accept-Encoding": "gzip"})
    assert (status, headers["Cache-Control"]) == (200, "public, max-age=31536000, immutable")
    navigated = await ada.get(main, cookie="", headers={"Sec-Fetch-Dest": "document"})
    assert navigated[0] in {302, 404}, "what lies in a package is part of a page, and none itself"
    other = (await cup.platform.environments.ensure(["pyarrow>=20"])).path  # which no workspace uses
    (other / "lib" / "planted" / "static").mkdir(parents=True, exist_ok=True)
    (other / "lib" / "planted" / "static" / "x.js").write_text("alert(1)")
    planted = f"/_cloister/static/{other.name}/lib/planted/static/x.js"
    assert (await ada.get(planted, cookie=""))[0] == 404, "nor does an environment that no workspace uses have any"
    (other / "lib" / "planted" / "static" / "x.js").unlink()
    (other / "lib" / "planted" / "static").rmdir()
    (other / "lib" / "planted").rmdir()
    assert (await ada.get("/api/contents"))[0] == 200
    _, _, offered = await ada.get("/api/kernelspecs")
    assert list(json.loads(offered)["kernelspecs"]) == ["python3"], (
        "what the environment names, whatever the machine has"
    )
    assert (await ada.get("/_cloister/keep", "POST"))[0] == 204
    async with await ada.kernel() as kernel:
        assert (await kernel.run("print(6 * 7)", cell="c-1"))[0] == "42\n"
        assert "12.5" in (await kernel.run("import cloister; print(cloister.sql('SELECT max(mm) FROM rain'))"))[0]
        ask = "import http.client, socket; c = http.client.HTTPConnection('x'); c.sock = socket.socket(socket.AF_UNIX); c.sock.connect('/run/app/app.sock'); c.request('GET', '/api/kernels'); print(c.getresponse().status)"
        assert (await kernel.run(ask))[0] == "403\n", "and it is asked for"
        assert "ZeroDivisionError" in (await kernel.run("1 / 0"))[0]
    log = cup.platform.settings.state_directory / "logs" / "access.jsonl"
    number, team = (await ada.client.get("/me")).json()["number"], ada.team

    async def whose(path):
        """Who is named in the lines on a path; that of a connection is written when it has closed."""
        seen = [json.loads(line) for line in log.read_text().splitlines()]
        return {
            (line.get("person"), line.get("team")) for line in seen
            if re.fullmatch(path, urlsplit(line["request"]["uri"]).path) and line["status"] in {101, 200, 201, 204}
        }  # fmt: skip

    for path in ("/lab", "/api/contents", "/api/kernels", r"/api/kernels/[^/]*/channels", "/_cloister/keep"):
        assert await until(lambda path=path: whose(path)) == {(number, team)}, path
    lines = log.read_text().splitlines()
    assert ada.cookie.split("=")[1] not in "".join(lines)
    assert "code=-" in "".join(lines), "codes that let people in are left out of the log"
    await cup.platform.recorder.flush()
    ran = await cup.records(name="gateway:code:run")
    assert {r["details"]["code"] for r in ran} >= {"print(6 * 7)", "1 / 0"}
    me = (await ada.client.get("/me")).json()["number"]
    assert {(r["person"], r["team"], r["space"]) for r in ran} == {(me, ada.team, "cup")}
    first = next(r for r in ran if r["details"]["code"] == "print(6 * 7)")
    assert first["details"]["cell"] == "c-1"
    done = {r["details"]["status"] for r in await cup.records(name="gateway:code:done")}
    assert done == {"ok", "error"}


async def test_nobody_else_gets_in(cup, desk):
    ada, eve = await desk("ada"), await desk("eve")
    await ada.enter()
    await ada.start()
    status, _, body = await ada.get("/api/status", cookie="")
    assert status == 401
    assert (await ada.get("/api/status", "PROPFIND"))[0] == 405, "the gateway knows the methods that apps need"
    await eve.enter()
    assert (await ada.get("/api/status", cookie=eve.cookie))[0] == 401, "a cookie is worth nothing at another origin"
    answer = await eve.client.get("/workspaces/enter", params={"host": ada.host, "to": "/lab"})
    assert answer.status_code == 404
    for origin in ("https://evil.example", f"http://{eve.host}", "null"):
        status, _, body = await ada.get("/api/kernels", "POST", headers={"Origin": origin}, json={})
        assert (status, json.loads(body)["code"]) == (403, "gateway.wrong_origin")
        try:
            await ada.socket("/api/events/subscribe", Origin=origin)
            raise AssertionError("a socket was opened from another origin")
        except aiohttp.WSServerHandshakeError as refused:
            assert refused.status == 403
    forged = {"Cloister-Person": "p-000009", "Cloister-Upstream": "unix//etc/passwd", "Authorization": "token guessed"}
    assert (await ada.get("/api/me", headers=forged))[0] == 401
    status, _, body = await ada.get("/api/me", headers={k: v for k, v in forged.items() if k != "Authorization"})
    assert (status, json.loads(body)["identity"]["username"]) == (200, (await ada.client.get("/me")).json()["number"])


async def test_leaving_a_team_closes_what_is_open_within_a_second_and_says_why(cup, desk):
    ada = await desk("ada")
    bob = await desk("bob", mate=ada)
    await bob.enter()
    await bob.start()
    kernel = await bob.kernel()
    async with kernel:
        await kernel.run("1")
        begun = asyncio.get_running_loop().time()
        assert (await bob.client.delete(f"/spaces/cup/teams/{bob.team}/members/me")).status_code == 204
        frame = await kernel.ws.receive(5)
        while frame.type is aiohttp.WSMsgType.TEXT:
            frame = await kernel.ws.receive(5)
        assert asyncio.get_running_loop().time() - begun < 1
        assert (frame.type, frame.data) == (aiohttp.WSMsgType.CLOSE, 4403)
        assert (await bob.get("/api/status"))[0] == 403


async def test_what_was_only_opening_when_the_right_to_it_ended_is_closed_too(cup, desk):
    ada = await desk("ada")
    bob = await desk("bob", mate=ada)
    await ada.start()
    await bob.enter()
    relay = cup.platform.gateway.relay
    async with await bob.kernel() as kernel:
        await kernel.run("1")
        opening, relay.open = relay.open, set()  # as while it waits for a kernel that starts, after the decision
        assert (await bob.client.delete(f"/spaces/cup/teams/{bob.team}/members/me")).status_code == 204
        await asyncio.sleep(0.2)  # the news is over
        relay.open = opening
        frame = await kernel.ws.receive(3)
        while frame.type is aiohttp.WSMsgType.TEXT:
            frame = await kernel.ws.receive(3)
        assert (frame.type, frame.data) == (aiohttp.WSMsgType.CLOSE, 4403)


async def test_signing_out_everywhere_ends_the_visit(cup, desk):
    ada = await desk("ada")
    await ada.enter()
    await ada.start()
    assert (await ada.get("/api/status"))[0] == 200
    assert (await ada.client.post("/auth/sign-out-everywhere")).status_code == 200
    begun = asyncio.get_running_loop().time()

    async def out():
        return (await ada.get("/api/status"))[0] == 401

    await until(out)
    assert asyncio.get_running_loop().time() - begun < 1.5, "the promise is a second"


async def test_what_people_install_and_write_survives_a_crash_and_another_environment(tmp_path):
    lean = {"name": "lean", "app": "jupyterlab"}
    async with gateway_platform(tmp_path, lab_blueprint(environments=[LAB_ENVIRONMENT, lean])) as api:
        await api.platform.environments.ensure(KERNEL)
        ada = await at_a_desk(api)
        where = f"/spaces/cup/teams/{ada.team}/workspace"
        async with await ada.kernel() as kernel:
            assert (await kernel.run(INSTALLS))[0] == ""
        before = await ada.workspace()
        os.kill(await api.platform.backend.alive(before["sandbox"]), signal.SIGKILL)

        async def again():
            found = await ada.workspace()
            return found["state"] == "running" and found["sandbox"] != before["sandbox"]

        await until(again, 30)
        async with await ada.kernel() as kernel:
            assert (await kernel.run("import pyarrow, mine; print(open('notes.txt').read(), mine.x)"))[0] == "kept 7\n"

        assert (await ada.client.patch(where, json={"environment": "lean"})).status_code == 200
        await ada.client.post(f"{where}/restart", json={})
        await ada.becomes("running")
        async with await ada.kernel() as kernel:
            assert (await kernel.run("import pyarrow"))[0].startswith("ModuleNotFoundError"), (
                "it is another environment"
            )
            assert (await kernel.run("import mine; print(open('notes.txt').read(), mine.x)"))[0] == "kept 7\n"

        assert (await ada.client.post(f"{where}/restart", json={"safe": True})).status_code == 202
        await ada.becomes("running")
        async with await ada.kernel() as kernel:
            assert (await kernel.run("import mine"))[0].startswith("ModuleNotFoundError"), "safe mode leaves it out"
            assert (await kernel.run("print(open('notes.txt').read())"))[0] == "kept\n"
        await ada.close()


async def test_whoever_reads_a_file_while_it_is_saved_gets_the_old_or_the_new_one_whole(cup, desk):
    ada = await desk("ada")
    await ada.enter()
    await ada.start()

    def notebook(mark):
        cell = {"cell_type": "markdown", "id": "one", "metadata": {}, "source": mark * 300_000}
        content = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        return {"type": "notebook", "content": content}

    async def save(mark):
        status, _, body = await ada.get("/api/contents/first.ipynb", "PUT", json=notebook(mark))
        assert status in (200, 201), body

    await save("a")
    checkpoints = "/api/contents/first.ipynb/checkpoints"
    status, _, body = await ada.get(checkpoints, "POST")
    assert status == 201, body
    checkpoint = f"{checkpoints}/{json.loads(body)['id']}"
    read, done = [], asyncio.Event()

    async def reader():
        while not done.is_set():
            status, _, body = await ada.get("/api/contents/first.ipynb")
            read.append(status == 200 and set(json.loads(body)["content"]["cells"][0]["source"]))

    readers = [asyncio.create_task(reader()) for _ in range(3)]
    for mark in "bcdefghijklm":
        await save(mark)
        status, _, body = await ada.get(checkpoint, "POST")
        assert status == 204, body
    done.set()
    await asyncio.gather(*readers)
    assert read and all(found and len(found) == 1 for found in read), read
    async with await ada.kernel() as kernel:
        code = """import os
os.link('first.ipynb', 'second.ipynb')
os.chmod('first.ipynb', 0o600)
print([n for n in sorted(os.listdir()) if n.endswith('.ipynb') or n.startswith('.~')])"""
        assert (await kernel.run(code))[0] == "['first.ipynb', 'second.ipynb']\n", "nothing half-written is left"
        await save("z")
        code = "print(open('second.ipynb').read().count('z'), oct(os.stat('first.ipynb').st_mode))"
        assert (await kernel.run(code))[0] == "300000 0o100600\n", "a file of two names keeps both, and its mode"


async def test_terminals_are_recorded_by_line_and_person(cup, desk):
    ada = await desk("ada")
    await ada.enter()
    await ada.start()
    status, _, body = await ada.get("/api/terminals", "POST", json={})
    assert status == 200, body
    name = json.loads(body)["name"]
    ws = await ada.socket(f"/terminals/websocket/{name}")
    await ws.send_str(json.dumps(["stdin", "echo hel"]))
    await ws.send_str(json.dumps(["stdin", "lo\r"]))

    async def typed():
        return [r["details"]["typed"] for r in await cup.records(name="gateway:terminal:type")]

    assert await until(typed, 5) == ["echo hello"]
    await ws.send_str(json.dumps(["stdin", "echo again\x0f"]))  # Ctrl+O runs a line, too
    await ws.send_str(json.dumps(["stdin", "half a line"]))
    await ws.close()

    async def all_of_it():
        return set(await typed()) == {"echo hello", "echo again", "half a line"}

    await until(all_of_it, 5)


async def test_what_ran_when_its_page_was_closed_has_an_end_on_the_record(cup, desk):
    ada = await desk("ada")
    await ada.enter()
    await ada.start()
    async with await ada.kernel() as kernel:
        await kernel.ws.send_str(json.dumps({
            "header": {"msg_id": "left", "msg_type": "execute_request", "username": "", "session": "s", "version": "5.3", "date": ""},
            "parent_header": {}, "metadata": {}, "channel": "shell", "buffers": [],
            "content": {"code": "import time; time.sleep(60)", "silent": False, "user_expressions": {}},
        }))  # fmt: skip

        async def begun():
            return await cup.records(name="gateway:code:run")

        await until(begun, 10)
    await ada.client.post(f"/spaces/cup/teams/{ada.team}/workspace/stop")
    await ada.becomes("stopped")

    async def ended():
        return [r["details"]["status"] for r in await cup.records(name="gateway:code:done")]

    assert await until(ended, 10) == ["unknown"]


async def test_an_api_token_and_a_standard_client_library_are_enough(cup, desk, tmp_path):
    """Nothing of ours: a client library executes a real notebook through the gateway, with an address and a token."""
    ada = await desk("ada")
    await ada.start()
    made = await ada.client.post("/me/tokens", json={"name": "n", "scopes": ["workspace.*"], "days": 1})
    assert made.status_code == 201, made.text
    token = made.json()["token"]
    assert (await ada.get("/api/kernels", headers={"Authorization": f"token {token}x"}))[0] == 401
    cells = [
        "import cloister\nfrom IPython.display import Markdown",
        "table = cloister.sql('select day, mm from rain where mm > 0 order by day')\ntable.to_pylist()",
        "print(sum(table['mm'].to_pylist()))\nMarkdown('# **done**')",
    ]
    notebook = {
        "cells": [
            {"cell_type": "code", "id": f"c{n}", "source": code, "metadata": {}, "outputs": [], "execution_count": None}
            for n, code in enumerate(cells)
        ],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    (tmp_path / "real.ipynb").write_text(json.dumps(notebook))
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(Path(__file__).with_name("standard_client.py")), f"http://{ada.host}", str(tmp_path / "real.ipynb"),
        env={"PATH": os.environ["PATH"], "TOKEN": token, "HOME": str(tmp_path)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == 0, err.decode()[-3000:]
    done = [json.loads(line) for line in out.splitlines()]
    assert "[{'day': 1, 'mm': 4.5}, {'day': 3, 'mm': 12.5}]" in done[1][0]["data"]["text/plain"]
    assert done[2][0]["text"] == "17.0\n"
    assert done[2][1]["data"]["text/markdown"] == "# **done**"
    ran = [record["details"]["code"] for record in await cup.records(name="gateway:code:run")]
    assert set(cells) <= set(ran)


def _waiting_kernels(sandbox):
    """The interpreters in a sandbox that wait to be kernels: their ids inside, by their ids outside."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            here = sandbox in status.with_name("cgroup").read_text()
            if here and b"waiting_kernel.py" in status.with_name("cmdline").read_bytes():
                inside = next(line for line in status.read_text().splitlines() if line.startswith("NSpid:"))
                found[int(status.parent.name)] = int(inside.split()[-1])
    return found


async def test_whoever_opens_the_page_finds_a_kernel_nearly_started(cup, desk):
    ada = await desk("ada")
    await ada.enter()
    sandbox = (await ada.start())["sandbox"]
    tell = "import os, sys; print(os.getpid(), os.getcwd(), sys.argv[0][-12:], os.environ.get('VIRTUAL_ENV'), __name__, len(sys.path), sys.flags.safe_path, 'cloister' in sys.modules)"
    async with await ada.kernel() as kernel:
        cold = (await kernel.run(tell))[0].split()
    assert not _waiting_kernels(sandbox), "nobody has opened a page"
    assert (await ada.get("/lab", document=True))[0] == 200

    taken = set()

    async def waits():
        """Those that were taken are called the same for ever."""
        return [inside for inside in _waiting_kernels(sandbox).values() if inside not in taken]

    [inside] = await until(waits, 20, 0.05)
    taken.add(inside)
    async with await ada.kernel() as kernel:
        warm = (await kernel.run(tell))[0].split()
        assert int(warm[0]) == inside, "it is the one that waited"
        assert warm[2:] == cold[2:]
        assert warm[1] == cold[1]
        assert (await kernel.run("%pip --version"))[0].startswith("pip ")
    [inside] = await until(waits, 20, 0.05)
    taken.add(inside)
    site = "/home/user/.venv/lib/python%d.%d/site-packages" % sys.version_info[:2]
    async with await ada.kernel() as kernel:
        [inside] = await until(waits, 20, 0.05)
        await kernel.run(f"open('{site}/late.pth', 'w').write('import builtins; builtins.late = 1')")
    async with await ada.kernel() as kernel:
        printed = (await kernel.run("import os; print(os.getpid(), late)"))[0].split()
        assert (int(printed[0]) != inside, printed[1]) == (True, "1"), "what was installed since is seen"
