"""What attacks on the egress proxy share: a listener that must not be reached, and names that resolve as told."""

import asyncio
import contextlib
from ipaddress import ip_network

PROXY = """
import socket, attack

def ask(text):
    with socket.create_connection(("127.0.0.1", 3128), timeout=15) as sock:
        sock.sendall(text if isinstance(text, bytes) else text.encode())
        said = b""
        while b"\\r\\n\\r\\n" not in said or b"END" not in said:
            data = sock.recv(65536)
            if not data:
                break
            said += data
        return said.decode("latin-1")

answers = []
for text in {requests}:
    try:
        answers.append(ask(text))
    except OSError as error:
        answers.append("error " + str(error))
attack.report(answers=answers)
"""


def connect(host, port=443):
    return f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}\r\n\r\n"


def get(host, port=80, path="/", more="", body=""):
    authority = host if port == 80 else f"{host}:{port}"
    return f"GET http://{authority}{path} HTTP/1.1\r\nHost: {authority}\r\n{more}\r\n{body}"


class Listener:
    """A service of the host that must stay unseen (or be reached exactly once); it keeps all that it is told."""

    def __init__(self):
        self.heard: list[bytes] = []

    async def serve(self, reader, writer):
        self.heard.append(b"")
        at = len(self.heard) - 1
        with contextlib.suppress(OSError):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nEND")
            await writer.drain()
            with contextlib.suppress(TimeoutError):
                while data := await asyncio.wait_for(reader.read(65536), 0.5):
                    self.heard[at] += data
        writer.close()


@contextlib.contextmanager
def resolving(arena, answers, networks=()):
    """Names answer as told; a list of lists answers differently each time. Yields the names that were asked."""
    proxy, asked = arena.platform.proxy, []
    before = proxy.settings, proxy.resolver

    async def resolver(host, _port):
        asked.append(host)
        found = answers[host]
        return found.pop(0) if isinstance(found[0], list) else found

    proxy.resolver = resolver
    proxy.settings = before[0].model_copy(update={"egress_allow_networks": [ip_network(n) for n in networks]})
    try:
        yield asked
    finally:
        proxy.settings, proxy.resolver = before


@contextlib.contextmanager
def connecting(arena):
    """No connection is made; yields the addresses that one was wanted to."""
    proxy, tried = arena.platform.proxy, []

    async def no_way(addresses, _port):
        tried.append([str(address) for address in addresses])
        raise OSError("unreachable")

    before, proxy._connect = proxy._connect, no_way
    try:
        yield tried
    finally:
        proxy._connect = before


async def through_proxy(arena, *requests):
    return (await arena.attack(PROXY.format(requests=repr(requests))))["answers"]


@contextlib.asynccontextmanager
async def allowed_host(arena):
    """The operator allows 127.0.0.0/8; port 80 of the list leads to a listener of ours."""
    heard, proxy = Listener(), arena.platform.proxy
    server = await asyncio.start_server(heard.serve, "127.0.0.1", 0)
    port, before = server.sockets[0].getsockname()[1], proxy._connect

    async def connect_there(addresses, _port):
        assert [str(address) for address in addresses] == ["127.0.0.1"]
        return await before(addresses, port)

    proxy._connect = connect_there
    try:
        with resolving(arena, {"allowed.example": ["127.0.0.1"]}, ["127.0.0.0/8"]):
            yield heard
    finally:
        proxy._connect = before
        server.close()
        await server.wait_closed()
