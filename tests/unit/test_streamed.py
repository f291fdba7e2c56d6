"""What streams is closed however it ends: a source that nobody reads on holds a query, a file or a connection."""

import asyncio

import pytest
from starlette.requests import Request

from cloister.platform.streamed import Streamed
from cloister.query.answers import Answer, Begun
from cloister.query.errors import QueryCancelled
from cloister.query.routes import _unless_gone

HTTP = {"type": "http", "method": "GET", "path": "/", "headers": [], "asgi": {"version": "3.0", "spec_version": "2.4"}}


class Source:
    def __init__(self, items=3):
        self.items, self.closed = items, False

    async def stream(self):
        try:
            for number in range(self.items):
                yield f"{number}".encode()
        finally:
            self.closed = True


async def never():
    await asyncio.Event().wait()


@pytest.mark.parametrize("fault", [OSError, asyncio.CancelledError])
async def test_a_source_is_closed_when_its_reader_is_gone(fault):
    source = Source()

    async def send(message):
        if message.get("body") == b"1":
            raise fault

    with pytest.raises(BaseException):  # noqa: B017, PT011  (which one is starlette's affair)
        await Streamed(source.stream(), "text/plain")(HTTP, never, send)
    assert source.closed


async def test_a_source_that_had_begun_is_closed_though_nobody_read_on():
    source = Source()
    stream = source.stream()
    begun = Begun(await anext(stream), stream)
    await begun.aclose()
    assert source.closed
    whole = Source()
    stream = whole.stream()
    assert [item async for item in Begun(await anext(stream), stream)] == [b"0", b"1", b"2"]


@pytest.mark.parametrize("way", ["hangs up", "is cut off"])
async def test_an_answer_that_begins_as_its_asker_goes_is_closed(way):
    source, going = Source(), asyncio.Event()

    async def ask():
        stream = source.stream()
        first = await anext(stream)
        try:
            await never()
        except asyncio.CancelledError:  # the engine answered in the very moment
            return Answer("qry", "json", False, Begun(first, stream))

    async def receive():
        await going.wait()
        return {"type": "http.disconnect"}

    task = asyncio.create_task(_unless_gone(Request(HTTP, receive), ask()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    going.set() if way == "hangs up" else task.cancel()
    with pytest.raises(QueryCancelled if way == "hangs up" else asyncio.CancelledError):
        await task
    assert source.closed
