"""What holds on every page, whoever looks."""

import pytest
from playwright.async_api import expect

from tests.support import declare
from tests.ui.conftest import register

PHONE = {"width": 390, "height": 844}


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


@pytest.mark.shipped_modules
async def test_no_page_is_wider_than_a_phone(somebody, site):
    member, steward, operator = await somebody("ada"), await somebody("steward", viewport=PHONE), await somebody("operator", viewport=PHONE)  # fmt: skip
    await register(member)
    places = [(steward, f"/s/course/{name}") for name in ("people", "teams", "data", "data/rain", "agreements", "grants", "audit", "findings", "capacity", "usage", "exports", "sql", "settings")]  # fmt: skip
    places += [(steward, path) for path in ("/home", "/modules", "/account", "/s/course")]
    places += [(operator, f"/operator?tab={tab}") for tab in ("health", "programs", "spaces", "people", "environments", "settings", "branding")]  # fmt: skip
    wide = []
    for person, path in places:
        await person.go(path)
        await person.page.wait_for_load_state("networkidle")
        width = await person.page.evaluate("document.documentElement.scrollWidth")
        if width > PHONE["width"]:
            wide.append((path, width))
    assert wide == []
