"""Smaller jobs of each role: people are found and admitted, tokens made, modules forked, teams joined, data looked at."""

import re

import pytest
from playwright.async_api import expect

from tests.support import csv_file, declare, until
from tests.ui.conftest import begin_to_register, register


def changed(site, **changes):
    return type(site.space).model_validate({**site.space.model_dump(exclude_defaults=True), **changes})


async def apply(person):
    """As `register`, where somebody has to approve."""
    await begin_to_register(person)
    await person.page.get_by_label("I have read").check()
    await person.page.get_by_role("button", name="Sign and register").click()
    await person.page.get_by_text("A steward has to approve").first.wait_for()


async def test_a_steward_finds_people_admits_them_puts_one_out_and_brings_them_back(somebody, site):
    await declare(site.platform, changed(site, enrolment={"mode": "approval"}), site.folder)
    waiting = [await somebody(name) for name in ("ada", "berta")]
    for person in waiting:
        await apply(person)
    steward = await somebody("steward")
    page = steward.page
    await steward.go("/home")
    await page.get_by_role("link", name=re.compile("Ada")).click()
    await page.wait_for_url("**/people?state=applied")
    await page.get_by_role("row", name="Berta").wait_for()
    await page.get_by_role("textbox", name="Name, address or number").fill("bert")
    await expect(page.get_by_text("Ada", exact=True)).to_be_hidden()
    await page.get_by_text("Berta", exact=True).wait_for()
    await page.get_by_role("textbox", name="Name, address or number").fill("")
    await page.get_by_text("Ada", exact=True).wait_for()
    await page.get_by_label("Choose all that wait").check()
    await steward.accessible()
    await page.get_by_role("button", name="Approve (2)").click()
    await waiting[0].page.get_by_text("A steward has to approve").first.wait_for(state="hidden", timeout=30_000)
    await steward.go("/s/course/people?q=berta")
    await page.get_by_role("button", name="Remove").click()
    await page.get_by_role("dialog").get_by_label("Reason").fill("a mistake")
    await page.get_by_role("dialog").get_by_role("button").last.click()
    await page.get_by_role("button", name="Bring back").wait_for()
    await waiting[1].go("/s/course")
    await waiting[1].page.get_by_text("a mistake").wait_for()
    await expect(waiting[1].page.get_by_role("link", name="Register")).to_have_count(0)
    await page.get_by_role("button", name="Bring back").click()
    await expect(page.get_by_role("button", name="Bring back")).to_have_count(0)
    await steward.go("/s/course/agreements")
    await page.get_by_role("button", name="Who signed", exact=True).click()
    await page.get_by_role("row", name="Berta").wait_for()
    await steward.accessible()
    await steward.go("/s/course/audit")
    await page.get_by_role("combobox", name="Person: name").fill("bert")
    await page.get_by_role("option", name="Berta · p-").click()
    await expect(page.get_by_text("Berta", exact=True).first).to_be_visible()
    await until(lambda: _only(page), 10)


async def _only(page):
    shown = await page.locator("ol.timeline button.link").all_inner_texts()
    return shown and len({one for one in shown if one.startswith("p-")}) == 1


async def test_an_owner_says_by_a_list_who_may_enrol(somebody, site):
    owner = await somebody("owner")
    page = owner.page
    await owner.go("/s/course/settings")
    await page.get_by_role("combobox", name="Enrolment").press("ArrowDown")
    await page.get_by_role("option", name=re.compile("list", re.I)).click()
    await page.get_by_label("Addresses to add").fill("ada@test.example, from Lisbon\nno address\n")
    await page.get_by_role("button", name="Add them").click()
    await page.get_by_text("1 added, 0 were there, 1 are no addresses.").wait_for()
    await page.get_by_text("from Lisbon").wait_for()
    await owner.accessible()
    await page.get_by_role("button", name="Save").click()
    await page.get_by_text("Saved").first.wait_for()
    stranger, ada = await somebody("eve"), await somebody("ada")
    await register(ada)
    await begin_to_register(stranger)
    await stranger.page.get_by_label("I have read").check()
    await stranger.page.get_by_role("button", name="Sign and register").click()
    await stranger.page.get_by_text("not on this space's list yet").first.wait_for()
    await owner.go("/s/course/settings")
    await page.get_by_role("button", name="Remove: ada@test.example").click()
    await page.get_by_text("Nobody is on the list yet.").wait_for()


@pytest.mark.shipped_modules
async def test_one_makes_a_token_forks_a_module_and_leaves_a_space(somebody, site):
    person = await somebody("ada")
    page = person.page
    await register(person)
    await until(lambda: person.published("gauge"), 90, 0.3)
    await person.go("/account")
    await page.get_by_label("Name", exact=True).last.fill("my script")
    await page.get_by_role("button", name="New token").click()
    await page.get_by_text("my script").wait_for()
    token = await page.locator("input[readonly]").first.input_value()
    answer = await page.request.get(
        f"{site.base}/api/v1/me", headers={"Authorization": f"Bearer {token}", "Cookie": ""}
    )
    assert answer.ok, "it works"
    await person.accessible()
    await page.get_by_role("button", name="Revoke").click()
    await page.get_by_text("my script").wait_for(state="hidden")
    await person.go("/modules/gauge")
    await page.get_by_role("button", name="Make my own of it").click()
    await page.get_by_role("dialog").get_by_label("Name").fill("my-gauge")
    await page.get_by_role("dialog").get_by_role("button", name="Make my own of it").click()
    await page.wait_for_url("**/modules/my-gauge/edit")
    await page.get_by_role("button", name="Delete", exact=True).click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await page.wait_for_url("**/modules")
    await person.go("/s/course")
    await page.get_by_role("button", name="Leave this space").click()
    await page.get_by_role("dialog").get_by_role("button", name="Leave this space").click()
    await page.get_by_role("link", name="Register").wait_for()
    person.faults.clear()  # a fork without a picture


async def test_every_table_that_one_may_ask_can_be_looked_at_and_its_example_runs_as_it_is_written(somebody, site):
    more = csv_file(site.folder, "stations.csv", "station,town\n1,Faro\n2,Porto\n3,Porto\n")
    rain = site.space.model_dump(exclude_defaults=True)["datasets"][0]
    tables = [*rain["tables"], {"name": "stations", "source": more}]
    grants = [{"to": "everybody", "dataset": "rain", "allow": ["query"], "min_group": 2}]
    await declare(site.platform, changed(site, datasets=[{**rain, "tables": tables}], grants=grants), site.folder)
    person = await somebody("ada")
    page = person.page
    await register(person)
    await person.go("/s/course/data/rain")
    await page.get_by_role("combobox", name="Table").press("ArrowDown")
    await page.get_by_role("option", name="rain.stations").click()
    await page.get_by_role("combobox", name="How a column is spread").press("ArrowDown")
    await page.get_by_role("option", name="town").click()
    await page.get_by_role("img", name="How a column is spread: town").wait_for()
    said = await page.locator("pre", has_text="import cloister").inner_text()
    code = said.replace("import cloister", "").replace("cloister.sql(", "statement(").replace(".to_pandas()", "")
    asked = []
    exec(code, {"statement": asked.append})  # noqa: S102  (what a reader would copy)
    assert '"town"' in asked[0]
    assert "stations" in asked[0]
    await person.accessible()


async def test_a_viewer_reads_the_catalogue_and_meets_no_fault(somebody, site):
    await declare(
        site.platform, changed(site, roles={**site.space.roles, "viewer": ["vera@test.example"]}), site.folder
    )
    person = await somebody("vera")
    page = person.page
    await person.go("/s/course/data")
    await page.get_by_text("Rain in two towns").click()
    await page.get_by_role("heading", name="Rain in two towns").wait_for()
    await expect(page.get_by_role("cell", name="town", exact=True)).to_be_visible()
    await expect(page.get_by_role("alert")).to_have_count(0)
    await person.accessible()


async def test_one_space_whose_terms_are_unsigned_hides_nothing_of_another(somebody, site):
    other = changed(site, slug="other", title="Another course", datasets=[], grants=[])
    await declare(site.platform, other, site.folder)
    person = await somebody("ada")
    page = person.page
    await register(person)
    await person.call("POST", "/spaces/course/dashboards", {"team": await person.team(), "document": {"name": "Mine"}})
    await register(person, "other")
    terms = [{"name": "dua", "title": "Data use agreement", "text": "# Other terms\n"}]
    await declare(site.platform, changed(site, slug="other", title="Another course", datasets=[], grants=[], agreements=terms), site.folder)  # fmt: skip
    await person.go("/home")
    await page.get_by_role("heading", name="Mine").wait_for()
    await expect(page.get_by_role("alert")).to_have_count(0)


@pytest.mark.shipped_modules
@pytest.mark.parametrize("way", ["from right to left", "with little motion", "in the dark"])
async def test_the_main_pages_hold(somebody, site, way):
    options = {"with little motion": {"reduced_motion": "reduce"}, "in the dark": {"color_scheme": "dark"}}.get(way, {})
    person = await somebody("ada", **options)
    page = person.page
    if way == "from right to left":
        await page.add_init_script(
            "addEventListener('DOMContentLoaded', () => document.documentElement.setAttribute('dir', 'rtl'))"
        )
    await register(person)
    for path in (
        "/home",
        "/s/course",
        "/s/course/data/rain",
        "/s/course/sql",
        "/s/course/dashboards",
        "/modules",
        "/account",
    ):
        await person.go(path)
        await page.wait_for_load_state("networkidle")
        await person.accessible()
        wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, path
    if way == "with little motion":
        moving = "[...document.querySelectorAll('*')].filter((one) => parseFloat(getComputedStyle(one).transitionDuration) > 0.05).length"
        assert await page.evaluate(moving) == 0


@pytest.mark.shipped_modules
async def test_the_whole_application_speaks_german(somebody, site):
    """No English of the application's own is left on the pages that members and stewards use most."""
    person, steward = await somebody("ada"), await somebody("steward")
    await register(person)
    for who in (person, steward):
        await who.page.evaluate("localStorage.setItem('language', 'de')")
    english = re.compile(
        r"\b(the|and|your|you|with|open|running|ready|failed|refused|owner|steward|settings|nothing|search|until|changed)\b",
        re.IGNORECASE,
    )
    places = [(person, path) for path in ("/home", "/modules", "/account")]
    places += [
        (steward, f"/s/course/{name}")
        for name in ("people", "teams", "grants", "findings", "capacity", "exports", "sql")
    ]
    left = {}
    for who, path in places:
        await who.go(path)
        await who.page.wait_for_load_state("networkidle")
        text = await who.page.locator("body").inner_text()
        for own in ("A course on rain", "Learn to forecast.", "Rain in two towns", "Data use agreement", "by Cloister"):
            text = text.replace(own, "")
        if path == "/modules":  # what authors wrote is theirs
            text = await who.page.locator("header, nav, .head, .filters").all_inner_texts()
            text = "\n".join(text)
        found = sorted({word.lower() for word in english.findall(text)})
        if found:
            left[path] = found
    assert left == {}
