"""What comes in: a limit on one request, and on a file that comes in many."""

import io
import re
from collections.abc import AsyncIterator

from aiohttp import web

from cloister.gateway.decision import Allowed
from cloister.gateway.errors import UploadTooLarge
from cloister.platform import Settings
from cloister.platform.pace import Pace
from cloister.spaces import parse_bytes

CHUNK = 64 * 1024
PART_BYTES = 4 * 1024 * 1024
"""A part of a file that JupyterLab sends in many is smaller, and is looked into."""
Body = AsyncIterator[bytes] | io.BytesIO | None
_CONTENTS = re.compile(r"^/api/contents/.")
_PART = re.compile(rb'"chunk"\s*:\s*(-?\d+)')
FILES = 10_000
OVERLAP = 64
"""Bytes of a piece that are looked at again with the next: the word that is looked for may lie across."""


class Uploads:
    """Counts the parts of files that are being sent."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sent: dict[tuple[str | None, str], int] = {}

    async def check(self, request: web.Request, allowed: Allowed) -> Body:
        """Return a request's body as it may be passed on.

        Raises:
            UploadTooLarge: when it, or the file that it is a part of, is more than the space allows.
            TooSlow: when it comes a byte a second; for a large one from what is returned.
        """
        if not request.can_read_body:
            return None
        most = parse_bytes(allowed.policies.upload)
        refusal = UploadTooLarge(f"At most {allowed.policies.upload} at once.")
        size = request.content_length
        if size is not None and size > most:
            raise refusal
        if request.method not in {"PUT", "POST"} or not _CONTENTS.match(request.path):
            return self._bounded(request, most, refusal)
        if size is None or size > PART_BYTES:
            return self._looked_through(request, allowed, most, refusal)
        body = b"".join([chunk async for chunk in self._bounded(request, most, refusal)])
        parts = _PART.findall(body)
        if parts:  # of several, the last is the one that counts, as wherever JSON is read in Python
            self._count((allowed.workspace, request.path), int(parts[-1]), len(body), most, refusal)
        return io.BytesIO(body)

    async def _looked_through(
        self, request: web.Request, allowed: Allowed, most: int, refusal: UploadTooLarge
    ) -> AsyncIterator[bytes]:
        """A large body as it comes; its last piece only once it is known that the file that it is a part of may be so large."""
        held, seen, number, size = b"", b"", None, 0
        async for chunk in self._bounded(request, most, refusal):
            size += len(chunk)
            for found in _PART.findall(seen + chunk):
                number = int(found)
            seen = (seen + chunk)[-OVERLAP:]
            if held:
                yield held
            held = chunk
        if number is not None:
            self._count((allowed.workspace, request.path), number, size, most, refusal)
        if held:
            yield held

    async def _bounded(self, request: web.Request, most: int, refusal: UploadTooLarge) -> AsyncIterator[bytes]:
        """A body of a length that nobody said, or that may be wrong, as fast as it comes, but not slower than it may."""
        size, pace = 0, Pace(self._settings)
        while True:
            async with pace.waiting():
                chunk = await request.content.read(CHUNK)
            if not chunk:
                return
            size += len(chunk)
            pace.got(len(chunk))
            if size > most:
                raise refusal
            yield chunk

    def _count(self, file: tuple[str | None, str], number: int, size: int, most: int, refusal: UploadTooLarge) -> None:
        if len(self._sent) > FILES:
            self._sent.clear()
        sent = size + (0 if number == 1 else self._sent.get(file, 0))
        self._sent[file] = sent
        if sent > most * 4 / 3 + PART_BYTES:  # parts come as base64, in JSON
            raise refusal
        if number == -1:
            del self._sent[file]
