"""Large outputs go by reference: who looks is told that there is one, and fetches it when ready."""

from tests.live.conftest import PAGE, live_platform
from tests.workspaces.browser import chromium_browser

MAIN = """
import time, cloister
rows = ["x" * 100] * 4000
for n in range(100000):
    cloister.output({"n": n, "rows": rows})
    if n == 0:
        time.sleep(2)
    time.sleep(0.2)
"""


async def test_a_large_output_is_fetched_and_what_changes_of_it_is_sent(tmp_path):
    async with live_platform(tmp_path) as studio, chromium_browser() as browser:
        ann = await studio.person("ann")
        assert (await studio.publish(ann, "large", {"main.py": MAIN}))["state"] == "ready"
        page = PAGE.replace("JSON.stringify(d)", '`${d.rows.length} rows, ${d.n > 3 ? "many" : "few"}`')
        assert (await studio.publish(ann, "page", {"index.html": page}))["state"] == "ready"
        widget = {"id": "w", "module": "page", "source": {"integration": "i", "path": []}}
        board = await studio.dashboard(ann, [{"id": "i", "module": "large"}], [widget])
        async with studio.look(ann, board) as viewer:
            hello = await viewer.hear(lambda m: m["type"] == "INIT")
            said = await viewer.output()
            assert said["bytes"] > 400_000
            assert "model" not in said
            path, headers = f"/live/{hello['session']}/outputs/i", {"Live-Viewer": hello["key"]}
            stranger = studio.api.anonymous()
            answer = await stranger.get(path, headers=headers)
            assert answer.status_code == 200, answer.text
            whole = answer.json()
            assert whole["seq"] >= said["seq"]
            assert len(whole["model"]["rows"]) == 4000
            step = await viewer.hear(lambda m: m["type"] == "OUTPUT" and "patch" in m)
            assert step["patch"] == [{"op": "replace", "path": "/n", "value": step["seq"] - 1}]
            for key in ("", "guess", "é"):
                refused = await stranger.get(path, headers={"Live-Viewer": key.encode("latin-1")})
                assert refused.json()["code"] == "live.output_not_found"
        gone = await stranger.get(path, headers=headers)
        assert gone.json()["code"] == "live.output_not_found", "whoever has left fetches nothing more"

        share = await ann.post(f"/spaces/cup/dashboards/{board['id']}/shares", json={})
        visitor = await browser.new_page()
        await visitor.goto(share.json()["link"])
        await visitor.frame_locator("iframe").get_by_text("4000 rows, many").wait_for(timeout=30_000)
