"""News of a command reaches the server, however many there are at once."""

import asyncio

from cloister.core.events import AccessChanged
from cloister.platform import Bus


async def test_a_busy_server_hears_all_of_a_command_s_news(tmp_path):
    server, command = Bus(tmp_path / "mailbox"), Bus(tmp_path / "mailbox")
    heard = []
    server.subscribe(AccessChanged, heard.append)
    server.listen()
    try:
        await asyncio.to_thread(command.publish, [AccessChanged("course", number) for number in range(200)])
        async with asyncio.timeout(5):
            while len(heard) < 200:
                await asyncio.sleep(0.01)
        assert [event.person for event in heard] == list(range(200))
    finally:
        server.close()
