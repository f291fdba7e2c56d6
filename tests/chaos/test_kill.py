"""kill -9 of the control plane at random moments: after each restart nothing is lost, double or orphaned."""

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3

import pytest

from tests.chaos.conftest import STARTS
from tests.chaos.server import Server, Stubborn

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("crun"), reason="needs root and crun")
SEED = int(os.environ.get("CHAOS_SEED", "20260711"))
ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "1"))
"""Of starts that are killed four times each; more are for those who have changed a controller."""
PEOPLE = 500
TEAMS = 10


async def kills(server: Server, work: "asyncio.Future", times: int, pause: tuple[float, float], seed: int) -> int:
    """Kill and restart the server at random moments while some work goes on; return how often it was."""
    dice = random.Random(seed)
    done = 0
    for _ in range(times):
        await asyncio.wait({work}, timeout=dice.uniform(*pause))
        if work.done():
            break
        server.kill()
        done += 1
        await asyncio.sleep(dice.uniform(0, 0.2))
        await asyncio.to_thread(server.start)
    return done


async def settled(server: Server, ids: set[str]) -> None:
    """Wait until the machine shows nothing of ended sandboxes; then say what is left, if anything."""

    def left() -> dict[str, object]:
        return {
            "containers": server.containers(), "processes": server.processes(server.first_uid),
            "mounts": server.mounts(), "loop devices": server.loops(), "cgroups": server.cgroups(ids),
            "bundles": sorted(path.name for path in (server.state / "run" / "oci" / "bundles").iterdir()),
        }  # fmt: skip

    for _ in range(100):
        if not any(left().values()):
            return
        await asyncio.sleep(0.1)
    assert not any(left().values()), {what: found for what, found in left().items() if found}


async def test_registrations_survive_kills(server):
    gate = asyncio.Semaphore(40)

    async def one(number: int) -> tuple[str, str]:
        async with gate, server.client() as client:
            found = await client.member(f"person{number}")
            return found["person"], found["team"]

    work = asyncio.gather(*(one(number) for number in range(PEOPLE)))
    killed = await kills(server, work, 4, (0.5, 3.0), SEED)
    answers = await work
    assert killed == 4
    assert len({person for person, _ in answers}) == PEOPLE
    assert len({team for _, team in answers}) == PEOPLE
    counts = {
        "people": server.rows("SELECT count(*) FROM people WHERE canonical_email LIKE 'person%'")[0][0],
        "enrolments": server.rows("SELECT count(*) FROM enrolments WHERE state = 'active'")[0][0],
        "teams": server.rows("SELECT count(*) FROM teams")[0][0],
        "signatures": server.rows("SELECT count(*) FROM signatures")[0][0],
        "roles": server.rows("SELECT count(*) FROM role_bindings WHERE role = 'member'")[0][0],
        "letters": server.rows("SELECT count(*) FROM letters")[0][0],
        "admissions": server.rows("SELECT count(*) FROM audit_records WHERE name = 'spaces:enrolment:admit'")[0][0],
    }
    assert counts == dict.fromkeys(counts, PEOPLE)
    server.run("audit", "verify")


COUNTED = """
import os, sys, time
with open("starts.txt", "a") as file:
    file.write(sys.argv[1] + "\\n")
    file.flush()
    os.fsync(file.fileno())
print("line", sys.argv[1])
time.sleep(float(sys.argv[2]))
"""


async def ended(client: Stubborn, sandbox: dict, seconds: float = 60) -> dict:
    for _ in range(int(seconds / 0.1)):
        found = (await client.insist("GET", f"/spaces/course/sandboxes/{sandbox['id']}")).json()
        if found["state"] in {"stopped", "failed"}:
            return found
        await asyncio.sleep(0.1)
    raise AssertionError(found)


async def run(client: Stubborn, key: str, *arguments: str, code: str = COUNTED, volume: str | None = "work") -> dict:
    body = {"command": ["python3", "-S", "-c", code, *arguments], "volume": volume}
    for _ in range(200):
        answer = await client.insist("POST", "/spaces/course/sandboxes", json=body, headers={"Idempotency-Key": key})
        if answer.status_code != 409 or answer.json()["code"] != "sandbox.environment_not_ready":
            break
        await asyncio.sleep(0.1)
    assert answer.status_code == 202, answer.text
    return answer.json()


@pytest.mark.parametrize("round_", range(ROUNDS))
async def test_sandbox_starts_survive_kills(server, round_):
    dice = random.Random(SEED + round_)
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(server.client()) for _ in range(TEAMS)]
        for number, client in enumerate(clients):
            await client.member(f"person{number}")
        gate = asyncio.Semaphore(12)

        async def one(number: int, seconds: float) -> tuple[dict, int]:
            async with gate:
                client = clients[number % TEAMS]
                sandbox = await run(client, f"start-{number}", f"start-{number}", str(seconds))
                return await ended(client, sandbox), number

        work = asyncio.gather(*(one(number, dice.uniform(0, 0.6)) for number in range(STARTS)))
        killed = await kills(server, work, 4, (0.3, 1.5), SEED + round_)
        found = await work
        assert killed == 4
        requested = {row[0]: row[1] for row in server.rows("SELECT id, state FROM sandboxes")}
        assert len(requested) == STARTS, "a repeated request is the same request"
        assert {sandbox["id"] for sandbox, _ in found} == set(requested)
        await settled(server, set(requested))
        written = []
        for number, client in enumerate(clients):
            sandbox = await run(client, f"look-{number}", code="print(open('starts.txt').read())")
            await ended(client, sandbox)
            output = (await client.insist("GET", f"/spaces/course/sandboxes/{sandbox['id']}/output")).text
            written += [part for part in output.replace("\\n", '"').split('"') if part.startswith("start-")]
        failed = {f"start-{number}": sandbox["reason"] for sandbox, number in found if sandbox["exit_code"] != 0}
        twice = sorted({name for name in written if written.count(name) > 1})
        lost = sorted({f"start-{number}" for number in range(STARTS)} - set(written))
        assert not twice, f"ran twice: {twice}; failed: {failed}"
        assert not lost, f"never ran: {lost}; failed: {failed}"
        assert not failed
        await settled(server, {row[0] for row in server.rows("SELECT id FROM sandboxes")})
    server.run("audit", "verify")


TICKS = """
import itertools, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("bye"), sys.exit(7)))
for number in itertools.count():
    print("tick", number, flush=True)
    time.sleep(0.05)
"""


async def test_a_running_sandbox_is_adopted(server):
    async with server.client() as client:
        await client.member("ada")
        sandbox = await run(client, "long", code=TICKS)
        address = f"/spaces/course/sandboxes/{sandbox['id']}"

        async def ticks() -> list[int]:
            text = (await client.insist("GET", f"{address}/output")).text
            said = "".join(json.loads(line)["text"] for line in text.splitlines())
            return [int(line.split()[1]) for line in said.splitlines() if len(line.split()) == 2]

        async def more_than(count: int) -> list[int]:
            for _ in range(200):
                found = await ticks()
                if found and found[-1] > count:
                    return found
                await asyncio.sleep(0.1)
            raise AssertionError((await client.insist("GET", address)).json(), await ticks())

        seen = await more_than(3)
        for _ in range(3):
            server.kill()
            await asyncio.to_thread(server.start)
            again = await more_than(seen[-1] + 5)
            assert again == sorted(set(again)), "nothing is printed twice"
            seen = again
        assert (await client.insist("GET", address)).json()["state"] == "running"
        assert (await client.insist("DELETE", address)).status_code == 202
        found = await ended(client, sandbox)
        assert (found["state"], found["exit_code"], found["reason"]) == ("stopped", 7, "stopped on request")
        assert "bye" in (await client.insist("GET", f"{address}/output")).text
        await settled(server, {sandbox["id"]})


async def test_a_program_that_ends_while_the_platform_is_away_has_ended(server):
    """Its agent tells the next process."""
    async with server.client() as client:
        await client.member("ada")
        sandbox = await run(client, "short", code="import time; print('here', flush=True); time.sleep(1.5)")
        address = f"/spaces/course/sandboxes/{sandbox['id']}"
        for _ in range(100):
            if (await client.insist("GET", address)).json()["state"] == "running":
                break
            await asyncio.sleep(0.05)
        server.kill()
        await asyncio.sleep(2)
        await asyncio.to_thread(server.start)
        found = await ended(client, sandbox, 30)
        assert (found["state"], found["exit_code"]) == ("stopped", 0)
        await settled(server, {sandbox["id"]})


@contextlib.contextmanager
def nothing_commits(server: Server):
    """Hold the database's write lock: whatever the control plane wants to commit waits, and is lost when it dies."""
    with contextlib.closing(sqlite3.connect(server.state / "cloister.sqlite", isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        yield
        holder.execute("ROLLBACK")


async def reach(client: Stubborn, address: str, state: str) -> None:
    for _ in range(200):
        found = (await client.insist("GET", address)).json()
        if found["state"] == state:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(found)


async def test_an_end_that_was_heard_but_not_written_down_is_told_again(server):
    async with server.client() as client:
        await client.member("ada")
        sandbox = await run(client, "short", code="import time; time.sleep(1); print('over')")
        address = f"/spaces/course/sandboxes/{sandbox['id']}"
        await reach(client, address, "running")
        with nothing_commits(server):
            for _ in range(100):
                if "over" in (await client.insist("GET", f"{address}/output")).text:
                    break
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.3)  # the exit code follows the last output at once
            server.kill()
        await asyncio.to_thread(server.start)
        found = await ended(client, sandbox, 20)
        assert (found["state"], found["exit_code"]) == ("stopped", 0)
        await settled(server, {sandbox["id"]})


async def test_a_program_that_began_before_its_start_was_written_down_is_not_begun_again(server):
    async with server.client() as client:
        await client.member("ada")
        warm = await run(client, "warm", code="pass")
        await ended(client, warm)
        sandbox = await run(client, "once", "once", "3")
        place = server.state / "run" / "sandboxes" / sandbox["id"]
        address = f"/spaces/course/sandboxes/{sandbox['id']}"
        await reach(client, address, "starting")
        with nothing_commits(server):
            for there in (True, False):  # its token is used up as soon as its agent knows what to do
                for _ in range(500):
                    if (place / "sockets" / "token").exists() is there:
                        break
                    await asyncio.sleep(0.002)
            await asyncio.sleep(0.3)  # time to begin, for one that does not wait
            server.kill()
        await asyncio.to_thread(server.start)
        found = await ended(client, sandbox, 20)
        assert (found["state"], found["exit_code"]) == ("stopped", 0)
        look = await run(client, "look", code="print(open('starts.txt').read())")
        await ended(client, look)
        output = (await client.insist("GET", f"/spaces/course/sandboxes/{look['id']}/output")).text
        assert output.count("once") == 1


async def test_a_sandbox_that_died_while_the_platform_was_away_leaves_nothing_and_harms_no_neighbour(server):
    async with server.client() as client:
        await client.member("ada")
        dying, living = [await run(client, key, code=TICKS) for key in ("dying", "living")]
        for sandbox in (dying, living):
            await reach(client, f"/spaces/course/sandboxes/{sandbox['id']}", "running")
        server.kill()
        os.kill(server.first_process(dying["id"]), signal.SIGKILL)
        await asyncio.to_thread(server.start)
        found = await ended(client, dying, 20)
        assert (found["state"], found["reason"]) == ("failed", "it ended while the platform was away")
        volumes = [line for line in server.mounts() if "/run/volumes/" in line]
        assert len(volumes) == 1, "the volume that both had as home stays for the one that lives"
        await client.insist("DELETE", f"/spaces/course/sandboxes/{living['id']}")
        assert (await ended(client, living, 20))["state"] == "stopped"
        await settled(server, {dying["id"], living["id"]})


STALLED = """#!/bin/sh
if mv {folder}/stall-$4 {folder}/stalled-$4 2> /dev/null; then
    until [ -e {folder}/go-$4 ]; do sleep 0.05; done
fi
exec {crun} "$@"
"""


async def test_a_command_that_a_killed_platform_left_harms_nothing_of_the_next(server, tmp_path):
    """The runtime's work on a sandbox goes on when the platform is killed; the next one must not work on it, too."""
    folder = tmp_path / "bin"
    folder.mkdir()
    wrapper = folder / "crun"
    wrapper.write_text(STALLED.format(folder=folder, crun=shutil.which("crun")))
    wrapper.chmod(0o755)
    server.kill()
    server.environ["PATH"] = f"{folder}:{server.environ['PATH']}"
    await asyncio.to_thread(server.start)

    async def killed_in(command: str) -> None:
        for _ in range(200):
            if (folder / f"stalled-{command}").exists():
                server.kill()
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"nothing asked the runtime to {command}")

    async with server.client() as client:
        await client.member("ada")
        await ended(client, await run(client, "first", code="pass"))
        (folder / "stall-run").touch()
        sandbox = await run(client, "once", "once", "600")
        await killed_in("run")
        (folder / "stall-delete").touch()  # the next platform begins anew, with what there is taken away
        (folder / "go-run").touch()
        await asyncio.to_thread(server.start)
        await killed_in("delete")
        starting = asyncio.ensure_future(asyncio.to_thread(server.start))
        address = f"/spaces/course/sandboxes/{sandbox['id']}"
        early, _ = await asyncio.wait({starting}, timeout=6)
        if early:  # it does not wait for the command
            await reach(client, address, "running")
        (folder / "go-delete").touch()
        await starting
        await reach(client, address, "running")
        look = await run(client, "look", code="print(open('starts.txt').read())")
        await ended(client, look)
        assert (await client.insist("GET", f"/spaces/course/sandboxes/{look['id']}/output")).text.count("once") == 1
        assert (await client.insist("GET", address)).json()["state"] == "running"
        await client.insist("DELETE", address)
        assert (await ended(client, sandbox, 20))["state"] == "stopped"
        await settled(server, {sandbox["id"], look["id"]})
