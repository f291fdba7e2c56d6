"""Every route × every role × (own space, another, none), compared with the table that people read in docs/access.md."""

import re

import pytest

from cloister.core.principal import Role
from cloister.web.app import create_app, guarded_routes
from tests.support import ROOT, blueprint, declare, fake_backend, make_settings, served

ROLES = ["owner", "steward", "reviewer", "member", "viewer"]
WHO = ["anonymous", "nobody", *ROLES, "operator"]
SPACES = {"own": "own", "other": "other", "missing": "no-such-space"}
REFUSED = {401, 403}
FILL = {
    "dataset": "nosuch",
    "number": "1",
    "table": "nosuch",
    "provider": "nosuch",
    "person": "p-999999",
    "team": "t-999999",
    "agreement": "nosuch",
}
UNKNOWN_SPACE = {"space.see", "space.enrol"}
"""Actions that anybody (signed in) may do on any space: a space that is not there is then simply not found."""


def read_table() -> dict[str, dict[str, bool]]:
    """The rules as they stand in the documentation."""
    text = (ROOT / "docs" / "access.md").read_text()
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    head, _, *rows = lines
    return {row[0].strip("`"): {name: bool(cell) for name, cell in zip(head[1:], row[1:], strict=True)} for row in rows}


def may(row: dict[str, bool], who: str, where: str) -> bool:
    """Whether the table lets somebody do something somewhere."""
    if row["anybody"]:
        return True
    if who == "anonymous":
        return False
    if row["signed in"] or (who == "operator" and row["operator"]):
        return True
    return who in ROLES and where == "own" and row[who]


@pytest.fixture
async def api(tmp_path):
    """On SQLite alone: decisions are the same code on both databases."""
    backend = fake_backend()
    async with served(make_settings(tmp_path / "s", sandbox_backend="fake"), backend=backend) as found:
        yield found


async def callers(api):
    """Somebody of every role, in the space “own” and in no other."""
    for slug in ("own", "other"):
        await declare(api.platform, blueprint(slug=slug, roles={}))
    found = {
        "anonymous": api.anonymous(),
        "nobody": await api.sign_in("nobody"),
        "operator": await api.sign_in("operator"),
    }
    for role in ROLES:
        client = found[role] = await api.sign_in(f"a-{role}")
        number = int((await client.get("/me")).json()["number"].removeprefix("p-"))
        async with api.platform.database.write() as uow:
            await api.platform.bindings.grant(uow, number, Role(role), source="test", space="own")
    return found


def address(path: str, space: str) -> str:
    return re.sub(r"\{(\w+)(:\w+)?\}", lambda m: space if m[1] == "space" else FILL.get(m[1], "nosuch"), path)


def test_the_document_is_what_the_code_decides_by():
    from cloister.access.rules import RULES, table

    assert table() in (ROOT / "docs" / "access.md").read_text()
    assert set(read_table()) == {action.value for action in RULES}


async def test_every_route_every_role_every_space(api):
    rules = read_table()
    routes = guarded_routes(create_app(api.platform, manage=False))
    clients = await callers(api)
    wrong, asked = [], 0
    for route in routes:
        action = route.openapi_extra["x-cloister-action"]
        places = SPACES if "{space}" in route.path else {"own": ""}
        for method in sorted(route.methods - {"HEAD"}):
            if route.path.endswith(("sign-out", "sign-out-everywhere", "/auth/demo")):
                continue  # they end or change who asks; see test_sessions_tokens.py
            for where, slug in places.items():
                for who, client in clients.items():
                    path = address(route.path, slug)
                    url = api.url + path
                    answer = await client.request(method, url, json={} if method in {"POST", "PUT", "DELETE"} else None)
                    asked += 1
                    allowed = may(rules[action], who, where)
                    ok = answer.status_code not in REFUSED if allowed else answer.status_code in REFUSED
                    if not allowed and where == "missing" and who not in {"anonymous", "operator"}:
                        ok = answer.status_code == 404 and answer.json()["code"] == "space.not_found"
                    if answer.status_code >= 500 or not ok:
                        wrong.append((method, path, who, where, allowed, answer.status_code, answer.text[:90]))
                    if answer.status_code == 401:
                        assert answer.headers["www-authenticate"] == "Bearer"
    assert wrong == []
    assert asked > 800


async def test_who_is_outside_learns_nothing_of_what_is_inside(api):
    """A thing that exists in a space answers outsiders exactly as one that does not."""
    clients = await callers(api)
    made = await clients["owner"].post("/spaces/own/datasets/known", json={"title": "Known"})
    assert made.status_code == 201, made.text
    for who in ("anonymous", "nobody"):
        answers = [(await clients[who].get(f"/spaces/own/datasets/{name}")).json() for name in ("known", "unknown")]
        for answer in answers:
            answer.pop("request")
        assert answers[0] == answers[1]
    assert (await clients["member"].get("/spaces/own/datasets/known")).status_code == 200


async def test_an_ended_role_and_a_suspended_one_allow_nothing(api):
    from datetime import UTC, datetime, timedelta

    await declare(api.platform, blueprint(slug="own", roles={}))
    client = await api.sign_in("late")
    number = int((await client.get("/me")).json()["number"].removeprefix("p-"))
    grant = api.platform.bindings.grant
    async with api.platform.database.write() as uow:
        await grant(
            uow, number, Role.STEWARD, source="test", space="own", until=datetime.now(UTC) - timedelta(seconds=1)
        )
    assert (await client.get("/spaces/own/grants")).status_code == 403
    async with api.platform.database.write() as uow:
        await grant(uow, number, Role.MEMBER, source="test", space="own", team=0, suspended="Sign first.")
    answer = await client.get("/spaces/own/datasets")
    assert (answer.status_code, answer.json()["code"]) == (403, "access.suspended")
    assert (await client.get("/spaces/own/teams")).status_code == 200


async def test_a_refusal_is_recorded_and_an_operation_is_not_everybodys(api):
    """Knowing a long operation's id is no right to see it: its error may quote the data."""
    clients = await callers(api)
    async with api.platform.database.write() as uow:
        uow.unrecorded("for a test")
        operation = api.platform.operations.start(uow, "dataset.load", "secret", "own", "row 17: name “Ada”")
        operation.person = int((await clients["steward"].get("/me")).json()["number"].removeprefix("p-"))
    for who in ("steward", "operator"):
        assert (await clients[who].get(f"/operations/{operation.id}")).status_code == 200, who
    for who in ("nobody", "member", "viewer"):
        assert (await clients[who].get(f"/operations/{operation.id}")).status_code == 404
    denied = await clients["member"].get("/spaces/own/grants")
    await api.platform.recorder.flush()
    found = await api.records(name="access:decision:deny", request=denied.headers["cloister-request"])
    assert [(r["outcome"], r["subject"]) for r in found] == [("refused", "grant.read")]


async def test_what_is_one_teams_is_not_there_for_a_rival_nor_an_operator(api):
    """Real things of a team, asked for as the team, as a rival in the same space, as somebody outside and as an operator."""
    await declare(api.platform, blueprint(slug="own", kind="competition"))
    clients = {who: await api.member(who, "own") for who in ("team", "rival")}
    clients |= {"outside": await api.sign_in("outside"), "operator": await api.sign_in("operator")}
    teams = {
        who: (await clients[who].post("/spaces/own/teams", json={"name": who})).json()["number"]
        for who in ("team", "rival")
    }
    ours, base = clients["team"], "/spaces/own"
    started = await ours.post(f"{base}/sandboxes", json={"command": ["true"], "volume": "desk"})
    assert started.status_code == 202, started.text
    (volume,) = (await ours.get(f"{base}/volumes")).json()["items"]
    sandbox, team = started.json()["id"], teams["team"]
    document = {"name": "Board", "integrations": [], "widgets": []}
    board = (await ours.post(f"{base}/dashboards", json={"team": team, "document": document})).json()["id"]
    private = [  # what is the team's work, or shows it
        ("GET", f"/sandboxes/{sandbox}/output"), ("GET", f"/volumes/{volume['id']}/files"),
        ("POST", f"/volumes/{volume['id']}/snapshots"), ("DELETE", f"/volumes/{volume['id']}?confirm=desk"),
        ("GET", f"/dashboards/{board}"), ("GET", f"/dashboards/{board}/export"), ("POST", f"/dashboards/{board}/live"),
        ("POST", f"/dashboards/{board}/copies"), ("DELETE", f"/dashboards/{board}"), ("POST", f"/teams/{team}/exports"),
        ("POST", f"/sandboxes?team={team}"),
    ]  # fmt: skip
    seen = [  # that it is there and runs is an operator's business, too
        ("GET", f"/sandboxes/{sandbox}"), ("GET", f"/sandboxes/{sandbox}/usage"), ("GET", f"/teams/{team}/members"),
        ("POST", f"/teams/{team}/invitations"), ("DELETE", f"/sandboxes/{sandbox}"),
    ]  # fmt: skip
    wrong = []
    for private_too, asked in ((True, private), (False, seen)):
        for method, path in asked:
            path, _, query = path.partition("?team=")
            body = {"command": ["true"], "team": query, "volume": "desk"} if query else {"paths": ["a"], "why": "w"}
            for who in ("outside", "rival", "operator"):
                answer = await clients[who].request(method, base + path, json=body if method == "POST" else None)
                shut = answer.status_code in {403, 404}
                if shut != (private_too or who != "operator"):
                    wrong.append((who, method, path, answer.status_code, answer.text[:120]))
    assert wrong == []
    assert (await ours.get(f"{base}/dashboards/{board}")).status_code == 200
    listed = {who: (await clients[who].get(f"{base}/volumes")).json()["items"] for who in ("team", "rival")}
    assert (len(listed["team"]), listed["rival"]) == (1, [])
