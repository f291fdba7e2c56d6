"""The egress proxy: the only way out of a sandbox. HTTP and CONNECT, by an allow-list of names, all of it recorded.

A name is resolved here, once, and the connection goes to the address that was checked: a name that resolves to
something else a moment later (DNS rebinding) changes nothing. Private, loopback, link-local (cloud metadata) and other
special addresses, and those of this machine, are refused whatever name leads there, unless an operator names the
network in ``egress_allow_networks``.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import h11

from cloister.audit import Draft, Name, Outcome, Recorder
from cloister.core.errors import CloisterError
from cloister.platform import Settings, metrics
from cloister.platform.logs import logger
from cloister.sandboxes.errors import EgressDenied
from cloister.spaces import EgressRule

log = logger(__name__)
HEAD_LIMIT = 64 * 1024
HEAD_SECONDS = 30
SPECIAL = [
    ipaddress.ip_network(text)
    for text in ("192.0.0.0/24", "192.88.99.0/24", "fec0::/10", "64:ff9b::/96", "64:ff9b:1::/48", "::/96", "2001::/32")
]
"""Not the internet's, whatever the Python version thinks: special purposes, site-local, translated and tunnelled."""
OURS = {b"host", b"connection", b"proxy-connection", b"proxy-authorization", b"keep-alive", b"upgrade"}
CHUNK = 64 * 1024
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], Awaitable[list[str]]]


async def resolve(host: str, port: int) -> list[str]:
    """All addresses of a name, by the system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def narrowed(rules: list[EgressRule], hosts: tuple[dict[str, Any], ...] | None) -> list[EgressRule]:
    """Of the hosts that a program declares, those that its space allows; all that the space allows when it declares none.

    A wildcard is kept only where the space has the same or a wider one.
    """
    if hosts is None:
        return rules
    found = []
    for wanted in (EgressRule.model_validate(host) for host in hosts):
        ports = [port for port in wanted.ports if any(port in r.ports and _covers(r.host, wanted.host) for r in rules)]
        if ports:
            found.append(EgressRule(host=wanted.host, ports=ports))
    return found


def _covers(rule: str, wanted: str) -> bool:
    return rule == wanted or (rule.startswith("*.") and wanted.endswith(rule[1:]))


@dataclass(frozen=True)
class Client:
    """Whose requests these are."""

    space: str | None
    """None for a build, which belongs to none."""
    team: int | None
    person: int | None
    sandbox: str


@dataclass
class _Traffic:
    """Bytes of one connection."""

    sent: int = 0
    received: int = 0


def allowed(rules: list[EgressRule], host: str, port: int) -> bool:
    """Whether an allow-list has a host and port. ``*.example.org`` is every name under it, not itself."""
    host = host.lower().rstrip(".")
    for rule in rules:
        matches = host.endswith(rule.host[1:]) if rule.host.startswith("*.") else host == rule.host
        if matches and port in rule.ports:
            return True
    return False


def is_public(address: Address) -> bool:
    """Whether an address is one of the internet's and of nobody's inside."""
    mapped = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
    if mapped is not None:
        return is_public(mapped)
    if any(address in network for network in SPECIAL if network.version == address.version):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _is_own(address: Address) -> bool:
    """Whether an address is one of this machine's: then it is also where packets to it would come from."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(address), 9))  # sends nothing
            return ipaddress.ip_address(probe.getsockname()[0].split("%")[0]) == address
        except OSError:
            return False  # there is no way to it at all


@dataclass
class EgressProxy:
    """One proxy for all sandboxes; each has its own socket, and is known by it."""

    settings: Settings
    recorder: Recorder
    resolver: Resolver = resolve

    async def serve(
        self, client: Client, rules: list[EgressRule], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Handle one connection from a sandbox."""
        try:
            await self._handle(client, rules, reader, writer)
        except CloisterError as error:
            await _answer(writer, error.status, error.detail)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
            log.info("egress.failed", sandbox=client.sandbox, error=str(error))
            await _answer(writer, 502, "The connection could not be made.")
        finally:
            writer.close()

    async def _handle(
        self, client: Client, rules: list[EgressRule], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        async with asyncio.timeout(HEAD_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
        try:
            request, body = _parse(head)
            method = request.method.decode("ascii")
            host, port = _target(method, request.target.decode("ascii"))
        except EgressDenied as error:
            self._note(client, Name.EGRESS_DENIED, Outcome.REFUSED, "?", 0, why=error.detail)
            raise
        addresses = await self._check(client, rules, method, host, port)
        there_reader, there_writer = await self._connect(addresses, port)
        traffic = _Traffic()
        try:
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await writer.drain()
            else:
                there_writer.write(_origin_form(request, host, port))
            await asyncio.gather(
                _pump(reader, there_writer, traffic, "sent", body), _pump(there_reader, writer, traffic, "received")
            )
        finally:
            there_writer.close()
            self._note(client, Name.EGRESS_ENDED, Outcome.OK, host, port, sent=traffic.sent, received=traffic.received)

    async def _check(self, client: Client, rules: list[EgressRule], method: str, host: str, port: int) -> list[Address]:
        """Return the addresses that a request may go to; its record is durable when this returns.

        Raises:
            EgressDenied: when it may go to none.
        """
        why, addresses = None, []
        if not allowed(rules, host, port):
            why = f"{host}:{port} is not on this space's list of hosts."
        else:
            try:
                found = await self.resolver(host, port)
            except OSError:
                found = []
            addresses = [
                address for text in found if self._may_reach(address := ipaddress.ip_address(text.split("%")[0]))
            ]
            if not addresses:
                why = f"{host} has no public address."
        if why is not None:
            metrics.EGRESS_REQUESTS.labels("denied").inc()
            self._note(client, Name.EGRESS_DENIED, Outcome.REFUSED, host, port, method=method, why=why)
            raise EgressDenied(why)
        metrics.EGRESS_REQUESTS.labels("allowed").inc()
        await self.recorder.record(
            self._draft(client, Name.EGRESS_ALLOWED, Outcome.OK, host, port, method=method, address=str(addresses[0]))
        )
        return addresses

    def _may_reach(self, address: Address) -> bool:
        if any(
            address in network for network in self.settings.egress_allow_networks if network.version == address.version
        ):
            return True
        return is_public(address) and not _is_own(address)

    async def _connect(self, addresses: list[Address], port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        failure: OSError | TimeoutError = OSError("no address")
        for address in addresses[:4]:
            try:
                async with asyncio.timeout(self.settings.egress_connect_seconds):
                    return await asyncio.open_connection(str(address), port, limit=CHUNK)
            except (OSError, TimeoutError) as error:
                failure = error
        raise OSError(str(failure)) from failure

    def _draft(self, client: Client, name: Name, outcome: Outcome, host: str, port: int, **details: str | int) -> Draft:
        return Draft(
            name=name, outcome=outcome, person=client.person, team=client.team, actor="sandbox", space=client.space,
            sandbox=client.sandbox, subject=f"{host}:{port}", details=details,
        )  # fmt: skip

    def _note(self, client: Client, name: Name, outcome: Outcome, host: str, port: int, **details: str | int) -> None:
        self.recorder.note(self._draft(client, name, outcome, host, port, **details))


def _target(method: str, target: str) -> tuple[str, int]:
    url = urlsplit(f"//{target}" if method == "CONNECT" else target)
    if url.hostname is None or (method != "CONNECT" and url.scheme != "http"):
        raise EgressDenied("This proxy takes CONNECT host:port, and http:// addresses.")
    host = url.hostname.rstrip(".")
    if not host.isascii() or len(host) > 253:
        raise EgressDenied("That is no host name.")
    return host, url.port or (443 if method == "CONNECT" else 80)


def _parse(head: bytes) -> tuple[h11.Request, int | None]:
    """A request's head, and how many bytes of body follow it (None: a tunnel, which has no end).

    h11 reads it strictly, and only what h11 understood is passed on: two readers of one text would see two requests.
    """
    if set(head.replace(b"\r\n", b"")) & set(b"\r\n\0"):
        raise EgressDenied("That is no HTTP request.")  # lines end in one way here, and nothing hides in them
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT)
    connection.receive_data(head)
    try:
        request = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise EgressDenied("That is no HTTP request.") from error
    if not isinstance(request, h11.Request) or connection.trailing_data[0]:
        raise EgressDenied("That is no HTTP request.")
    headers = dict(request.headers)
    if b"transfer-encoding" in headers:
        raise EgressDenied("Send a Content-Length: this proxy takes no chunked requests.")
    if request.method == b"CONNECT":
        return request, None
    return request, int(headers.get(b"content-length", b"0"))


def _origin_form(request: h11.Request, host: str, port: int) -> bytes:
    """The request as a server wants it: path only, our Host, one request per connection, nothing for proxies.

    The Host is the one that was checked, and the connection closes after one answer: a second request for another
    host cannot ride along behind it.
    """
    url = urlsplit(request.target.decode("ascii"))
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    kept = [(name, value) for name, value in request.headers if name not in OURS]
    authority = host if port == 80 else f"{host}:{port}"
    headers = [(b"Host", authority.encode()), *kept, (b"Connection", b"close")]
    data = h11.Connection(h11.CLIENT).send(h11.Request(method=request.method, target=path, headers=headers))
    return data or b""


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, traffic: _Traffic, side: str, limit: int | None = None
) -> None:
    """Copy until the end, or until ``limit`` bytes."""
    try:
        while data := await reader.read(CHUNK if limit is None else min(CHUNK, limit)):
            if limit is not None:
                limit -= len(data)
            setattr(traffic, side, getattr(traffic, side) + len(data))
            metrics.EGRESS_BYTES.labels(side).inc(len(data))
            writer.write(data)
            await writer.drain()
        # Only a tunnel is half-closed: many a server takes a request that is for one that was given up.
        if limit is None and writer.can_write_eof():
            writer.write_eof()
    except (ConnectionError, OSError):
        writer.close()


async def _answer(writer: asyncio.StreamWriter, status: int, text: str) -> None:
    body = (text + "\n").encode()
    # Where a tunnel is refused, most clients show this line and nothing else.
    said = " ".join(text.split()).encode("ascii", "ignore").decode()[:120]
    head = f"HTTP/1.1 {status} {said}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    try:
        writer.write(head.encode() + body)
        await writer.drain()
    except OSError:
        return
