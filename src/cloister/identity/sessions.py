"""Server-side sessions. The cookie holds 256 random bits; the database holds their hash."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import bindparam, delete, select

from cloister.audit import Name, record
from cloister.core.clock import Clock
from cloister.core.errors import NotFound
from cloister.core.events import SignedOut
from cloister.core.ids import new_id
from cloister.core.principal import Principal
from cloister.identity.models import Person, Session
from cloister.platform import Database, Settings, UnitOfWork

SEEN_EVERY = timedelta(minutes=1)
"""``seen_at`` is written no more often than this, so that reading a page is not a write."""


class SessionNotFound(NotFound):
    """You are signed in in no such browser."""

    code = "session.not_found"


_BY_SECRET = (
    select(Session, Person.disabled_at)
    .join(Person, Person.number == Session.person)
    .where(Session.secret_hash == bindparam("secret_hash"))
)


def secret_hash(secret: str) -> str:
    """Hash of a secret of full entropy, for which a plain hash is enough."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


@dataclass
class Sessions:
    """Begin, recognise and end sessions."""

    database: Database
    settings: Settings
    clock: Clock

    def cookie_name(self) -> str:
        """``__Host-`` binds the cookie to this origin alone; browsers demand HTTPS for it."""
        return "__Host-cloister" if self.settings.cookie_secure else "cloister"

    async def begin(
        self, uow: UnitOfWork, person: Person, issuer: str, *, address: str | None, user_agent: str | None
    ) -> str:
        """Start a session and return its secret; a session is never carried over from before the sign-in."""
        now = self.clock.now()
        secret = secrets.token_urlsafe(32)
        session = Session(
            id=new_id("ses"),
            secret_hash=secret_hash(secret),
            person=person.number,
            issuer=issuer,
            created_at=now,
            seen_at=now,
            expires_at=now + timedelta(seconds=self.settings.session_absolute_seconds),
            address=address,
            user_agent=(user_agent or "")[:200] or None,
        )
        uow.session.add(session)
        record(uow, Name.SIGNED_IN, person=person.number, subject=session.id, issuer=issuer)
        return secret

    async def recognise(self, uow: UnitOfWork, secret: str, address: str | None) -> Principal | None:
        """Return who a cookie belongs to, or None when it is unknown, idle too long or expired."""
        now = self.clock.now()
        idle = timedelta(seconds=self.settings.session_idle_seconds)
        found = (await uow.session.execute(_BY_SECRET, {"secret_hash": secret_hash(secret)})).one_or_none()
        if found is None:
            return None
        session, disabled_at = found
        if disabled_at is not None or session.expires_at <= now or session.seen_at + idle <= now:
            return None
        if now - session.seen_at > SEEN_EVERY:
            await uow.rest()
            async with self.database.write() as writing:
                writing.unrecorded("when a session was last seen")
                row = await writing.session.get(Session, session.id)
                if row is not None:
                    row.seen_at = now
        return Principal(person=session.person, session=session.id, address=address)

    async def valid(self, uow: UnitOfWork, id_: str) -> bool:
        """Whether a session goes on (idle or not: what hangs on it is in use)."""
        query = select(Session.expires_at, Person.disabled_at).join(Person, Person.number == Session.person)
        found = (await uow.session.execute(query.where(Session.id == id_))).one_or_none()
        return found is not None and found.disabled_at is None and found.expires_at > self.clock.now()

    async def end(self, uow: UnitOfWork, principal: Principal) -> None:
        """Sign this browser out."""
        if principal.session is not None:
            await uow.session.execute(delete(Session).where(Session.id == principal.session))
            record(uow, Name.SIGNED_OUT, subject=principal.session)
            if principal.person is not None:
                uow.publish(SignedOut(principal.person))

    async def mine(self, uow: UnitOfWork, person: int) -> list[Session]:
        """The browsers in which somebody is signed in, the one last used first."""
        now, idle = self.clock.now(), timedelta(seconds=self.settings.session_idle_seconds)
        query = select(Session).where(Session.person == person, Session.expires_at > now, Session.seen_at > now - idle)
        return list((await uow.session.scalars(query.order_by(Session.seen_at.desc()))).all())

    async def end_one(self, uow: UnitOfWork, person: int, id_: str) -> None:
        """Sign a person out in one browser, perhaps another one than this.

        Raises:
            SessionNotFound: when they have none of that id.
        """
        row = await uow.session.get(Session, id_)
        if row is None or row.person != person:
            raise SessionNotFound
        await uow.session.delete(row)
        record(uow, Name.SIGNED_OUT, person=person, subject=id_)
        uow.publish(SignedOut(person))

    async def end_all(self, uow: UnitOfWork, person: int) -> int:
        """Sign a person out everywhere; return from how many browsers."""
        ids = (await uow.session.scalars(select(Session.id).where(Session.person == person))).all()
        await uow.session.execute(delete(Session).where(Session.person == person))
        record(uow, Name.SIGNED_OUT, person=person, subject="everywhere", sessions=len(ids))
        uow.publish(SignedOut(person))
        return len(ids)
