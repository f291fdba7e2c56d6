"""What a team may keep is bounded and can be let go of; what it may not read any more is not read on; nothing lies open."""

import asyncio
import json
import stat

import httpx2
import pytest
import pytest_asyncio

from tests.sandbox.governed import short_folder
from tests.support import blueprint, csv_file, declare, make_settings, served, until

pytestmark = pytest.mark.asyncio(loop_scope="module")
POLICIES = {"volumes_per_team": 2, "snapshots_by_hand": 2}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def api():
    with short_folder() as folder:
        csv_file(folder, "a.csv", "id\n1\n2\n")
        csv_file(folder, "b.csv", "id\n3\n")
        async with served(make_settings(folder / "state", sandbox_outputs_kept=2)) as found:
            tables = {"trial": ["a"], "same": ["same"], "pair": ["one", "two"]}
            datasets = [
                {"name": name, "title": name, "tables": [{"name": table, "source": "a.csv"} for table in names]}
                for name, names in tables.items()
            ]
            grants = [{"to": "everybody", "dataset": name, "allow": ["query"]} for name in tables]
            grants.append({"to": "everybody", "dataset": "same", "allow": ["download"]})
            space = blueprint(kind="competition", datasets=datasets, grants=grants, policies=POLICIES)
            await declare(found.platform, space, folder)
            found.folder, found.space = folder, space
            yield found


async def in_team(api, name):
    client = await api.member(name)
    await client.post("/spaces/course/teams", json={"name": name})
    return client


async def test_volumes_and_copies_have_a_number_and_can_be_deleted(api, monkeypatch):
    ana = await in_team(api, "ana")
    for name in ("one", "two"):
        await api.run(ana, f"open('{name}.txt', 'w').write('x')", volume=name)
    body = {"command": ["true"], "volume": "three"}
    refused = await ana.post("/spaces/course/sandboxes", json=body)
    assert (refused.status_code, refused.json()["code"]) == (409, "volume.too_many")
    volumes = {v["name"]: v["id"] for v in (await ana.get("/spaces/course/volumes")).json()["items"]}
    url = f"/spaces/course/volumes/{volumes['one']}"
    copies = [(await ana.post(f"{url}/snapshots")).json()["name"] for _ in range(2)]
    refused = await ana.post(f"{url}/snapshots")
    assert (refused.status_code, refused.json()["code"]) == (409, "volume.too_many_snapshots")
    assert (await ana.delete(f"{url}/snapshots/{copies[0]}")).status_code == 204
    assert (await ana.post(f"{url}/snapshots")).status_code == 201
    for wrong in ({}, {"confirm": "two"}):
        refused = await ana.delete(url, params=wrong)
        assert (refused.status_code, refused.json()["code"]) == (422, "volume.not_confirmed")
    sandbox = await api.start(ana, "import time; time.sleep(30)", volume="one")
    await api.running(ana, sandbox)
    assert (await ana.delete(url, params={"confirm": "one"})).json()["code"] == "volume.busy"
    with monkeypatch.context() as patch:  # as where volumes are folders: nothing is mounted
        patch.setattr(api.platform.disks, "mounted", lambda _volume: False)
        assert (await ana.delete(url, params={"confirm": "one"})).json()["code"] == "volume.busy"
        assert (await ana.post(f"{url}/snapshots/{copies[1]}/restore", json={})).json()["code"] == "volume.busy"
    await ana.delete(f"/spaces/course/sandboxes/{sandbox['id']}")
    await api.finish(ana, sandbox)
    assert (await ana.delete(url, params={"confirm": "one"})).status_code == 204
    left = [path.name for path in (api.folder / "state" / "volumes").iterdir() if volumes["one"] in path.name]
    assert left == [], "its copies are gone, too"
    assert (await ana.post("/spaces/course/sandboxes", json=body)).status_code == 202


async def test_what_ended_sandboxes_printed_is_kept_of_the_last_ones(api):
    ben = await in_team(api, "ben")
    done = [await api.run(ben, f"print('number {n}')") for n in range(4)]
    printed = [await api.output(ben, state) for state, _ in done]
    assert printed[2:] == ["number 2\n", "number 3\n"]
    assert printed[:2] == ["", ""]


async def put_out(steward, dora, team, token):
    removal = f"/spaces/course/enrolments/{(await dora.get('/me')).json()['number']}"
    etag = (await steward.get(removal)).headers["etag"]
    return await steward.put(f"{removal}/removal", json={"reason": "left"}, headers={"If-Match": etag})


WAYS = {
    "put out": put_out,
    "left the team": lambda steward, dora, team, token: dora.delete(f"/spaces/course/teams/{team}/members/me"),
    "token revoked": lambda steward, dora, team, token: dora.delete(f"/me/tokens/{token['id']}"),
    "signed out everywhere": lambda steward, dora, team, token: dora.post("/auth/sign-out-everywhere"),
}


@pytest.mark.parametrize("way", WAYS)
async def test_whoever_may_no_longer_reads_no_further(api, way):
    """A stream that is open goes on for nobody who may not open it."""
    name = way.replace(" ", "-")
    cleo, dora = await in_team(api, f"cleo-{name}"), await api.member(f"dora-{name}")
    steward = await api.sign_in("steward")
    team = (await cleo.get("/spaces/course/enrolment")).json()["team"]
    code = (await cleo.post(f"/spaces/course/teams/{team}/invitations")).json()["code"]
    assert (await dora.post("/spaces/course/join", json={"code": code})).status_code == 200
    token = (await dora.post("/me/tokens", json={"name": "reads", "scopes": ["sandbox.*"]})).json()
    reader = api.anonymous(headers={"Authorization": f"Bearer {token['token']}"}) if way == "token revoked" else dora
    sandbox = await api.start(cleo, "import time\nfor n in range(400):\n    print(n, flush=True)\n    time.sleep(0.05)")
    url = f"/spaces/course/sandboxes/{sandbox['id']}/output"
    read: dict[str, list[str]] = {"cleo": [], "dora": []}

    async def follow(who, client):
        async with client.stream("GET", url, params={"follow": True}) as answer:
            async for line in answer.aiter_lines():
                read[who].append(json.loads(line)["text"])

    readers = [asyncio.create_task(follow(*who)) for who in (("cleo", cleo), ("dora", reader))]

    async def reading():
        return all(len(lines) > 5 for lines in read.values())

    await until(reading, 20)
    done = await WAYS[way](steward, dora, team, token)
    assert done.status_code < 300, done.text
    with pytest.raises(httpx2.RemoteProtocolError):  # it ends unfinished, and visibly so
        await asyncio.wait_for(readers[1], 3)
    seen = len(read["dora"])
    assert (await reader.get(url)).status_code in {401, 403, 404}
    count = len(read["cleo"])

    async def goes_on():
        return len(read["cleo"]) > count + 5

    await until(goes_on, 10)
    assert len(read["dora"]) == seen
    await cleo.delete(f"/spaces/course/sandboxes/{sandbox['id']}")
    await readers[0]


async def test_a_download_ends_with_the_grant_that_let_it_begin(api, monkeypatch):
    eve, steward = await api.member("evelyn"), await api.sign_in("steward")
    given = await steward.post(
        "/spaces/course/grants", json={"to": "everybody", "dataset": "pair", "allow": ["download"]}
    )
    begun = asyncio.Event()

    async def endless(_key):
        while True:
            yield b"x" * 1024
            begun.set()
            await asyncio.sleep(0.02)

    monkeypatch.setattr(api.platform.objects, "stream", endless)

    async def download():
        async with eve.stream("GET", "/spaces/course/datasets/pair/versions/1/tables/one.parquet") as answer:
            assert answer.status_code == 200
            async for _ in answer.aiter_bytes():
                pass

    reader = asyncio.create_task(download())
    await asyncio.wait_for(begun.wait(), 10)
    assert (await steward.delete(f"/spaces/course/grants/{given.json()['id']}")).status_code == 204
    with pytest.raises(httpx2.RemoteProtocolError):
        await asyncio.wait_for(reader, 3)


async def test_who_opens_a_volume_while_it_is_restored_has_what_was_restored(api, monkeypatch):
    finn = await in_team(api, "finn")
    await api.run(finn, "open('work.txt', 'w').write('before')", volume="work")
    volume = (await finn.get("/spaces/course/volumes")).json()["items"][0]["id"]
    url = f"/spaces/course/volumes/{volume}/snapshots"
    copy = (await finn.post(url)).json()["name"]
    await api.run(finn, "open('work.txt', 'w').write('a mistake')", volume="work")
    real, copied = api.platform.disks.snapshot, asyncio.Event()

    async def slow(id_, name):
        await real(id_, name)
        copied.set()
        await asyncio.sleep(1)

    monkeypatch.setattr(api.platform.disks, "snapshot", slow)
    restoring = asyncio.create_task(finn.post(f"{url}/{copy}/restore", json={}))
    await copied.wait()
    code = "print(open('work.txt').read()); open('work.txt', 'a').write(' and after')"
    _, text = await api.run(finn, code, volume="work")
    assert (await restoring).status_code == 200
    _, later = await api.run(finn, "print(open('work.txt').read())", volume="work")
    assert (text.strip(), later.strip()) == ("before", "before and after"), "nothing is written to what was replaced"


async def test_what_it_is_told_to_ask_can_be_asked(api):
    eve = await in_team(api, "eve")
    tables = (await eve.get("/spaces/course/tables")).json()["items"]
    assert sorted(table["ask"] for table in tables) == ["pair.one", "pair.two", "same", "trial.a"]
    for table in tables:
        assert (await api.query(eve, f"select count(*) from {table['ask']}")).status_code == 200


async def test_nothing_that_is_kept_is_open_to_other_accounts_of_the_machine(api):
    state = api.folder / "state"
    for name in ("objects", "object-cache", "volumes", "run/volumes", "run/oci"):
        assert stat.S_IMODE((state / name).stat().st_mode) == 0o700, name
    for file in (path for path in state.iterdir() if path.is_file() and path.name != "seen.json"):  # when it last ran
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file.name
    assert stat.S_IMODE(state.stat().st_mode) == 0o711


async def test_an_exported_space_with_uploaded_data_is_planned_as_it_is(api):
    steward = await api.sign_in("steward")
    upload = (await steward.post("/spaces/course/uploads", content=b"x\n1\n")).json()
    await steward.post("/spaces/course/datasets/brought", json={"title": "Brought"})
    made = await steward.post(
        "/spaces/course/datasets/brought/versions",
        json={"tables": [{**upload, "table": {"name": "brought", "source": "mine.csv"}}]},
    )

    async def loaded():
        return (await steward.get(f"/operations/{made.json()['operation']}")).json()["state"] == "done"

    await until(loaded, 20)
    given = {"to": "everybody", "dataset": "brought", "allow": ["query"], "max_rows": 5}
    assert (await steward.post("/spaces/course/grants", json=given)).status_code == 201
    exported = await api.platform.blueprints.export("course")
    source = next(d for d in exported.datasets if d.name == "brought").tables[0]
    assert (source.source, source.format) == (f"sha256:{upload['sha256']}", "csv")
    changes = [str(change) for change in await api.platform.blueprints.plan(exported, api.folder)]
    assert changes == ["+ grant of brought to everybody: query"], "what a person gave would be the declaration's"
    await declare(api.platform, exported, api.folder)
    assert await api.platform.blueprints.plan(exported, api.folder) == []
    assert len((await steward.get("/spaces/course/datasets/brought/versions")).json()["items"]) == 1
