"""The manners of the API: problems, idempotency, ETags, cursors, hostile input; and schemathesis."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from sqlalchemy import select

from cloister.core.errors import CloisterError
from cloister.core.pagination import decode_cursor, encode_cursor, page_of
from cloister.datasets.models import Dataset
from cloister.platform.idempotency import KeptAnswer
from tests.support import blueprint, declare, until

BIG = 2**40


def problem(answer):
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert {"type", "title", "status", "code", "detail", "request"} <= set(body)
    assert body["status"] == answer.status_code
    assert body["type"] == f"urn:cloister:error:{body['code']}"
    assert body["request"] == answer.headers["cloister-request"]
    assert body["detail"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    return answer.status_code, body["code"]


def kinds(base=CloisterError):
    for kind in base.__subclasses__():
        yield kind
        yield from kinds(kind)


def test_every_kind_of_error_has_a_code_a_status_and_a_sentence():
    for kind in {k for k in kinds() if k.__module__.startswith("cloister.")}:
        body = kind().problem()
        assert 400 <= body["status"] <= 599
        assert body["code"].replace(".", "").replace("_", "").isalpha(), kind
        assert body["detail"], kind
        assert body["title"], kind


async def test_problems_on_the_edge(api):
    client = await api.sign_in("ana")
    post = lambda body, **headers: client.post(
        "/me/tokens", content=body, headers={"Content-Type": "application/json", **headers}
    )  # noqa: E731
    assert problem(await client.get("/nosuch")) == (404, "not_found")
    assert problem(await client.get(f"{api.url}/nosuch")) == (404, "not_found")
    wrong = await client.put("/me")
    assert problem(wrong) == (405, "method_not_allowed")
    assert "GET" in wrong.headers["allow"]
    for body in (
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"\xff\xfe",
        b'{"name": 1}',
        b'{"name":"x","scopes":["self.read"],"more":1}',
        b"[" * 100_000,
        b'{"name":"\\ud800","scopes":["self.read"]}',
        b"NaN",
    ):
        status, code = problem(await post(body))
        assert (status, code) == (422, "invalid"), body[:40]
    assert problem(await client.post("/me/tokens", data={"name": "x"}))[0] == 422
    assert problem(await api.anonymous().get("/me")) == (401, "unauthenticated")
    assert problem(await client.get("/platform/walls"))[0] == 403
    assert problem(await client.get("/spaces/nosuch")) == (404, "space.not_found")


async def test_a_body_that_is_too_large_is_refused_before_it_is_read(api):
    client = await api.sign_in("ana")
    answer = await client.post(
        "/me/tokens", content=b'{"name":"' + b"x" * 40_000_000 + b'"}', headers={"Content-Type": "application/json"}
    )
    assert problem(answer) == (413, "too_large")


async def test_who_may_not_is_refused_before_the_body_is_looked_at(api):
    answer = await api.anonymous().post("/me/tokens", content=b"{", headers={"Content-Type": "application/json"})
    assert problem(answer) == (401, "unauthenticated")


async def test_hostile_text_and_numbers_are_no_failure_of_ours(api):
    await declare(api.platform, blueprint())
    owner, operator = await api.sign_in("owner"), api.operator()
    texts = ["%00", "a%00b", "%F0%9F%A6%86", "..%2F..%2Fx", "%ED%A0%80", "p-999999999999", str(BIG)]
    cursors = [encode_cursor(key) for key in (BIG, 2**61, -BIG, 2**62, "\x00", "\ud800", "x" * 200, 0)] + [
        "!",
        "",
        "e30",
        "MWU5OTk",
        "é",
    ]
    asked = []
    for text in texts:
        for path in (
            "",
            "/datasets",
            "/enrolments/{}",
            "/teams/{}/members",
            "/sandboxes/{}",
            "/datasets?q={}",
            "/enrolments?state={}",
            "/audit?subject={}",
            "/audit?person={}",
            "/audit?team={}",
            "/agreements/{}/diff?since=1",
        ):
            url = f"/spaces/course{path.format(text)}" if path else f"/spaces/{text}"
            asked.append((await owner.get(url), url))
        asked.append((await operator.get(f"/operations/{text}"), text))
    for cursor in cursors:
        for path in (
            "/spaces",
            "/spaces/course/teams",
            "/spaces/course/enrolments",
            "/spaces/course/datasets",
            "/spaces/course/sandboxes",
            "/spaces/course/audit",
        ):
            asked.append((await owner.get(path, params={"cursor": cursor}), (path, cursor)))
    for number in (2**31, 2**31 - 1):
        asked.append((await owner.get(f"/spaces/course/datasets/x/versions/{number}/tables/t.parquet"), number))
    for body in (
        {"email": "a\x00b@test.example"},
        {"email": "b@test.example", "name": "a\x00b"},
        {"email": "c@test.example", "name": "\u202e\U0001f986"},
    ):
        asked.append((await api.anonymous().post("/auth/demo", json=body), body))
    asked.append((await owner.post("/me/tokens", json={"name": "a\x00b", "scopes": ["self.read"]}), "token"))
    for version in (2**31, BIG):
        asked.append((await owner.post("/spaces/course/datasets/d1", json={"title": "a\x00b"}), "dataset"))
        grant = {"to": "person:p-99999999999", "dataset": "d1", "allow": ["query"], "version": version}
        asked.append((await (await api.sign_in("steward")).post("/spaces/course/grants", json=grant), grant))
    wrong = [(where, answer.status_code) for answer, where in asked if answer.status_code >= 500]
    assert wrong == []


async def test_a_repeated_create_is_answered_again_and_not_done_again(api):
    client, other = await api.sign_in("ana"), await api.sign_in("ben")
    body = {"name": "t", "scopes": ["self.read"]}
    send = lambda who, data=body, key="k1": who.post("/me/tokens", json=data, headers={"Idempotency-Key": key})  # noqa: E731
    first, again = await send(client), await send(client)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["id"] == again.json()["id"]
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert problem(await send(client, {**body, "name": "u"})) == (409, "idempotency.key_reused")
    assert (await send(other)).json()["id"] != first.json()["id"]
    assert (await send(client, {"name": "", "scopes": []}, "k2")).status_code == 422
    assert (await send(client, body, "k2")).status_code == 201, "a refusal is not kept"
    assert len((await client.get("/me/tokens")).json()["items"]) == 2


async def test_a_repeated_create_at_once_is_done_once(api):
    client = await api.sign_in("ana")
    body = {"name": "t", "scopes": ["self.read"]}
    answers = await asyncio.gather(
        *(client.post("/me/tokens", json=body, headers={"Idempotency-Key": "same"}) for _ in range(6))
    )
    assert {a.status_code for a in answers} <= {201, 409}
    assert len({a.json()["id"] for a in answers if a.status_code == 201}) == 1
    assert len((await client.get("/me/tokens")).json()["items"]) == 1


async def test_a_repeated_upload_is_one_upload_also_while_the_first_is_under_way(api):
    await declare(api.platform, blueprint())
    steward = await api.sign_in("steward")
    going, more = asyncio.Event(), asyncio.Event()

    async def slowly():
        yield b"a,b\n"
        going.set()
        await more.wait()
        yield b"1,2\n"

    send = lambda content: steward.post(
        "/spaces/course/uploads", content=content, headers={"Idempotency-Key": "u", "Content-Length": "8"}
    )  # noqa: E731
    first = asyncio.create_task(send(slowly()))
    await going.wait()
    await until(lambda: _reserved(api), 5)
    assert problem(await send(b"a,b\n1,2\n")) == (409, "idempotency.under_way")
    more.set()
    done = await first
    again = await send(b"a,b\n1,2\n")
    assert (done.status_code, again.status_code, again.headers["idempotency-replayed"]) == (201, 201, "true")
    assert done.json() == again.json()

    async def other():
        yield b"another file"

    key = {"Idempotency-Key": "u"}
    untold = await steward.post("/spaces/course/uploads", content=other(), headers=key)
    assert untold.status_code == 422, "or it would be answered with the first"
    digest = {**key, "Content-Digest": "sha-256=:AAAA:"}
    assert problem(await steward.post("/spaces/course/uploads", content=other(), headers=digest)) == (
        409, "idempotency.key_reused",
    )  # fmt: skip


async def _reserved(api):
    async with api.platform.database.read() as uow:
        return (await uow.session.scalars(select(KeptAnswer))).one_or_none()


async def test_a_create_that_failed_gives_its_key_back(api):
    await declare(api.platform, blueprint())
    steward, ana = await api.sign_in("steward"), await api.sign_in("ana")
    key = {"Idempotency-Key": "k"}
    assert (await ana.post("/spaces/course/uploads", content=b"x", headers=key)).status_code == 403
    api.platform.settings.upload_bytes = 3
    assert problem(await steward.post("/spaces/course/uploads", content=b"a,b\n1,2\n", headers=key)) == (
        413,
        "too_large",
    )
    api.platform.settings.upload_bytes = 1000
    assert (await steward.post("/spaces/course/uploads", content=b"a,b\n1,2\n", headers=key)).status_code == 201


async def test_a_create_that_changes_nothing_may_have_a_key_too(api):
    await declare(api.platform, blueprint())
    owner = await api.sign_in("owner")
    for key in ("one", "two"):
        made = await owner.post("/spaces/course/datasets/d", json={"title": "D"}, headers={"Idempotency-Key": key})
        assert made.status_code == 201, made.text
    other = await owner.post("/spaces/course/datasets/d", json={"title": "Else"})
    assert problem(other) == (409, "dataset.taken"), "what somebody described is not described anew by a create"


async def test_every_create_says_that_it_takes_a_key(api):
    paths = (await api.anonymous().get("/openapi.json")).json()["paths"]
    creates = [
        post for path in paths.values() if (post := path.get("post")) and {"201", "202"} & set(post["responses"])
    ]
    assert len(creates) > 20
    assert all(any(p["name"] == "Idempotency-Key" for p in post["parameters"]) for post in creates)


async def test_changes_need_the_etag_that_was_read(api):
    await declare(api.platform, blueprint())
    owner = await api.sign_in("owner")
    url = "/spaces/course/datasets/d1"
    made = await owner.post(url, json={"title": "One"})
    assert made.status_code == 201
    assert problem(await owner.put(url, json={"title": "Two"})) == (428, "precondition_required")
    assert problem(await owner.put(url, json={"title": "Two"}, headers={"If-Match": '"x"'})) == (
        412,
        "precondition_failed",
    )
    etag = (await owner.get(url)).headers["etag"]
    both = await asyncio.gather(
        *(owner.put(url, json={"title": t}, headers={"If-Match": etag}) for t in ("Two", "Three"))
    )
    assert sorted(a.status_code for a in both) == [200, 412], "the second must not overwrite the first unseen"


@limits(max_examples=200, deadline=None)
@given(st.sets(st.one_of(st.integers(-(2**40), 2**40)), max_size=60), st.integers(1, 20))
def test_pages_neither_skip_nor_repeat(keys, limit):
    seen, cursor = [], None
    while True:
        after = decode_cursor(cursor, int)
        rows = [key for key in sorted(keys) if after is None or key > after][: limit + 1]
        page = page_of(rows, limit, lambda key: key)
        seen += page.items
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == sorted(keys)


async def test_pages_of_a_list_that_grows_neither_skip_nor_repeat(api):
    await declare(api.platform, blueprint())
    owner = await api.sign_in("owner")
    for number in range(0, 20, 2):
        await owner.post(f"/spaces/course/datasets/d{number:02}", json={"title": "x"})
    seen, cursor, extra = [], None, iter(range(1, 20, 2))
    while True:
        page = (
            await owner.get("/spaces/course/datasets", params={"limit": 3, **({"cursor": cursor} if cursor else {})})
        ).json()
        seen += [item["name"] for item in page["items"]]
        await owner.post(f"/spaces/course/datasets/d{next(extra):02}", json={"title": "x"})
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen))
    assert set(seen) >= {f"d{number:02}" for number in range(0, 20, 2)}
    async with api.platform.database.read() as uow:
        assert len((await uow.session.scalars(select(Dataset))).all()) > 10
    for bad in ("0", "501", "x", "-1"):
        assert problem(await owner.get("/spaces", params={"limit": bad})) == (422, "invalid")


@pytest.mark.parametrize(
    ("settings", "who"),
    [("sqlite", "ana"), ("postgresql", "operator"), ("postgresql", "steward"), ("sqlite", "owner")],
    indirect=["settings"],
)
async def test_schemathesis_finds_no_failure_of_ours(api, who, tmp_path):
    """A few examples of every operation; ``st run`` is a process of its own. Queries need a sandbox and have tests of their
    own. Names in paths are those of things that are there: else it would see nothing but “not found”.
    """
    await declare(api.platform, blueprint())
    ana, steward = await api.member("ana"), await api.sign_in("steward")
    await steward.post("/spaces/course/datasets/rain", json={"title": "Rain"})
    await ana.post("/modules", json={"name": "draft", "template": "widget"})
    enrolment = (await ana.get("/spaces/course/enrolment")).json()
    body = {"team": enrolment["team"], "document": {"name": "Board", "integrations": [], "widgets": []}}
    board = (await ana.post("/spaces/course/dashboards", json=body)).json()["id"]
    there = {
        "space": "course", "dataset": "rain", "agreement": "dua", "team": enrolment["team"], "person": enrolment["person"],
        "name": "draft", "dashboard": board, "module": "draft",
    }  # fmt: skip
    config = tmp_path / "schemathesis.toml"
    lines = ["[parameters]", *(f'"path.{name}" = "{value}"' for name, value in there.items())]
    config.write_text("\n".join(lines) + "\n")
    if who == "operator":
        header = f"Authorization: Bearer {api.platform.operator_secret}"
    else:
        header = f"Cookie: cloister={(ana if who == 'ana' else await api.sign_in(who)).cookies.get('cloister')}"
    command = [
        str(Path(sys.executable).with_name("st")), "--config-file", str(config), "run", f"{api.url}/api/v1/openapi.json",
        "-H", header, "--checks", "not_a_server_error", "--phases", "examples,fuzzing", "-n", "3", "--seed", "1",
        "--no-color", "--generation-database", "none",
    ]  # fmt: skip
    await schemathesis([*command, "--exclude-path-regex", "sign-out|/enrolment$|/query$|/removal$|/disabled$"])
    # Who leaves is no member any more, so registering, signing, leaving and being put out come last.
    await schemathesis([*command, "--include-path-regex", "/enrolment$|/signatures$|/removal$"])


async def schemathesis(command):
    run = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    printed, _ = await asyncio.wait_for(run.communicate(), 120)
    assert run.returncode == 0, printed.decode()[-14_000:]
