"""OCI images as root file systems: unpacked where they can harm nothing, run behind the same walls."""

import json
import os
import uuid

import pytest

from cloister.core.errors import CloisterError
from cloister.sandboxes import SandboxSpec, program_environ
from tests.images import base, image, layer
from tests.support import blueprint, declare, make_settings, served


@pytest.fixture
async def api(tmp_path):
    async with served(make_settings(tmp_path / "s")) as made:
        yield made


async def bring(api, name, path):
    said = []
    found = await api.platform.images.bring(name, path, lambda _level, text: said.append(text))
    return found, "".join(said)


async def run(api, client, *command, environment="busy"):
    return await api.run(client, "", command=list(command), environment=environment)


async def test_a_program_runs_on_an_image_of_its_own(api, tmp_path):
    second = layer(("www",), ("www/index.html", b"hello"), ("www/gone", b"x"), ("var",), ("var/run", "->", "/run"))
    third = layer(("www/.wh.gone", b""), ("var/run/note", b"through a link of the image"))
    made = image(
        tmp_path / "image",
        base(),
        second,
        third,
        Env=["PATH=/bin", "GREETING=hi", f"NEW={uuid.uuid4()}"],
        Cmd=["/bin/sh"],
    )
    found, said = await bring(api, "busy", made)
    assert "unpacked sha256:" in said
    assert found.command == ("/bin/sh",)
    root = found.path / "rootfs"
    assert (root / "www/index.html").read_text() == "hello"
    assert not (root / "www/gone").exists()
    assert (root / "run/note").read_text() == "through a link of the image"
    assert not (root / "bin/busybox").stat().st_mode & 0o6000, "no bits that lend rights"

    environments = [{"name": "busy", "image": "busy"}]
    await declare(api.platform, blueprint(environments=environments))
    ann = await api.member("ann")
    row, text = await run(
        api, ann, "sh", "-c", "id -u; echo $GREETING; ls /; cat /www/index.html; cat /etc/passwd; touch /x"
    )
    assert row["exit_code"] == 1, (row, text)
    assert text.startswith("1000\nhi\n")
    assert "hello" in text
    assert "user:x:1000" in text
    assert "touch: /x: Read-only file system" in text
    assert "usr" not in text.split("hello")[0].split("\n"), "the host's programs are not there"
    row, text = await run(
        api,
        ann,
        "sh",
        "-c",
        "echo mine > /home/user/a; cat /home/user/a; wget -q -O - http://127.0.0.1:3127/v1/datasets",
    )
    assert text.startswith("mine\n")
    assert "401" in text or "403" in text, "the inner API is there, and asks for the token"


async def test_an_image_that_wants_out_stays_inside(api, tmp_path):
    marker = tmp_path / "host"
    marker.mkdir()
    marker.chmod(0o777)
    evil = layer(
        ("escape", "->", str(marker)), ("escape/written", b"x"), ("../../../../written", b"x"), ("up", "->", "../../../.."),
        ("opt", "->", "/etc"), ("home", "->", str(marker)), ("proc", "->", str(marker)), ("disk", "device"),
        ("etc/passwd", "->", "/etc/shadow"),
    )  # fmt: skip
    found, _ = await bring(api, "evil", image(tmp_path / "image", base(), evil, Env=["PATH=/bin"]))
    assert list(marker.iterdir()) == []
    root = found.path / "rootfs"
    assert (root / str(marker).lstrip("/") / "written").read_bytes() == b"x", "inside its own root"
    assert (root / "written").read_bytes() == b"x"
    assert not os.path.lexists(root / "disk")
    for point in ("opt/cloister", "home/user", "proc"):
        assert (root / point).is_dir() and not (root / point).is_symlink()
    await declare(api.platform, blueprint(environments=[{"name": "evil", "image": "evil"}]))
    bob = await api.member("bob")
    row, text = await run(api, bob, "sh", "-c", "cat /etc/passwd; ls /up /escape", environment="evil")
    assert "root:" in text
    assert "$" not in text, "no password of the host's"
    assert list(marker.iterdir()) == []


async def test_what_is_no_image_says_why(api, tmp_path):
    (tmp_path / "empty").mkdir()
    other = image(tmp_path / "other", base())
    index = json.loads((other / "index.json").read_text())
    index["manifests"][0]["platform"]["architecture"] = "sparc"
    (other / "index.json").write_text(json.dumps(index))
    torn = image(tmp_path / "torn", base())
    for blob in (torn / "blobs" / "sha256").iterdir():
        if blob.stat().st_size > 100_000:
            blob.write_bytes(blob.read_bytes()[:50_000])
    for path, code in (
        (tmp_path / "nothing", "sandbox.bad_image"), (tmp_path / "empty", "sandbox.bad_image"),
        (other, "sandbox.build_failed"), (torn, "sandbox.build_failed"),
    ):  # fmt: skip
        with pytest.raises(CloisterError) as caught:
            await bring(api, "x", path)
        assert caught.value.code == code, path
    assert api.platform.images.all() == []
    for name in ("../x", "X", ""):
        with pytest.raises(CloisterError):
            await bring(api, name, other)
    await declare(api.platform, blueprint(environments=[{"name": "absent", "image": "absent"}]))
    cleo = await api.member("cleo")
    refused = await cleo.post("/spaces/course/sandboxes", json={"command": ["sh"], "environment": "absent"})
    assert refused.json()["code"] == "sandbox.image_not_found"


async def test_the_walls_are_the_same_on_an_image(api, tmp_path):
    """What a program on an image may is compared with what one on the host's programs may."""
    await bring(api, "busy", image(tmp_path / "image", base(), Env=["PATH=/bin"]))
    environments = [{"name": "busy", "image": "busy"}, {"name": "python-basic", "packages": ["pyarrow>=20"]}]
    await declare(api.platform, blueprint(environments=environments))
    dora = await api.member("dora")
    ask = "grep -E '^(Cap|NoNewPrivs|Seccomp:|Uid|Gid)' /proc/self/status; cat /proc/self/uid_map /proc/net/dev; ls /dev; touch /usr/x /etc/x"
    seen = {}
    for name in ("busy", "python-basic"):
        shell = ask if name == "python-basic" else ask.replace("grep", "busybox grep")
        row, text = await run(api, dora, "sh", "-c", shell, environment=name)
        seen[name] = [line.split() for line in text.splitlines() if not line.startswith("touch")]
        assert "written" not in text
    assert seen["busy"] == seen["python-basic"]


def test_a_spec_keeps_its_image():
    spec = SandboxSpec(command=("x",), environment=None, image="/i", size={}, environ=program_environ())
    assert SandboxSpec.load(spec.dump()).image == "/i"
