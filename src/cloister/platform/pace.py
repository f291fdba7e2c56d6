"""Bodies that come too slowly: whoever sends a byte a second would hold a connection, and what waits behind it, for ever."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import ClassVar

from cloister.core.errors import CloisterError
from cloister.platform.settings import Settings


class TooSlow(CloisterError):
    """This came too slowly to be waited for. Send it again over a better connection."""

    status: ClassVar[int] = 408
    code: ClassVar[str] = "too_slow"


class Pace:
    """How fast one body comes. Only time that is spent waiting for its sender counts."""

    def __init__(self, settings: Settings) -> None:
        self._grace, self._rate = settings.body_grace_seconds, settings.body_bytes_per_second
        self._waited = 0.0
        self._received = 0

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """While the next piece is waited for.

        Raises:
            TooSlow: when it does not come in the time that all that came so far has earned.
        """
        begun = monotonic()
        try:
            async with asyncio.timeout(self._grace + self._received / self._rate - self._waited):
                yield
        except TimeoutError:
            raise TooSlow from None
        self._waited += monotonic() - begun

    def got(self, size: int) -> None:
        """A piece of so many bytes came."""
        self._received += size
