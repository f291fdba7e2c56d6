"""Grants: who may do what with which data. Nobody may anything without one."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cloister.access import scoped_get, scoped_select
from cloister.audit import Name, record
from cloister.core.clock import Clock
from cloister.core.events import AccessChanged, GrantsChanged
from cloister.core.ids import new_id, parse_label
from cloister.core.pagination import Page
from cloister.core.principal import Scope
from cloister.datasets.declaration import GrantDeclaration, Operation
from cloister.datasets.errors import BadGrant, GrantNotFound
from cloister.datasets.models import Dataset, Grant
from cloister.identity import people_by_number
from cloister.platform import UnitOfWork
from cloister.platform.paging import page_by
from cloister.spaces import Team, in_space


@dataclass
class Grants:
    """Give, revoke, find."""

    clock: Clock

    async def give(self, uow: UnitOfWork, space: str, wanted: GrantDeclaration, source: str) -> Grant:
        """Give a grant. For a subject, a dataset and an operation one counts at a time: it takes the place of earlier
        ones from when it begins, and what they allow beyond that stays.

        Raises:
            BadGrant: when the dataset or the team does not exist.
        """
        if await scoped_get(uow, Dataset, in_space(space), name=wanted.dataset) is None:
            raise BadGrant(f"There is no dataset “{wanted.dataset}”.")
        subject = await self._subject(uow, space, wanted.to)
        now = self.clock.now()
        for earlier in await self._given(uow, space):
            if earlier.subject == subject and earlier.dataset == wanted.dataset:
                self._supersede(uow, earlier, wanted, now)
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

    @staticmethod
    def _supersede(uow: UnitOfWork, earlier: Grant, wanted: GrantDeclaration, now: datetime) -> None:
        """End what of an earlier grant a new one takes the place of; the rest goes on as a grant of its own."""
        begins = max(wanted.valid_from or now, now)
        allowed: list[str] = earlier.policy["allow"]
        rest = [operation for operation in allowed if operation not in wanted.allow]
        over = earlier.valid_until is not None and earlier.valid_until <= begins
        if over or len(rest) == len(allowed):
            return
        if rest:
            policy = {**earlier.policy, "allow": rest}
            starts = max(begins, earlier.valid_from) if earlier.valid_from else begins
            kept = Grant(
                id=new_id("grt"), space=earlier.space, dataset=earlier.dataset, subject=earlier.subject,
                source=earlier.source, policy=policy, valid_from=starts, valid_until=earlier.valid_until,
                created_by=earlier.created_by, created_at=now, revoked_at=None,
            )  # fmt: skip
            uow.session.add(kept)
            record(uow, Name.GRANT_CREATED, space=kept.space, subject=kept.dataset, grant=kept.id, policy=policy)
        if begins <= now:
            earlier.revoked_at = now
        else:
            earlier.valid_until = begins

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
            (grant.subject, grant.dataset, frozenset(grant.policy["allow"])): grant
            for grant in await self._given(uow, space)
            if grant.source == "blueprint"
        }
        keyed = {(await self._subject(uow, space, one.to), one.dataset, frozenset(one.allow)): one for one in wanted}
        gone = [grant for key, grant in have.items() if key not in keyed]
        for grant in gone:  # first: what a new one does not name of them must not go on
            await self.revoke(uow, in_space(space), grant.id)
        new = [
            one for key, one in keyed.items()
            if key not in have or have[key].policy != one.model_dump(mode="json", exclude_defaults=True)
        ]  # fmt: skip
        for one in new:
            await self.give(uow, space, one, "blueprint")
        return len(gone) + len(new)

    async def page(self, uow: UnitOfWork, scope: Scope, cursor: str | None, limit: int) -> Page[Grant]:
        query = scoped_select(Grant, scope).where(Grant.revoked_at.is_(None))
        return await page_by(uow, query, Grant.id, cursor, limit)

    async def current(self, uow: UnitOfWork, scope: Scope) -> list[Grant]:
        query = scoped_select(Grant, scope).where(Grant.revoked_at.is_(None))
        return [*(await uow.session.scalars(query.order_by(Grant.created_at, Grant.id))).all()]

    async def effective(
        self, uow: UnitOfWork, space: str, person: int | None, team: int | None, operation: Operation
    ) -> list[Grant]:
        """For each dataset, the grant of an operation that counts for a person in a team.

        What is said of the person counts before what is said of the team, and that before what is said of everybody:
        whoever is granted less than others is granted less, also in operations that are not named.
        """
        rank = {"everybody": 0, f"team:{team}": 1, f"person:{person}": 2}
        now = self.clock.now()
        nearest: dict[str, int] = {}
        best: dict[str, Grant] = {}
        query = scoped_select(Grant, in_space(space)).where(Grant.revoked_at.is_(None), Grant.subject.in_(rank))
        for grant in (await uow.session.scalars(query.order_by(Grant.created_at, Grant.id))).all():
            if (grant.valid_from and grant.valid_from > now) or (grant.valid_until and grant.valid_until <= now):
                continue
            near = rank[grant.subject]
            if near < nearest.get(grant.dataset, 0):
                continue
            if near > nearest.get(grant.dataset, -1):
                nearest[grant.dataset] = near
                best.pop(grant.dataset, None)
            if operation in grant.policy["allow"]:
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


async def subject_names(uow: UnitOfWork, space: str, grants: Iterable[Grant]) -> dict[str, str]:
    """What people call the teams and persons that some grants are given to, by subject."""
    numbers: dict[str, set[int]] = {"team": set(), "person": set()}
    for kind, _, number in (grant.subject.partition(":") for grant in grants):
        if kind in numbers:
            numbers[kind].add(int(number))
    teams = scoped_select(Team, in_space(space)).where(Team.team.in_(numbers["team"]))
    people = await people_by_number(uow, numbers["person"])
    return {
        **{f"team:{team.team}": team.name for team in await uow.session.scalars(teams)},
        **{f"person:{number}": person.name for number, person in people.items()},
    }
