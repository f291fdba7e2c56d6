"""Comparing what is declared with what is, and making it so. Applying twice is applying once."""

import hashlib
import importlib.util
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloister.access import scoped_get
from cloister.audit import Name, record
from cloister.blueprint.document import Blueprint, BlueprintError
from cloister.core.principal import Principal
from cloister.datasets import (
    Dataset,
    DatasetDeclaration,
    Datasets,
    DatasetVersion,
    GrantDeclaration,
    Grants,
    Metadata,
    Source,
    Table,
    digest_of,
    format_of,
)
from cloister.platform import Database, Settings, UnitOfWork
from cloister.platform.objects import Stored, read_chunks, s3_chunks
from cloister.spaces import Space, SpaceDeclaration, Spaces, in_space

Say = Callable[[str], None]
STORED = "sha256:"
"""Before the checksum of a file that the space has already."""


@dataclass(frozen=True)
class Change:
    """One difference: ``+`` will be made, ``~`` changed, ``-`` ended, ``=`` left alone."""

    sign: str
    what: str

    def __str__(self) -> str:
        return f"{self.sign} {self.what}"


@dataclass
class Blueprints:
    """Plan, apply, export."""

    settings: Settings
    database: Database
    spaces: Spaces
    datasets: Datasets
    grants: Grants

    async def plan(self, blueprint: Blueprint, folder: Path) -> list[Change]:
        """What `apply` would do."""
        async with self.database.read() as uow:
            present = await self._present(uow, blueprint.slug)
            await self._check_grants(uow, blueprint)
            changes = _compare_space(present, blueprint)
            changes += await self._compare_datasets(uow, present, blueprint, folder)
        return changes + _compare_grants(present, blueprint)

    async def _compare_datasets(
        self, uow: UnitOfWork, present: Blueprint | None, blueprint: Blueprint, folder: Path
    ) -> list[Change]:
        have = {dataset.name: dataset for dataset in present.datasets} if present else {}
        declared = {declaration.name for declaration in blueprint.datasets}
        changes = [Change("=", f"dataset {name} is not in the file and stays") for name in have if name not in declared]
        for declaration in blueprint.datasets:
            earlier = have.get(declaration.name)
            wanted = digest_of([await self._source(table, folder) for table in declaration.tables])
            if earlier is None:
                changes.append(Change("+", f"dataset {declaration.name} with {len(declaration.tables)} table(s)"))
                continue
            if earlier.metadata != declaration.metadata:
                changes.append(Change("~", f"description of dataset {declaration.name}"))
            versions = await self.datasets.versions(uow, in_space(blueprint.slug), declaration.name)
            latest = next((version for version in versions if version.state != "failed"), None)
            if latest is None or latest.digest != wanted:
                changes.append(Change("~", f"content or columns of dataset {declaration.name}: a new version"))
        return changes

    async def _source(self, table: Table, folder: Path) -> Source:
        """A table's original as it would be stored."""
        return Source(table, Stored("", 0, await self._sum(table, folder)), format_of(table.source, table.format))

    async def _check_grants(self, uow: UnitOfWork, blueprint: Blueprint) -> None:
        """Refuse grants of datasets that there are not, before anything is changed.

        Raises:
            BlueprintError: naming the dataset.
        """
        known = {declaration.name for declaration in blueprint.datasets}
        for name in {grant.dataset for grant in blueprint.grants} - known:
            if await scoped_get(uow, Dataset, in_space(blueprint.slug), name=name) is None:
                raise BlueprintError(f"grants: there is no dataset “{name}”. Declare it under “datasets”.")

    async def _sum(self, table: Table, folder: Path) -> str:
        if table.source.startswith(STORED):
            return table.source.removeprefix(STORED)
        digest = hashlib.sha256()
        try:
            async for chunk in self._read(table.source, folder):
                digest.update(chunk)
        except OSError as error:
            raise BlueprintError(f"The file of table “{table.name}” is not there: {table.source}.") from error
        return digest.hexdigest()

    def _read(self, source: str, folder: Path) -> AsyncIterator[bytes]:
        if source.startswith("s3://"):
            return s3_chunks(self.settings, source)
        return read_chunks(locate(source, folder))

    async def apply(self, blueprint: Blueprint, folder: Path, say: Say, actor: Principal) -> list[DatasetVersion]:
        """Make it so; return the versions that are (being) loaded.

        Raises:
            BlueprintError: when a source is not there.
            CloisterError: whatever the domains refuse.
        """
        async with self.database.read() as uow:
            await self._check_grants(uow, blueprint)
        sums = {(d.name, table.name): await self._sum(table, folder) for d in blueprint.datasets for table in d.tables}
        async with self.database.write(actor) as uow:
            changed = await self.spaces.declare(uow, blueprint.space())
            record(uow, Name.BLUEPRINT_APPLIED, space=blueprint.slug, subject=blueprint.slug, changed=changed)
        say(f"space {blueprint.slug}: {'declared' if changed else 'unchanged'}")
        versions = [await self._apply_dataset(blueprint.slug, d, folder, sums, say, actor) for d in blueprint.datasets]
        async with self.database.write(actor) as uow:
            uow.unrecorded("each change of a grant is recorded")
            count = await self.grants.declare(uow, blueprint.slug, blueprint.grants)
        say(f"grants: {count} changed" if count else "grants: unchanged")
        return versions

    async def _apply_dataset(
        self,
        space: str,
        declaration: DatasetDeclaration,
        folder: Path,
        sums: dict[tuple[str, str], str],
        say: Say,
        actor: Principal,
    ) -> DatasetVersion:
        async with self.database.read() as uow:
            earlier = await self.datasets.versions(uow, in_space(space), declaration.name)
        stored = {str(s["sha256"]): s for version in earlier for s in version.sources}
        sources = []
        for table in declaration.tables:
            known = stored.get(sums[declaration.name, table.name])
            if known is None and table.source.startswith(STORED):
                raise BlueprintError(
                    f"{declaration.name}.{table.name}: no file of that checksum is stored in this space."
                )
            original = (
                Stored(str(known["key"]), int(known["size"]), str(known["sha256"]))
                if known
                else await self.datasets.store_original(space, self._read(table.source, folder))
            )
            sources.append(Source(table, original, format_of(table.source, table.format)))
        async with self.database.write(actor) as uow:
            uow.unrecorded("nothing changed")
            await self.datasets.declare(uow, space, declaration.name, declaration.metadata)
            version = await self.datasets.new_version(uow, space, declaration.name, sources, unless_same=True)
        state = "unchanged" if version.state == "ready" else "loading"
        say(f"dataset {declaration.name}: version {version.number} {state}")
        return version

    async def export(self, slug: str) -> Blueprint:
        """The declaration of a space as it is, with the grants that people gave.

        Raises:
            BlueprintError: when there is no such space.
        """
        async with self.database.read() as uow:
            present = await self._present(uow, slug, every_grant=True)
        if present is None:
            raise BlueprintError(f"There is no space “{slug}”.")
        return present

    async def _present(self, uow: UnitOfWork, slug: str, *, every_grant: bool = False) -> Blueprint | None:
        space = await scoped_get(uow, Space, in_space(slug))
        if space is None:
            return None
        declaration = SpaceDeclaration.model_validate(space.declaration)
        data: dict[str, Any] = declaration.model_dump(exclude_defaults=True)
        listed = await self.datasets.catalogue(uow, in_space(slug), None, None, 500)
        data["datasets"] = []
        for dataset in listed.items:
            versions = await self.datasets.versions(uow, in_space(slug), dataset.name)
            if versions:
                metadata = Metadata.model_validate(dataset.metadata_)
                tables = [_exported(source) for source in versions[0].sources]
                data["datasets"].append({"name": dataset.name, **metadata.model_dump(), "tables": tables})
        grants = [g for g in await self.grants.current(uow, in_space(slug)) if every_grant or g.source == "blueprint"]
        data["grants"] = [GrantDeclaration.model_validate(grant.policy) for grant in grants]
        return Blueprint.model_validate(data)


def _compare_space(present: Blueprint | None, blueprint: Blueprint) -> list[Change]:
    if present is None:
        return [Change("+", f"{blueprint.kind} {blueprint.slug}: {blueprint.title}")]
    before, after = present.space().model_dump(), blueprint.space().model_dump()
    return [Change("~", f"{name} of {blueprint.slug}") for name in after if before[name] != after[name]]


def _exported(source: dict[str, Any]) -> Table:
    """A table as it is declared; what was uploaded is named by its checksum, since it is in no file beside."""
    table = Table.model_validate(source["table"])
    if source.get("url"):
        return table.model_copy(update={"source": source["url"], "format": source["format"]})
    if source.get("uploaded"):
        return table.model_copy(update={"source": f"{STORED}{source['sha256']}", "format": source["format"]})
    return table


def _compare_grants(present: Blueprint | None, blueprint: Blueprint) -> list[Change]:
    def key(grant: GrantDeclaration) -> tuple[str, str, str]:
        return grant.to, grant.dataset, ", ".join(sorted(grant.allow))

    have = {key(grant): grant for grant in present.grants} if present else {}
    changes = []
    for grant in blueprint.grants:
        earlier = have.pop(key(grant), None)
        if earlier != grant:
            sign = "~" if earlier else "+"
            changes.append(Change(sign, f"grant of {grant.dataset} to {grant.to}: {key(grant)[2]}"))
    return changes + [Change("-", f"grant of {dataset} to {to}: {allow}") for to, dataset, allow in have]


def locate(source: str, folder: Path) -> Path:
    """The file that a source names: beside the declaration, or inside an installed package.

    Raises:
        BlueprintError: when the package is not installed.
    """
    if source.startswith("package:"):
        package, _, inner = source.removeprefix("package:").partition("/")
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise BlueprintError(f"The package “{package}” is not installed; it has the data of {source}.")
        return Path(next(iter(spec.submodule_search_locations)), inner)
    return folder / source
