"""What identity needs of those above it."""

from typing import Protocol

from cloister.identity.models import Person
from cloister.identity.people import Claims
from cloister.platform import OidcProvider, UnitOfWork


class OnSignIn(Protocol):
    """Called in the transaction of each sign-in: gives and takes the roles that follow from who somebody is."""

    async def __call__(
        self,
        uow: UnitOfWork,
        person: Person,
        claims: Claims,
        provider: OidcProvider | None,
        groups: tuple[str, ...],
    ) -> None: ...
