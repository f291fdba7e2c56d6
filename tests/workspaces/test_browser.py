"""JupyterLab in a real browser, behind the real gateway: what a person sees and what the record says of it."""

import contextlib
import json
import re
from urllib.parse import urlsplit

import aiohttp
import pytest
from playwright.async_api import expect

from cloister.blueprint import catalogue
from tests.support import csv_file, until
from tests.workspaces.browser import LONG, Visitor, chromium_browser
from tests.workspaces.conftest import Desk, gateway_platform, lab_blueprint

PLOTS = ["pyarrow>=20", "pandas>=2", "matplotlib>=3.9"]
"""As in the demo's spaces."""


@pytest.fixture
async def browser():
    async with chromium_browser() as found:
        yield found


@contextlib.asynccontextmanager
async def one_desk(folder, **changes):
    """A platform with another kind of space, and one member with a team in it."""
    declared = lab_blueprint(**changes)
    async with gateway_platform(folder, declared) as api:
        for environment in declared.environments:
            await api.platform.environments.ensure(environment.requirements)
        client = await api.member("ada", "cup")
        answer = await client.post("/spaces/cup/teams", json={"name": "team-ada"})
        assert answer.status_code == 201, answer.text
        desk = Desk(api, client, answer.json()["number"], answer.json()["name"])
        try:
            yield desk
        finally:
            await desk.close()


async def test_a_stopped_workspace_shows_how_it_wakes_and_then_opens_what_was_asked_for(cup, desk, browser):
    ada = await desk("ada")
    await ada.enter()
    await ada.start()
    status, _, body = await ada.get(
        "/api/contents/deep.txt", "PUT", json={"type": "file", "format": "text", "content": "I was asked for"}
    )
    assert status == 201, body
    await ada.client.post(f"/spaces/cup/teams/{ada.team}/workspace/stop")
    await ada.becomes("stopped")
    visitor = await Visitor.of(browser, ada)
    page = visitor.page
    await page.route("**/_cloister/start", lambda route: route.abort())  # so that there is time to look
    await page.goto(visitor.address("/lab/tree/deep.txt"))
    await expect(page.get_by_role("heading")).to_have_text("Opening your workspace")
    await expect(page.locator("main")).to_contain_text("Team team-ada in cup")
    await expect(page.locator("#steps li")).to_have_text(
        ["Asked for", "Its sandbox is prepared", "The app starts", "Ready"]
    )
    await expect(page.locator("#steps li.now")).to_have_text("Asked for")
    await visitor.picture("waking")
    await page.unroute("**/_cloister/start")
    await page.reload()
    await visitor.usable()
    assert page.url == visitor.address("/lab/tree/deep.txt")
    await expect(page.locator(".jp-FileEditor .cm-content")).to_have_text("I was asked for", timeout=LONG)


async def test_a_notebook_runs_python_asks_governed_data_draws_and_is_there_after_a_reload(tmp_path, browser):
    rain = csv_file(tmp_path, "rain.csv", "day,mm\n1,4.5\n2,0.0\n3,12.5\n")
    more = {
        "environments": [{"name": "lab", "packages": PLOTS, "app": "jupyterlab"}],
        "datasets": [{"name": "rain", "title": "Rain", "tables": [{"name": "rain", "source": rain}]}],
        "grants": [{"to": "everybody", "dataset": "rain", "allow": ["query"]}],
    }
    async with one_desk(tmp_path, **more) as ada:
        await ada.enter()
        await ada.start()
        visitor = await Visitor.of(browser, ada)
        page = visitor.page
        await visitor.go()
        await visitor.new_notebook("first.ipynb")
        await expect(await visitor.run(0, "print(6 * 7)")).to_have_text("42\n")
        await visitor.run(1, "%load_ext cloister")
        table = await visitor.run(2, "%%sql wet\nSELECT day, mm FROM rain WHERE mm > 1 ORDER BY day")
        await expect(table.locator("tbody tr")).to_have_text([re.compile("4.5"), re.compile("12.5")], timeout=LONG)
        plot = await visitor.run(3, "wet.plot.bar(x='day', y='mm', figsize=(6, 3));")
        await expect(plot.locator("img")).to_be_visible(timeout=LONG)
        await visitor.picture("notebook")
        await expect(plot, "a plot, and nothing else").to_have_count(1)
        await visitor.save("first.ipynb", "image/png")
        await page.reload()
        await visitor.usable()
        await visitor.kernel_idle()
        await expect(visitor.output(0)).to_have_text("42\n")
        await expect(visitor.output(3).locator("img")).to_be_visible()
        await expect(await visitor.run(4, "print(len(wet))"), "the kernel kept what it knew").to_have_text("2\n")
        assert visitor.faults == []
        ran = {r["details"]["code"]: r for r in await ada.api.records(name="gateway:code:run")}
        cells = await page.evaluate(
            "fetch('/api/contents/first.ipynb').then(r => r.json()).then(n => n.content.cells.map(c => [c.source, c.id]))"
        )
        for source, cell in cells[:4]:
            record = ran[source]
            assert (record["person"], record["team"], record["details"]["cell"]) == (
                await visitor.number(),
                ada.team,
                cell,
            )
            assert record["details"]["notebook"] == "first.ipynb"


async def test_files_go_in_and_out_by_the_file_browser_and_what_goes_out_is_recorded(cup, desk, browser, tmp_path):
    ada = await desk("ada")
    await ada.enter()
    await ada.start()
    visitor = await Visitor.of(browser, ada)
    await visitor.go()
    (tmp_path / "numbers.txt").write_text("1 2 3\n")
    await visitor.upload(tmp_path / "numbers.txt")
    async with visitor.page.expect_download() as coming:
        await visitor.on_file("numbers.txt", "Download")
    download = await coming.value
    assert download.suggested_filename == "numbers.txt"
    assert (await download.path()).read_text() == "1 2 3\n"
    (record,) = await cup.records(name="gateway:file:download")
    assert (record["person"], record["subject"]) == (await visitor.number(), "/files/numbers.txt")
    assert visitor.faults == []


async def test_where_downloads_are_blocked_people_work_on_files_but_take_none_away(tmp_path, browser):
    async with one_desk(tmp_path, policies={"downloads": "blocked", "workspace_disk": "512M"}) as ada:
        await ada.enter()
        await ada.start()
        visitor = await Visitor.of(browser, ada)
        page = visitor.page
        await visitor.go()
        (tmp_path / "numbers.txt").write_text("1 2 3\n")
        await visitor.upload(tmp_path / "numbers.txt")
        await visitor.rename_file("numbers.txt", "mine.txt")
        await visitor.file("mine.txt").dblclick()
        editor = page.locator(".jp-FileEditor .cm-content")
        await expect(editor).to_have_text("1 2 3")
        await editor.click()
        await page.keyboard.press("Control+Home")
        await page.keyboard.insert_text("0 ")
        await visitor.save("mine.txt", "0 1 2 3")
        assert visitor.faults == []
        await page.goto(visitor.address("/files/mine.txt"))
        await expect(page.locator("main")).to_contain_text("Files do not leave this space by download.")
        assert [f.split()[0] for f in visitor.faults] == ["403"]
        (record,) = await ada.api.records(name="gateway:file:refuse")
        assert (record["person"], record["subject"]) == (await visitor.number(), "/files/mine.txt")


async def test_two_people_of_a_team_write_in_one_notebook_and_each_one_s_code_is_their_own(cup, desk, browser):
    first = await desk("ada")
    second = await desk("bob", mate=first)
    await first.enter()
    await first.start()
    ada, bob = await Visitor.of(browser, first), await Visitor.of(browser, second)
    await ada.go()
    await ada.new_notebook("shared.ipynb")
    scripts = {}
    bob.page.on(
        "response", lambda a: scripts.update({urlsplit(a.url).path: a.headers} if a.url.endswith(".js") else {})
    )
    await bob.go("/lab/tree/shared.ipynb")
    await bob.kernel_idle()
    fixed = {path: headers for path, headers in scripts.items() if path.startswith("/_cloister/static/")}
    assert set(scripts) - set(fixed) == {"/_cloister/banner.js", "/_cloister/names.js"}, (
        "all of JupyterLab comes from disk"
    )
    assert any("/labextensions/@jupyter/collaboration-extension/" in path for path in fixed), "its extensions, too"
    assert {headers["cache-control"] for headers in fixed.values()} == {"public, max-age=31536000, immutable"}
    await ada.write(0, "a = 'from ada'")
    await expect(bob.cell(0).locator(".cm-content")).to_have_text("a = 'from ada'")
    await ada.page.keyboard.press("Shift+Enter")
    await expect(bob.cell(1)).to_be_visible()
    await expect(await bob.run(1, "print(a, 'and bob')")).to_have_text("from ada and bob\n")
    await expect(ada.output(1), "both see what it printed").to_have_text("from ada and bob\n")
    label = bob.page.locator(".jp-remote-userFlag-name")
    await expect(label.first, "the other's cursor bears a name").to_contain_text("ada")
    await expect(bob.page.locator(".jp-MenuBar-anonymousIcon")).to_have_text("B")
    await bob.page.get_by_role("tab", name="Collaboration").click()
    people = bob.page.locator(".jp-CollaboratorsPanel")
    await expect(people).to_contain_text("ada")
    await expect(people).not_to_contain_text(await ada.number())
    await bob.picture("together")
    await second.enter()
    _, _, told = await second.get("/api/me")
    assert (await bob.number()).encode() in told and b"bob" not in told, "the app itself knows numbers alone"
    assert json.loads((await first.get("/_cloister/mates"))[2]) == {
        await ada.number(): "ada", await bob.number(): "bob"
    }  # fmt: skip
    ran = {r["details"]["code"]: r for r in await cup.records(name="gateway:code:run")}
    assert ran["a = 'from ada'"]["person"] == await ada.number()
    assert ran["print(a, 'and bob')"]["person"] == await bob.number()
    assert {r["details"]["notebook"] for r in ran.values()} == {"shared.ipynb"}
    assert (ada.faults, bob.faults) == ([], [])


async def test_who_leaves_the_team_is_told_so_in_the_open_page(cup, desk, browser):
    ada = await desk("ada")
    bob = await desk("bob", mate=ada)
    await bob.enter()
    await bob.start()
    visitor = await Visitor.of(browser, bob)
    await visitor.go()
    await visitor.new_notebook("mine.ipynb")
    await expect(await visitor.run(0, "print('still here')")).to_have_text("still here\n")
    assert (await bob.client.delete(f"/spaces/cup/teams/{bob.team}/members/me")).status_code == 204
    await expect(visitor.banner).to_contain_text(
        "You can no longer work here. You are not in this team, or no longer.", timeout=2000
    )
    await visitor.picture("ended")
    await visitor.page.get_by_role("button", name="To the front page").click()
    await visitor.page.wait_for_url(lambda url: url.startswith(f"http://localhost:{bob.port}/"))


async def test_a_workspace_that_was_stopped_says_that_it_rests_and_wakes_at_the_same_notebook(cup, desk, browser):
    ada = await desk("ada")
    await ada.enter()
    await ada.start()
    visitor = await Visitor.of(browser, ada)
    await visitor.go()
    await visitor.new_notebook("kept.ipynb")
    await expect(await visitor.run(0, "print('before')")).to_have_text("before\n")
    await visitor.save("kept.ipynb", r"before\n")  # the output, which comes after the code
    stopped = await ada.client.post(f"/spaces/cup/teams/{ada.team}/workspace/stop")
    assert stopped.status_code == 202, stopped.text
    await expect(visitor.banner).to_contain_text(
        "This workspace rests. Stopped by a member or an organiser.", timeout=5000
    )
    await ada.becomes("stopped")
    await visitor.page.get_by_role("button", name="Wake it").click()
    await expect(visitor.banner).to_be_hidden(timeout=LONG)
    await visitor.usable()
    await visitor.kernel_idle()
    assert visitor.page.url == visitor.address("/lab/tree/kept.ipynb")
    await expect(visitor.output(0)).to_have_text("before\n", timeout=LONG)
    await expect(await visitor.run(1, "print('after')")).to_have_text("after\n")


async def test_a_terminal_runs_what_is_typed_and_the_record_has_each_line(cup, desk, browser):
    ada = await desk("ada")
    await ada.enter()
    await ada.start()
    visitor = await Visitor.of(browser, ada)
    await visitor.go()
    await visitor.launch("Other", "Terminal")

    async def recorded():
        return await cup.records(name="gateway:terminal:type")

    await visitor.page.locator(".jp-Terminal .xterm-screen").click()
    await visitor.page.keyboard.type("echo $((6 * 7)) > said-$((40 + 2)).txt\n")
    await until(recorded)
    await visitor.refresh()
    await expect(visitor.file("said-42.txt")).to_be_visible()
    (line,) = await recorded()
    assert line["details"]["typed"] == "echo $((6 * 7)) > said-$((40 + 2)).txt"
    assert line["person"] == await visitor.number()
    assert visitor.faults == []


async def test_where_terminals_are_blocked_none_is_offered_and_none_opens(tmp_path, browser):
    async with one_desk(tmp_path, policies={"terminals": "blocked", "workspace_disk": "512M"}) as ada:
        await ada.enter()
        await ada.start()
        visitor = await Visitor.of(browser, ada)
        await visitor.go()
        await expect(
            visitor.page.locator('.jp-LauncherCard[data-category="Other"]', has_text="Text File")
        ).to_be_visible()
        await expect(visitor.page.locator(".jp-LauncherCard", has_text="Terminal")).to_have_count(0)
        assert visitor.faults == []
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await ada.socket("/terminals/websocket/1")
        assert refused.value.status == 403


async def test_another_web_application_than_jupyterlab_is_a_workspace_too(tmp_path, browser):
    async with one_desk(tmp_path, environments=[catalogue()["marimo"]]) as ada:
        await ada.start()
        await ada.client.get("/me")
        visitor = await Visitor.of(browser, ada)
        page = visitor.page
        files = []
        page.on("response", lambda answer: files.append((urlsplit(answer.url).path, answer.headers, answer.status)))
        await page.goto(visitor.address("/?file=__new__"))
        editor = page.locator(".cm-content").first
        await editor.click(timeout=LONG)
        await page.keyboard.type("import cloister; print('here', 6 * 7)")
        await page.keyboard.press("Control+Enter")
        await expect(page.locator("[data-testid=console-output-area]").first).to_contain_text("here 42", timeout=LONG)
        await visitor.picture("marimo")
        fixed = [file for file in files if "/assets/" in file[0]]
        assert len(fixed) > 50
        assert all(path.startswith("/_cloister/static/") for path, _, _ in fixed), "all come from disk"
        assert {status for _, _, status in fixed} == {200}
        assert {headers["cache-control"] for _, headers, _ in fixed} == {"public, max-age=31536000, immutable"}
        assert {headers.get("content-encoding") for path, headers, _ in fixed if "index-" in path} == {"gzip"}
