"""An installation's name and looks, changed by operators in the browser."""

from tests.support import blueprint, declare

BODY = {
    "name": "Data House", "color": "#aa3300", "welcome": "Welcome in.", "sign_in": "With your staff card.",
    "links": [{"text": "Imprint", "address": "https://house.example/imprint"}],
}  # fmt: skip
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 4"><script>alert(1)</script><rect width="4" height="4"/></svg>'


async def test_an_operator_changes_the_looks_and_lets_the_settings_hold_again(api):
    await declare(api.platform, blueprint())
    operator, stranger = await api.sign_in("operator"), api.anonymous()
    before = (await stranger.get("/platform")).json()
    assert (before["name"], before["logo"]) == ("Cloister", None)
    assert (await operator.put("/platform/branding", json=BODY)).status_code == 200
    now = (await stranger.get("/platform")).json()
    assert {name: now[name] for name in BODY} == BODY
    assert (await operator.put("/platform/logo", content=SVG)).status_code == 200
    logo = (await stranger.get("/platform")).json()["logo"]
    picture = await stranger.get(logo.removeprefix("/api/v1"))
    assert (picture.content, picture.headers["content-type"]) == (SVG, "image/svg+xml")
    assert picture.headers["content-security-policy"] == "default-src 'none'; style-src 'unsafe-inline'; sandbox"
    assert (await operator.delete("/platform/branding")).json()["name"] == "Cloister"
    assert (await stranger.get("/platform")).json() == before
    assert len(await api.records(name="platform:branding:change")) == 3


async def test_what_would_do_harm_is_refused(api):
    await declare(api.platform, blueprint())
    operator, member = await api.sign_in("operator"), await api.member("ann")
    for change in (
        {"links": [{"text": "x", "address": "javascript:alert(1)"}]}, {"color": "red"}, {"name": ""}, {"welcome": "x" * 601},
        {"links": [{"text": "x", "address": 'https://a.example/" onclick="x'}]},
    ):  # fmt: skip
        assert (await operator.put("/platform/branding", json={**BODY, **change})).status_code == 422, change
    assert (await operator.put("/platform/logo", content=b"GIF89a")).status_code == 422
    assert (await operator.put("/platform/logo", content=b"<svg" + b" " * 200_000)).status_code == 413
    assert (await member.put("/platform/branding", json=BODY)).status_code == 403
    assert (await member.put("/platform/logo", content=SVG)).status_code == 403
    assert (await api.anonymous().get("/platform/logo")).json()["code"] == "platform.no_logo"
