"""The way into a space and out of it: open, by code, by list, by approval; teams; ends."""

import asyncio
from datetime import timedelta

import pytest

from cloister.core.clock import ManualClock
from tests.api.contest import becomes, contest, problem, state
from tests.support import blueprint, declare, fake_backend, served, until


async def test_open_and_closed(api):
    await declare(api.platform, contest())
    ana = await api.member("ana", "contest")
    assert problem(await api.apply(ana, "contest")) == (409, "enrolment.wrong_state")
    await declare(api.platform, contest(enrolment={"closes": "2020-01-01T00:00:00Z"}))
    assert problem(await api.apply(await api.sign_in("ben"), "contest")) == (409, "enrolment.closed")
    assert problem(await api.apply(await api.sign_in("ben"), "contest", sign=False)) == (409, "enrolment.closed")
    await declare(api.platform, contest())
    cleo = await api.sign_in("cleo")
    assert (await api.apply(cleo, "contest", sign=False)).status_code == 202
    waiting = await until(lambda: _waits(cleo), 5)
    assert "sign" in waiting["waiting_for"]
    refused = await cleo.get("/spaces/contest/datasets")
    assert problem(refused) == (403, "agreement.unsigned")


async def _waits(client):
    found = await state(client)
    return found if found["waiting_for"] else None


async def test_by_code(api):
    await declare(api.platform, contest(enrolment={"mode": "code", "code": "open sesame"}))
    ana = await api.sign_in("ana")
    for code in (None, "", "wrong", "open sesame x"):
        assert problem(await api.apply(ana, "contest", code=code)) == (403, "enrolment.wrong_code")
    assert (await api.apply(ana, "contest", code=" open sesame ")).status_code == 202
    await becomes(ana, "active")
    exported = (await api.operator().get("/spaces/contest")).text
    assert "sesame" not in exported


async def test_by_a_list_of_thousands_with_a_report_of_every_row(api):
    await declare(api.platform, contest(enrolment={"mode": "allow-list"}))
    early, steward = await api.sign_in("early"), await api.sign_in("steward")
    assert (await api.apply(early, "contest")).status_code == 202
    await until(lambda: _waits(early), 5)
    lines = [
        "email,name",
        *(f"person{i}@test.example,P {i}" for i in range(4000)),
        "not an address,x",
        "PERSON7@TEST.EXAMPLE",
        "",
        '"early@test.example","Quoted, name"',
    ]
    answer = await steward.post("/spaces/contest/allow-list", json={"csv": "\r\n".join(lines)})
    report = answer.json()
    assert (report["added"], report["known"], report["wrong"]) == (4001, 1, 1)
    assert len(report["rows"]) == 4003
    wrong = next(row for row in report["rows"] if row["outcome"] == "wrong")
    assert (wrong["row"], wrong["address"]) == (4002, "not an address")
    assert wrong["why"]
    await becomes(early, "active")
    assert (await api.member("person3999", "contest")) is not None
    again = (await steward.post("/spaces/contest/allow-list", json={"csv": "person1@test.example"})).json()
    assert (again["added"], again["known"]) == (0, 1)
    for csv in ('"unclosed', "a" * 200_000 + "@x.example", 'a@b.example"c"\n"d', "\x00", "x,\r\r\ny"):
        assert (await steward.post("/spaces/contest/allow-list", json={"csv": csv})).status_code in {200, 422}, csv[:20]
    same = "twice@test.example"
    both = await asyncio.gather(*(steward.post("/spaces/contest/allow-list", json={"csv": same}) for _ in range(2)))
    assert sorted(a.status_code for a in both) in ([200, 200], [200, 409])


async def test_by_approval(api):
    await declare(api.platform, contest(enrolment={"mode": "approval"}))
    ana, steward = await api.sign_in("ana"), await api.sign_in("steward")
    await api.apply(ana, "contest")
    await until(lambda: _waits(ana), 5)
    me = (await ana.get("/me")).json()["number"]
    assert problem(await ana.post(f"/spaces/contest/enrolments/{me}/approval"))[0] == 403
    assert (await steward.post(f"/spaces/contest/enrolments/{me}/approval")).status_code == 200
    await becomes(ana, "active")
    assert problem(await steward.post("/spaces/contest/enrolments/p-000999/approval")) == (404, "enrolment.not_found")
    for label in ("p-999999999999", "x", "p--1", "p-00"):
        assert problem(await steward.get(f"/spaces/contest/enrolments/{label}")) == (404, "enrolment.not_found"), label


async def test_teams_and_the_race_for_the_last_place(api):
    await declare(api.platform, contest())
    lead, *others = await asyncio.gather(*(api.member(name, "contest") for name in ("lead", "one", "two", "three")))
    made = await lead.post("/spaces/contest/teams", json={"name": "blue"})
    assert made.status_code == 201, made.text
    team = made.json()["number"]
    assert problem(await lead.post("/spaces/contest/teams", json={"name": "red"})) == (409, "team.in_team_already")
    assert problem(await others[0].post("/spaces/contest/teams", json={"name": "blue"})) == (409, "team.name_taken")
    for name in ("B", "t-000001", "a b", "-x", "x" * 50, "é"):
        assert problem(await others[0].post("/spaces/contest/teams", json={"name": name})) == (422, "team.bad_name")
    assert problem(await others[0].post(f"/spaces/contest/teams/{team}/invitations")) == (404, "team.not_found")
    codes = [(await lead.post(f"/spaces/contest/teams/{team}/invitations")).json()["code"] for _ in range(3)]
    answers = await asyncio.gather(
        *(who.post("/spaces/contest/join", json={"code": code}) for who, code in zip(others, codes, strict=True))
    )
    assert sorted(a.status_code for a in answers) == [200, 409, 409]
    assert {a.json()["code"] for a in answers if a.status_code == 409} == {"team.full"}
    members = (await lead.get(f"/spaces/contest/teams/{team}/members")).json()["items"]
    assert len(members) == 2
    winner = next(i for i, a in enumerate(answers) if a.status_code == 200)
    loser = others[(winner + 1) % 3]
    assert (await others[winner].delete(f"/spaces/contest/teams/{team}/members/me")).status_code == 204
    assert problem(await others[winner].get(f"/spaces/contest/teams/{team}/members")) == (404, "team.not_found")
    assert problem(await loser.post("/spaces/contest/join", json={"code": codes[winner]})) == (
        403,
        "team.invitation_invalid",
    )
    assert (await loser.post("/spaces/contest/join", json={"code": codes[(winner + 1) % 3]})).status_code == 200


@pytest.mark.parametrize("what", ["team", "enrolment", "signature"])
async def test_twice_at_once_is_once(api, what):
    """Two clicks, two tabs, two replicas: one effect and no failure of ours."""
    await declare(api.platform, contest())
    if what == "team":
        people = await asyncio.gather(*(api.member(f"m{i}", "contest") for i in range(4)))
        answers = await asyncio.gather(*(who.post("/spaces/contest/teams", json={"name": "same"}) for who in people))
        assert sorted(a.status_code for a in answers) == [201, 409, 409, 409], [a.text for a in answers]
        return
    ana = await api.sign_in("ana")
    if what == "enrolment":
        answers = await asyncio.gather(*(api.apply(ana, "contest") for _ in range(4)))
        assert {a.status_code for a in answers} <= {202, 409}, [a.text for a in answers]
    else:
        form = (await ana.get("/spaces/contest/registration")).json()["agreements"][0]
        answers = await asyncio.gather(
            *(ana.post("/spaces/contest/agreements/dua/signatures", json={"hash": form["hash"]}) for _ in range(4))
        )
        assert {a.status_code for a in answers} <= {201, 409}, [a.text for a in answers]
        assert len(await api.records(name="spaces:agreement:sign")) == 1


async def test_a_learner_is_a_team_of_one_whatever_they_try(api):
    await declare(api.platform, blueprint())
    ana, ben = await api.member("ana"), await api.member("ben")
    team = (await state(ana, "course"))["team"]
    invited = await ana.post(f"/spaces/course/teams/{team}/invitations")
    if invited.status_code == 201:
        eve = await api.sign_in("eve")
        await api.apply(eve, "course", invitation=invited.json()["code"])
        other = (await state(ben, "course"))["team"]
        await ben.delete(f"/spaces/course/teams/{other}/members/me")
        await ben.post(
            "/spaces/course/join",
            json={"code": (await ana.post(f"/spaces/course/teams/{team}/invitations")).json()["code"]},
        )
    assert len((await ana.get(f"/spaces/course/teams/{team}/members")).json()["items"]) == 1


async def test_removal_needs_the_etag_that_was_read(api):
    await declare(api.platform, contest())
    ana, steward = await api.member("ana", "contest"), await api.sign_in("steward")
    url = f"/spaces/contest/enrolments/{(await ana.get('/me')).json()['number']}"
    etag = (await steward.get(url)).headers["etag"]
    put = lambda headers: steward.put(f"{url}/removal", json={"reason": "cheating"}, headers=headers)  # noqa: E731
    assert problem(await put({})) == (428, "precondition_required")
    assert problem(await put({"If-Match": '"old"'})) == (412, "precondition_failed")
    assert (await put({"If-Match": etag})).json()["state"] == "eliminated"
    assert problem(await put({"If-Match": etag})) == (412, "precondition_failed")
    assert problem(await ana.get("/spaces/contest/datasets")) == (403, "enrolment.ended")
    assert problem(await api.apply(ana, "contest")) == (409, "enrolment.wrong_state")
    assert problem(await ana.delete("/spaces/contest/enrolment")) == (409, "enrolment.wrong_state")
    await steward.post(f"{url}/approval")
    await becomes(ana, "active")


async def test_somebody_who_left_can_be_kept_out(api):
    await declare(api.platform, contest())
    ana, steward = await api.member("ana", "contest"), await api.sign_in("steward")
    url = f"/spaces/contest/enrolments/{(await ana.get('/me')).json()['number']}"
    assert (await ana.delete("/spaces/contest/enrolment")).json()["state"] == "withdrawn"
    etag = (await steward.get(url)).headers["etag"]
    removed = await steward.put(f"{url}/removal", json={"reason": "cheating"}, headers={"If-Match": etag})
    assert removed.json()["state"] == "eliminated"
    assert problem(await api.apply(ana, "contest")) == (409, "enrolment.wrong_state")


async def test_time_ends_an_enrolment_and_coming_back_gives_everything_back(settings):
    clock = ManualClock()
    backend = fake_backend()
    async with served(settings, backend=backend, clock=clock) as api:
        await declare(api.platform, blueprint(enrolment={"days": 180}))
        before = await state(await api.member("ana"), "course")
        clock.advance(timedelta(days=180, seconds=1))
        ana = await api.sign_in("ana")
        assert problem(await ana.get("/spaces/course/datasets")) == (403, "enrolment.ended")
        api.platform.admission.wake()
        await becomes(ana, "expired", "course")
        await api.apply(ana)
        after = await becomes(ana, "active", "course")
        assert (after["person"], after["team"]) == (before["person"], before["team"])
        assert after["expires_at"] > before["expires_at"]
        assert (await ana.get("/spaces/course/datasets")).status_code == 200
        await api.platform.recorder.flush()
        ends = await api.records(name="spaces:enrolment:end")
        assert [r["details"]["state"] for r in ends] == ["expired"]


async def test_a_learner_can_neither_make_another_team_nor_leave_theirs(api):
    await declare(api.platform, blueprint())
    ana = await api.member("ana")
    team = (await state(ana, "course"))["team"]
    assert problem(await ana.post("/spaces/course/teams", json={"name": "second"})) == (409, "enrolment.wrong_state")
    assert problem(await ana.delete(f"/spaces/course/teams/{team}/members/me")) == (409, "enrolment.wrong_state")
    assert (await state(ana, "course"))["team"] == team


async def test_coming_back_does_not_overfill_a_team(api):
    await declare(api.platform, contest())
    lead, gone, new = await asyncio.gather(*(api.member(name, "contest") for name in ("lead", "gone", "new")))
    team = (await lead.post("/spaces/contest/teams", json={"name": "blue"})).json()["number"]
    for who in (gone, new):
        code = (await lead.post(f"/spaces/contest/teams/{team}/invitations")).json()["code"]
        assert (await who.post("/spaces/contest/join", json={"code": code})).status_code == 200
        if who is gone:
            await gone.delete("/spaces/contest/enrolment")
    await api.apply(gone, "contest")
    assert (await becomes(gone, "active"))["team"] is None
    assert len((await lead.get(f"/spaces/contest/teams/{team}/members")).json()["items"]) == 2


async def test_who_leaves_the_operators_list_is_no_operator_after_the_next_start(settings):
    for listed, status in ((["boss@test.example"], 200), ([], 403)):
        changed = settings.model_copy(update={"operators": listed})
        backend = fake_backend()
        async with served(changed, backend=backend) as api:
            boss = await api.sign_in("boss")
            assert (await boss.get("/audit")).status_code == status


async def test_a_new_end_of_a_space_counts_for_those_who_are_in(api):
    soon, late = "2030-01-01T00:00:00Z", "2031-06-01"
    await declare(api.platform, contest(ends=late))
    ana = await api.member("ana", "contest")
    assert (await state(ana))["expires_at"].startswith(
        "2031-06-01T00:00:00"
    )  # a plain date is its first moment, in UTC
    await declare(api.platform, contest(ends=soon))
    assert (await state(ana))["expires_at"].startswith("2030-01-01")
    await declare(api.platform, contest(ends="2020-01-01"))
    await becomes(ana, "expired")
    assert (await ana.get("/spaces/contest/datasets")).status_code == 403


async def test_times_without_a_zone_are_in_utc(api):
    await declare(api.platform, contest(enrolment={"opens": "2026-01-01", "closes": "2040-01-01T10:00:00"}))
    assert (await api.apply(await api.sign_in("ana"), "contest")).status_code == 202


async def test_every_row_of_a_list_is_reported_on(api):
    await declare(api.platform, contest(enrolment={"mode": "allow-list"}))
    steward = await api.sign_in("steward")
    text = "\ufeffemail,name\nana@test.example,Ana\n,Jane Doe\n\n"
    rows = (await steward.post("/spaces/contest/allow-list", json={"csv": text})).json()["rows"]
    assert [(row["row"], row["outcome"]) for row in rows] == [(2, "added"), (3, "wrong")]


async def test_who_judges_sees_whom_and_nobody_else_does(api):
    await declare(api.platform, contest(enrolment={"mode": "approval"}))
    ana = await api.sign_in("ana")
    assert (await api.apply(ana, "contest")).status_code == 202
    steward = await api.sign_in("steward")
    (row,) = (await steward.get("/spaces/contest/enrolments")).json()["items"]
    assert (row["name"], row["email"]) == ("ana", "ana@test.example")
    assert (await state(ana))["email"] is None
    assert (await ana.get("/spaces/contest/enrolments")).status_code == 403


async def test_a_list_is_read_and_a_wrong_row_taken_off_again(api):
    await declare(api.platform, contest(enrolment={"mode": "allow-list"}))
    steward, ana = await api.sign_in("steward"), await api.sign_in("ana")
    url = "/spaces/contest/allow-list"
    await steward.post(url, json={"csv": "Ana@test.example,a note\nben@test.example\n"})
    page = (await steward.get(url, params={"limit": 1})).json()
    assert page["items"] == [{"address": "ana@test.example", "note": "a note"}]
    rest = (await steward.get(url, params={"cursor": page["next_cursor"]})).json()["items"]
    assert [row["address"] for row in rest] == ["ben@test.example"]
    assert (await ana.get(url)).status_code == 403
    assert (await steward.delete(f"{url}/ANA@test.example")).status_code == 204
    assert problem(await steward.delete(f"{url}/ana@test.example")) == (404, "allow_list.not_listed")
    await api.apply(ana, "contest")
    assert "not on this space's list" in (await until(lambda: _waits(ana), 5))["waiting_for"]


async def test_an_applicant_who_is_refused_is_on_record_as_refused(api):
    await declare(api.platform, contest(enrolment={"mode": "approval"}))
    steward, ana = await api.sign_in("steward"), await api.sign_in("ana")
    await api.apply(ana, "contest")
    number = (await ana.get("/me")).json()["number"]
    url = f"/spaces/contest/enrolments/{number}"
    etag = (await steward.get(url)).headers["etag"]
    out = await steward.put(f"{url}/removal", json={"reason": "no room"}, headers={"If-Match": etag})
    assert out.json()["state"] == "eliminated"
    (record,) = await api.records(name="spaces:enrolment:refuse")
    assert (record["outcome"], record["subject"], record["details"]["reason"]) == ("refused", number, "no room")
