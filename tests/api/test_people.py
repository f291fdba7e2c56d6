"""What operators see of people, and accounts that they close and open again."""

import json

import aiohttp
from sqlalchemy import select

from cloister.platform.mail import Letter
from tests.support import blueprint, declare, until


async def test_a_closed_account_ends_everything_at_once_and_comes_back_whole(api):
    await declare(api.platform, blueprint())
    ann, bob = await api.member("ann"), await api.member("bob")
    operator = await api.sign_in("operator")
    number = (await ann.get("/me")).json()["number"]
    token = (
        await ann.post("/me/tokens", json={"name": "t", "scopes": ["space.*", "self.*", "dataset.*"], "days": 1})
    ).json()["token"]
    program = api.anonymous(headers={"Authorization": f"Bearer {token}"})
    assert (await program.get("/spaces/course/datasets")).status_code == 200
    found = (await operator.get("/people", params={"q": "ANN@"})).json()["items"]
    assert [(one["number"], one["disabled_at"]) for one in found] == [(number, None)]

    closed = await operator.put(f"/people/{number}/disabled", json={"disabled": True, "reason": "asked to"})
    assert closed.status_code == 200, closed.text
    assert closed.json()["disabled_at"] is not None
    assert (await ann.get("/me")).status_code == 401
    assert (await program.get("/spaces/course/datasets")).status_code == 401
    refused = await api.anonymous().post("/auth/demo", json={"email": "ann@test.example", "name": "ann"})
    assert refused.json()["code"] == "identity.disabled"
    assert (await bob.get("/spaces/course/datasets")).status_code == 200
    record = (await api.records(name="identity:person:disable"))[0]
    assert (record["subject"], record["details"]["reason"]) == (number, "asked to")

    again = await operator.put(f"/people/{number}/disabled", json={"disabled": False})
    assert again.json()["disabled_at"] is None
    back = await api.sign_in("ann")
    assert (await back.get("/me")).json()["number"] == number
    assert (await back.get("/spaces/course/datasets")).status_code == 200, "everything is as it was"


async def test_what_is_open_of_a_closed_account_ends(api):
    await declare(api.platform, blueprint())
    ann = await api.member("ann")
    number = (await ann.get("/me")).json()["number"]
    team = (await ann.get("/spaces/course/enrolment")).json()["team"]
    document = {"name": "Board", "integrations": [], "widgets": []}
    board = (await ann.post("/spaces/course/dashboards", json={"team": team, "document": document})).json()
    ticket = (await ann.post(f"/spaces/course/dashboards/{board['id']}/live")).json()
    address = f"{api.url}/api/v1{ticket['path']}"
    async with aiohttp.ClientSession() as http, http.ws_connect(address) as ws:
        assert json.loads((await ws.receive()).data)["type"] == "INIT"
        await api.operator().put(f"/people/{number}/disabled", json={"disabled": True})

        async def told():
            message = await ws.receive(timeout=5)
            return message.type is aiohttp.WSMsgType.TEXT and json.loads(message.data)["type"] == "TERMINATE"

        await until(told)


async def test_who_may_and_who_may_not(api):
    await declare(api.platform, blueprint())
    ann, operator = await api.member("ann"), await api.sign_in("operator")
    assert (await ann.get("/people")).status_code == 403
    me = (await operator.get("/me")).json()["number"]
    assert (
        "your own account" in (await operator.put(f"/people/{me}/disabled", json={"disabled": True})).json()["detail"]
    )
    assert (await operator.put("/people/p-999999/disabled", json={"disabled": True})).status_code == 404
    first = (await operator.get("/people", params={"limit": 1})).json()
    rest = (await operator.get("/people", params={"limit": 50, "cursor": first["next_cursor"]})).json()
    numbers = [one["number"] for one in [*first["items"], *rest["items"]]]
    assert len(numbers) == len(set(numbers)) == 2
    settings = {one["name"]: one for one in (await operator.get("/platform/settings")).json()["items"]}
    assert settings["mode"]["value"] == "demo"
    assert "secret_key" in settings


async def test_operators_are_told_that_they_are(api):
    operator, ana = await api.sign_in("operator"), await api.sign_in("ana")
    assert (await operator.get("/me/spaces")).json()["operator"]
    assert not (await ana.get("/me/spaces")).json()["operator"]


async def test_letters_are_written_in_the_language_that_somebody_reads(api):
    await declare(api.platform, blueprint())
    ann = await api.sign_in("ann")
    assert (await ann.get("/me")).json()["language"] == "en"
    assert (await ann.put("/me/language", json={"language": "tlh"})).status_code == 422
    assert (await ann.put("/me/language", json={"language": "de"})).json()["language"] == "de"
    await api.member("ann")
    async with api.platform.database.read() as uow:
        letters = (await uow.session.scalars(select(Letter).where(Letter.to == "ann@test.example"))).all()
    assert [letter.subject for letter in letters] == ["Willkommen bei A course"]
    assert letters[0].text.startswith("Guten Tag ann,\n\nSie sind dabei: A course.")
