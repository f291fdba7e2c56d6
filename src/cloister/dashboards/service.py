"""Keeping dashboards: checked, sealed, versioned."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cloister.access import scoped_delete, scoped_get, scoped_select
from cloister.audit import Name, record
from cloister.core.clock import Clock
from cloister.core.events import DashboardChanged
from cloister.core.ids import new_id
from cloister.core.pagination import Page
from cloister.core.principal import Scope
from cloister.dashboards.document import GIVER, SECRET, Document, Integration, Use, given, is_sealed, without_secrets
from cloister.dashboards.errors import DashboardNotFound
from cloister.dashboards.models import Dashboard, DashboardVersion, Share
from cloister.dashboards.uses import release_if_any
from cloister.modules import BadConfiguration, Described, Entry, Modules, check_values
from cloister.platform import SecretBox, UnitOfWork
from cloister.platform.paging import page_by
from cloister.spaces import get_team, in_space

PURPOSE = "configurations of modules"
KEPT_VERSIONS = 100


@dataclass
class Dashboards:
    """The service."""

    modules: Modules
    box: SecretBox
    clock: Clock

    async def get(self, uow: UnitOfWork, scope: Scope, id_: str) -> Dashboard:
        """Return a dashboard that a scope reaches.

        Raises:
            DashboardNotFound: when there is none.
        """
        found = await scoped_get(uow, Dashboard, scope, id=id_)
        if found is None:
            raise DashboardNotFound
        return found

    async def page(
        self, uow: UnitOfWork, scope: Scope, cursor: str | None, limit: int, *, latest: bool = False
    ) -> Page[Dashboard]:
        """The dashboards that a scope reaches, oldest first; or those that were changed last, as one page."""
        query = scoped_select(Dashboard, scope)
        if latest:
            newest = query.order_by(Dashboard.updated_at.desc(), Dashboard.id).limit(limit)
            return Page(list((await uow.session.scalars(newest)).all()), None)
        return await page_by(uow, query, Dashboard.id, cursor, limit)

    async def create(
        self,
        uow: UnitOfWork,
        scope: Scope,
        team: int,
        person: int,
        document: Document,
        gone: frozenset[str] = frozenset(),
    ) -> Dashboard:
        """Make a dashboard of a team. Parts in ``gone`` are taken over though no release of theirs can run.

        Raises:
            TeamNotFound: when the scope does not reach the team.
            ModuleNotFound, ReleaseNotFound, BadConfiguration: what is wrong in it.
        """
        await get_team(uow, scope, team)
        sealed = await self._sealed(uow, document, None, person, gone=gone)
        now = self.clock.now()
        row = Dashboard(
            id=new_id("dsh"), space=str(scope.space), team=team, name=document.name, document=sealed.model_dump(mode="json"),
            version=1, created_by=person, created_at=now, updated_at=now,
        )  # fmt: skip
        uow.session.add(row)
        await uow.session.flush()
        self._keep(uow, row, person)
        record(uow, Name.DASHBOARD_CHANGED, space=row.space, team=team, subject=row.id, version=1)
        return row

    async def save(self, uow: UnitOfWork, row: Dashboard, person: int, document: Document) -> Dashboard:
        """Make a dashboard be something else; what it was can be gone back to."""
        before = Document.model_validate(row.document)
        sealed = await self._sealed(uow, document, before, person, await self._departed(uow, row, document, before))
        row.document, row.name = sealed.model_dump(mode="json"), document.name
        row.version += 1
        row.updated_at = self.clock.now()
        self._keep(uow, row, person)
        old = scoped_delete(DashboardVersion, in_space(row.space)).where(
            DashboardVersion.dashboard == row.id, DashboardVersion.version <= row.version - KEPT_VERSIONS
        )
        await uow.session.execute(old)
        record(uow, Name.DASHBOARD_CHANGED, space=row.space, team=row.team, subject=row.id, version=row.version)
        uow.publish(DashboardChanged(row.id))
        return row

    def _keep(self, uow: UnitOfWork, row: Dashboard, person: int) -> None:
        uow.session.add(
            DashboardVersion(
                dashboard=row.id, version=row.version, space=row.space, document=row.document, person=person,
                at=self.clock.now(),
            )
        )  # fmt: skip

    async def delete(self, uow: UnitOfWork, row: Dashboard) -> None:
        for model in (DashboardVersion, Share):
            await uow.session.execute(scoped_delete(model, in_space(row.space)).where(model.dashboard == row.id))
        await uow.session.delete(row)
        record(uow, Name.DASHBOARD_DELETED, space=row.space, team=row.team, subject=row.id)
        uow.publish(DashboardChanged(row.id))

    async def history(self, uow: UnitOfWork, row: Dashboard) -> list[DashboardVersion]:
        """What it was, newest first."""
        query = scoped_select(DashboardVersion, in_space(row.space)).where(DashboardVersion.dashboard == row.id)
        return list((await uow.session.scalars(query.order_by(DashboardVersion.version.desc()))).all())

    async def revert(self, uow: UnitOfWork, row: Dashboard, version: int, person: int) -> Dashboard:
        """Make a dashboard be again what it was; that is a new version, too."""
        found = await scoped_get(uow, DashboardVersion, in_space(row.space), dashboard=row.id, version=version)
        if found is None:
            raise DashboardNotFound(f"There is no version {version} of it.")
        document, now = Document.model_validate(found.document), Document.model_validate(row.document)
        runs = {integration.id: integration for integration in now.integrations}
        for integration in document.integrations:
            if runs.get(integration.id) != integration:
                integration.values = stamped(integration.values, integration.added_by)
                integration.added_by = person  # what was undone and comes back, comes back for whoever brings it
        row.document, row.name = document.model_dump(mode="json"), document.name
        row.version += 1
        row.updated_at = self.clock.now()
        self._keep(uow, row, person)
        record(uow, Name.DASHBOARD_CHANGED, space=row.space, team=row.team, subject=row.id, version=row.version)
        uow.publish(DashboardChanged(row.id))
        return row

    async def duplicate(self, uow: UnitOfWork, scope: Scope, row: Dashboard, person: int) -> Dashboard:
        """A copy, without the secrets: they were given for this one."""
        copy = without_secrets(Document.model_validate(row.document))
        copy.name = f"{copy.name[:110]} (copy)"
        uses = [*copy.integrations, *copy.widgets]
        gone = frozenset([use.id for use in uses if await release_if_any(uow, self.modules, use) is None])
        return await self.create(uow, scope, row.team, person, copy, gone)

    # -- configurations

    async def _departed(
        self, uow: UnitOfWork, row: Dashboard, document: Document, before: Document
    ) -> dict[str, Integration]:
        """The integrations that were taken away, as they were last, of those that a document brings back.

        So that what was removed by mistake has its secrets again. It runs for whoever brings it back.
        """
        here = {use.id for use in before.integrations}
        back = {use.id for use in document.integrations if use.id not in here and {"set": True} in use.values.values()}
        found: dict[str, Integration] = {}
        for version in await self.history(uow, row) if back else ():
            for use in Document.model_validate(version.document).integrations:
                if use.id in back - found.keys():
                    values = stamped(use.values, use.added_by)
                    found[use.id] = use.model_copy(update={"values": values})
        return found

    async def _sealed(
        self, uow: UnitOfWork, document: Document, before: Document | None, person: int,
        departed: Mapping[str, Integration] | None = None, gone: frozenset[str] = frozenset(),
    ) -> Document:  # fmt: skip
        """The document with each configuration checked and each secret sealed; a new one accepts what is known here alone."""
        copy = document.model_copy(deep=True)
        old: dict[str, Use] = {use.id: use for use in [*before.integrations, *before.widgets]} if before else {}
        fresh = []
        for use in [*copy.integrations, *copy.widgets]:
            earlier = old.get(use.id) or (departed or {}).get(use.id)
            if earlier is not None and earlier.module != use.module:
                earlier = None
            if (earlier is None or use.id not in old) and use.id not in gone:
                fresh.append(use.module)
            if before is None and isinstance(use, Integration) and use.accepts is not None:
                known = await self.modules.needs_of(uow, use.module, use.accepts)
                use.accepts = use.accepts if known is not None else None  # elsewhere, others may have been accepted
            if use.id in gone:
                continue
            if isinstance(use, Integration):
                kept = earlier if isinstance(earlier, Integration) else None
                await self._seal_integration(uow, use, kept, person, anew=use.id not in old)
            elif earlier is None or (use.version, use.values) != (earlier.version, given(earlier.values)):
                _, release = await self.modules.resolve(uow, use.module, use.version)
                use.values = self.seal(use, Described.model_validate(release.described).model, earlier)
            else:
                use.values = earlier.values
        await self.modules.used(uow, fresh)
        return copy

    async def _seal_integration(
        self, uow: UnitOfWork, use: Integration, earlier: Integration | None, person: int, *, anew: bool
    ) -> None:
        """Seal what an integration is given. It runs for whoever last said what it is to do, with their rights."""
        if not anew and earlier is not None and earlier.accepts is not None and use.accepts in {None, earlier.accepts}:
            same_wish = use.version == earlier.version
            use.accepts = earlier.accepts if same_wish else None
            if same_wish and use.values == given(earlier.values):
                use.values, use.added_by = earlier.values, earlier.added_by
                return  # also when its release is gone: the rest of a dashboard can still be changed
        news = use.accepts if anew or earlier is None or earlier.accepts != use.accepts else None
        if news is not None and await self.modules.needs_of(uow, use.module, news) is None:
            raise BadConfiguration(f"“accepts” is the exact version of a release of {use.module}.")
        _, release = await self.modules.resolve(uow, use.module, use.version, use.accepts)
        described = Described.model_validate(release.described)
        kept = earlier
        if earlier is not None and await self._elsewhere(uow, described, use, earlier):
            # A secret that somebody else gave for one host is not sent to another.
            mine = {k: v for k, v in earlier.values.items() if not is_sealed(v) or giver(v, earlier.added_by) == person}
            kept = earlier.model_copy(update={"values": mine})
        elif earlier is not None:
            kept = earlier.model_copy(update={"values": stamped(earlier.values, earlier.added_by)})
        use.added_by = person
        use.values = self.seal(use, described.model, kept)
        use.accepts = use.accepts or release.version

    async def _elsewhere(self, uow: UnitOfWork, described: Described, use: Use, earlier: Integration) -> bool:
        """Whether it reaches other hosts than before: by what a setting says now, or by what its release asks for."""
        needs = described.manifest.permissions
        if any(use.values.get(name) != earlier.values.get(name) for name in needs.hosts_from):
            return True
        had = None if earlier.accepts is None else await self.modules.needs_of(uow, use.module, earlier.accepts)
        return had is None or needs.reaches_beyond(had)

    def seal(self, use: Use, model: list[Entry], earlier: Use | None) -> dict[str, Any]:
        """Check what a module is given, and encrypt the secrets in it.

        Raises:
            BadConfiguration: naming the setting.
        """
        secrets = {entry.name for entry in model if entry.secret}
        gone = set(earlier.values if earlier is not None else ()) - {entry.name for entry in model}
        # What an earlier release could be given and this one cannot is not asked about: it is forgotten.
        plain = {name: value for name, value in use.values.items() if name not in secrets | gone}
        check_values(model, plain)
        sealed: dict[str, Any] = {}
        for name in secrets & use.values.keys():
            value = use.values[name]
            if value == {"set": True}:
                kept = earlier.values.get(name) if earlier is not None else None
                if is_sealed(kept):
                    sealed[name] = kept
            elif isinstance(value, str):
                check_values(model, {name: value})
                if value:
                    sealed[name] = {SECRET: self.box.encrypt(value.encode(), PURPOSE)}
                    if isinstance(use, Integration) and use.added_by is not None:
                        sealed[name][GIVER] = use.added_by
            elif value not in (None, {"set": False}):
                raise BadConfiguration(f"“{name}” is a text, or {{“set”: true}} to keep what it is.", setting=name)
        return {**plain, **sealed}

    def opened(self, use: Use, model: list[Entry]) -> tuple[str, tuple[str, ...]]:
        """The whole configuration as JSON, with its secrets, and the secrets by themselves. For a sandbox, nobody else."""
        secrets = []
        values = {}
        for name, value in use.values.items():
            if is_sealed(value):
                values[name] = self.box.decrypt(value[SECRET], PURPOSE).decode()
                secrets.append(values[name])
            else:
                values[name] = value
        known = {entry.name for entry in model}
        whole = check_values(model, {name: value for name, value in values.items() if name in known})
        return json.dumps(whole), tuple(secret for secret in secrets if len(secret) >= 4)


def giver(sealed: dict[str, Any], adder: int | None) -> int | None:
    """Who gave a secret; of one that does not say it, whoever the integration ran for."""
    found = sealed.get(GIVER, adder)
    return found if isinstance(found, int) else None


def stamped(values: dict[str, Any], adder: int | None) -> dict[str, Any]:
    """Values whose secrets all say who gave them."""
    return {k: {**v, GIVER: giver(v, adder)} if is_sealed(v) else v for k, v in values.items()}
