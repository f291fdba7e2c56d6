"""The Jupyter kernel protocol as it travels on WebSockets: enough of it to know what is executed. Pure.

Two forms exist: JSON text (the default; binary with buffers), and ``v1.kernel.websocket.jupyter.org`` (binary: a count
of offsets, the offsets as 64-bit little-endian numbers, then channel, header, parent header, metadata, content and
buffers). Source: jupyter_server's documentation of its WebSocket protocols.
"""

import json
import struct
from dataclasses import dataclass
from typing import Any

V1 = "v1.kernel.websocket.jupyter.org"
_NEEDED = b'"execute_re'  # of execute_request and execute_reply: most messages are neither
MAX_PARTS = 4096


@dataclass(frozen=True)
class Execute:
    """Somebody asks for code to be run."""

    id: str
    code: str
    cell: str | None
    silent: bool


@dataclass(frozen=True)
class Reply:
    """It was run."""

    id: str
    status: str


def read(data: bytes | str, *, v1: bool) -> Execute | Reply | None:
    """Return what a frame asks or answers; None for all else, also for what is malformed (the kernel refuses it)."""
    raw = data.encode() if isinstance(data, str) else data
    if _NEEDED not in raw:
        return None
    try:
        parts = _split(raw) if v1 and isinstance(data, bytes) else _join(data)
    except (ValueError, KeyError, TypeError, IndexError, struct.error, RecursionError):
        return None
    return _meaning(*parts)


def _split(raw: bytes) -> tuple[Any, Any, Any, Any]:
    (count,) = struct.unpack_from("<Q", raw)
    if not 6 <= count <= MAX_PARTS:
        message = "not that form"
        raise ValueError(message)
    offsets = struct.unpack_from(f"<{count}Q", raw, 8)
    header, parent, metadata, content = (json.loads(raw[offsets[i] : offsets[i + 1]]) for i in range(1, 5))
    return header, parent, metadata, content


def _join(data: bytes | str) -> tuple[Any, Any, Any, Any]:
    if isinstance(data, bytes):  # with buffers: a count and offsets, big-endian and 32 bits wide, then the JSON
        count, start = struct.unpack_from("!II", data)
        end = struct.unpack_from("!I", data, 8)[0] if count > 1 else len(data)
        data = data[start:end].decode()
    message = json.loads(data)
    return message["header"], message.get("parent_header"), message.get("metadata"), message.get("content")


def _meaning(header: Any, parent: Any, metadata: Any, content: Any) -> Execute | Reply | None:
    if not isinstance(header, dict) or not isinstance(content, dict):
        return None
    kind = header.get("msg_type")
    if kind == "execute_request" and isinstance(content.get("code"), str):
        cell = metadata.get("cellId") if isinstance(metadata, dict) else None
        return Execute(
            str(header.get("msg_id", ""))[:100], content["code"], str(cell)[:100] if cell else None,
            bool(content.get("silent")),
        )  # fmt: skip
    if kind == "execute_reply" and isinstance(parent, dict):
        return Reply(str(parent.get("msg_id", ""))[:100], str(content.get("status", "?"))[:20])
    return None
