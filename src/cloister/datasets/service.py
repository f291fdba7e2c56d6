"""The catalogue: datasets, their versions, and loading them."""

import hashlib
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from sqlalchemy import String, cast, false, func, or_, tuple_

from cloister.access import scoped_get, scoped_select
from cloister.audit import Name, record
from cloister.core.clock import Clock
from cloister.core.events import VersionWanted
from cloister.core.ids import new_id
from cloister.core.pagination import Page
from cloister.core.principal import Scope
from cloister.datasets.declaration import Metadata, Table
from cloister.datasets.errors import (
    BadSource,
    DatasetNotFound,
    DatasetTaken,
    UploadNotFound,
    VersionNotFound,
)
from cloister.datasets.models import Dataset, DatasetVersion
from cloister.platform import ObjectStore, UnitOfWork
from cloister.platform.objects import Stored
from cloister.platform.operations import Operations
from cloister.platform.paging import page_by
from cloister.spaces import get_space, in_space

FORMATS = {
    ".csv": "csv", ".tsv": "tsv", ".txt": "csv", ".parquet": "parquet", ".pq": "parquet", ".json": "json",
    ".jsonl": "json", ".ndjson": "json", ".xlsx": "excel", ".xls": "excel", ".ods": "excel",
}  # fmt: skip


def format_of(name: str, declared: str | None = None) -> str:
    """The format of a file, as declared or by its name.

    Raises:
        BadSource: when neither tells.
    """
    path = PurePosixPath(name.lower())
    suffix = PurePosixPath(path.stem).suffix if path.suffix == ".gz" else path.suffix
    found = declared or FORMATS.get(suffix)
    if found is None:
        raise BadSource(f"“{name}”: say its format, one of csv, tsv, parquet, json, excel.")
    return found


@dataclass(frozen=True)
class Source:
    """An original, stored, for one table."""

    table: Table
    stored: Stored
    format: str
    url: str | None = None
    """Where it is still to be fetched from; what ``stored`` says of its content holds then."""
    uploaded: bool = False
    """Whether it came over HTTP, and is in no file that a declaration could name."""

    def dump(self) -> dict[str, Any]:
        return {
            **({"url": self.url} if self.url else {}),
            **({"uploaded": True} if self.uploaded else {}),
            "table": self.table.model_dump(mode="json"),
            "key": self.stored.key,
            "sha256": self.stored.sha256,
            "size": self.stored.size,
            "format": self.format,
        }


def digest_of(sources: list[Source]) -> str:
    """Names a set of originals, how they are to be read, and what is said of their columns."""
    parts = [
        [
            s.table.name,
            s.stored.sha256,
            s.format,
            s.table.null,
            {n: c.model_dump() for n, c in s.table.columns.items()},
            *([s.table.sheet] if s.table.sheet else []),
            *([s.stored.key] if s.url else []),
        ]
        for s in sources
    ]
    return hashlib.sha256(json.dumps(sorted(parts, key=str), sort_keys=True).encode()).hexdigest()


@dataclass
class Datasets:
    """Declare, describe, upload, load."""

    objects: ObjectStore
    operations: Operations
    clock: Clock

    async def store_original(self, space: str, data: AsyncIterator[bytes]) -> Stored:
        """Keep an original as it came."""
        return await self.objects.put(f"spaces/{space}/originals/{new_id('obj')}", data)

    @staticmethod
    def still_to_come(space: str) -> Stored:
        """The place of an original that is fetched when its version is loaded."""
        return Stored(f"spaces/{space}/originals/{new_id('obj')}", 0, "")

    async def uploaded(self, space: str, id_: str, sha256: str, size: int) -> Stored:
        """Return an earlier upload.

        Raises:
            UploadNotFound: when there is none of that id in the space.
        """
        key = f"spaces/{space}/originals/{id_}"
        if not re.fullmatch(r"obj_[0-9a-z]{26}", id_) or not await self.objects.exists(key):
            raise UploadNotFound
        return Stored(key, size, sha256)

    async def check_new(self, uow: UnitOfWork, space: str, name: str, metadata: Metadata) -> None:
        """Refuse to describe anew what somebody else may just have described.

        Raises:
            DatasetTaken: when there is one of that name which is something else.
        """
        found = await scoped_get(uow, Dataset, in_space(space), name=name)
        if found is not None and found.metadata_ != metadata.model_dump(mode="json"):
            raise DatasetTaken

    async def declare(self, uow: UnitOfWork, space: str, name: str, metadata: Metadata) -> Dataset:
        """Make a dataset, or describe it anew."""
        wanted = metadata.model_dump(mode="json")
        dataset = await scoped_get(uow, Dataset, in_space(space), name=name)
        if dataset is None:
            await get_space(uow, space)
            dataset = Dataset(
                id=new_id("dst"), space=space, name=name, metadata_=wanted, version=1, created_at=self.clock.now()
            )
            uow.session.add(dataset)
            record(uow, Name.DATASET_CREATED, space=space, subject=name)
            await uow.session.flush()
        elif dataset.metadata_ != wanted:
            dataset.metadata_, dataset.version = wanted, dataset.version + 1
            record(uow, Name.DATASET_CHANGED, space=space, subject=name, version=dataset.version)
        return dataset

    async def new_version(
        self, uow: UnitOfWork, space: str, name: str, sources: list[Source], *, unless_same: bool = False
    ) -> DatasetVersion:
        """Ask for a new version from stored originals; it is loaded as soon as this is committed.

        Raises:
            DatasetNotFound: when there is no such dataset.
        """
        await self.get(uow, in_space(space), name)
        digest = digest_of(sources)
        known = scoped_select(DatasetVersion, in_space(space)).where(DatasetVersion.dataset == name)
        if unless_same:
            latest = known.where(DatasetVersion.state != "failed").order_by(DatasetVersion.number.desc()).limit(1)
            found = (await uow.session.scalars(latest)).first()
            if found is not None and found.digest == digest:
                return found
        last = await uow.session.scalar(known.with_only_columns(func.max(DatasetVersion.number)))
        operation = self.operations.start(uow, "dataset.load", name, space, "waiting to be loaded")
        version = DatasetVersion(
            id=new_id("ver"),
            space=space,
            dataset=name,
            number=(last or 0) + 1,
            state="loading",
            digest=digest,
            sources=[source.dump() for source in sources],
            tables=[],
            error=None,
            operation=operation.id,
            created_by=uow.actor.person,
            created_at=self.clock.now(),
            ready_at=None,
        )
        uow.session.add(version)
        record(
            uow, Name.VERSION_REQUESTED, space=space, subject=name, version=version.number,
            sha256=[source.stored.sha256 for source in sources], urls=[source.url for source in sources if source.url],
        )  # fmt: skip
        uow.publish(VersionWanted(version.id))
        await uow.session.flush()
        return version

    async def get(self, uow: UnitOfWork, scope: Scope, name: str) -> Dataset:
        """Return a dataset.

        Raises:
            DatasetNotFound: when the scope reaches none of that name.
        """
        dataset = await scoped_get(uow, Dataset, scope, name=name)
        if dataset is None:
            raise DatasetNotFound
        return dataset

    async def catalogue(
        self, uow: UnitOfWork, scope: Scope, text: str | None, cursor: str | None, limit: int
    ) -> Page[Dataset]:
        """The catalogue of a space, by name; ``text`` is looked for in names and descriptions."""
        query = scoped_select(Dataset, scope)
        if text:
            pattern = "%" + text.lower().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
            query = query.where(
                func.lower(Dataset.name).like(pattern, escape="\\")
                | func.lower(cast(Dataset.metadata_, String)).like(pattern, escape="\\")
            )
        return await page_by(uow, query, Dataset.name, cursor, limit)

    async def versions(self, uow: UnitOfWork, scope: Scope, name: str) -> list[DatasetVersion]:
        query = scoped_select(DatasetVersion, scope).where(DatasetVersion.dataset == name)
        return [*(await uow.session.scalars(query.order_by(DatasetVersion.number.desc()))).all()]

    async def version_page(
        self, uow: UnitOfWork, scope: Scope, name: str, cursor: str | None, limit: int
    ) -> Page[DatasetVersion]:
        query = scoped_select(DatasetVersion, scope).where(DatasetVersion.dataset == name)
        return await page_by(uow, query, DatasetVersion.number, cursor, limit, newest_first=True)

    async def ready(
        self, uow: UnitOfWork, space: str, wanted: list[tuple[str, int | None]]
    ) -> dict[str, DatasetVersion]:
        """For some datasets, the ready version of a number, or the latest; those without one are left out."""
        latest = (
            scoped_select(DatasetVersion, in_space(space))
            .where(DatasetVersion.state == "ready", DatasetVersion.dataset.in_([n for n, v in wanted if v is None]))
            .with_only_columns(DatasetVersion.dataset, func.max(DatasetVersion.number))
            .group_by(DatasetVersion.dataset)
        )
        pinned = [(name, number) for name, number in wanted if number is not None]
        key = tuple_(DatasetVersion.dataset, DatasetVersion.number)
        query = scoped_select(DatasetVersion, in_space(space)).where(
            DatasetVersion.state == "ready", or_(key.in_(latest), key.in_(pinned) if pinned else false())
        )
        return {version.dataset: version for version in (await uow.session.scalars(query)).all()}

    async def version(self, uow: UnitOfWork, scope: Scope, name: str, number: int | None) -> DatasetVersion:
        """Return a version that is ready: the one of a number, or the latest.

        Raises:
            VersionNotFound: when there is none.
        """
        query = scoped_select(DatasetVersion, scope).where(
            DatasetVersion.dataset == name, DatasetVersion.state == "ready"
        )
        if number is not None:
            query = query.where(DatasetVersion.number == number)
        found = (await uow.session.scalars(query.order_by(DatasetVersion.number.desc()).limit(1))).first()
        if found is None:
            raise VersionNotFound
        return found
