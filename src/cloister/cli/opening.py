"""A platform for the length of one command: its services, without its server or controllers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cloister.bootstrap import Platform
from cloister.platform.settings import load


@asynccontextmanager
async def opened() -> AsyncIterator[Platform]:
    """The platform of this machine's settings; its database is closed whatever happens."""
    platform = Platform(load())
    try:
        yield platform
    finally:
        await platform.database.close()
