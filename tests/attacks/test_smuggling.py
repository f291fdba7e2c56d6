"""Requests through the egress proxy that are not what they seem: one request goes out, the one that was checked."""

import asyncio

import pytest
import pytest_asyncio

from tests.attacks.conftest import resident
from tests.attacks.egress import allowed_host, get, through_proxy

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECOND = "GET /smuggled HTTP/1.1\r\nHost: other.example\r\n\r\n"
SMUGGLING = {
    "a second request behind the first": get("allowed.example", body=SECOND),
    "behind a body": get("allowed.example", more="Content-Length: 2\r\n", body="ab" + SECOND),
    "two lengths": get("allowed.example", more=f"Content-Length: 0\r\nContent-Length: {len(SECOND)}\r\n", body=SECOND),
    "two lengths, swapped": get(
        "allowed.example", more=f"Content-Length: {len(SECOND)}\r\nContent-Length: 0\r\n", body=SECOND
    ),
    "a negative length": get("allowed.example", more="Content-Length: -1\r\n", body=SECOND),
    "a length with a sign": get("allowed.example", more=f"Content-Length: +{len(SECOND)}\r\n", body=SECOND),
    "a length with an underscore": get("allowed.example", more="Content-Length: 5_0\r\n", body=SECOND),
    "chunked": get("allowed.example", more="Transfer-Encoding: chunked\r\n", body="0\r\n\r\n" + SECOND),
    "chunked, with a space": get("allowed.example", more="Transfer-Encoding : chunked\r\n", body="0\r\n\r\n" + SECOND),
    "chunked, folded": get(
        "allowed.example", more="X: y\r\n Transfer-Encoding: chunked\r\n", body="0\r\n\r\n" + SECOND
    ),
    "bare line feeds in a header": get("allowed.example", more="X: y\n\n" + SECOND.replace("\r\n", "\n") + "X: y\r\n"),
    "a Host behind a bare line feed": get("allowed.example", more="X: y\nHost: other.example /smuggled\r\n"),
    "a bare carriage return": get("allowed.example", more="X: y\rHost: other.example /smuggled\r\n"),
    "line feeds in the method": "GET\t/smuggled\tHTTP/1.1\nHost:\tother.example\n\n" + get("allowed.example"),
    "line feeds in the version": "GET http://allowed.example/ HTTP/1.1\nHost:other.example\nX:/smuggled\r\n\r\n",
    "line feeds in the target": "GET http://allowed.example/\nHost:/smuggled HTTP/1.1\r\n\r\n",
    "a NUL in a header": get("allowed.example", more="X: y\0Host: other.example /smuggled\r\n"),
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def smuggled(arena):
    async with allowed_host(arena) as heard:
        found = {}
        answers = []
        for request in SMUGGLING.values():
            heard.heard.clear()
            answers += await through_proxy(arena, request)
            found[request] = b"|".join(heard.heard)
    return {name: (found[request], answer) for (name, request), answer in zip(SMUGGLING.items(), answers, strict=True)}


@pytest.mark.parametrize("name", SMUGGLING)
async def test_nothing_is_smuggled_behind_a_request(smuggled, name):
    heard, _ = smuggled[name]
    assert b"other.example" not in heard, heard
    assert b"smuggled" not in heard or b"GET /Host:/smuggled HTTP/1.1" in heard, heard
    assert heard.count(b"HTTP/1.1") <= 1, heard


async def test_a_body_without_end_does_not_fill_the_memory_of_the_platform(arena):
    """A negative length once meant: read all there is, into memory, before passing any of it on."""
    async with allowed_host(arena):
        before = resident()
        sandbox = await arena.start(
            """
            import socket
            sock = socket.create_connection(("127.0.0.1", 3128))
            sock.sendall(b"POST http://allowed.example/ HTTP/1.1\\r\\nContent-Length: -1\\r\\n\\r\\n")
            sock.settimeout(3)
            sent = 0
            try:
                for _ in range(4000):
                    sent += sock.send(bytes(65536))
            except OSError:
                pass
            print("sent", sent)
            """
        )
        finished = asyncio.ensure_future(arena.api.finish(arena.attacker, sandbox))
        peak = before
        while not finished.done():
            peak = max(peak, resident())
            await asyncio.sleep(0.02)
        await finished
    assert peak - before < 64 * 2**20, f"it grew by {(peak - before) >> 20} MiB"
    await arena.healthy()
