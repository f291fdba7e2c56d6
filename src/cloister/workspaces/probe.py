"""Asking an app in a sandbox something over its socket."""

import asyncio
import json
from typing import Any

import h11

from cloister.sandboxes import AppNotListening, Place, connect_app

SECONDS = 5.0
LIMIT = 1024 * 1024


async def ask(place: Place, path: str, token: str) -> tuple[int, bytes]:
    """GET a path; return the status and at most 1 MB of the body.

    Raises:
        AppNotListening: when nothing answers in time, or what answers is no HTTP.
    """
    try:
        async with asyncio.timeout(SECONDS):
            return await _ask(place, path, token)
    except (TimeoutError, OSError, h11.RemoteProtocolError) as error:
        raise AppNotListening from error


async def _ask(place: Place, path: str, token: str) -> tuple[int, bytes]:
    reader, writer = await connect_app(place)
    try:
        http = h11.Connection(h11.CLIENT)
        headers = [("Host", "localhost"), ("Authorization", f"token {token}"), ("Connection", "close")]
        request = http.send(h11.Request(method="GET", target=path, headers=headers))
        writer.write((request or b"") + (http.send(h11.EndOfMessage()) or b""))
        status, body = 0, b""
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await reader.read(65536))
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
                if len(body) > LIMIT:
                    return status, body[:LIMIT]
            elif isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)) or event is h11.PAUSED:
                return status, body
    finally:
        writer.close()


async def answers(place: Place, path: str, token: str) -> bool:
    """Whether an app serves."""
    try:
        status, _ = await ask(place, path, token)
    except AppNotListening:
        return False
    return 0 < status < 500


async def read_json(place: Place, path: str, token: str) -> Any:
    """What an app says at a path, or None. It is the word of code that nobody trusts."""
    try:
        status, body = await ask(place, path, token)
        return json.loads(body) if status == 200 else None
    except (AppNotListening, ValueError):
        return None
