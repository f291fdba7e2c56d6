"""The controller that loads versions: original to Parquet, in a sandbox, with progress, checksummed."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from cloister.access import scoped_get, scoped_select
from cloister.audit import Name, Outcome, record
from cloister.core.clock import Clock
from cloister.core.errors import CloisterError
from cloister.core.events import AccessChanged, GrantsChanged, VersionWanted
from cloister.core.principal import EVERYTHING
from cloister.datasets.errors import BadSource
from cloister.datasets.models import DatasetVersion
from cloister.datasets.ports import Converted, Converter, Reading
from cloister.platform import Controller, Database, ObjectStore, Settings
from cloister.platform.logs import logger
from cloister.platform.objects import ObjectDamaged, s3_object
from cloister.platform.operations import Operations

log = logger(__name__)
AT_ONCE = 2


class VersionController(Controller):
    """Loads what waits; an interrupted load begins again, since nothing of it is visible before its end."""

    name = "versions"
    wakes_on = (VersionWanted,)
    interval = 5.0

    def __init__(
        self, settings: Settings, database: Database, objects: ObjectStore, operations: Operations,
        converter: Converter, clock: Clock,
    ) -> None:  # fmt: skip
        super().__init__()
        self._settings = settings
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
                await self._fetch(version, index, source)
                await self._load_table(version, index, source, tables)
        except CloisterError as error:
            log.warning("dataset.load_failed", dataset=version.dataset, error=error.detail)
            await self._finish(version, [], error)
            return
        except Exception:  # the boundary of one version: it must not keep the others from being loaded
            log.exception("dataset.load_failed", dataset=version.dataset)
            await self._finish(version, [], BadSource("The platform failed to load this. Its log says why."))
            return
        await self._finish(version, tables, None)

    async def _fetch(self, version: DatasetVersion, index: int, source: dict[str, Any]) -> None:
        """Bring an original that is somewhere else, and note what it is; half of the table's progress is this."""
        url: str | None = source.get("url")
        if url is None or source["sha256"]:
            return
        name, count = source["table"]["name"], len(version.sources)

        async def told(size: int, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            seen, said = 0, 0.0
            async for chunk in chunks:
                seen += len(chunk)
                part = seen / max(size, 1)
                if part >= said + 0.02:
                    said = part
                    await self._operations.advance(version.operation, (index + part / 2) / count, f"{name}: fetching")
                yield chunk

        try:
            size, chunks = await s3_object(self._settings, url)
            if size > self._settings.upload_bytes:
                raise BadSource(f"{url} has {size} bytes; {self._settings.upload_bytes} are allowed here.")
            stored = await self._objects.put(source["key"], told(size, chunks))
        except OSError as error:
            raise BadSource(f"{url} cannot be read: {error}") from error
        source |= {"sha256": stored.sha256, "size": stored.size}

    async def _load_table(
        self, version: DatasetVersion, index: int, source: dict[str, object], tables: list[dict[str, object]]
    ) -> None:
        table: dict[str, object] = source["table"]  # type: ignore[assignment]  # JSON of our own making
        name, count = str(table["name"]), len(version.sources)
        declared: dict[str, dict[str, str | None]] = table["columns"]  # type: ignore[assignment]
        try:
            original = await self._objects.verified_file(str(source["key"]), str(source["sha256"]))
        except ObjectDamaged as error:
            raise BadSource(f"The file of {name} has another checksum than was said.") from error
        types = {column: str(about["type"]) for column, about in declared.items() if about.get("type")}

        async def progress(part: float, message: str) -> None:
            done = (1 + part) / 2 if source.get("url") else part
            await self._operations.advance(version.operation, (index + done) / count, f"{name}: {message}")

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
        reading = Reading(str(source["format"]), types, table.get("null"), table.get("sheet"))  # type: ignore[arg-type]
        await self._converter.convert(version.space, original, reading, store, progress)

    async def _finish(
        self, version: DatasetVersion, tables: list[dict[str, object]], error: CloisterError | None
    ) -> None:
        async with self._database.write() as uow:
            stored = await scoped_get(uow, DatasetVersion, EVERYTHING, id=version.id)
            if stored is None or stored.state != "loading":
                uow.unrecorded("somebody else finished it")
                return
            stored.tables, stored.sources = tables, [*version.sources]
            stored.ready_at = self._clock.now()
            stored.state = "failed" if error else "ready"
            stored.error = error.detail if error else None
            record(
                uow, Name.VERSION_FAILED if error else Name.VERSION_READY,
                outcome=Outcome.FAILED if error else Outcome.OK, space=version.space, subject=version.dataset,
                version=version.number, error=stored.error, sha256=[s["sha256"] for s in version.sources], rows=sum(int(str(t["rows"])) for t in tables),
            )  # fmt: skip
            uow.publish(AccessChanged(version.space))
            uow.publish(GrantsChanged(version.space))
        if error:
            await self._operations.fail(version.operation, error)
        else:
            await self._operations.finish(version.operation, {"dataset": version.dataset, "version": version.number})
