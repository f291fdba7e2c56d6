"""What leaves a workspace and what keeps it awake, by the space's policy."""

import asyncio
import contextlib
import io
import json
import textwrap
from datetime import timedelta
from time import monotonic

import aiohttp

from cloister.access import scoped_select
from cloister.core.principal import EVERYTHING
from cloister.gateway import Outflow
from tests.support import until
from tests.workspaces.conftest import Desk, gateway_platform, lab_blueprint

APP = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = ("hello " + str(self.headers.get("Cloister-Person")) + " " + str(self.headers.get("Cookie"))).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Set-Cookie", "cloister-workspace=stolen; Domain=cup.localhost")
        self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8123), Handler).serve_forever()
"""


async def at_a_desk(api, person="ada", team="blue"):
    client = await api.member(person, "cup")
    made = (await client.post("/spaces/cup/teams", json={"name": team})).json()
    desk = Desk(api, client, made["number"], team)
    await desk.enter()
    await desk.start()
    return desk


async def save(desk, name, text):
    body = io.BytesIO(json.dumps({"type": "file", "format": "text", "content": text}).encode())
    return await desk.get(f"/api/contents/{name}", "PUT", data=body, headers={"Content-Type": "application/json"})


async def test_where_downloads_are_blocked_work_goes_on_and_files_stay(tmp_path):
    declared = lab_blueprint(policies={"workspace_disk": "128M", "downloads": "blocked", "view": "1M", "upload": "2M"})
    async with gateway_platform(tmp_path, declared) as api:
        ada = await at_a_desk(api)
        assert (await save(ada, "a.txt", "mine"))[0] == 201
        status, _, body = await ada.get("/api/contents/a.txt")
        assert (status, json.loads(body)["content"]) == (200, "mine"), "opening works"
        status, _, body = await ada.get("/api/contents/a.txt", "PATCH", json={"path": "b.txt"})
        assert (status, json.loads(body)["path"]) == (200, "b.txt"), "renaming works"
        for path in ("/files/b.txt", "/files/b.txt?download=1", "/nbconvert/html/b.txt"):
            status, _, body = await ada.get(path)
            assert (status, json.loads(body)["code"]) == (403, "gateway.downloads_blocked")
        for crooked in (
            "/lab/../files/b.txt",
            "/./files/b.txt",
            "/%2e/files/b.txt",
            "/lab/%2e%2e/files/b.txt",
            "/x//files/b.txt",
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", ada.port)
            writer.write(
                f"GET {crooked} HTTP/1.1\r\nHost: {ada.host}\r\nCookie: {ada.cookie}\r\nConnection: close\r\n\r\n".encode()
            )
            answer = await reader.read()
            writer.close()
            assert b"mine" not in answer, crooked
            assert b"gateway.crooked_path" in answer or b"gateway.downloads_blocked" in answer, crooked
        assert (await save(ada, "large.txt", "x" * 1_500_000))[0] == 201
        status, _, body = await ada.get("/api/contents/large.txt")
        assert (status, json.loads(body)["code"]) == (403, "gateway.too_large_to_view")
        assert (await ada.get("/api/contents/large.txt?content=0"))[0] == 200
        assert (await ada.get("/api/contents/large.txt?content=0&content=1"))[0] == 403
        room = {"format": "text", "type": "file"}
        status, _, body = await ada.get("/api/collaboration/session/large.txt", "PUT", json=room)
        assert (status, json.loads(body)["code"]) == (403, "gateway.too_large_to_view"), "nor through the editor"
        assert (await ada.get("/api/collaboration/session/b.txt", "PUT", json=room))[0] in {200, 201}
        refused = await api.records(name="gateway:file:refuse")
        assert {r["subject"] for r in refused} >= {"/files/b.txt", "/api/contents/large.txt"}
        await ada.close()


async def test_a_daily_budget_slows_and_then_stops_what_leaves_but_not_saving(tmp_path):
    policies = {
        "workspace_disk": "128M",
        "downloads": "metered",
        "download_per_person": "500K",
        "download_per_team": "1M",
    }
    async with gateway_platform(tmp_path, lab_blueprint(policies=policies)) as api:
        ada = await at_a_desk(api)
        assert (await save(ada, "a.txt", "x" * 200_000))[0] == 201
        assert (await ada.get("/files/a.txt"))[0] == 200
        assert [r["subject"] for r in await api.records(name="gateway:file:download")] == ["/files/a.txt"]
        assert (await ada.get("/files/a.txt"))[0] == 200
        status, _, body = await ada.get("/files/a.txt")
        assert (status, json.loads(body)["code"]) == (429, "gateway.budget_spent")
        assert (await save(ada, "b.txt", "still here"))[0] == 201
        for path in ("/api/contents/b.txt", "/api/contents", "/api/contents/a.txt?content=0"):
            assert (await ada.get(path))[0] == 200, f"work goes on: {path}"
        headers = {"Host": ada.host, "Cookie": ada.cookie}
        async with ada.http.get(f"http://127.0.0.1:{ada.port}/_cloister/events", headers=headers) as events:
            assert b"event: budget" in await events.content.readuntil(b"\n\n"), "and the page says why"

        async def written():
            async with api.platform.database.read() as uow:
                return [row.bytes for row in (await uow.session.scalars(scoped_select(Outflow, EVERYTHING))).all()]

        assert (await until(written, 10))[0] >= 400_000
        budget = f"/spaces/cup/teams/{ada.team}/downloads"
        assert (await ada.client.post(budget)).status_code == 403
        steward = await api.sign_in("steward")
        assert (await steward.post(budget)).status_code == 204
        assert (await ada.get("/files/a.txt"))[0] == 200, "a steward gave more"
        await ada.close()


async def test_who_keeps_asking_where_downloads_are_metered_is_let_in_all_the_while(tmp_path, monkeypatch):
    """The answer that is given again and again must not outlive the pass in it."""
    monkeypatch.setattr("cloister.gateway.passes.PASS_SECONDS", 1.0)
    async with gateway_platform(
        tmp_path, lab_blueprint(policies={"workspace_disk": "128M", "downloads": "metered"})
    ) as api:
        ada = await at_a_desk(api)
        end = monotonic() + 4
        answers = set()
        while monotonic() < end:
            answers.add((await ada.get("/api/status"))[0])
        assert answers == {200}
        await ada.close()


async def test_what_comes_in_is_bounded_also_in_parts(tmp_path):
    policies = {"workspace_disk": "128M", "upload": "1M", "downloads": "allowed"}
    async with gateway_platform(tmp_path, lab_blueprint(policies=policies)) as api:
        ada = await at_a_desk(api)
        status, _, body = await save(ada, "large.txt", "x" * 1_500_000)
        assert (status, json.loads(body)["code"]) == (413, "gateway.upload_too_large")
        part = lambda number: ada.get(  # noqa: E731
            "/api/contents/parts.bin", "PUT",
            json={"type": "file", "format": "base64", "chunk": number, "content": "QUFB" * 200_000},
        )  # fmt: skip
        outcomes = [(await part(number))[0] for number in range(1, 12)]
        assert (outcomes[0], outcomes[-1]) == (201, 413), outcomes

        async def endless():
            while True:
                yield b"x" * 65536

        with contextlib.suppress(aiohttp.ClientError):  # it is cut off while it still sends
            assert (await ada.get("/api/contents/stream.txt", "PUT", data=endless()))[0] == 413
        assert (await ada.get("/api/contents/stream.txt"))[0] == 404
        assert (await save(ada, "a.txt", "small"))[0] == 201
        await ada.close()


async def test_no_other_address_of_the_app_hands_out_files(tmp_path):
    policies = {"workspace_disk": "128M", "downloads": "blocked", "view": "1M"}
    async with gateway_platform(tmp_path, lab_blueprint(policies=policies)) as api:
        ada = await at_a_desk(api)
        code = """
            import os
            folder = os.path.expanduser("~/.local/share/jupyter/kernels/x")
            os.makedirs(folder)
            open(folder + "/kernel.json", "w").write('{"argv": [], "display_name": "x", "language": "python"}')
            for name in ("data.csv", "logo-64x64.png"):
                open(f"{folder}/{name}", "wb").write(b"secret" * 500_000)
        """
        async with await ada.kernel() as kernel:
            await kernel.run(textwrap.dedent(code))
        status, _, body = await ada.get("/kernelspecs/x/data.csv")
        assert (status, json.loads(body)["code"]) == (403, "gateway.downloads_blocked")
        status, _, body = await ada.get("/kernelspecs/x/logo-64x64.png")
        assert (status, json.loads(body)["code"]) == (403, "gateway.too_large_to_view")
        assert (await ada.get("/api/kernelspecs"))[0] == 200
        await ada.close()


async def test_an_idle_workspace_is_stopped_a_busy_one_is_not_and_it_can_be_kept(cup, desk):
    ada = await desk("ada")
    await ada.enter()
    await ada.start()
    controller = cup.platform.workspace_controller
    clock = controller._clock
    real = clock.now

    async def judged(minutes, forgotten=False):
        clock.now = lambda: real() + timedelta(minutes=minutes)
        try:
            from cloister.spaces import declared, get_space
            from cloister.workspaces import Workspace

            async with cup.platform.database.read() as uow:
                row = (await uow.session.scalars(scoped_select(Workspace, EVERYTHING))).one()
                sandbox = await controller._sandbox(uow, row)
                space = declared(await get_space(uow, "cup"))
            if forgotten:
                space = space.model_copy(update={"environments": []})
            return await controller.judge(row, sandbox, space)
        finally:
            del clock.now

    async with await ada.kernel() as kernel:
        await kernel.ws.send_str(json.dumps({
            "header": {"msg_id": "busy", "msg_type": "execute_request", "username": "", "session": "s", "version": "5.3", "date": ""},
            "parent_header": {}, "metadata": {}, "channel": "shell", "buffers": [],
            "content": {"code": "import time; time.sleep(4)", "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False},
        }))  # fmt: skip

        async def busy():
            seen = await judged(0)
            return (seen.word, seen.value) == ("kernels", "1")

        await until(busy, 10, 0.1)
        assert (await judged(600)).busy
        assert (await ada.workspace())["wanted"] == "running", "a busy kernel is never stopped"

        async def at_rest():
            return not (await judged(0)).busy

        await until(at_rest, 15, 0.3)
        assert (await judged(0, forgotten=True)).kernels == 1, "also when its environment is declared no longer"
    keep = (real() + timedelta(hours=20)).isoformat()
    path = f"/spaces/cup/teams/{ada.team}/workspace"
    assert (await ada.client.patch(path, json={"keep_until": keep})).status_code == 200
    await judged(700)
    assert (await ada.workspace())["wanted"] == "running", "somebody asked to keep it"
    too_long = (real() + timedelta(hours=2000)).isoformat()
    assert (await ada.client.patch(path, json={"keep_until": too_long})).json()["code"] == "workspace.keep_too_long"
    await judged(60 * 21)
    stopped = await ada.becomes("stopped")
    assert "Nothing ran" in stopped["reason"]
    status, _, _ = await ada.get("/lab", document=True)
    assert status == 503, "and it wakes on the next visit"


async def test_any_web_application_can_be_a_workspace(tmp_path):
    app = {"command": ["python3", "-c", APP], "port": 8123}
    declared = lab_blueprint(environments=[{"name": "web", "app": app}])
    async with gateway_platform(tmp_path, declared) as api:
        ada = await at_a_desk(api)
        status, headers, body = await ada.get("/anything")
        me = (await ada.client.get("/me")).json()["number"]
        assert (status, body.decode().split()[:2]) == (200, ["hello", me])
        assert "cloister-workspace" not in body.decode(), "the app never sees the cookie that lets people in"
        await ada.close()


async def test_an_app_that_does_not_start_says_why_and_is_not_tried_for_ever(tmp_path):
    declared = lab_blueprint(
        environments=[{"name": "web", "app": {"command": ["python3", "-c", "raise SystemExit('no luck')"]}}]
    )
    async with gateway_platform(tmp_path, declared) as api:
        client = await api.member("ada", "cup")
        made = (await client.post("/spaces/cup/teams", json={"name": "blue"})).json()
        ada = Desk(api, client, made["number"], "blue")
        await client.post(f"/spaces/cup/teams/{ada.team}/workspace/start")
        failed = await ada.becomes("failed", 30)
        assert "4 times" in failed["reason"]
        output = await client.get(f"/spaces/cup/sandboxes/{failed['sandbox']}/output")
        assert "no luck" in output.text
        await ada.close()


async def test_a_full_disk_keeps_nobody_from_their_files(tmp_path):
    declared = lab_blueprint(policies={"workspace_disk": "64M", "downloads": "allowed"})
    async with gateway_platform(tmp_path, declared) as api:
        ada = await at_a_desk(api)
        fill = """
            import os
            with open(os.path.expanduser("~/big.bin"), "wb", buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(65536))
                except OSError as error:
                    print(error.strerror)
        """
        async with await ada.kernel() as kernel:
            assert "No space left" in (await kernel.run(textwrap.dedent(fill)))[0]
        await ada.client.post(f"/spaces/cup/teams/{ada.team}/workspace/stop")
        await ada.becomes("stopped")
        await ada.start()
        assert (await ada.get("/api/contents/big.bin", "DELETE"))[0] == 204
        assert (await save(ada, "a.txt", "x" * 1_000_000))[0] == 201
        await ada.close()


async def test_a_body_that_comes_a_byte_at_a_time_is_not_waited_for(tmp_path):
    declared = lab_blueprint(environments=[{"name": "web", "app": {"command": ["python3", "-c", APP], "port": 8123}}])
    settings = {"body_grace_seconds": 0.5, "body_bytes_per_second": 1000}
    async with gateway_platform(tmp_path, declared, **settings) as api:
        ada = await at_a_desk(api)

        async def drip(host, cookie, path):
            """Send a request whose body goes on for ever, slowly; return the first line of what comes back. (Caddy reads
            the rest of a body of less than 256 kB before it passes an answer on; nothing of ours waits then.)
            """
            reader, writer = await asyncio.open_connection("127.0.0.1", ada.port)
            head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nOrigin: http://{host}\r\n"
            writer.write(f"{head}Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n".encode())
            answer = asyncio.create_task(reader.readline())
            for _ in range(600):
                if answer.done():
                    break
                writer.write(b" ")
                await asyncio.sleep(0.05)  # as slow as the one who does it means to be
            writer.close()
            return await answer

        session = f"cloister={ada.client.cookies['cloister']}"
        assert b" 408 " in await drip(f"localhost:{ada.port}", session, "/api/v1/me/tokens")
        assert b" 408 " in await drip(ada.host, ada.cookie, "/anything")
        assert (await ada.get("/"))[0] == 200
        await ada.close()
