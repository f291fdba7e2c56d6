"""The agent's end of the control channel: a WebSocket (RFC 6455, the client's side).

No library, though there are good ones: importing one takes twice as long as Python does to start, and every sandbox would
wait for it. Extensions are not asked for, and the answer's ``Sec-WebSocket-Accept`` is not compared: it tells servers that
speak WebSocket from caches that do not, and on this socket there is only the platform. Tests hold it against wsproto.
"""

import binascii
import os

OPENED, CONTINUATION, TEXT, BINARY, BROKEN, PING, PONG = -1, 0, 1, 2, 8, 9, 10
MAX_HEAD = 16 * 1024
MAX_MESSAGE = 64 * 1024 * 1024
SHORT = 125  # the longest payload whose length stands in the second byte, and that of control frames


class Channel:
    """Bytes to messages and back; it reads and writes nothing itself."""

    def __init__(self):
        self.data = bytearray()
        self.message = None  # the pieces of a text so far
        self.opened = False

    def request(self, path):
        """What to send first."""
        key = binascii.b2a_base64(os.urandom(16), newline=False).decode()
        lines = [f"GET {path} HTTP/1.1", "Host: cloister", "Upgrade: WebSocket", "Connection: Upgrade"]
        lines += [f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", "", ""]
        return "\r\n".join(lines).encode()

    def frame(self, opcode, payload):
        """A whole message as it goes out: masked, as clients must."""
        size = len(payload)
        if size <= SHORT:
            head = bytes((0x80 | opcode, 0x80 | size))
        elif size < 1 << 16:
            head = bytes((0x80 | opcode, 0x80 | 126)) + size.to_bytes(2, "big")
        else:
            head = bytes((0x80 | opcode, 0x80 | 127)) + size.to_bytes(8, "big")
        mask = os.urandom(4)
        pad = (mask * (size // 4 + 1))[:size]
        masked = int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")
        return head + mask + masked.to_bytes(size, "big")

    def received(self, data):
        """What came: ``(OPENED, b"")``, ``(TEXT, bytes)``, ``(PING, bytes)``; ``(BROKEN, b"")`` is the last."""
        self.data += data
        if not self.opened:
            end = self.data.find(b"\r\n\r\n")
            if end < 0 and len(self.data) <= MAX_HEAD:
                return
            if not self.data.startswith(b"HTTP/1.1 101 "):
                yield BROKEN, b""
                return
            del self.data[: end + 4]
            self.opened = True
            yield OPENED, b""
        while (found := self._frame()) is not None:
            final, opcode, payload = found
            if opcode == PING:
                yield PING, payload
            elif opcode == PONG:
                continue
            elif (opcode == TEXT and self.message is None) or (opcode == CONTINUATION and self.message is not None):
                self.message = (self.message or b"") + payload
                if len(self.message) > MAX_MESSAGE:
                    opcode = BROKEN
                elif final:
                    message, self.message = self.message, None
                    yield TEXT, message
            else:
                opcode = BROKEN
            if opcode == BROKEN:
                yield BROKEN, b""
                return

    def _frame(self):
        """The next whole frame, taken off; None while it has not come. Anything that may not be is ``BROKEN``."""
        if len(self.data) < 2:
            return None
        first, size = self.data[0], self.data[1]
        opcode, start = first & 0x0F, 2
        if first & 0x70 or size & 0x80 or (opcode >= BROKEN and (size > SHORT or not first & 0x80)):
            return True, BROKEN, b""
        if size > SHORT:
            start = 4 if size == 126 else 10
            if len(self.data) < start:
                return None
            size = int.from_bytes(self.data[2:start], "big")
        if size > MAX_MESSAGE:
            return True, BROKEN, b""
        if len(self.data) < start + size:
            return None
        payload = bytes(self.data[start : start + size])
        del self.data[: start + size]
        return bool(first & 0x80), opcode, payload
