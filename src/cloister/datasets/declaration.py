"""Datasets and grants as they are declared: the part of ``space.yaml`` that this domain owns, and FAIR metadata."""

import re
from datetime import date
from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from cloister.spaces import Declared, Moment

Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
"""A plain SQL identifier, so that nobody needs quotes."""
Format = Literal["csv", "tsv", "parquet", "json", "excel"]
Operation = Literal["query", "mount", "download"]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)


class Column(Declared):
    """What is known of a column beyond its type."""

    type: str | None = None
    """Overrides the inferred type; an SQL type such as ``INTEGER`` or ``DATE``."""
    description: str = ""
    unit: str | None = None
    """As in UCUM where it fits, for example ``mg/dL``."""
    sensitivity: Literal["public", "internal", "confidential", "restricted"] = "internal"


class Table(Declared):
    """One relation of a dataset, from one file."""

    name: Identifier
    source: str
    """A path beside the declaration, ``package:NAME/PATH`` inside an installed package, ``s3://bucket/key``, or
    ``sha256:…`` for a file that the space has already (as ``cloister space export`` writes of uploads)."""
    format: Format | None = None
    """Told by the file's name when absent."""
    null: str | None = None
    """In CSV, the text that stands for a missing value, besides the empty one."""
    sheet: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    """In a spreadsheet, the sheet by name; the first when absent."""
    columns: dict[str, Column] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _sheets_are_of_spreadsheets(self) -> Self:
        if self.sheet is not None and self.format not in {None, "excel"}:
            message = "a “sheet” belongs to a table of the format excel"
            raise ValueError(message)
        return self


class Metadata(Declared):
    """What makes a dataset findable and citable (after DCAT 3 and DataCite 4)."""

    title: Annotated[str, Field(min_length=1, max_length=300)]
    description: str = ""
    keywords: list[str] = Field(default_factory=list)
    license: str = ""
    """An SPDX identifier, or the licence's name."""
    publisher: str = ""
    contact: str = ""
    citation: str = ""
    homepage: str = ""
    temporal: tuple[date | None, date | None] | None = None
    """First and last day that the data are about."""
    spatial: str = ""


class DatasetDeclaration(Metadata):
    """A dataset with its tables."""

    name: Identifier
    tables: Annotated[list[Table], Field(min_length=1)]

    @property
    def metadata(self) -> Metadata:
        return Metadata.model_validate(self.model_dump(exclude={"name", "tables"}))


class TablePolicy(Declared):
    """What of a table a grant shows."""

    columns: list[str] | None = None
    """Only these columns; all when absent."""
    rows: str | None = None
    """Only rows for which this SQL condition is true."""


_SUBJECT = r"^(everybody|team:[a-z0-9-]+|person:p-\d+)$"


def _subject(text: str) -> str:
    if not re.match(_SUBJECT, text):
        message = (
            f"“{text[:80]}” is nobody; write everybody, team:NAME (or its number, team:t-000007), or person:p-000123"
        )
        raise ValueError(message)
    return text


Subject = Annotated[str, AfterValidator(_subject), WithJsonSchema({"type": "string", "pattern": _SUBJECT})]


class GrantDeclaration(Declared):
    """Who may do what with a dataset."""

    to: Subject
    """``everybody`` in the space, ``team:NAME`` (or its number), or ``person:p-000123``. The most specific one counts;
    of one subject, for each operation the newest."""
    dataset: Identifier
    allow: Annotated[list[Operation], Field(min_length=1)]
    version: Annotated[int, Field(ge=1)] | None = None
    """A version's number; the latest when absent."""
    tables: dict[Identifier, TablePolicy] | None = None
    """Only these tables, narrowed; all of all when absent."""
    max_rows: Annotated[int, Field(ge=1)] | None = None
    max_bytes: Annotated[int, Field(ge=1)] | None = None
    max_seconds: Annotated[float, Field(gt=0)] | None = None
    min_group: Annotated[int, Field(ge=2)] | None = None
    """Only aggregates over groups of at least so many rows."""
    valid_from: Moment | None = None
    valid_until: Moment | None = None

    @model_validator(mode="after")
    def _only_what_can_be_held(self) -> Self:
        if self.min_group is not None and set(self.allow) != {"query"}:
            message = "min_group can be held for queries only: allow is then [query]"
            raise ValueError(message)
        if {self.max_rows, self.max_bytes, self.max_seconds} != {None} and set(self.allow) != {"query"}:
            message = "max_rows, max_bytes and max_seconds can be held for queries only: allow is then [query]"
            raise ValueError(message)
        if self.tables is not None and "download" in self.allow:
            message = "what is downloaded is whole: without “tables”, or without “download”"
            raise ValueError(message)
        return self
