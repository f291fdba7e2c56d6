"""Cursor pagination: an opaque cursor names the last row seen, so that pages neither skip nor repeat."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from cloister.core.errors import Invalid

MAX_PAGE = 500

T = TypeVar("T")
K = TypeVar("K", str, int)


class BadCursor(Invalid):
    """That cursor was not made by this server. Start again without one."""

    code = "invalid.cursor"


@dataclass(frozen=True)
class Page(Generic[T]):
    """Some items and the cursor of the next page, which is None on the last."""

    items: Sequence[T]
    next_cursor: str | None


def encode_cursor(key: str | int) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None, kind: type[K]) -> K | None:
    """Return the key inside a cursor.

    Raises:
        BadCursor: when it is not one of ours.
    """
    if cursor is None:
        return None
    try:
        key = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError) as error:
        raise BadCursor from error
    if type(key) is not kind or (isinstance(key, int) and abs(key) >= 2**62):
        raise BadCursor
    return key


def page_of(rows: Sequence[T], limit: int, key: Callable[[T], str | int]) -> Page[T]:
    """Make a page of at most ``limit`` items from a query that asked for ``limit + 1``."""
    more = len(rows) > limit
    items = rows[:limit]
    return Page(items, encode_cursor(key(items[-1])) if more and items else None)
