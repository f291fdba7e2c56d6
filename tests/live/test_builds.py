"""Modules that have to be built: what npm installs and Go compiles, in sandboxes that reach little and leave nothing."""

import ipaddress
import socket
import subprocess
import uuid
from urllib.parse import urlsplit

import pytest

from cloister.sandboxes import BuildFailed, Job, Mount
from tests.images import base, image, layer
from tests.live.conftest import live_platform

GO_MOD = "module clock\n\ngo 1.24\n"
GO_MAIN = """package main

import (
	"fmt"
	"time"

	"visualbox"
)

func main() {
	fmt.Println("hello from", visualbox.MODEL["place"])
	for n := 1; ; n++ {
		visualbox.Output(map[string]any{"n": n, "place": visualbox.MODEL["place"]})
		time.Sleep(100 * time.Millisecond)
	}
}
"""
CONFIG = [{"type": "text", "name": "place", "label": "Place", "default": "nowhere"}]


@pytest.fixture(scope="module")
def registry_network():
    """Where this machine's npm fetches from: it may be a mirror with a private address, which an operator then names."""
    said = subprocess.run(["npm", "config", "get", "registry"], check=True, capture_output=True, text=True)
    host = urlsplit(said.stdout.strip().splitlines()[-1]).hostname
    addresses = {ipaddress.ip_address(entry[4][0]) for entry in socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)}
    return [str(address) for address in addresses if not address.is_global]


@pytest.fixture
async def studio(tmp_path, registry_network):
    async with live_platform(tmp_path, gateway="off", egress_allow_networks=registry_network) as made:
        yield made


async def log_of(client, name, version="1.0.0"):
    return (await client.get(f"/modules/{name}/releases/{version}/log")).json()["text"]


async def test_a_module_in_go_is_compiled_once_and_runs(studio):
    ann = await studio.person("ann")
    main = f"{GO_MAIN}// {uuid.uuid4()}\n"  # changes nothing, but is built anew
    files = {"main.go": main, "go.mod": GO_MOD, "config.json": CONFIG}
    release = await studio.publish(ann, "clock", files, seconds=300)
    assert release["state"] == "ready", release["reason"]
    assert "Compiling ..." in await log_of(ann, "clock")
    board = await studio.dashboard(ann, [{"id": "i", "module": "clock", "values": {"place": "Lisbon"}}])
    async with studio.look(ann, board) as viewer:
        said = await viewer.output()
        assert said["model"]["place"] == "Lisbon"
        await viewer.printed("hello from Lisbon")
    again = await studio.publish(ann, "clock2", files)
    assert again["state"] == "ready"
    assert "built before" in await log_of(ann, "clock2")


GO_SQL = """package main

import "cloister"

func main() {
	rows, err := cloister.SQL("select day, mm from rain where mm > ? order by day", []any{1})
	_, refused := cloister.SQL("select * from elsewhere", nil)
	cloister.Output(map[string]any{"rows": rows, "error": err, "refused": refused.Error()})
}
"""


async def test_a_program_in_go_asks_governed_data(studio):
    eve = await studio.person("eve")
    files = {"main.go": GO_SQL, "go.mod": GO_MOD, "module.yaml": "permissions: {datasets: true}\n"}
    assert (await studio.publish(eve, "asks", files, seconds=300))["state"] == "ready"
    async with studio.look(eve, await studio.dashboard(eve, [{"id": "i", "module": "asks"}])) as viewer:
        model = (await viewer.output())["model"]
    assert model["rows"] == [{"day": 1, "mm": 4.5}, {"day": 3, "mm": 12.5}]
    assert model["error"] is None
    assert model["refused"].startswith("There is no such table")


async def test_what_does_not_compile_says_where(studio):
    bob = await studio.person("bob")
    release = await studio.publish(
        bob, "broken", {"main.go": "package main\n\nfunc main() { nothing() }\n", "go.mod": GO_MOD}
    )
    assert release["state"] == "failed"
    assert "main.go:3:15: undefined: nothing" in release["reason"]


async def test_a_module_in_node_has_its_packages(studio):
    cleo = await studio.person("cleo")
    new = {f"cloister-{uuid.uuid4().hex}": "1.0.0"}  # changes nothing, but is built anew
    wanted = {"ms": "2.1.3", "visualbox": "*"}
    files = {
        "package.json": {"name": "m", "private": True, "dependencies": wanted, "overrides": new},
        "index.js": 'require("visualbox").output({ ms: require("ms")("2 days") });\nimport("ms").then((m) => require("cloister").output({ esm: m.default("1h") }));\nsetTimeout(() => {}, 60000);\n',
    }
    release = await studio.publish(cleo, "pauses", files)
    assert release["state"] == "ready", release["reason"]
    assert release["requirements"] == ["ms@2.1.3"]
    board = await studio.dashboard(cleo, [{"id": "i", "module": "pauses"}])
    async with studio.look(cleo, board) as viewer:
        await viewer.hear(lambda m: m["type"] == "OUTPUT" and m.get("model") == {"esm": 3_600_000} or m.get("patch"))
    reached = await studio.api.records(name="sandboxes:egress:allow")
    assert {r["person"] for r in reached} == {(await cleo.get("/me")).json()["number"]}, (
        "what a build reaches is on record"
    )


IMPORTS = """import { output, MODEL } from "cloister";
import visualbox from "visualbox";
import ms from "ms";
output({ place: MODEL.place, same: visualbox.MODEL.place, ms: ms("1h") });
setTimeout(() => {}, 60000);
"""


@pytest.mark.parametrize("way", ["without packages", "with packages"])
async def test_a_module_in_node_may_be_written_with_imports(studio, way):
    cleo = await studio.person("cleo")
    files = {"package.json": {"type": "module", "dependencies": {"cloister": "*", "ms": "2.1.3"}}}
    files |= {"index.js": IMPORTS, "config.json": CONFIG}
    if way == "without packages":
        files["package.json"] = {"type": "module"}
        files["index.js"] = IMPORTS.replace('import ms from "ms";\n', "").replace('ms("1h")', "3600000")
    release = await studio.publish(cleo, "modern", files)
    assert release["state"] == "ready", release["reason"]
    board = await studio.dashboard(cleo, [{"id": "i", "module": "modern", "values": {"place": "Faro"}}])
    async with studio.look(cleo, board) as viewer:
        assert (await viewer.output())["model"] == {"place": "Faro", "same": "Faro", "ms": 3_600_000}


async def test_a_package_that_is_not_there_is_named(studio):
    dora = await studio.person("dora")
    package = {"dependencies": {"ms": "999.0.0"}}
    release = await studio.publish(dora, "missing", {"package.json": package, "index.js": ""})
    assert release["state"] == "failed"
    assert "ms@999.0.0" in release["reason"]


ON_IMAGE = """
token=$(cat /dev/shm/cloister-token)
cat /dev/shm/cloister-configuration
body='{"from": "an image"}'
printf 'POST /v1/output HTTP/1.1\\r\\nHost: cloister\\r\\nAuthorization: Bearer %s\\r\\nContent-Length: %s\\r\\n\\r\\n%s' \\
    "$token" "${#body}" "$body" | nc 127.0.0.1 3127
sleep 60
"""


async def test_a_module_may_run_on_an_image(studio, tmp_path):
    fay = await studio.person("fay")
    manifest = "image: shell\ncommand: [sh, /opt/module/run.sh]\n"
    files = {"module.yaml": manifest, "run.sh": ON_IMAGE, "config.json": CONFIG}
    release = await studio.publish(fay, "shell", files)
    assert release["state"] == "failed"
    assert "does not have the image “shell”" in release["reason"]
    links = [(f"bin/{name}", "->", "busybox") for name in ("nc", "printf", "sleep")]
    made = image(tmp_path / "image", base(), layer(*links), Env=["PATH=/bin"])
    await studio.api.platform.images.bring("shell", made, lambda _level, _text: None)
    assert (await studio.publish(fay, "shell", files, "1.0.1"))["state"] == "ready"
    board = await studio.dashboard(fay, [{"id": "i", "module": "shell", "values": {"place": "Faro"}}])
    async with studio.look(fay, board) as viewer:
        assert (await viewer.output())["model"] == {"from": "an image"}
        await viewer.printed('"place": "Faro"')


HOSTILE = """
import os, socket, sys
os.makedirs("/home/user/result")
kind = sys.argv[1]
if kind == "link":
    os.symlink("/etc/shadow", "/home/user/result/x")
if kind == "relative link":
    os.symlink("../../../../etc/shadow", "/home/user/result/x")
if kind == "result":
    os.rmdir("/home/user/result")
    os.symlink("/etc", "/home/user/result")
if kind == "pipe":
    os.mkfifo("/home/user/result/x")
if kind == "holes":
    os.truncate(os.open("/home/user/result/x", os.O_CREAT | os.O_RDWR), 2**40)
if kind == "names":
    with open("/home/user/result/x", "wb") as file:
        file.write(bytes(10_000_000))
    for n in range(60):
        os.link("/home/user/result/x", f"/home/user/result/{n}")
if kind == "disk":
    with open("/home/user/result/x", "wb") as file:
        while True:
            file.write(os.urandom(1_000_000))
if kind == "memory":
    hog = [bytes([1]) * 2**20 for _ in range(10_000)]
if kind == "time":
    import time
    time.sleep(600)
if kind == "outside":
    assert os.listdir("/data") == [] and not os.path.exists("/run/cloister/egress.sock")
    socket.create_connection(("127.0.0.1", 3128), 2).sendall(b"CONNECT registry.example:443 HTTP/1.1\\r\\n\\r\\n")
    open("/opt/module/written", "w")
"""


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("link", "leads out of it"),
        ("relative link", "leads out of it"),
        ("result", "left nothing"),
        ("pipe", "neither a file nor a folder"),
        ("holes", "more than a build"),
        ("names", "more than a build"),
        ("disk", "exit code 1"),
        ("memory", "more memory"),
        ("time", "longer than"),
        ("outside", "exit code 1"),
    ],
)
async def test_a_hostile_build_harms_nobody(studio, tmp_path, kind, said):
    platform = studio.api.platform
    module = tmp_path / "module"
    module.mkdir()
    module.chmod(0o755)
    (module / "build.py").write_text(HOSTILE)
    platform.settings.build_seconds = 5 if kind == "time" else 60
    platform.settings.build_memory_megabytes = 128
    platform.settings.build_disk_megabytes = 128
    taken = tmp_path / "taken"

    taken.mkdir()
    with pytest.raises(BuildFailed) as failure:
        job = Job(("python3", "/opt/module/build.py", kind), mounts=(Mount(str(module), "/opt/module"),))
        await platform.layers.workshop.make(job, lambda _level, _text: None, taken)
    assert said in failure.value.detail
    assert not (taken / "x").exists() or kind in {"names", "holes"}
    assert platform.disks.named("build-") == []
    assert await platform.backend.known() == set()
    assert not (module / "written").exists()


@pytest.fixture
def go_proxy(tmp_path, monkeypatch):
    """A proxy of Go modules on this machine, that has one module; yields the network to allow."""
    import functools
    import http.server
    import io
    import threading
    import zipfile

    folder = tmp_path / "proxy" / "example.org" / "greeting" / "@v"
    folder.mkdir(parents=True)
    mod = "module example.org/greeting\n\ngo 1.24\n"
    (folder / "list").write_text("v1.0.0\n")
    (folder / "v1.0.0.info").write_text('{"Version":"v1.0.0","Time":"2026-01-01T00:00:00Z"}')
    (folder / "v1.0.0.mod").write_text(mod)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("example.org/greeting@v1.0.0/go.mod", mod)
        archive.writestr("example.org/greeting@v1.0.0/hello.go", 'package greeting\n\nconst Word = "from a proxy"\n')
    (folder / "v1.0.0.zip").write_bytes(out.getvalue())

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path / "proxy"))
    with http.server.ThreadingHTTPServer(("0.0.0.0", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("GOPROXY", f"http://{socket.gethostname()}:{server.server_port}")
        monkeypatch.setenv("GOSUMDB", "off")
        yield [socket.gethostbyname(socket.gethostname())]
        server.shutdown()


async def test_a_module_in_go_has_its_packages_from_a_proxy(tmp_path, go_proxy):
    main = """package main

import (
	"time"

	"cloister"
	"example.org/greeting"
)

func main() {
	cloister.Output(greeting.Word)
	time.Sleep(time.Hour)
}
"""
    needs = f"{GO_MOD}\nrequire example.org/greeting v1.0.0\n"
    async with live_platform(tmp_path, gateway="off", egress_allow_networks=go_proxy) as studio:
        ann = await studio.person("ann")
        files = {"main.go": f"{main}// {uuid.uuid4()}\n", "go.mod": needs}
        release = await studio.publish(ann, "greeter", files, seconds=300)
        assert release["state"] == "ready", release["reason"]
        assert release["requirements"] == ["example.org/greeting@v1.0.0"]
        board = await studio.dashboard(ann, [{"id": "i", "module": "greeter"}])
        async with studio.look(ann, board) as viewer:
            assert (await viewer.output())["model"] == "from a proxy"
