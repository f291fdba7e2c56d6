"""The controller that loads versions: original to Parquet, in a sandbox, with progress, checksummed."""

import asyncio
import hashlib
from pathlib import Path

from cloister.access import scoped_get, scoped_select
from cloister.audit import Name, Outcome, record
from cloister.core.clock import Clock
from cloister.core.errors import CloisterError
from cloister.core.events import AccessChanged, GrantsChanged, VersionWanted
from cloister.core.principal import EVERYTHING
from cloister.datasets.errors import BadSource
from cloister.datasets.models import DatasetVersion
from cloister.datasets.ports import Converted, Converter
from cloister.platform import Controller, Database, ObjectStore
from cloister.platform.logs import logger
from cloister.platform.operations import Operations

log = logger(__name__)
AT_ONCE = 2


class VersionController(Controller):
    """Loads what waits; an interrupted load begins again, since nothing of it is visible before its end."""

    name = "versions"
    wakes_on = (VersionWanted,)
    interval = 5.0

    def __init__(
        self, database: Database, objects: ObjectStore, operations: Operations, converter: Converter, clock: Clock
    ) -> None:
        super().__init__()
        self._database = database
        self._objects = objects
        self._operations = operations
        self._converter = converter
        self._clock = clock

    async def look(self) -> float | None:
        query = scoped_select(DatasetVersion, EVERYTHING).where(DatasetVersion.state == "loading")
        async with self._database.read() as uow:
            waiting = (await uow.session.scalars(query.order_by(DatasetVersion.id).limit(AT_ONCE))).all()
        await asyncio.gather(*(self._load(version) for version in waiting))
        return 0.0 if len(waiting) == AT_ONCE else None

    async def _load(self, version: DatasetVersion) -> None:
        tables: list[dict[str, object]] = []
        try:
            for index, source in enumerate(version.sources):
                await self._load_table(version, index, source, tables)
        except CloisterError as error:
            log.warning("dataset.load_failed", dataset=version.dataset, error=error.detail)
            await self._finish(version, [], error)
            return
        await self._finish(version, tables, None)

    async def _load_table(
        self, version: DatasetVersion, index: int, source: dict[str, object], tables: list[dict[str, object]]
    ) -> None:
        table: dict[str, object] = source["table"]  # type: ignore[assignment]  # JSON of our own making
        name, count = str(table["name"]), len(version.sources)
        declared: dict[str, dict[str, str | None]] = table["columns"]  # type: ignore[assignment]
        original = await self._objects.local_file(str(source["key"]), str(source["sha256"]))
        await asyncio.to_thread(_verify, original, str(source["sha256"]))
        types = {column: str(about["type"]) for column, about in declared.items() if about.get("type")}

        async def progress(part: float, message: str) -> None:
            await self._operations.advance(version.operation, (index + part) / count, f"{name}: {message}")

        async def store(converted: Converted) -> None:
            unknown = set(declared) - {column["name"] for column in converted.columns}
            if unknown:
                have = ", ".join(column["name"] for column in converted.columns)
                raise BadSource(f"{name} has no column “{min(unknown)}”. It has {have}.")
            key = f"spaces/{version.space}/datasets/{version.dataset}/{version.id}/{name}.parquet"
            stored = await self._objects.put_file(key, converted.path)
            columns = [
                {**column, **{k: v for k, v in declared.get(column["name"], {}).items() if k != "type"}}
                for column in converted.columns
            ]
            tables.append(
                {
                    "name": name, "key": key, "sha256": stored.sha256, "size": stored.size, "rows": converted.rows,
                    "columns": columns,
                }
            )  # fmt: skip

        await progress(0.0, "converting")
        null = table.get("null")
        await self._converter.convert(
            version.space, original, str(source["format"]), types, None if null is None else str(null), store, progress
        )

    async def _finish(
        self, version: DatasetVersion, tables: list[dict[str, object]], error: CloisterError | None
    ) -> None:
        async with self._database.write() as uow:
            stored = await scoped_get(uow, DatasetVersion, EVERYTHING, id=version.id)
            if stored is None or stored.state != "loading":
                uow.unrecorded("somebody else finished it")
                return
            stored.tables = tables
            stored.ready_at = self._clock.now()
            stored.state = "failed" if error else "ready"
            stored.error = error.detail if error else None
            record(
                uow, Name.VERSION_FAILED if error else Name.VERSION_READY,
                outcome=Outcome.FAILED if error else Outcome.OK, space=version.space, subject=version.dataset,
                version=version.number, error=stored.error, rows=sum(int(str(t["rows"])) for t in tables),
            )  # fmt: skip
            uow.publish(AccessChanged(version.space))
            uow.publish(GrantsChanged(version.space))
        if error:
            await self._operations.fail(version.operation, error)
        else:
            await self._operations.finish(version.operation, {"dataset": version.dataset, "version": version.number})


def _verify(original: Path, sha256: str) -> None:
    """Check that an original is what it was said to be; the checksum is on record.

    Raises:
        BadSource: when it is not.
    """
    with original.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise BadSource(f"The file has another checksum than was said: {found}.")
