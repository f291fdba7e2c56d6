"""What the agent needs of `json`, `selectors`, `socket` and `signal`, made of the halves of those modules that are in C.

The other halves import `enum`, `re` and what those import in turn, which takes twice as long as Python does to start; and
every sandbox waits for its agent. Tests hold what is here against the modules themselves.
"""

import _ctypes
import _json
import _signal as signal  # noqa: F401 - whose names it has
import _socket
import select
import sys

READ, WRITE = 1, 2
_IN, _OUT = select.EPOLLIN, select.EPOLLOUT
PR_SET_DUMPABLE = 4


# -- json


class _Strict:
    """How the scanner reads: as `json.loads` does."""

    strict = True
    object_hook = object_pairs_hook = array_hook = None
    parse_float, parse_int, parse_constant = float, int, float


SPACE = " \t\r\n"
_scan = _json.make_scanner(_Strict())


def loads(data):
    """Read a JSON text, UTF-8.

    Raises:
        ValueError: when it is none.
    """
    text = data.decode().strip(SPACE)
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        raise ValueError("no JSON") from None
    if end != len(text):
        raise ValueError("more than JSON")
    return value


def dumps(value):
    """Write what the agent says: texts, whole numbers, yes, no and nothing, in lists and in dictionaries by text.

    Raises:
        TypeError: for anything else.
    """
    if isinstance(value, str):
        return _json.encode_basestring_ascii(value)
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return "{" + ", ".join(f"{dumps(key)}: {dumps(of)}" for key, of in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(dumps(of) for of in value) + "]"
    if value is None:
        return "null"
    if isinstance(value, int):
        return repr(value).lower()  # True and False, too
    raise TypeError(type(value).__name__)


# -- sockets


def unix():
    return _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)


def tcp():
    return _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)


def listen_on(listener, address, backlog):
    if listener.family == _socket.AF_INET:
        listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
    listener.bind(address)
    listener.listen(backlog)


def accept(listener):
    number, _ = listener._accept()  # noqa: SLF001 - what `socket.accept` is made of
    return _socket.socket(listener.family, listener.type, 0, fileno=number)


def end_writing(sock):
    sock.shutdown(_socket.SHUT_WR)


def receive_fds(sock, most):
    """The open files that the other end passes, with a byte beside them; the caller's to close."""
    numbers = []
    _, parts, _, _ = sock.recvmsg(1, _socket.CMSG_LEN(most * 4), _socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in parts:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
            numbers += [int.from_bytes(data[at : at + 4], sys.byteorder) for at in range(0, len(data) - 3, 4)]
    return numbers


class Selector:
    """Who is to be called when a file can be read or written. Each is registered once, and unregistered before it is closed."""

    def __init__(self):
        self._epoll = select.epoll()
        self._watched = {}  # by number: what for, and who

    def __len__(self):
        return len(self._watched)

    def register(self, file, mask, call):
        number = _number(file)
        self._epoll.register(number, _events(mask))
        self._watched[number] = (mask, call)

    def modify(self, file, mask):
        """Change what a file is watched for.

        Raises:
            KeyError: when it is not watched.
        """
        number = _number(file)
        before, call = self._watched[number]
        if mask != before:
            self._epoll.modify(number, _events(mask))
            self._watched[number] = (mask, call)

    def unregister(self, file):
        """Watch a file no longer; say whether it was watched."""
        number = _number(file)
        if self._watched.pop(number, None) is None:
            return False
        try:
            self._epoll.unregister(number)
        except OSError:
            pass  # it has been closed
        return True

    def watched(self, file):
        return _number(file) in self._watched

    def serve(self, seconds):
        """Call whoever is ready. What an earlier call of the same round took away, or put anew, is not: what it was ready
        for may be over. It is looked up by its number: a socket that is closed has none any more.
        """
        ready = [(self._watched.get(n), n, e) for n, e in self._epoll.poll(-1 if seconds is None else seconds)]
        for found, number, event in ready:
            if found is not None and self._watched.get(number) is found:
                mask, call = found
                can = (READ if event & ~_OUT else 0) | (WRITE if event & ~_IN else 0)
                if can & mask:
                    call(can & mask)

    def close(self):
        self._epoll.close()


def _number(file):
    return file if isinstance(file, int) else file.fileno()


def _events(mask):
    return (_IN if mask & READ else 0) | (_OUT if mask & WRITE else 0)


# -- the process


def not_dumpable():
    """Let programs of the same user not look into this process (prctl(2))."""
    call = _ctypes.dlsym(_ctypes.dlopen(None, 0), "prctl")
    _ctypes.call_function(call, (PR_SET_DUMPABLE, 0, 0, 0, 0))
