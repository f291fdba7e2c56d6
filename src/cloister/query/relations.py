"""From grants to files: which tables somebody may query, and the editions of them that show just what is granted.

Column and row policies are not rewritten into statements. They are held by absence: a narrowed edition is a file that
has only the granted columns and rows, and a worker's sandbox contains no other. No view, join, error message or
catalogue can show what is not there.
"""

import asyncio
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Any

from cloister.access import scoped_get
from cloister.core.clock import Clock
from cloister.core.events import AccessChanged, Event
from cloister.datasets import (
    BadGrant,
    Converted,
    Converter,
    Datasets,
    DatasetVersion,
    Edition,
    Grant,
    GrantDeclaration,
    Grants,
    Operation,
    TablePolicy,
)
from cloister.platform import Bus, Database, ObjectStore, UnitOfWork
from cloister.platform.logs import logger
from cloister.query.errors import EditionNotReady
from cloister.sandboxes import Mount
from cloister.spaces import in_space

log = logger(__name__)
LATELY_SECONDS = 0.5
LATELY_MANY = 20_000


@dataclass(frozen=True)
class Limits:
    """The caps of a grant; None is no cap."""

    rows: int | None = None
    bytes: int | None = None
    seconds: float | None = None

    def tighter(self, other: "Limits") -> "Limits":
        return Limits(
            _least(self.rows, other.rows), _least(self.bytes, other.bytes), _least(self.seconds, other.seconds)
        )


def _least(one: Any, two: Any) -> Any:
    return min((value for value in (one, two) if value is not None), default=None)


@dataclass(frozen=True)
class GrantedTable:
    """One table as somebody may see it."""

    dataset: str
    table: str
    bare: bool
    key: str
    sha256: str
    version: int
    limits: Limits
    min_group: int | None
    columns: tuple[dict[str, Any], ...]
    until: datetime | None = None
    """When the grant ends."""

    @property
    def ask(self) -> str:
        """The shortest name that a statement can call it by: the dataset's alone where its only table is called so."""
        return self.dataset if self.bare and self.dataset == self.table else self.name

    @property
    def name(self) -> str:
        return f"{self.dataset}.{self.table}"

    @property
    def inside(self) -> str:
        """Where a sandbox has it."""
        return f"/data/{self.dataset}/{self.table}.parquet"

    @property
    def edition(self) -> str:
        """Names exactly what is shown: content and version."""
        return f"{self.name}@{self.version}:{self.sha256[:16]}"


def fingerprint(tables: Iterable[GrantedTable]) -> str:
    """Equal exactly for equal views of equal data under equal limits."""
    parts = sorted((t.name, t.sha256, t.bare, t.min_group or 0, str(t.limits)) for t in tables)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass
class Relations:
    """Resolves grants, and makes narrowed editions on first need."""

    database: Database
    objects: ObjectStore
    datasets: Datasets
    grants: Grants
    clock: Clock
    converter: Converter
    bus: Bus

    def __post_init__(self) -> None:
        self._making: dict[str, asyncio.Lock] = {}
        self._recent: dict[tuple[str, int | None, int | None, str], tuple[float, list[GrantedTable]]] = {}
        self.changes = 0
        self.bus.subscribe(AccessChanged, self._forget)

    def _forget(self, _event: Event) -> None:
        self.changes += 1
        self._recent.clear()

    async def lately_granted(
        self, space: str, person: int | None, team: int | None, operation: Operation
    ) -> list[GrantedTable]:
        """As `granted`, but up to half a second old: forgotten at once when this process changes anything.

        Whoever loses a grant through another process loses it within that time.
        """
        key = (space, person, team, operation)
        found = self._recent.get(key)
        if found is not None and monotonic() - found[0] < LATELY_SECONDS:
            return found[1]
        begun, changes = monotonic(), self.changes
        async with self.database.read() as uow:
            tables = await self.granted(uow, space, person, team, operation)
        if changes == self.changes:  # else what was read may be old already
            if len(self._recent) >= LATELY_MANY:
                self._recent.clear()
            self._recent[key] = (begun, tables)
        return tables

    async def granted(
        self,
        uow: UnitOfWork,
        space: str,
        person: int | None,
        team: int | None,
        operation: Operation,
        *,
        make: bool | None = True,
    ) -> list[GrantedTable]:
        """All tables that a person in a team may use in one way. Without ``make``, only those whose edition is there:
        to make one takes a sandbox, so whoever looks after sandboxes must not wait for it.
        """
        grants = [
            (grant, GrantDeclaration.model_validate(grant.policy))
            for grant in await self.grants.effective(uow, space, person, team, operation)
        ]
        if not grants:
            return []
        versions = await self.datasets.ready(uow, space, [(g.dataset, policy.version) for g, policy in grants])
        tables: list[GrantedTable] = []
        for grant, policy in grants:
            if grant.dataset in versions:  # else granted before its data were loaded
                tables += await self._of_version(uow, grant, policy, versions[grant.dataset], make=make)
        return tables

    async def prepare(self, grant: Grant) -> None:
        """Make what a grant narrows, if it is not there."""
        policy = GrantDeclaration.model_validate(grant.policy)
        async with self.database.read() as uow:
            versions = await self.datasets.ready(uow, grant.space, [(grant.dataset, policy.version)])
            if grant.dataset in versions:
                await self._of_version(uow, grant, policy, versions[grant.dataset], make=True)

    async def _of_version(
        self, uow: UnitOfWork, grant: Grant, policy: GrantDeclaration, version: DatasetVersion, *, make: bool | None
    ) -> list[GrantedTable]:
        limits = Limits(policy.max_rows, policy.max_bytes, policy.max_seconds)
        tables = []
        for table in version.tables:
            if policy.tables is not None and table["name"] not in policy.tables:
                continue
            narrowing = policy.tables[table["name"]] if policy.tables else TablePolicy()
            try:
                shown = await self._edition(uow, version, table, narrowing, make=make)
            except BadGrant as error:  # one bad grant hides its own table; what it says may quote the data
                log.warning("grant.bad", grant=grant.id, table=table["name"], code=error.code)
                continue
            if shown is None:
                continue
            tables.append(
                GrantedTable(
                    dataset=grant.dataset, table=table["name"], bare=len(version.tables) == 1, key=shown["key"],
                    sha256=shown["sha256"], version=version.number, limits=limits, min_group=policy.min_group,
                    columns=tuple(shown["columns"]), until=grant.valid_until,
                )
            )  # fmt: skip
        return tables

    async def _edition(
        self,
        uow: UnitOfWork,
        version: DatasetVersion,
        table: dict[str, Any],
        narrowing: TablePolicy,
        *,
        make: bool | None,
    ) -> dict[str, Any] | None:
        if narrowing.columns is None and narrowing.rows is None:
            return table
        text = json.dumps([version.id, table["name"], narrowing.columns, narrowing.rows])
        id_ = hashlib.sha256(text.encode()).hexdigest()[:40]
        found = await scoped_get(uow, Edition, in_space(version.space), id=id_)
        if found is None:
            if make is None:
                raise EditionNotReady
            if not make:
                return None
            await uow.rest()
            async with self._making.setdefault(id_, asyncio.Lock()):
                found = await self._make(id_, version, table, narrowing)
        return {"key": found.key, "sha256": found.sha256, "columns": found.columns}

    async def _make(self, id_: str, version: DatasetVersion, table: dict[str, Any], narrowing: TablePolicy) -> Edition:
        async with self.database.read() as uow:
            found = await scoped_get(uow, Edition, in_space(version.space), id=id_)
        if found is not None:
            return found
        known = {column["name"] for column in table["columns"]}
        unknown = set(narrowing.columns or ()) - known
        if unknown:
            raise BadGrant(f"{version.dataset}.{table['name']} has no column “{min(unknown)}”.")
        made: list[Edition] = []
        about = {column["name"]: column for column in table["columns"]}

        async def store(converted: Converted) -> None:
            key = f"spaces/{version.space}/editions/{id_}.parquet"
            stored = await self.objects.put_file(key, converted.path)
            made.append(
                Edition(
                    id=id_, space=version.space, version=version.id, table=table["name"], key=key,
                    sha256=stored.sha256, size=stored.size, rows=converted.rows,
                    columns=[{**about[column["name"]], **column} for column in converted.columns],
                )
            )  # fmt: skip

        source = await self.objects.local_file(table["key"], table["sha256"])
        await self.converter.narrow(version.space, source, narrowing.columns, narrowing.rows, store)
        async with self.database.write() as uow:
            uow.unrecorded("a narrowed copy of data, made for a grant that is recorded")
            uow.session.add(made[0])
        return made[0]

    async def mounts(self, tables: list[GrantedTable]) -> list[Mount]:
        """The files of some tables, as a sandbox is to have them."""
        files: list[Path] = [await self.objects.local_file(table.key, table.sha256) for table in tables]
        return [Mount(str(file), table.inside) for file, table in zip(files, tables, strict=True)]
