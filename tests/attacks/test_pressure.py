"""Pressure on the platform itself: what one sandbox can make it hold, for itself and so for everybody."""

import asyncio
import contextlib
import os

import pytest

from tests.attacks.conftest import resident

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("port", [3127, 3128])
@pytest.mark.parametrize("closing", ["", "os.close(2)"])
async def test_filling_the_agents_forwarder_does_not_end_the_sandbox(arena, port, closing):
    """The agent is where these connections pile up: when it has no descriptor left it must go on."""
    state, output = await arena.run(
        f"""
        import os, socket, time
        {closing}  # which makes the agent's descriptors odd or even in number
        time.sleep(0.2)
        held = []
        for number in range(700):
            time.sleep(0.002)
            try:
                sock = socket.socket()
                sock.settimeout(2)
                sock.connect(("127.0.0.1", {port}))
                held.append(sock)
            except OSError:
                break
        for sock in held:
            sock.close()
        time.sleep(0.5)
        print("survived")
        """
    )
    assert (state["exit_code"], output) == (0, "survived\n"), state
    await arena.healthy()


CONNECT = """
import os, socket, sys, time
sys.stderr = open("/dev/null", "w")
held = 0
for child in range(20):
    if os.fork() == 0:
        mine = []
        try:
            while True:
                sock = socket.socket(socket.AF_UNIX)
                sock.settimeout(1)
                sock.connect("/run/cloister/{name}")
                sock.send(b"GET /v1/datasets HTTP/1.1\\r\\n")
                mine.append(sock)
        except OSError:
            pass
        time.sleep(20)
        os._exit(0)
time.sleep(4)
print("held", flush=True)
time.sleep(20)
"""


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("name", ["inner.sock", "egress.sock"])
async def test_connections_of_one_sandbox_do_not_use_up_those_of_the_platform(arena, name):
    before = descriptors()
    sandbox = await arena.start(CONNECT.format(name=name))

    async def held():
        return "held" in await arena.api.output(arena.attacker, sandbox)

    peak = before
    with contextlib.suppress(AssertionError):
        for _ in range(200):
            peak = max(peak, descriptors())
            if await held():
                break
            await asyncio.sleep(0.05)
    await arena.healthy()
    await arena.stop(sandbox)
    assert peak - before < 512, f"one sandbox took {peak - before} descriptors of the platform"


async def test_large_bodies_that_never_end_do_not_fill_the_memory_of_the_platform(arena):
    before = resident()
    sandbox = await arena.start(
        """
        import os, socket, time
        token = open(os.environ["CLOISTER_TOKEN_FILE"]).read()
        head = f"POST /v1/query HTTP/1.1\\r\\nHost: x\\r\\nAuthorization: Bearer {token}\\r\\nContent-Length: 16000000\\r\\n\\r\\n"
        held = []
        for _ in range(40):
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(2)
            try:
                sock.connect("/run/cloister/inner.sock")
                sock.sendall(head.encode())
                for _ in range(15):
                    sock.sendall(bytes(1000000))
            except OSError:
                pass
            held.append(sock)
        print("held", flush=True)
        time.sleep(2)
        """,
        seconds=40,
    )
    finished = asyncio.ensure_future(arena.api.finish(arena.attacker, sandbox))
    peak = before
    while not finished.done():
        peak = max(peak, resident())
        await asyncio.sleep(0.02)
    await finished
    assert peak - before < 128 << 20, f"it grew by {(peak - before) >> 20} MiB"
    await arena.healthy()
