"""Datasets, versions and grants as the API shows them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cloister.datasets.declaration import GrantDeclaration, Metadata, Operation, Table
from cloister.datasets.models import Dataset, DatasetVersion, Grant


class RightOut(BaseModel):
    """What whoever asks may do with a dataset, and until when."""

    operation: Operation
    until: datetime | None


class DatasetOut(BaseModel):
    """A dataset's description."""

    name: str
    space: str
    metadata: Metadata
    created_at: datetime
    may: list[RightOut] = Field(default_factory=list)
    """Your own rights, where one dataset is asked for."""

    @classmethod
    def of(cls, row: Dataset, may: list[RightOut] | None = None) -> "DatasetOut":
        return cls(
            may=may or [],
            name=row.name,
            space=row.space,
            metadata=Metadata.model_validate(row.metadata_),
            created_at=row.created_at,
        )


class DatasetPage(BaseModel):
    """Datasets by name."""

    items: list[DatasetOut]
    next_cursor: str | None


class TableOut(BaseModel):
    """A table of a version."""

    name: str
    rows: int
    size: int
    sha256: str
    columns: list[dict[str, Any]]


class VersionOut(BaseModel):
    """One immutable edition of a dataset."""

    dataset: str
    number: int
    state: str
    error: str | None
    operation: str
    tables: list[TableOut]
    created_at: datetime
    ready_at: datetime | None

    @classmethod
    def of(cls, row: DatasetVersion) -> "VersionOut":
        fields = TableOut.model_fields
        return cls(
            dataset=row.dataset,
            number=row.number,
            state=row.state,
            error=row.error,
            operation=row.operation,
            tables=[TableOut(**{name: table[name] for name in fields}) for table in row.tables],
            created_at=row.created_at,
            ready_at=row.ready_at,
        )


class VersionPage(BaseModel):
    """Versions, newest first."""

    items: list[VersionOut]
    next_cursor: str | None


class UploadOut(BaseModel):
    """A file that was uploaded and waits to become a table."""

    upload: str
    size: int
    sha256: str


class NewTable(BaseModel):
    """A table of a new version, from an upload (with all that was said of it) or from an object store's address."""

    model_config = ConfigDict(extra="forbid")

    upload: Annotated[str, Field(max_length=60)] | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    size: Annotated[int, Field(ge=0, le=2**62)] | None = None
    url: Annotated[str, Field(pattern=r"^s3://[^\s]+$", max_length=1000)] | None = None
    table: Table
    """Its ``source`` names the file as it was called, and tells the format unless ``format`` does."""

    @model_validator(mode="after")
    def _from_one_place(self) -> Self:
        said = [part is not None for part in (self.upload, self.sha256, self.size)]
        if any(said) != all(said) or all(said) == (self.url is not None):
            message = "a table comes from an upload (upload, sha256 and size), or from a url"
            raise ValueError(message)
        return self


class VersionIn(BaseModel):
    """A version to make."""

    model_config = ConfigDict(extra="forbid")

    tables: Annotated[list[NewTable], Field(min_length=1, max_length=500)]

    @model_validator(mode="after")
    def _each_named_once(self) -> Self:
        names = [item.table.name for item in self.tables]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            message = f"two tables are called “{twice}”; give each a name of its own"
            raise ValueError(message)
        return self


class GrantOut(BaseModel):
    """A grant."""

    id: str
    subject: str
    subject_name: str | None
    """What people call the team or the person."""
    policy: GrantDeclaration
    source: str
    created_at: datetime

    @classmethod
    def of(cls, row: Grant, names: Mapping[str, str]) -> "GrantOut":
        return cls(
            id=row.id,
            subject=row.subject,
            subject_name=names.get(row.subject),
            policy=GrantDeclaration.model_validate(row.policy),
            source=row.source,
            created_at=row.created_at,
        )


class GrantPage(BaseModel):
    """The grants that count, oldest first."""

    items: list[GrantOut]
    next_cursor: str | None


class TitleOut(BaseModel):
    """A dataset, as the public page of its space names it."""

    title: str
    description: str


class TitleList(BaseModel):
    """The datasets of a space, by name."""

    items: list[TitleOut]
