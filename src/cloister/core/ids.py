"""Identifiers: random sortable ids for things, small stable numbers for people and teams."""

import os
import re
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u to misread
MAX_NUMBER = 2**31 - 1
"""The largest that the database's column holds."""
_NUMBER = re.compile(r"^(p|t)-(\d{1,12})$")


def new_id(prefix: str) -> str:
    """Return e.g. ``sbx_01k9…``: 48 bits of milliseconds, then 80 random bits (as in a ULID), so ids sort by age."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    letters = [_ALPHABET[(value >> shift) & 31] for shift in range(125, -1, -5)]
    return f"{prefix}_{''.join(letters)}"


def person_label(number: int) -> str:
    """``p-000123``: how machines that run code know a person."""
    return f"p-{number:06d}"


def team_label(number: int) -> str:
    """``t-000123``: how machines that run code know a team."""
    return f"t-{number:06d}"


def parse_label(text: str, kind: str) -> int:
    """Return the number in ``p-000123`` or ``t-000123``, or in a bare number.

    Raises:
        ValueError: when the text is neither.
    """
    if text.isascii() and text.isdigit() and int(text[:12]) <= MAX_NUMBER and len(text) <= 12:
        return int(text)
    match = _NUMBER.match(text)
    if match is None or match[1] != kind or int(match[2]) > MAX_NUMBER:
        message = f"“{text}” is not of the form {kind}-000123"
        raise ValueError(message)
    return int(match[2])
