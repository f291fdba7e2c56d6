"""Connections that the agent passes on: loopback ports to the platform's sockets, and the app's socket to a loopback port."""

import os

from lean import READ, WRITE, accept, end_writing, listen_on, tcp, unix

APP_SOCKET = "/run/app/app.sock"
MAX_PAIRS = 60  # the platform accepts as many of one sandbox
HIGH_WATER = 256 * 1024
CHUNK = 32 * 1024
BACKLOG = 64


def push(sock, data):
    """Send what goes now; return the rest. Raises OSError when nobody is there any more."""
    try:
        while data:
            data = data[sock.send(data) :]
    except BlockingIOError:
        pass
    return data


class Pump:
    """One direction of a forwarded connection."""

    def __init__(self, forwards, source, sink):
        self.forwards, self.source, self.sink, self.buffer, self.ended = forwards, source, sink, b"", False
        self.other = None
        self.counted = False

    def on_source(self):
        try:
            data = self.source.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.buffer += data
        else:
            self.ended = True
        self.on_sink()

    def on_sink(self):
        try:
            self.buffer = push(self.sink, self.buffer)
        except OSError:
            self.buffer, self.ended = b"", True
        if self.ended and not self.buffer:
            try:
                end_writing(self.sink)
            except OSError:
                pass
        self.forwards.watch(self, self.other)


class Forwards:
    """All of them, around the agent's selector."""

    def __init__(self, selector):
        self.selector = selector
        self.pairs, self.waiting = 0, []  # and listeners that wait for one to end

    def listen(self, port, path):
        try:
            listener = tcp()
            listen_on(listener, ("127.0.0.1", port), BACKLOG)
        except OSError:
            return  # no loopback here: programs can still use the sockets themselves
        listener.setblocking(False)
        self._accept_on(listener, path)

    def listen_for_app(self, port):
        """Join the app socket to a loopback port, for programs that speak only TCP."""
        listener = unix()
        try:
            os.unlink(APP_SOCKET)
        except FileNotFoundError:
            pass
        listen_on(listener, APP_SOCKET, BACKLOG)
        listener.setblocking(False)
        self._accept_on(listener, ("127.0.0.1", port))

    def _accept_on(self, listener, path):
        self.selector.register(listener, READ, lambda _mask: self._on_connection(listener, path))

    def _on_connection(self, listener, path):
        if self.pairs >= MAX_PAIRS:
            self.selector.unregister(listener)  # until one of them ends: callers wait in the backlog
            self.waiting.append((listener, path))
            return
        near = far = None
        try:
            near = accept(listener)
            far = unix() if isinstance(path, str) else tcp()
            far.setblocking(False)  # a full backlog must not make us wait
            try:
                far.connect(path)
            except BlockingIOError:
                if isinstance(path, str):
                    raise  # there is no room
                # Else it is under way: what is sent waits until it can be, and a refusal is read.
        except OSError:
            for sock in (near, far):
                if sock is not None:
                    sock.close()
            return
        self.pairs += 1
        near.setblocking(False)
        there, back = Pump(self, near, far), Pump(self, far, near)
        there.other, back.other = back, there
        self.selector.register(near, READ, lambda mask: self._on_pair(mask, there, back))
        self.selector.register(far, READ, lambda mask: self._on_pair(mask, back, there))

    @staticmethod
    def _on_pair(mask, reading, writing):
        if mask & READ and not reading.ended:
            reading.on_source()
        if mask & WRITE:
            writing.on_sink()

    def watch(self, pump, other):
        if pump.ended and other.ended and not pump.buffer and not other.buffer:
            for sock in (pump.source, pump.sink):
                self.selector.unregister(sock)
                sock.close()
            if not pump.counted:
                pump.counted = other.counted = True
                self.pairs -= 1
                for listener, path in self.waiting:
                    self._accept_on(listener, path)
                self.waiting = []
            return
        for one, two in ((pump, other), (other, pump)):
            want = (READ if not one.ended and len(one.buffer) < HIGH_WATER else 0) | (WRITE if two.buffer else 0)
            if not want:
                self.selector.unregister(one.source)
            elif self.selector.watched(one.source):
                self.selector.modify(one.source, want)
            else:
                reader, writer = one, two
                self.selector.register(one.source, want, lambda mask, r=reader, w=writer: self._on_pair(mask, r, w))
