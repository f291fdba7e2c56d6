"""What declarations are made of: sizes, times, and the base of all."""

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

_BYTES = re.compile(r"^(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?$", re.IGNORECASE)
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def parse_bytes(text: str | int) -> int:
    """``512M`` → 536870912. Units are powers of 1024.

    Raises:
        ValueError: when the text is no size.
    """
    match = _BYTES.match(str(text).strip())
    if match is None:
        message = f"“{text}” is no size; write for example 512M or 2G"
        raise ValueError(message)
    return int(float(match[1]) * _UNITS[match[2].upper()])


def _in_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


Moment = Annotated[datetime, AfterValidator(_in_utc)]
"""A time. One without a zone is in UTC; a plain date is its first moment."""


class Declared(BaseModel):
    """Base of all declarations: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)
