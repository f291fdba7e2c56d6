"""Teams: made, joined by invitation, left."""

import re
import secrets
from datetime import timedelta

from cloister.access import Bindings, scoped_get, scoped_select
from cloister.audit import Name, record
from cloister.core.clock import Clock
from cloister.core.ids import new_id, team_label
from cloister.core.principal import Role
from cloister.identity import secret_hash
from cloister.platform import UnitOfWork
from cloister.spaces.declaration import SpaceDeclaration
from cloister.spaces.errors import (
    BadTeamName,
    InTeamAlready,
    InvitationInvalid,
    TeamFull,
    TeamNameTaken,
    TeamNotFound,
    WrongState,
)
from cloister.spaces.models import Enrolment, Invitation, Team
from cloister.spaces.store import in_space

_NAME = re.compile(r"^[a-z][a-z0-9-]{0,38}[a-z0-9]$")
ALONE = "In a course every learner is a team of one."
INVITATION_LIFE = timedelta(days=14)


async def check_new_name(uow: UnitOfWork, space: str, name: str) -> None:
    """Accept a name for a new team.

    Raises:
        BadTeamName: when it cannot be part of a host name, or looks like a number of ours.
        TeamNameTaken: when the space has such a team.
    """
    if not _NAME.match(name) or re.match(r"^[pt]-\d", name):
        raise BadTeamName
    if await scoped_get(uow, Team, in_space(space), name=name) is not None:
        raise TeamNameTaken


async def _member(uow: UnitOfWork, space: str, person: int) -> Enrolment:
    enrolment = await scoped_get(uow, Enrolment, in_space(space), person=person)
    if enrolment is None or enrolment.state not in {"applied", "active"}:
        raise WrongState("Only people who are enrolled can be in a team.")
    return enrolment


async def _move(uow: UnitOfWork, enrolment: Enrolment, team: int | None, bindings: Bindings) -> None:
    """Put somebody into a team or out of it, keeping the end and suspension of their role."""
    enrolment.team = team
    enrolment.version += 1
    if enrolment.state != "active":
        return
    here = await bindings.of(uow, enrolment.person, enrolment.space)
    old = next((b for b in here if b.space and b.role == Role.MEMBER and b.source == "enrolment"), None)
    suspended = old.suspended if old else None
    await bindings.revoke(uow, enrolment.person, space=enrolment.space, role=Role.MEMBER, source="enrolment")
    await bindings.grant(
        uow,
        enrolment.person,
        Role.MEMBER,
        source="enrolment",
        space=enrolment.space,
        team=team or 0,
        until=enrolment.expires_at,
        suspended=suspended,
    )


async def create(
    uow: UnitOfWork, declaration: SpaceDeclaration, person: int, name: str, bindings: Bindings, clock: Clock
) -> Team:
    """Make a team with its first member.

    Raises:
        BadTeamName, TeamNameTaken: for the name.
        InTeamAlready: when the person is in one.
        WrongState: when they are not enrolled, or in a course, where each learner has the one team they were given.
    """
    space = declaration.slug
    if declaration.kind == "course":
        raise WrongState(ALONE)
    enrolment = await _member(uow, space, person)
    if enrolment.team is not None:
        raise InTeamAlready
    await check_new_name(uow, space, name)
    team = Team(space=space, name=name, created_by=person, created_at=clock.now())
    uow.session.add(team)
    await uow.session.flush()
    record(uow, Name.TEAM_CREATED, space=space, team=team.team, subject=team_label(team.team))
    await _move(uow, enrolment, team.team, bindings)
    return team


async def invite(uow: UnitOfWork, team: Team, clock: Clock) -> tuple[Invitation, str]:
    """Make a code that lets one person join."""
    code = secrets.token_urlsafe(18)
    invitation = Invitation(
        id=new_id("inv"),
        code_hash=secret_hash(code),
        space=team.space,
        team=team.team,
        expires_at=clock.now() + INVITATION_LIFE,
        used_by=None,
    )
    uow.session.add(invitation)
    record(uow, Name.TEAM_INVITED, space=team.space, team=team.team, subject=invitation.id)
    return invitation, code


async def accept(
    uow: UnitOfWork, space: str, person: int, code: str, declaration: SpaceDeclaration, bindings: Bindings, clock: Clock
) -> int:
    """Join a team by invitation; return its number.

    Raises:
        InvitationInvalid: when it is used, expired or another space's.
        InTeamAlready: when the person is in a team.
        TeamFull: when the team is.
    """
    invitation = (
        await uow.session.scalars(
            scoped_select(Invitation, in_space(space))
            .where(Invitation.code_hash == secret_hash(code))
            .with_for_update()
        )
    ).one_or_none()
    if invitation is None or invitation.used_by is not None or invitation.expires_at <= clock.now():
        raise InvitationInvalid
    enrolment = await _member(uow, space, person)
    if enrolment.team is not None:
        raise InTeamAlready
    if declaration.kind == "course":
        raise TeamFull(ALONE)
    # The team's row is locked so that two people cannot both take the last place.
    await uow.session.scalars(
        scoped_select(Team, in_space(space)).where(Team.team == invitation.team).with_for_update()
    )
    if len(await members(uow, space, invitation.team)) >= declaration.teams.max_members:
        raise TeamFull
    invitation.used_by = person
    record(uow, Name.TEAM_JOINED, person=person, space=space, team=invitation.team)
    await _move(uow, enrolment, invitation.team, bindings)
    return invitation.team


async def leave(uow: UnitOfWork, declaration: SpaceDeclaration, person: int, team: int, bindings: Bindings) -> None:
    """Leave a team; its files stay with it.

    Raises:
        TeamNotFound: when the person is not in it.
        WrongState: in a course, where leaving the team is leaving the course.
    """
    space = declaration.slug
    if declaration.kind == "course":
        raise WrongState(ALONE)
    enrolment = await _member(uow, space, person)
    if enrolment.team != team:
        raise TeamNotFound
    record(uow, Name.TEAM_LEFT, person=person, space=space, team=team)
    await _move(uow, enrolment, None, bindings)


async def members(uow: UnitOfWork, space: str, team: int) -> list[Enrolment]:
    query = scoped_select(Enrolment, in_space(space)).where(
        Enrolment.team == team, Enrolment.state.in_(("applied", "active"))
    )
    return list((await uow.session.scalars(query.order_by(Enrolment.id))).all())
