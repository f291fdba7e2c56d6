"""How the agent reads what a program says, without a sandbox around it."""

import os
import selectors
import socket
import sys
from pathlib import Path

import pytest

RUNTIMES = str(Path(__file__).parents[2] / "runtimes")


@pytest.fixture
def agent(monkeypatch):
    """The agent's modules, which import each other by bare names."""
    monkeypatch.syspath_prepend(RUNTIMES)
    import forwards
    import output

    yield forwards, output
    for name in ("forwards", "output"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("talks", [0, 1])
def test_a_flood_that_pauses_reading_as_the_other_pipe_ends_loses_nothing(agent, talks):
    """A platform that reads slowly is told to wait for in the middle of a round in which the other pipe has ended, too."""
    forwards, output = agent
    selector, said = selectors.DefaultSelector(), []
    out, out_end = os.pipe()
    err, err_end = os.pipe()

    def send(**message):
        said.append(message["text"])
        reading.pause(True)

    reading = output.Output(selector, send)
    reading.follow(out, err)
    ends = [out_end, err_end]
    os.write(ends[talks], b"the last words")  # ready before the other's end is
    for end in reversed(ends) if talks else ends:
        os.close(end)
    while reading.levels:
        forwards.serve(selector, 0)
        reading.pause(False)
    assert said == ["the last words"]
    assert not selector.get_map()


def test_a_connection_that_is_closed_while_it_is_ready_is_passed_over(agent):
    """As when a program's output finds the platform gone, in the very round in which the channel to it would say so."""
    forwards, _ = agent
    selector, called = selectors.DefaultSelector(), []
    pairs = [socket.socketpair() for _ in range(2)]

    def closes(other):
        def call(_mask):
            called.append(other)
            selector.unregister(other)
            other.close()

        return call

    for (mine, _), (other, _) in zip(pairs, reversed(pairs), strict=True):
        selector.register(mine, forwards.READ, closes(other))
    for _, far in pairs:
        far.close()
    forwards.serve(selector, 0)
    assert len(called) == 1
    for mine, _ in pairs:
        mine.close()
    selector.close()
