"""What programs in a sandbox use: governed data.

    import cloister
    table = cloister.sql("select country, count(*) from patients group by country")
    frame = cloister.sql("select * from patients where age > $age", {"age": 65}).to_pandas()
    cloister.datasets()
    cloister.export("results.csv", why="the table of our paper")  # files leave when a reviewer has looked at them

In an integration:

    cloister.MODEL["city"]           # the configuration
    cloister.output({"degrees": 21}) # a new model for all widgets that draw it

In a workspace's notebooks ``%%sql`` is there; elsewhere ``%load_ext cloister`` adds it.
"""

import json
import os
import socket
import threading

__all__ = ["MODEL", "QueryError", "connect", "datasets", "export", "forward", "output", "sql"]

EGRESS = ("127.0.0.1", 3128)


class QueryError(Exception):
    """The platform did not answer with data; ``code`` is stable, the text says what to do."""

    def __init__(self, code, detail):
        super().__init__(detail)
        self.code = code


def _dial():
    """A connection to the inner API."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(os.environ.get("CLOISTER_INNER", "/run/cloister/inner.sock"))
    return sock


def _token():
    with open(os.environ.get("CLOISTER_TOKEN_FILE", "/dev/shm/cloister-token")) as file:
        return file.read().strip()


def _request(method, path, body=None, accept="application/json"):
    from http.client import HTTPConnection  # half of this file's time to start; many programs only put something out

    connection = HTTPConnection("cloister")
    connection.sock = _dial()
    headers = {"Authorization": f"Bearer {_token()}", "Accept": accept, "Content-Type": "application/json"}
    connection.request(method, path, None if body is None else json.dumps(body, default=str), headers)
    response = connection.getresponse()
    if response.status != 200:
        try:
            problem = json.loads(response.read())
        except ValueError:
            problem = {}
        raise QueryError(problem.get("code", "internal"), problem.get("detail", f"status {response.status}"))
    return response


def sql(query, params=None, *, as_=None):
    """Ask governed data; return a ``pyarrow.Table``, or a pandas or Polars frame (``as_="pandas"``, ``"polars"``).

    Raises:
        QueryError: when the statement is refused or fails.
    """
    from http.client import IncompleteRead

    import pyarrow as pa

    response = _request("POST", "/v1/query", {"sql": query, "params": params}, "application/vnd.apache.arrow.stream")
    try:
        with pa.ipc.open_stream(response) as reader:
            table = reader.read_all()
    except (IncompleteRead, ConnectionError, pa.ArrowInvalid) as error:
        raise QueryError(
            "query.interrupted", "The answer was cut off: the query was cancelled or met a limit."
        ) from error
    if as_ == "pandas":
        return table.to_pandas()
    if as_ == "polars":
        import polars as pl

        return pl.from_arrow(table)
    return table


def datasets():
    """The tables that may be queried here: a list of dictionaries with ``table``, ``version`` and ``columns``."""
    return json.loads(_request("GET", "/v1/datasets").read())["items"]


def export(*paths, why):
    """Ask to take files of this workspace out; return the request, as a dictionary.

    They are copied as they are now. A steward or reviewer looks at them; you get an e-mail, and find them on the page
    “Exports” once they may leave.

    Raises:
        QueryError: when there is no such file, or they are too large.
    """
    home = os.path.expanduser("~")
    inside = [os.path.relpath(path, home) for path in paths]
    return json.loads(_request("POST", "/v1/exports", {"paths": inside, "why": why}).read())


def connect(host, port, timeout=30):
    """Return a socket to a host that this program may reach, for protocols that are not HTTP.

    Raises:
        OSError: when it may not, or nobody answers there.
    """
    there = socket.create_connection(EGRESS, timeout)
    there.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n") and len(head) < 65536:
        byte = there.recv(1)  # not one byte of what comes after may be taken
        if not byte:
            break
        head += byte
    if not head.startswith(b"HTTP/1.1 200"):
        there.close()
        said = head.split(b"\r\n", 1)[0].decode("latin-1") or "the connection was closed"
        raise OSError(f"{host}:{port}: {said}")
    there.settimeout(None)
    return there


def forward(host, port):
    """Open a port on this sandbox's own loopback that leads to a host; return it. For libraries that only dial."""
    door = socket.create_server(("127.0.0.1", 0))

    def pump(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def serve():
        while True:
            guest, _ = door.accept()
            try:
                there = connect(host, port)
            except OSError:
                guest.close()
                continue
            for pair in ((guest, there), (there, guest)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return door.getsockname()[1]


def __getattr__(name):
    """``MODEL`` is read when it is first asked for: only integrations have one."""
    if name != "MODEL":
        raise AttributeError(f"module 'cloister' has no attribute {name!r}")
    with open("/dev/shm/cloister-configuration") as file:
        globals()["MODEL"] = json.load(file)
    return globals()["MODEL"]


_lock = threading.Lock()
_channels = []  # at most one: the connection that the last output went by


def output(value):
    """Publish a new model: anything that JSON can say. Waits until the platform has taken it.

    Of what is common in data, JSON has no word for: not-a-number and infinity become null, bytes base64.

    Raises:
        QueryError: when it is too large.
        TypeError, ValueError: when JSON cannot say it.
    """
    try:
        text = json.dumps(value, allow_nan=False, separators=(",", ":"), default=_plain)
    except ValueError:
        text = json.dumps(_finite(value), allow_nan=False, separators=(",", ":"))
    body = text.encode()
    head = (
        "POST /v1/output HTTP/1.1\r\nHost: cloister\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {_token()}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    with _lock:
        while True:
            kept = bool(_channels)
            channel = _channels.pop() if kept else _dial()
            try:
                channel.sendall(head + body)
                status, said = _answer(channel)
            except OSError:
                channel.close()
                if not kept:
                    raise
                continue  # the platform had closed it meanwhile: once more, by a new one
            _channels.append(channel)
            break
    if status >= 300:
        problem = json.loads(said) if said[:1] == b"{" else {}
        raise QueryError(problem.get("code", "internal"), problem.get("detail", f"status {status}"))


def _answer(channel):
    """Read the status and the body of a short answer."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = channel.recv(65536)
        if not chunk:
            raise ConnectionError("the platform closed the connection")
        data += chunk
    head, body = data.split(b"\r\n\r\n", 1)
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    while len(body) < length:
        chunk = channel.recv(65536)
        if not chunk:
            raise ConnectionError("the platform closed the connection")
        body += chunk
    return int(head.split(b" ", 2)[1]), body


def _plain(value):
    """What is common in data and no JSON: numbers of NumPy, frames, dates."""
    for name in ("isoformat", "tolist"):
        if hasattr(value, name):
            return getattr(value, name)()
    if hasattr(value, "to_pylist"):
        return value.to_pylist()
    if hasattr(value, "to_dict"):
        return value.to_dict("records")
    if hasattr(value, "total_seconds"):
        return value.total_seconds()
    if hasattr(value, "as_integer_ratio"):  # a Decimal, also one that is not a number
        number = float(value)
        return int(value) if number.is_integer() else number  # exact, however large
    if isinstance(value, (bytes, bytearray, memoryview)):
        from base64 import b64encode

        return b64encode(value).decode()
    if isinstance(value, (set, frozenset)):
        return list(value)
    raise TypeError(f"{type(value).__name__} is nothing that JSON can say")


def _finite(value):
    """The same without numbers that JSON has no word for."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return _finite(_plain(value))


def load_ipython_extension(ipython):
    """Add the cell magic ``%%sql [NAME]``: shows the answer as a data frame, and keeps it under a name."""

    def magic(line, cell):
        try:
            frame = sql(cell, as_="pandas")
        except ImportError:
            frame = sql(cell)
        if line.strip():
            ipython.user_ns[line.strip()] = frame
        return frame

    ipython.register_magic_function(magic, "cell", "sql")
