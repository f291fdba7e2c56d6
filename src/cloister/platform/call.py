"""One call from outside, as the domains see it: who asks, what they may reach, and the transaction they are in."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection

from cloister.core.errors import Forbidden
from cloister.core.principal import Principal, Scope
from cloister.platform.database import UnitOfWork


class PersonNeeded(Forbidden):
    """Only a person can do this, not the platform's own operator token."""

    code = "access.person_needed"


@dataclass
class Call:
    """Made at the edge after the decision of ``access``; handed to every route."""

    principal: Principal
    scope: Scope
    transaction: UnitOfWork | None
    request_id: str
    address: str | None = None
    while_streaming: list[Callable[[UnitOfWork], Awaitable[None]]] = field(default_factory=list)
    """What else an answer that streams rests on: looked at again with the right to it; raises when it is gone."""

    @property
    def uow(self) -> UnitOfWork:
        """The request's transaction; routes that stream have none and open short ones of their own."""
        if self.transaction is None:
            message = "this route said that it needs no transaction"
            raise RuntimeError(message)
        return self.transaction

    @property
    def person(self) -> int:
        """The person's number; routes that use it are closed to the anonymous by their action."""
        if self.principal.person is None:
            raise PersonNeeded
        return self.principal.person


async def current_call(connection: HTTPConnection) -> Call:
    """The call that the edge prepared for this request."""
    call: Call = connection.state.call
    return call
