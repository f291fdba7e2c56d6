"""Governed SQL: minimum groups, the cache, code in sandboxes, ends of access, and records before answers."""

import asyncio
import contextlib

import pytest
import pytest_asyncio

from cloister.audit import Name
from cloister.audit.recorder import LogUnavailable
from cloister.core.principal import SYSTEM, Role
from tests.sandbox.governed import (
    PATIENTS,
    SLOW,
    ask,
    code,
    cut,
    data_course,
    dataset,
    grouped_course,
    opened,
    rows,
    short_folder,
)
from tests.support import ARROW, blueprint, declare, make_settings, served, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def api():
    with short_folder() as folder:
        async with served(make_settings(folder / "state", audit_checkpoint_seconds=3600)) as found:
            found.folder = folder
            await declare(found.platform, data_course(folder))
            await declare(found.platform, grouped_course(folder))
            yield found


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def ana(api):
    client = await api.member("ana")
    assert (await api.apply(client, "trial")).status_code == 202
    await until(lambda: _in(client), 5)
    return client


async def _in(client):
    return (await client.get("/spaces/trial/enrolment")).json()["state"] == "active"


async def test_only_large_enough_groups_are_seen(ana):
    assert await rows(ana, "select country, count(*) from cases group by country order by 1", "trial") == [
        ["DE", 3],
        ["IT", 3],
    ]
    assert await rows(
        ana, "select country, count(*) from cases where disease = ? group by country order by country", "trial", ["flu"]
    ) == [["DE", 3], ["IT", 3]]
    assert await rows(ana, "select avg(age) from cases where name = 'name0'", "trial") == []
    assert await rows(ana, "select count(*) from risk where name = $n", "trial", {"n": "name0"}) == []
    assert [row[0] for row in await rows(ana, "describe cases", "trial")] == ["id", "name", "country", "disease", "age"]
    assert await code(ana, "select count(*) from cases where nosuch = 1", "trial") == (422, "query.failed")


TRICKS = [
    "select * from T", "from T", "table T", "summarize T", "select name from T group by name", "select min(name), count(*) from T", "select any_value(name) from T",
    "with x as (select * from T) select * from x", "with T as (select * from T) select * from T", "select * from T.T", "select * from main.T",
    "with T as (select *, 'RECURSIVE_CTE_NODE' as x from T) select * from T",
    "with T as (with recursive r as (select 1 a union all select a + 1 from r where a < 2) select p.* from T p, r where a = 1) select * from T",
    "with recursive T as (select id, name from T union all select id, name from T where false) select * from T",
    'with "K" as (select 1) select * from T', "select count(*) from T having true", "select count(*) filter (name = 'name0') from T", "select sum(distinct age) from T",
    "select country, count(*) from T group by rollup (country)", "select count(*) from T union all select id from T", "select sum(case when name = 'name0' then age end) from T",
    "select count(*) from T where age = (select max(age) from T)", "select count(*) over () from T", "select list(name) from T", "select string_agg(name) from T", "select stats(name) from T",
    "select count(*), (select max(age) from T) from T", "select * from (from T) s", "select count(*) from T a join T b using (id)", "select count(*) from T, T b", "select count(*) from T tablesample 1 rows",
    "select columns(*) from T", "select * from T pivot (count(*) for country in ('PT'))", "select count(*) from T qualify true", "select count(*) from T group by all",
    "select sum(age) from T group by country order by max(name)", "from (describe T) select *", "select count(*) from T order by (select min(name) from T)",
]  # fmt: skip


async def test_tricks_against_groups_are_refused(ana):
    wrong = {}
    for table, kelvin in (("risk", "ris\u212a"), ("cases", "ca\u017fe\u017f")):
        for trick in TRICKS:
            sql = trick.replace('"K"', f'"{kelvin}"').replace("T", table)
            answer = await ask(ana, sql, "trial")
            if (answer.status_code, answer.json().get("code")) != (403, "query.aggregates_only"):
                wrong[sql] = answer.text[:200]
    assert wrong == {}


async def test_an_error_is_no_oracle_of_single_rows(ana):
    """Whether a statement fails must not depend on a row that its groups would hide."""
    for there, not_there in (
        ("select count(*) from cases where name = 'name0' and disease = 'hiv' and cast(name as integer) > 0",
         "select count(*) from cases where name = 'name0' and disease = 'gout' and cast(name as integer) > 0"),
        ("select count(*) from cases where name = 'name0' and disease = 'hiv' and name = 5",
         "select count(*) from cases where name = 'name0' and disease = 'gout' and name = 5"),
        ("select country, sum(id) from cases where name = 'name2' group by country, age * 9223372036854775807",
         "select country, sum(id) from cases where name = 'nobody' group by country, age * 9223372036854775807"),
    ):  # fmt: skip
        first, second = await ask(ana, there, "trial"), await ask(ana, not_there, "trial")
        assert (first.status_code, first.json().get("code")) == (second.status_code, second.json().get("code")), there
        assert "name0" not in first.text


async def test_identical_questions_come_from_the_cache_and_are_recorded_all_the_same(api, ana):
    sql = "select country, count(*) as n from patients group by country order by country -- once"
    before = len([r for r in await api.records(name="query:statement:ask") if r["details"]["sql"] == sql])
    answers = [await ask(ana, sql) for _ in range(3)]
    assert [a.headers["cloister-cached"] for a in answers] == ["no", "yes", "yes"]
    assert len({a.content for a in answers}) == 1
    asked = [r for r in await api.records(name="query:statement:ask") if r["details"]["sql"] == sql]
    assert len(asked) - before == 3
    assert [r["details"]["cached"] for r in asked] == [True, True, False]
    assert all(r["details"]["tables"] == ["patients.patients"] and r["person"] and r["team"] for r in asked)
    ids = {a.headers["cloister-query"] for a in answers}
    told = [r for r in await api.records(name="query:statement:answer") if r["subject"] in ids]
    assert len(told) == 3
    assert all(
        r["details"]["rows"] == 5 and r["details"]["bytes"] > 0 and r["details"]["milliseconds"] >= 0 for r in told
    )
    assert (await ask(ana, sql, params=None, accept="text/csv")).headers["cloister-cached"] == "no"


@pytest.mark.parametrize(
    "expression",
    [
        "now()",
        "current_timestamp",
        "current_date",
        "current_time",
        "localtimestamp",
        "today()",
        "random()",
        "uuid()",
        "gen_random_uuid()",
        "cast(now() as date)",
    ],
)
async def test_what_changes_by_itself_is_not_cached(ana, expression):
    for _ in range(2):
        answer = await ask(ana, f"select cast({expression} as varchar)")
        assert answer.status_code == 200
        assert answer.headers["cloister-cached"] == "no"
    sample = [await ask(ana, "select * from range(1000) tablesample reservoir(5)") for _ in range(2)]
    assert [a.headers.get("cloister-cached") for a in sample] == ["no", "no"]


async def test_the_cache_does_not_outlive_a_policy_or_a_version(api, ana):
    steward = await api.sign_in("steward")
    sql = "select count(*), max(age) from patients"
    assert await rows(ana, sql) == [[12, 7777]]
    grant = {"to": "everybody", "dataset": "patients", "allow": ["query"], "tables": {"patients": {"rows": "age < 50"}}}
    given = await steward.post("/spaces/course/grants", json=grant)
    assert given.status_code == 201, given.text
    answer = await ask(ana, sql)
    assert (answer.json()["rows"], answer.headers["cloister-cached"]) == ([[7, 45]], "no")
    await declare(api.platform, blueprint(
        datasets=[dataset(api.folder, "patients", {"patients": PATIENTS + "99,new,PT,flu,1\n"})],
        grants=[{"to": "everybody", "dataset": "patients", "allow": ["query"]}],
    ))  # fmt: skip
    assert await rows(ana, sql) == [[13, 7777]]
    await declare(api.platform, data_course(api.folder))
    assert await rows(ana, sql) == [[12, 7777]]


async def test_code_in_a_sandbox_asks_and_gets_arrow(api, ana):
    state, printed = await api.run(ana, """
        import sys, cloister
        table = cloister.sql("select country, count(*) n from patients where age > $age group by country order by country", {"age": 40})
        print(type(table).__module__.split(".")[0], table.to_pydict(), "pandas" in sys.modules)
        print(cloister.sql("select ?", [7]).column(0).to_pylist(), sorted(t["table"] for t in cloister.datasets()))
        for sql in ("select * from secret", "select 1; select 2", "select cast('a' as integer)"):
            try:
                cloister.sql(sql)
            except cloister.QueryError as error:
                print(error.code)
    """)  # fmt: skip
    assert state["state"] == "stopped", (state, printed)
    lines = printed.splitlines()
    assert lines[0] == "pyarrow {'country': ['DE', 'ES', 'FR', 'PT'], 'n': [3, 1, 2, 1]} False"
    assert (
        lines[1]
        == "[7] ['capped.capped', 'patients.patients', 'people.people', 'short.short', 'weather.readings', 'weather.stations']"
    )
    assert lines[2:] == ["query.unknown_relation", "query.not_one_statement", "query.failed"]
    asked = [r for r in await api.records(name="query:statement:ask") if r["sandbox"] == state["id"]]
    assert len(asked) == 3
    assert all(r["person"] and r["team"] for r in asked)


async def test_answers_come_as_frames_of_pandas_and_polars(api, ana):
    packages = ["pyarrow>=20", "pandas>=2", "polars>=1"]
    frames = {"name": "frames", "packages": packages}
    await api.platform.environments.ensure(packages)
    await declare(
        api.platform, data_course(api.folder, environments=[{"name": "python-basic", "packages": ARROW}, frames])
    )
    state, printed = await api.run(ana, """
        import cloister
        for kind in ("pandas", "polars"):
            frame = cloister.sql("select country, age from patients where age > ? order by age", [60], as_=kind)
            print(type(frame).__module__.split(".")[0], frame.shape, list(frame.columns), frame["age"].max())
    """, environment="frames")  # fmt: skip
    assert state["state"] == "stopped", (state, printed)
    (pandas, polars) = printed.splitlines()
    assert pandas.removeprefix("pandas") == polars.removeprefix("polars")
    assert pandas.endswith("['country', 'age'] 7777")


async def test_no_byte_of_an_answer_without_its_record(api, ana, monkeypatch):
    recorder, seen = api.platform.recorder, []

    async def fail(draft):
        seen.append(draft.name)
        raise LogUnavailable

    sql = "select name, age from patients order by age"
    assert (await ask(ana, sql)).status_code == 200
    with monkeypatch.context() as patch:
        patch.setattr(recorder, "record", fail)
        for statement in (sql, sql + ", name"):  # from the cache, and from the engine
            answer = await ask(ana, statement)
            assert (answer.status_code, answer.json()["code"]) == (503, "audit.unavailable")
            assert "name0" not in answer.text
    assert seen == [Name.QUERY_ASKED, Name.QUERY_ASKED]
    real, order = recorder.record, []

    async def slow(draft):
        await asyncio.sleep(0.3)
        await real(draft)
        order.append("durable")

    monkeypatch.setattr(recorder, "record", slow)
    async with ana.stream("POST", "/spaces/course/query", json={"sql": sql + ", id"}) as answer:
        order.append("head")
        async for _ in answer.aiter_bytes():
            order.append("byte")
    assert order[:2] == ["durable", "head"]


async def test_access_that_ends_while_a_worker_still_starts_is_said_without_waiting_for_it(api, monkeypatch):
    steward, zoe = await api.sign_in("steward"), await api.member("zoe")
    monkeypatch.setattr(api.platform.workers, "take", lambda *_: asyncio.Event().wait())
    task = asyncio.create_task(ask(zoe, SLOW))
    await opened(zoe)

    async def revoke():
        grants = (await steward.get("/spaces/course/grants")).json()["items"]
        grant = next(g for g in grants if g["policy"]["dataset"] == "patients")
        return await steward.delete(f"/spaces/course/grants/{grant['id']}")

    answer, _ = await cut(zoe, task, revoke)
    assert (answer.status_code, answer.json()["code"]) == (403, "query.cancelled")
    await declare(api.platform, data_course(api.folder))


async def test_access_that_ends_cancels_an_open_query_within_a_second(api):
    steward, eve = await api.sign_in("steward"), await api.member("eve")

    async def revoke():
        grants = (await steward.get("/spaces/course/grants")).json()["items"]
        grant = next(g for g in grants if g["policy"]["dataset"] == "patients")
        return await steward.delete(f"/spaces/course/grants/{grant['id']}")

    async def new_terms():
        changed = data_course(api.folder, agreements=[{"name": "dua", "title": "Terms", "text": "Be better.\n"}])
        await api.platform.blueprints.apply(changed, api.folder, lambda _: None, SYSTEM)

    async def remove():
        person = (await eve.get("/me")).json()["number"]
        etag = (await steward.get(f"/spaces/course/enrolments/{person}")).headers["etag"]
        return await steward.put(
            f"/spaces/course/enrolments/{person}/removal", json={"reason": "enough"}, headers={"If-Match": etag}
        )

    for act, after in (
        (revoke, (403, "query.unknown_relation")),
        (new_terms, (403, "access.suspended")),
        (remove, (403, "enrolment.ended")),
    ):
        task = asyncio.create_task(ask(eve, SLOW))
        await opened(eve)
        answer, seconds = await cut(eve, task, act)
        assert (answer.status_code, answer.json()["code"]) == (403, "query.cancelled"), act.__name__
        assert seconds < 1, (act.__name__, seconds)
        assert await code(eve, "select count(*) from patients") == after
        await declare(api.platform, data_course(api.folder))
        form = (await eve.get("/spaces/course/registration")).json()["agreements"][0]
        await eve.post("/spaces/course/agreements/dua/signatures", json={"hash": form["hash"]})


async def test_a_suspended_member_does_not_get_by_as_a_reviewer(api):
    """A second role that may not ask is no way round a signature that is missing for the one that may."""
    client = await api.member("dora", "trial")
    number = int((await client.get("/me")).json()["number"].removeprefix("p-"))
    async with api.platform.database.write() as uow:
        await api.platform.bindings.grant(uow, number, Role.REVIEWER, source="test", space="trial")
        await api.platform.bindings.suspend(uow, "trial", [number], "Read and sign.")
    assert await code(client, "select count(*) from cases", "trial") == (403, "access.suspended")


async def test_what_is_revoked_while_its_edition_is_made_is_not_answered(api):
    """The first question under a narrowed grant waits for its edition; it may be revoked meanwhile."""
    steward, finn = await api.sign_in("steward"), await api.member("finn")
    grant = {"to": "everybody", "dataset": "secret", "allow": ["query"], "tables": {"secret": {"columns": ["a"]}}}
    given = (await steward.post("/spaces/course/grants", json=grant)).json()
    task = asyncio.create_task(ask(finn, "select * from secret"))
    await asyncio.sleep(0.1)
    assert (await steward.delete(f"/spaces/course/grants/{given['id']}")).status_code == 204
    answer = await task
    assert answer.status_code == 403, answer.text


async def test_a_bad_grant_neither_stops_other_queries_nor_shows_values(api):
    steward, gail = await api.sign_in("steward"), await api.member("gail")
    grant = {
        "to": "everybody",
        "dataset": "people",
        "allow": ["query"],
        "tables": {"people": {"columns": ["id"], "rows": "cast(name as integer) > 0"}},
    }
    answer = await steward.post("/spaces/course/grants", json=grant)
    with contextlib.suppress(AssertionError):
        assert answer.status_code == 422
        return
    answer = await ask(gail, "select count(*) from patients")
    assert "name0" not in answer.text
    assert answer.status_code == 200, answer.text
