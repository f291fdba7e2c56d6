"""Files: a sandbox sees its own volume and scratch, nothing of the host or of a rival, and writes nowhere else."""

import asyncio
import os
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support import until

pytestmark = pytest.mark.asyncio(loop_scope="module")
MARK = "CANARY-6f1d2c"
DEVICES = {f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")}
WRITABLE = {"/tmp", "/dev/shm", "/home/user", "/run/app"}

READ = """
import os, attack
targets = {targets}

def read(path):
    with open(path, "rb", buffering=0) as file:
        return file.read(200)

for path in targets:
    attack.attempt("read " + path, os.listdir if os.path.isdir(path) else read, path)
    attack.attempt("climb " + path, read, "/" + "../" * 40 + path.lstrip("/"))
    attack.attempt("through self root " + path, read, "/proc/self/root" + path)
    attack.attempt("through self cwd " + path, read, "/proc/self/cwd/" + "../" * 20 + path)
    link = "/tmp/link"
    os.symlink(path, link)
    attack.attempt("through a link " + path, read, link)
    os.unlink(link)
folder = os.open("/", os.O_PATH)
attack.attempt("openat above the root", lambda: os.stat("../../../root/.bashrc", dir_fd=folder).st_ino)
found = []
for top, folders, names in os.walk("/"):
    if top in ("/proc", "/usr", "/opt/env", "/opt/python", "/sys"):
        folders[:] = []
        continue
    found += [os.path.join(top, name) for name in names + folders if "{mark}" in name]
processes = [name for name in os.listdir("/proc") if name.isdigit()]
attack.report(found=found, processes=processes, root=sorted(os.listdir("/")), sys=os.listdir("/sys"))
"""

WRITE = """
import os, attack

def create(folder):
    path = os.path.join(folder, "owned")
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    os.unlink(path)

def overwrite(path):
    descriptor = os.open(path, os.O_WRONLY)
    try:
        if os.fstat(descriptor).st_rdev == os.makedev(1, 3):
            raise OSError(13, "masked: it is /dev/null")
        os.write(descriptor, b"0 0 1")
    finally:
        os.close(descriptor)

folders = ["/", "/usr", "/usr/bin", "/usr/lib", "/etc", "/etc/ssl/certs", "/opt", "/opt/cloister", "/opt/cloister/python",
           "/opt/env", "/opt/env/lib", "/opt/python", "/opt/worker", "/run", "/run/cloister", "/data", "/out", "/sys",
           "/dev", "/dev/pts", "/home", "/var", "/var/tmp", "/proc", "/proc/sys", "/proc/sys/kernel", "/sys/fs/cgroup"]
files = ["/etc/passwd", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt", "/opt/cloister/agent.py", "/usr/bin/env",
         "/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/vm/drop_caches",
         "/proc/sys/kernel/modprobe", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/ns_last_pid",
         "/proc/1/oom_score_adj", "/proc/1/mem", "/proc/1/uid_map", "/proc/self/uid_map", "/proc/self/setgroups",
         "/proc/irq/default_smp_affinity", "/proc/mtrr", "/proc/1/attr/current", "/proc/1/coredump_filter",
         "/proc/kcore", "/proc/kmsg"]
for folder in folders:
    attack.attempt("create in " + folder, create, folder)
for path in files:
    attack.attempt("overwrite " + path, overwrite, path)

def lower_own_score():
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("-1000")

attack.attempt("hide from the memory killer", lower_own_score)
attack.attempt("unlink the inner socket", os.unlink, "/run/cloister/inner.sock")
attack.attempt("rename the inner socket", os.rename, "/run/cloister/inner.sock", "/run/cloister/x")
attack.attempt("chmod the inner socket", os.chmod, "/run/cloister/inner.sock", 0)
attack.attempt("link the inner socket elsewhere", os.link, "/run/cloister/inner.sock", "/run/app/inner")
attack.attempt("link a host file into the volume", os.link, "/usr/bin/env", "/home/user/env")
attack.attempt("chmod the agent", os.chmod, "/opt/cloister/agent.py", 0o777)
attack.attempt("remove a mount point", os.rmdir, "/data")
writable = []
for top, folders, names in os.walk("/"):
    if top == "/proc" or top.count("/") > 5:
        folders[:] = []
        continue
    try:
        create(top)
        writable.append(top)
    except OSError:
        pass
mounts = [line.split()[:4] for line in open("/proc/mounts")]
attack.report(writable=writable, mounts=mounts, mountinfo=open("/proc/self/mountinfo").read())
"""

AGENT = """
import os, attack

def read(path):
    with open(path, "rb", buffering=0) as file:
        return file.read(100)

for name in ("environ", "mem", "maps", "smaps", "auxv", "stack", "syscall", "pagemap", "io", "personality", "timerslack_ns"):
    attack.attempt(name, read, "/proc/1/" + name)
attack.attempt("fd", os.listdir, "/proc/1/fd")
attack.attempt("fd 3", os.readlink, "/proc/1/fd/3")
attack.attempt("root", os.listdir, "/proc/1/root/")
attack.attempt("cwd", os.readlink, "/proc/1/cwd")
attack.attempt("exe", os.readlink, "/proc/1/exe")
attack.attempt("map_files", os.listdir, "/proc/1/map_files")
attack.attempt("namespace", os.readlink, "/proc/1/ns/mnt")
attack.attempt("task memory", read, "/proc/1/task/1/mem")
attack.attempt("token file", read, "/run/cloister/token")
every = ""
for name in ("environ", "cmdline", "mounts", "mountinfo", "status", "cgroup", "limits", "maps"):
    every += open("/proc/self/" + name, errors="replace").read()
    try:
        every += open("/proc/1/" + name, errors="replace").read()
    except OSError:
        pass
attack.report(every=every, environ=dict(os.environ), cgroup=open("/proc/self/cgroup").read(),
              sockets=os.listdir("/run/cloister"))
"""


def targets(arena) -> list[str]:
    state = arena.state
    (state / f"{MARK}.txt").write_text(MARK)
    (state / f"{MARK}.txt").chmod(0o644)
    fixed = [
        "/etc/shadow", "/root", "/proc/1/environ", "/proc/1/mem", "/proc/1/root/etc/shadow", "/proc/kcore", "/proc/kmsg",
        "/proc/kallsyms", "/proc/keys", "/proc/cmdline", "/proc/iomem", "/proc/partitions", "/proc/modules",
        "/proc/timer_list", "/proc/diskstats", "/proc/swaps", "/dev/mem", "/dev/kmsg", "/dev/vda", "/dev/sda",
        "/dev/nvme0n1", "/dev/loop0", "/dev/loop-control", "/dev/fuse", "/dev/kvm", "/dev/net/tun", "/dev/mapper/control",
        "/run/cloister/operator-token", "/run/cloister/token", "/sys/class/net", "/sys/kernel/notes", "/sys/fs/cgroup",
        "/var/run/docker.sock", "/run/systemd/private", "/boot", "/lost+found", "/work",
    ]  # fmt: skip
    settings = arena.platform.settings
    return [
        *fixed, str(state), str(state / f"{MARK}.txt"), str(settings.run_directory), str(settings.run_directory / "operator-token"),
        str(settings.run_directory / "volumes"), str(state / "volumes"), str(state / "objects"), str(state / "cloister.db"),
        str(Path(__file__).resolve()),
    ]  # fmt: skip


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def read(arena):
    return await arena.attack(READ.format(targets=repr(targets(arena)), mark=MARK), volume="home")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def written(arena):
    return await arena.attack(WRITE, volume="home")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def agent(arena):
    return await arena.attack(AGENT)


async def test_no_host_file_device_or_kernel_secret_can_be_read(read):
    nothing = {"b''", "[]"}  # a masked file is empty
    got = {name: what for name, what in read.items() if isinstance(what, list) and what and what[0] is True}
    assert {name: what for name, (_, what) in got.items() if what not in nothing} == {}
    assert read["found"] == []
    assert read["sys"] == []


async def test_only_its_own_processes_are_seen(read):
    assert {int(pid) for pid in read["processes"]} <= set(range(1, 10))
    assert len(read["processes"]) == 2


async def test_nothing_but_scratch_and_volume_can_be_written(written):
    done = {name: what for name, what in written.items() if isinstance(what, list) and what and what[0] is True}
    assert done == {}
    assert {top for top in written["writable"] if not top.startswith(("/home/user/", "/tmp/"))} == WRITABLE


async def test_the_inner_socket_cannot_be_changed(written):
    tried = {name: what for name, what in written.items() if "the inner socket" in name}
    assert [what[0] for what in tried.values()] == [False] * 4, tried


async def test_every_mount_has_the_options_it_must_have(written):
    assert {point for _, point, _, options in written["mounts"] if "rw" in options.split(",")} <= {
        *WRITABLE, "/dev", "/dev/pts", "/proc", *DEVICES,
    }  # fmt: skip
    for _source, point, _kind, text in written["mounts"]:
        options = set(text.split(","))
        masked = point.startswith("/proc/") and "ro" in options  # an empty folder or /dev/null
        assert "nosuid" in options or point == "/" or masked, (point, text)
        if point not in {"/", "/dev", "/dev/pts", *DEVICES} and not point.startswith("/proc/"):
            assert "nodev" in options, (point, text)
        if point in {"/dev", "/dev/shm", "/run/app", "/run/cloister", "/proc"}:
            assert "noexec" in options, (point, text)
    assert "ro" in next(text for _, point, _, text in written["mounts"] if point == "/").split(",")


async def test_what_it_knows_of_the_host_is_paths_at_most(arena, agent, written):
    """A bind mount shows where its source lies: that much is the kernel's. It must show nothing that opens a door."""
    secrets = [arena.platform.operator_secret, MARK, "Bearer", "postgresql://"]
    for text in (agent["every"], written["mountinfo"]):
        assert [secret for secret in secrets if secret in text] == []
    assert not any("TOKEN" in name and name != "CLOISTER_TOKEN_FILE" for name in agent["environ"])
    assert not any(len(value) > 30 and "/" not in value for value in agent["environ"].values()), agent["environ"]
    assert {line.rsplit(":", 1)[1] for line in agent["cgroup"].split()} == {"/"}


async def test_the_agent_cannot_be_looked_into(agent):
    open_to_all = {"io", "personality"}
    got = {name: what for name, what in agent.items() if isinstance(what, list) and what and what[0] is True}
    assert set(got) - open_to_all == set(), got
    assert agent["token file"][1] == "ENOENT"
    assert sorted(agent["sockets"]) == ["egress.sock", "inner.sock"]


async def test_a_rivals_volume_of_the_same_name_is_another(arena):
    """While the victim runs with its files mounted, the attacker looks everywhere, by name and by the host's paths."""
    victim = await arena.start(
        f"""
        import time
        open("/home/user/{MARK}-of-victim", "w").write("{MARK}")
        open("/tmp/{MARK}-scratch", "w").write("{MARK}")
        open("/dev/shm/{MARK}-shm", "w").write("{MARK}")
        open("/run/app/{MARK}-app", "w").write("{MARK}")
        print("ready", flush=True)
        time.sleep(50)
        """,
        arena.victim,
        volume="home",
    )

    async def ready():
        return "ready" in await arena.api.output(arena.victim, victim)

    await until(ready, 20)
    place = arena.platform.sandbox_controller.place(victim["id"])
    mounted = [path for path in (arena.platform.settings.run_directory / "volumes").iterdir() if path.is_mount()]
    assert any((path / f"{MARK}-of-victim").exists() for path in mounted), "the victim's file is not where it should be"
    paths = [str(path / f"{MARK}-of-victim") for path in mounted] + [str(place.app), str(place.sockets / "inner.sock")]
    found = await arena.attack(READ.format(targets=repr(paths), mark=MARK), volume="home")
    assert {n: w for n, w in found.items() if isinstance(w, list) and w and w[0] is True} == {}
    assert found["found"] == []
    foreign = (await arena.api.start(arena.victim, "print(1)"))["team"]
    body = arena.body("print(1)", team=foreign, volume="home")
    refused = await arena.attacker.post("/spaces/course/sandboxes", json={"command": ["python3", "main.py"], **body})
    assert refused.status_code in {403, 404}, refused.text
    await arena.stop(victim, arena.victim)


async def test_teams_have_user_ids_of_their_own_on_the_host(arena):
    async def owner(client):
        sandbox = await arena.start("import time; open('/home/user/x', 'w'); time.sleep(30)", client)
        await arena.api.running(client, sandbox)
        uid = os.stat(arena.platform.sandbox_controller.place(sandbox["id"]).app).st_uid
        await arena.stop(sandbox, client)
        return uid

    uids = await asyncio.gather(owner(arena.attacker), owner(arena.victim))
    assert len({*uids, 0, os.getuid()}) >= 3


async def test_lost_and_found_is_a_name_like_any_other(arena):
    """What the platform tidies in a volume must not lock a team out of it."""
    await arena.attack("import os, attack; os.makedirs('/home/user/lost+found/mine'); attack.report()", volume="lost")
    found = await arena.attack(
        "import os, attack; attack.report(names=os.listdir('/home/user/lost+found'))", volume="lost"
    )
    assert found["names"] == ["mine"]


@pytest.mark.parametrize(
    "name", ["../evil", "/tmp/evil", "a/../../evil", "a//b", "", ".", "a/./b", "..", "nul\0l", "/", "a/", "x" * 201]
)
async def test_names_of_sent_files_cannot_climb(arena, name):
    body = {"command": ["python3", "-c", "import os; print(os.listdir('/home/user'))"], "files": {name: "evil"}}
    answer = await arena.attacker.post("/spaces/course/sandboxes", json=body)
    assert answer.status_code in {400, 422}, answer.text


async def test_sent_files_through_a_planted_link_stay_inside(arena):
    """Links in a volume point into the sandbox's own world, for it is the sandbox that writes what is sent."""
    before = Path("/etc/hostname").read_text()
    await arena.attack(
        "import os, attack; os.symlink('/etc', '/home/user/etc'); os.symlink('/tmp', '/home/user/t'); attack.report()",
        volume="links",
    )
    state, _ = await arena.run("print(1)", volume="links", files={"etc/hostname": "owned"})
    assert state["state"] in {"failed", "stopped"}
    assert Path("/etc/hostname").read_text() == before
    await arena.healthy()
