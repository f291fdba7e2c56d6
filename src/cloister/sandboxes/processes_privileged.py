"""Programs of the host's: short ones, run to their end, and waiting for others'. This file runs processes.

They are started by :mod:`subprocess`, which does not copy this process's page tables (``vfork``); uvloop's own way does, and
stands still for it: 8 ms against 0.8 with 180 MB in use.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from typing import IO, cast


def environment() -> dict[str, str]:
    """This process's own, with the folders of ``mkfs.ext4`` and ``e2fsck``, which users other than root often lack."""
    return os.environ | {"PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"}


async def output_of(*command: str) -> tuple[int, str]:
    """Run a program; return its exit code and what it wrote (both streams).

    A cancelled caller leaves no process behind: it is killed and waited for.

    Raises:
        OSError: when there is no such program.
    """
    # In memory and not a pipe: nobody need read it while it grows, nor wait for programs that it leaves behind.
    with os.fdopen(os.memfd_create("output"), "w+b", buffering=0) as output:
        process = _spawn(*command, output=output, errors=subprocess.STDOUT)
        try:
            await _end(process.pid)
        except asyncio.CancelledError:
            process.kill()
            process.wait()
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


async def exit_code_of(*command: str, errors: IO[bytes]) -> int:
    """Run a program to its end, whose complaints go to a file; a cancelled caller waits for it all the same."""
    process = _spawn(*command, output=subprocess.DEVNULL, errors=errors)
    try:
        await _end(process.pid)
    except asyncio.CancelledError:
        await _end(process.pid)
        process.wait()
        raise
    return process.wait()


def _spawn(*command: str, output: IO[bytes] | int, errors: IO[bytes] | int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=environment())


async def ended(pid: int) -> None:
    """Wait until a process has ended, a child or not, and take it off the process table."""
    with contextlib.suppress(ProcessLookupError, ChildProcessError):  # gone; not ours, after a restart
        await _end(pid, reap=True)


async def _end(pid: int, *, reap: bool = False) -> None:
    """Wait by a descriptor, never by the number, which the next process may bear."""
    descriptor = os.pidfd_open(pid)
    loop = asyncio.get_running_loop()
    end: asyncio.Future[None] = loop.create_future()

    def on_end() -> None:
        if not end.done():
            end.set_result(None)

    loop.add_reader(descriptor, on_end)
    try:
        await end
        if reap:
            os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG)
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
