"""What can be done on a dashboard with a pointer and with keys, and to a dashboard as a whole."""

import json
import re

import pytest
from playwright.async_api import expect

from tests.support import until
from tests.ui.conftest import register

pytestmark = pytest.mark.shipped_modules

TEXTS = {
    "name": "Board",
    "integrations": [{"id": "s", "module": "simulated-sensors", "values": {"stations": 2, "seconds": 0.5}}],
    "widgets": [
        {"id": "one", "module": "text", "title": "First", "x": 0, "y": 0, "width": 6, "height": 4, "values": {"text": "one"}},
        {"id": "two", "module": "text", "title": "Second", "x": 6, "y": 0, "width": 6, "height": 4, "values": {"text": "two"}},
    ],
}  # fmt: skip


async def opened(person):
    await register(person)
    await until(lambda: person.published("text", "simulated-sensors"), 90, 0.3)
    made = await person.call("POST", "/spaces/course/dashboards", {"team": await person.team(), "document": TEXTS})
    return made["id"]


async def kept(page, site, board):
    found = await page.request.get(f"{site.base}/api/v1/spaces/course/dashboards/{board}")
    return (await found.json())["document"]


async def test_widgets_are_moved_sized_copied_locked_and_removed_and_all_of_it_can_be_taken_back(somebody, site):
    person = await somebody("ada")
    page, board = person.page, await opened(person)
    await person.go(f"/s/course/dashboards/{board}?edit")
    first = page.get_by_role("region", name="First")
    await page.frame_locator("section.widget iframe").first.get_by_text("one").wait_for()

    async def widget(name="one"):
        return next((one for one in (await kept(page, site, board))["widgets"] if one["id"] == name), None)

    async def drag(handle, right, down):
        box = await handle.bounding_box()
        at = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        await page.mouse.move(*at)
        await page.mouse.down()
        await page.mouse.move(at[0] + right / 2, at[1] + down / 2, steps=4)
        await page.mouse.move(at[0] + right, at[1] + down, steps=4)
        await page.mouse.up()

    await drag(first.get_by_role("button", name="Move"), 0, 200)
    await until(lambda: _is(widget, lambda one: one["y"] >= 4), 10)
    await drag(first.get_by_role("button", name="First Size"), 150, 60)
    await until(lambda: _is(widget, lambda one: one["width"] > 6), 10)
    await page.keyboard.press("Control+z")
    await until(lambda: _is(widget, lambda one: one["width"] == 6), 10)
    await page.get_by_role("button", name="Redo").click()
    await until(lambda: _is(widget, lambda one: one["width"] > 6), 10)
    await first.get_by_role("button", name="Settings").click()
    await page.get_by_role("button", name="Copy").click()
    await expect(page.locator("section.widget")).to_have_count(3)
    await first.first.get_by_role("button", name="Settings").click()
    await page.get_by_role("button", name="Lock").click()
    await until(lambda: _is(widget, lambda one: one["locked"]), 10)
    await expect(first.first.get_by_role("button", name="Move")).to_be_disabled()
    second = page.get_by_role("region", name="Second")
    await second.get_by_role("button", name="Settings").click()
    await page.get_by_role("complementary").get_by_role("button", name="Remove").click()
    await expect(second).to_be_hidden()
    await until(lambda: _is(lambda: widget("two"), lambda one: one is None), 10)
    await page.get_by_role("button", name="Undo").click()
    await expect(second).to_be_visible()
    await page.get_by_label("Background").fill("#203040")
    await page.get_by_label("Background").blur()

    async def painted():
        return (await kept(page, site, board))["background"] == "#203040"

    await until(painted, 10)
    await person.accessible()


async def _is(find, fits):
    found = await find()
    return fits(found) or None if found is not None or fits(None) is True else None


async def test_a_source_is_restarted_and_its_console_is_read(somebody, site):
    person = await somebody("ada")
    page, board = person.page, await opened(person)
    await person.go(f"/s/course/dashboards/{board}?edit")
    await page.get_by_role("group", name="Sources").get_by_role("button", name=re.compile("sensors", re.I)).click()
    await page.get_by_role("tab", name="What it delivers").click()
    await page.get_by_role("button", name=re.compile("stations")).first.wait_for(timeout=30_000)
    await page.get_by_role("tab", name="Console").click()
    await page.get_by_role("log").wait_for()
    before = {one.id for one in await _live(site)}
    await page.get_by_role("button", name="Restart").click()

    async def another():
        now = {one.id for one in await _live(site)}
        return now and not now & before

    await until(another, 30, 0.2)


async def _live(site):
    from cloister.access import scoped_select
    from cloister.core.principal import EVERYTHING
    from cloister.sandboxes import LIVE, Sandbox

    query = scoped_select(Sandbox, EVERYTHING).where(Sandbox.purpose == "integration", Sandbox.state.in_(list(LIVE)))
    async with site.platform.database.read() as uow:
        return (await uow.session.scalars(query)).all()


async def test_a_dashboard_is_shown_whole_copied_taken_elsewhere_and_deleted(somebody, site, tmp_path):
    person = await somebody("ada")
    page, board = person.page, await opened(person)
    await person.go(f"/s/course/dashboards/{board}")
    await page.get_by_role("button", name="Full screen").click()
    await page.wait_for_url("**kiosk**")
    await expect(page.get_by_role("button", name="Edit")).to_be_hidden()
    await page.get_by_role("button", name="Close").click()
    await page.get_by_role("button", name="Edit").click()
    async with page.expect_download() as download:
        await page.get_by_role("link", name="Export", exact=True).click()
    await (await download.value).save_as(tmp_path / "board.json")
    assert json.loads((tmp_path / "board.json").read_text())["name"] == "Board"
    await page.get_by_role("button", name="Duplicate").click()
    await expect(page.get_by_role("heading", name="Board (copy)")).to_be_visible()
    await person.go("/s/course/dashboards")
    await page.get_by_label("Import").set_input_files(tmp_path / "board.json")
    await page.wait_for_url("**?edit")
    await page.get_by_role("button", name="Delete").click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await page.wait_for_url("**/dashboards")
    await expect(page.locator(".v-card h3")).to_have_count(2)


async def test_a_share_is_paused_shown_again_and_revoked(somebody, site):
    person, stranger = await somebody("ada"), await somebody()
    page, board = person.page, await opened(person)
    await person.go(f"/s/course/dashboards/{board}")
    await page.get_by_role("button", name="Share").click()
    await page.get_by_role("button", name="Make a link").click()
    link = await page.get_by_role("dialog").locator("input[readonly]").input_value()
    await stranger.page.goto(link)
    await stranger.page.frame_locator("iframe").first.get_by_text("one").wait_for()
    await page.get_by_role("button", name="Pause").click()
    await stranger.page.get_by_text("paused").first.wait_for()
    await page.get_by_role("button", name="Show again").click()
    await stranger.page.frame_locator("iframe").first.get_by_text("one").wait_for(timeout=30_000)
    await page.get_by_role("button", name="Revoke").click()
    await page.get_by_role("button", name="Really revoke?").click()
    await stranger.page.locator("#word").get_by_text(re.compile("shows nothing", re.I)).wait_for()


async def test_what_could_not_be_saved_is_not_lost_by_leaving(somebody, site):
    person = await somebody("ada")
    page, board = person.page, await opened(person)
    await person.go(f"/s/course/dashboards/{board}?edit")
    await page.frame_locator("section.widget iframe").first.get_by_text("one").wait_for()
    await page.context.set_offline(True)
    await page.get_by_role("region", name="First").get_by_role("button", name="Move").press("ArrowDown")
    await page.get_by_role("alert").first.wait_for()
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss())[1])
    await page.get_by_role("link", name="Dashboards").first.click()
    await until(lambda: _said(asked), 10)
    assert "/dashboards/" in page.url, "it stays where it is"
    await page.context.set_offline(False)

    async def moved():
        return next(one for one in (await kept(page, site, board))["widgets"] if one["id"] == "one")["y"] > 0

    await until(moved, 30, 0.2)
    person.faults.clear()  # that nobody could be reached


async def _said(asked):
    return bool(asked)
