"""How the agent reads what a program says, without a sandbox around it."""

import os
import selectors
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
