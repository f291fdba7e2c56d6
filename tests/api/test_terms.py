"""What people are asked and sign: the form, agreements and their questions."""

import pytest

from cloister.access import scoped_select
from cloister.spaces import in_space
from cloister.spaces.models import Signature
from tests.api.contest import becomes, contest, problem
from tests.support import declare

FIELDS = [
    {"name": "why", "type": "text", "label": "Why"}, {"name": "land", "type": "country", "label": "Land"},
    {"name": "zone", "type": "time-zone", "label": "Zone"}, {"name": "level", "type": "choice", "label": "Level", "options": ["low", "high"]},
    {"name": "ok", "type": "consent", "label": "Consent"}, {"name": "news", "type": "checkbox", "label": "News", "required": False},
    {"name": "home", "type": "affiliation", "label": "Home", "required": False},
]  # fmt: skip
GOOD = {"why": "to learn", "land": "pt", "zone": "Europe/Lisbon", "level": "low", "ok": True}


async def test_a_new_version_of_terms_suspends_until_it_is_signed(api):
    await declare(api.platform, contest())
    ana = await api.member("ana", "contest")
    old = (await ana.get("/spaces/contest/registration")).json()["agreements"][0]
    again = [await ana.post("/spaces/contest/agreements/dua/signatures", json={"hash": old["hash"]}) for _ in range(2)]
    assert [a.status_code for a in again] == [201, 201]
    assert again[0].json() == again[1].json()
    text = {"name": "dua", "title": "Terms", "text": "Be good.\nBe kind.\n"}
    await declare(api.platform, contest(agreements=[{**text, "sign_again": False}]))
    assert (await ana.get("/spaces/contest/datasets")).status_code == 200
    await declare(api.platform, contest(agreements=[{**text, "text": "Be good.\nBe kind.\nBe quick.\n"}]))
    assert problem(await ana.get("/spaces/contest/datasets")) == (403, "access.suspended")
    diff = (await ana.get("/spaces/contest/agreements/dua/diff", params={"since": 1})).json()["diff"]
    assert "+Be quick." in diff
    stale = await ana.post("/spaces/contest/agreements/dua/signatures", json={"hash": old["hash"]})
    assert problem(stale) == (409, "agreement.outdated")
    new = (await ana.get("/spaces/contest/registration")).json()["agreements"][0]
    assert (await ana.post("/spaces/contest/agreements/dua/signatures", json={"hash": new["hash"]})).status_code == 201
    assert (await ana.get("/spaces/contest/datasets")).status_code == 200
    assert problem(await ana.post("/spaces/contest/agreements/nosuch/signatures", json={"hash": "0" * 64})) == (
        404,
        "agreement.not_found",
    )


async def test_the_form_is_checked_field_by_field(api):
    await declare(api.platform, contest(registration=FIELDS))
    ana = await api.sign_in("ana")
    bad = [("why", ""), ("why", "  "), ("why", 7), ("why", "x" * 501), ("why", "a\nb"), ("why", "\x00"), ("land", "XX"), ("land", "Portugal"), ("zone", "Mars/Base"),
           ("level", "mid"), ("ok", False), ("ok", "yes"), ("ok", 1), ("news", "yes"), ("home", ["x"]), ("nosuch", "x")]  # fmt: skip
    for name, value in bad:
        answer = await api.apply(ana, "contest", answers={**GOOD, name: value})
        assert (*problem(answer), answer.json().get("field")) == (422, "registration.bad_answer", name), (name, value)
    for name in ("why", "land", "zone", "level", "ok"):
        answer = await api.apply(ana, "contest", answers={k: v for k, v in GOOD.items() if k != name})
        assert problem(answer) == (422, "registration.bad_answer")
    assert problem(await ana.get("/spaces/contest/enrolment")) == (404, "enrolment.not_found")
    assert (await api.apply(ana, "contest", answers=GOOD)).json()["answers"]["land"] == "PT"


async def test_a_signature_keeps_the_answers_it_came_with(api):
    await declare(api.platform, contest(registration=FIELDS))
    ana = await api.sign_in("ana")
    assert (await api.apply(ana, "contest", answers=GOOD)).status_code == 202
    async with api.platform.database.read() as uow:
        signed = (await uow.session.scalars(scoped_select(Signature, in_space("contest")))).one()
    assert signed.answers["land"] == "PT"


async def test_an_agreement_asks_its_own_questions_and_the_answers_are_part_of_the_signature(api):
    asked = [{"name": "supervisor", "type": "text", "label": "Who supervises you?"}]
    dua = {"name": "dua", "title": "Data use agreement", "text": "Be good.\n", "questions": asked}
    await declare(api.platform, contest(registration=FIELDS, agreements=[dua]))
    ana = await api.sign_in("ana")
    form = (await ana.get("/spaces/contest/registration")).json()
    assert form["agreements"][0]["questions"][0]["label"] == "Who supervises you?"
    apply = lambda **more: api.apply(ana, "contest", answers=GOOD, **more)  # noqa: E731
    assert problem(await apply()) == (422, "registration.bad_answer")
    assert problem(await apply(agreement_answers={"other": {}})) == (422, "registration.bad_answer")
    assert problem(await apply(agreement_answers={"dua": {"supervisor": "Eva", "more": 1}}))[0] == 422
    assert (await apply(agreement_answers={"dua": {"supervisor": "Eva"}})).status_code == 202
    await becomes(ana, "active")
    steward = await api.sign_in("steward")
    url = "/spaces/contest/agreements/dua/signatures"
    (row,) = (await steward.get(url)).json()["items"]
    assert (row["answers"]["supervisor"], row["answers"]["land"]) == ("Eva", "PT")
    assert (await ana.get(url)).status_code == 403
    asked[0]["label"] = "Who is responsible for you?"
    await declare(api.platform, contest(registration=FIELDS, agreements=[dua]))
    assert problem(await ana.get("/spaces/contest/datasets")) == (403, "access.suspended"), (
        "another question is another version"
    )
    hash_ = (await ana.get("/spaces/contest/registration")).json()["agreements"][0]["hash"]
    sign = lambda answers: ana.post(url, json={"hash": hash_, "answers": answers})  # noqa: E731
    assert problem(await sign({})) == (422, "registration.bad_answer")
    assert (await sign({"supervisor": "Ben"})).status_code == 201
    assert (await ana.get("/spaces/contest/datasets")).status_code == 200


async def test_questions_of_form_and_agreements_have_names_of_their_own():
    dua = {"name": "dua", "title": "D", "text": "x", "questions": [{"name": "why", "type": "text", "label": "Why?"}]}
    with pytest.raises(ValueError, match="declared twice"):
        contest(registration=FIELDS, agreements=[dua])


async def test_what_changed_in_terms_is_shown_line_by_line_with_the_questions(api):
    dua = {"name": "dua", "title": "D", "text": "Be good."}
    await declare(api.platform, contest(agreements=[dua]))
    await declare(api.platform, contest(agreements=[{**dua, "text": "Be very good."}]))
    asked = [{"name": "why", "type": "text", "label": "Why?"}]
    await declare(api.platform, contest(agreements=[{**dua, "text": "Be very good.", "questions": asked}]))
    url = "/spaces/contest/agreements/dua/diff"
    changed = [(await api.anonymous().get(url, params={"since": since})).json()["diff"].split("\n") for since in (1, 2)]
    assert {"-Be good.", "+Be very good."} <= set(changed[0])
    assert "+? Why? (text)" in changed[1]


async def test_a_public_page_names_sponsor_and_rules(api):
    await declare(
        api.platform, contest(sponsor="The Foundation", rules="# Rules\n\n<script>alert(1)</script> *Play fair.*")
    )
    page = (await api.anonymous().get("/spaces/contest")).json()
    assert page["sponsor"] == "The Foundation"
    assert "<em>Play fair.</em>" in page["rules_html"]
    assert "<script" not in page["rules_html"]
