"""The catalogue, versions, editions and grants."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from cloister.platform import Base


class Dataset(Base):
    """Governed data. What it is about; its content is in versions."""

    __tablename__ = "datasets"
    __table_args__ = (UniqueConstraint("space", "name"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    space: Mapped[str] = mapped_column(ForeignKey("spaces.space"))
    name: Mapped[str]
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata")
    version: Mapped[int]  # of the description, for ETags
    created_at: Mapped[datetime]


class DatasetVersion(Base):
    """One immutable edition of a dataset's content."""

    __tablename__ = "dataset_versions"
    __table_args__ = (UniqueConstraint("space", "dataset", "number"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    space: Mapped[str] = mapped_column(ForeignKey("spaces.space"))
    dataset: Mapped[str]
    number: Mapped[int]
    state: Mapped[str] = mapped_column(index=True)  # loading, ready, failed
    digest: Mapped[str]  # of the declared sources: the same again is not loaded again
    sources: Mapped[list[Any]]
    tables: Mapped[list[Any]]
    error: Mapped[str | None]
    operation: Mapped[str]
    created_by: Mapped[int | None]
    created_at: Mapped[datetime]
    ready_at: Mapped[datetime | None]


class Edition(Base):
    """A version's table narrowed to what a policy shows: what is not granted is not even in the file."""

    __tablename__ = "dataset_editions"

    id: Mapped[str] = mapped_column(primary_key=True)  # hash of version, table and policy
    space: Mapped[str] = mapped_column(ForeignKey("spaces.space"), index=True)
    version: Mapped[str] = mapped_column(ForeignKey("dataset_versions.id"))
    table: Mapped[str]
    key: Mapped[str]
    sha256: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)
    rows: Mapped[int] = mapped_column(BigInteger)
    columns: Mapped[list[Any]]


class Grant(Base):
    """Who may do what with a dataset. Revoked, never deleted."""

    __tablename__ = "grants"

    id: Mapped[str] = mapped_column(primary_key=True)
    space: Mapped[str] = mapped_column(ForeignKey("spaces.space"), index=True)
    dataset: Mapped[str]
    subject: Mapped[str]  # everybody, team:12, person:34
    source: Mapped[str]  # blueprint, or who gave it
    policy: Mapped[dict[str, Any]]
    valid_from: Mapped[datetime | None]
    valid_until: Mapped[datetime | None]
    created_by: Mapped[int | None]
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
