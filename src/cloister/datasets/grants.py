"""Grants: who may do what with which data. Nobody may anything without one."""

from collections.abc import Iterable
from dataclasses import dataclass

from cloister.access import scoped_get, scoped_select
from cloister.audit import Name, record
from cloister.core.clock import Clock
from cloister.core.events import AccessChanged, GrantsChanged
from cloister.core.ids import new_id, parse_label
from cloister.core.principal import Scope
from cloister.datasets.declaration import GrantDeclaration
from cloister.datasets.errors import BadGrant, GrantNotFound
from cloister.datasets.models import Dataset, Grant
from cloister.platform import UnitOfWork
from cloister.spaces import Team, in_space


@dataclass
class Grants:
    """Give, revoke, find."""

    clock: Clock

    async def give(self, uow: UnitOfWork, space: str, wanted: GrantDeclaration, source: str) -> Grant:
        """Give a grant. One at a time counts for a subject and a dataset: an earlier one is revoked, or ends when a
        grant for later begins.

        Raises:
            BadGrant: when the dataset or the team does not exist.
        """
        if await scoped_get(uow, Dataset, in_space(space), name=wanted.dataset) is None:
            raise BadGrant(f"There is no dataset “{wanted.dataset}”.")
        subject = await self._subject(uow, space, wanted.to)
        now = self.clock.now()
        for earlier in await self._given(uow, space):
            if earlier.subject == subject and earlier.dataset == wanted.dataset:
                if wanted.valid_from is None or wanted.valid_from <= now:
                    earlier.revoked_at = now
                elif earlier.valid_until is None or earlier.valid_until > wanted.valid_from:
                    earlier.valid_until = wanted.valid_from
        grant = Grant(
            id=new_id("grt"),
            space=space,
            dataset=wanted.dataset,
            subject=subject,
            source=source,
            policy=wanted.model_dump(mode="json", exclude_defaults=True),
            valid_from=wanted.valid_from,
            valid_until=wanted.valid_until,
            created_by=uow.actor.person,
            created_at=now,
            revoked_at=None,
        )
        uow.session.add(grant)
        uow.publish(GrantsChanged(space))
        record(uow, Name.GRANT_CREATED, space=space, subject=wanted.dataset, grant=grant.id, policy=grant.policy)
        uow.publish(AccessChanged(space))
        await uow.session.flush()
        return grant

    async def revoke(self, uow: UnitOfWork, scope: Scope, id_: str) -> None:
        """End a grant. Open queries under it are cancelled, and sandboxes that have its data mounted are stopped.

        Raises:
            GrantNotFound: when there is none that counts.
        """
        grant = await scoped_get(uow, Grant, scope, id=id_)
        if grant is None or grant.revoked_at is not None:
            raise GrantNotFound
        grant.revoked_at = self.clock.now()
        record(uow, Name.GRANT_REVOKED, space=grant.space, subject=grant.dataset, grant=grant.id)
        uow.publish(AccessChanged(grant.space))

    async def declare(self, uow: UnitOfWork, space: str, wanted: Iterable[GrantDeclaration]) -> int:
        """Make the declared grants be those of the blueprint; return how many changed."""
        have = {
            (grant.subject, grant.dataset): grant
            for grant in await self._given(uow, space)
            if grant.source == "blueprint"
        }
        changed = 0
        for declaration in wanted:
            key = (await self._subject(uow, space, declaration.to), declaration.dataset)
            earlier = have.pop(key, None)
            if earlier is None or earlier.policy != declaration.model_dump(mode="json", exclude_defaults=True):
                await self.give(uow, space, declaration, "blueprint")
                changed += 1
        for gone in have.values():
            await self.revoke(uow, in_space(space), gone.id)
            changed += 1
        return changed

    async def current(self, uow: UnitOfWork, scope: Scope) -> list[Grant]:
        query = scoped_select(Grant, scope).where(Grant.revoked_at.is_(None))
        return [*(await uow.session.scalars(query.order_by(Grant.created_at, Grant.id))).all()]

    async def effective(self, uow: UnitOfWork, space: str, person: int | None, team: int | None) -> list[Grant]:
        """For each dataset, the grant that counts for a person in a team: theirs, else the team's, else everybody's."""
        rank = {"everybody": 0, f"team:{team}": 1, f"person:{person}": 2}
        now = self.clock.now()
        best: dict[str, Grant] = {}
        query = scoped_select(Grant, in_space(space)).where(Grant.revoked_at.is_(None), Grant.subject.in_(rank))
        for grant in (await uow.session.scalars(query.order_by(Grant.created_at, Grant.id))).all():
            if (grant.valid_from and grant.valid_from > now) or (grant.valid_until and grant.valid_until <= now):
                continue
            held = best.get(grant.dataset)
            if held is None or rank[grant.subject] >= rank[held.subject]:
                best[grant.dataset] = grant
        return [best[name] for name in sorted(best)]

    async def _given(self, uow: UnitOfWork, space: str) -> list[Grant]:
        query = scoped_select(Grant, in_space(space)).where(Grant.revoked_at.is_(None))
        return [*(await uow.session.scalars(query.order_by(Grant.created_at, Grant.id))).all()]

    @staticmethod
    async def _subject(uow: UnitOfWork, space: str, to: str) -> str:
        kind, _, name = to.partition(":")
        if kind == "person":
            try:
                return f"person:{parse_label(name, 'p')}"
            except ValueError as error:
                raise BadGrant(str(error)) from error
        if kind == "team":
            team = await scoped_get(uow, Team, in_space(space), name=name)
            if team is None and name.startswith("t-"):
                team = await scoped_get(uow, Team, in_space(space), team=parse_label(name, "t"))
            if team is None:
                raise BadGrant(f"There is no team “{name}” in this space.")
            return f"team:{team.team}"
        return "everybody"
