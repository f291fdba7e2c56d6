"""What owners change of their space in the browser, and what stays an operator's."""

from tests.support import blueprint, declare, until

PATH = "/spaces/course/settings"


async def opened(api, **changes):
    await declare(api.platform, blueprint(**changes))
    owner = await api.sign_in("owner")
    answer = await owner.get(PATH)
    assert answer.status_code == 200, answer.text
    return owner, answer.json(), answer.headers["etag"]


async def test_a_changed_agreement_is_a_new_version_that_members_sign_again(api):
    owner, settings, etag = await opened(api)
    ann = await api.member("ann")
    assert (await ann.get("/spaces/course/datasets")).status_code == 200
    text = settings["agreements"][0]["text"] + "And be kind.\n"
    seen = await owner.post("/spaces/course/agreements/preview", json={"name": "dua", "text": text})
    assert "+And be kind." in seen.json()["diff"]
    assert "<p>" in seen.json()["html"]
    settings["agreements"][0]["text"] = text
    changed = await owner.put(PATH, json=settings, headers={"If-Match": etag})
    assert changed.status_code == 200, changed.text
    refused = await ann.get("/spaces/course/datasets")
    assert refused.status_code == 403
    assert "sign" in refused.json()["detail"]
    (again, before) = (await owner.get("/spaces/course/agreements")).json()["items"]
    assert (again["number"], again["current"], before["signatures"]) == (2, True, 1)
    late = await owner.put(PATH, json=settings, headers={"If-Match": etag})
    assert late.status_code == 412, "somebody changed it meanwhile"
    assert (await owner.put(PATH, json=settings)).status_code == 428


async def test_rounds_dates_enrolment_and_policies(api):
    owner, settings, etag = await opened(api, policies={"sandboxes_per_team": 2, "terminals": "blocked"})
    assert settings["policies"]["terminals"] == "blocked"
    assert "sandboxes_per_team" not in settings["policies"]
    settings |= {
        "title": "Another title", "description": "*New*", "ends": "2027-06-01T00:00:00Z", "enrolment": "code", "new_code": "sesame",
        "rounds": [{"name": "one", "title": "Round one", "starts": "2026-12-01T00:00:00Z", "ends": "2026-12-31T00:00:00Z"}],
    }  # fmt: skip
    settings["policies"]["terminals"] = "recorded"
    changed = await owner.put(PATH, json=settings, headers={"If-Match": etag})
    assert changed.status_code == 200, changed.text
    assert changed.json()["new_code"] is None
    now = (await owner.get("/spaces/course")).json()
    assert (now["title"], now["description"]) == ("Another title", "*New*")
    export = await api.platform.blueprints.export("course")
    assert export.policies.terminals == "recorded"
    assert export.policies.sandboxes_per_team == 2, "what is not an owner's stays"
    assert [one.name for one in export.rounds] == ["one"]
    assert "sesame" not in export.model_dump_json()
    bob = await api.sign_in("bob")
    assert (await api.apply(bob, code="guess")).status_code == 403
    assert (await api.apply(bob, code="sesame")).status_code == 202
    again = await owner.put(PATH, json=changed.json(), headers={"If-Match": changed.headers["etag"]})
    assert again.status_code == 200, "the code stays when none is given"
    assert (await api.platform.blueprints.export("course")).enrolment.code_sha256 == export.enrolment.code_sha256


async def test_an_owner_appoints_and_dismisses_people_by_their_addresses(api):
    owner, settings, etag = await opened(api)
    assert settings["roles"]["steward"] == ["steward@test.example"]
    ann = await api.sign_in("ann")
    assert (await ann.get("/spaces/course/enrolments")).status_code == 403
    settings["roles"] |= {"steward": ["Ann@Test.example", "ann@test.example", "new@test.example"]}
    changed = await owner.put(PATH, json=settings, headers={"If-Match": etag})
    assert changed.status_code == 200, changed.text
    assert changed.json()["roles"]["steward"] == ["ann@test.example", "new@test.example"], "each once"
    assert (await ann.get("/spaces/course/enrolments")).status_code == 200, "at once"
    new = await api.sign_in("new")
    assert (await new.get("/spaces/course/enrolments")).status_code == 200, "with the first sign-in"
    before = await api.sign_in("steward")
    assert (await before.get("/spaces/course/enrolments")).status_code == 403
    without = {key: value for key, value in settings.items() if key != "roles"}
    kept = await owner.put(PATH, json=without, headers={"If-Match": changed.headers["etag"]})
    assert kept.json()["roles"] == changed.json()["roles"], "who does not speak of roles leaves them"
    granted = await api.records(name="access:role:grant")
    assert (await owner.get("/me")).json()["number"] in {record["person"] for record in granted}


async def test_what_is_wrong_is_said_and_changes_nothing(api):
    owner, settings, etag = await opened(api)
    one = {"name": "one", "starts": "2026-12-01T00:00:00Z", "ends": "2026-12-31T00:00:00Z"}
    for change, said in (
        ({"policies": {"sandboxes_per_team": 900}}, "an operator's"), ({"policies": {"egress": None}}, "an operator's"),
        ({"policies": {"view": "huge"}}, "no size"), ({"policies": {"terminals": "maybe"}}, "terminals"),
        ({"rounds": [one, {**one, "name": "two"}]}, "overlap"), ({"rounds": [{**one, "environment": "none"}]}, "pins"),
        ({"agreements": [*settings["agreements"], *settings["agreements"]]}, "declared twice"),
        ({"starts": "2027-01-01T00:00:00Z", "ends": "2026-01-01T00:00:00Z"}, "after starts"),
        ({"enrolment": "code"}, "needs a code"), ({"title": ""}, "title"), ({"roles": {"owner": []}}, "at least one owner"),
        ({"roles": {"owner": ["owner@test.example"], "steward": ["nobody"]}}, "no e-mail address"),
        ({"roles": {"operator": ["owner@test.example"]}}, "roles"), ({"slug": "other"}, "slug"),
    ):  # fmt: skip
        refused = await owner.put(PATH, json={**settings, **change}, headers={"If-Match": etag})
        assert refused.status_code == 422, change
        assert said in refused.json()["detail"], (change, refused.json()["detail"])
    assert (await owner.get(PATH)).headers["etag"] == etag
    steward = await api.sign_in("steward")
    assert (await steward.get(PATH)).status_code == 403


async def test_strangers_see_what_data_a_listed_space_has_and_nothing_of_it(api):
    owner, settings, etag = await opened(api)
    made = await owner.post("/spaces/course/datasets/rain", json={"title": "Rain", "description": "Daily sums."})
    assert made.status_code in {200, 201}, made.text
    stranger = api.anonymous()
    seen = await stranger.get("/spaces/course/dataset-titles")
    assert seen.json() == {"items": [{"title": "Rain", "description": "Daily sums."}]}
    assert (await stranger.get("/spaces/course/datasets")).status_code == 401
    hidden = await owner.put(PATH, json={**settings, "listed": False}, headers={"If-Match": etag})
    assert hidden.status_code == 200
    assert (await stranger.get("/spaces/course/dataset-titles")).json() == {"items": []}


async def test_a_mistyped_end_says_whom_it_puts_out_and_putting_it_right_lets_them_back(api):
    await declare(api.platform, blueprint())
    ana, owner = await api.member("ana"), await api.sign_in("owner")
    settings = (await owner.get("/spaces/course/settings")).json()
    wrong = {**settings, "ends": "2020-01-01T00:00:00Z"}
    effects = await owner.post("/spaces/course/settings/effects", json=wrong)
    assert effects.json() == {"leave": 1, "sign": 0, "back": 0}
    text = [{**settings["agreements"][0], "text": "Be good and kind.\n"}]
    assert (await owner.post("/spaces/course/settings/effects", json={**settings, "agreements": text})).json() == {
        "leave": 0,
        "sign": 1,
        "back": 0,
    }
    same = await owner.post("/spaces/course/settings/effects", json={**settings, "title": "Another"})
    assert same.json() == {"leave": 0, "sign": 0, "back": 0}
    assert (await owner.get("/spaces/course/settings")).json() == settings, "looking changes nothing"
    assert (await ana.post("/spaces/course/settings/effects", json=wrong)).status_code == 403
    await owner.put("/spaces/course/settings", json=wrong, headers={"If-Match": "*"})

    async def state(wanted):
        return (await ana.get("/spaces/course/enrolment")).json()["state"] == wanted

    before = (await ana.get("/spaces/course/enrolment")).json()["admitted_at"]
    await until(lambda: state("expired"))
    assert (await ana.get("/spaces/course/datasets")).status_code == 403
    back = await owner.post("/spaces/course/settings/effects", json=settings)
    assert back.json() == {"leave": 0, "sign": 0, "back": 1}
    await owner.put("/spaces/course/settings", json=settings, headers={"If-Match": "*"})
    await until(lambda: state("active"))
    assert (await ana.get("/spaces/course/enrolment")).json()["admitted_at"] == before, "her time goes on where it was"
    assert (await ana.get("/spaces/course/datasets")).status_code == 200
