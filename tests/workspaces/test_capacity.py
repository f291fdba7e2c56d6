"""Sizes and disks that cost something, rounds that pin an environment, and copies of volumes."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from cloister.access import scoped_select
from cloister.blueprint import catalogue
from cloister.core.principal import EVERYTHING
from cloister.spaces import declared, get_space
from cloister.workspaces import SnapshotController, Workspace
from tests.support import ARROW, cgroups, csv_file, declare, until
from tests.workspaces.conftest import LAB_ENVIRONMENT, SIZES, gateway_platform, lab_blueprint
from tests.workspaces.test_policies import at_a_desk, save

SMALL = {**SIZES["small"], "price": 1.0}
LARGE = {**SMALL, "cpus": 3.0, "memory": "1280M", "processes": 300, "price": 3.0}
HUGE = {**LARGE, "cpus": 4.0, "price": 9.0}
APP = {
    "command": ["python3", "-m", "http.server", "8123", "--bind", "127.0.0.1"], "port": 8123,
}  # fmt: skip
WEB = {"name": "web", "app": APP}


def priced(**changes):
    policies = {"workspace_disk": "64M", "disk_price": 16.0, "team_budget": 3.5, "grace_minutes": 0}
    base = {"environments": [WEB], "sizes": {"small": SMALL, "large": LARGE, "huge": HUGE}, "policies": policies}
    return lab_blueprint(**{**base, **changes})


def path(desk) -> str:
    return f"/spaces/cup/teams/{desk.team}/workspace"


async def test_within_the_budget_a_member_gets_it_at_once_and_above_it_a_steward_decides(tmp_path):
    async with gateway_platform(tmp_path, priced()) as api:
        ada, steward = await at_a_desk(api), await api.sign_in("steward")
        quote = (await ada.client.get(f"{path(ada)}/quote", params={"size": "large"})).json()
        assert (quote["price_now"], quote["price"], quote["needs_approval"]) == (1.0, 3.0, False)
        taken = (await ada.client.post(f"{path(ada)}/capacity", json={"size": "large"})).json()
        assert (taken["state"], (await ada.workspace())["size"]) == ("granted", "large")

        quote = (await ada.client.get(f"{path(ada)}/quote", params={"disk": "128M"})).json()
        assert (quote["price"], quote["needs_approval"]) == (4.0, True)
        refused = await ada.client.patch(path(ada), json={"disk": "128M"})
        assert (refused.status_code, refused.json()["code"]) == (409, "workspace.needs_approval")
        for _ in range(2):  # the second takes the place of the first
            asked = (await ada.client.post(f"{path(ada)}/capacity", json={"disk": "128M", "why": "more data"})).json()
        assert asked["state"] == "waiting"
        decision = f"/spaces/cup/capacity-requests/{asked['id']}/decision"
        assert (await ada.client.post(decision, json={"approve": True})).status_code == 403
        waiting = (await steward.get("/spaces/cup/capacity-requests")).json()["items"]
        assert [(w["why"], w["state"]) for w in waiting] == [("more data", "waiting"), ("more data", "refused")]
        approved = (await steward.post(decision, json={"approve": True})).json()
        assert approved["state"] == "approved"
        (volume,) = (await ada.client.get("/spaces/cup/volumes")).json()["items"]
        assert volume["size_bytes"] == 128 * 2**20
        assert (await ada.workspace())["price"] == 4.0
        again = await steward.post(decision, json={"approve": False})
        assert (again.status_code, again.json()["code"]) == (409, "capacity.decided")

        asked = (await ada.client.post(f"{path(ada)}/capacity", json={"size": "huge"})).json()
        decision = f"/spaces/cup/capacity-requests/{asked['id']}/decision"
        await steward.post(decision, json={"approve": False, "reason": "not this month"})
        mine = (await ada.client.get("/spaces/cup/capacity-requests")).json()["items"][0]
        assert (mine["state"], mine["reason"], (await ada.workspace())["size"]) == (
            "refused",
            "not this month",
            "large",
        )
        await ada.close()


async def test_one_that_runs_with_more_than_it_may_is_restarted_after_its_grace(tmp_path):
    async with gateway_platform(tmp_path, priced()) as api:
        ada, owner = await at_a_desk(api), await api.sign_in("owner")
        await ada.client.post(f"{path(ada)}/capacity", json={"size": "large"})
        await ada.client.post(f"{path(ada)}/restart")
        before = (await ada.becomes("running"))["sandbox"]
        assert (await owner.patch(path(ada), json={"size": "small"})).status_code == 200
        controller = api.platform.workspace_controller

        async def looked_at():
            async with api.platform.database.read() as uow:
                row = (await uow.session.scalars(scoped_select(Workspace, EVERYTHING))).one()
                sandbox = await controller._sandbox(uow, row)
                space = declared(await get_space(uow, "cup"))
            await controller._keep_to_size(row, sandbox, space)
            return await ada.workspace()

        assert (await looked_at())["due_at"] is not None, "it is told first"
        await looked_at()

        async def restarted():
            now = await ada.workspace()
            return now["state"] == "running" and now["sandbox"] != before and now["due_at"] is None

        await until(restarted, 30, 0.1)
        await ada.close()


async def test_a_larger_size_is_there_while_it_runs(tmp_path):
    async with gateway_platform(tmp_path, priced()) as api:
        ada = await at_a_desk(api)
        before = await ada.workspace()
        sizes = priced().sizes
        groups = lambda: limits(before["sandbox"])  # noqa: E731
        assert await groups() == (sizes["small"].memory_bytes, sizes["small"].processes)
        taken = await ada.client.post(f"{path(ada)}/capacity", json={"size": "large"})
        assert taken.json()["state"] == "granted"

        async def larger():
            return await groups() == (sizes["large"].memory_bytes, sizes["large"].processes)

        await until(larger, 5)
        now = await ada.workspace()
        assert (now["state"], now["sandbox"], now["due_at"]) == ("running", before["sandbox"], None)
        await ada.close()


async def limits(sandbox):
    """The memory and the number of processes that the kernel lets a sandbox have."""

    def read():
        found = {}
        for group in cgroups(sandbox):
            for name, files in {"memory": ("memory.limit_in_bytes", "memory.max"), "pids": ("pids.max",)}.items():
                found |= {name: int((group / file).read_text()) for file in files if (group / file).exists()}
        return found["memory"], found["pids"]

    return await asyncio.to_thread(read)


async def test_a_round_pins_the_environment_of_all(tmp_path):
    other = {"name": "other", "app": APP}
    now = datetime.now(UTC)
    stretch = {
        "name": "final",
        "starts": now - timedelta(days=1),
        "ends": now + timedelta(days=1),
        "environment": "web",
    }
    async with gateway_platform(tmp_path, priced(environments=[other, WEB])) as api:
        ada = await at_a_desk(api)
        assert (await ada.workspace())["environment"] == "other"
        await declare(api.platform, priced(environments=[other, WEB], rounds=[stretch]))
        refused = await ada.client.patch(path(ada), json={"environment": "other"})
        assert (refused.status_code, refused.json()["code"]) == (409, "workspace.environment_pinned")
        await ada.client.post(f"{path(ada)}/restart")
        sandbox = (await ada.becomes("running"))["sandbox"]
        assert (await ada.client.get(f"/spaces/cup/sandboxes/{sandbox}")).json()["environment"] == "web"
        await ada.close()


@pytest.mark.parametrize(
    ("stretches", "said"),
    [
        ([("r1", 0, 2, "nowhere")], "pins “nowhere”"),
        ([("r1", 0, 2, None), ("r2", 1, 3, None)], "overlap"),
        ([("r1", 2, 1, None)], "after starts"),
    ],
)
def test_rounds_that_make_no_sense_are_refused(stretches, said):
    start = datetime(2026, 1, 1, tzinfo=UTC)
    rounds = [
        {"name": n, "starts": start + timedelta(days=a), "ends": start + timedelta(days=b), "environment": e}
        for n, a, b, e in stretches
    ]
    with pytest.raises(ValueError, match=said):
        priced(rounds=rounds)


async def test_copies_are_taken_on_schedule_and_one_file_or_all_come_back(tmp_path):
    policies = {"workspace_disk": "64M", "snapshot_hours": 1, "snapshots_kept": 2, "idle_minutes": 10_080}
    async with gateway_platform(tmp_path, lab_blueprint(environments=[LAB_ENVIRONMENT], policies=policies)) as api:
        ada = await at_a_desk(api)
        await save(ada, "work.txt", "the good one")
        controller = SnapshotController(api.platform.database, api.platform.snapshots, api.platform.clock)
        clock, real = api.platform.clock, api.platform.clock.now
        try:
            for hours in (0.5, 2, 4, 6):
                clock.now = lambda hours=hours: real() + timedelta(hours=hours)
                async with api.platform.database.write() as uow:
                    uow.unrecorded("somebody worked")
                    (await uow.session.scalars(scoped_select(Workspace, EVERYTHING))).one().active_at = clock.now()
                await controller.look()
        finally:
            del clock.now
        (volume,) = (await ada.client.get("/spaces/cup/volumes")).json()["items"]
        assert [s["scheduled"] for s in volume["snapshots"]] == [True, True], "the oldest of three is gone"
        base = f"/spaces/cup/volumes/{volume['id']}/snapshots"
        hand = (await ada.client.post(base)).json()
        assert not hand["scheduled"]
        await save(ada, "work.txt", "spoilt")
        listed = (await ada.client.get(f"{base}/{hand['name']}/files")).json()["items"]
        assert ("work.txt", False, 12) in [(e["name"], e["folder"], e["size"]) for e in listed]

        back = await ada.client.post(f"{base}/{hand['name']}/restore", json={"file": "work.txt"})
        kept = back.json()["kept_as"]
        assert await text(ada, "work.txt") == "the good one"
        assert await text(ada, kept) == "spoilt"
        for wrong in ("../../etc/passwd", "/etc/passwd", "nothing.txt", ".."):
            answer = await ada.client.post(f"{base}/{hand['name']}/restore", json={"file": wrong})
            assert (answer.status_code, answer.json()["code"]) == (404, "volume.file_not_found"), wrong
        busy = await ada.client.post(f"{base}/{hand['name']}/restore", json={})
        assert busy.json()["code"] == "volume.busy"
        other = await at_a_desk(api, "eve", "red")
        assert (await other.client.get(f"{base}/{hand['name']}/files")).json()["code"] == "volume.not_found"

        await save(ada, "later.txt", "made after the copy")
        await ada.client.post(f"{path(ada)}/stop")
        await ada.becomes("stopped")
        asleep = await ada.client.post(f"{base}/{hand['name']}/restore", json={"file": "work.txt"})
        assert asleep.json()["code"] == "volume.asleep"
        assert (await ada.client.post(f"{base}/{hand['name']}/restore", json={})).status_code == 200
        await ada.client.post(f"{path(ada)}/start")
        await ada.becomes("running")
        status, _, _ = await ada.get("/api/contents/later.txt")
        assert (await text(ada, "work.txt"), status) == ("the good one", 404)
        await ada.close()
        await other.close()


async def text(desk, name: str) -> str:
    import json  # noqa: PLC0415

    status, _, body = await desk.get(f"/api/contents/{name}")
    assert status == 200, body
    return json.loads(body)["content"]


async def test_the_shipped_r_environment_runs_r_on_the_record(tmp_path):
    declared_r = {**catalogue()["r"], "packages": ARROW}
    rain = csv_file(tmp_path, "rain.csv", "day,mm,town\n1,4.5,Évora\n2,0.0,Faro\n3,12.5,Faro\n")
    declared = lab_blueprint(
        environments=[declared_r], datasets=[{"name": "rain", "title": "Rain", "tables": [{"name": "rain", "source": rain}]}],
        grants=[{"to": "everybody", "dataset": "rain", "allow": ["query"]}],
    )  # fmt: skip
    async with gateway_platform(tmp_path, declared) as api:
        ada = await at_a_desk(api)
        async with await ada.kernel("ir") as kernel:
            printed, _ = await kernel.run("cat(sum(c(20, 22)))\ncat(R.version$language)")
            asked, _ = await kernel.run(
                'd <- cloister.sql("select town, mm from rain where mm > ? order by day", list(1))\n'
                "cat(nrow(d), d$town, sum(d$mm), names(d), cloister.datasets()$table)"
            )
            kept, _ = await kernel.run(
                "v <- cloister.sql(\"select '01067' as code, 'NA' as land, 9007199254740993 as big, null::int as none,"
                " true as yes, 0.5::double as half, date '2026-01-02' as day, 7 as n\")\n"
                "cat(v$code, v$land, v$big, v$none, v$yes, v$half, format(v$day), v$n, sapply(v, class), "
                'nrow(cloister.sql("select 1 as a where false")))'
            )
            refused, _ = await kernel.run('cloister.sql("select * from secrets")')
        assert "42" in printed
        assert "R" in printed
        assert "2 Évora Faro 17 town mm rain.rain" in asked
        types = "character character character integer logical numeric Date integer"
        assert f"01067 NA 9007199254740993 NA TRUE 0.5 2026-01-02 7 {types} 0" in kept
        assert "no such table" in refused, refused
        ran = [record["details"]["code"] for record in await api.records(name="gateway:code:run")]
        assert any("sum(c(20, 22))" in code for code in ran)
        await ada.close()


async def test_one_person_cannot_flood_the_gateway(tmp_path):
    async with gateway_platform(tmp_path, priced(), gateway_requests_per_minute=60) as api:
        ada, eve = await at_a_desk(api), await at_a_desk(api, "eve", "red")
        statuses = [(await ada.get("/"))[0] for _ in range(70)]
        assert 429 in statuses
        assert (await eve.get("/"))[0] == 200, "others are not slowed"
        await ada.close()
        await eve.close()
