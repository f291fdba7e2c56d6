"""API tokens: ``clo_`` + 40 random characters + 6 of checksum, so that a leaked one can be recognised by scanners."""

import secrets
import string
import zlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select, update

from cloister.audit import Name, record
from cloister.core.actions import Action
from cloister.core.clock import Clock
from cloister.core.errors import Invalid, NotFound
from cloister.core.events import SignedOut
from cloister.core.ids import new_id
from cloister.core.principal import Principal
from cloister.identity.models import ApiToken, Person
from cloister.identity.sessions import SEEN_EVERY, secret_hash
from cloister.platform import Database, UnitOfWork

PREFIX = "clo_"
MAX_LIFE = timedelta(days=366)
_LETTERS = string.digits + string.ascii_letters


class TokenNotFound(NotFound):
    """There is no such token of yours."""

    code = "token.not_found"


class BadScope(Invalid):
    """A token's scopes are actions, such as “query.run”, or a whole domain, such as “query.*”."""

    code = "token.bad_scope"


def _checksum(text: str) -> str:
    value = zlib.crc32(text.encode())
    letters = ""
    for _ in range(6):
        value, digit = divmod(value, 62)
        letters = _LETTERS[digit] + letters
    return letters


def mint() -> str:
    """Make a token: about 238 random bits."""
    body = "".join(secrets.choice(_LETTERS) for _ in range(40))
    return f"{PREFIX}{body}{_checksum(body)}"


def looks_like_token(text: str) -> bool:
    """Whether a text is one of our tokens, without asking the database."""
    body, checksum = text[len(PREFIX) : -6], text[-6:]
    return text.startswith(PREFIX) and len(body) == 40 and text.isascii() and checksum == _checksum(body)


def check_scopes(scopes: list[str]) -> None:
    """Accept actions and ``domain.*``.

    Raises:
        BadScope: naming the one that is neither.
    """
    actions = {action.value for action in Action}
    domains = {action.split(".")[0] + ".*" for action in actions}
    for scope in scopes:
        if scope not in actions and scope not in domains:
            raise BadScope(f"“{scope}” is no scope. {BadScope.__doc__}")


@dataclass
class Tokens:
    """Make, recognise and revoke tokens."""

    database: Database
    clock: Clock

    async def create(
        self, uow: UnitOfWork, person: int, name: str, scopes: list[str], life: timedelta
    ) -> tuple[ApiToken, str]:
        """Make a token; its text is returned this once.

        Raises:
            BadScope: when a scope is unknown.
        """
        check_scopes(scopes)
        secret = mint()
        now = self.clock.now()
        token = ApiToken(
            id=new_id("tok"),
            secret_hash=secret_hash(secret),
            hint=secret[-4:],
            name=name,
            person=person,
            scopes=scopes,
            created_at=now,
            expires_at=now + min(life, MAX_LIFE),
            used_at=None,
            revoked_at=None,
        )
        uow.session.add(token)
        record(uow, Name.TOKEN_CREATED, person=person, subject=token.id, scopes=scopes)
        return token, secret

    async def recognise(self, uow: UnitOfWork, secret: str, address: str | None) -> Principal | None:
        """Return who a token acts for, or None when it is malformed, unknown, expired or revoked."""
        if not looks_like_token(secret):
            return None
        now = self.clock.now()
        query = (
            select(ApiToken, Person.disabled_at)
            .join(Person, Person.number == ApiToken.person)
            .where(ApiToken.secret_hash == secret_hash(secret))
        )
        found = (await uow.session.execute(query)).one_or_none()
        if found is None:
            return None
        token, disabled_at = found
        if disabled_at is not None or token.revoked_at is not None or token.expires_at <= now:
            return None
        if token.used_at is None or now - token.used_at > SEEN_EVERY:
            await uow.rest()
            await self._note_use(token.id, now)
        return Principal(person=token.person, token=token.id, token_scopes=frozenset(token.scopes), address=address)

    async def valid(self, uow: UnitOfWork, id_: str) -> bool:
        """Whether a token counts at this moment."""
        query = select(ApiToken.expires_at).join(Person, Person.number == ApiToken.person)
        counts = query.where(ApiToken.id == id_, ApiToken.revoked_at.is_(None), Person.disabled_at.is_(None))
        until = await uow.session.scalar(counts)
        return until is not None and until > self.clock.now()

    async def _note_use(self, id_: str, now: datetime) -> None:
        async with self.database.write() as uow:
            uow.unrecorded("when a token was last used")
            await uow.session.execute(update(ApiToken).where(ApiToken.id == id_).values(used_at=now))

    async def mine(self, uow: UnitOfWork, person: int) -> list[ApiToken]:
        query = select(ApiToken).where(ApiToken.person == person, ApiToken.revoked_at.is_(None))
        return list((await uow.session.scalars(query.order_by(ApiToken.id))).all())

    async def revoke(self, uow: UnitOfWork, person: int, id_: str) -> None:
        """Make a token useless at once.

        Raises:
            TokenNotFound: when the person has none of that id.
        """
        token = await uow.session.get(ApiToken, id_)
        if token is None or token.person != person or token.revoked_at is not None:
            raise TokenNotFound
        token.revoked_at = self.clock.now()
        record(uow, Name.TOKEN_REVOKED, subject=token.id)
        uow.publish(SignedOut(person))
