"""What members come for, from beginning to end, in a browser."""

import pytest
from playwright.async_api import expect

from tests.support import blueprint, declare, until
from tests.ui.conftest import register
from tests.workspaces.browser import SCREENSHOTS


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
    await page.get_by_text("Be good.").wait_for()
    await page.go_back()  # to the step before, with what was filled in
    await expect(page.get_by_label("I will be honest")).to_be_checked()
    await page.get_by_role("button", name="Next").click()
    await page.get_by_role("button", name="Sign and register").click()
    assert await page.get_by_text("This is needed.").count() == 1, "nobody registers without having read"
    await page.get_by_label("I have read").check()
    await person.accessible()
    await page.screenshot(path=SCREENSHOTS / "phone-agreement.png")
    await page.get_by_role("button", name="Sign and register").click()
    await page.get_by_role("heading", name="You are in.").wait_for()
    await page.get_by_text("Your workspace is ready.").wait_for(timeout=60_000)
    assert ".course.localhost" in await page.get_by_role("link", name="Open the notebook").get_attribute("href")
    await person.accessible()
    await page.screenshot(path=SCREENSHOTS / "phone-ready.png")
    await page.get_by_role("link", name="Data", exact=True).last.click()
    await page.get_by_text("Rain in two towns").click()
    await page.get_by_role("link", name="Ask it in SQL").click()
    await page.get_by_role("button", name="Run", exact=True).click()
    await expect(page.get_by_text("4 rows in")).to_be_visible()
    await expect(page.get_by_role("cell", name="12.5")).to_be_visible()
    await person.accessible()


@pytest.mark.shipped_modules
async def test_a_member_joins_modules_on_a_dashboard_without_programming_and_shares_it(somebody, site, tmp_path):
    person = await somebody("ada")
    page = person.page
    await register(person)
    await until(lambda: person.published("sql", "bar", "value"), 90, 0.3)
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
    for name, place in (("home", "/home"), ("modules", "/modules")):
        await person.go(place)
        await page.wait_for_load_state("networkidle")
        await page.screenshot(path=SCREENSHOTS / f"{name}.png")
    await _known_by_a_picture(person, tmp_path)


async def _known_by_a_picture(person, folder):
    """In lists a dashboard is known by where its widgets are, or by a picture that somebody chose."""
    page = person.page
    await person.go("/s/course/dashboards")
    card = page.locator(".v-card", has_text="Rain").locator("img")
    await expect(card).to_be_visible()
    await until(lambda: card.evaluate("(one) => one.naturalWidth > 0"), 10)
    await person.accessible()
    await page.screenshot(path=SCREENSHOTS / "dashboards.png")
    drawn = await card.get_attribute("src")
    answer = await page.request.get(person.base + drawn)
    assert answer.headers["content-type"] == "image/svg+xml"
    assert "data:image/svg+xml" in await answer.text(), "the bar chart's picture is where the bar chart is"
    await page.locator(".v-card", has_text="Rain").click()
    await page.get_by_role("button", name="Edit").click()
    (folder / "note.png").write_text("no picture")
    chooser = page.get_by_label("Picture for lists")
    await chooser.set_input_files(folder / "note.png")
    await page.get_by_text("That is no picture").wait_for()
    await chooser.set_input_files(SCREENSHOTS / "dashboards.png")
    await page.get_by_role("button", name="Draw one instead").wait_for()
    await person.go("/s/course/dashboards")
    await expect(card).not_to_have_attribute("src", drawn)
    own = await page.request.get(person.base + await card.get_attribute("src"))
    assert (own.headers["content-type"], len(await own.body()) < 30_000) == ("image/jpeg", True)


async def test_a_member_asks_for_more_than_the_budget_and_a_steward_decides(somebody):
    member = await somebody("ada")
    await register(member)
    page = member.page
    await member.go("/s/course/notebook")
    await page.get_by_role("button", name="Start", exact=True).click()
    await expect(page.get_by_role("link", name="Open the notebook")).to_be_visible(timeout=60_000)
    await page.get_by_role("combobox", name="Size").press("ArrowDown")
    await page.get_by_role("option", name="large: 1 CPU, 512").click()
    await page.get_by_role("button", name="See what it costs").click()
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


async def test_a_member_takes_a_file_out_when_a_reviewer_has_looked_at_it(site, somebody):
    roles = {**site.space.roles, "reviewer": ["rita@test.example"]}
    await declare(site.platform, site.space.model_copy(update={"roles": roles}), site.folder)
    member = await somebody("ada")
    await register(member)
    page = member.page
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
    reviewer = await somebody("rita")
    await expect(reviewer.page.get_by_role("heading", name="Requests")).to_be_visible()
    await reviewer.accessible()
    await reviewer.page.get_by_role("link", name="results/rain.csv").click()
    await reviewer.page.get_by_role("button", name="Look at results/rain.csv").click()
    await expect(reviewer.page.get_by_text("Porto,7.9")).to_be_visible()
    await reviewer.page.get_by_label("Reason").fill("Means of towns only")
    await reviewer.accessible()
    await reviewer.page.screenshot(path=SCREENSHOTS / "exports.png")
    await reviewer.page.get_by_role("button", name="Approve").click()
    await expect(reviewer.page.get_by_text("approved")).to_be_visible()
    await member.go("/s/course/exports")
    await expect(page.get_by_text("Means of towns only")).to_be_visible()
    async with page.expect_download() as download:
        await page.get_by_role("link", name="download: results/rain.csv").click()
    assert "Porto,7.9" in (await (await download.value).path()).read_text()
    await member.accessible()


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
