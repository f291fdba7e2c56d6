"""WebSockets whose endpoint may also write frames that were encoded once for many viewers.

ASGI takes one message for one connection: each of a thousand viewers costs an encoding and several turns of the event
loop. What is written here goes straight into the connection's buffer, and never more than it takes.
"""

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request


class WireProtocol(WebSocketsSansIOProtocol):
    """Offers itself to the endpoint as the extension ``cloister.wire`` of the scope."""

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if "scope" in vars(self):  # else the handshake was refused
            extensions = self.scope["extensions"] or {}
            self.scope["extensions"] = {**extensions, "cloister.wire": {"wire": self}}

    def takes(self) -> bool:
        """Whether a frame may be written now: the connection is open, and its buffer is not full."""
        return self.writable.is_set() and not (self.close_sent or self.disconnected or self.transport.is_closing())

    def write(self, frame: bytes) -> None:
        """Write one whole frame; only when `takes` said so, and between two messages."""
        self.transport.write(frame)
