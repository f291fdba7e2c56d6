"""Programs of the host's: short ones, run to their end, and waiting for others'. This file runs processes."""

import asyncio
import contextlib
import os


def environment() -> dict[str, str]:
    """This process's own, with the folders of ``mkfs.ext4`` and ``e2fsck``, which users other than root often lack."""
    return os.environ | {"PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"}


async def output_of(*command: str) -> tuple[int, str]:
    """Run a program; return its exit code and what it wrote (both streams).

    A cancelled caller leaves no process behind: it is killed and waited for.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment(),
    )
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        if process.returncode is None:
            process.kill()
        await process.communicate()
        raise
    return process.returncode or 0, output.decode("utf-8", "replace").strip()


async def ended(pid: int) -> None:
    """Wait until a process has ended, a child or not."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
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
        _reap(descriptor)
        os.close(descriptor)


def _reap(descriptor: int) -> None:
    """Take an ended process off the process table, where it is ours (it is not after a restart)."""
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG)
