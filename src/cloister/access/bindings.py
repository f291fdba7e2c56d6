"""Giving and taking roles."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, delete, select, update

from cloister.access.models import RoleBinding
from cloister.audit import Name, record
from cloister.core.clock import Clock
from cloister.core.events import AccessChanged
from cloister.core.ids import person_label
from cloister.core.principal import Role
from cloister.identity import Person
from cloister.platform import OidcProvider, UnitOfWork

_OF = select(RoleBinding).where(RoleBinding.person == bindparam("person"))
_OF_HERE = _OF.where((RoleBinding.space == "") | (RoleBinding.space == bindparam("space")))

_OF_THE_ENABLED = _OF_HERE.join(Person, Person.number == RoleBinding.person).where(Person.disabled_at.is_(None))


@dataclass
class Bindings:
    """The store of roles."""

    clock: Clock

    async def of(self, uow: UnitOfWork, person: int, space: str | None) -> list[RoleBinding]:
        """A person's roles on the platform and in a space (None: in all of them)."""
        if space is None:
            return list((await uow.session.scalars(_OF, {"person": person})).all())
        return list((await uow.session.scalars(_OF_HERE, {"person": person, "space": space})).all())

    async def effective(self, uow: UnitOfWork, person: int, space: str) -> list[RoleBinding]:
        """The roles that a person may act by, on the platform and in a space: none while their account is disabled."""
        return list((await uow.session.scalars(_OF_THE_ENABLED, {"person": person, "space": space})).all())

    async def in_space(self, uow: UnitOfWork, space: str, role: Role | None = None) -> list[RoleBinding]:
        query = select(RoleBinding).where(RoleBinding.space == space)
        if role is not None:
            query = query.where(RoleBinding.role == role.value)
        return list((await uow.session.scalars(query.order_by(RoleBinding.id))).all())

    async def grant(
        self,
        uow: UnitOfWork,
        person: int,
        role: Role,
        *,
        source: str,
        space: str = "",
        team: int = 0,
        until: datetime | None = None,
        suspended: str | None = None,
    ) -> None:
        """Give a role, or change the end or suspension of one given by the same source."""
        existing = await uow.session.scalar(
            select(RoleBinding).where(
                RoleBinding.person == person,
                RoleBinding.space == space,
                RoleBinding.team == team,
                RoleBinding.role == role.value,
                RoleBinding.source == source,
            )
        )
        if existing is not None:
            existing.until, existing.suspended = until, suspended
        else:
            uow.session.add(
                RoleBinding(
                    person=person,
                    space=space,
                    team=team,
                    role=role.value,
                    source=source,
                    until=until,
                    suspended=suspended,
                    created_at=self.clock.now(),
                )
            )
            record(
                uow,
                Name.ROLE_GRANTED,
                space=space or None,
                team=team or None,
                subject=person_label(person),
                role=role.value,
                source=source,
            )
        uow.publish(AccessChanged(space, person))

    async def revoke(
        self,
        uow: UnitOfWork,
        person: int,
        *,
        space: str,
        role: Role | None = None,
        team: int | None = None,
        source: str | None = None,
    ) -> None:
        """Take roles. What runs under them is told at once."""
        conditions = [RoleBinding.person == person, RoleBinding.space == space]
        if role is not None:
            conditions.append(RoleBinding.role == role.value)
        if team is not None:
            conditions.append(RoleBinding.team == team)
        if source is not None:
            conditions.append(RoleBinding.source == source)
        gone = (await uow.session.scalars(select(RoleBinding).where(*conditions))).all()
        if not gone:
            return
        await uow.session.execute(delete(RoleBinding).where(*conditions))
        for binding in gone:
            record(
                uow,
                Name.ROLE_REVOKED,
                space=space or None,
                team=binding.team or None,
                subject=person_label(person),
                role=binding.role,
                source=binding.source,
            )
        uow.publish(AccessChanged(space, person))

    async def suspend(
        self, uow: UnitOfWork, space: str, people: Iterable[int], reason: str | None, role: Role = Role.MEMBER
    ) -> None:
        """Make a role not count while something is missing (a signature), or count again (no reason)."""
        people = list(people)
        for start in range(0, len(people), 500):
            await uow.session.execute(
                update(RoleBinding)
                .where(
                    RoleBinding.space == space,
                    RoleBinding.role == role.value,
                    RoleBinding.person.in_(people[start : start + 500]),
                )
                .values(suspended=reason)
            )
        for person in people:
            uow.publish(AccessChanged(space, person))

    async def sync_provider(
        self, uow: UnitOfWork, person: int, provider: OidcProvider, groups: tuple[str, ...]
    ) -> None:
        """Make the roles that come of a provider's groups be what the groups say now."""
        source = f"provider:{provider.name}"
        wanted = {_parse_role(provider.group_roles[group]) for group in groups if group in provider.group_roles}
        have = {
            (binding.space, Role(binding.role))
            for binding in await self.of(uow, person, None)
            if binding.source == source
        }
        for space, role in wanted - have:
            await self.grant(uow, person, role, source=source, space=space)
        for space, role in have - wanted:
            await self.revoke(uow, person, space=space, role=role, source=source)


def _parse_role(text: str) -> tuple[str, Role]:
    space, _, role = text.rpartition(":")
    return space, Role(role)
