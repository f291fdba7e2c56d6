"""Mail: queued in the transaction that causes it, sent afterwards until the server accepts it."""

import asyncio
from datetime import datetime, timedelta
from email.charset import QP, Charset
from email.message import Message
from email.utils import format_datetime, make_msgid
from pathlib import Path
from urllib.parse import unquote, urlsplit

import aiosmtplib
from pydantic import SecretStr
from sqlalchemy import select
from sqlalchemy.orm import Mapped, mapped_column

from cloister.core.clock import Clock
from cloister.core.events import MailQueued
from cloister.core.ids import new_id
from cloister.platform.bus import Controller
from cloister.platform.database import Base, Database, UnitOfWork
from cloister.platform.files import private_folder
from cloister.platform.logs import logger
from cloister.platform.settings import Settings

log = logger(__name__)
ATTEMPTS = 12
BATCH = 20
"""Letters sent before their sending is written down: as many may be sent twice when the power fails in between."""


class Letter(Base):
    """One message on its way."""

    __tablename__ = "letters"

    id: Mapped[str] = mapped_column(primary_key=True)
    to: Mapped[str]
    subject: Mapped[str]
    text: Mapped[str]
    attempts: Mapped[int]
    due_at: Mapped[datetime | None] = mapped_column(index=True)  # None once sent or given up
    error: Mapped[str | None]
    created_at: Mapped[datetime]


def queue_letter(uow: UnitOfWork, clock: Clock, *, to: str, subject: str, text: str) -> None:
    now = clock.now()
    uow.session.add(
        Letter(id=new_id("ltr"), to=to, subject=subject, text=text, attempts=0, due_at=now, error=None, created_at=now)
    )
    uow.publish(MailQueued())


class MailController(Controller):
    """Sends what is queued; tries again with growing pauses."""

    name = "mail"
    wakes_on = (MailQueued,)
    interval = 30.0

    def __init__(self, database: Database, settings: Settings, clock: Clock) -> None:
        super().__init__()
        self._database = database
        self._settings = settings
        self._clock = clock

    async def look(self) -> float | None:
        async with self._database.read() as uow:
            due = (
                await uow.session.scalars(
                    select(Letter).where(Letter.due_at <= self._clock.now()).order_by(Letter.id).limit(BATCH)
                )
            ).all()
        if not due:
            return None
        errors = {letter.id: await self._send(letter) for letter in due}
        async with self._database.write() as uow:
            uow.unrecorded("delivery of mail; what caused the mail is recorded")
            for row in await uow.session.scalars(select(Letter).where(Letter.id.in_(list(errors)))):
                row.attempts += 1
                row.error = errors[row.id]
                final = row.error is None or row.attempts >= ATTEMPTS
                row.due_at = None if final else self._clock.now() + timedelta(seconds=5 * 2**row.attempts)
        return 0.0 if len(due) == BATCH else None

    async def _send(self, letter: Letter) -> str | None:
        """Send a letter; return why it could not be. One bad address must not hold up the others."""
        try:
            if self._settings.mail_url is None:
                await asyncio.to_thread(
                    _keep, self._settings.state_directory / "mail", letter, self._settings.mail_from
                )
            else:
                await self._deliver(_compose(letter, self._settings.mail_from), self._settings.mail_url)
            return None
        except (aiosmtplib.SMTPException, OSError, ValueError, LookupError) as error:
            log.warning("mail.failed", letter=letter.id, error=str(error))
            return str(error).encode("ascii", "backslashreplace").decode()[:500].replace("\0", "") or "failed"

    async def _deliver(self, message: Message, server: SecretStr) -> None:
        url = urlsplit(server.get_secret_value())
        await aiosmtplib.send(
            message,
            hostname=url.hostname,
            port=url.port,
            username=unquote(url.username) if url.username else None,
            password=unquote(url.password) if url.password else None,
            use_tls=url.scheme == "smtps",
        )


_READABLE = Charset("utf-8")
_READABLE.body_encoding = QP


def _compose(letter: Letter, sender: str) -> Message:
    if not letter.to.isprintable():
        raise ValueError("an address is one line")
    message = Message()
    message.set_payload(letter.text, _READABLE)
    message["From"] = sender
    message["To"] = letter.to
    message["Subject"] = " ".join(letter.subject.split())  # one line, whatever was typed
    message["Date"] = format_datetime(letter.created_at)
    message["Message-ID"] = make_msgid(letter.id, domain="cloister.invalid")
    return message


def _keep(folder: Path, letter: Letter, sender: str) -> None:
    """Without a mail server, letters are files."""
    (private_folder(folder) / f"{letter.id}.eml").write_bytes(bytes(_compose(letter, sender)))
