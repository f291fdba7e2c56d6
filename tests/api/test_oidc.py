"""Sign-in with a real OpenID provider (npm's oidc-provider), as a browser does it."""

import asyncio
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx2
import pytest
from sqlalchemy import select

from cloister.access.models import RoleBinding
from cloister.platform import OidcProvider
from cloister.platform.mail import Letter
from tests.support import ROOT, blueprint, declare, fake_backend, free_port, make_settings, served, until

HERE = Path(__file__).parent / "oidc_provider"
SECRET = "app-secret-app-secret-app-secret"
pytestmark = pytest.mark.skipif(shutil.which("npm") is None, reason="Node.js and npm are not installed")


@pytest.fixture(scope="session")
def packages():
    """The provider's packages, as locked, installed once; other workers of the same run wait for it."""
    lock = (HERE / "package-lock.json").read_bytes()
    folder = ROOT / ".cache" / "oidc-provider" / hashlib.sha256(lock).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            for name in ("package.json", "package-lock.json"):
                shutil.copy(HERE / name, folder)
            subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=folder, check=True, timeout=120)
            (folder / "done").touch()
        shutil.copy(HERE / "provider.mjs", folder)
    return folder


class Provider:
    """A running provider."""

    def __init__(self, packages, folder, name, callback, users, secret=SECRET, **more):
        self.port = free_port()
        self.issuer = f"http://127.0.0.1:{self.port}"
        config = {
            "users": users,
            "clients": [{"client_id": "app", "client_secret": secret, "redirect_uris": [callback]}],
            **more,
        }
        path = folder / f"{name}.json"
        path.write_text(json.dumps(config))
        self.process = subprocess.Popen(
            ["node", "provider.mjs", str(self.port), str(path)],
            cwd=packages,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert b"READY" in self.process.stdout.readline()

    async def change(self, user, **claims):
        async with httpx2.AsyncClient() as http:
            await http.put(f"{self.issuer}/__test/users/{user}", json=claims)

    async def rotate(self, *, drop=False):
        async with httpx2.AsyncClient() as http:
            await http.post(f"{self.issuer}/__test/rotate{'?drop=1' if drop else ''}")

    def close(self):
        os.killpg(self.process.pid, signal.SIGKILL)  # Node from PyPI is a child of what was started
        self.process.wait()
        self.process.stdout.close()


USERS = {
    "alice": {"email": "alice@test.example", "name": "Alice", "groups": ["staff", "dev"]},
    "bob": {"email": "bob@test.example", "name": "Bob", "groups": ["dev"]},
    "eve": {"email": "operator@test.example", "name": "Eve", "groups": []},
    "odd": {"email": "odd@test.example", "email_verified": False, "name": "Odd"},
    "bare": {"email": None, "name": None},
}


@pytest.fixture
async def world(tmp_path, packages):
    """A platform and two providers: “good”, whose addresses are trusted, and “wild”, whose are not."""
    settings = make_settings(tmp_path / "s", sandbox_backend="fake")
    providers = {}
    for name in ("good", "wild"):
        callback = f"{settings.public_url}/api/v1/auth/oidc/{name}/callback"
        providers[name] = await asyncio.to_thread(Provider, packages, tmp_path, name, callback, USERS)
    settings.oidc_providers = [
        OidcProvider(name=name, title=name, issuer=p.issuer, client_id="app", client_secret=SECRET, scopes="openid profile email groups",
                     trusted_email=name == "good", group_roles={"staff": "course:reviewer", "ops": "operator"})
        for name, p in providers.items()
    ]  # fmt: skip
    backend = fake_backend()
    try:
        async with served(settings, backend=backend) as api:
            api.platform.oidc._refetch_seconds = 0
            await declare(api.platform, blueprint())
            yield api, providers
    finally:
        for provider in providers.values():
            provider.close()


async def at_provider(url, user, callback):
    """What a browser does at the provider; return the address that it is sent back to."""
    async with httpx2.AsyncClient(timeout=10) as browser:
        answer = await browser.get(url)
        for _ in range(15):
            if answer.is_redirect:
                place = urljoin(str(answer.url), answer.headers["location"])
                if place.startswith(callback):
                    return place
                answer = await browser.get(place)
            else:
                assert answer.status_code == 200, answer.text[:300]
                action = re.search(r'<form[^>]*action="([^"]*)"', answer.text)[1]
                fields = dict(
                    re.findall(r'<input[^>]*type="hidden"[^>]*name="([^"]+)"[^>]*value="([^"]*)"', answer.text)
                )
                answer = await browser.post(
                    urljoin(str(answer.url), action), data={**fields, "login": user, "password": "x"}
                )
    raise AssertionError("the provider never sent us back")


async def begin(api, name, user, **query):
    client = api.anonymous()
    started = await client.get(f"/auth/oidc/{name}/start", params=query)
    assert started.status_code == 302, started.text
    return client, await at_provider(started.headers["location"], user, f"{api.url}/api/v1/auth/oidc/{name}/callback")


async def sign_in(api, name, user, **query):
    client, back = await begin(api, name, user, **query)
    return client, await client.get(back)


async def roles(api, client):
    number = int((await client.get("/me")).json()["number"].removeprefix("p-"))
    async with api.platform.database.read() as uow:
        return {
            (b.space, b.role)
            for b in (await uow.session.scalars(select(RoleBinding).where(RoleBinding.person == number))).all()
        }


def refused(answer):
    return (
        answer.status_code == 403
        and answer.json()["code"] == "oidc.refused"
        and "cloister=" not in answer.headers.get("set-cookie", "")
    )


async def test_the_whole_way_round(world):
    api, _ = world
    offered = (await api.anonymous().get("/auth")).json()
    assert [p["name"] for p in offered["providers"]] == ["good", "wild"]
    started = await api.anonymous().get("/auth/oidc/good/start")
    asked = parse_qs(urlsplit(started.headers["location"]).query)
    assert asked["response_type"] == ["code"]
    assert asked["code_challenge_method"] == ["S256"]
    assert len(asked["state"][0]) >= 32 <= len(asked["nonce"][0])
    cookie = started.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert asked["state"][0] not in cookie
    client, done = await sign_in(api, "good", "alice", return_to="/spaces/course")
    assert (done.status_code, done.headers["location"]) == (302, "/spaces/course")
    me = (await client.get("/me")).json()
    assert (me["name"], me["email"]) == ("Alice", "alice@test.example")
    again, _ = await sign_in(api, "good", "alice")
    assert (await again.get("/me")).json()["number"] == me["number"]
    for place in ("//evil.example", "https://evil.example", "/\\evil.example", "evil"):
        _, done = await sign_in(api, "good", "bob", return_to=place)
        assert done.headers["location"] == "/"
    assert (await client.get("/auth/oidc/nosuch/start")).json()["code"] == "oidc.provider_not_found"


async def test_state_nonce_provider_code_and_replay_are_refused(world):
    api, _ = world
    client, back = await begin(api, "good", "alice")
    assert refused(await api.anonymous().get(back)), "another browser has no state"
    assert refused(await client.get(re.sub(r"state=[^&]+", "state=other", back)))
    assert refused(await client.get(back.replace("/oidc/good/", "/oidc/wild/")))
    assert refused(await client.get(re.sub(r"iss=[^&]+", "iss=https%3A%2F%2Fevil.example", back)))
    assert refused(await client.get(re.sub(r"code=[^&]+", "code=wrong", back)))
    assert refused(await client.get(re.sub(r"code=[^&]+", "", back)))
    assert refused(await client.get(re.sub(r"code=[^&]+", "error=access_denied", back)))
    other, theirs = await begin(api, "good", "bob")
    swapped = re.sub(r"state=[^&]+", re.search(r"state=[^&]+", back)[0], theirs)
    assert refused(await client.get(swapped)), "bob's code in alice's browser: the verifier is not his"
    kept = dict(client.cookies)
    done = await client.get(back)
    assert done.status_code == 302, done.text
    assert refused(await api.anonymous(cookies=kept).get(back)), "a callback works once"
    assert (await other.get("/me")).status_code == 401


async def test_a_token_with_another_nonce_is_refused(world, monkeypatch):
    api, _ = world
    real = api.platform.oidc._verify
    monkeypatch.setattr(api.platform.oidc, "_verify", lambda provider, token, nonce: real(provider, token, nonce + "x"))
    _, done = await sign_in(api, "good", "alice")
    assert refused(done)


async def test_keys_rotate_and_dropped_ones_do_not_stop_anybody(world):
    api, providers = world
    for drop in (None, False, True):
        if drop is not None:
            await providers["good"].rotate(drop=drop)
        _, done = await sign_in(api, "good", "alice")
        assert done.status_code == 302, done.text


async def test_two_providers_are_two_issuers(world):
    api, _ = world
    first, _ = await sign_in(api, "wild", "bare")
    second, _ = await sign_in(api, "good", "bare")
    assert (await first.get("/me")).json()["number"] != (await second.get("/me")).json()["number"]


async def test_groups_give_roles_and_take_them(world):
    api, providers = world
    client, _ = await sign_in(api, "good", "alice")
    assert await roles(api, client) == {("course", "reviewer")}
    await providers["good"].change("alice", email="alice@test.example", name="Alice", groups=["ops"])
    assert await roles(api, (await sign_in(api, "good", "alice"))[0]) == {("", "operator")}
    await providers["good"].change("alice", email="alice@test.example", name="Alice")
    assert await roles(api, (await sign_in(api, "good", "alice"))[0]) == set()
    assert (await client.get("/platform/walls")).status_code == 403


async def test_a_trusted_address_joins_and_an_untrusted_one_is_refused(world):
    api, _ = world
    demo = await api.sign_in("alice")
    number = (await demo.get("/me")).json()["number"]
    client, _ = await sign_in(api, "good", "alice")
    assert (await client.get("/me")).json()["number"] == number
    _, done = await sign_in(api, "wild", "alice")
    assert (done.status_code, done.json()["code"]) == (409, "identity.email_taken")
    await api.sign_in("odd")
    _, done = await sign_in(api, "good", "odd")
    assert (done.status_code, done.json()["code"]) == (409, "identity.email_taken"), "not verified, so not trusted"


async def test_nobody_waits_inside_somebodys_address(world):
    """An untrusted provider claims an address first; its real owner must not be joined to the one who claimed it."""
    api, _ = world
    eve, done = await sign_in(api, "wild", "eve")
    assert done.status_code in {302, 409}
    owner, done = await sign_in(api, "good", "eve")
    if done.status_code == 302:
        assert ("", "operator") in await roles(api, owner)
        assert (await eve.get("/me")).json().get("number") != (await owner.get("/me")).json()["number"]
    assert (await eve.get("/platform/walls")).status_code in {401, 403}


async def letter_to(api, address):
    async with api.platform.database.read() as uow:
        letters = (await uow.session.scalars(select(Letter).where(Letter.to == address).order_by(Letter.id))).all()
    return letters[-1].text if letters else None


async def test_an_address_that_nobody_vouches_for_is_confirmed_by_its_link(world):
    """On a list of invited addresses, it counts from then on, and nobody else can take it."""
    api, _ = world
    await declare(api.platform, blueprint(slug="listed", enrolment={"mode": "allow-list"}))
    await api.operator().post("/spaces/listed/allow-list", json={"csv": "bob@test.example\n"})
    bob, _ = await sign_in(api, "wild", "bob")
    assert (await bob.get("/me")).json()["email_confirmed"] is False
    applied = await api.apply(bob, "listed")
    assert applied.status_code == 202, applied.text

    async def state(*wanted):
        found = (await bob.get("/spaces/listed/enrolment")).json()
        return found["waiting_for"] is not None if wanted == ("waits",) else found["state"] in wanted

    await until(lambda: state("waits"))
    sent = await bob.post("/me/email/link")
    assert (sent.status_code, sent.json()) == (202, {"to": "bob@test.example"})
    token = (await letter_to(api, "bob@test.example")).split("/confirm#")[1].split()[0]
    alice, _ = await sign_in(api, "good", "alice")
    for client, given in ((alice, token), (bob, token[:-4] + "AAAA"), (bob, "nonsense"), (bob, "é" * 8)):
        refused_ = await client.post("/me/email/confirmation", json={"token": given})
        assert refused_.json()["code"] == "identity.bad_confirmation", given
    confirmed = await bob.post("/me/email/confirmation", json={"token": token})
    assert confirmed.json()["email_confirmed"] is True
    await until(lambda: state("active"))
    assert (await bob.post("/me/email/link")).json()["code"] == "identity.nothing_to_confirm"
    assert await roles(api, bob) == {("listed", "member")}, "a link makes nobody more than a member"


async def test_an_operators_address_confirmed_by_a_link_makes_no_operator(world):
    api, _ = world
    eve, _ = await sign_in(api, "wild", "eve")
    await eve.post("/me/email/link")
    token = (await letter_to(api, "operator@test.example")).split("/confirm#")[1].split()[0]
    assert (await eve.post("/me/email/confirmation", json={"token": token})).status_code == 200
    assert await roles(api, eve) == set()
    again, _ = await sign_in(api, "wild", "eve")
    assert await roles(api, again) == set()


async def test_a_provider_that_tells_of_people_at_its_userinfo_alone_is_asked_there(world, packages, tmp_path):
    """That is what the specification says and most do; its secret has signs that must be encoded, as the standard says."""
    api, _ = world
    callback = f"{api.url}/api/v1/auth/oidc/strict/callback"
    secret = "s3cret with: signs+&%/= and more of them"
    strict = await asyncio.to_thread(Provider, packages, tmp_path, "strict", callback, USERS, secret, conform=True)
    try:
        api.platform.oidc._providers["strict"] = OidcProvider(
            name="strict", title="strict", issuer=strict.issuer, client_id="app", client_secret=secret, scopes="openid profile email groups",
            trusted_email=True, group_roles={"staff": "course:reviewer"},
        )  # fmt: skip
        client, answer = await sign_in(api, "strict", "alice")
        assert answer.status_code == 302, answer.text
        me = (await client.get("/me")).json()
        assert (me["name"], me["email"]) == ("Alice", "alice@test.example")
        assert ("course", "reviewer") in await roles(api, client)
    finally:
        strict.close()


async def test_a_key_that_we_cannot_use_stops_nobody(monkeypatch):
    from cloister.identity import oidc

    good = {"kty": "oct", "k": "c2VjcmV0IHRoYXQgaXMgbG9uZyBlbm91Z2g", "kid": "g"}
    odd = [
        {"kty": "OKP", "crv": "X9999", "x": "AA", "kid": "o"},
        {"kty": "EC", "crv": "secp1", "x": "A", "y": "A"},
        {"kid": "x"},
        "no key",
    ]

    async def told(_url, _token=None):
        return {"keys": [*odd, good]}

    monkeypatch.setattr(oidc, "_get_json", told)
    assert [key.kid for key in (await oidc._get_keys("http://p.example/jwks")).keys] == ["g"]


async def test_a_provider_that_does_not_say_where_its_doors_are_is_unavailable(world, monkeypatch):
    from cloister.identity import oidc

    api, providers = world

    async def told(_url, _token=None):
        return {"issuer": providers["good"].issuer, "jwks_uri": "http://p.example/jwks"}

    monkeypatch.setattr(oidc, "_get_json", told)
    answer = await api.anonymous().get("/auth/oidc/good/start")
    assert (answer.status_code, answer.json()["code"]) == (503, "oidc.provider_unavailable")


async def test_a_declared_role_goes_with_the_address(world):
    api, providers = world
    await declare(api.platform, blueprint(roles={"steward": ["bob@test.example"]}))
    client, _ = await sign_in(api, "good", "bob")
    assert ("course", "steward") in await roles(api, client)
    await providers["good"].change("bob", email="robert@test.example", name="Bob", groups=["dev"])
    client, _ = await sign_in(api, "good", "bob")
    assert ("course", "steward") not in await roles(api, client)
