"""One person is never two, and two are never one.

The key of a person is the pair of issuer and subject, unique in the database; so is the canonical address. Two
simultaneous first sign-ins of one person race for the unique key, and the loser finds the winner's row. Nothing is
matched by a name, by an absent value or by a place in a batch.
"""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import ColumnElement, bindparam, select
from sqlalchemy.exc import IntegrityError

from cloister.audit import Name, record
from cloister.core.clock import Clock
from cloister.core.errors import Conflict, Forbidden, NotFound
from cloister.core.ids import person_label
from cloister.identity.emails import canonical_email
from cloister.identity.models import Identity, Person
from cloister.platform import UnitOfWork

_BY_IDENTITY = (
    select(Person)
    .join(Identity, Identity.person == Person.number)
    .where(Identity.issuer == bindparam("issuer"), Identity.subject == bindparam("subject"))
)
_BY_ADDRESS = select(Person).where(Person.canonical_email == bindparam("address"))


class EmailTaken(Conflict):
    """This address belongs to somebody who signs in another way. Sign in that way."""

    code = "identity.email_taken"


class PersonDisabled(Forbidden):
    """This account is disabled. The operator of this platform can tell you why."""

    code = "identity.disabled"


class PersonNotFound(NotFound):
    """There is no such person."""

    code = "identity.person_not_found"


@dataclass(frozen=True)
class Claims:
    """What an identity provider vouches for."""

    issuer: str
    subject: str
    name: str
    email: str | None
    email_trusted: bool = False
    """The provider verified the address, and the operator trusts the provider in this."""


async def sign_in_person(uow: UnitOfWork, claims: Claims, clock: Clock) -> Person:
    """Return the person behind some claims, made on the first sign-in.

    Raises:
        BadAddress: when the address is none.
        EmailTaken: when the address is another identity's and this provider is not trusted to say it is the same.
        PersonDisabled: when the operator closed the account.
    """
    canonical = canonical_email(claims.email) if claims.email else None
    for _ in range(3):
        person = await _known(uow, claims)
        if person is not None:
            await _refresh(uow, person, claims, canonical)
            break
        try:
            async with uow.attempt():
                person = await _make_or_link(uow, claims, canonical, clock)
            break
        except EmailTaken:
            if await _known(uow, claims) is None:
                raise
            # The address is their own: the same identity was made in this moment. Look again.
        except IntegrityError:
            continue  # somebody made the same identity or address in this moment: look again
    else:
        raise EmailTaken
    if person.disabled_at is not None:
        raise PersonDisabled
    return person


async def _known(uow: UnitOfWork, claims: Claims) -> Person | None:
    key = {"issuer": claims.issuer, "subject": claims.subject}
    return (await uow.session.scalars(_BY_IDENTITY, key)).one_or_none()


async def _holder(uow: UnitOfWork, canonical: str | None) -> Person | None:
    if canonical is None:
        return None
    return (await uow.session.scalars(_BY_ADDRESS, {"address": canonical})).one_or_none()


async def _refresh(uow: UnitOfWork, person: Person, claims: Claims, canonical: str | None) -> None:
    """Follow the provider's changes, as far as no other person's address is taken."""
    if claims.name and claims.name != person.name:
        person.name = claims.name
    if not claims.email_trusted:
        if person.canonical_email is None:
            person.email = claims.email
    elif canonical is not None and (claims.email != person.email or canonical != person.canonical_email):
        holder = await _holder(uow, canonical)
        if holder is None or holder.number == person.number:
            person.email, person.canonical_email = claims.email, canonical


async def _make_or_link(uow: UnitOfWork, claims: Claims, canonical: str | None, clock: Clock) -> Person:
    now = clock.now()
    person = await _holder(uow, canonical)
    if person is not None and not claims.email_trusted:
        raise EmailTaken
    linked = person is not None
    if person is None:
        person = Person(
            name=claims.name or (claims.email or claims.subject).split("@")[0],
            email=claims.email,
            canonical_email=canonical if claims.email_trusted else None,  # what nobody vouches for matches nobody
            language="en",  # until they say another, as the web application does for them
            created_at=now,
            disabled_at=None,
        )
        uow.session.add(person)
        await uow.session.flush()
    uow.session.add(Identity(issuer=claims.issuer, subject=claims.subject, person=person.number, created_at=now))
    await uow.session.flush()
    record(
        uow,
        Name.PERSON_LINKED if linked else Name.PERSON_CREATED,
        person=person.number,
        subject=person_label(person.number),
        issuer=claims.issuer,
    )
    return person


async def get_person(uow: UnitOfWork, number: int) -> Person:
    """Return a person by number.

    Raises:
        PersonNotFound: when there is none.
    """
    person = await uow.session.get(Person, number)
    if person is None:
        raise PersonNotFound
    return person


async def person_by_address(uow: UnitOfWork, address: str) -> Person | None:
    """The person who has an address, in whatever spelling."""
    return await _holder(uow, canonical_email(address))


def named(words: str) -> ColumnElement[bool]:
    """People in whose name or address some words are, or who have that number."""
    words = words.strip()
    found = Person.name.icontains(words, autoescape=True) | Person.email.icontains(words, autoescape=True)
    number = words.lower().removeprefix("p-")
    return found | (Person.number == int(number)) if number.isdecimal() and len(number) < 10 else found


async def search_people(uow: UnitOfWork, words: str, after: int, limit: int) -> list[Person]:
    """People whose name or address has some words in it, by number."""
    query = select(Person).where(Person.number > after).order_by(Person.number).limit(limit)
    if words:
        query = query.where(named(words))
    return list((await uow.session.scalars(query)).all())


async def disable(uow: UnitOfWork, number: int, clock: Clock, *, disabled: bool, reason: str) -> Person:
    """Close an account, or open it again. Nothing of the person's is removed.

    Raises:
        PersonNotFound: when there is none.
    """
    person = await get_person(uow, number)
    person.disabled_at = clock.now() if disabled else None
    name = Name.PERSON_DISABLED if disabled else Name.PERSON_ENABLED
    record(uow, name, subject=person_label(number), reason=reason)
    return person


async def people_by_number(uow: UnitOfWork, numbers: Collection[int]) -> dict[int, Person]:
    """Those of some numbers."""
    found = select(Person).where(Person.number.in_(numbers))
    return {person.number: person for person in (await uow.session.scalars(found)).all()}
