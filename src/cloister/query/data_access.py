"""What the sandboxes of teams may have mounted, for `sandboxes` to ask."""

from dataclasses import dataclass

from cloister.access import Bindings
from cloister.core.clock import Clock
from cloister.core.principal import Principal, Role
from cloister.platform import UnitOfWork
from cloister.query.relations import Relations
from cloister.sandboxes import Mount


@dataclass
class GrantedData:
    """Implements the data port of `sandboxes`."""

    relations: Relations
    bindings: Bindings
    clock: Clock

    async def mounts(
        self, uow: UnitOfWork, principal: Principal, space: str, team: int
    ) -> tuple[list[Mount], list[str]]:
        tables = await self.relations.granted(uow, space, principal.person, team, "mount", make=None)
        return await self.relations.mounts(tables), [table.edition for table in tables]

    async def still_granted(
        self, uow: UnitOfWork, space: str, team: int, person: int | None, editions: list[str]
    ) -> bool:
        """A sandbox goes on while somebody of its team is in, its starter is, and all its data are still granted."""
        now = self.clock.now()
        members = {
            b.person for b in await self.bindings.in_space(uow, space, Role.MEMBER)
            if b.team == team and b.suspended is None and (b.until is None or b.until > now)
        }  # fmt: skip
        if person is not None and not await self.bindings.effective(uow, person, space):
            return False
        if not members or (person is not None and person not in members and not await self._staff(uow, space, person)):
            return False
        if not editions:
            return True
        granted = [
            *await self.relations.granted(uow, space, person, team, "mount", make=False),
            *await self.relations.granted(uow, space, person, team, "query", make=False),
        ]
        return set(editions) <= {table.edition for table in granted}

    async def _staff(self, uow: UnitOfWork, space: str, person: int) -> bool:
        return any(
            b.space == space and b.role != Role.MEMBER for b in await self.bindings.effective(uow, person, space)
        )
