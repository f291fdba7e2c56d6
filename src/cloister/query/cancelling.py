"""Work that is given up as soon as something else happens."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def unless(happens: asyncio.Event, work: Coroutine[Any, Any, T], error: Callable[[], Exception]) -> T:
    """Return the outcome of some work.

    Raises:
        Exception: the given one, when the event happens first; the work has ended then.
    """
    task, happened = asyncio.ensure_future(work), asyncio.ensure_future(happens.wait())
    try:
        await asyncio.wait({task, happened}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise error()
        return task.result()
    finally:
        happened.cancel()
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
