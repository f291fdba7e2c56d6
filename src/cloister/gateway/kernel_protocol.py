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
_REPLY = b'"execute_reply"'  # as kernels of ours write it: most messages are none
_ASKS = b'"input_request"'
_FAULTS = (ValueError, KeyError, TypeError, AttributeError, IndexError, struct.error, RecursionError)
"""What reading a frame that somebody else wrote may end in."""
MAX_PARTS = 4096
BOOKKEEPING_BYTES = 16 * 1024
_DEBUG = {"evaluate", "setExpression", "setVariable", "setBreakpoints", "setFunctionBreakpoints"}
"""What a debugger asks that runs code."""


class Unreadable(ValueError):
    """A message of which it cannot be said what it executes."""


@dataclass(frozen=True)
class Execute:
    """Somebody asks for code to be run."""

    id: str
    code: str
    cell: str | None
    silent: bool
    also: str | None = None
    """Expressions that are evaluated besides, as JSON."""
    given: bool = False
    """Whether it is an answer to a program that asked for some, as ``input()`` does, and may be run by it."""


@dataclass(frozen=True)
class Reply:
    """It was run."""

    id: str
    status: str


def asked(data: bytes | str, *, v1: bool) -> Execute | None:
    """What a frame from a browser asks to be executed; None when nothing.

    Raises:
        Unreadable: when that cannot be told. Such a frame must not reach the kernel, which may read it otherwise.
    """
    try:
        header, _, metadata, content = _read(data, v1=v1)
        kind = header["msg_type"]
        if kind == "execute_request":
            expressions = content.get("user_expressions")
            return Execute(
                str(header["msg_id"])[:100], _text(content["code"]), _cell(metadata), bool(content.get("silent")),
                json.dumps(expressions) if expressions else None,
            )  # fmt: skip
        if kind == "input_reply":
            return Execute(str(header["msg_id"])[:100], _text(content["value"]), None, silent=False, given=True)
        if kind == "debug_request" and content.get("command") in _DEBUG:
            return Execute(str(header["msg_id"])[:100], json.dumps(content), _cell(metadata), silent=False)
        _text(kind)
    except _FAULTS as error:
        raise Unreadable from error
    return None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        message = "not a text"
        raise TypeError(message)
    return value


def _cell(metadata: Any) -> str | None:
    cell = metadata.get("cellId") if isinstance(metadata, dict) else None
    return str(cell)[:100] if cell else None


def asks_secretly(data: bytes | str, *, v1: bool) -> bool | None:
    """Whether a frame from a kernel asks for a password, as it says; None when it asks for nothing."""
    raw = data.encode() if isinstance(data, str) else data
    if _ASKS not in raw:
        return None
    try:
        header, _, _, content = _read(data, v1=v1)
        return bool(content.get("password")) if header["msg_type"] == "input_request" else None
    except _FAULTS:
        return None


def answered(data: bytes | str, *, v1: bool) -> Reply | None:
    """What a frame from a kernel says was run; None when nothing, or when it cannot be told."""
    raw = data.encode() if isinstance(data, str) else data
    if _REPLY not in raw:
        return None
    try:
        header, parent, _, content = _read(data, v1=v1)
        if header["msg_type"] == "execute_reply":
            return Reply(str(parent["msg_id"])[:100], str(content.get("status", "?"))[:20])
    except _FAULTS:
        return None
    return None


def bookkeeping(data: bytes | str, *, v1: bool) -> bytes | str | None:
    """What a frame from a kernel says of how it is with a request, without anything of what came out; None when nothing."""
    binary = v1 and isinstance(data, bytes)
    try:
        header, parent, _, content = _read(data, v1=v1)
        kind = header["msg_type"]
        if kind in {"status", "kernel_info_reply"}:
            return data if len(data) <= BOOKKEEPING_BYTES else None
        if kind == "input_request":  # without its question, which is something that comes out, too
            said: dict[str, Any] = {"prompt": "", "password": bool(content.get("password"))}
            return _joined(header, parent, said, "stdin", binary=binary)
        if kind != "execute_reply":
            return None
        said = {"status": content.get("status"), "execution_count": content.get("execution_count")}
        failed: dict[str, Any] = {"ename": "", "evalue": "", "traceback": []}
        said |= failed if said["status"] == "error" else {"payload": [], "user_expressions": {}}
    except _FAULTS:
        return None
    return _joined(header, parent, said, "shell", binary=binary)


def _joined(header: Any, parent: Any, content: dict[str, Any], channel: str, *, binary: bool) -> bytes | str:
    """A frame of parts."""
    if not binary:
        message = {
            "header": header, "parent_header": parent, "metadata": {}, "content": content, "channel": channel,
            "buffers": [], "msg_id": header.get("msg_id"), "msg_type": header.get("msg_type"),
        }  # fmt: skip
        return json.dumps(message)
    parts = [channel.encode(), *(json.dumps(part).encode() for part in (header, parent, {}, content))]
    offsets = [8 * (1 + len(parts) + 1)]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    return struct.pack(f"<{1 + len(offsets)}Q", len(offsets), *offsets) + b"".join(parts)


def _read(data: bytes | str, *, v1: bool) -> tuple[Any, Any, Any, Any]:
    """Header, parent header, metadata and content, in whichever form they came."""
    return _split(data) if v1 and isinstance(data, bytes) else _join(data)


def _split(raw: bytes) -> tuple[Any, Any, Any, Any]:
    (count,) = struct.unpack_from("<Q", raw)
    if not 6 <= count <= MAX_PARTS:
        message = "not that form"
        raise ValueError(message)
    offsets = struct.unpack_from(f"<{count}Q", raw, 8)
    # Decoded as kernels do: of bytes, this library would also take other encodings, and read something else.
    parts = [json.loads(raw[offsets[i] : offsets[i + 1]].decode("utf-8", "replace")) for i in range(1, 5)]
    header, parent, metadata, content = parts
    return header, parent, metadata, content


def _join(data: bytes | str) -> tuple[Any, Any, Any, Any]:
    if isinstance(data, bytes):  # with buffers: a count and offsets, big-endian and 32 bits wide, then the JSON
        count, start = struct.unpack_from("!II", data)
        end = struct.unpack_from("!I", data, 8)[0] if count > 1 else len(data)
        data = data[start:end].decode("utf-8", "replace")
    message = json.loads(data)
    return message["header"], message.get("parent_header"), message.get("metadata"), message.get("content")
