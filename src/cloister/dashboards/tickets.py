"""Tickets into live sessions. A WebSocket carries no decision of ``access``; the request that got the ticket did."""

import secrets
from dataclasses import dataclass, field
from time import monotonic

from cloister.core.principal import Principal
from cloister.dashboards.errors import TicketInvalid
from cloister.dashboards.variables import Values
from cloister.identity import secret_hash

TICKET_SECONDS = 30.0
MAX_TICKETS = 100_000


@dataclass(frozen=True)
class Ticket:
    """Who may look at what."""

    dashboard: str
    space: str
    principal: Principal
    share: str | None
    """The hash of the share's token, for those who came by one."""
    until: float
    values: Values = ()
    """What its holder has chosen."""


@dataclass
class Tickets:
    """Kept by their hash, for half a minute, and good once."""

    known: dict[str, Ticket] = field(default_factory=dict)

    def issue(
        self, dashboard: str, space: str, principal: Principal, share: str | None = None, values: Values = ()
    ) -> str:
        now = monotonic()
        if len(self.known) >= MAX_TICKETS:
            self.known = {key: ticket for key, ticket in self.known.items() if ticket.until > now}
        secret = secrets.token_urlsafe(24)
        self.known[secret_hash(secret)] = Ticket(dashboard, space, principal, share, now + TICKET_SECONDS, values)
        return secret

    def redeem(self, secret: str) -> Ticket:
        """Take a ticket.

        Raises:
            TicketInvalid: when it is used, old, or none.
        """
        ticket = self.known.pop(secret_hash(secret), None)
        if ticket is None or ticket.until < monotonic():
            raise TicketInvalid
        return ticket
