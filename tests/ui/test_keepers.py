"""What authors, stewards, owners and operators come for, from beginning to end, in a browser."""

import random
from datetime import UTC, datetime, timedelta

from playwright.async_api import expect

from cloister.access import scoped_select
from cloister.audit import Name
from cloister.audit.record import Draft
from cloister.core.principal import EVERYTHING
from cloister.spaces import Enrolment
from tests.ui.conftest import register
from tests.workspaces.browser import SCREENSHOTS


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
    await page.locator(".monaco-editor").first.click()
    await page.keyboard.type("Draft")
    await expect(page.get_by_text("not saved: notes.md")).to_be_visible()
    await page.get_by_role("button", name="main.py", exact=True).first.click()
    await page.get_by_role("button", name="notes.md •", exact=True).first.click()
    await page.locator(".monaco-editor").first.click()
    await page.keyboard.press("Control+z")
    await expect(page.get_by_text("not saved")).to_be_hidden()  # each tab keeps what can be undone in it
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
    await steward.go("/s/course/people")
    await page.get_by_role("row", name="Portugal").or_(page.get_by_role("row", name="country: PT")).wait_for()
    await page.get_by_role("link", name="p-0").first.click()
    await page.get_by_text("spaces:agreement:sign").wait_for()
    await page.screenshot(path=SCREENSHOTS / "record.png")
    await steward.go("/s/course/grants")
    await page.get_by_role("button", name="Grant something").click()
    await page.get_by_role("combobox", name="For whom").press("ArrowDown")
    await page.get_by_role("option", name="One person").click()
    await page.get_by_role("dialog").get_by_role("combobox", name="Person").fill("ad")
    await page.get_by_role("option", name="Ada · p-000001").click()
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
    await page.get_by_role("button", name="Revoke").click()
    await page.get_by_role("dialog").get_by_text("Queries under way end").wait_for()
    await page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    await expect(page.get_by_role("button", name="Revoke")).to_have_count(0)


LANDS = [
    "PT",
    "PT",
    "BR",
    "BR",
    "BR",
    "IN",
    "IN",
    "IN",
    "IN",
    "NG",
    "NG",
    "DE",
    "JP",
    "US",
    "US",
    "US",
    "KE",
    "CO",
    "VN",
    "FR",
]


async def a_term(site) -> None:
    """Some weeks of work of people in many countries, on the record."""
    chance = random.Random(4)
    for number, land in enumerate(LANDS):
        await site.member(f"person{number}", "course", answers={"country": land, "honest": True})
    async with site.platform.database.read() as uow:
        people = [row.person for row in (await uow.session.scalars(scoped_select(Enrolment, EVERYTHING))).all()]
    names = [Name.QUERY_ASKED, Name.QUERY_ASKED, Name.CODE_RUN, Name.CODE_RUN, Name.CODE_RUN, Name.SANDBOX_STARTED]
    drafts = []
    for person in people[:16]:
        for _ in range(int(chance.paretovariate(1.1) * 6)):
            day, hour = chance.randint(0, 20), min(23, max(0, int(chance.gauss(14, 4))))
            at = datetime(2026, 11, 2, hour, tzinfo=UTC) + timedelta(days=day if day % 7 < 5 else day - 2)
            drafts.append(Draft(chance.choice(names), person=person, space="course", time=at))
    async with site.platform.database.write() as uow:
        uow.records.extend(drafts)


async def test_insight_shows_how_a_space_is_used_with_the_numbers_behind_each_chart(site, somebody):
    await a_term(site)
    steward = await somebody("steward", viewport={"width": 1280, "height": 1500})
    page = steward.page
    await steward.go("/s/course/usage")
    await page.get_by_role("img", name="Chart: From registered to running code").locator("svg").wait_for()
    await page.get_by_role("img", name="Chart: The world").locator("svg").wait_for()
    await steward.accessible()
    await page.screenshot(path=SCREENSHOTS / "insight.png")
    await page.get_by_label("In people’s own time").check()
    await page.get_by_text("people said when they registered what time it is").wait_for()
    charts = await page.get_by_role("button", name="Download as CSV").count()
    assert (
        charts == await page.get_by_role("button", name="As a table").count() + 1
    )  # costs by team are a table already
    await page.get_by_role("button", name="As a table: Queries for each person").click()
    await expect(page.get_by_role("columnheader", name="people")).to_be_visible()
    await steward.accessible()
    async with page.expect_download() as found:
        await page.get_by_role("button", name="Download as CSV: From registered to running code").click()
    saved = await (await found.value).path()
    assert saved.read_text().splitlines()[:3] == ["step,people", "registered,20", "admitted,20"]


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
    await page.get_by_role("dialog").get_by_text("One person can do nothing here until they have signed").wait_for()
    await owner.accessible()
    await page.get_by_role("dialog").get_by_role("button", name="Save").click()
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
    await page.get_by_role("tab", name="Looks").click()
    await page.get_by_label("Name", exact=True).fill("Data House")
    await page.get_by_label("Words of welcome").fill("Work on data that stays.")
    await page.get_by_role("button", name="New link").click()
    await page.get_by_label("Link's text").fill("Imprint")
    await page.get_by_label("Link's address").fill("https://house.example/imprint")
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("link", name="Data House")).to_be_visible()
    await expect(page.locator("footer").get_by_role("link", name="Imprint")).to_be_visible()
    await person.accessible()
    await page.screenshot(path=SCREENSHOTS / "operator.png")
    await page.get_by_role("button", name="As in the settings").click()
    await page.get_by_role("button", name="Really drop all of these?").click()
    await expect(page.get_by_role("link", name="Cloister")).to_be_visible()
    await page.get_by_role("button", name="Account").click()
    await page.get_by_text("Sprache: Deutsch").click()
    await page.get_by_role("tab", name="Zustand").click()
    await page.get_by_role("heading", name="Wände").wait_for()
    assert await page.evaluate("document.documentElement.lang") == "de"
    await person.accessible()


async def test_an_operator_sees_what_runs_on_the_machine_what_it_is_made_of_and_who_has_come(somebody):
    learner, person = await somebody("ada"), await somebody("operator")
    page = person.page
    await register(learner)
    await learner.go("/s/course/sql?sql=select * from rain")
    await learner.page.get_by_role("button", name="Run").click()
    await learner.page.get_by_text("Faro").first.wait_for()
    await person.go("/operator?tab=programs")
    row = page.get_by_role("row", name="queries").filter(has_text="course")
    await row.wait_for()
    await person.accessible()
    await page.screenshot(path=SCREENSHOTS / "operator-machine.png")
    await row.get_by_role("button", name="Stop").click()
    await page.get_by_role("dialog").get_by_text("what runs in it ends").wait_for()
    await page.get_by_role("dialog").get_by_role("button", name="Stop").click()
    await expect(row).to_be_hidden(timeout=30_000)
    await page.get_by_role("tab", name="Environments").click()
    await page.get_by_role("row", name="course/python-basic").wait_for()
    await person.accessible()
    await page.get_by_role("tab", name="Settings").click()
    await expect(page.get_by_role("cell", name="query_seconds")).to_be_hidden()
    await page.get_by_label("that have their defaults").check()
    await expect(page.get_by_role("cell", name="query_seconds")).to_be_visible()
    await page.get_by_role("tab", name="Spaces and cost").click()
    await page.get_by_role("link", name="A course on rain").first.wait_for()
    await page.get_by_role("tab", name="Findings").click()
    await page.get_by_text("The rules found nothing").wait_for()
    await page.get_by_role("tab", name="People").click()
    await page.get_by_role("row", name="ada").get_by_role("button", name="Close account").click()
    await page.get_by_role("dialog").get_by_text("signed out at once").wait_for()
    await person.accessible()
    await page.get_by_role("dialog").get_by_role("button", name="Close account").click()
    await page.get_by_role("row", name="ada").get_by_text("closed since").wait_for()
    await learner.go("/home")
    await learner.page.get_by_role("heading", name="Sign in").wait_for()
    learner.faults.clear()  # that they were refused


BROKEN = (
    '<script src="/lib/cloister.js"></script><p>hello</p><script>cloister.onDataChanged(() => nothingSuch());</script>'
)


async def test_a_widgets_author_sees_what_goes_wrong_and_each_save_from_elsewhere_and_hides_and_removes_it(
    site, somebody
):
    person = await somebody("author")
    page = person.page
    await register(person)
    author = await site.sign_in("author")  # at their own machine, as `cloister module run` does
    await author.post("/modules", json={"name": "wobbly", "files": {"index.html": BROKEN}})
    await person.go("/modules/wobbly/edit?watch")
    await page.get_by_text("something went wrong in it").click()
    await page.get_by_text("nothingSuch is not defined").wait_for()
    person.faults.clear()  # what went wrong in the widget
    await person.accessible()
    await author.put(
        "/modules/wobbly/files/index.html",
        json={"text": BROKEN.replace("nothingSuch()", "1").replace("hello", "good day")},
    )
    await page.frame_locator(".preview iframe").get_by_text("good day").wait_for()
    await expect(page.get_by_text("went wrong in it")).to_have_count(0)
    for version in ("1.0.0", "1.1.0-rc1"):
        asked = await author.post("/modules/wobbly/releases", json={"version": version})
        assert asked.status_code == 202, asked.text
    await page.get_by_role("button", name="Publish").click()
    await expect(page.get_by_label("Version")).to_have_value("1.1.0")
    await page.get_by_role("dialog").get_by_role("button", name="Close").click()
    await person.go("/modules/wobbly")
    await page.get_by_role("button", name="Hide 1.0.0").click()
    await page.get_by_text("hidden from new users").wait_for()
    await page.get_by_role("button", name="Show again 1.0.0").click()
    await expect(page.get_by_text("hidden from new users")).to_have_count(0)
    await person.accessible()
    await page.get_by_role("button", name="Remove 1.1.0-rc1").click()
    await page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    await expect(page.get_by_text("1.1.0-rc1")).to_have_count(0)
    person.faults.clear()  # what went wrong in the widget
