"""Builds the environments that spaces declare, so that a start finds them ready."""

from cloister.access import scoped_select
from cloister.core.events import SpaceChanged
from cloister.core.principal import EVERYTHING
from cloister.platform import Controller, Database
from cloister.platform.logs import logger
from cloister.sandboxes.environments_privileged import Environments
from cloister.sandboxes.errors import EnvironmentBuildFailed
from cloister.sandboxes.ports import Backend
from cloister.spaces import JUPYTERLAB, Space, declared

log = logger(__name__)


class EnvironmentController(Controller):
    """Woken when a space is declared."""

    name = "environments"
    wakes_on = (SpaceChanged,)
    interval = 60.0

    def __init__(self, database: Database, environments: Environments, backend: Backend) -> None:
        super().__init__()
        self._database = database
        self._environments = environments
        self._backend = backend

    async def look(self) -> float | None:
        async with self._database.read() as uow:
            spaces = (await uow.session.scalars(scoped_select(Space, EVERYTHING).where(Space.state == "active"))).all()
        for space in spaces:
            environments = declared(space).environments
            wanted = {
                environment.name: environment.requirements for environment in environments if not environment.image
            }
            if any(environment.app == "jupyterlab" for environment in environments):
                wanted["the platform's Jupyter server"] = JUPYTERLAB
            for name, requirements in wanted.items():
                try:
                    built = await self._environments.ensure(requirements)
                    if requirements is JUPYTERLAB:
                        await self._backend.warm_up(built.path)
                except EnvironmentBuildFailed as error:
                    log.warning("environment.failed", space=space.space, environment=name, error=error.detail)
        return None
