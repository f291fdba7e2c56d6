"""The airlock: what leaves a cell was asked for, looked at and let through."""

import asyncio
import hashlib
from datetime import timedelta

import pytest
import pytest_asyncio

from cloister.access import scoped_get
from cloister.airlock import Export
from cloister.audit import verify
from cloister.core.principal import EVERYTHING, SYSTEM, Role
from tests.sandbox.governed import short_folder
from tests.support import blueprint, declare, make_settings, served, until

pytestmark = pytest.mark.asyncio(loop_scope="module")
ASK = """
import cloister, os
open('table.csv', 'w').write('a,b\\n1,2\\n')
os.makedirs('figures', exist_ok=True)
open('figures/plot.bin', 'wb').write(bytes(range(256)))
asked = cloister.export('table.csv', os.path.expanduser('~/figures/plot.bin'), why='the table of our paper')
open('table.csv', 'w').write('changed since')
print(asked['id'], asked['state'])
"""
REFUSED = {"approve": False, "reason": "rows of single people"}
TRICKS = """
import os
os.symlink('/etc/passwd', 'link')
os.symlink('/proc/self', 'folder')
os.mkfifo('pipe')
os.makedirs('plain', exist_ok=True)
open('large', 'w').truncate(3_000_000)
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def api():
    with short_folder() as folder:
        async with served(make_settings(folder / "state", export_bytes=2_000_000)) as found:
            roles = {
                "owner": ["owner@test.example"],
                "steward": ["steward@test.example"],
                "reviewer": ["rita@test.example"],
            }
            await declare(found.platform, blueprint(roles=roles))
            yield found


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def ana(api):
    return await api.member("ana")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def rita(api):
    return await api.sign_in("rita")


async def asked(api, client, code=ASK):
    """The export that code in a sandbox asked for."""
    state, said = await api.run(client, code, volume="home")
    assert state["exit_code"] == 0, said
    return said.split()[0]


async def volume_of(client):
    return (await client.get("/spaces/course/volumes")).json()["items"][0]


async def team_of(client):
    return (await client.get("/spaces/course/enrolment")).json()["team"]


async def ask(client, *paths, **more):
    body = {"paths": list(paths), "why": "a test", "volume": (await volume_of(client))["id"], **more}
    return await client.post(f"/spaces/course/teams/{await team_of(client)}/exports", json=body)


async def letters(api, about):
    folder = api.platform.settings.state_directory / "mail"

    def found():
        return [text for path in folder.glob("*") if about in (text := path.read_text())]

    async def come():
        return found()

    return await until(come, 5)


async def test_files_leave_as_they_were_when_asked_for_once_a_reviewer_let_them(api, ana, rita):
    id_ = await asked(api, ana)
    path = f"/spaces/course/exports/{id_}"
    waiting = (await ana.get(path)).json()
    assert waiting["state"] == "waiting"
    assert [(f["path"], f["size"], f["lines"]) for f in waiting["files"]] == [
        ("table.csv", 8, 2), ("figures/plot.bin", 256, None),
    ]  # fmt: skip
    early = await ana.get(f"{path}/files/0")
    assert (early.status_code, early.json()["code"]) == (403, "export.not_approved")
    assert (await ana.post(f"{path}/decision", json={"approve": True})).status_code == 403
    assert await letters(api, "rita@test.example")

    assert [
        e["id"] for e in (await rita.get("/spaces/course/exports", params={"state": "waiting"})).json()["items"]
    ] == [id_]
    looked = await rita.get(f"{path}/files/0")
    assert looked.content == b"a,b\n1,2\n"
    assert looked.headers["content-disposition"].startswith("attachment")
    decided = await rita.post(f"{path}/decision", json={"approve": True, "reason": "counts only"})
    assert decided.json()["state"] == "approved"
    assert (await rita.post(f"{path}/decision", json=REFUSED)).json()["code"] == "export.decided"

    taken = await ana.get(f"{path}/files/1")
    assert hashlib.sha256(taken.content).hexdigest() == waiting["files"][1]["sha256"]
    assert (await ana.get(f"{path}/files/2")).json()["code"] == "export.not_found"
    names = [record["name"] for record in await api.records(space="course") if record["subject"] == id_]
    assert names == [
        "airlock:file:download", "airlock:export:decide", "airlock:file:inspect", "airlock:file:refuse", "airlock:export:ask",
    ]  # fmt: skip
    assert await letters(api, "counts only")


async def test_nothing_but_plain_files_of_the_team_s_own_can_be_asked_for(api, ana):
    state, _ = await api.run(ana, TRICKS, volume="home")
    assert state["exit_code"] == 0
    for path in ("link", "folder/environ", "pipe", "plain", "../../etc/passwd", "/etc/passwd", "a\0b", "nothing", "."):
        answer = await ask(ana, path)
        assert (answer.status_code, answer.json()["code"]) == (404, "volume.file_not_found"), path
    large = await ask(ana, "large")
    assert (large.status_code, large.json()["code"]) == (413, "export.too_large")
    ben = await api.member("ben")
    state, _ = await api.run(ben, "open('mine', 'w').write('x')", volume="home")
    theirs = (await volume_of(ben))["id"]
    assert (await ask(ana, "mine", volume=theirs)).status_code == 404
    id_ = (await ask(ben, "mine")).json()["id"]
    for method, path in (("GET", ""), ("GET", "/files/0"), ("POST", "/withdrawal")):
        assert (await ana.request(method, f"/spaces/course/exports/{id_}{path}")).status_code == 404
    listed = (await ana.get("/spaces/course/exports")).json()["items"]
    assert id_ not in [one["id"] for one in listed]
    failed = [one for one in listed if one["state"] == "failed"]
    assert failed
    assert all(one["files"] == [] for one in failed)
    found = (await ana.get(f"/spaces/course/volumes/{(await volume_of(ana))['id']}/files")).json()["items"]
    assert {"large", "plain"} <= {one["name"] for one in found}
    assert not {"link", "pipe"} & {one["name"] for one in found}


async def test_nobody_lets_out_what_is_their_own_team_s(api):
    both = await api.member("both")
    number = int((await both.get("/me")).json()["number"].removeprefix("p-"))
    async with api.platform.database.write() as uow:
        await api.platform.bindings.grant(uow, number, Role.STEWARD, source="test", space="course")
    state, _ = await api.run(both, "open('mine', 'w').write('x')", volume="home", team=await team_of(both))
    assert state["exit_code"] == 0
    team = await team_of(both)
    volume = next(v for v in (await both.get("/spaces/course/volumes")).json()["items"] if v["team"] == team)
    id_ = (await ask(both, "mine", volume=volume["id"])).json()["id"]
    answer = await both.post(f"/spaces/course/exports/{id_}/decision", json={"approve": True})
    assert (answer.status_code, answer.json()["code"]) == (403, "export.own")
    assert (await both.get(f"/spaces/course/exports/{id_}/files/0")).json()["code"] == "export.not_approved"
    async with api.platform.database.write() as uow:  # nor when they have left it since
        await api.platform.bindings.revoke(uow, number, space="course", role=Role.MEMBER)
    answer = await both.post(f"/spaces/course/exports/{id_}/decision", json={"approve": True})
    assert (answer.status_code, answer.json()["code"]) == (403, "export.own")
    refused = [r for r in await api.records(space="course", name="airlock:file:refuse") if r["subject"] == id_]
    assert [r["details"].get("code") for r in refused] == ["export.own", None, "export.own"]
    owner = await api.sign_in("owner")
    assert (await owner.get(f"/spaces/course/exports/{id_}")).status_code == 200
    assert (await owner.get(f"/spaces/course/exports/{id_}/files/0")).json()["code"] == "export.others"
    async with api.platform.database.write() as uow:
        await api.platform.bindings.revoke(uow, number, space="course", role=Role.STEWARD)


async def test_what_is_refused_or_withdrawn_is_removed_and_who_asked_is_told(api, ana, rita):
    for how in ("refused", "withdrawn"):
        id_ = await asked(api, ana)
        path = f"/spaces/course/exports/{id_}"
        if how == "refused":
            await rita.post(f"{path}/decision", json=REFUSED)
            assert await letters(api, "rows of single people")
        else:
            await ana.post(f"{path}/withdrawal")
        await until(lambda: gone(api, id_), 10)
        row = (await ana.get(path)).json()
        assert (row["state"], row["kept"]) == (how, False)
        assert (await rita.get(f"{path}/files/0")).json()["code"] == "export.gone"


async def gone(api, id_):
    async with api.platform.database.read() as uow:
        row = await scoped_get(uow, Export, EVERYTHING, id=id_)
    return not row.kept and await api.platform.objects.keys(f"spaces/course/exports/{id_}") == []


async def test_approved_files_wait_so_many_days_and_half_copied_ones_not_at_all(api, ana, rita):
    old, broken = await asked(api, ana), await asked(api, ana)
    await rita.post(f"/spaces/course/exports/{old}/decision", json={"approve": True})
    async with api.platform.database.write(SYSTEM) as uow:
        uow.unrecorded("a test")
        (await scoped_get(uow, Export, EVERYTHING, id=old)).kept_until -= timedelta(days=31)
        (await scoped_get(uow, Export, EVERYTHING, id=broken)).state = "copying"  # as a killed process leaves it
    half = api.platform.settings.state_directory / "objects" / "spaces/course/exports" / broken / "1#1"
    half.write_text("what a killed upload leaves")
    await rita.post(f"/spaces/course/exports/{await asked(api, ana)}/decision", json=REFUSED)  # which wakes it
    await until(lambda: gone(api, old), 10)
    await until(lambda: gone(api, broken), 10)
    assert not half.exists()
    assert (await ana.get(f"/spaces/course/exports/{broken}")).json()["state"] == "failed"
    assert (await ana.get(f"/spaces/course/exports/{old}/files/0")).json()["code"] == "export.gone"


async def test_many_that_wait_are_enough(api):
    carl = await api.member("carl")
    state, _ = await api.run(carl, "open('mine', 'w').write('x')", volume="home")
    assert state["exit_code"] == 0
    codes = [answer.status_code for answer in await asyncio.gather(*(ask(carl, "mine") for _ in range(25)))]
    assert sorted(codes) == [201] * 20 + [409] * 5
    about = await letters(api, (await team_of(carl)))
    assert len([letter for letter in about if "rita@test.example" in letter]) == 1  # not one for each
    await api.platform.recorder.flush()
    assert (await verify(api.platform.database, None)).sound


async def test_owners_are_told_when_nobody_may_decide(api):
    dora, owner = await api.member("dora"), await api.sign_in("owner")
    path = "/spaces/course/settings"
    found = await owner.get(path)
    before = found.json()
    alone = {**before, "roles": {"owner": before["roles"]["owner"]}}
    changed = await owner.put(path, json=alone, headers={"If-Match": found.headers["etag"]})
    assert changed.status_code == 200, changed.text
    id_ = await asked(api, dora)
    [letter] = await letters(api, "Nobody may decide on an export")
    assert "owner@test.example" in letter
    assert f"team {await team_of(dora)} " in letter.replace("=\n", "")
    back = await owner.put(path, json=before, headers={"If-Match": changed.headers["etag"]})
    assert back.status_code == 200, back.text
    rita = await api.sign_in("rita")
    assert (await rita.post(f"/spaces/course/exports/{id_}/decision", json={"approve": True})).status_code == 200


async def test_the_end_of_a_space_removes_its_exports(api):
    report = {line.what: line for line in await api.platform.endings.end("course", SYSTEM)}
    assert report["rows of exports"].count > 0
    assert all(line.left == 0 for line in report.values())
    assert await api.platform.objects.keys("spaces/course") == []
