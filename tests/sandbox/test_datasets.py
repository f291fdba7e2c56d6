"""Loading data of every form, versions, mounts and downloads, with real sandboxes."""

import asyncio
import gzip
import io
import json
import textwrap
import zipfile

import boto3
import pyarrow as pa
import pyarrow.parquet
import pytest
import pytest_asyncio
from moto.server import ThreadedMotoServer
from pydantic import SecretStr

from cloister.core.principal import SYSTEM
from tests.sandbox.governed import rows, short_folder
from tests.support import blueprint, csv_file, declare, free_port, make_settings, served, until

pytestmark = pytest.mark.asyncio(loop_scope="module")
TEXT = "id,name,day,score\n1,Ana,2026-01-02,1.5\n2,Ben,2026-01-03,n/a\n3,,2026-01-04,2\n"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def api():
    with short_folder() as folder:
        csv_file(folder, "base.csv", TEXT)
        async with served(make_settings(folder / "state", upload_bytes=1_000_000)) as found:
            found.folder = folder
            base = [
                {"name": "base", "title": "Base", "tables": [{"name": "base", "source": "base.csv", "null": "n/a"}]}
            ]
            grants = [{"to": "everybody", "dataset": "base", "allow": ["query", "mount"]}]
            await declare(found.platform, blueprint(datasets=base, grants=grants), folder)
            yield found


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def steward(api):
    return await api.sign_in("steward")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def ana(api):
    return await api.member("ana")


async def load(client, name, data, source, claimed=None, **table):
    """Upload, make a version, wait for its end; return the version and the progress that was seen."""
    await client.post(f"/spaces/course/datasets/{name}", json={"title": name})
    upload = (await client.post("/spaces/course/uploads", content=data)).json()
    if claimed is not None:
        upload["sha256"] = claimed
    body = {"tables": [{**upload, "table": {"name": name, "source": source, **table}}]}
    made = await client.post(f"/spaces/course/datasets/{name}/versions", json=body)
    assert made.status_code == 202, made.text
    seen = []

    async def ended():
        seen.append((await client.get(f"/operations/{made.json()['operation']}")).json())
        return seen[-1]["state"] != "running"

    await until(ended, 30, 0.02)
    versions = (await client.get(f"/spaces/course/datasets/{name}/versions")).json()["items"]
    return next(v for v in versions if v["number"] == made.json()["number"]), seen


def parquet(**columns):
    out = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(columns), out)
    return out.getvalue()


def xlsx(*lines, **more):
    """The smallest workbook that a spreadsheet program reads; ``more`` are further sheets by name."""
    sheets = {"S": lines, **more}
    cell = lambda v: f'<c t="inlineStr"><is><t>{v}</t></is></c>' if isinstance(v, str) else f"<c><v>{v}</v></c>"  # noqa: E731
    filled = lambda lines: "".join(f'<row r="{i}">{"".join(map(cell, line))}</row>' for i, line in enumerate(lines, 1))  # noqa: E731
    numbered = [*enumerate(sheets, 1)]
    parts = "".join(
        f'<Override PartName="/xl/worksheets/sheet{i}.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/>'
        for i, _ in numbered
    )
    named = "".join(f'<sheet name="{name}" sheetId="{i}" r:id="r{i}"/>' for i, name in numbered)
    main, rel = (
        "http://schemas.openxmlformats.org/spreadsheetml/2006/main",
        "http://schemas.openxmlformats.org/officeDocument/2006/relationships",
    )
    kinds, rels = (
        "http://schemas.openxmlformats.org/package/2006/content-types",
        "http://schemas.openxmlformats.org/package/2006/relationships",
    )
    form = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    links = [f'<Relationship Id="r{i}" Type="{rel}/worksheet" Target="worksheets/sheet{i}.xml"/>' for i, _ in numbered]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{kinds}"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Override PartName="/xl/workbook.xml" ContentType="{form}.sheet.main+xml"/>{parts}</Types>',
        )
        file.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{rels}"><Relationship Id="r1" Type="{rel}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        )
        file.writestr(
            "xl/workbook.xml",
            f'<workbook xmlns="{main}" xmlns:r="{rel}"><sheets>{named}</sheets></workbook>',
        )
        file.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{rels}">{"".join(links)}</Relationships>',
        )
        for i, name in numbered:
            rows_ = f'<worksheet xmlns="{main}"><sheetData>{filled(sheets[name])}</sheetData></worksheet>'
            file.writestr(f"xl/worksheets/sheet{i}.xml", rows_)
    return out.getvalue()


FORMS = {
    "csv": (TEXT.encode(), "x.csv", {"null": "n/a"}), "gz": (gzip.compress(TEXT.encode()), "x.csv.gz", {"null": "n/a"}),
    "tsv": (TEXT.replace(",", "\t").encode(), "x.tsv", {"null": "n/a"}), "named": (TEXT.encode(), "x.dat", {"format": "csv", "null": "n/a"}),
    "json": (json.dumps([{"id": 1, "name": "Ana"}, {"id": 2, "name": "Ben"}, {"id": 3, "name": None}]).encode(), "x.json", {}),
    "jsonl": (b'{"id": 1, "name": "Ana"}\n{"id": 2, "name": "Ben"}\n{"id": 3}\n', "x.jsonl", {}),
    "parquet": (parquet(id=[1, 2, 3], name=["Ana", "Ben", None]), "x.parquet", {}),
    "gzparquet": (gzip.compress(parquet(id=[1, 2, 3], name=["Ana", "Ben", None])), "x.parquet.gz", {}),
    "excel": (xlsx(["id", "name"], [1, "Ana"], [2, "Ben"], [3, ""]), "x.xlsx", {}),
    "sheet": (xlsx(["else"], [0], People=(["id", "name"], [1, "Ana"], [2, "Ben"], [3, ""])), "x.xlsx", {"sheet": "People"}),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
async def test_every_form_is_read(api, steward, ana, form):
    data, source, more = FORMS[form]
    version, seen = await load(steward, f"f_{form}", data, source, **more)
    assert (version["state"], version["error"]) == ("ready", None)
    assert (seen[-1]["state"], seen[-1]["progress"]) == ("done", 1.0)
    assert [o["progress"] for o in seen] == sorted(o["progress"] for o in seen)
    grant = await steward.post(
        "/spaces/course/grants", json={"to": "everybody", "dataset": f"f_{form}", "allow": ["query"]}
    )
    assert grant.status_code == 201
    assert await rows(ana, f"select id::int, name from f_{form} order by id") == [[1, "Ana"], [2, "Ben"], [3, None]]


async def test_declared_types_and_missing_values(api, steward):
    columns = {"id": {"type": "VARCHAR", "description": "The id"}, "score": {"type": "DECIMAL(9,2)", "unit": "points"}}
    version, _ = await load(steward, "typed", TEXT.encode(), "x.csv", null="n/a", columns=columns)
    assert version["state"] == "ready", version
    found = {c["name"]: c for c in version["tables"][0]["columns"]}
    assert (found["id"]["type"], found["id"]["description"], found["score"]["type"], found["score"]["unit"]) == (
        "VARCHAR",
        "The id",
        "DECIMAL(9,2)",
        "points",
    )
    assert found["day"]["type"] == "DATE"
    plain, _ = await load(steward, "untyped", TEXT.encode(), "x.csv")
    assert {c["name"]: c["type"] for c in plain["tables"][0]["columns"]}["score"] == "VARCHAR"


async def test_what_is_wrong_with_a_file_is_said_with_its_line(api, steward):
    bad = TEXT + "".join(f"{i},x,2026-01-01,1\n" for i in range(4, 50)) + "50,y,not a day,1\n"
    version, seen = await load(steward, "wrong", bad.encode(), "x.csv", null="n/a", columns={"day": {"type": "DATE"}})
    assert (version["state"], seen[-1]["state"]) == ("failed", "failed")
    assert "51" in version["error"]
    assert "/data" not in version["error"]
    version, _ = await load(steward, "unknown", TEXT.encode(), "x.csv", columns={"nosuch": {"description": "?"}})
    assert version["state"] == "failed"
    assert "nosuch" in version["error"]
    for name, data, source in (("nojson", b"{", "x.json"), ("noparquet", b"PAR1 not", "x.parquet"), ("noexcel", b"PK no", "x.xlsx"), ("nogz", b"\x1f\x8b\x00bad", "x.csv.gz"),
                               ("evil", b"a\n1\n", "x.csv")):  # fmt: skip
        more = {"columns": {"a": {"type": "INTEGER}), x=(select 1"}}} if name == "evil" else {}
        version, _ = await load(steward, name, data, source, **more)
        assert version["state"] == "failed", name
        assert version["error"], name
    refused = await steward.post(
        "/spaces/course/datasets/wrong/versions",
        json={
            "tables": [{"upload": "obj_x", "sha256": "0" * 64, "size": 1, "table": {"name": "t", "source": "x.csv"}}]
        },
    )
    assert (refused.status_code, refused.json()["code"]) == (404, "dataset.upload_not_found")
    big = await steward.post("/spaces/course/uploads", content=b"x" * 1_000_001)
    assert (big.status_code, big.json()["code"]) == (413, "too_large")


async def test_two_tables_of_one_name_are_refused(steward):
    upload = (await steward.post("/spaces/course/uploads", content=b"a\n1\n")).json()
    await steward.post("/spaces/course/datasets/twins", json={"title": "Twins"})
    body = {"tables": [{**upload, "table": {"name": "sales", "source": f"{year}_sales.csv"}} for year in (2023, 2024)]}
    refused = await steward.post("/spaces/course/datasets/twins/versions", json=body)
    assert refused.status_code == 422
    assert "two tables are called “sales”" in refused.text


async def test_a_load_that_breaks_in_an_unforeseen_way_fails_and_lets_the_others_be_loaded(api, steward, monkeypatch):
    real = api.platform.converter.convert

    async def breaks(space, original, *rest):
        if original.read_bytes() == b"a\nbreak\n":
            raise RuntimeError("unforeseen")
        await real(space, original, *rest)

    monkeypatch.setattr(api.platform.converter, "convert", breaks)
    loads = [load(steward, f"broken{n}", b"a\nbreak\n", "x.csv") for n in range(2)]
    for version, seen in await asyncio.gather(*loads):
        assert (version["state"], seen[-1]["state"]) == ("failed", "failed")
        assert "unforeseen" not in version["error"], "the log says it, to operators"
    assert (await load(steward, "whole", b"a\n1\n", "x.csv"))[0]["state"] == "ready"


async def test_versions_stay_as_they_are(api, steward, ana):
    first, _ = await load(steward, "grows", b"a\n1\n", "x.csv")
    second, _ = await load(steward, "grows", b"a\n1\n2\n", "x.csv")
    assert (first["number"], second["number"]) == (1, 2)
    await steward.post("/spaces/course/grants", json={"to": "everybody", "dataset": "grows", "allow": ["query"]})
    assert await rows(ana, "select count(*) from grows") == [[2]]
    await steward.post(
        "/spaces/course/grants", json={"to": "everybody", "dataset": "grows", "allow": ["query"], "version": 1}
    )
    assert await rows(ana, "select count(*) from grows") == [[1]]
    before = len((await steward.get("/spaces/course/datasets/base/versions")).json()["items"])
    source = [{"name": "base", "title": "Base", "tables": [{"name": "base", "source": "base.csv", "null": "n/a"}]}]
    await api.platform.blueprints.apply(
        blueprint(datasets=source, grants=[{"to": "everybody", "dataset": "base", "allow": ["query", "mount"]}]),
        api.folder,
        lambda _: None,
        SYSTEM,
    )
    assert len((await steward.get("/spaces/course/datasets/base/versions")).json()["items"]) == before


SHOW = """
    import os, pyarrow.parquet as pq
    for folder, _, files in sorted(os.walk("/data")):
        for file in files:
            path = os.path.join(folder, file)
            try:
                open(path, "ab").close()
                print("WRITABLE", path)
            except OSError:
                print(path, pq.read_table(path).to_pylist())
    import time
    time.sleep(SECONDS)
"""


async def test_a_mounted_table_is_there_read_only_and_its_end_is_the_sandboxs(api, steward, ana):
    state, printed = await api.run(ana, SHOW.replace("SECONDS", "0"))
    assert state["state"] == "stopped", printed
    assert printed.startswith("/data/base/base.parquet [{'id': 1, 'name': 'Ana'")
    assert "WRITABLE" not in printed
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    running = await api.start(ana, stubborn + textwrap.dedent(SHOW).replace("SECONDS", "60"))
    await api.running(ana, running)
    grants = (await steward.get("/spaces/course/grants")).json()["items"]
    grant = next(g for g in grants if g["policy"]["dataset"] == "base")
    assert (await steward.delete(f"/spaces/course/grants/{grant['id']}")).status_code == 204
    begun = asyncio.get_running_loop().time()
    state, _ = await api.finish(ana, running, 10)
    assert asyncio.get_running_loop().time() - begun < 1
    assert "access" in (state["reason"] or "")
    assert "sandboxes:dataset:mount" in {record["name"] for record in await api.records(dataset="base")}
    state, printed = await api.run(ana, SHOW.replace("SECONDS", "0"))
    assert "base" not in printed


@pytest.mark.timeout(30)
async def test_a_narrowed_mount_has_the_granted_rows_only(api, steward, ana):
    policy = {"tables": {"base": {"columns": ["id"], "rows": "id > 1"}}}
    assert (
        await steward.post(
            "/spaces/course/grants", json={"to": "everybody", "dataset": "base", "allow": ["mount"], **policy}
        )
    ).status_code == 201
    state, printed = await api.run(ana, SHOW.replace("SECONDS", "0"))
    assert state["state"] == "stopped", (state, printed)
    assert printed.strip() == "/data/base/base.parquet [{'id': 2}, {'id': 3}]"


async def test_a_table_leaves_only_under_a_grant_that_lets_it(api, steward, ana):
    await load(steward, "leaves", b"a\n1\n", "x.csv")
    url = "/spaces/course/datasets/leaves/versions/1/tables/leaves.parquet"
    give = lambda to, **more: steward.post("/spaces/course/grants", json={"to": to, "dataset": "leaves", **more})  # noqa: E731
    assert (await ana.get(url)).status_code == 404
    await give("everybody", allow=["query", "mount"])
    assert (await ana.get(url)).json()["code"] == "dataset.download_not_granted"
    await give("everybody", allow=["download"])
    answer = await ana.get(url)
    assert pyarrow.parquet.read_table(io.BytesIO(answer.content)).to_pylist() == [{"a": 1}]
    assert [r["person"] for r in await api.records(name="datasets:version:download")]
    team = (await ana.get("/spaces/course/enrolment")).json()["team"]
    await give(f"team:{team}", allow=["query"])
    assert (await ana.get(url)).status_code == 404, "the most specific grant counts, and it lets nothing leave"
    await give("everybody", allow=["query"])
    await give(f"team:{team}", allow=["download"])
    assert (await ana.get(url)).status_code == 200
    narrowed = await give(f"team:{team}", allow=["download"], tables={"leaves": {"rows": "a > 5"}})
    capped = await give(f"team:{team}", allow=["download"], max_rows=1)
    assert (narrowed.status_code, capped.status_code) == (422, 422), "what cannot be held is not promised"


async def test_who_loads_data_is_told_what_a_converter_that_broke_said_last(steward, api, monkeypatch):
    broken = api.folder / "broken"
    broken.mkdir()
    (broken / "convert.py").write_text("import os, sys\nsys.stderr.write('no room left for the sheet')\nos.abort()\n")
    broken.chmod(0o755)
    monkeypatch.setattr("cloister.query.convert.worker_files", lambda: broken)
    _, seen = await load(steward, "unlucky", TEXT.encode(), "unlucky.csv")
    assert "ended by signal 6: no room left for the sheet" in seen[-1]["error"]["detail"]


async def test_an_original_that_is_not_what_was_said_is_not_loaded(steward):
    version, seen = await load(steward, "liar", b"a\n1\n", "x.csv", claimed="0" * 64)
    assert version["state"] == "failed"
    assert "another checksum" in seen[-1]["message"]


async def test_a_sheet_that_is_not_there_is_said_with_those_that_are(steward):
    version, _ = await load(steward, "nosheet", xlsx(["a"], [1], Two=(["b"], [2])), "x.xlsx", sheet="Three")
    assert version["state"] == "failed"
    assert "there is no sheet “Three”; there are S, Two" in version["error"]
    body = {"name": "t", "source": "x.csv", "format": "csv", "sheet": "S"}
    upload = (await steward.post("/spaces/course/uploads", content=b"a\n1\n")).json()
    refused = await steward.post(
        "/spaces/course/datasets/nosheet/versions", json={"tables": [{**upload, "table": body}]}
    )
    assert refused.status_code == 422


@pytest.fixture
def bucket(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    server = ThreadedMotoServer(port=free_port())
    server.start()
    address = f"http://127.0.0.1:{server._port}"
    client = boto3.client("s3", endpoint_url=address, region_name="us-east-1")
    client.create_bucket(Bucket="lake")
    yield address, lambda key, data: client.put_object(Bucket="lake", Key=key, Body=data)
    server.stop()


async def test_an_address_in_an_object_store_is_loaded_where_operators_allow_it(api, steward, ana, bucket, monkeypatch):
    address, put = bucket
    settings = api.platform.settings
    for name, value in {
        "s3_endpoint": address,
        "s3_access_key_id": SecretStr("key"),
        "s3_secret_access_key": SecretStr("secret"),
        "dataset_urls": ["s3://lake/open"],
    }.items():
        monkeypatch.setattr(settings, name, value)
    put("open/far.csv", TEXT.encode())
    put("closed/far.csv", TEXT.encode())
    put("open/big.csv", b"a\n" + b"1\n" * 600_000)
    await steward.post("/spaces/course/datasets/far", json={"title": "Far"})

    async def ask(url):
        body = {"tables": [{"url": url, "table": {"name": "far", "source": "far.csv", "null": "n/a"}}]}
        return await steward.post("/spaces/course/datasets/far/versions", json=body)

    for url in (
        "s3://lake/closed/far.csv",
        "s3://lake/open/../closed/far.csv",
        "s3://lake/opener/far.csv",
        "s3://other/open/far.csv",
        "s3://lake/open/far.csv?x=1",
        "s3://lake/open/far\x01.csv",
    ):
        refused = await ask(url)
        assert (refused.status_code, refused.json()["code"]) == (422, "dataset.bad_source"), url
    assert (await ask("https://lake/open/far.csv")).status_code == 422

    async def ended(url):
        made = (await ask(url)).json()
        await until(lambda: _over(steward, made["operation"]), 30, 0.02)
        versions = (await steward.get("/spaces/course/datasets/far/versions")).json()["items"]
        return next(v for v in versions if v["number"] == made["number"])

    assert (await ended("s3://lake/open/far.csv"))["state"] == "ready"
    await steward.post("/spaces/course/grants", json={"to": "everybody", "dataset": "far", "allow": ["query"]})
    assert await rows(ana, "select count(*)::int from far") == [[3]]
    gone = await ended("s3://lake/open/gone.csv")
    assert (gone["state"], "cannot be read" in gone["error"]) == ("failed", True)
    big = await ended("s3://lake/open/big.csv")
    assert (big["state"], "are allowed here" in big["error"]) == ("failed", True)
    record = (await api.records(name="datasets:version:request", subject="far"))[-1]
    assert record["details"]["urls"] == ["s3://lake/open/far.csv"], "the record says where data came from"


async def _over(client, operation):
    return (await client.get(f"/operations/{operation}")).json()["state"] != "running"


async def test_who_follows_before_it_starts_gets_all_of_it(api, ana):
    sandbox = await api.start(ana, "import time\nprint('one', flush=True)\ntime.sleep(0.5)\nprint('two')")
    async with ana.stream("GET", f"/spaces/course/sandboxes/{sandbox['id']}/output", params={"follow": True}) as answer:
        lines = [json.loads(line)["text"] async for line in answer.aiter_lines()]
    assert "".join(lines) == "one\ntwo\n"
    assert (await api.show(ana, sandbox))["state"] in {"running", "stopping", "stopped"}
