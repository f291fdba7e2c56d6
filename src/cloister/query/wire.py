"""What is spoken with a query worker: lines of JSON, and frames of an answer with their length before them."""

import asyncio
import json
import struct
from typing import Any

from cloister.query.errors import WorkerUnavailable

FRAME_LIMIT = 256 * 1024 * 1024


def encode(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


async def read_line(reader: asyncio.StreamReader) -> dict[str, Any]:
    text = await reader.readuntil(b"\n")
    message = json.loads(text)
    if not isinstance(message, dict):
        raise WorkerUnavailable
    return message


async def read_frame(reader: asyncio.StreamReader) -> bytes | dict[str, Any]:
    (length,) = struct.unpack(">I", await reader.readexactly(4))
    if length > FRAME_LIMIT:
        raise WorkerUnavailable
    if length:
        return await reader.readexactly(length)
    return await read_line(reader)
