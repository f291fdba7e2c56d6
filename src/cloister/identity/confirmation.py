"""Confirming an address that no provider vouches for: a link by mail, opened by whoever is signed in as its person.

Until then the address is for mail only, and matches nobody. Confirmed, it counts where addresses are looked up, such as on
an allow-list; it never makes somebody an operator.
"""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.exceptions import InvalidTag

from cloister.audit import Name, record
from cloister.core.clock import Clock
from cloister.core.errors import Conflict, Invalid
from cloister.core.ids import person_label
from cloister.identity.emails import canonical_email
from cloister.identity.models import Person
from cloister.identity.people import EmailTaken, get_person, person_by_address
from cloister.platform import SecretBox, UnitOfWork
from cloister.platform.letters import write_letter

PURPOSE = "confirmation of addresses"
GOOD_FOR = timedelta(hours=24)


class NothingToConfirm(Conflict):
    """Your address is confirmed, or you have none."""

    code = "identity.nothing_to_confirm"


class BadConfirmation(Invalid):
    """This link is too old, or is not yours. Ask for another."""

    code = "identity.bad_confirmation"


@dataclass
class Confirmations:
    """Sends links, and takes what they hold."""

    box: SecretBox
    clock: Clock
    public_url: str

    async def send(self, uow: UnitOfWork, number: int) -> str:
        """Queue a letter with a link; return the address that it goes to.

        Raises:
            NothingToConfirm: when there is no address, or it is confirmed.
        """
        person = await get_person(uow, number)
        if person.email is None or person.canonical_email is not None:
            raise NothingToConfirm
        until = (self.clock.now() + GOOD_FOR).isoformat()
        sealed = self.box.encrypt(json.dumps([number, person.email, until]).encode(), PURPOSE)
        link = f"{self.public_url}/confirm#{sealed.replace('+', '-').replace('/', '_').rstrip('=')}"
        write_letter(uow, self.clock, person, "confirm", link=link)
        record(uow, Name.ADDRESS_ASKED, subject=person_label(number))
        return person.email

    async def confirm(self, uow: UnitOfWork, number: int, token: str) -> Person:
        """Take what a link held; from now on the address is the person's for sure.

        Raises:
            BadConfirmation: when the link is none, is too old, or is somebody else's.
            EmailTaken: when the address belongs to somebody else by now.
        """
        person = await get_person(uow, number)
        try:
            padded = token.replace("-", "+").replace("_", "/") + "=" * (-len(token) % 4)
            whose, email, until = json.loads(self.box.decrypt(padded, PURPOSE))
        except (InvalidTag, ValueError) as error:
            raise BadConfirmation from error
        if whose != number or email != person.email or datetime.fromisoformat(until) < self.clock.now():
            raise BadConfirmation
        holder = await person_by_address(uow, email)
        if holder is not None and holder.number != number:
            raise EmailTaken
        person.canonical_email = canonical_email(email)
        record(uow, Name.ADDRESS_CONFIRMED, subject=person_label(number))
        return person
