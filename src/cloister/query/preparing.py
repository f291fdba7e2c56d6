"""Makes narrowed editions as soon as a grant or a version asks for them, so that nobody waits for one."""

from cloister.access import scoped_select
from cloister.core.events import GrantsChanged
from cloister.core.principal import EVERYTHING
from cloister.datasets import Grant, GrantDeclaration
from cloister.platform import Controller, Database
from cloister.query.relations import Relations


class EditionController(Controller):
    """Woken by a grant or a new version."""

    name = "editions"
    wakes_on = (GrantsChanged,)
    interval = 60.0

    def __init__(self, database: Database, relations: Relations) -> None:
        super().__init__()
        self._database = database
        self._relations = relations

    async def look(self) -> float | None:
        async with self._database.read() as uow:
            query = scoped_select(Grant, EVERYTHING).where(Grant.revoked_at.is_(None))
            grants = (await uow.session.scalars(query)).all()
        for grant in grants:
            if GrantDeclaration.model_validate(grant.policy).tables is not None:
                await self._relations.prepare(grant)
        return None
