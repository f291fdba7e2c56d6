"""An operator moves a space's workspaces to another environment: some first, a pause, the rest; and back when it fails."""

import asyncio
import contextlib
import os
import signal
import subprocess

import pytest

from tests.chaos.server import CLOISTER, Server
from tests.support import ARROW, ROOT, until
from tests.workspaces.conftest import lab_blueprint

TEAMS = ("blue", "green", "red")


def web(name, *command, port=8000):
    return {"name": name, "packages": ARROW, "app": {"command": list(command), "port": port}}


SERVES = ("python3", "-m", "http.server", "8000", "--bind", "127.0.0.1")


@pytest.fixture
async def fleet(tmp_path):
    """A server whose space has three workspaces that run a small web app."""
    server = Server(tmp_path / "s", gateway="managed", gateway_domain="localhost", workspace_answer_seconds=5)
    environments = [
        web("web@1", *SERVES),
        web("web@2", *SERVES),
        web("broken", "false"),
        web("web@3", "timeout", "4", *SERVES),
        web("deaf", "sleep", "1000"),
    ]
    server.declare(tmp_path, lab_blueprint(environments=environments))
    server.start()
    try:
        async with contextlib.AsyncExitStack() as stack:
            for name in TEAMS:
                client = await stack.enter_async_context(server.client())
                await client.member(name, "cup")
                team = (await client.insist("POST", "/spaces/cup/teams", json={"name": name})).json()["number"]

                async def running(client=client, path=f"/spaces/cup/teams/{team}/workspace"):
                    await client.insist("POST", f"{path}/start")
                    return (await client.insist("GET", path)).json()["state"] == "running"

                await until(running, 90, 0.3)
            yield server
            await asyncio.to_thread(server.run, "workspace", "stop", "--space", "cup", "--all")

            async def stopped():
                return {state for _, state in states(server)} == {"stopped"}

            await until(stopped, 30, 0.1)
    finally:
        server.stop()


def states(server):
    return sorted(server.rows("SELECT environment, state FROM workspaces"))


@pytest.mark.timeout(300)
async def test_a_fleet_is_upgraded_by_steps_and_comes_back_when_one_does_not_serve(fleet):
    upgrade = ("workspace", "upgrade", "--space", "cup", "--environment")
    process = subprocess.Popen(
        [CLOISTER, *upgrade, "web@2", "--soak", "0.5"], env=fleet.environ, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    told = ""
    while "starting" not in told:
        told += await asyncio.to_thread(process.stdout.readline)
    os.kill(process.pid, signal.SIGINT)
    told += (await asyncio.to_thread(process.communicate))[0]
    assert process.returncode == 130, told
    assert told.endswith("paused: 1 of 3 moved; the same command again goes on\n")
    assert states(fleet) == [("web@1", "running"), ("web@1", "running"), ("web@2", "running")]

    said = await asyncio.to_thread(fleet.run, *upgrade, "web@2", "--then", "67", "--soak", "0.5")
    assert said.endswith("1 moved to web@2; 1 left, the same command goes on\n")
    assert (await asyncio.to_thread(fleet.run, *upgrade, "web@2", "--soak", "0")).endswith("1 moved to web@2\n")
    assert states(fleet) == [("web@2", "running")] * 3

    with pytest.raises(AssertionError, match="had moved were moved back"):
        await asyncio.to_thread(fleet.run, *upgrade, "broken")
    # This one serves at first.
    with pytest.raises(AssertionError, match=r"t-\d+ is (starting|failed).* had moved were moved back"):
        await asyncio.to_thread(fleet.run, *upgrade, "web@3", "--soak", "20")

    with pytest.raises(AssertionError, match=r"did not answer at / on port 8000 .* had moved were moved back"):
        await asyncio.to_thread(fleet.run, *upgrade, "deaf")
    assert states(fleet) == [("web@2", "running")] * 3, "and whoever ran runs again"

    await asyncio.to_thread(fleet.run, "workspace", "stop", "--space", "cup", "--all")
    with pytest.raises(AssertionError, match="moved back"):
        await asyncio.to_thread(fleet.run, *upgrade, "broken")
    assert {environment for environment, _ in states(fleet)} == {"web@2"}, "one that sleeps is woken to be tried"
    assert "watching for 0.5 s" in await asyncio.to_thread(fleet.run, *upgrade, "web@1", "--soak", "0.5")

    async def asleep():
        return states(fleet) == [("web@1", "stopped")] * 3

    await until(asleep, 30, 0.2)
    await asyncio.to_thread(fleet.run, "workspace", "start", "--space", "cup", "--state", "stopped")
    assert states(fleet) == [("web@1", "running")] * 3
    assert "kept until" in await asyncio.to_thread(
        fleet.run, "workspace", "keep", "--space", "cup", "--all", "--hours", "2"
    )
    explained = await asyncio.to_thread(fleet.run, "workspace", "explain", "--space", "cup", "--environment", "web@1")
    assert explained.count("Asked to be kept running until") + explained.count("kept until") >= 3
