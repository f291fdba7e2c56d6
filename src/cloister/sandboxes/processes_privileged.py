"""Programs of the host's: short ones, run to their end, and waiting for others'. This file runs processes.

They are started by :mod:`subprocess`, which does not copy this process's page tables (``vfork``); uvloop's own way does, and
stands still for it: 8 ms against 0.8 with 180 MB in use.

Short programs are marked by a word in their environment. One that was running when its platform was killed goes on, and would
remove what the next platform has just started under the same name. So the next one waits for it first (:func:`take_over`).
"""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import IO, cast

from cloister.platform.logs import logger

log = logger(__name__)
LEFT_SECONDS = 10.0
"""So long a program that a killed platform left is waited for; then it is killed, if it is one that may be."""
KILLED_SECONDS = 1.0
MARK, MAY_END = "CLOISTER_PROGRAM_OF", "CLOISTER_PROGRAM_MAY_END"
_of: list[str] = []
"""Whose programs this process starts: a run directory's, once it has one."""


def environment() -> dict[str, str]:
    """This process's own, with the folders of ``mkfs.ext4`` and ``e2fsck``, which users other than root often lack."""
    return os.environ | {"PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"}


async def take_over(folder: Path) -> None:
    """Wait for short programs that an earlier process on the same state directory left running; mark those of this one."""
    mark = os.path.realpath(folder)
    marks = {f"{MARK}={mark}".encode()}
    if left := await _ended_at(0, marks):
        log.warning("programs.left", processes=left, reason="an earlier process started them, and they do not end")
        # What writes a volume is left alone: until it ends, that is busy.
        await _ended_at(signal.SIGKILL, marks | {f"{MAY_END}=1".encode()})
    _of[:] = [mark]


async def _ended_at(word: int, marks: set[bytes]) -> list[int]:
    """Send a signal (0 is none) to marked programs and wait for their end; return those that do not end in time."""
    left = await asyncio.to_thread(_marked, marks)
    deadline = asyncio.get_running_loop().time() + LEFT_SECONDS
    while left:
        try:
            for descriptor in left.values():
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(descriptor, word)
            async with asyncio.timeout_at(deadline):
                await asyncio.gather(*(_end_of(descriptor) for descriptor in left.values()))
        except TimeoutError:
            return sorted(left)
        finally:
            for descriptor in left.values():
                os.close(descriptor)
        left = await asyncio.to_thread(_marked, marks)
    return []


def _marked(marks: set[bytes]) -> dict[int, int]:
    """Descriptors of the processes that have these words in their environment, by process id.

    Only of this process's own namespace of processes and user: what runs in sandboxes could say anything of itself.
    """
    own, found = os.readlink("/proc/self/ns/pid"), {}

    def ours(process: Path) -> bool:
        if process.stat().st_uid != os.geteuid() or os.readlink(process / "ns" / "pid") != own:
            return False
        return marks <= set((process / "environ").read_bytes().split(b"\0"))

    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:  # it has ended, or is another user's
            if ours(process):
                descriptor = os.pidfd_open(int(process.name))
                stack.callback(os.close, descriptor)
                if ours(process):  # still: it is not another one by the same number
                    found[int(process.name)] = descriptor
                    stack.pop_all()
    return found


async def output_of(*command: str, leaves_one: bool = False, may_end: bool = False) -> tuple[int, str]:
    """Run a program; return its exit code and what it wrote (both streams).

    A cancelled caller leaves no process behind: it is killed and waited for.

    Args:
        command: its name and arguments.
        leaves_one: whether it is meant to leave a process behind that goes on, as a file system's server.
        may_end: whether it may be killed by a later platform that it keeps waiting.

    Raises:
        OSError: when there is no such program.
    """
    # In memory and not a pipe: nobody need read it while it grows, nor wait for programs that it leaves behind.
    with os.fdopen(os.memfd_create("output"), "w+b", buffering=0) as output:
        process = _spawn(
            *command, output=output, errors=subprocess.STDOUT, marks=_marks(leaves_one=leaves_one, may_end=may_end)
        )
        try:
            await _end(process.pid)
        except asyncio.CancelledError:
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # the kernel may not let go of it
                process.wait(KILLED_SECONDS)
            raise
        output.seek(0)
        return process.wait(), output.read().decode("utf-8", "replace").strip()


async def exit_code_saying(*command: str, said: Callable[[str], None]) -> int:
    """Run a program to its end and hand on each line that it writes (both streams); return its exit code.

    A cancelled caller leaves none of its processes behind.
    """
    loop = asyncio.get_running_loop()
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment(),
        start_new_session=True,
    )  # fmt: skip

    def read() -> None:
        with cast("IO[bytes]", process.stdout) as lines:
            for line in lines:
                loop.call_soon_threadsafe(said, line.decode("utf-8", "replace"))

    reading = asyncio.ensure_future(asyncio.to_thread(read))
    try:
        await _end(process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # also what it left running
        process.wait()
        await asyncio.shield(reading)
    return process.returncode


async def exit_code_of(*command: str, errors: IO[bytes], leaves_one: bool = False) -> int:
    """Run a program to its end, whose complaints go to a file; a cancelled caller waits for it all the same."""
    marks = _marks(leaves_one=leaves_one, may_end=True)
    process = _spawn(*command, output=subprocess.DEVNULL, errors=errors, marks=marks)
    try:
        await _end(process.pid)
    except asyncio.CancelledError:
        await _end(process.pid)
        process.wait()
        raise
    return process.wait()


def _marks(*, leaves_one: bool, may_end: bool) -> dict[str, str]:
    return {} if leaves_one or not _of else {MARK: _of[0], **({MAY_END: "1"} if may_end else {})}


def _spawn(
    *command: str, output: IO[bytes] | int, errors: IO[bytes] | int, marks: dict[str, str]
) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=environment() | marks)


async def ended(pid: int) -> None:
    """Wait until a process has ended, a child or not, and take it off the process table."""
    with contextlib.suppress(ProcessLookupError, ChildProcessError):  # gone; not ours, after a restart
        await _end(pid, reap=True)


async def _end(pid: int, *, reap: bool = False) -> None:
    """Wait by a descriptor, never by the number, which the next process may bear."""
    descriptor = os.pidfd_open(pid)
    try:
        await _end_of(descriptor)
        if reap:
            os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG)
    finally:
        os.close(descriptor)


async def _end_of(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    end: asyncio.Future[None] = loop.create_future()

    def on_end() -> None:
        if not end.done():
            end.set_result(None)

    loop.add_reader(descriptor, on_end)
    try:
        await end
    finally:
        loop.remove_reader(descriptor)
