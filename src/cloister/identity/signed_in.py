"""Whether what somebody came with counts still: asked again by whatever goes on for long."""

from dataclasses import dataclass

from cloister.core.errors import Unauthenticated
from cloister.core.principal import Principal
from cloister.identity.sessions import Sessions
from cloister.identity.tokens import Tokens
from cloister.platform import UnitOfWork


@dataclass
class SignedIn:
    """The question."""

    sessions: Sessions
    tokens: Tokens

    async def __call__(self, uow: UnitOfWork, principal: Principal) -> None:
        """See that a session or token counts still.

        Raises:
            Unauthenticated: when it was ended.
        """
        if principal.session is not None and not await self.sessions.valid(uow, principal.session):
            raise Unauthenticated
        if principal.token is not None and not await self.tokens.valid(uow, principal.token):
            raise Unauthenticated
