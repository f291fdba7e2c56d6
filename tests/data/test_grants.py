"""Grants begin and end by the clock."""

from datetime import UTC, datetime, timedelta

from cloister.access import scoped_get, scoped_select
from cloister.core.clock import ManualClock
from cloister.core.events import AccessChanged
from cloister.core.principal import EVERYTHING
from cloister.datasets import Dataset, GrantDeclaration, GrantPeriodController
from cloister.spaces import Space
from tests.support import blueprint, declare, fake_backend, served


async def test_a_grant_for_later_ends_the_present_one_only_then_and_each_turn_is_news(settings):
    clock = ManualClock(datetime(2026, 2, 1, tzinfo=UTC))
    backend = fake_backend()
    async with served(settings, backend=backend, clock=clock) as api:
        platform = api.platform
        await declare(platform, blueprint())
        start, end = clock.now() + timedelta(hours=1), clock.now() + timedelta(hours=2)
        async with platform.database.write() as uow:
            uow.unrecorded("a test")
            space = (await uow.session.scalars(scoped_select(Space, EVERYTHING))).one()
            uow.session.add(
                Dataset(
                    id="dts_1", space=space.space, name="d", metadata_={}, version=1, created_at=clock.now(),
                )
            )  # fmt: skip
            await uow.session.flush()
            for more in ({}, {"valid_from": start, "valid_until": end}):
                wanted = GrantDeclaration(
                    to="everybody", dataset="d", allow=["query"] if not more else ["query", "mount"], **more
                )
                await platform.grants.give(uow, "course", wanted, "api")

        async def counts():
            async with platform.database.read() as reading:
                return [
                    operation
                    for operation in ("query", "mount", "download")
                    if await platform.grants.effective(reading, "course", 1, 1, operation)
                ]

        news = []
        platform.bus.subscribe(AccessChanged, news.append)
        controller = GrantPeriodController(platform.database, platform.bus, clock)
        assert await controller.look() == 3600
        assert (await counts(), news) == (["query"], [])
        clock.advance(timedelta(hours=1))
        assert await controller.look() == 3600
        assert (await counts(), len(news)) == (["query", "mount"], 1)
        clock.advance(timedelta(hours=1))
        await controller.look()
        assert (await counts(), len(news)) == ([], 2)


async def test_of_one_subject_the_newest_grant_counts_for_each_operation(api):
    await declare(api.platform, blueprint())
    steward = await api.sign_in("steward")
    ana = await api.member("ana")
    await steward.post("/spaces/course/datasets/d", json={"title": "D"})
    number = (await ana.get("/me")).json()["number"]

    async def give(*allow, to="everybody", **more):
        body = {"to": to, "dataset": "d", "allow": list(allow), **more}
        answer = await steward.post("/spaces/course/grants", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    async def counts():
        async with api.platform.database.read() as uow:
            found = {}
            for operation in ("query", "mount", "download"):
                for grant in await api.platform.grants.effective(uow, "course", int(number[2:]), None, operation):
                    found[operation] = grant.policy.get("max_rows")
            return found

    await give("query", "mount", "download")
    assert await counts() == {"query": None, "mount": None, "download": None}
    capped = await give("query", max_rows=5)
    assert await counts() == {"query": 5, "mount": None, "download": None}, "what else was granted stays"
    assert (await steward.delete(f"/spaces/course/grants/{capped}")).status_code == 204
    assert await counts() == {"mount": None, "download": None}, "an older one does not come back"
    await give("query", to=f"person:{number}")
    assert await counts() == {"query": None}, "who is granted less than others is granted less"
    page = (await steward.get("/spaces/course/grants", params={"limit": 1})).json()
    rest = (await steward.get("/spaces/course/grants", params={"cursor": page["next_cursor"]})).json()
    assert [g["policy"]["allow"] for g in page["items"] + rest["items"]] == [["mount", "download"], ["query"]]


async def test_what_a_declaration_no_longer_names_is_no_longer_granted(settings):
    """Also what stood in one grant with what it still names."""
    everybody = {"to": "everybody", "dataset": "d"}
    backend = fake_backend()
    async with served(settings, backend=backend) as api:
        grants = api.platform.grants
        await declare(api.platform, blueprint())

        async def declared(*wanted):
            async with api.platform.database.write() as uow:
                uow.unrecorded("a test")
                if await scoped_get(uow, Dataset, EVERYTHING, name="d") is None:
                    now = api.platform.clock.now()
                    uow.session.add(
                        Dataset(id="dts_1", space="course", name="d", metadata_={}, version=1, created_at=now)
                    )
                    await uow.session.flush()
                changed = await grants.declare(uow, "course", [GrantDeclaration(**everybody, **one) for one in wanted])
            async with api.platform.database.read() as uow:
                ways = ("query", "mount", "download")
                return changed, [way for way in ways if await grants.effective(uow, "course", 1, 1, way)]

        assert await declared({"allow": ["query", "mount", "download"]}) == (1, ["query", "mount", "download"])
        assert (await declared({"allow": ["query"]}))[1] == ["query"]
        assert await declared({"allow": ["query"]}) == (0, ["query"])
        assert await declared({"allow": ["query"], "max_rows": 3}) == (1, ["query"])
        assert (await declared({"allow": ["query"]}, {"allow": ["mount"]}))[1] == ["query", "mount"]
        assert (await declared({"allow": ["mount"]}))[1] == ["mount"]
        assert (await declared())[1] == []
