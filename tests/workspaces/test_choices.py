"""What a workspace runs on is chosen by its team; why it does not start, or runs no more, is said."""

import asyncio
import io
import json
import os
import signal
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest

from tests.support import declare, until
from tests.workspaces.conftest import Desk, gateway_platform, lab_blueprint
from tests.workspaces.test_capacity import APP, WEB, path, priced
from tests.workspaces.test_policies import at_a_desk

OTHER = {"name": "other", "title": "Another app", "description": "For maps.", "icon": "🗺", "app": APP}
BROKEN = {"name": "broken", "packages": ["no-such-package-of-anybody"], "app": APP}


async def test_a_team_chooses_among_environments_before_its_first_start_and_after(tmp_path):
    async with gateway_platform(tmp_path, priced(environments=[WEB, OTHER, {"name": "plain"}])) as api:
        client = await api.member("ada", "cup")
        made = (await client.post("/spaces/cup/teams", json={"name": "blue"})).json()
        ada = Desk(api, client, made["number"], "blue")
        items = (await client.get("/spaces/cup/workspace-environments")).json()["items"]
        assert [(one["name"], one["title"], one["icon"], one["pinned"]) for one in items] == [
            ("web", "web", "", False), ("other", "Another app", "🗺", False)
        ]  # fmt: skip
        for wrong, code in (("plain", "workspace.no_app"), ("none", "sandbox.environment_unknown")):
            refused = await client.post(f"{path(ada)}/start", json={"environment": wrong})
            assert refused.json()["code"] == code, refused.text
        assert (await client.post(f"{path(ada)}/start", json={"environment": "other"})).status_code == 202
        assert (await ada.becomes("running"))["environment"] == "other"
        assert (await client.patch(path(ada), json={"environment": "web"})).status_code == 200
        await ada.close()


async def test_an_environment_that_cannot_be_built_is_told_with_the_reason_and_mended(tmp_path):
    async with gateway_platform(tmp_path, priced(environments=[BROKEN])) as api:
        client = await api.member("ada", "cup")
        made = (await client.post("/spaces/cup/teams", json={"name": "blue"})).json()
        ada = Desk(api, client, made["number"], "blue")
        await client.post(f"{path(ada)}/start")

        async def told():
            return "no-such-package-of-anybody" in ((await ada.workspace())["reason"] or "")

        await until(told, 60)
        (choice,) = (await client.get("/spaces/cup/workspace-environments")).json()["items"]
        assert "no-such-package-of-anybody" in choice["problem"]
        stopped = (await client.post(f"{path(ada)}/stop")).json()
        assert stopped["wanted"] == "stopped", "what does not start can be put to rest"
        await declare(api.platform, priced(environments=[{**BROKEN, "packages": []}]))
        await ada.start()
        await ada.close()


async def test_a_round_that_begins_reaches_those_who_are_at_work_after_the_grace(tmp_path):
    now = datetime.now(UTC)
    stretch = {
        "name": "final",
        "starts": now - timedelta(days=1),
        "ends": now + timedelta(days=1),
        "environment": "web",
    }
    async with gateway_platform(tmp_path, priced(environments=[OTHER, WEB])) as api:
        ada = await at_a_desk(api)
        first = (await ada.workspace())["sandbox"]
        await declare(api.platform, priced(environments=[OTHER, WEB], rounds=[stretch]))
        controller = next(one for one in api.platform.controllers() if one.name == "workspaces")

        async def moved():
            controller._due.clear()  # it looks now and then
            controller.wake()
            row = await ada.workspace()
            return row["state"] == "running" and row["sandbox"] not in {first, None} and row

        sandbox = (await until(moved, 30, 0.3))["sandbox"]
        assert (await ada.client.get(f"/spaces/cup/sandboxes/{sandbox}")).json()["environment"] == "web"
        await ada.close()


async def test_after_a_crash_it_says_what_it_does_now_and_not_what_happened_then(tmp_path):
    async with gateway_platform(tmp_path, priced()) as api:
        ada = await at_a_desk(api)
        sandbox = (await ada.workspace())["sandbox"]
        os.kill(await api.platform.backend.alive(sandbox), signal.SIGKILL)

        async def again():
            row = await ada.workspace()
            return row["state"] == "running" and row["sandbox"] != sandbox and row

        assert (await until(again, 60, 0.1))["reason"] is None
        await ada.close()


@pytest.mark.parametrize("way", ["the enrolment expired", "new terms are not signed"])
async def test_what_is_open_closes_within_a_second_when(tmp_path, way):
    async with gateway_platform(tmp_path, lab_blueprint(enrolment={"days": 30})) as api:
        ada = await at_a_desk(api)
        events = await ada.http.get(
            f"http://127.0.0.1:{ada.port}/_cloister/events", headers={"Host": ada.host, "Cookie": ada.cookie}
        )
        async with await ada.kernel() as kernel:
            await kernel.run("1")
            begun = asyncio.get_running_loop().time()
            if way == "the enrolment expired":
                await _expire(api)
            else:
                agreements = [{"name": "dua", "title": "Terms", "text": "Be better.\n"}]
                await api.platform.blueprints.apply(
                    lab_blueprint(enrolment={"days": 30}, agreements=agreements), tmp_path, lambda _: None, _system()
                )
                begun = asyncio.get_running_loop().time()
            frame = await kernel.ws.receive(10)
            while frame.type is aiohttp.WSMsgType.TEXT:
                frame = await kernel.ws.receive(10)
            assert asyncio.get_running_loop().time() - begun < 1.5
            assert (frame.type, frame.data) == (aiohttp.WSMsgType.CLOSE, 4403)
        said = b""
        async with asyncio.timeout(10):
            while b"event: ended" not in said or not said.endswith(b"\n\n"):
                said += await events.content.readany()
        assert ("sign" if "terms" in way else "is over") in json.loads(said.rsplit(b"data: ", 1)[1])["reason"].lower()
        events.close()
        await ada.close()


def _system():
    from cloister.core.principal import SYSTEM

    return SYSTEM


async def _expire(api):
    """The day has come."""
    admission = api.platform.admission
    admission._clock = type("Late", (), {"now": lambda _self: datetime.now(UTC) + timedelta(days=31)})()
    await admission._expire()


async def test_a_file_that_comes_in_many_large_parts_is_bounded_as_a_whole(tmp_path):
    policies = {"workspace_disk": "128M", "upload": "6M"}
    async with gateway_platform(tmp_path, lab_blueprint(policies=policies)) as api:
        ada = await at_a_desk(api)

        def part(number, sized=True):
            text = json.dumps(
                {"type": "file", "format": "base64", "chunk": number, "content": "QUFB" * 1_250_000}
            ).encode()
            return ada.get(
                "/api/contents/parts.bin", "PUT", data=io.BytesIO(text) if sized else _chunks(text),
                headers={"Content-Type": "application/json"},
            )  # fmt: skip

        outcomes = [(await part(number))[0] for number in (1, 2)]
        outcomes.append((await part(3, sized=False))[0])
        assert (outcomes[0], outcomes[-1]) == (201, 413), outcomes
        await ada.close()


async def _chunks(data):
    for at in range(0, len(data), 60_000):
        yield data[at : at + 60_000]


async def test_what_is_opened_and_whose_door_was_tried_is_on_the_record(cup, desk):
    ada, eve = await desk("ada"), await desk("eve")
    await ada.enter()
    await ada.start()
    body = {"type": "file", "format": "text", "content": "x" * 2_000}
    assert (await ada.get("/api/contents/notes.txt", "PUT", json=body))[0] == 201
    assert (await ada.get("/api/contents/notes.txt"))[0] == 200
    assert (await ada.get("/api/contents/?content=1"))[0] == 200, "a look at a folder is no record"
    opened = await cup.records(name="gateway:file:open")
    assert [(r["subject"], r["details"]["bytes"]) for r in opened] == [("/api/contents/notes.txt", "2000")]
    token = (await eve.client.post("/me/tokens", json={"name": "t", "scopes": ["workspace.*"]})).json()["token"]
    for _ in range(3):
        status, _, _ = await ada.get("/api/status", cookie="", headers={"Authorization": f"token {token}"})
        assert status == 403
    (denied,) = [r for r in await cup.records(name="access:decision:deny") if r["details"].get("what") == "workspace"]
    assert (denied["subject"], denied["person"]) == (ada.team, (await eve.client.get("/me")).json()["number"])
