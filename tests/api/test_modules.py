"""The registry: drafts are private, releases are for ever, search finds."""

import asyncio
import io
import zipfile

from tests.api.test_http import problem
from tests.support import blueprint, declare, until

MAIN = {"main.py": "import cloister\ncloister.output(1)\n"}


async def publish(client, name, version="1.0.0", state="ready", **files):
    texts = {path.replace("__", "."): text for path, text in files.items()} or MAIN
    if (await client.get(f"/modules/{name}")).status_code == 404:
        assert (await client.post("/modules", json={"name": name, "files": texts})).status_code == 201
    asked = await client.post(f"/modules/{name}/releases", json={"version": version})
    assert asked.status_code == 202, asked.text

    async def ready():
        return (await client.get(f"/modules/{name}/releases/{version}")).json()["state"] == state

    await until(ready, 60)


async def test_a_draft_is_its_authors_alone_until_it_is_published(api):
    ada, eve = await api.sign_in("ada"), await api.sign_in("eve")
    made = await ada.post("/modules", json={"name": "weather", "files": {**MAIN, "notes.txt": "private"}})
    assert (made.status_code, made.json()["releases"]) == (201, [])
    assert problem(await eve.get("/modules/weather")) == (404, "module.not_found")
    assert problem(await eve.post("/modules", json={"name": "weather"})) == (409, "module.name_taken")
    await publish(ada, "weather")
    assert (await eve.get("/modules/weather")).json()["latest"] == "1.0.0"
    for method, path in (("get", "files"), ("get", "files/notes.txt"), ("get", "archive"), ("delete", "files/main.py")):
        assert problem(await getattr(eve, method)(f"/modules/weather/{path}")) == (403, "module.not_yours")
    assert problem(await eve.put("/modules/weather/files/main.py", json={"text": "evil"})) == (403, "module.not_yours")
    assert problem(await eve.post("/modules/weather/releases", json={"version": "9.0.0"})) == (403, "module.not_yours")
    assert problem(await eve.delete("/modules/weather/releases/1.0.0")) == (403, "module.not_yours")
    anybody = api.anonymous()
    assert (await anybody.get("/modules")).status_code == 401


async def test_releases_never_change_and_versions_only_rise(api):
    ada = await api.sign_in("ada")
    await publish(ada, "steady")
    before = (await ada.get("/modules/steady/releases/1.0.0")).json()["digest"]
    await ada.put("/modules/steady/files/main.py", json={"text": "print(2)\n"})
    assert problem(await ada.post("/modules/steady/releases", json={"version": "1.0.0"})) == (
        409,
        "module.version_refused",
    )
    assert problem(await ada.post("/modules/steady/releases", json={"version": "0.9.0"})) == (
        409,
        "module.version_refused",
    )
    await publish(ada, "steady", "1.1.0")
    assert (await ada.get("/modules/steady/releases/1.0.0")).json()["digest"] == before
    (change,) = (await ada.get("/modules/steady/releases/1.0.0/diff/1.1.0")).json()["items"]
    assert (change["path"], change["change"]) == ("main.py", "changed")
    assert "+print(2)" in change["diff"]
    await ada.put("/modules/steady/releases/1.1.0/yank", json={"yanked": True})
    assert (await ada.get("/modules/steady")).json()["latest"] == "1.0.0"
    assert (await ada.delete("/modules/steady/releases/1.1.0")).status_code == 204
    assert problem(await ada.get("/modules/steady/releases/1.1.0")) == (404, "module.release_not_found")
    assert problem(await ada.post("/modules/steady/releases", json={"version": "1.1.0"})) == (
        409,
        "module.version_refused",
    )


async def test_of_versions_published_at_once_none_lands_below_another(api):
    ada = await api.sign_in("ada")
    await ada.post("/modules", json={"name": "race", "template": "widget"})
    numbers = [f"1.{n}.0" for n in (5, 1, 4, 2, 3)]
    answers = await asyncio.gather(*(ada.post("/modules/race/releases", json={"version": one}) for one in numbers))
    landed = [answer.json()["published_at"] for answer in answers if answer.status_code == 202]
    assert landed
    assert {answer.status_code for answer in answers} <= {202, 409}
    releases = (await ada.get("/modules/race")).json()["releases"]
    in_time = sorted(releases, key=lambda one: one["published_at"])
    versions = [one["version"] for one in in_time]
    assert versions == sorted(versions)


async def test_a_fork_keeps_where_it_came_from(api):
    ada, eve = await api.sign_in("ada"), await api.sign_in("eve")
    await publish(ada, "origin", main__py="print('origin')\n")
    await ada.put("/modules/origin/files/secret.txt", json={"text": "of the draft"})
    fork = (await eve.post("/modules/origin/forks", json={"name": "mine"})).json()
    assert (fork["forked_from"], fork["author"]) == ("origin@1.0.0", (await eve.get("/me")).json()["number"])
    files = {f["path"]: f["text"] for f in (await eve.get("/modules/mine/files")).json()["items"]}
    assert files == {"main.py": "print('origin')\n"}, "the release's files, not the draft's"


async def test_search_finds_by_words_and_leaves_out_what_needs_too_much(api):
    ada = await api.sign_in("ada")
    about = "kind: integration\ntitle: Tide gauge\nsummary: Sea levels of a harbour\nkeywords: [ocean, water]\nauthor: Ada Mar\n"
    await publish(ada, "tide", main__py="1\n", module__yaml=about, README__md="Reads **gauges** near Lisbon.\n")
    needs = "kind: integration\ntitle: Ocean data\npermissions: {hosts: [{host: a.example}], datasets: true}\n"
    await publish(ada, "ocean-data", main__py="1\n", module__yaml=needs)
    await publish(ada, "ocean-map", index__html="<p>ocean</p>")

    async def found(**query):
        return [m["name"] for m in (await ada.get("/modules", params=query)).json()["items"]]

    assert (await found(q="ocean"))[-1] == "tide", "in its title it counts for more than in keywords"
    assert sorted(await found(q="ocean")) == ["ocean-data", "ocean-map", "tide"]
    assert await found(q="lisbon") == ["tide"]
    assert await found(q="harb") == ["tide"]
    assert await found(q="ocean", kind="widget") == ["ocean-map"]
    assert await found(q="ocean", runtime="python", without="datasets") == ["tide"]
    assert await found(q="ada mar") == ["tide"], "by the name that its author wants to be known by"
    assert await found(q="nothing-such") == []
    assert await found(q='" OR * NEAR(') in ([], ["tide"]), "words are words"
    assert await found(q="ocean'); drop table modules; --") == []
    page = (await ada.get("/modules", params={"limit": 2})).json()
    rest = (await ada.get("/modules", params={"limit": 2, "cursor": page["next_cursor"]})).json()
    assert [m["name"] for m in page["items"] + rest["items"]] == ["ocean-data", "ocean-map", "tide"]
    assert rest["next_cursor"] is None
    mine = (await ada.get("/me/modules", params={"limit": 2})).json()
    assert [m["name"] for m in mine["items"]] == ["ocean-map", "ocean-data"]
    more = (await ada.get("/me/modules", params={"limit": 2, "cursor": mine["next_cursor"]})).json()
    assert [m["name"] for m in more["items"]] == ["tide"]


async def test_a_file_that_was_changed_elsewhere_is_not_overwritten_unseen(api):
    ada = await api.sign_in("ada")
    await ada.post("/modules", json={"name": "shared-desk", "template": "python"})
    url = "/modules/shared-desk/files/main.py"
    seen = (await ada.get(url)).headers["etag"]
    first = await ada.put(url, json={"text": "one = 1\n"}, headers={"If-Match": seen})
    assert first.status_code == 200
    late = await ada.put(url, json={"text": "two = 2\n"}, headers={"If-Match": seen})
    assert (late.status_code, late.json()["code"]) == (412, "precondition_failed")
    assert (await ada.delete(url, headers={"If-Match": seen})).status_code == 412
    assert (await ada.get(url)).json()["text"] == "one = 1\n"
    assert (await ada.put(url, json={"text": "3\n"}, headers={"If-Match": first.json()["etag"]})).status_code == 200
    assert (await ada.put(url, json={"text": "4\n"})).status_code == 200, "who says nothing of it need not have looked"


async def test_a_zip_file_goes_in_and_comes_out(api):
    ada = await api.sign_in("ada")
    await ada.post("/modules", json={"name": "packed", "template": "widget"})
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("m/index.html", "<p>new</p>")
        archive.writestr("m/config.json", "[]")
    answer = await ada.put("/modules/packed/archive", content=out.getvalue())
    assert (answer.status_code, answer.json()["kind"]) == (200, "widget")
    with zipfile.ZipFile(io.BytesIO((await ada.get("/modules/packed/archive")).content)) as archive:
        assert sorted(archive.namelist()) == ["config.json", "index.html"]
    assert problem(await ada.put("/modules/packed/archive", content=b"no zip")) == (422, "module.bad_archive")
    assert problem(await ada.put("/modules/packed/files/..%2Fevil", json={"text": ""}))[0] in {404, 422}


async def test_a_module_with_faults_is_refused_with_the_place(api):
    ada = await api.sign_in("ada")
    bad = await ada.post(
        "/modules", json={"name": "bad", "files": {"main.py": "", "config.json": '[{"type": "knob", "name": "k"}]'}}
    )
    assert problem(bad) == (422, "module.invalid")
    assert "entry 1 (“k”)" in bad.json()["detail"]
    assert (await ada.get("/modules/bad")).status_code == 404, "and nothing is kept"
    await ada.post(
        "/modules", json={"name": "goes", "files": {**MAIN, "requirements.txt": "six @ https://evil.example/six.whl\n"}}
    )
    assert problem(await ada.post("/modules/goes/releases", json={"version": "1.0.0"})) == (422, "module.invalid")


async def test_a_dashboard_can_be_undone_copied_and_taken_elsewhere(api):
    await declare(api.platform, blueprint())
    ada = await api.member("ada")
    team = (await ada.get("/spaces/course/enrolment")).json()["team"]
    model = '[{"type": "text", "name": "a", "default": "x"}, {"type": "password", "name": "p"}]'
    await publish(ada, "source", main__py="1\n", config__json=model)
    use = {"id": "s", "module": "source", "values": {"a": "one", "p": "hidden"}}
    made = await ada.post(
        "/spaces/course/dashboards", json={"team": team, "document": {"name": "First", "integrations": [use]}}
    )
    assert made.status_code == 201, made.text
    path = f"/spaces/course/dashboards/{made.json()['id']}"
    document = {"name": "Second", "integrations": [{**use, "values": {"a": "two", "p": {"set": True}}}]}
    assert problem(await ada.put(path, json=document)) == (428, "precondition_required")
    saved = await ada.put(path, json=document, headers={"If-Match": '"1"'})
    assert (saved.json()["version"], saved.headers["etag"]) == (2, '"2"')
    undone = (await ada.post(f"{path}/revert", json={"version": 1})).json()
    assert (undone["name"], undone["version"]) == ("First", 3)
    assert undone["document"]["integrations"][0]["values"] == {"a": "one", "p": {"set": True}}
    assert [v["version"] for v in (await ada.get(f"{path}/versions")).json()["items"]] == [3, 2, 1]
    copied = (await ada.post(f"{path}/copies")).json()
    assert copied["document"]["integrations"][0]["values"] == {"a": "one"}, "secrets were given for the other"
    taken = (await ada.get(f"{path}/export")).json()
    again = await ada.post("/spaces/course/dashboards", json={"team": team, "document": taken})
    assert again.status_code == 201
    for wrong, code in (
        ({**document, "integrations": [{**use, "values": {"b": 1}}]}, "module.bad_configuration"),
        ({**document, "integrations": [{**use, "module": "none-such"}]}, "module.not_found"),
        ({**document, "integrations": [{**use, "version": "^9"}]}, "module.release_not_found"),
        ({**document, "integrations": [use, use]}, "invalid"),
    ):
        answer = await ada.put(path, json=wrong, headers={"If-Match": '"3"'})
        assert answer.json()["code"] == code, answer.text
    assert (await ada.delete(path)).status_code == 204
    assert problem(await ada.get(path)) == (404, "dashboard.not_found")


async def test_a_file_cannot_be_where_a_folder_is(api):
    ana = await api.sign_in("ana")
    refused = await ana.post("/modules", json={"name": "both", "files": {"main.py": "", "a": "", "a/b": ""}})
    assert (refused.status_code, refused.json()["code"]) == (422, "module.bad_path")
    assert "“a”" in refused.json()["detail"]


async def test_what_is_not_ready_is_its_authors_alone(api, monkeypatch):
    ana, ben = await api.sign_in("ana"), await api.sign_in("ben")
    await ana.post("/modules", json={"name": "mine", "files": {"index.html": "one", "module.yaml": "title: One"}})
    await publish(ana, "mine", "1.0.0")

    async def broken(*_):
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(api.platform.builds, "_build", broken)
    await ana.put("/modules/mine/files/module.yaml", json={"text": "title: Secret plan"})
    await publish(ana, "mine", "1.0.1", "failed")
    assert (await ben.get("/modules/mine")).json()["title"] == "One"
    for path in ("", "/archive", "/diff/1.0.0"):
        assert (await ben.get(f"/modules/mine/releases/1.0.1{path}")).status_code == 404, path
    assert (await ana.get("/modules/mine/releases/1.0.1/archive")).status_code == 200


async def test_a_module_that_was_never_published_can_be_deleted_and_its_name_is_free_again(api):
    ada, eve = await api.sign_in("ada"), await api.sign_in("eve")
    await ada.post("/modules", json={"name": "mistyped", "files": {**MAIN, "secret.txt": "pasted by mistake"}})
    assert problem(await eve.delete("/modules/mistyped")) == (404, "module.not_found")
    assert (await ada.delete("/modules/mistyped")).status_code == 204
    assert problem(await ada.get("/modules/mistyped")) == (404, "module.not_found")
    assert (await eve.post("/modules", json={"name": "mistyped", "files": MAIN})).status_code == 201
    await ada.post(
        "/modules", json={"name": "broken", "files": {**MAIN, "requirements.txt": "no-such-package-of-anybody"}}
    )
    await publish(ada, "broken", state="failed")
    assert (await ada.get("/modules/broken")).json()["deletable"]
    assert (await ada.delete("/modules/broken")).status_code == 204
    await publish(ada, "kept")
    assert not (await ada.get("/modules/kept")).json()["deletable"]
    assert problem(await ada.delete("/modules/kept")) == (409, "module.was_published")


async def test_files_of_drafts_that_were_only_tried_are_removed_after_a_while(api):
    ada, modules = await api.sign_in("ada"), api.platform.modules
    await publish(ada, "steady")
    await ada.post("/modules", json={"name": "sketch", "files": {"main.py": "print(7)\n"}})
    async with api.platform.database.read() as uow:
        number = int((await ada.get("/me")).json()["number"].removeprefix("p-"))
        _, tried = await modules.on_trial(uow, await modules.own(uow, "sketch", number))
        assert await modules.collect(uow, 3600) == 0, "it was tried just now"
        assert await modules.collect(uow, -1) == 1
        assert await modules.collect(uow, -1) == 0
    digest = (await ada.get("/modules/steady/releases/1.0.0")).json()["digest"]
    assert await modules.files.read(digest) == {"main.py": MAIN["main.py"].encode()}
    assert not await api.platform.objects.exists(f"modules/{tried.digest}.zip")


async def test_a_zip_file_may_be_as_large_as_a_module_and_no_larger(api):
    ada = await api.sign_in("ada")
    await ada.post("/modules", json={"name": "large", "files": MAIN})

    def zipped(megabytes):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr("main.py", MAIN["main.py"])
            archive.writestr("data.bin", b"\0" * (megabytes << 20))
        return out.getvalue()

    sent = await ada.put("/modules/large/archive", content=zipped(18))
    assert sent.status_code == 200, sent.text
    assert problem(await ada.put("/modules/large/archive", content=zipped(22)))[0] in {413, 422}


async def test_strangers_who_guess_signatures_do_not_use_up_a_repositorys_webhooks(api, tmp_path):
    import hashlib
    import hmac

    ada, stranger = await api.sign_in("ada"), api.anonymous()
    api.platform.settings.git_hosts = ["git.example"]
    await ada.post("/modules", json={"name": "hooked", "files": MAIN})
    source = (
        await ada.put("/modules/hooked/source", json={"url": "https://git.example/a.git", "branch": "main"})
    ).json()
    right = {"X-Hub-Signature-256": "sha256=" + hmac.new(source["secret"].encode(), b"{}", hashlib.sha256).hexdigest()}
    most = api.platform.settings.module_hooks_per_minute
    wrong = {"X-Hub-Signature-256": "sha256=00"}
    refused = [
        (await stranger.post("/modules/hooked/hook", content=b"{}", headers=wrong)).status_code
        for _ in range(most // 2)
    ]
    assert set(refused) == {422}
    heard = [
        (await stranger.post("/modules/hooked/hook", content=b"{}", headers=right)).status_code for _ in range(most)
    ]
    assert set(heard) == {202}, "guesses took nothing from what is signed"
    replayed = await stranger.post("/modules/hooked/hook", content=b"{}", headers=right)
    assert replayed.status_code == 429, "nor is what was signed heard without end"
