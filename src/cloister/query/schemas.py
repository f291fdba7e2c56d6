"""Queries as the API takes and shows them."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

JsonScalar = str | int | float | bool | None


class QueryIn(BaseModel):
    """A statement to answer."""

    model_config = ConfigDict(extra="forbid")

    sql: Annotated[str, Field(min_length=1, max_length=1_000_000)]
    params: list[JsonScalar] | dict[str, JsonScalar] | None = None
    """For ``?`` a list, for ``$name`` an object."""
    team: Annotated[str, Field(max_length=20)] | None = None


class OpenQuery(BaseModel):
    """A query under way."""

    id: str
    person: str
    team: str | None


class OpenQueries(BaseModel):
    """The queries under way that you may see."""

    items: list[OpenQuery]


class GrantedTableOut(BaseModel):
    """A table that you may query."""

    table: str
    ask: str
    """What it is called in a statement: the dataset's name alone where its only table is called so, too."""
    version: int
    columns: list[dict[str, Any]]
    min_group: int | None
    max_rows: int | None
    until: datetime | None
    """When what you are granted of it ends."""


class GrantedTables(BaseModel):
    """The tables that you may query."""

    items: list[GrantedTableOut]
