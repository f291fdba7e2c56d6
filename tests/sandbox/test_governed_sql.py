"""Governed SQL with real workers: what is visible, what is refused, forms, parameters, caps, cancellation."""

import asyncio
import time

import httpx2
import pyarrow as pa
import pyarrow.csv
import pytest
import pytest_asyncio

from tests.sandbox.governed import HIDDEN, SLOW, ask, code, cut, data_course, opened, rows, short_folder
from tests.support import declare, make_settings, served, until

pytestmark = pytest.mark.asyncio(loop_scope="module")
ARROW = "application/vnd.apache.arrow.stream"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def api():
    with short_folder() as folder:
        async with served(make_settings(folder / "state")) as found:
            await declare(found.platform, data_course(folder))
            yield found


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def ana(api):
    return await api.member("ana")


async def test_only_what_is_granted_is_visible(ana):
    seen = await rows(
        ana, "select table_schema || '.' || table_name from information_schema.tables where table_schema <> 'main'"
    )
    assert sorted(row[0] for row in seen) == [
        "capped.capped", "patients.patients", "people.people", "short.short", "weather.readings", "weather.stations",
    ]  # fmt: skip
    everything = (await ask(ana, "select * from information_schema.columns")).text
    assert "secret" not in everything
    assert "/data" not in everything
    tables = (await ana.get("/spaces/course/tables")).json()["items"]
    assert [column["name"] for t in tables if t["table"] == "people.people" for column in t["columns"]] == [
        "id",
        "country",
    ]


@pytest.mark.parametrize(
    "shape",
    [
        "select * from {}",
        "summarize {}",
        "describe {}",
        "with x as (from {}) from x",
        "select (select count(*) from {})",
    ],
)
async def test_a_denied_and_an_unknown_name_get_one_error(ana, shape):
    bodies = []
    for name in ("secret", "secret.secret", "nosuch", "nosuch.nosuch", "pg_catalog.pg_tables", "sqlite_master"):
        answer = await ask(ana, shape.format(name))
        body = answer.json()
        assert answer.status_code == 403, answer.text
        assert body.pop("request") == answer.headers["cloister-request"]
        bodies.append(body)
    assert all(body == bodies[0] for body in bodies)
    assert bodies[0]["code"] == "query.unknown_relation"


NOT_A_READ = {
    "copy patients to '/tmp/x.csv'": "query.statement_not_allowed",
    "attach '/tmp/x.db'": "query.statement_not_allowed",
    "install httpfs": "query.statement_not_allowed",
    "load httpfs": "query.statement_not_allowed",
    "pragma database_list": "query.statement_not_allowed",
    "set memory_limit='10GB'": "query.statement_not_allowed",
    "reset memory_limit": "query.statement_not_allowed",
    "export database '/tmp/x'": "query.statement_not_allowed",
    "create table t as select 1": "query.statement_not_allowed",
    "create view v as select 1": "query.statement_not_allowed",
    "create macro m(a) as a": "query.statement_not_allowed",
    "create secret s (type s3)": "query.statement_not_allowed",
    "drop view patients": "query.statement_not_allowed",
    "insert into patients select * from patients": "query.statement_not_allowed",
    "update patients set age = 1": "query.statement_not_allowed",
    "delete from patients": "query.statement_not_allowed",
    "with x as (delete from patients returning *) select * from x": "query.statement_not_allowed",
    "explain analyze select 1": "query.statement_not_allowed",
    "prepare p as select 1": "query.statement_not_allowed",
    "begin": "query.statement_not_allowed",
    "checkpoint": "query.statement_not_allowed",
    "use weather": "query.statement_not_allowed",
    "call duckdb_settings()": "query.statement_not_allowed",
    "select 1; select 2": "query.not_one_statement",
    "select 1; drop view patients": "query.not_one_statement",
    "": "query.not_one_statement",
    "-- nothing": "query.not_one_statement",
    "selec 1": "query.syntax",
    "select * from read_csv('/etc/passwd')": "query.function_not_allowed",
    "select * from read_text('/etc/passwd')": "query.function_not_allowed",
    "select * from read_parquet('/data/patients/patients.parquet')": "query.function_not_allowed",
    "select * from parquet_metadata('/data/patients/patients.parquet')": "query.function_not_allowed",
    "select * from glob('/*')": "query.function_not_allowed",
    "select * from query('select 1')": "query.function_not_allowed",
    "select * from query_table('patients')": "query.function_not_allowed",
    "select * from duckdb_settings()": "query.function_not_allowed",
    "select * from duckdb_views()": "query.function_not_allowed",
    "select * from pragma_table_info('patients')": "query.function_not_allowed",
    "select * from sniff_csv('/etc/passwd')": "query.function_not_allowed",
    "select current_setting('memory_limit')": "query.function_not_allowed",
    "select getenv('HOME')": "query.function_not_allowed",
    "select * from json_execute_serialized_sql('{}')": "query.function_not_allowed",
    "select * from '/etc/passwd'": "query.unknown_relation",
    "select * from '/data/patients/patients.parquet'": "query.unknown_relation",
    "select * from duckdb_tables": "query.unknown_relation",
}  # fmt: skip


async def test_everything_that_does_not_read_granted_tables_is_refused_with_a_stable_code(ana):
    wrong = {}
    for sql, wanted in NOT_A_READ.items():
        if sql:
            status, got = await code(ana, sql)
            if got != wanted or status not in {403, 422}:
                wrong[sql] = (status, got)
    assert wrong == {}
    assert (await ask(ana, "")).status_code == 422
    assert await rows(ana, "select count(*) from patients") == [[12]]


@pytest.mark.parametrize("sql", ["select * from range(9) tablesample 50%", "select count(*) from patients using sample 3", "from patients pivot (count(*) for country in ('PT'))",
    "select * from patients positional join people", "select * from patients asof join people using (id)", "select {'a': 1}", "select * from (values (1)) t(a)", "select 'a' like 'b' escape '!'",
    "select list(age) over (partition by country) from patients", "select unnest([1, 2])", "with recursive t(a) as (select 1 union all select a + 1 from t where a < 9) select * from t",
    "summarize patients", "describe patients", "show patients", "from patients select age limit 1", "select interval 3 days", "select 170141183460469231731687303715884105727", "select 'nan'::double"])  # fmt: skip
async def test_statements_that_read_are_answered(ana, sql):
    answer = await ask(ana, sql)
    assert answer.status_code == 200, answer.text
    answer.json()


async def test_parameters_are_values_and_nothing_else(ana):
    assert await rows(ana, "select age from patients where name = ? and age > ?", params=["name2", 50]) == [[52]]
    assert await rows(ana, "select age from patients where name = $who", params={"who": "name2"}) == [[52]]
    assert await rows(ana, "select count(*) from patients where name = ?", params=["x' or 1=1 --"]) == [[0]]
    assert await rows(ana, "select ?, ?, ?, ?", params=[None, True, 1.5, "é"]) == [[None, True, 1.5, "é"]]
    for sql, params in (("select ?", []), ("select ?", ["a", "b"]), ("select $a", {"b": 1}), ("select 1", [1])):
        answer = await ask(ana, sql, params=params)
        assert answer.status_code == 422, answer.text
    assert (await ask(ana, "select * from ?", params=["secret"])).status_code in {403, 422}


async def test_arrow_csv_and_json_by_accept(ana):
    sql = "select id, name, age * 1.5 as x, null as nothing from patients order by id"
    arrow = await ask(ana, sql, accept=ARROW)
    assert arrow.headers["content-type"] == ARROW
    table = pa.ipc.open_stream(arrow.content).read_all()
    assert table.num_rows == 12
    assert table.column_names == ["id", "name", "x", "nothing"]
    text = await ask(ana, sql, accept="text/csv")
    assert text.headers["content-type"].startswith("text/csv")
    assert pa.csv.read_csv(pa.py_buffer(text.content))["name"].to_pylist() == table["name"].to_pylist()
    plain = await ask(ana, sql)
    assert [row[1] for row in plain.json()["rows"]] == table["name"].to_pylist()
    assert [column["name"] for column in plain.json()["columns"]] == table.column_names
    assert (await ask(ana, sql, accept="*/*")).json() == plain.json()
    empty = await ask(ana, "select id from patients where false", accept=ARROW)
    assert pa.ipc.open_stream(empty.content).read_all().num_rows == 0


@pytest.mark.parametrize("sql", [
    "select * from people", "select * from people.people", "with p as (select * from people) select * from p join people q using (id)",
    "select * from (select * from people) s where exists (from people)", "describe people", "summarize people", "describe select * from people",
    "select * from information_schema.columns where table_name = 'people'", "select min(country), max(country), count(*) from people",
    "select cast(country as integer) from people", "select error(country) from people order by country desc", "select stats(country), stats(id) from people",
    "select * exclude (id) from people", "select columns('.*') from people", "select people from people", "select to_json(p) from people p",
    "select approx_quantile(id, 0.01), histogram(country) from people", "select strptime(country, '%Y') from people",
])  # fmt: skip
async def test_column_and_row_policies_hold_everywhere(ana, sql):
    for accept in ("application/json", "text/csv"):
        text = (await ask(ana, sql, accept=accept)).text
        assert not [value for value in HIDDEN if value in text.replace("HTTP", "")], text
        assert "disease" not in text
        assert "parquet" not in text


async def test_hidden_columns_are_as_if_they_did_not_exist(ana):
    errors = [(await ask(ana, f"select {column} from people")).json() for column in ("disease", "nosuch_")]
    assert {error["code"] for error in errors} == {"query.failed"}
    assert errors[0]["detail"].replace("disease", "nosuch_") == errors[1]["detail"]
    assert await rows(ana, "select count(*) from people") == [[8]]


async def test_caps_end_in_clear_errors_and_the_worker_goes_on(api, ana):
    assert len(await rows(ana, "select * from capped limit 5")) == 5
    before = {worker.sandbox for worker in api.platform.workers._workers.values()}
    for sql in ("select n from capped limit 6", "select * from capped", "select string_agg(pad, '') from capped"):
        for accept in ("application/json", "text/csv", ARROW):
            answer = await ask(ana, sql, accept=accept)
            assert (answer.status_code, answer.json()["code"]) == (413, "query.result_too_large"), sql
    assert await code(ana, "with c as (select * from capped) select n from c") == (413, "query.result_too_large")
    assert await code(
        ana, "select count(*) from short, range(1000000) a, range(1000000) b where (a.range + n) * b.range % 7 = 1"
    ) == (504, "query.time_limit")
    assert await code(
        ana,
        "with recursive r(a) as (select 1 union all select a + 1 from r) select max(a) + (select count(*) from short) from r",
    ) == (504, "query.time_limit")
    assert await code(
        ana, "select max(length(s)) from (select string_agg(repeat('x', 1000), '') s from range(3000000))"
    ) == (413, "query.memory_limit")
    assert await code(ana, "select list(a.range) from range(100000000) a") == (413, "query.memory_limit")
    assert await rows(ana, "select count(*) from patients") == [[12]]
    assert {worker.sandbox for worker in api.platform.workers._workers.values()} == before


async def test_an_error_after_the_first_rows_is_no_answer(ana):
    """What failed half-way must not pass for the whole."""
    sql = "select case when range = 150000 then cast('boom' as integer) else 1 end from range(200000)"
    assert await code(ana, "select cast(name as integer) from patients") == (422, "query.failed")
    with pytest.raises(httpx2.RemoteProtocolError):
        answer = await ask(ana, sql)
        assert answer.status_code == 422
        raise httpx2.RemoteProtocolError("refused at once, which is as good")


async def test_cancel_on_request_by_oneself_and_staff_but_nobody_else(api, ana):
    ben, steward = await api.member("ben"), await api.sign_in("steward")
    for canceller in (ana, steward):
        task = asyncio.create_task(ask(ana, SLOW))
        query = await opened(ana)
        assert (await ben.get("/spaces/course/queries")).json()["items"] == []
        refused = await ben.delete(f"/spaces/course/queries/{query['id']}")
        assert (refused.status_code, refused.json()["code"]) == (404, "query.not_found")
        answer, seconds = await cut(
            ana, task, lambda by=canceller, q=query: by.delete(f"/spaces/course/queries/{q['id']}")
        )
        assert (answer.status_code, answer.json()["code"]) == (403, "query.cancelled")
        assert seconds < 1
    assert await rows(ana, "select count(*) from patients") == [[12]]


async def test_hanging_up_ends_the_query(api, ana):
    task = asyncio.create_task(ask(ana, SLOW))
    query = await opened(ana)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    begun = time.monotonic()

    async def gone():
        return query["id"] not in api.platform.broker.open

    await until(gone, 5)
    assert time.monotonic() - begun < 2
    assert await rows(ana, "select count(*) from patients") == [[12]]


async def test_hanging_up_in_the_middle_of_an_answer_ends_the_query(api, ana):
    sql = "select range, repeat('x', 100) from range(100000000)"
    async with ana.stream("POST", "/spaces/course/query", json={"sql": sql}, headers={"Accept": ARROW}) as answer:
        await anext(aiter(answer.aiter_bytes()))
        query = answer.headers["cloister-query"]

    async def gone():
        return query not in api.platform.broker.open

    await until(gone, 5)
    assert await rows(ana, "select 1") == [[1]]
