"""Reading spaces and their agreements, for this package and those above it."""

from sqlalchemy import bindparam, func, select

from cloister.access import scoped_get
from cloister.core.ids import parse_label
from cloister.core.principal import EVERYTHING, Scope
from cloister.platform import UnitOfWork
from cloister.spaces.declaration import SpaceDeclaration
from cloister.spaces.errors import SpaceEnded, SpaceNotFound, TeamNotFound
from cloister.spaces.models import AgreementVersion, Signature, Space, Team

_CURRENT = (
    select(AgreementVersion)
    .where(AgreementVersion.space == bindparam("space"), AgreementVersion.current)
    .order_by(AgreementVersion.name)
)


def in_space(space: str) -> Scope:
    """The whole of one space, for the platform's own work in it."""
    return Scope(space=space, principal=EVERYTHING.principal)


async def get_space(uow: UnitOfWork, slug: str) -> Space:
    """Return a space.

    Raises:
        SpaceNotFound: when there is none of that slug.
    """
    space = await scoped_get(uow, Space, in_space(slug))
    if space is None:
        raise SpaceNotFound
    return space


async def active_space(uow: UnitOfWork, slug: str) -> tuple[Space, SpaceDeclaration]:
    """Return a space that has not ended, and what it is declared to be.

    Raises:
        SpaceNotFound: when there is none of that slug.
        SpaceEnded: when it is over.
    """
    space = await get_space(uow, slug)
    if space.state != "active":
        raise SpaceEnded
    return space, declared(space)


_parsed: dict[tuple[str, int, str], SpaceDeclaration] = {}


def declared(space: Space) -> SpaceDeclaration:
    """The declaration of a space, parsed once for each of its versions."""
    key = (space.space, space.version, space.updated_at.isoformat())
    found = _parsed.get(key)
    if found is None:
        if len(_parsed) > 500:
            _parsed.clear()
        found = _parsed[key] = SpaceDeclaration.model_validate(space.declaration)
    return found


async def current_agreements(uow: UnitOfWork, space: str) -> list[AgreementVersion]:
    return list((await uow.session.scalars(_CURRENT, {"space": space})).all())


async def unsigned(uow: UnitOfWork, space: str, people: list[int]) -> dict[int, list[AgreementVersion]]:
    """For each person, the required agreements whose signature is missing or outdated."""
    required = [agreement for agreement in await current_agreements(uow, space) if agreement.required]
    if not required:
        return {person: [] for person in people}
    signed: dict[tuple[int, str], int] = {}
    for start in range(0, len(people), 500):
        query = select(Signature.person, Signature.agreement, Signature.number).where(
            Signature.space == space, Signature.person.in_(people[start : start + 500])
        )
        for person, agreement, number in (await uow.session.execute(query)).all():
            signed[person, agreement] = max(number, signed.get((person, agreement), 0))
    return {person: [a for a in required if signed.get((person, a.name), 0) < a.floor] for person in people}


async def signed_by(uow: UnitOfWork, space: str, person: int | None) -> dict[str, int]:
    """Of each agreement that a person has signed, the newest version that they have."""
    query = (
        select(Signature.agreement, func.max(Signature.number))
        .where(Signature.space == space, Signature.person == person)
        .group_by(Signature.agreement)
    )
    return {row[0]: row[1] for row in (await uow.session.execute(query)).all()}


def team_number(label: str) -> int:
    """The number in a team's label, such as ``t-000012``.

    Raises:
        TeamNotFound: when it is none.
    """
    try:
        return parse_label(label, "t")
    except ValueError as error:
        raise TeamNotFound from error


async def get_team(uow: UnitOfWork, scope: Scope, number: int) -> Team:
    """Return a team that a scope reaches.

    Raises:
        TeamNotFound: when there is none.
    """
    team = await scoped_get(uow, Team, scope, team=number)
    if team is None:
        raise TeamNotFound
    return team
