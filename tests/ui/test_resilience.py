"""What was typed, drawn or chosen is still there after a fault, a restart, or somebody else's change."""

import csv
import json

import pytest
from playwright.async_api import expect

from tests.support import declare, until
from tests.ui.conftest import begin_to_register, register
from tests.workspaces.browser import SCREENSHOTS

SQL = "select town, sum(mm) as mm from rain group by town order by town"


def drawn(id_, module, y):
    source = {"integration": "sql", "path": ["rows"]}
    return {"id": id_, "module": module, "title": id_, "x": 0, "y": y, "width": 12, "height": 6, "source": source}


@pytest.mark.shipped_modules
async def test_widgets_that_change_places_go_on_drawing(somebody):
    person = await somebody("ada")
    page = person.page
    await register(person)
    await until(lambda: person.published("sql", "bar", "table"), 90, 0.3)
    team = await person.team()
    document = {
        "name": "Two", "integrations": [{"id": "sql", "module": "sql", "values": {"sql": SQL}}],
        "widgets": [drawn("upper", "table", 0), drawn("lower", "bar", 6)],
    }  # fmt: skip
    board = await person.call("POST", "/spaces/course/dashboards", {"team": team, "document": document})
    await person.go(f"/s/course/dashboards/{board['id']}?edit")
    sections = {name: page.locator(f'section.widget[aria-label="{name}"]') for name in ("upper", "lower")}
    for one in sections.values():
        await one.frame_locator("iframe").get_by_text("Porto").first.wait_for(timeout=40_000)
    for one in sections.values():  # whatever is loaded anew does not have this
        await (await one.locator("iframe").element_handle()).evaluate("(frame) => (frame.kept = true)")
        await (await (await one.locator("iframe").element_handle()).content_frame()).evaluate("window.kept = true")
    handle = page.get_by_role("button", name="lower Move")
    for _ in range(6):
        await handle.press("ArrowUp")
    await until(lambda: above(sections["lower"], sections["upper"]), 10, 0.1)
    await expect(handle, "and the keys go on").to_be_focused()
    for name, one in sections.items():
        frame = await (await one.locator("iframe").element_handle()).content_frame()
        assert await frame.evaluate("window.kept") is True, f"{name} was loaded anew"
        await expect(one.get_by_text("does not answer")).to_have_count(0)
    await page.get_by_label("lower Size").press("ArrowRight")
    await until(lambda: wider(sections["lower"], sections["upper"]), 10, 0.1)
    await page.get_by_role("button", name="Undo").click()
    await until(lambda: as_wide(sections["lower"], sections["upper"]), 10, 0.1)


async def above(one, other):
    return (await one.bounding_box())["y"] < (await other.bounding_box())["y"]


async def wider(one, other):
    return (await one.bounding_box())["width"] > (await other.bounding_box())["width"] + 5


async def as_wide(one, other):
    return abs((await one.bounding_box())["width"] - (await other.bounding_box())["width"]) < 2


async def test_what_an_owner_typed_is_there_when_the_platform_was_away_and_is_saved_by_trying_again(somebody):
    owner = await somebody("owner")
    page = owner.page
    await owner.go("/s/course/settings")
    await page.get_by_label("Title").fill("Typed before the fault")
    await page.route("**/settings", lambda route: route.abort() if route.request.method == "PUT" else route.continue_())
    await page.get_by_role("button", name="Save").click()
    await page.get_by_text("cannot be reached just now").wait_for()
    await page.unroute("**/settings")
    await page.route(
        "**/settings",
        lambda route: route.fulfill(status=502, body="") if route.request.method == "PUT" else route.continue_(),
    )
    await page.get_by_role("button", name="Try again").click()
    await page.get_by_text("cannot be reached just now").wait_for()
    await expect(page.get_by_label("Title")).to_have_value("Typed before the fault")
    await page.unroute("**/settings")
    await page.get_by_role("button", name="Try again").click()
    await page.get_by_text("Saved. It holds from now on.").wait_for()
    await page.get_by_label("Title").fill("Mine")
    mate = await somebody("owner")
    found = await mate.page.request.get(f"{mate.base}/api/v1/spaces/course/settings")
    changed = {**(await found.json()), "title": "The mate's"}
    saved = await mate.page.request.put(
        f"{mate.base}/api/v1/spaces/course/settings", data=changed, headers={"If-Match": found.headers["etag"]}
    )
    assert saved.ok, await saved.text()
    await page.get_by_role("button", name="Save").click()
    await page.get_by_role("button", name="Take the other version").click()
    await expect(page.get_by_label("Title")).to_have_value("The mate's")


async def test_an_agreement_that_need_not_be_signed_may_be_left_and_changes_count_from_what_one_signed(somebody, site):
    terms = site.space.agreements[0]
    extra = terms.model_copy(update={"name": "news", "title": "Newsletter", "text": "# News\n", "required": False})

    async def now(text):
        changed = terms.model_copy(update={"text": text, "sign_again": True})
        await declare(site.platform, site.space.model_copy(update={"agreements": [changed, extra]}), site.folder)

    await now("# Terms\n\nOne.\n")
    person = await somebody("ada")
    page = person.page
    await begin_to_register(person)
    await page.reload()
    await page.get_by_label("I have read “Data use agreement”").check()
    await expect(page.get_by_label("you may leave this one")).to_be_visible()
    await page.get_by_role("button", name="Sign and register").click()
    await page.get_by_role("heading", name="You are in.").wait_for()
    await now("# Terms\n\nOne.\nTwo.\n")
    await now("# Terms\n\nOne.\nTwo.\nThree.\n")
    await person.go("/s/course/sign")
    changes = page.locator("pre").first
    await expect(changes).to_contain_text("+Two.")
    await expect(changes, "all since the version that was signed").to_contain_text("+Three.")
    await page.get_by_label("I have read “Data use agreement”").check()
    await page.get_by_role("button", name="Sign", exact=True).click()
    await page.get_by_role("heading", name="A course on rain").wait_for()


async def test_an_answer_shows_years_as_years_columns_of_one_name_and_all_of_itself(somebody):
    person = await somebody("ada")
    page = person.page
    await register(person)
    await person.go(f"/s/course/sql?sql={SQL}")
    await page.get_by_role("button", name="Run", exact=True).click()
    await page.get_by_role("cell", name="Porto").wait_for()
    await page.get_by_role("button", name="Chart").click()
    await page.locator("[role=img] svg").first.wait_for()
    await person.accessible()
    await page.screenshot(path=SCREENSHOTS / "sql.png")
    await person.go('/s/course/sql?sql=select 2023 as year, 1.5 as a, 2.5 as a, 7 as "1"')
    await page.get_by_role("button", name="Run", exact=True).click()
    await expect(page.get_by_role("cell", name="2023", exact=True)).to_be_visible()
    assert await page.locator("thead th").all_text_contents() == ["year", "a", "a_2", "1"]
    await page.locator(".monaco-editor").first.click()
    await page.keyboard.press("Control+A")
    await page.keyboard.type("select 'not run' as never")
    async with page.expect_download() as coming:
        await page.get_by_role("button", name="CSV").click()
    assert "2023" in (await (await coming.value).path()).read_text(), "of what was run"


@pytest.mark.shipped_modules
async def test_a_query_is_stopped_and_its_answer_goes_onto_a_dashboard_beside_another(somebody, site):
    person = await somebody("ada")
    page = person.page
    await register(person)
    await person.go("/s/course/sql?sql=select count(*) from rain a, range(100000000) b, range(100000) c")
    await page.get_by_role("button", name="Run", exact=True).click()
    await until(lambda: _open_queries(site, 1), 20)
    await page.get_by_role("button", name="Cancel").click()
    await page.get_by_text("You stopped this query.").wait_for()
    await until(lambda: _open_queries(site, 0), 20)
    await until(lambda: person.published("sql", "table"), 90, 0.3)
    for number in (1, 2):
        await person.go(f"/s/course/sql?sql=select town, sum(mm) as mm, {number} as n from rain group by town")
        await page.get_by_role("button", name="Run", exact=True).click()
        await page.get_by_role("cell", name="Porto").wait_for()
        await page.get_by_role("button", name="Show on a dashboard").click()
        await person.accessible()
        await (
            page.get_by_role("menuitem")
            .or_(page.get_by_role("listitem"))
            .or_(page.get_by_role("option"))
            .filter(has_text="New dashboard" if number == 1 else "SQL")
            .first.click()
        )
        await page.wait_for_url("**/dashboards/**")
        await expect(page.locator("iframe")).to_have_count(number, timeout=30_000)


async def _open_queries(site, count):
    return len(site.platform.broker.open) == count


async def test_a_list_is_taken_away_whole_and_a_dataset_has_a_story(somebody, site):
    for number in range(105):
        await site.member(f"person{number}", "course", answers={"country": "PT", "honest": True})
    steward = await somebody("steward")
    page = steward.page
    await steward.go("/s/course/people")
    await page.get_by_role("button", name="Show more").wait_for()
    async with page.expect_download(timeout=60_000) as coming:
        await page.get_by_role("button", name="CSV").click()
    rows = list(csv.DictReader((await (await coming.value).path()).read_text().splitlines()))
    assert len(rows) == 105
    member = await somebody("person7")
    await member.go("/s/course/sql?sql=select count(*) from rain")
    await member.page.get_by_role("button", name="Run", exact=True).click()
    await member.page.get_by_role("cell", name="4").wait_for()
    await steward.go("/s/course/audit?subject=rain")
    await page.get_by_text("query").first.wait_for()
    await steward.accessible()
    names = await page.locator("ol.timeline code").all_text_contents()
    assert any("query" in name for name in names), json.dumps(names)
    assert not any(name.startswith("enrolment") for name in names)


async def test_whoever_signs_in_over_anothers_page_sees_nothing_of_it(somebody, site):
    person = await somebody("ada")
    page = person.page
    await register(person)
    await person.go("/s/course/sql?sql=select * from rain")
    await page.get_by_role("button", name="Run", exact=True).click()
    await page.get_by_role("cell", name="Porto").first.wait_for()
    await page.context.clear_cookies()
    await page.get_by_role("button", name="Run", exact=True).click()
    sign_in = page.get_by_role("dialog")
    await sign_in.get_by_label("E-mail address").fill("eve@test.example")
    await sign_in.get_by_role("button", name="Sign in").click()
    await page.wait_for_url("**/home")
    await expect(page.get_by_text("Porto")).to_have_count(0)
    person.faults.clear()  # that the session was gone
    assert await page.evaluate("document.body.innerText.includes('from rain')") is False


async def test_what_failed_at_the_end_of_a_session_is_done_again_after_signing_in(somebody):
    person = await somebody("ada")
    page = person.page
    await register(person)
    await person.go("/s/course/sql?sql=select * from rain")
    await page.get_by_role("heading", name="SQL").wait_for()
    await page.context.clear_cookies()
    await page.get_by_role("button", name="Run", exact=True).click()
    sign_in = page.get_by_role("dialog")
    await sign_in.get_by_label("E-mail address").fill("ada@test.example")
    await sign_in.get_by_role("button", name="Sign in").click()
    await page.get_by_role("cell", name="Porto").first.wait_for()
    person.faults.clear()  # that the session was gone


async def test_a_statement_that_took_too_long_says_so_and_a_draft_is_not_lost(somebody, site):
    site.platform.settings.query_seconds = 1.0
    person = await somebody("ada")
    page = person.page
    await register(person)
    await person.go("/s/course/sql?sql=select count(*) from rain a, range(100000000) b, range(100000) c")
    await page.get_by_role("button", name="Run", exact=True).click()
    await page.get_by_text("The query ran longer than it may").wait_for(timeout=30_000)
    person.faults.clear()  # that it was refused
    await page.locator(".monaco-editor").first.click()
    await page.keyboard.press("Control+A")
    await page.keyboard.type("select 'my draft' as draft")
    await person.go("/s/course/data/rain")
    await page.get_by_role("link", name="Ask it in SQL").click()
    await page.get_by_role("button", name="select 'my draft' as draft").click()
    await page.get_by_role("button", name="Run", exact=True).click()
    await page.get_by_role("cell", name="my draft").wait_for()


async def test_a_steward_hears_who_waits_and_who_waits_is_not_asked_again(somebody, site):
    await declare(
        site.platform,
        site.space.model_copy(update={"enrolment": site.space.enrolment.model_copy(update={"mode": "approval"})}),
        site.folder,
    )
    person, steward = await somebody("ada"), await somebody("steward")
    page = person.page
    await begin_to_register(person)
    await page.get_by_label("I have read").check()
    await page.get_by_role("button", name="Sign and register").click()
    await page.get_by_text("A steward has to approve").wait_for()
    await person.go("/s/course")
    await page.get_by_text("A steward has to approve").wait_for()
    await expect(page.get_by_role("link", name="Register")).to_have_count(0)
    await person.go("/s/course/register")
    await page.get_by_text("A steward has to approve").wait_for()
    await steward.go("/home")
    await steward.page.get_by_role("link", name="ada would like to take part").click()
    await steward.page.get_by_role("checkbox", name="Approve").check()
    await steward.page.get_by_role("button", name="Approve (1)").click()
    await page.get_by_text("Your workspace is ready.").wait_for(timeout=60_000)
    await person.accessible()


async def test_where_only_groups_may_be_seen_the_page_suggests_groups(somebody, site):
    grants = [{"to": "everybody", "dataset": "rain", "allow": ["query"], "min_group": 2}]
    await declare(site.platform, type(site.space).model_validate({**site.space.model_dump(exclude_defaults=True), "grants": grants}), site.folder)  # fmt: skip
    person = await somebody("ada")
    page = person.page
    await register(person)
    await person.go("/s/course/data/rain")
    await page.get_by_text("You see groups of at least 2").wait_for()
    await expect(page.get_by_role("button", name="Some rows")).to_have_count(0)
    await page.get_by_role("link", name="Ask it in SQL").click()
    await page.get_by_role("button", name="Run", exact=True).click()
    await page.get_by_role("cell", name="Porto").wait_for()
