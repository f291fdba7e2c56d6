"""Builds the environments that spaces declare, so that a start finds them ready."""

from cloister.access import scoped_select
from cloister.core.events import SpaceChanged
from cloister.core.principal import EVERYTHING
from cloister.platform import Controller, Database
from cloister.platform.logs import logger
from cloister.sandboxes.environments_privileged import Environments
from cloister.sandboxes.errors import EnvironmentBuildFailed
from cloister.spaces import Space, declared

log = logger(__name__)


class EnvironmentController(Controller):
    """Woken when a space is declared."""

    name = "environments"
    wakes_on = (SpaceChanged,)
    interval = 60.0

    def __init__(self, database: Database, environments: Environments) -> None:
        super().__init__()
        self._database = database
        self._environments = environments

    async def look(self) -> float | None:
        async with self._database.read() as uow:
            spaces = (await uow.session.scalars(scoped_select(Space, EVERYTHING).where(Space.state == "active"))).all()
        for space in spaces:
            for environment in declared(space).environments:
                try:
                    await self._environments.ensure(environment.requirements)
                except EnvironmentBuildFailed as error:
                    log.warning(
                        "environment.failed", space=space.space, environment=environment.name, error=error.detail
                    )
        return None
