"""What each kind of person comes for, from beginning to end, in a browser."""

from playwright.async_api import expect

from tests.support import blueprint, declare, until
from tests.workspaces.browser import SCREENSHOTS


async def register(person):
    page = person.page
    await person.go("/s/course/register")
    await page.get_by_label("Country").fill("Portu")
    await page.get_by_role("option", name="Portugal").click()
    await page.get_by_label("I will be honest").check()
    await page.get_by_role("button", name="Next").click()
    await page.get_by_label("I have read").check()
    await page.get_by_role("button", name="Sign and register").click()
    await page.get_by_role("heading", name="You are in.").wait_for()


async def test_a_stranger_registers_on_a_phone_and_asks_the_data(somebody):
    person = await somebody(viewport={"width": 390, "height": 844})
    page = person.page
    await person.go("/")
    await person.accessible()
    await page.screenshot(path=SCREENSHOTS / "phone-front.png")
    await page.get_by_role("link", name="A course on rain").click()
    await page.get_by_role("link", name="Take part").click()
    await page.get_by_label("E-mail address").fill("ada@test.example")
    await page.get_by_label("Your name").fill("Ada")
    await page.locator("form").get_by_role("button", name="Sign in").click()
    await page.wait_for_url("**/register")
    await page.get_by_role("button", name="Next").click()
    assert await page.get_by_text("This is needed.").count() == 2, "what is missing is said where it is missing"
    await page.get_by_label("Country").fill("Portu")
    await page.get_by_role("option", name="Portugal").click()
    await page.reload()
    await page.get_by_role("combobox", name="Country").wait_for()
    assert await page.get_by_text("Portugal").count(), "what was typed survives a reload"
    await page.get_by_label("I will be honest").check()
    await person.accessible()
    await page.get_by_role("button", name="Next").click()
    await page.get_by_role("button", name="Sign and register").click()
    assert await page.get_by_text("This is needed.").count() == 1, "nobody registers without having read"
    await page.get_by_label("I have read").check()
    await person.accessible()
    await page.screenshot(path=SCREENSHOTS / "phone-agreement.png")
    await page.get_by_role("button", name="Sign and register").click()
    await page.get_by_role("heading", name="You are in.").wait_for()
    await page.get_by_role("link", name="Data", exact=True).last.click()
    await page.get_by_text("Rain in two towns").click()
    await page.get_by_role("link", name="Ask it in SQL").click()
    await page.get_by_role("button", name="Run", exact=True).click()
    await expect(page.get_by_text("4 rows in")).to_be_visible()
    await expect(page.get_by_role("cell", name="12.5")).to_be_visible()
    await person.accessible()


async def test_a_member_joins_modules_on_a_dashboard_without_programming_and_shares_it(somebody, site):
    person = await somebody("ada")
    page = person.page
    await register(person)
    await until(lambda: _published(page, "sql", "bar", "value"), 90, 0.3)
    await person.go("/s/course/dashboards")
    await person.accessible()
    await page.get_by_role("button", name="New dashboard").click()
    await page.get_by_label("Name").fill("Rain")
    await page.get_by_role("dialog").get_by_role("button", name="New dashboard").click()
    await page.get_by_role("button", name="Add a source").first.click()
    await page.get_by_role("button", name="SQL on governed data").click()
    await page.get_by_text("Asks governed data, with your rights").wait_for()
    await person.accessible()
    await page.screenshot(path=SCREENSHOTS / "permissions.png")
    await page.get_by_role("button", name="Add it").click()
    statement = page.get_by_label("Statement")
    await statement.fill("select town, sum(mm) as mm from rain group by town order by town")
    await statement.blur()
    await page.get_by_role("tab", name="What it delivers").click()
    await page.get_by_role("button", name="rows [2]").click(timeout=30_000)
    await page.get_by_role("button", name="Draw it with").click()
    await page.get_by_role("button", name="Bar chart").click()
    frame = page.frame_locator("section.widget iframe")
    await frame.get_by_text("Porto").first.wait_for(timeout=30_000)
    handle = page.get_by_role("button", name="Move (arrow")
    await handle.press("ArrowRight")
    await handle.press("Shift+ArrowRight")
    await expect(page.get_by_role("button", name="Undo")).to_be_enabled()
    await person.accessible()
    await page.screenshot(path=SCREENSHOTS / "builder.png")
    await page.get_by_role("button", name="Done").click()
    await page.reload()
    await frame.get_by_text("Porto").first.wait_for(timeout=30_000)
    wide = page.viewport_size
    await page.set_viewport_size({"width": 390, "height": 844})
    drawn = page.locator("section.widget iframe")
    assert (await drawn.bounding_box())["width"] > 330, "on a phone a widget has the whole width"
    await page.screenshot(path=SCREENSHOTS / "phone-dashboard.png")
    await page.set_viewport_size(wide)
    await page.get_by_role("button", name="Share").click()
    await page.get_by_role("button", name="Make a link").click()
    link = await page.get_by_role("dialog").locator("input[readonly]").input_value()
    await person.accessible()
    stranger = await somebody()
    await stranger.page.goto(link)
    await stranger.page.frame_locator("iframe").get_by_text("Porto").first.wait_for(timeout=30_000)
    assert "select town" not in await stranger.page.content()


async def _published(page, *names):
    for name in names:
        answer = await page.request.get(f"{page.url.split('/s/')[0]}/api/v1/modules/{name}")
        if not answer.ok or not (await answer.json())["latest"]:
            return False
    return True


async def test_an_author_writes_a_module_in_the_browser_and_publishes_it(somebody):
    person = await somebody("author")
    page = person.page
    await register(person)
    await person.go("/modules")
    await page.get_by_role("button", name="Write a module").first.click()
    await page.get_by_label("Name").fill("first-try")
    await page.get_by_role("dialog").get_by_role("button", name="Write a module").click()
    await page.get_by_role("button", name="main.py", exact=True).first.wait_for()
    await page.locator(".monaco-editor").first.click()
    await page.keyboard.press("Control+End")
    await page.keyboard.type("# the end")
    await expect(page.get_by_text("not saved: main.py")).to_be_visible()
    await page.keyboard.press("Control+s")
    await expect(page.get_by_text("not saved")).to_be_hidden()
    await page.get_by_role("button", name="Try it").click()
    await page.get_by_role("button", name="now").wait_for(timeout=30_000)
    await page.keyboard.press("Escape")
    await person.accessible()
    await page.screenshot(path=SCREENSHOTS / "module-editor.png")
    await page.get_by_role("textbox", name="Search in all files").fill("output(")
    await page.get_by_role("button", name="main.py:").first.click()
    await page.get_by_role("textbox", name="Search in all files").fill("")
    chosen = {"name": "notes.md", "mimeType": "text/markdown", "buffer": b"# Notes\n"}
    await page.get_by_label("Upload files or a ZIP").set_input_files(chosen)
    await page.get_by_role("button", name="notes.md", exact=True).first.click()
    await page.get_by_role("button", name="Close notes.md").click()
    await page.get_by_role("button", name="Repository").click()
    await page.get_by_label("Address").fill("https://git.example/look.git")
    await page.get_by_role("dialog").get_by_role("button", name="Save").click()
    await page.get_by_text("It fetches from none yet.").wait_for()
    person.faults.clear()  # that it was refused
    await person.accessible()
    await page.screenshot(path=SCREENSHOTS / "repository.png")
    await page.get_by_role("dialog").get_by_role("button", name="Close").click()
    await page.get_by_role("button", name="Publish").click()
    await page.get_by_role("dialog").get_by_role("button", name="Publish").click()
    await expect(page.get_by_text("1.0.0 is published.")).to_be_visible(timeout=60_000)
    await expect(page.get_by_label("What the build says")).to_contain_text("Built.")
    await page.get_by_role("dialog").get_by_role("button", name="Close").click()
    await page.get_by_role("button", name="main.py", exact=True).first.click()
    await page.locator(".monaco-editor").first.click()
    await page.keyboard.press("Control+End")
    await page.keyboard.type("# and on")
    await page.get_by_role("button", name="Publish").click()
    await page.get_by_text("1 file differs from the last release").wait_for()
    await expect(page.get_by_role("dialog").get_by_text("+# the end# and on")).to_be_visible()
    await person.accessible()
    await page.screenshot(path=SCREENSHOTS / "publish.png")
    await page.get_by_role("dialog").get_by_role("button", name="Publish").click()
    await expect(page.get_by_text("1.0.1 is published.")).to_be_visible(timeout=60_000)
    await page.get_by_role("link", name="Open").click()
    await page.get_by_text("What it may").wait_for()
    await person.accessible()


async def test_a_steward_sees_who_did_what_and_grants_and_the_owner_how_it_is_used(somebody):
    learner = await somebody("ada")
    await register(learner)
    steward = await somebody("steward")
    page = steward.page
    for path in ("people", "teams", "agreements", "grants", "audit", "findings", "capacity", "usage"):
        await steward.go(f"/s/course/{path}")
        await steward.accessible()
    await page.screenshot(path=SCREENSHOTS / "insight.png")
    await steward.go("/s/course/people")
    await page.get_by_role("row", name="Portugal").or_(page.get_by_role("row", name="country: PT")).wait_for()
    await page.get_by_role("link", name="p-0").first.click()
    await page.get_by_text("spaces:agreement:sign").wait_for()
    await page.screenshot(path=SCREENSHOTS / "record.png")
    await steward.go("/s/course/grants")
    await page.get_by_role("button", name="Grant something").click()
    await page.get_by_role("combobox", name="For whom").press("ArrowDown")
    await page.get_by_role("option", name="One person").click()
    await page.get_by_role("dialog").get_by_label("Person").fill("p-000001")
    await page.get_by_role("combobox", name="Dataset").press("ArrowDown")
    await page.get_by_role("option", name="Rain in two towns").click()
    await page.get_by_text("Limits").click()
    await page.get_by_label("Columns of rain").press("ArrowDown")
    for column in ("day", "mm"):
        await page.get_by_role("option", name=column, exact=True).click()
    await page.keyboard.press("Escape")
    await page.get_by_label("Rows of rain").fill("town = 'Faro'")
    await page.get_by_label("At most so many rows").fill("3")
    await steward.accessible()
    await page.get_by_role("dialog").get_by_role("button", name="Grant something").click()
    await expect(page.get_by_role("button", name="Revoke")).to_be_visible()
    await expect(page.get_by_text("rain (day, mm): town = 'Faro'")).to_be_visible()
    await expect(page.get_by_role("columnheader", name="ada", exact=False)).to_be_visible()
    await page.screenshot(path=SCREENSHOTS / "grants.png")
    await learner.go("/s/course/data/rain")
    await expect(learner.page.get_by_text("≤ 3 rows")).to_be_visible()


async def test_an_owner_changes_terms_rounds_and_policies_in_the_browser(somebody):
    learner = await somebody("ada")
    await register(learner)
    owner = await somebody("owner")
    page = owner.page
    await owner.go("/s/course/settings")
    await owner.accessible()
    await page.get_by_label("Title").fill("A course on rain and wind")
    await page.get_by_role("tab", name="Agreements").click()
    await page.get_by_label("Text (Markdown)").fill("# Terms\n\n1. Be good.\n2. Be kind.\n")
    await page.get_by_role("button", name="Preview and changes").click()
    await page.get_by_text("+2. Be kind.").wait_for()
    await owner.accessible()
    await page.screenshot(path=SCREENSHOTS / "space-settings.png")
    await page.get_by_role("tab", name="Rounds").click()
    await page.get_by_role("button", name="New round").click()
    await page.get_by_label("Title").fill("The first round")
    await owner.accessible()
    await page.get_by_role("tab", name="Policies").click()
    await page.get_by_label("Idle minutes before a notebook stops").fill("45")
    await page.get_by_role("tab", name="Roles").click()
    await page.get_by_label("Reviewers").fill("rita@test.example\nrob@test.example")
    await owner.accessible()
    await page.get_by_role("button", name="Save").click()
    await page.get_by_text("Saved. It holds from now on.").wait_for()
    await page.reload()
    await page.get_by_role("tab", name="Roles").click()
    await expect(page.get_by_label("Reviewers")).to_have_value("rita@test.example\nrob@test.example")
    await page.screenshot(path=SCREENSHOTS / "space-roles.png")
    await learner.go("/s/course")
    await learner.page.get_by_role("heading", name="A course on rain and wind").wait_for()
    await learner.page.get_by_role("link", name="Read and sign").wait_for()
    await page.get_by_role("tab", name="Policies").click()
    await page.get_by_label("Largest upload").fill("a lot")
    await page.get_by_role("button", name="Save").click()
    await page.get_by_text("no size").wait_for()


async def test_an_operator_sees_the_walls_in_the_dark_and_in_german(somebody):
    person = await somebody("operator", color_scheme="dark")
    page = person.page
    await person.go("/home")
    await page.get_by_role("link", name="Operation").click()
    await page.get_by_role("heading", name="Walls").wait_for()
    await person.accessible()
    await page.get_by_label("Name", exact=True).fill("Data House")
    await page.get_by_label("Words of welcome").fill("Work on data that stays.")
    await page.get_by_role("button", name="New link").click()
    await page.get_by_label("Link's text").fill("Imprint")
    await page.get_by_label("Link's address").fill("https://house.example/imprint")
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("link", name="Data House")).to_be_visible()
    await expect(page.locator("footer").get_by_role("link", name="Imprint")).to_be_visible()
    await person.accessible()
    await page.get_by_role("heading", name="Name and looks").scroll_into_view_if_needed()
    await page.screenshot(path=SCREENSHOTS / "operator.png")
    await page.get_by_role("button", name="As in the settings").click()
    await expect(page.get_by_role("link", name="Cloister")).to_be_visible()
    await page.get_by_role("button", name="Account").click()
    await page.get_by_text("Sprache: Deutsch").click()
    await page.get_by_role("heading", name="Wände").wait_for()
    assert await page.evaluate("document.documentElement.lang") == "de"
    await person.accessible()


async def test_a_session_that_ended_is_taken_up_again_without_losing_what_was_typed(somebody):
    person = await somebody("ada")
    page = person.page
    await register(person)
    await person.go("/s/course/sql?sql=select 42 as answer")
    await page.context.clear_cookies()
    await page.get_by_role("button", name="Run", exact=True).click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("E-mail address").fill("ada@test.example")
    await dialog.get_by_role("button", name="Sign in").click()
    await expect(dialog).to_be_hidden()
    await page.get_by_role("button", name="Run", exact=True).click()
    await expect(page.get_by_role("cell", name="42")).to_be_visible()
    await page.locator(".monaco-editor").first.click()
    await page.keyboard.press("Control+End")
    await page.keyboard.type(" from rai")
    await page.keyboard.press("Control+Space")
    await page.locator(".suggest-widget.visible").get_by_text("rain", exact=True).first.wait_for()
    await page.keyboard.press("Enter")
    await page.reload()
    await expect(page.locator(".view-lines").first).to_contain_text("rain")
    await page.screenshot(path=SCREENSHOTS / "sql.png")


async def test_a_changed_agreement_is_shown_with_what_changed_and_signed_again(somebody, site):
    person = await somebody("ada")
    page = person.page
    await register(person)
    changed = site.space.agreements[0].model_copy(update={"text": "# Terms\n\n1. Be very good.\n", "sign_again": True})
    await declare(site.platform, site.space.model_copy(update={"agreements": [changed]}), site.folder)
    await person.go("/s/course")
    await page.get_by_role("link", name="Read and sign").click()
    await page.get_by_role("heading", name="What changed since version 1").wait_for()
    assert await page.get_by_text("+1. Be very good.").count() == 1
    await page.get_by_label("I have read").check()
    await person.accessible()
    await page.get_by_role("button", name="Sign", exact=True).click()
    await page.get_by_role("heading", name="A course on rain").wait_for()
    await expect(page.get_by_role("link", name="Read and sign")).to_be_hidden()
    await expect(page).to_have_title("A course on rain · Cloister")
    await person.go("/s/course/data")
    await page.get_by_text("Rain in two towns").wait_for()


async def test_nothing_is_asked_of_another_site_and_no_script_stands_in_a_page(somebody, site):
    person = await somebody()
    asked = []
    person.page.on("request", lambda request: asked.append(request.url))
    await person.go("/")
    assert all(url.startswith((site.base, "data:")) for url in asked)
    answer = await person.page.request.get(site.base + "/s/course", headers={"Accept": "text/html"})
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self';" in policy and "unsafe-eval" not in policy
    asset = next(url for url in asked if url.endswith(".js"))
    found = await person.page.request.get(asset, headers={"Accept-Encoding": "br"})
    assert found.headers["cache-control"].endswith("immutable")
    assert (await person.page.request.get(site.base + "/assets/nosuch.js")).status == 404
    assert (await person.page.request.get(site.base + "/api/v1/nosuch")).status == 404


async def test_a_member_asks_for_more_than_the_budget_and_a_steward_decides(somebody):
    member = await somebody("ada")
    await register(member)
    page = member.page
    await member.go("/s/course/notebook")
    await page.get_by_role("button", name="Start", exact=True).click()
    await expect(page.get_by_role("link", name="Open the notebook")).to_be_visible(timeout=60_000)
    await page.get_by_role("combobox", name="Size").press("ArrowDown")
    await page.get_by_role("option", name="large: 1 CPU, 512").click()
    await page.get_by_role("button", name="Ask for it").click()
    await expect(page.get_by_text("4 an hour while it runs").last).to_be_visible()
    await page.get_by_label("This needs an approval").fill("A larger model")
    await page.get_by_role("button", name="Ask for it").click()
    await expect(page.get_by_text("waits for a decision")).to_be_visible()
    await member.accessible()
    await page.screenshot(path=SCREENSHOTS / "capacity.png")
    steward = await somebody("steward")
    await steward.go("/s/course/capacity")
    await expect(steward.page.get_by_text("A larger model")).to_be_visible()
    await steward.page.get_by_label("Reason").fill("Fine")
    await steward.page.get_by_role("button", name="Approve").click()
    await expect(steward.page.get_by_text("approved")).to_be_visible()
    await steward.accessible()
    await member.go("/s/course/notebook")
    await expect(page.get_by_text("python-basic · large")).to_be_visible()
    await expect(page.get_by_text("approved")).to_be_visible()


async def test_a_member_takes_a_file_out_when_a_steward_has_looked_at_it(site, somebody):
    member = await somebody("ada")
    await register(member)
    page = member.page
    await member.go("/s/course/exports")
    await page.get_by_role("button", name="Take files out").click()
    await expect(page.get_by_text("Open it once")).to_be_visible()
    await member.go("/s/course/notebook")
    await page.get_by_role("button", name="Start", exact=True).click()
    await expect(page.get_by_role("link", name="Open the notebook")).to_be_visible(timeout=60_000)
    (volume,) = site.platform.disks.all_mounted()
    folder = site.platform.disks.mount_point(volume) / "results"
    folder.mkdir()
    (folder / "rain.csv").write_text("town,mean_mm\nFaro,2.25\nPorto,7.9\n")
    await member.go("/s/course/exports")
    await page.get_by_role("button", name="Take files out").click()
    await page.get_by_role("button", name="results").click()
    await page.get_by_label("rain.csv").check()
    await page.get_by_label("What are they for?").fill("Table 1 of our paper")
    await member.accessible()
    await page.get_by_role("button", name="Ask for a review").click()
    await expect(page.get_by_text("waits for a decision")).to_be_visible()
    await expect(page.get_by_role("link", name="download")).to_have_count(0)
    steward = await somebody("steward")
    await expect(steward.page.get_by_role("heading", name="Requests")).to_be_visible()
    await steward.accessible()
    await steward.page.get_by_role("link", name="results/rain.csv").click()
    await steward.page.get_by_role("button", name="Look at results/rain.csv").click()
    await expect(steward.page.get_by_text("Porto,7.9")).to_be_visible()
    await steward.page.get_by_label("Reason").fill("Means of towns only")
    await steward.accessible()
    await steward.page.screenshot(path=SCREENSHOTS / "exports.png")
    await steward.page.get_by_role("button", name="Approve").click()
    await expect(steward.page.get_by_text("approved")).to_be_visible()
    await member.go("/s/course/exports")
    await expect(page.get_by_text("Means of towns only")).to_be_visible()
    async with page.expect_download() as download:
        await page.get_by_role("link", name="download: results/rain.csv").click()
    assert "Porto,7.9" in (await (await download.value).path()).read_text()
    await member.accessible()


async def test_a_steward_loads_data_in_the_browser_and_a_member_sees_how_they_lie(somebody, tmp_path):
    steward, learner = await somebody("steward"), await somebody("ada")
    page = steward.page
    await register(learner)
    (tmp_path / "Many Ages.csv").write_text("id,age\n" + "".join(f"{n},{20 + n % 50}.5\n" for n in range(400)))
    await steward.go("/s/course/data")
    await page.get_by_role("button", name="New dataset").click()
    await page.get_by_label("Files", exact=True).set_input_files(tmp_path / "Many Ages.csv")
    await page.get_by_role("dialog").get_by_label("Title").fill("Ages of many")
    await steward.accessible()
    await page.screenshot(path=SCREENSHOTS / "load.png")
    await page.get_by_role("dialog").get_by_role("button", name="Load").click()
    await page.wait_for_url("**/data/many_ages")
    await expect(page.get_by_text("400 rows")).to_be_visible()
    await steward.go("/s/course/grants")
    await page.get_by_role("button", name="Grant something").click()
    await page.get_by_role("combobox", name="Dataset").press("ArrowDown")
    await page.get_by_role("option", name="Ages of many").click()
    await page.get_by_role("dialog").get_by_role("button", name="Grant something").click()
    await expect(
        page.get_by_role("cell", name="many_ages").or_(page.get_by_role("rowheader", name="many_ages"))
    ).to_be_visible()
    await learner.go("/s/course/data/many_ages")
    await learner.page.get_by_role("combobox", name="How a column is spread").press("ArrowDown")
    await learner.page.get_by_role("option", name="age").click()
    await learner.page.get_by_role("img", name="How a column is spread: age").wait_for()
    await learner.accessible()
    await learner.page.screenshot(path=SCREENSHOTS / "profile.png", full_page=True)


async def test_a_member_copies_the_notebooks_files_and_brings_one_back(somebody):
    person = await somebody("ada")
    page = person.page
    await register(person)
    await person.go("/s/course/notebook")
    await page.get_by_role("button", name="Start", exact=True).click()
    await page.get_by_role("link", name="Open the notebook").wait_for(timeout=60_000)
    await page.get_by_role("button", name="Copy now").click()
    await page.get_by_role("button", name="Look inside").click()
    await page.get_by_role("dialog").get_by_text("Copy of").wait_for()
    await person.accessible()
    await page.screenshot(path=SCREENSHOTS / "copies.png")
    await page.get_by_role("dialog").get_by_role("button", name="Close").click()
    await expect(page.get_by_role("button", name="Restore everything")).to_be_disabled()
    await page.get_by_role("button", name="Remove:").click()
    await page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    await page.get_by_text("There is no copy yet.").wait_for()


async def test_who_joins_a_competition_reads_its_rules_answers_its_questions_and_names_a_team(somebody, site):
    rounds = [{"name": "r1", "title": "Heats", "starts": "2026-01-01T00:00:00Z", "ends": "2099-01-01T00:00:00Z"}]
    dua = {
        "name": "dua", "title": "Data use agreement", "text": "# Terms\n\nBe good.\n",
        "questions": [{"name": "supervisor", "type": "text", "label": "Who supervises you?"}],
    }  # fmt: skip
    cup = blueprint(
        slug="cup", kind="competition", title="The rain cup", sponsor="The Rain Foundation", agreements=[dua], rounds=rounds,
        rules="1. Play fair.\n2. No peeking.\n", environments=[{"name": "python-basic"}], roles={},
    )  # fmt: skip
    await declare(site.platform, cup, site.folder)
    person = await somebody("ada")
    page = person.page
    await person.go("/s/cup")
    await page.get_by_text("The Rain Foundation").wait_for()
    await page.get_by_text("No peeking.").wait_for()
    await page.get_by_text("Heats").wait_for()
    await person.accessible()
    await page.screenshot(path=SCREENSHOTS / "public.png")
    await page.get_by_role("link", name="Register").click()
    await page.get_by_role("button", name="Next").click()
    await page.get_by_label("I have read").check()
    await page.get_by_role("button", name="Next").click()
    assert await page.get_by_text("This is needed.").count() == 1, "the agreement's question has no answer yet"
    await page.get_by_label("Who supervises you?").fill("Eva")
    await page.get_by_role("button", name="Next").click()
    await page.get_by_label("Name of your team").fill("Die Stürmer")
    await page.get_by_text("It will be called die-sturmer.").wait_for()
    await person.accessible()
    await page.screenshot(path=SCREENSHOTS / "team.png")
    await page.get_by_role("button", name="Sign and register").click()
    await page.get_by_role("heading", name="You are in.").wait_for()
    await person.go("/home")
    await page.get_by_text("Heats ends in").wait_for()
    await page.get_by_text("Team die-sturmer").wait_for()
    await person.accessible()
