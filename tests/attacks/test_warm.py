"""The same attacks from inside a workspace that was forked, not started: its walls are the same walls.

They run in a kernel of a JupyterLab that the zygote forked into its sandbox: as deep inside as code of users gets there.
Tests and programs are those of the other files of this folder, with another arena.
"""

import asyncio
import json

import pytest
import pytest_asyncio

from cloister.spaces import JUPYTERLAB
from tests.attacks import test_resources as resources
from tests.attacks.conftest import ALLOWED, INSIDE, SMALL, Arena
from tests.attacks.test_channel import test_an_access_token_is_worth_nothing_in_another_sandbox  # noqa: F401
from tests.attacks.test_files import (  # noqa: F401  (collected here, too)
    MARK,
    READ,
    agent,
    read,
    test_every_mount_has_the_options_it_must_have,
    test_lost_and_found_is_a_name_like_any_other,
    test_no_host_file_device_or_kernel_secret_can_be_read,
    test_nothing_but_scratch_and_volume_can_be_written,
    test_the_agent_cannot_be_looked_into,
    test_the_inner_socket_cannot_be_changed,
    test_what_it_knows_of_the_host_is_paths_at_most,
    written,
)
from tests.attacks.test_kernel import (  # noqa: F401
    outcome,
    test_a_program_has_no_capability_and_cannot_gain_one,
    test_a_setuid_program_gains_nothing,
    test_refused,
    test_the_host_is_as_before,
)
from tests.attacks.test_network import (  # noqa: F401
    listener,
    test_a_rebound_name_changes_nothing,
    test_an_allowed_name_that_leads_inside_is_refused,
    test_nothing_is_reachable_directly,
    test_the_proxy_goes_nowhere_that_is_not_on_the_list,
)
from tests.attacks.test_resources import (  # noqa: F401
    test_a_descriptor_bomb_is_its_own_problem,
    test_signals_reach_nobody_outside,
)
from tests.attacks.test_smuggling import smuggled, test_nothing_is_smuggled_behind_a_request  # noqa: F401
from tests.support import ARROW, blueprint, until
from tests.workspaces.conftest import LAB_ENVIRONMENT, Desk, gateway_platform

pytestmark = pytest.mark.asyncio(loop_scope="module")
SIZE = {**SMALL, "memory": "512M", "processes": 64, "disk": "256M", "files": 1024, "seconds": 600}


class WarmArena(Arena):
    """An attacker at the desk of a forked workspace."""

    desk: Desk

    async def attack(self, code, client=None, **_more):
        assert client is None
        program = "\n".join(
            [
                "import sys, types",
                "attack = sys.modules['attack'] = types.ModuleType('attack')",
                f"exec(compile({INSIDE!r}, 'attack.py', 'exec'), attack.__dict__)",
                f"exec(compile(__import__('textwrap').dedent({code!r}), 'main.py', 'exec'), {{'__name__': '__main__'}})",
            ]
        )
        async with await self.desk.kernel() as kernel:
            printed, _ = await kernel.run(program)
            await self.desk.get(f"/api/kernels/{kernel.id}", "DELETE")
        try:
            return json.loads(printed.strip().splitlines()[-1])
        except (ValueError, IndexError):
            pytest.fail(printed[-3000:])


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def arena(tmp_path_factory):
    state = tmp_path_factory.mktemp("warm")
    environments = [{"name": "python-basic", "packages": ARROW}, LAB_ENVIRONMENT]
    policies = {"egress": ALLOWED, "sandboxes_per_team": 6, "workspace_disk": "256M", "terminals": "allowed"}
    space = blueprint(environments=environments, sizes={"small": SIZE}, policies=policies)
    async with gateway_platform(state, space, warm_starts=True) as api:
        platform = api.platform
        await platform.backend.warm_up((await platform.environments.ensure(JUPYTERLAB)).path)
        await platform.backend.zygote.ready.wait()
        attacker, victim = await api.member("attacker"), await api.member("victim")
        enrolment = (await attacker.get("/spaces/course/enrolment")).json()
        found = WarmArena(api, attacker, victim, state / "s")
        found.desk = Desk(api, attacker, enrolment["team"], enrolment["person"], "course")
        await found.desk.enter()
        await found.desk.start()
        assert platform.backend.zygote.forks == 1, "this workspace was not forked"
        yield found
        await found.desk.close()


async def test_a_rivals_workspace_is_not_seen(arena):
    """While a rival works in a forked workspace of their own, the attacker looks everywhere, by name and by host path."""
    enrolment = (await arena.victim.get("/spaces/course/enrolment")).json()
    rival = Desk(arena.api, arena.victim, enrolment["team"], enrolment["person"], "course")
    await rival.enter()
    state = await rival.start()
    assert arena.platform.backend.zygote.forks >= 2
    async with await rival.kernel() as kernel:
        await kernel.run(
            f"for folder in ('/home/user', '/tmp', '/dev/shm'):\n    open(folder + '/{MARK}', 'w').write('{MARK}')"
        )
        secret, _ = await kernel.run("import os; print(os.getpid(), end='')")
    place = arena.platform.sandbox_controller.place(state["sandbox"])
    mounted = [path for path in (arena.platform.settings.run_directory / "volumes").iterdir() if path.is_mount()]
    assert any((path / MARK).exists() for path in mounted), "the rival's file is not where it should be"
    paths = [str(path / MARK) for path in mounted] + [
        str(place.app),
        str(place.sockets / "inner.sock"),
        f"/proc/{secret}/root/tmp/{MARK}",
    ]
    found = await arena.attack(READ.format(targets=repr(paths), mark=MARK))
    assert {n: w for n, w in found.items() if isinstance(w, list) and w and w[0] is True} == {}
    assert found["found"] == []
    await rival.close()


@pytest.mark.parametrize(("folder", "limit"), [("/tmp", 16 << 20), ("/dev/shm", 16 << 20), ("/run/app", 256 << 10)])
async def test_a_disk_bomb_ends_at_the_size_of_its_own_workspace(arena, folder, limit):
    await resources.test_a_disk_bomb_ends_at_the_size(arena, folder, limit)


@pytest.mark.parametrize(
    ("folder", "limit"), [("/home/user", 100_000), ("/tmp", 65_536), ("/dev/shm", 65_536), ("/run/app", 32)]
)
async def test_an_inode_bomb_ends_at_the_limit_of_its_own_workspace(arena, folder, limit):
    await resources.test_an_inode_bomb_ends_at_the_limit(arena, folder, limit)


async def test_only_processes_of_its_own_workspace_are_seen(read):  # noqa: F811  (the fixture)
    """JupyterLab, its kernels and the agent; nothing of the zygote that it came from, nor of the host."""
    assert len(read["processes"]) < 15


async def test_a_fork_bomb_ends_at_the_limit_of_its_own_workspace(arena):
    sandbox = (await arena.desk.workspace())["sandbox"]
    bomb = """
        import os, attack
        made = number = 0
        children = []
        try:
            while made < 500:
                pid = os.fork()
                if pid == 0:
                    os.read(os.pipe()[0], 1)
                children.append(pid)
                made += 1
        except OSError as error:
            number = error.errno
        for pid in children:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
        attack.report(made=made, number=number)
    """
    found = await arena.attack(bomb)
    assert (found["number"], found["made"] < 64) == (11, True)
    assert (await arena.platform.backend.usage(sandbox)).processes <= 64
    await arena.healthy()


async def test_a_memory_bomb_ends_in_its_own_workspace(arena):
    """Last of all, for it costs the kernel its life, or the whole workspace, which comes back by itself."""
    bomb = "held = []\nwhile True:\n    held.append(bytearray(10**7))\n"
    async with await arena.desk.kernel() as kernel:
        running = asyncio.create_task(kernel.run(bomb))
        sandbox = (await arena.desk.workspace())["sandbox"]

        async def over():
            used = await arena.platform.backend.usage(sandbox)
            assert used is None or used.memory_bytes <= 512 * 2**20
            return running.done() or used is None or used.memory_bytes < 300 * 2**20

        await asyncio.sleep(1)  # it takes what it can get
        await until(over, 30)
        running.cancel()
    await arena.healthy()
    await arena.desk.becomes("running")
