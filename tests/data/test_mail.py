"""Mail over a real SMTP server: letters arrive, and wait when the server is away."""

import email
import email.policy
from datetime import timedelta

import pytest
from aiosmtpd.controller import Controller as SmtpServer
from sqlalchemy import select

from cloister.core.clock import Clock
from cloister.platform.mail import ATTEMPTS, Letter, MailController, queue_letter
from tests.support import blueprint, declare, fake_backend, free_port, make_settings, served, until


class Mailbox:
    """What an SMTP server received; or one that refuses."""

    def __init__(self) -> None:
        self.letters: list[tuple[list[str], email.message.EmailMessage]] = []
        self.refuse = False

    async def handle_DATA(self, _server, _session, envelope) -> str:
        if self.refuse:
            return "451 try again later"
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.letters.append((envelope.rcpt_tos, message))
        return "250 kept"


@pytest.fixture
def mailbox():
    box = Mailbox()
    box.port = free_port()
    server = SmtpServer(box, hostname="127.0.0.1", port=box.port)
    server.start()
    yield box
    server.stop()


@pytest.fixture
async def api(settings, mailbox):
    settings = make_settings(
        settings.state_directory, database_url=settings.database_url, sandbox_backend="fake",
        mail_url=f"smtp://127.0.0.1:{mailbox.port}", mail_from="Cloister <cloister@test.example>",
    )  # fmt: skip
    backend = fake_backend()
    async with served(settings, backend=backend) as found:
        yield found


async def letters(platform) -> list[Letter]:
    async with platform.database.read() as uow:
        return list((await uow.session.scalars(select(Letter).order_by(Letter.id))).all())


async def test_the_welcome_letter_arrives(api, mailbox):
    await declare(api.platform, blueprint(title="Kurs über Öl & 数据"))
    await api.member("ada")

    async def arrived():
        return mailbox.letters

    await until(arrived)
    to, message = mailbox.letters[0]
    assert to == ["ada@test.example"]
    assert message["Subject"] == "Welcome to Kurs über Öl & 数据"
    assert message["From"] == "Cloister <cloister@test.example>"
    assert message["Message-ID"] and message["Date"]
    text = message.get_content()
    assert "Hello ada," in text and "Your team is t-000001." in text and "/s/course\r\n" in text

    async def done():
        return (await letters(api.platform))[0].due_at is None

    await until(done)
    assert len(mailbox.letters) == 1


async def test_a_letter_waits_for_a_server_that_refuses(api, mailbox):
    mailbox.refuse = True
    await declare(api.platform, blueprint())
    await api.member("ada")

    async def tried():
        found = await letters(api.platform)
        return found and found[0].attempts

    await until(tried)
    letter = (await letters(api.platform))[0]
    assert "451" in letter.error and letter.due_at > Clock().now()
    mailbox.refuse = False

    class Later(Clock):
        def now(self):
            return super().now() + timedelta(hours=1)

    controller = MailController(api.platform.database, api.platform.settings, Later())
    await controller.look()
    assert len(mailbox.letters) == 1
    letter = (await letters(api.platform))[0]
    assert (letter.attempts, letter.error, letter.due_at) == (2, None, None)


async def test_one_bad_address_does_not_hold_up_the_others(api, mailbox):
    async with api.platform.database.write() as uow:
        uow.unrecorded("a test")
        for to in ("not an address", "two\r\nBcc: everybody@else.example", "good@test.example"):
            queue_letter(uow, Clock(), to=to, subject="s", text="t")

    async def arrived():
        return any(to == ["good@test.example"] for to, _ in mailbox.letters)

    await until(arrived, 5)
    assert not any("everybody" in f"{to} {message}" for to, message in mailbox.letters)


async def test_a_letter_is_given_up_in_the_end(api, mailbox):
    mailbox.refuse = True
    async with api.platform.database.write() as uow:
        uow.unrecorded("a test")
        queue_letter(uow, Clock(), to="ada@test.example", subject="s", text="t")

    class Calendar(Clock):
        days = 0

        def now(self):
            return super().now() + timedelta(days=self.days)

    clock = Calendar()
    controller = MailController(api.platform.database, api.platform.settings, clock)
    for clock.days in range(1, 2 * ATTEMPTS):
        await controller.look()
    letter = (await letters(api.platform))[0]
    assert letter.due_at is None and letter.attempts == ATTEMPTS
