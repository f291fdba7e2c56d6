"""Short programs of the host's: run to their end, or ended with whoever asked for them. This file runs processes."""

import asyncio


async def output_of(*command: str) -> tuple[int, str]:
    """Run a program; return its exit code and what it wrote (both streams).

    A cancelled caller leaves no process behind: it is killed and waited for.
    """
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        if process.returncode is None:
            process.kill()
        await process.communicate()
        raise
    return process.returncode or 0, output.decode("utf-8", "replace").strip()
