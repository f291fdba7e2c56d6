"""The list of who may enrol, in the API."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class AllowListIn(BaseModel):
    """Rows of a CSV: an address, then anything."""

    model_config = ConfigDict(extra="forbid")

    csv: Annotated[str, Field(max_length=5_000_000)]


class AllowListEntryOut(BaseModel):
    """An address that may enrol."""

    address: str
    note: str


class AllowListPage(BaseModel):
    """Addresses, in order."""

    items: list[AllowListEntryOut]
    next_cursor: str | None


class AllowListRow(BaseModel):
    """What became of a row."""

    row: int
    address: str
    outcome: str
    why: str


class AllowListReport(BaseModel):
    """What became of every row."""

    added: int
    known: int
    wrong: int
    rows: list[AllowListRow]
