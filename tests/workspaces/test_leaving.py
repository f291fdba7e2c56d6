"""What leaves by other ways than a download, and how long a way stays open: links, outputs, commands, long answers."""

import asyncio
import contextlib
import json
import textwrap
import uuid
from time import monotonic

import aiohttp
import pytest

from cloister.access import scoped_select
from cloister.core.principal import EVERYTHING
from cloister.gateway import Outflow
from tests.support import declare, until
from tests.workspaces.conftest import Desk, gateway_platform, lab_blueprint
from tests.workspaces.test_policies import at_a_desk

STREAM = """
import http.server, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        while self.path.endswith("/stream"):
            self.wfile.write(b"data: more\\n\\n")
            time.sleep(0.05)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8123), Handler).serve_forever()
"""


async def policies(api, folder, **changes):
    """Let other policies hold in the space from now on."""
    await declare(api.platform, lab_blueprint(policies={"workspace_disk": "128M", **changes}), folder)


async def left(api):
    """The bytes that have left by now, as they are written down."""
    await api.platform.outflows.look()
    async with api.platform.database.read() as uow:
        return sum(row.bytes for row in (await uow.session.scalars(scoped_select(Outflow, EVERYTHING))).all())


async def test_a_link_that_is_opened_hands_out_no_more_than_any_other_address(tmp_path):
    rules = {"workspace_disk": "128M", "downloads": "blocked", "view": "1M"}
    async with gateway_platform(tmp_path, lab_blueprint(policies=rules)) as api:
        ada = await at_a_desk(api)
        code = """
            import os
            folder = os.path.expanduser("~/.local/share/jupyter/labextensions")
            os.makedirs(folder)
            open(folder + "/data.csv", "wb").write(b"secret" * 500_000)
            open(folder + "/small.html", "wb").write(b"<p>" + b"x" * 300_000)
        """
        async with await ada.kernel() as kernel:
            await kernel.run(textwrap.dedent(code))
        status, _, body = await ada.get("/lab/extensions/data.csv", document=True)
        assert status == 403
        assert b"can be looked at here" in body
        before = await left(api)
        status, _, body = await ada.get("/lab/extensions/small.html", document=True)
        assert status == 200
        assert await left(api) - before >= 300_000, "a page is counted as whatever else leaves"
        await ada.close()


async def test_a_recorded_terminal_runs_nothing_but_what_is_typed_into_it(cup, desk):
    ada = await desk("ada")
    await ada.enter()
    await ada.start()
    for body in ({"shell_command": ["touch", "/home/user/unseen"]}, {"name": "a", "env": {"BASH_ENV": "x"}}, []):
        status, _, said = await ada.get("/api/terminals", "POST", json=body)
        assert (status, json.loads(said)["code"]) == (422, "gateway.command_refused"), body
    twice = b'{"name": "a", "shell_command": ["touch", "unseen"], "name": "b"}'
    assert (await ada.get("/api/terminals", "POST", data=twice))[0] == 422
    name = "x" * 100
    assert (await ada.get("/api/terminals", "POST", json={"name": name, "cwd": "/home/user"}))[0] == 200
    async with await ada.socket(f"/terminals/websocket/{name}") as terminal:
        await terminal.send_str(json.dumps(["stdin", "touch seen\n"]))

        async def typed():
            return [r["details"]["typed"] for r in await cup.records(name="gateway:terminal:type")]

        assert await until(typed) == ["touch seen"]

        async def made():
            return (await ada.get("/api/contents/seen?content=0"))[0] == 200

        await until(made)
    assert (await ada.get("/api/contents/unseen?content=0"))[0] == 404


async def test_what_a_steward_changes_holds_for_what_is_open(tmp_path):
    async with gateway_platform(
        tmp_path, lab_blueprint(policies={"workspace_disk": "128M", "terminals": "allowed", "downloads": "allowed"})
    ) as api:
        ada = await at_a_desk(api)
        assert (await ada.get("/api/terminals", "POST", json={"name": "t"}))[0] == 200
        terminal = await ada.socket("/terminals/websocket/t")
        async with await ada.kernel() as kernel:
            await terminal.send_str(json.dumps(["stdin", "true one\n"]))
            assert (await kernel.run("print('x' * 200_000)"))[0].strip() == "x" * 200_000
            await policies(api, tmp_path, terminals="recorded", downloads="allowed")

            async def recorded():
                await terminal.send_str(json.dumps(["stdin", "true two\n"]))
                return {r["details"]["typed"] for r in await api.records(name="gateway:terminal:type")}

            assert await until(recorded, 5, 0.2) == {"true two"}
            await policies(api, tmp_path, terminals="blocked", downloads="allowed")
            while (message := await terminal.receive(5)).type is aiohttp.WSMsgType.TEXT:
                pass
            assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 4403)
            assert "Terminals are not available" in message.extra
            # Last: what the terminal would still have said might be over the budget, and end it for that.
            await policies(api, tmp_path, downloads="metered", download_per_person="100K")
            await until(lambda: quiet(kernel), 10)
        await ada.close()


async def quiet(kernel):
    """Whether a cell's output stays inside."""
    return (await kernel.run("print('y' * 60_000)"))[0] == ""


async def test_past_the_budget_cells_still_run_but_show_nothing_until_a_steward_gives_more(tmp_path):
    rules = {"workspace_disk": "128M", "downloads": "metered", "download_per_person": "200K"}
    async with gateway_platform(tmp_path, lab_blueprint(policies=rules)) as api:
        ada = await at_a_desk(api)
        async with await ada.kernel() as kernel:
            await until(lambda: quiet(kernel), 30)
            assert (await kernel.run("open('/home/user/result.txt', 'w').write('worth it'); print('unseen')"))[0] == ""
            status, _, body = await ada.get("/api/contents/result.txt")
            assert (status, json.loads(body)["content"]) == (200, "worth it"), "the work went on"
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                assert (await ada.get("/api/terminals", "POST", json={"name": "t"}))[0] == 200
                await ada.socket("/terminals/websocket/t")
            assert refused.value.status == 429
            headers = {"Host": ada.host, "Cookie": ada.cookie}
            async with ada.http.get(f"http://127.0.0.1:{ada.port}/_cloister/events", headers=headers) as events:
                assert b"what cells print is not shown" in await events.content.readuntil(b"\n\n")
            steward = await api.sign_in("steward")
            assert (await steward.post(f"/spaces/cup/teams/{ada.team}/downloads")).status_code == 204
            assert (await kernel.run("print('seen')"))[0] == "seen\n", "in the same page, without a reload"
        await ada.close()


async def test_what_is_printed_in_many_short_visits_is_counted_as_in_one_long(tmp_path):
    rules = {"workspace_disk": "128M", "downloads": "metered"}
    async with gateway_platform(tmp_path, lab_blueprint(policies=rules)) as api:
        ada = await at_a_desk(api)
        kernel = await ada.kernel()
        before = await left(api)
        for _ in range(5):
            async with kernel:
                await kernel.run("print('z' * 50_000)")

        async def counted():
            return await left(api) - before >= 250_000

        await until(counted)
        await ada.close()


async def test_an_answer_that_never_ends_ends_with_the_right_to_it(tmp_path):
    app = {"name": "web", "app": {"command": ["python3", "-c", STREAM], "port": 8123}}
    for downloads in ("metered", "allowed"):
        rules = {"workspace_disk": "64M", "downloads": downloads}
        async with gateway_platform(tmp_path / downloads, lab_blueprint(environments=[app], policies=rules)) as api:
            ada = await at_a_desk(api)
            headers = {"Host": ada.host, "Cookie": ada.cookie, "Accept": "text/event-stream"}
            async with ada.http.get(f"http://127.0.0.1:{ada.port}/stream", headers=headers) as answer:
                assert await answer.content.readline() == b"data: more\n"
                gone = monotonic()
                assert (await ada.client.delete(f"/spaces/cup/teams/{ada.team}/members/me")).status_code == 204
                with contextlib.suppress(aiohttp.ClientError):
                    while await answer.content.readline():
                        assert monotonic() - gone < 3
            await ada.close()


async def test_a_download_that_is_under_way_ends_when_downloads_are_blocked(tmp_path):
    def space(downloads):
        app = {"name": "web", "app": {"command": ["python3", "-c", STREAM], "port": 8123}}
        return lab_blueprint(environments=[app], policies={"workspace_disk": "64M", "downloads": downloads})

    async with gateway_platform(tmp_path, space("metered")) as api:
        ada = await at_a_desk(api)
        headers = {"Host": ada.host, "Cookie": ada.cookie}
        paths = ("/files/stream", "/stream")
        async with contextlib.AsyncExitStack() as stack:
            download, page = [
                await stack.enter_async_context(ada.http.get(f"http://127.0.0.1:{ada.port}{path}", headers=headers))
                for path in paths
            ]
            assert await download.content.readline() == b"data: more\n"
            await declare(api.platform, space("blocked"), tmp_path)
            blocked = monotonic()
            with contextlib.suppress(aiohttp.ClientError):
                while await download.content.readline():
                    assert monotonic() - blocked < 3
            for _ in range(100):
                assert await page.content.readline(), "what the app shows in its page goes on"
        refused = await api.records(name="gateway:file:refuse")
        assert [one["subject"] for one in refused] == ["/files/stream"]
        await ada.close()


async def test_an_app_that_never_answers_fails_with_the_reason_and_lets_go_of_its_place(tmp_path):
    deaf = {"name": "deaf", "app": {"command": ["python3", "-c", STREAM], "port": 8000}}  # it listens on 8123
    async with gateway_platform(tmp_path, lab_blueprint(environments=[deaf]), workspace_answer_seconds=2) as api:
        client = await api.member("ada", "cup")
        made = (await client.post("/spaces/cup/teams", json={"name": "blue"})).json()
        ada = Desk(api, client, made["number"], "blue")
        await ada.enter()
        await client.post(f"/spaces/cup/teams/{ada.team}/workspace/start")
        failed = await ada.becomes("failed", 30)
        assert failed["reason"] == "Its app runs, but did not answer at / on port 8000 within 2 seconds."
        headers = {"Host": ada.host, "Cookie": ada.cookie}
        async with ada.http.get(f"http://127.0.0.1:{ada.port}/_cloister/start", headers=headers) as events:
            said = json.loads((await events.content.readuntil(b"\n\n")).split(b"data: ")[1])
        assert said["failed"] is True
        assert said["can_restart"] is True
        assert said["reason"] == failed["reason"]

        async def gone():
            return not api.platform.sandbox_controller.live

        await until(gone)
        await ada.close()


async def test_a_hung_workspace_keeps_nobody_else_waiting(cup, desk):
    ada = await desk("ada")
    await ada.enter()
    await ada.start()
    kernel = await ada.kernel()
    async with kernel:
        await kernel.ws.send_str(json.dumps({
            "header": {"msg_id": "m", "msg_type": "execute_request", "username": "", "session": "s", "version": "5.3", "date": ""},
            "parent_header": {}, "metadata": {}, "channel": "shell", "buffers": [],
            "content": {"code": "import os, signal; os.kill(os.getppid(), signal.SIGSTOP)", "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False},
        }))  # fmt: skip

        async def deaf():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await ada.get("/api/status")
                    return False
            return True

        await until(deaf)
        controller = cup.platform.workspace_controller
        controller._due.clear()
        await controller.look()
        assert controller._looks, "it is being looked at"
        bob = await desk("bob")
        began = monotonic()
        await bob.start()
        assert (await bob.workspace())["state"] == "running"
        assert controller._looks or monotonic() - began > 5, "while ada's still does not answer"

        async def said():
            return "does not answer" in ((await ada.workspace())["busy"] or "")

        await until(said, 15, 0.2)
    await ada.client.post(f"/spaces/cup/teams/{ada.team}/workspace/restart", json={})
    await ada.becomes("running")


async def test_what_is_given_to_a_program_that_asks_is_on_the_record_but_for_passwords(cup, desk):
    ada = await desk("ada")
    await ada.enter()
    await ada.start()
    async with await ada.kernel() as kernel:

        async def answered(code, value):
            asked = asyncio.create_task(kernel.ws.send_str(json.dumps(message("execute_request", "shell", {
                "code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": True,
            }))))  # fmt: skip
            await asked
            printed = ""
            while True:
                said = json.loads((await kernel.ws.receive(30)).data)
                if said["msg_type"] == "input_request":
                    await kernel.ws.send_str(json.dumps(message("input_reply", "stdin", {"value": value})))
                if said["msg_type"] == "stream":
                    printed += said["content"]["text"]
                if said["msg_type"] == "status" and said["content"]["execution_state"] == "idle" and printed:
                    return printed

        assert await answered("exec(input())", "print(6 * 7)") == "42\n"
        assert await answered("import getpass; print(len(getpass.getpass()))", "my-secret") == "9\n"
    await cup.platform.recorder.flush()
    given = [r["details"] for r in await cup.records(name="gateway:code:run") if r["details"].get("given")]
    assert {one.get("code") for one in given} == {"print(6 * 7)", None}
    assert "my-secret" not in json.dumps(given)
    assert all(one.get("code") or one["sha256"] for one in given)


def message(kind, channel, content):
    header = {
        "msg_id": uuid.uuid4().hex,
        "msg_type": kind,
        "username": "",
        "session": "s",
        "version": "5.3",
        "date": "",
    }
    return {
        "header": header,
        "parent_header": {},
        "metadata": {},
        "channel": channel,
        "buffers": [],
        "content": content,
    }


async def test_a_page_says_days_before_that_ones_access_ends(tmp_path):
    declared = lab_blueprint(enrolment={"days": 2})
    async with gateway_platform(tmp_path, declared) as api:
        ada = await at_a_desk(api)
        headers = {"Host": ada.host, "Cookie": ada.cookie}
        async with ada.http.get(f"http://127.0.0.1:{ada.port}/_cloister/events", headers=headers) as events:
            assert b"event: ends" in await events.content.readuntil(b"\n\n")
        await ada.close()
