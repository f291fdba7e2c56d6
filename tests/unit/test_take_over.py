"""Programs that a killed process left running: the next one waits for them, and for nothing else."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cloister.sandboxes import processes_privileged, take_over

LEAVES = """
import asyncio, sys
from pathlib import Path
from cloister.sandboxes import take_over
from cloister.sandboxes.processes_privileged import output_of

async def main():
    await take_over(Path(sys.argv[1]))
    await output_of("sh", "-c", sys.argv[2], leaves_one=sys.argv[3] == "leaves", may_end=sys.argv[3] == "may end")

asyncio.run(main())
"""


@pytest.fixture
def mark(tmp_path):
    yield tmp_path
    processes_privileged._of.clear()


def leave(mark: Path, program: str, how: str = "writes") -> None:
    """A process of ours that is killed while a program of its own runs."""
    begun = mark / "pid"
    command = [
        sys.executable,
        "-c",
        LEAVES,
        str(mark),
        f"echo $$ > {begun}.new; mv {begun}.new {begun}; {program}",
        how,
    ]
    with subprocess.Popen(command) as process:
        while not begun.exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_programs_that_were_left_are_waited_for(mark, tmp_path):
    await asyncio.to_thread(leave, mark, f"sleep 1; touch {tmp_path}/over")
    assert not (tmp_path / "over").exists()
    await take_over(mark)
    assert (tmp_path / "over").exists()


async def test_one_that_does_not_end_is_killed(mark, tmp_path, monkeypatch):
    monkeypatch.setattr(processes_privileged, "LEFT_SECONDS", 0.2)
    await asyncio.to_thread(leave, mark, "while :; do sleep 1; done", "may end")
    await take_over(mark)
    assert not runs(int((tmp_path / "pid").read_text()))


async def test_a_server_that_is_meant_to_go_on_is_not_waited_for(mark, tmp_path):
    await asyncio.to_thread(leave, mark, "exec sleep 60", "leaves")
    await take_over(mark)
    pid = int((tmp_path / "pid").read_text())
    assert runs(pid)
    os.kill(pid, signal.SIGKILL)


async def test_one_that_writes_a_volume_is_waited_for_but_not_killed(mark, tmp_path, monkeypatch):
    monkeypatch.setattr(processes_privileged, "LEFT_SECONDS", 0.2)
    await asyncio.to_thread(leave, mark, "exec sleep 60")
    await take_over(mark)
    pid = int((tmp_path / "pid").read_text())
    assert runs(pid)
    os.kill(pid, signal.SIGKILL)


async def test_what_says_in_a_sandbox_that_it_was_left_is_not_believed(mark, tmp_path):
    """Its processes have a namespace of their own."""
    environ = os.environ | {"CLOISTER_PROGRAM_OF": str(mark)}
    command = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "sleep", "60"]
    inside = []
    with subprocess.Popen(command, env=environ) as process:
        try:
            for _ in range(200):
                assert process.poll() is None, "this needs user namespaces, as sandboxes do"
                inside = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
                if inside:
                    break
                await asyncio.sleep(0.01)
            marks = {f"CLOISTER_PROGRAM_OF={mark}".encode()}
            found = processes_privileged._marked(marks)
            assert process.pid in found
            assert int(inside[0]) not in found
            for descriptor in found.values():
                os.close(descriptor)
        finally:
            for pid in inside:
                os.kill(int(pid), signal.SIGKILL)
