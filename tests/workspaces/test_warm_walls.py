"""A forked workspace has the walls of a started one: the same facts, and the same refusals."""

import json
import re
from datetime import UTC, datetime

import pytest

from cloister.sandboxes import OutputLog
from cloister.spaces import JUPYTERLAB
from tests.support import until
from tests.workspaces.conftest import Desk, gateway_platform, lab_blueprint

FACTS = """
import ctypes, json, os, resource, socket
libc = ctypes.CDLL(None, use_errno=True)
server = os.getppid()
status = dict(l.split(":\\t", 1) for l in open(f"/proc/{server}/status").read().splitlines() if ":\\t" in l)
facts = {k: status[k].strip() for k in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Uid", "Gid", "Groups", "Umask")}
facts["limits"] = [resource.prlimit(server, r) for r in (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE)]
facts["cgroup"] = sorted(open(f"/proc/{server}/cgroup").read().split())
facts["spaces"] = {n: os.readlink(f"/proc/{server}/ns/{n}") == os.readlink(f"/proc/self/ns/{n}") for n in ("user", "pid", "mnt", "net", "ipc", "uts", "cgroup")}
facts["pids"] = sorted(int(p) for p in os.listdir("/proc") if p.isdigit()) != [] and 1 in [int(p) for p in os.listdir("/proc") if p.isdigit()]
facts["many"] = len([p for p in os.listdir("/proc") if p.isdigit()]) < 12
facts["oom"] = open(f"/proc/{server}/oom_score_adj").read().strip()
links = [os.readlink(f"/proc/{server}/fd/{d}") for d in os.listdir(f"/proc/{server}/fd") if os.path.islink(f"/proc/{server}/fd/{d}")]
facts["files"] = sorted({link.split("/")[1] for link in links if link.startswith("/")} & {"work", "root", "var", "sys"})
facts["environ"] = sorted(k for k in open(f"/proc/{server}/environ").read().split("\\0") if "TOKEN=" in k.split("=")[0] + "=" or "SECRET" in k)
def attempt(action):
    try:
        action()
        return "WORKED"
    except OSError as error:
        return os.strerror(error.errno or 0)
def call(name, *arguments):
    if libc[name](*arguments) != 0:
        raise OSError(ctypes.get_errno(), "")
facts["tried"] = {
    "mount": attempt(lambda: call("mount", b"none", b"/tmp", b"tmpfs", 0, None)),
    "unshare": attempt(lambda: call("unshare", 0x10000000)),
    "setns": attempt(lambda: call("setns", os.open("/proc/self/ns/net", 0), 0)),
    "ptrace": attempt(lambda: call("ptrace", 16, server, 0, 0)),
    "keyctl": attempt(lambda: call("syscall", 250, 0, -3, 0)),
    "raw": attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)),
    "shadow": attempt(lambda: open("/etc/shadow")),
    "usr": attempt(lambda: open("/usr/x", "w")),
    "net": attempt(lambda: socket.create_connection(("1.1.1.1", 443), 1)),
    "jupyter": attempt(lambda: open("/opt/jupyter/lib/x", "w")),
}
print(json.dumps(facts))
"""


async def facts_of(folder, *, warm):
    async with gateway_platform(folder, lab_blueprint(), warm_starts=warm) as api:
        platform = api.platform
        if warm:
            built = await platform.environments.ensure(JUPYTERLAB)
            await platform.backend.warm_up(built.path)
            await platform.backend.zygote.ready.wait()
        client = await api.member("ada", "cup")
        team = (await client.post("/spaces/cup/teams", json={"name": "blue"})).json()
        desk = Desk(api, client, team["number"], "blue")
        await desk.enter()
        state = await desk.start()
        assert (platform.backend.zygote is not None and platform.backend.zygote.forks == 1) == warm
        async with await desk.kernel() as kernel:
            printed, _ = await kernel.run(FACTS)
        answers = await answers_of(desk)
        await client.post(f"/spaces/cup/teams/{desk.team}/workspace/stop")
        await desk.becomes("stopped")
        assert not await platform.backend.known()
        await desk.close()
        found = {**json.loads(printed), "answers": answers}
        found["cgroup"] = [line.replace(state["sandbox"], "SANDBOX").split("/cloister-")[0] for line in found["cgroup"]]
        return found


EXTENSION = """
import pathlib
folder = pathlib.Path(".local/share/jupyter/labextensions/ours/static")
folder.mkdir(parents=True)
(folder / "x.js").write_text("1")
"""


async def again(desk):
    """Restart a workspace."""
    before = (await desk.workspace())["sandbox"]
    await desk.client.post(f"/spaces/cup/teams/{desk.team}/workspace/restart")

    async def there():
        found = await desk.workspace()
        return found["state"] == "running" and found["sandbox"] != before

    await until(there, 30)


async def asked(desk, path, method="GET"):
    status, _, body = await desk.get(path, method)
    return status, json.loads(body or b"null")


async def answers_of(desk):
    """What a page is told by a server that has just started: its settings, and what it can do."""
    _, _, page = await desk.get("/lab")
    (settings,) = re.findall(
        rb'<script id="jupyter-config-data" type="application/json">(.*?)</script>', page, re.DOTALL
    )
    found = {"page": json.loads(settings)}
    for path in ("/api/kernelspecs", "/api/terminals", "/lab/api/settings", "/api/me"):
        found[path] = await asked(desk, path)
    async with await desk.kernel() as kernel:
        await kernel.run(EXTENSION)
    await again(desk)
    _, headers, _ = await desk.get("/lab/extensions/ours/static/x.js")
    found["a team's extension"] = headers["Cache-Control"]
    _, listed = await asked(desk, "/api/contents")
    found["files"] = sorted(one["name"] for one in listed["content"])
    _, status = await asked(desk, "/api/status")
    assert (datetime.now(UTC) - datetime.fromisoformat(status["started"])).total_seconds() < 60, "when it was forked"
    found = json.dumps(found).replace(desk.host, "HOST")
    return json.loads(re.sub(r"20\d\d-\d\d-\d\dT[\d:.]+", "then", found))


@pytest.mark.timeout(120)
async def test_a_forked_workspace_has_every_wall_of_a_started_one_and_answers_like_it(tmp_path):
    started = await facts_of(tmp_path / "cold", warm=False)
    forked = await facts_of(tmp_path / "warm", warm=True)
    assert forked.pop("answers") == started.pop("answers")
    assert forked == started
    assert {forked[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0000000000000000"}
    assert (forked["NoNewPrivs"], forked["Seccomp"], forked["environ"], forked["files"]) == ("1", "2", [], [])
    assert all(forked["spaces"].values())
    assert "WORKED" not in forked["tried"].values()


OWN = """{"ContentsManager": {"untitled_file": "ours"}}"""
ANEW = "JupyterLab starts from the beginning"
"""What a server says that could not begin as one that had booted."""


async def said_by(api, desk):
    place = api.platform.sandbox_controller.place((await desk.workspace())["sandbox"])
    return "".join([json.loads(line)["text"] async for line in OutputLog(place.log, 0).lines(follow=False)])


@pytest.mark.parametrize("terminals", ["allowed", "blocked"])
async def test_settings_of_a_teams_own_count_in_a_forked_workspace_too(tmp_path, terminals):
    """It is forked from a server that had booted before anybody asked: the usual boot has to follow then."""
    async with gateway_platform(tmp_path, lab_blueprint(policies={"terminals": terminals}), warm_starts=True) as api:
        built = await api.platform.environments.ensure(JUPYTERLAB)
        await api.platform.backend.warm_up(built.path)
        await api.platform.backend.zygote.ready.wait()
        client = await api.member("ada", "cup")
        team = (await client.post("/spaces/cup/teams", json={"name": "blue"})).json()
        desk = Desk(api, client, team["number"], "blue")
        await desk.enter()
        await desk.start()
        try:
            assert ((await asked(desk, "/api/terminals", "POST"))[0] == 200) == (terminals == "allowed")
            assert ANEW not in await said_by(api, desk)
            async with await desk.kernel() as kernel:
                await kernel.run(
                    f"import pathlib; pathlib.Path('.jupyter/jupyter_server_config.json').write_text({OWN!r})"
                )
            await again(desk)
            assert (await asked(desk, "/api/contents", "POST"))[1]["name"] == "ours"

            async def said():
                return f"{ANEW}: there are settings of your own: ['jupyter_server_config.json']" in await said_by(
                    api, desk
                )

            await until(said, 5)

            async def forked_again():
                return api.platform.backend.zygote.forks == 2

            await until(forked_again, 5)
        finally:
            await desk.close()
