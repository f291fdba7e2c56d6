"""Writing, publishing, forking and finding modules."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from cloister.access import scoped_delete, scoped_get, scoped_select
from cloister.audit import Name, record
from cloister.core.clock import Clock
from cloister.core.errors import CloisterError
from cloister.core.events import ReleaseRemoved, ReleaseWanted
from cloister.core.ids import new_id
from cloister.core.pagination import Page
from cloister.core.principal import EVERYTHING
from cloister.modules import search, versions
from cloister.modules.archive import check_paths
from cloister.modules.changes import FileChange, changes_between
from cloister.modules.checking import check_files, check_size
from cloister.modules.errors import (
    AsksMore,
    ModuleFileNotFound,
    ModuleNotFound,
    NameTaken,
    NotYours,
    ReleaseNotFound,
    WasPublished,
)
from cloister.modules.manifest import Described, Permissions, describe
from cloister.modules.models import DraftFile, Module, ModuleSource, Release, author_label
from cloister.modules.store import Files
from cloister.platform import UnitOfWork
from cloister.platform.paging import page_by

DRAFT = "draft"
"""The version of what is no release yet."""


@dataclass
class Modules:
    """The registry."""

    files: Files
    clock: Clock

    # -- finding

    async def find(self, uow: UnitOfWork, name: str, person: int | None) -> Module:
        """Return a module that is published, or is one's own.

        Raises:
            ModuleNotFound: when there is none, or it is somebody's draft.
        """
        found = await scoped_get(uow, Module, EVERYTHING, name=name)
        if found is None or (found.author != person and not await self._was_published(uow, found)):
            raise ModuleNotFound
        return found

    async def _was_published(self, uow: UnitOfWork, module: Module) -> bool:
        return any(row.state == "ready" and not row.removed for row in await self.releases(uow, module))

    async def own(self, uow: UnitOfWork, name: str, person: int) -> Module:
        """Return a module of one's own, to change it.

        Raises:
            ModuleNotFound, NotYours: when it is none, or another's.
        """
        found = await self.find(uow, name, person)
        if found.author != person:
            raise NotYours
        return found

    async def written_by(self, uow: UnitOfWork, person: int, cursor: str | None, limit: int) -> Page[Module]:
        """Somebody's own modules, published or not, newest first."""
        query = scoped_select(Module, EVERYTHING).where(Module.author == person)
        return await page_by(uow, query, Module.number, cursor, limit, newest_first=True)

    async def releases(self, uow: UnitOfWork, module: Module) -> list[Release]:
        """Newest first."""
        rows = (
            await uow.session.scalars(scoped_select(Release, EVERYTHING).where(Release.module == module.number))
        ).all()
        return sorted(rows, key=lambda row: versions.parse(row.version), reverse=True)

    async def resolve(
        self, uow: UnitOfWork, name: str, wanted: str, accepts: str | None = None
    ) -> tuple[Module, Release]:
        """The release that a wish means: ``latest``, a range or a version. A yanked one only when it is pinned.

        Args:
            uow: the transaction.
            name: the module's.
            wanted: the wish.
            accepts: a release whose permissions were accepted; those that ask for more are passed over.

        Raises:
            ModuleNotFound, ReleaseNotFound, VersionRefused: what is wrong.
            AsksMore: when there are only releases that ask for more than was accepted.
        """
        module = await scoped_get(uow, Module, EVERYTHING, name=name)
        if module is None:
            raise ModuleNotFound
        every = await self.releases(uow, module)
        ready = {r.version: r for r in every if r.state == "ready" and not r.removed}
        accepted = next((_permissions(r) for r in every if r.version == accepts), None)
        if accepted is not None:
            ready = _within(accepted, ready, wanted, name)
        best = versions.choose(wanted, [v for v, r in ready.items() if not r.yanked], ready)
        if best is None:
            raise ReleaseNotFound(f"“{name}” has no release {wanted!r} that can run.")
        return module, ready[best]

    async def beyond(self, uow: UnitOfWork, name: str, wanted: str, accepts: str) -> tuple[str | None, list[str]]:
        """The release that a wish means though it asks for more than an accepted one does, and for what."""
        try:
            module, best = await self.resolve(uow, name, wanted)
            accepted = await scoped_get(uow, Release, EVERYTHING, module=module.number, version=accepts)
        except CloisterError:  # there is none that runs; whoever asks is told so elsewhere
            return None, []
        asked = [] if accepted is None else _permissions(best).beyond(_permissions(accepted))
        return (best.version, asked) if asked else (None, [])

    async def needs_of(self, uow: UnitOfWork, name: str, version: str) -> Permissions | None:
        """What a release asks for, also one that was removed; None where there never was one."""
        module = await scoped_get(uow, Module, EVERYTHING, name=name)
        found = module and await scoped_get(uow, Release, EVERYTHING, module=module.number, version=version)
        return _permissions(found) if found else None

    async def release(self, uow: UnitOfWork, module: Module, version: str, person: int | None) -> Release:
        """One release, by its exact version. What is not ready is its author's alone.

        Raises:
            ReleaseNotFound: when there is none, or it was removed.
        """
        found = await scoped_get(uow, Release, EVERYTHING, module=module.number, version=version)
        if found is None or found.removed or (found.state != "ready" and person != module.author):
            raise ReleaseNotFound
        return found

    # -- drafts

    async def create(self, uow: UnitOfWork, person: int | None, name: str, files: dict[str, bytes]) -> Module:
        """Begin a module with some files.

        Raises:
            NameTaken: when somebody has one of that name.
            BadModule, BadPath, ModuleTooLarge: what is wrong with the files.
        """
        if await scoped_get(uow, Module, EVERYTHING, name=name) is not None:
            raise NameTaken
        now = self.clock.now()
        module = Module(
            name=name, author=person, kind="integration", runtime=None, title=name, summary="", keywords=[],
            permissions={}, accepts=["any"], latest=None, forked_from=None, uses=0, created_at=now, updated_at=now, version=0,
        )  # fmt: skip
        uow.session.add(module)
        async with uow.attempt():
            await uow.session.flush()
        await self._replace(uow, module, files)
        record(uow, Name.MODULE_CREATED, subject=name)
        return module

    async def draft(self, uow: UnitOfWork, module: Module) -> dict[str, bytes]:
        query = scoped_select(DraftFile, EVERYTHING).where(DraftFile.module == module.number)
        return {row.path: row.content for row in (await uow.session.scalars(query)).all()}

    async def replace(self, uow: UnitOfWork, module: Module, files: dict[str, bytes]) -> Module:
        """Put other files in the place of all."""
        await self._replace(uow, module, files)
        record(uow, Name.MODULE_CHANGED, subject=module.name, files=len(files))
        return module

    async def put_file(self, uow: UnitOfWork, module: Module, path: str, content: bytes) -> Module:
        """Write one file. What it makes of the manifest is looked at when it is published, not while it is typed."""
        files = await self.draft(uow, module)
        files[path] = content
        check_paths(files)
        check_size(files)
        row = await scoped_get(uow, DraftFile, EVERYTHING, module=module.number, path=path)
        if row is None:
            uow.session.add(DraftFile(module=module.number, path=path, content=content))
        else:
            row.content = content
        self._touch(module)
        record(uow, Name.MODULE_CHANGED, subject=module.name, file=path, bytes=len(content))
        return module

    async def delete_file(self, uow: UnitOfWork, module: Module, path: str) -> Module:
        row = await scoped_get(uow, DraftFile, EVERYTHING, module=module.number, path=path)
        if row is None:
            raise ModuleFileNotFound
        await uow.session.delete(row)
        self._touch(module)
        record(uow, Name.MODULE_CHANGED, subject=module.name, deleted=path)
        return module

    @staticmethod
    async def deletable(uow: UnitOfWork, module: Module) -> bool:
        """Whether no release of it ever came to be, removed ones included."""
        built = scoped_select(Release, EVERYTHING).where(Release.module == module.number, Release.state != "failed")
        return (await uow.session.scalars(built.limit(1))).first() is None

    async def delete(self, uow: UnitOfWork, module: Module) -> None:
        """Delete a module that never had a release.

        Raises:
            WasPublished: when it had one: its name stands on dashboards, and numbers of releases are never used again.
        """
        await uow.session.refresh(module, with_for_update=True)
        if not await self.deletable(uow, module):
            raise WasPublished
        for model in (DraftFile, ModuleSource, Release):
            await uow.session.execute(scoped_delete(model, EVERYTHING).where(model.module == module.number))
        await uow.session.delete(module)
        record(uow, Name.MODULE_REMOVED, subject=module.name)

    async def collect(self, uow: UnitOfWork, seconds: float) -> int:
        """Remove the files of drafts that nobody has tried for so long; return how many drafts those were."""
        gone = 0
        for digest in await self.files.unclaimed(seconds):
            query = scoped_select(Release, EVERYTHING).where(Release.digest == digest)
            if (await uow.session.scalars(query.limit(1))).first() is not None:
                await self.files.claim(digest)
            elif await self.files.forget(digest, seconds):
                gone += 1
        return gone

    async def _replace(self, uow: UnitOfWork, module: Module, files: dict[str, bytes]) -> None:
        check_paths(files)
        check_size(files)
        described = describe(files)
        if module.latest is None:  # what everybody sees of it is its latest release, never a draft
            self._show(module, described)
        await uow.session.execute(scoped_delete(DraftFile, EVERYTHING).where(DraftFile.module == module.number))
        uow.session.add_all(DraftFile(module=module.number, path=p, content=c) for p, c in files.items())
        self._touch(module)
        await uow.session.flush()

    def _touch(self, module: Module) -> None:
        module.updated_at = self.clock.now()
        module.version += 1

    @staticmethod
    def _show(module: Module, described: Described) -> None:
        manifest = described.manifest
        module.kind, module.runtime = manifest.kind, manifest.runtime
        module.title, module.summary = manifest.title or module.name, manifest.summary
        module.keywords = list(manifest.keywords)
        needs = manifest.permissions
        module.accepts = [*described.manifest.accepts]
        module.permissions = {"hosts": bool(needs.hosts or needs.hosts_from), "datasets": needs.asks}

    # -- releases

    async def publish(self, uow: UnitOfWork, module: Module, version: str) -> Release:
        """Make a release of the draft. One with dependencies is built first.

        Raises:
            VersionRefused: when the version exists or is lower than another.
            BadModule: naming the file and the fault.
        """
        await uow.session.refresh(module, with_for_update=True)  # of two at once, the second sees the first's
        earlier = await self.releases(uow, module)
        versions.check_next(version, [row.version for row in earlier])
        described, release = await self._release_of(uow, module, version)
        uow.session.add(release)
        record(
            uow, Name.RELEASE_PUBLISHED, subject=f"{module.name}@{version}", digest=release.digest,
            permissions=described.manifest.permissions.model_dump(mode="json"),
        )  # fmt: skip
        await uow.session.flush()
        uow.publish(ReleaseWanted(release.id))
        return release

    async def on_trial(self, uow: UnitOfWork, module: Module) -> tuple[Described, Release]:
        """The draft as if it were a release. It is in no database, so nobody but who has it can use it.

        Raises:
            BadModule, VersionRefused: what keeps it from being one.
        """
        described, release = await self._release_of(uow, module, DRAFT)
        release.state = "ready"
        return described, release

    async def _release_of(self, uow: UnitOfWork, module: Module, version: str) -> tuple[Described, Release]:
        """What a draft says of itself, and the release that it would be; its files are kept."""
        files = await self.draft(uow, module)
        described, requirements = check_files(files)
        digest, size = await self.files.keep(files)
        return described, Release(
            id=new_id("rel"), module=module.number, version=version, digest=digest, size_bytes=size,
            described=described.model_dump(mode="json"), readme=_text(files.get("README.md", b"")),
            requirements=requirements, state="building", reason=None, yanked=False, removed=False,
            published_at=self.clock.now(),
        )  # fmt: skip

    async def built(self, uow: UnitOfWork, release: Release, problem: str | None) -> None:
        """Note how the build of a release ended; from now on it can be used, or never."""
        release.state, release.reason = ("ready", None) if problem is None else ("failed", problem)
        module = await scoped_get(uow, Module, EVERYTHING, number=release.module)
        if module is not None:
            await self._choose_latest(uow, module)

    async def _choose_latest(self, uow: UnitOfWork, module: Module) -> None:
        rows = [r for r in await self.releases(uow, module) if r.state == "ready" and not (r.yanked or r.removed)]
        module.latest = versions.choose("latest", [row.version for row in rows])
        shown = next((row for row in rows if row.version == module.latest), None)
        if shown is None:
            await search.forget(uow, module)
        else:
            described = Described.model_validate(shown.described)
            self._show(module, described)
            await search.index(uow, module, shown.readme, f"{author_label(module)} {described.manifest.author}")

    async def yank(self, uow: UnitOfWork, module: Module, version: str, *, yanked: bool) -> Release:
        """Hide a release from new users, or show it again. Where it is pinned it still runs."""
        release = await self.release(uow, module, version, module.author)
        release.yanked = yanked
        await self._choose_latest(uow, module)
        record(uow, Name.RELEASE_YANKED, subject=f"{module.name}@{version}", yanked=yanked)
        return release

    async def remove(self, uow: UnitOfWork, module: Module, version: str) -> None:
        """Take a release away for good. Dashboards that use it say so. Its number is never used again."""
        release = await self.release(uow, module, version, module.author)
        release.removed = True
        await self._choose_latest(uow, module)
        record(uow, Name.MODULE_REMOVED, subject=f"{module.name}@{version}")
        uow.publish(ReleaseRemoved(release.id))

    async def fork(self, uow: UnitOfWork, person: int, source: str, version: str, name: str) -> Module:
        """Begin a module of one's own with the files of another's release."""
        module, release = await self.resolve(uow, source, version)
        made = await self.create(uow, person, name, await self.files.read(release.digest))
        made.forked_from = f"{module.name}@{release.version}"
        return made

    async def diff(self, one: Release, other: Release) -> list[FileChange]:
        """What changed from one release to another."""
        return await asyncio.to_thread(
            changes_between, await self.files.read(one.digest), await self.files.read(other.digest)
        )

    async def diff_to_draft(self, uow: UnitOfWork, one: Release, module: Module) -> list[FileChange]:
        """What a draft changes of a release."""
        return await asyncio.to_thread(
            changes_between, await self.files.read(one.digest), await self.draft(uow, module)
        )

    async def more_permissions(self, uow: UnitOfWork, module: Module, release: Release) -> list[str]:
        """What a release asks for that the one before it did not."""
        mine = versions.parse(release.version)
        earlier = [
            r for r in await self.releases(uow, module) if r.state == "ready" and versions.parse(r.version) < mine
        ]
        return _permissions(release).beyond(_permissions(earlier[0])) if earlier else []

    async def used(self, uow: UnitOfWork, names: Iterable[str]) -> None:
        """Count that modules were put on a dashboard."""
        for name in names:
            module = await scoped_get(uow, Module, EVERYTHING, name=name)
            if module is not None:
                module.uses += 1


def _permissions(release: Release) -> Permissions:
    return Described.model_validate(release.described).manifest.permissions


def _within(accepted: Permissions, ready: dict[str, Release], wanted: str, name: str) -> dict[str, Release]:
    """The releases that ask for no more than was accepted.

    Raises:
        AsksMore: when a wish means only others.
    """
    more = {version: asked for version, r in ready.items() if (asked := _permissions(r).beyond(accepted))}
    fitting = {version: r for version, r in ready.items() if version not in more}
    if versions.choose(wanted, fitting, fitting) is None and (found := versions.choose(wanted, more, more)) is not None:
        raise AsksMore(f"“{name}” {found} asks for more than was accepted: {', '.join(more[found])}.")
    return fitting


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace").replace("\0", "�")
