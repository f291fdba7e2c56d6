"""Floods on the channel: slowed, bounded, and an end is heard whatever happens."""

import asyncio
import time

import pytest
from sqlalchemy import text

from tests.attacks.conftest import resident
from tests.support import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_refusals_cannot_drown_the_audit_log(arena):
    sandbox = await arena.start(
        """
        import os, socket, time
        for _ in range(2):
            os.fork()
        end = time.monotonic() + 3
        request = b"GET /v1/datasets HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n" * 64
        sock = socket.socket(socket.AF_UNIX)
        sock.connect("/run/cloister/inner.sock")
        sock.setblocking(False)
        while time.monotonic() < end:
            try:
                sock.send(request)
            except OSError:
                time.sleep(0.001)
            try:
                sock.recv(1 << 20)
            except OSError:
                pass
        """
    )
    await arena.api.finish(arena.attacker, sandbox)
    await arena.platform.recorder.flush()
    async with arena.platform.database.read() as uow:
        count = await uow.session.scalar(
            text("SELECT count(*) FROM audit_records WHERE sandbox = :s"), {"s": sandbox["id"]}
        )
    assert count < 1000, f"{count} records by one sandbox in three seconds"


@pytest.mark.parametrize(
    "flood",
    ["print('x' * 1000)", "sys.stdout.write('y' * 1_000_000)", "sys.stderr.buffer.write(bytes(range(256)) * 400)"],
)
async def test_a_flood_of_output_is_slowed_and_bounded(arena, flood):
    before = resident()
    sandbox = await arena.start(
        f"""
        import sys, time
        end = time.monotonic() + 3
        written = 0
        while time.monotonic() < end:
            {flood}
            written += 1
        print("\\nlast words", flush=True)
        """
    )
    finished = asyncio.ensure_future(arena.api.finish(arena.attacker, sandbox))
    peak, slowest = before, 0.0
    while not finished.done():
        then = time.monotonic()
        await asyncio.sleep(0.02)
        slowest, peak = max(slowest, time.monotonic() - then - 0.02), max(peak, resident())
    state, output = await finished
    assert (state["state"], state["exit_code"]) == ("stopped", 0), state["reason"]
    assert "last words\n" in output
    assert peak - before < 64 << 20
    assert slowest < 0.5, "the platform goes on meanwhile"
    log = arena.platform.sandbox_controller.place(sandbox["id"]).log
    assert sum(path.stat().st_size for path in log.iterdir()) <= 1.2 * 2**20
    assert len(output) > 100_000
    await arena.healthy()


async def test_a_flood_while_the_platform_is_away_waits_in_the_sandbox(arena):
    """The agent keeps no more than its high-water mark: the program's pipes fill, and it waits."""
    sandbox = await arena.start(
        """
        import sys, time
        end = time.monotonic() + 10
        while time.monotonic() < end:
            sys.stdout.write("z" * 1_000_000)
        print("last words", flush=True)
        """
    )

    async def begun():  # its first lines may be gone from what is kept before anybody looks
        return "z" in await arena.api.output(arena.attacker, sandbox)

    await until(begun, 20)
    connected = arena.platform.sandbox_controller.live[sandbox["id"]].connected
    await arena.platform.inner.hang_up(connected)
    most = 0
    for _ in range(30):
        await asyncio.sleep(0.1)
        used = await arena.platform.backend.usage(sandbox["id"])
        most = max(most, used.memory_bytes if used else 1 << 40)
    assert most < 64 << 20, f"it grew to {most >> 20} MiB (or was killed for it)"
    await arena.platform.inner.open(connected)
    state, _ = await arena.api.finish(arena.attacker, sandbox)
    assert state["exit_code"] == 0, state


async def test_an_end_that_was_not_heard_is_told_again(arena, monkeypatch):
    """The platform may be killed between the agent's EXIT and its own hearing of it."""
    inner, dropped = arena.platform.inner, []
    hear = inner._on_message

    async def deaf_once(sandbox, message):
        if message.get("type") == "EXIT" and not dropped:
            dropped.append(message)
            return False
        return await hear(sandbox, message)

    monkeypatch.setattr(inner, "_on_message", deaf_once)
    state, _ = await arena.run("print('done')", seconds=8)
    assert dropped
    assert (state["exit_code"], state["reason"]) == (0, None), state
