"""What the anomaly rules find is seen by stewards and operators, and by nobody else."""

from datetime import UTC, datetime, timedelta

import pytest

from cloister.audit import Draft, Name, Outcome
from cloister.insight import AnomalyController
from cloister.sandboxes import Usage
from tests.support import ARROW, blueprint, declare, until


async def test_repeated_wall_hits_are_shown_to_stewards_and_closed_with_a_reason(api):
    await declare(api.platform, blueprint())
    ana, steward = await api.member("ana"), await api.sign_in("steward")
    number = int((await ana.get("/me")).json()["number"][2:])
    for port in range(30):
        draft = Draft(
            name=Name.EGRESS_DENIED, outcome=Outcome.REFUSED, person=number, team=1, space="course",
            subject=f"evil.example:{port}",
        )  # fmt: skip
        await api.platform.recorder.record(draft)

    async def found():
        return (await steward.get("/spaces/course/findings")).json()["items"]

    (finding,) = await until(found)
    assert (finding["rule"], finding["person"], finding["closed"]) == ("walls.hits", f"p-{number:06d}", None)
    assert len(finding["records"]) == 5
    assert finding["advice"]
    assert (await ana.get("/spaces/course/findings")).status_code == 403
    assert [f["rule"] for f in (await api.operator().get("/findings")).json()["items"]] == ["walls.hits"]
    closing = f"/spaces/course/findings/{finding['number']}/closing"
    assert (await ana.post(closing, json={"why": "it was me"})).status_code == 403
    assert (await steward.post(closing, json={"why": "a wrong loop"})).json()["closed"] == "a wrong loop"
    (finding,) = await found()
    assert (finding["closed"], finding["closed_by"]) == ("a wrong loop", (await steward.get("/me")).json()["number"])
    missing = await steward.post("/spaces/course/findings/1/closing", json={"why": "?"})
    assert (missing.status_code, missing.json()["code"]) == (404, "finding.not_found")
    again = AnomalyController(api.platform.database, api.platform.backend, api.platform.clock)
    await again.look()
    assert len(await found()) == 1, "a restart found it again"


@pytest.mark.parametrize("rule", ["load.cpu", "load.memory"])
async def test_who_uses_all_of_a_processor_or_of_the_memory_for_long_is_found(api, rule):
    await declare(api.platform, blueprint())
    now = datetime.now(UTC)
    controller = AnomalyController(api.platform.database, api.platform.backend, api.platform.clock)
    ada = await api.member("ada")
    await api.platform.environments.ensure(ARROW)
    sandbox = (await ada.post("/spaces/course/sandboxes", json={"command": ["sleep", "600"]})).json()
    used = {"seconds": 0.0, "bytes": 1}

    async def usage(_id):
        return Usage(cpu_seconds=used["seconds"], memory_bytes=used["bytes"], processes=1)

    controller._backend = type("Measured", (), {"usage": staticmethod(usage)})()
    controller._clock = type("Moved", (), {"now": lambda _self: now})()
    for idle in range(200):
        now += timedelta(minutes=1)
        assert await controller._read_use() == [], f"nothing for {idle} minutes"
    found = []
    for _ in range(200):
        now += timedelta(minutes=1)
        if rule == "load.cpu":
            used["seconds"] += 60
        else:
            used["bytes"] = 256 << 20
        found += await controller._read_use()
    assert {one.key.rule for one in found} == {rule}
    assert {one.sandbox for one in found} == {sandbox["id"]}
