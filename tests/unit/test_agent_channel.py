"""The agent's own WebSocket beside wsproto, which plays the platform."""

import importlib.util
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, Pong, Request, TextMessage

SPEC = importlib.util.spec_from_file_location("channel", Path(__file__).parents[2] / "runtimes" / "channel.py")
channel = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(channel)

LENGTHS = [124, 125, 126, 127, 65_535, 65_536, 200_000]
texts = st.one_of(st.text(max_size=200), st.sampled_from(LENGTHS))
"""Or so many bytes."""
said = st.lists(
    st.one_of(st.tuples(st.just("text"), st.lists(texts, min_size=1, max_size=3)), st.just(("ping", b"here?")))
)


def spell(text: str | int) -> str:
    return text if isinstance(text, str) else "x" * text


def opened() -> tuple[channel.Channel, WSConnection, bytes]:
    """Both ends, and what the platform answered."""
    ours, platform = channel.Channel(), WSConnection(ConnectionType.SERVER)
    platform.receive_data(ours.request("/v1/control"))
    asked = next(platform.events())
    assert isinstance(asked, Request) and asked.target == "/v1/control"
    return ours, platform, platform.send(AcceptConnection())


def in_pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@given(said, st.integers(1, 5000))
@settings(deadline=None)
def test_it_hears_what_the_platform_says_however_it_is_cut(said, size):
    ours, platform, data = opened()
    expected = [(channel.OPENED, b"")]
    for kind, value in said:
        if kind == "ping":
            data += platform.send(Ping(value))
            expected.append((channel.PING, value))
            continue
        for number, piece in enumerate(value, 1):
            data += platform.send(TextMessage(spell(piece), message_finished=number == len(value)))
        expected.append((channel.TEXT, "".join(map(spell, value)).encode()))
    assert [event for piece in in_pieces(bytes(data), size) for event in ours.received(piece)] == expected


@given(texts)
def test_the_platform_hears_what_it_says(text):
    ours, platform, _ = opened()
    platform.receive_data(bytes(ours.frame(channel.TEXT, spell(text).encode()) + ours.frame(channel.PONG, b"yes")))
    *pieces, pong = platform.events()
    assert "".join(piece.data for piece in pieces) == spell(text)
    assert pong == Pong(b"yes")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 403 Forbidden\r\n\r\n",
        b"x" * 20_000,
        b"HTTP/1.1 101 \r\n\r\n\x82\x01x",  # binary
        b"HTTP/1.1 101 \r\n\r\n\x80\x01x",  # goes on with nothing
        b"HTTP/1.1 101 \r\n\r\n\x01\x01x\x81\x01x",  # begins anew in the middle
        b"HTTP/1.1 101 \r\n\r\n\x81\x81mask0",
        b"HTTP/1.1 101 \r\n\r\n\xc1\x01x",  # an extension that nobody asked for
        b"HTTP/1.1 101 \r\n\r\n\x09\x01x",  # a ping in pieces
        b"HTTP/1.1 101 \r\n\r\n\x81\x7f" + (1 << 40).to_bytes(8, "big"),
        b"HTTP/1.1 101 \r\n\r\n\x88\x00",
    ],
)
def test_what_is_not_said_as_agreed_ends_it(answer):
    assert list(channel.Channel().received(answer))[-1] == (channel.BROKEN, b"")


@given(st.lists(st.binary(max_size=300)))
def test_no_bytes_make_it_fail(pieces):
    ours, _, data = opened()
    list(ours.received(bytes(data)))
    for piece in pieces:
        for kind, _ in ours.received(piece):
            assert kind in {channel.TEXT, channel.PING, channel.BROKEN}


def test_a_message_in_the_same_breath_as_a_close_is_heard_first():
    ours, platform, data = opened()
    data += platform.send(TextMessage("last")) + platform.send(CloseConnection(1000))
    assert [kind for kind, _ in ours.received(bytes(data))] == [channel.OPENED, channel.TEXT, channel.BROKEN]


def test_bytes_are_not_spoken_here():
    ours, platform, data = opened()
    list(ours.received(bytes(data)))
    assert list(ours.received(bytes(platform.send(BytesMessage(b"x"))))) == [(channel.BROKEN, b"")]
