"""Sessions, API tokens, requests from other sites, limits of rate."""

import re
import zlib
from datetime import timedelta

import pytest
from sqlalchemy import select, text

from cloister.core.clock import ManualClock
from cloister.identity.models import ApiToken, Session
from tests.api.test_http import problem
from tests.support import blueprint, declare, fake_backend, make_settings, served

LETTERS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def fake():
    return fake_backend()


@pytest.fixture
async def timed(settings):
    clock = ManualClock()
    settings.session_idle_seconds, settings.session_absolute_seconds = 3600, 86400
    async with served(settings, backend=fake(), clock=clock) as api:
        yield api, clock


def cookie(client):
    return client.cookies.get("cloister")


async def whoami(api, secret):
    return (await api.anonymous(cookies={"cloister": secret}).get("/me")).status_code


async def token(client, scopes, **more):
    answer = await client.post("/me/tokens", json={"name": "t", "scopes": scopes, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


def bearer(api, secret):
    return api.anonymous(headers={"Authorization": f"Bearer {secret}"})


async def everything_stored(api):
    """All text of all tables that a secret could be in."""
    found = []
    async with api.platform.database.read() as uow:
        for table in ("sessions", "api_tokens", "kept_answers", "invitations", "audit_records", "letters"):
            try:
                async with uow.session.begin_nested():
                    rows = (await uow.session.execute(text(f"SELECT * FROM {table}"))).all()
            except Exception:
                continue
            found += [
                bytes(v).decode("utf-8", "replace") if isinstance(v, bytes | memoryview) else str(v)
                for row in rows
                for v in row
            ]
    return "\n".join(found)


async def test_a_sign_in_is_a_new_session_and_only_its_hash_is_kept(api):
    client = await api.sign_in("ana")
    first = cookie(client)
    assert len(first) >= 43
    await client.post("/auth/demo", json={"email": "ana@test.example", "name": "ana"})
    second = cookie(client)
    assert first != second
    assert (await whoami(api, first), await whoami(api, second)) == (401, 200)
    async with api.platform.database.read() as uow:
        assert len((await uow.session.scalars(select(Session))).all()) == 1
    assert second not in await everything_stored(api)
    planted = api.anonymous(cookies={"cloister": "planted-by-somebody"})
    answer = await planted.post("/auth/demo", json={"email": "ben@test.example", "name": "ben"})
    assert "planted" not in answer.headers["set-cookie"]
    flags = answer.headers["set-cookie"].lower()
    assert "httponly" in flags
    assert "samesite=lax" in flags


async def test_sessions_end_when_idle_and_in_any_case(timed):
    api, clock = timed
    secret = cookie(await api.sign_in("ana"))
    for _ in range(20):
        clock.advance(timedelta(minutes=59))
        assert await whoami(api, secret) == 200
    clock.advance(timedelta(minutes=61))
    assert await whoami(api, secret) == 401
    secret = cookie(await api.sign_in("ana"))
    for _ in range(24):
        assert await whoami(api, secret) == 200
        clock.advance(timedelta(minutes=59, seconds=59))
    clock.advance(timedelta(minutes=1))
    assert await whoami(api, secret) == 401


async def test_signing_out_here_and_everywhere(api):
    one, two, three = [await api.sign_in("ana") for _ in range(3)]
    other = await api.sign_in("ben")
    assert (await one.post("/auth/sign-out")).status_code == 204
    assert (await two.get("/me")).status_code == 200
    secrets = [cookie(two), cookie(three)]
    assert (await two.post("/auth/sign-out-everywhere")).json() == {"sessions": 2}
    assert [await whoami(api, secret) for secret in secrets] == [401, 401]
    assert (await other.get("/me")).status_code == 200


async def test_a_token_can_be_recognised_and_only_its_hash_is_kept(api):
    client = await api.sign_in("ana")
    made = await token(client, ["self.read"])
    assert re.fullmatch(r"clo_[0-9A-Za-z]{46}", made["token"])
    value, body = 0, made["token"][4:44]
    for letter in made["token"][44:]:
        value = value * 62 + LETTERS.index(letter)
    assert value == zlib.crc32(body.encode())
    assert made["token"] not in await everything_stored(api)
    listed = (await client.get("/me/tokens")).json()["items"][0]
    assert "token" not in listed
    assert made["token"].endswith(listed["hint"])
    wrong = made["token"][:-1] + ("a" if made["token"][-1] != "a" else "b")
    for bad in (wrong, "clo_" + "a" * 46, "clo_", "x", "é", made["token"].lower()):
        answer = await api.anonymous().get("/me", headers={"Authorization": f"Bearer {bad}".encode()})
        assert answer.status_code == 401, bad
    assert (await api.anonymous().get("/me", headers={"Authorization": "Basic YTpi"})).status_code == 401


async def test_a_secret_in_a_repeatable_answer_is_not_kept_in_clear(api):
    """The answer of a create under an Idempotency-Key is kept; a token's text in it is as good as the token."""
    client = await api.sign_in("ana")
    body = {"name": "t", "scopes": ["self.read"]}
    answer = await client.post("/me/tokens", json=body, headers={"Idempotency-Key": "one"})
    assert answer.status_code == 201
    assert answer.json()["token"] not in await everything_stored(api)


async def test_tokens_do_no_more_than_they_were_made_for(api):
    await declare(api.platform, blueprint())
    client = await api.member("ana")
    narrow = bearer(api, (await token(client, ["dataset.read"]))["token"])
    wide = bearer(api, (await token(client, ["dataset.*", "team.read"]))["token"])
    assert (await narrow.get("/me")).status_code == 200
    assert (await narrow.get("/spaces/course/datasets")).status_code == 200
    assert (await wide.get("/spaces/course/teams")).status_code == 200
    for who, path in ((narrow, "/spaces/course/teams"), (wide, "/spaces/course/sandboxes")):
        answer = await who.get(path)
        assert (answer.status_code, answer.json()["code"]) == (403, "access.token_scope")
    assert (await narrow.post("/auth/sign-out-everywhere")).status_code == 403
    for scopes in (["nosuch"], ["*"], ["query"], [""], [], ["query.*", "x"]):
        answer = await client.post("/me/tokens", json={"name": "t", "scopes": scopes})
        assert answer.status_code == 422, scopes
    steward = bearer(api, (await token(client, ["grant.*"]))["token"])
    assert (await steward.get("/spaces/course/grants")).json()["code"] == "access.role_missing"


async def test_a_token_makes_none_that_may_more_than_itself(api):
    client = await api.sign_in("ana")
    limited = bearer(api, (await token(client, ["self.write"], days=1))["token"])
    answer = await limited.post("/me/tokens", json={"name": "more", "scopes": ["query.*", "sandbox.*"], "days": 366})
    assert answer.status_code == 403, answer.text


async def test_tokens_end_and_show_when_they_were_used(timed):
    api, clock = timed
    client = await api.sign_in("ana")
    short, revoked = await token(client, ["self.read"], days=1), await token(client, ["self.read"], days=366)
    assert short["used_at"] is None
    program = bearer(api, short["token"])
    assert (await program.get("/me")).status_code == 200
    used = {t["id"]: t["used_at"] for t in (await client.get("/me/tokens")).json()["items"]}
    assert used[short["id"]]
    assert used[revoked["id"]] is None
    mine = await api.sign_in("ben")
    assert (await mine.delete(f"/me/tokens/{revoked['id']}")).status_code == 404
    assert (await client.delete(f"/me/tokens/{revoked['id']}")).status_code == 204
    assert (await client.delete(f"/me/tokens/{revoked['id']}")).status_code == 404
    assert (await bearer(api, revoked["token"]).get("/me")).status_code == 401
    clock.advance(timedelta(days=1, seconds=1))
    assert (await program.get("/me")).status_code == 401
    async with api.platform.database.read() as uow:
        assert len((await uow.session.scalars(select(ApiToken))).all()) == 2


async def test_changes_from_other_sites_are_refused(api):
    client = await api.sign_in("ana")
    body = {"name": "t", "scopes": ["self.read"]}
    made = await token(client, ["self.*"])
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": api.url + ".evil.example"},
                    {"Origin": "http://127.0.0.1:1"}):  # fmt: skip
        answer = await client.post("/me/tokens", json=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "access.cross_site"), headers
        assert (await client.delete(f"/me/tokens/{made['id']}", headers=headers)).status_code == 403
        assert (await client.get("/me", headers=headers)).status_code == 200
    for headers in ({"Sec-Fetch-Site": "same-origin", "Origin": api.url}, {"Sec-Fetch-Site": "none"}, {}):
        assert (await client.post("/me/tokens", json=body, headers=headers)).status_code == 201
    program = bearer(api, made["token"])
    assert (await program.get("/me/tokens", headers={"Origin": "https://a.example"})).status_code == 200


async def test_rates_are_limited_with_how_long_to_wait(tmp_path):
    settings = make_settings(tmp_path / "s", sandbox_backend="fake", sign_ins_per_minute=5, registrations_per_minute=3)
    async with served(settings, backend=fake()) as api:
        await declare(api.platform, blueprint())
        client = await api.sign_in("ana")
        codes = [(await api.apply(client)).status_code for _ in range(5)]
        assert codes[3:] == [429, 429]
        answers = [await api.anonymous().post("/auth/demo", json={"email": "b@test.example"}) for _ in range(8)]
        assert [a.status_code for a in answers].count(429) >= 3
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
        assert answers[-1].json()["code"] == "too_many_requests"


async def test_demo_sign_in_is_not_there_outside_demo_mode(tmp_path):
    settings = make_settings(
        tmp_path / "s", sandbox_backend="fake", mode="development", secret_key="0123456789abcdefghijklmnopqrstuvwxyz"
    )
    async with served(settings, backend=fake()) as api:
        answer = await api.anonymous().post("/auth/demo", json={"email": "a@test.example"})
        assert answer.status_code == 404
        assert (await api.anonymous().get("/auth")).json()["demo"] is False
        assert "set-cookie" not in answer.headers


async def test_cookies_are_bound_to_https_where_there_is_https(tmp_path):
    settings = make_settings(tmp_path / "s", sandbox_backend="fake", public_url="https://cloister.example")
    async with served(settings, backend=fake()) as api:
        answer = await api.anonymous().post("/auth/demo", json={"email": "a@test.example"})
        assert answer.headers["set-cookie"].startswith("__Host-cloister=")
        assert "secure" in answer.headers["set-cookie"].lower()


async def test_people_see_where_they_are_signed_in_and_end_one_of_them(api):
    here, there, eve = await api.sign_in("ana"), await api.sign_in("ana"), await api.sign_in("eve")
    mine = (await here.get("/me/sessions")).json()["items"]
    assert sorted(one["current"] for one in mine) == [False, True]
    other = next(one for one in mine if not one["current"])
    assert other["browser"]
    assert problem(await eve.delete(f"/me/sessions/{other['id']}")) == (404, "session.not_found")
    assert (await there.get("/me")).status_code == 200
    assert (await here.delete(f"/me/sessions/{other['id']}")).status_code == 204
    assert (await there.get("/me")).status_code == 401
    assert [one["current"] for one in (await here.get("/me/sessions")).json()["items"]] == [True]
    assert "ana@test.example" not in str(await api.records(name="identity:session:end"))
