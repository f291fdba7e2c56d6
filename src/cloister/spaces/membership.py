"""What a person is, in all spaces at once: for the page that they begin at."""

from dataclasses import dataclass, field

from cloister.access import Bindings, scoped_select
from cloister.core.principal import EVERYTHING, Role
from cloister.platform import UnitOfWork
from cloister.spaces.models import Enrolment, Space, Team


@dataclass
class Membership:
    """One person in one space."""

    space: Space
    roles: list[str] = field(default_factory=list)
    suspended: str | None = None
    """Why a role does not count for now, as a sentence."""
    enrolment: Enrolment | None = None
    team_name: str | None = None


async def memberships(uow: UnitOfWork, bindings: Bindings, person: int) -> tuple[list[Membership], bool]:
    """The spaces that somebody has, had or asked for a place in, and whether they operate the platform."""
    roles = await bindings.of(uow, person, None)
    enrolments = (
        await uow.session.scalars(scoped_select(Enrolment, EVERYTHING).where(Enrolment.person == person))
    ).all()
    slugs = {role.space for role in roles if role.space} | {row.space for row in enrolments}
    spaces = (await uow.session.scalars(scoped_select(Space, EVERYTHING).where(Space.space.in_(slugs)))).all()
    found = {space.space: Membership(space) for space in spaces if space.state == "active"}
    for role in roles:
        if role.space in found and role.role not in found[role.space].roles:
            found[role.space].roles.append(role.role)
        if role.space in found and role.suspended:
            found[role.space].suspended = role.suspended
    numbers = [row.team for row in enrolments if row.team is not None]
    teams = (await uow.session.scalars(scoped_select(Team, EVERYTHING).where(Team.team.in_(numbers)))).all()
    names = {team.team: team.name for team in teams}
    for row in enrolments:
        if row.space in found:
            found[row.space].enrolment = row
            found[row.space].team_name = None if row.team is None else names.get(row.team)
    operates = any(not role.space and role.role == Role.OPERATOR for role in roles)
    return sorted(found.values(), key=lambda one: one.space.title), operates
