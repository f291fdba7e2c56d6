"""Bombs: each ends at the wall of its own sandbox, and the neighbour does not hear it."""

import asyncio
import os
import shutil
import time
from pathlib import Path

import pytest

from tests.support import cgroups, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


def host_processes() -> int:
    return sum(name.isdigit() for name in os.listdir("/proc"))


async def test_a_fork_bomb_ends_at_the_limit_and_can_be_stopped(arena):
    before = host_processes()
    sandbox = await arena.start(
        """
        import os, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("here", flush=True)
        while True:
            try:
                os.fork()
            except OSError:
                pass
        """
    )

    async def full():
        used = await arena.platform.backend.usage(sandbox["id"])
        return used is not None and used.processes >= 30

    await until(full, 20)
    assert host_processes() - before < 60
    assert (await arena.platform.backend.usage(sandbox["id"])).processes <= 32
    await arena.healthy()
    begun = time.monotonic()
    state, _ = await arena.stop(sandbox)
    assert state["state"] == "stopped", state
    assert time.monotonic() - begun < 10
    assert host_processes() - before < 10


@pytest.mark.parametrize("where", ["bytearray(10**7)", "open('/dev/shm/%d' % len(held), 'wb').write(bytes(10**7))"])
async def test_a_memory_bomb_kills_nobody_else(arena, where):
    victim = await arena.start("import time; time.sleep(20); print('alive')", arena.victim)
    await arena.api.running(arena.victim, victim)
    state, output = await arena.run(f"held = []\nwhile True:\n    held.append({where})\n")
    assert (state["exit_code"] not in {0, None}) or state["state"] == "failed", (state, output)
    assert (await arena.api.show(arena.victim, victim))["state"] == "running"
    await arena.stop(victim, arena.victim)
    await arena.healthy()


async def test_shared_memory_and_pipes_count_too(arena):
    """System V segments, memfd and full pipes are memory of the sandbox; when it ends they are free again."""
    free = lambda: int(Path("/proc/meminfo").read_text().split("MemAvailable:")[1].split()[0])  # noqa: E731
    before = free()
    state, _ = await arena.run(
        """
        import os
        held = []
        while True:
            descriptor = os.memfd_create("bomb")
            os.posix_fallocate(descriptor, 0, 8 * 2**20)
            held.append(descriptor)
        """
    )
    assert state["state"] == "failed" or state["exit_code"] != 0
    assert before - free() < 400 * 1024
    await arena.healthy()


@pytest.mark.parametrize(
    ("folder", "limit"),
    [("/home/user", 64 << 20), ("/tmp", 16 << 20), ("/dev/shm", 16 << 20), ("/run/app", 256 << 10)],
)
async def test_a_disk_bomb_ends_at_the_size(arena, folder, limit):
    free = shutil.disk_usage(arena.state).free
    found = await arena.attack(
        f"""
        import attack, os
        written, number, sparse = 0, 0, "refused"
        try:
            with open("{folder}/bomb", "wb", buffering=0) as file:
                while True:
                    written += file.write(bytes(65536))
        except OSError as error:
            number = error.errno
        os.unlink("{folder}/bomb")
        attack.report(written=written, number=number)
        """,
        volume="bombs",
    )
    assert found["number"] == 28
    assert found["written"] <= limit
    assert free - shutil.disk_usage(arena.state).free < 100 << 20
    await arena.healthy()


@pytest.mark.parametrize(
    ("folder", "limit"), [("/home/user", 9000), ("/tmp", 65536), ("/dev/shm", 65536), ("/run/app", 32)]
)
async def test_an_inode_bomb_ends_at_the_limit(arena, folder, limit):
    free = os.statvfs(arena.state).f_ffree
    found = await arena.attack(
        f"""
        import attack, os
        made, number = 0, 0
        os.makedirs("{folder}/many", exist_ok=True)
        try:
            while made < 200_000:
                os.mknod(f"{folder}/many/{{made}}")
                made += 1
        except OSError as error:
            number = error.errno
        for name in range(made):
            os.unlink(f"{folder}/many/{{name}}")
        attack.report(made=made, number=number)
        """,
        volume="bombs",
    )
    assert found["number"] == 28
    assert found["made"] <= limit
    assert free - os.statvfs(arena.state).f_ffree < 1000
    await arena.healthy()


async def test_a_cpu_hog_leaves_a_neighbour_its_share(arena):
    """Measured beside each other, so that whatever else this machine does meanwhile is the same for all."""
    hog = "import os\nfor _ in range(5):\n    os.fork()\nwhile True:\n    pass"
    hogs = [await arena.start(hog, size="core", seconds=40) for _ in range(3)]
    neighbour = await arena.start("while True:\n    pass", arena.victim, size="core", seconds=40)
    people = [(neighbour, arena.victim), *((hog, arena.attacker) for hog in hogs)]
    for sandbox, client in people:
        await arena.api.running(client, sandbox)

    async def used():
        usages = [await arena.platform.backend.usage(sandbox["id"]) for sandbox, _ in people]
        assert all(usages), [await arena.api.show(client, sandbox) for sandbox, client in people]
        return [usage.cpu_seconds for usage in usages]

    await asyncio.sleep(0.5)
    before, then = await used(), time.monotonic()
    await asyncio.sleep(3)
    after, passed = await used(), time.monotonic() - then
    await arena.stop(neighbour, arena.victim)
    for sandbox in hogs:
        await arena.stop(sandbox)
    mine, *theirs = (b - a for a, b in zip(before, after, strict=True))
    assert mine > 0.6 * sum(theirs) / len(theirs), (mine, theirs)
    assert max(theirs) < 1.2 * passed, (mine, theirs)


async def test_a_descriptor_bomb_is_its_own_problem(arena):
    found = await arena.attack(
        """
        import attack, os
        held, number = [], 0
        try:
            while len(held) < 10**6:
                held.append(os.open("/dev/null", os.O_RDONLY))
        except OSError as error:
            number = error.errno
        count = len(held)
        for descriptor in held:
            os.close(descriptor)
        attack.report(count=count, number=number)
        """
    )
    assert (found["number"], found["count"] < 1024) == (24, True)
    await arena.healthy()


async def test_signals_reach_nobody_outside(arena):
    mine, state = (
        os.getpid(),
        await arena.attack(
            f"""
        import attack, os, signal
        for pid in (1, {os.getpid()}, {os.getppid()}, 400):
            for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGUSR1):
                attack.attempt(f"{{pid}} {{number.name}}", os.kill, pid, number)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        attack.attempt("everybody", os.kill, -1, signal.SIGCONT)
        attack.attempt("pidfd", os.pidfd_open, {os.getpid()})
        attack.report()
        """
        ),
    )
    for name, (done, why) in state.items():
        if not name.startswith("1 ") and name != "everybody":
            assert (done, why) == (False, "ESRCH"), (name, why)
    assert Path(f"/proc/{mine}").exists()
    await arena.healthy()


async def test_nothing_is_left_when_a_program_ends(arena):
    """Daemons, orphans, programs that ignore SIGTERM: they end with their sandbox, and so does every trace of it."""
    code = """
        import os, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for _ in range(6):
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    signal.signal(signal.SIGINT, signal.SIG_IGN)
                    time.sleep(1000)
                os._exit(0)
        print("left behind", flush=True)
        if {forever}:
            time.sleep(1000)
    """
    mounts = Path("/proc/self/mountinfo").read_text().count("\n")
    ended, _ = await arena.run(code.format(forever=False))
    assert ended["state"] == "stopped"
    stubborn = await arena.start(code.format(forever=True), volume="home")

    async def forked():
        return "left" in await arena.api.output(arena.attacker, stubborn)

    await until(forked, 20)
    begun = time.monotonic()
    state, _ = await arena.stop(stubborn)
    assert state["state"] == "stopped"
    assert time.monotonic() - begun < 8
    for sandbox in (ended, stubborn):
        assert cgroups(sandbox["id"]) == []
        place = arena.platform.sandbox_controller.place(sandbox["id"])
        assert not place.app_mount.exists()
        assert not place.sockets.exists()
    assert Path("/proc/self/mountinfo").read_text().count("\n") <= mounts
    await arena.healthy()
