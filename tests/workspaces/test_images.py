"""A workspace that is no Jupyter and none of the host's programs: an OCI image with a web server in it."""

from tests.images import base, image, layer
from tests.workspaces.conftest import gateway_platform, lab_blueprint
from tests.workspaces.test_policies import at_a_desk


async def test_a_team_opens_what_an_image_serves(tmp_path):
    page = layer(("www",), ("www/index.html", b"<h1>from an image</h1>"))
    command = ["httpd", "-f", "-p", "127.0.0.1:8080", "-h", "."]
    made = image(tmp_path / "image", base(), page, Env=["PATH=/bin"], WorkingDir="/www", Cmd=command)
    declared = lab_blueprint(environments=[{"name": "web", "image": "web", "app": {"port": 8080}}])
    async with gateway_platform(tmp_path, declared) as api:
        await api.platform.images.bring("web", made, lambda _level, _text: None)
        ada = await at_a_desk(api)
        status, _, body = await ada.get("/", document=True)
        assert (status, body) == (200, b"<h1>from an image</h1>")
        await ada.close()
