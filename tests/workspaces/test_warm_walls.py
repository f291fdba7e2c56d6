"""A forked workspace has the walls of a started one: the same facts, and the same refusals."""

import json

import pytest

from cloister.spaces import JUPYTERLAB
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
        await client.post(f"/spaces/cup/teams/{desk.team}/workspace/stop")
        await desk.becomes("stopped")
        assert not await platform.backend.known()
        await desk.close()
        found = json.loads(printed)
        found["cgroup"] = [line.replace(state["sandbox"], "SANDBOX").split("/cloister-")[0] for line in found["cgroup"]]
        return found


@pytest.mark.timeout(120)
async def test_a_forked_workspace_has_every_wall_of_a_started_one(tmp_path):
    started = await facts_of(tmp_path / "cold", warm=False)
    forked = await facts_of(tmp_path / "warm", warm=True)
    assert forked == started
    assert {forked[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0000000000000000"}
    assert (forked["NoNewPrivs"], forked["Seccomp"], forked["environ"], forked["files"]) == ("1", "2", [], [])
    assert all(forked["spaces"].values())
    assert "WORKED" not in forked["tried"].values()
