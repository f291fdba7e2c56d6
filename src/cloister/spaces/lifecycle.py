"""Declaring a space, and what of it shows to whom."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from cloister.access import Bindings, scoped_get, scoped_select, standing
from cloister.audit import Name, record
from cloister.core.clock import Clock
from cloister.core.errors import Conflict
from cloister.core.events import AccessChanged, EnrolmentWanted, SpaceChanged
from cloister.core.ids import person_label
from cloister.core.pagination import Page
from cloister.core.principal import EVERYTHING, Role, Scope
from cloister.identity import (
    Claims,
    Person,
    canonical_email,
    named,
    person_by_address,
)
from cloister.platform import OidcProvider, UnitOfWork
from cloister.platform.paging import page_by
from cloister.spaces import agreements
from cloister.spaces.declaration import SpaceDeclaration
from cloister.spaces.errors import SpaceEnded
from cloister.spaces.models import Enrolment, Space, Team
from cloister.spaces.store import declared, in_space

LATELY = timedelta(days=7)
"""Whoever was put out by a wrong date comes back with the right one within this time; later they register again."""


class KindChanged(Conflict):
    """A space's kind is for life. Declare another space."""

    code = "space.kind_changed"


@dataclass
class Spaces:
    """Declare, list, and keep the roles that a declaration promises."""

    bindings: Bindings
    clock: Clock

    async def declare(self, uow: UnitOfWork, declaration: SpaceDeclaration) -> bool:
        """Make a space be what is declared; return whether anything changed.

        Raises:
            SpaceEnded: when the slug belonged to a space that is over.
            KindChanged: when the kind is another.
        """
        wanted = declaration.model_dump(mode="json", exclude_defaults=True)
        now = self.clock.now()
        space = await scoped_get(uow, Space, in_space(declaration.slug))
        if space is None:
            space = Space(space=declaration.slug, kind=declaration.kind, state="active", version=0, created_at=now)
            space.declaration = {}
            uow.session.add(space)
        elif space.state != "active":
            raise SpaceEnded(f"The slug “{declaration.slug}” belonged to a space that has ended. Choose another.")
        elif space.kind != declaration.kind:
            raise KindChanged
        elif space.declaration == wanted:
            return False
        before = SpaceDeclaration.model_validate(space.declaration) if space.declaration else None
        space.title, space.listed = declaration.title, declaration.listed
        space.starts_at, space.ends_at = declaration.starts, declaration.ends
        space.declaration, space.updated_at = wanted, now
        space.version += 1
        await uow.session.flush()
        record(uow, Name.SPACE_APPLIED, space=declaration.slug, subject=declaration.slug, version=space.version)
        await agreements.publish(uow, declaration.slug, declaration.agreements, self.bindings, self.clock)
        if before is None or before.roles != declaration.roles:
            await self._give_roles(uow, declaration)
        if before is not None and before.enrolment != declaration.enrolment:
            await self._judge_again(uow, declaration.slug)
        if before is not None and before.lasts != declaration.lasts:
            await self._move_ends(uow, declaration, before)
        uow.publish(SpaceChanged(declaration.slug))
        return True

    async def _give_roles(self, uow: UnitOfWork, declaration: SpaceDeclaration) -> None:
        """Give the declared roles to people who are known already, and take those no longer declared."""
        wanted: set[tuple[int, Role]] = set()
        for declared_role, addresses in declaration.roles.items():
            for address in addresses:
                person = await person_by_address(uow, address)
                if person is not None:
                    wanted.add((person.number, Role(declared_role)))
        here = await self.bindings.in_space(uow, declaration.slug)
        have = {(b.person, Role(b.role)) for b in here if b.source == "blueprint"}
        for number, role in wanted - have:
            await self.bindings.grant(uow, number, role, source="blueprint", space=declaration.slug)
        for number, role in have - wanted:
            await self.bindings.revoke(uow, number, space=declaration.slug, role=role, source="blueprint")

    async def _judge_again(self, uow: UnitOfWork, slug: str) -> None:
        waiting = scoped_select(Enrolment, in_space(slug)).where(Enrolment.state == "applied")
        for row in (await uow.session.scalars(waiting)).all():
            row.waiting_for = None
        uow.publish(EnrolmentWanted(slug))

    async def effects(
        self, uow: UnitOfWork, before: SpaceDeclaration, wanted: SpaceDeclaration
    ) -> tuple[int, int, int]:
        """How many people would lose their access at once by a change, would have to sign first, and would come back."""
        inside = scoped_select(Enrolment, in_space(wanted.slug)).where(Enrolment.state == "active")
        admitted = (await uow.session.scalars(inside.with_only_columns(Enrolment.admitted_at))).all()
        now = self.clock.now()
        ends = [wanted.end_for(moment or now) for moment in admitted]
        leave = sum(end is not None and end <= now for end in ends)
        signed = {one.name: one.version_hash for one in before.agreements if one.required}
        asked = any(
            one.required and (one.name not in signed or (one.sign_again and signed[one.name] != one.version_hash))
            for one in wanted.agreements
        )
        back = await self._coming_back(uow, wanted, before)
        return leave, len(admitted) - leave if asked else 0, len(back)

    async def _move_ends(self, uow: UnitOfWork, declaration: SpaceDeclaration, before: SpaceDeclaration) -> None:
        """Let the new dates count for those who are in already, and for those whom the old end of all had put out."""
        await self._let_back(uow, declaration, before)
        inside = scoped_select(Enrolment, in_space(declaration.slug)).where(Enrolment.state == "active")
        until: dict[int, datetime | None] = {}
        for row in (await uow.session.scalars(inside)).all():
            until[row.person] = row.expires_at = declaration.end_for(row.admitted_at or self.clock.now())
        for binding in await self.bindings.in_space(uow, declaration.slug, Role.MEMBER):
            if binding.source == "enrolment" and binding.person in until:
                binding.until = until[binding.person]
        uow.publish(EnrolmentWanted(declaration.slug))  # whose controller waits for the next end
        uow.publish(AccessChanged(declaration.slug))

    async def _let_back(self, uow: UnitOfWork, declaration: SpaceDeclaration, before: SpaceDeclaration) -> None:
        """Whoever was lately put out by an end that is a later one now comes back for what is left of their time: a date may
        be mistyped. They are judged as applicants are, but for an approval, which they have had.
        """
        for row in await self._coming_back(uow, declaration, before):
            # When it ended stays: it says to admission that this is no new beginning.
            row.state, row.waiting_for, row.version = "applied", None, row.version + 1
            row.approved = declaration.enrolment.mode == "approval"
            record(
                uow, Name.ENROLMENT_APPLIED, person=row.person, space=row.space, subject=person_label(row.person),
                approved=row.approved,
            )  # fmt: skip

    async def _coming_back(
        self, uow: UnitOfWork, declaration: SpaceDeclaration, before: SpaceDeclaration
    ) -> list[Enrolment]:
        now = self.clock.now()
        if before.ends is None or before.ends > now or before.ends == declaration.ends:
            return []
        out = scoped_select(Enrolment, in_space(declaration.slug)).where(
            Enrolment.state == "expired", Enrolment.ended_at >= max(before.ends, now - LATELY),
            Enrolment.admitted_at.is_not(None),
        )  # fmt: skip
        found = []
        for row in (await uow.session.scalars(out)).all():
            admitted = row.admitted_at or now
            end = declaration.end_for(admitted)
            if before.end_for(admitted) == before.ends and (end is None or end > now):  # else their own time was over
                found.append(row)
        return found

    async def on_sign_in(
        self,
        uow: UnitOfWork,
        person: Person,
        claims: Claims,
        provider: OidcProvider | None,
        groups: tuple[str, ...],
    ) -> None:
        """Give what a sign-in entitles to, and take what it does not any more: roles by directory group, and roles declared
        for a verified address.
        """
        if provider is not None:
            await self.bindings.sync_provider(uow, person.number, provider, groups)
        if not claims.email_trusted or person.canonical_email is None:
            return
        mine = await self.bindings.of(uow, person.number, None)
        have = {(b.space, Role(b.role)) for b in mine if b.source == "blueprint"}
        active = scoped_select(Space, EVERYTHING).where(Space.state == "active")
        wanted = {
            (space.space, role)
            for space in (await uow.session.scalars(active)).all()
            for role in declared(space).expected_roles(person.canonical_email, canonical_email)
        }
        for slug, role in wanted - have:
            await self.bindings.grant(uow, person.number, role, source="blueprint", space=slug)
        for slug, role in have - wanted:  # declared for an address that is theirs no more
            await self.bindings.revoke(uow, person.number, space=slug, role=role, source="blueprint")

    async def on_confirmed(self, uow: UnitOfWork, person: int) -> None:
        """Somebody's address counts from now on: look again at what waits for them."""
        waiting = scoped_select(Enrolment, EVERYTHING).where(Enrolment.person == person, Enrolment.state == "applied")
        for row in (await uow.session.scalars(waiting)).all():
            row.waiting_for = None
            uow.publish(EnrolmentWanted(row.space))

    async def list_for(self, uow: UnitOfWork, scope: Scope, cursor: str | None, limit: int) -> Page[Space]:
        """The spaces that everybody may see, and those that the caller has a role in."""
        query = scoped_select(Space, EVERYTHING).where(Space.state == "active")
        person = scope.principal.person
        bindings = [] if person is None else await self.bindings.of(uow, person, None)
        stands = standing(scope.principal, bindings, None, self.clock.now())
        if not stands.operator:
            query = query.where(Space.listed | Space.space.in_({b.space for b in bindings}))
        return await page_by(uow, query, Space.space, cursor, limit)


async def list_teams(uow: UnitOfWork, scope: Scope, cursor: str | None, limit: int) -> Page[Team]:
    """The teams that a scope reaches."""
    query = scoped_select(Team, scope)
    return await page_by(uow, query, Team.team, cursor, limit)


async def members_of(uow: UnitOfWork, scope: Scope, teams: list[int]) -> dict[int, list[int]]:
    """Who is in some teams now, by team, in the order of their numbers."""
    inside = scoped_select(Enrolment, scope).where(Enrolment.team.in_(teams), Enrolment.state == "active")
    found: dict[int, list[int]] = {}
    for row in (await uow.session.scalars(inside.order_by(Enrolment.person))).all():
        found.setdefault(row.team or 0, []).append(row.person)
    return found


async def list_enrolments(
    uow: UnitOfWork, scope: Scope, state: str | None, words: str, cursor: str | None, limit: int
) -> Page[Enrolment]:
    """The enrolments of a space, oldest first; with words, of those in whose name, address or number they are."""
    query = scoped_select(Enrolment, scope)
    if words.strip():
        query = query.join(Person, Person.number == Enrolment.person).where(named(words))
    if state is not None:
        query = query.where(Enrolment.state == state)
    return await page_by(uow, query, Enrolment.id, cursor, limit)
