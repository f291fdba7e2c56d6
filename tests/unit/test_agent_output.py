"""How the agent reads what a program says, and what it has in the place of Python's modules, without a sandbox around it."""

import contextlib
import gc
import json
import os
import socket
import sys
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

RUNTIMES = str(Path(__file__).parents[2] / "runtimes")


@pytest.fixture
def agent(monkeypatch):
    """The agent's modules, which import each other by bare names."""
    monkeypatch.syspath_prepend(RUNTIMES)
    import lean
    import output

    yield lean, output
    for name in ("channel", "forwards", "lean", "output"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("talks", [0, 1])
def test_a_flood_that_pauses_reading_as_the_other_pipe_ends_loses_nothing(agent, talks):
    """A platform that reads slowly is told to wait for in the middle of a round in which the other pipe has ended, too."""
    lean, output = agent
    selector, said = lean.Selector(), []
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
        selector.serve(0)
        reading.pause(False)
    assert said == ["the last words"]
    assert not len(selector)
    selector.close()


def test_a_connection_that_is_closed_while_it_is_ready_is_passed_over(agent):
    """As when a program's output finds the platform gone, in the very round in which the channel to it would say so."""
    lean, _ = agent
    selector, called = lean.Selector(), []
    pairs = [socket.socketpair() for _ in range(2)]

    def closes(other):
        def call(_mask):
            called.append(other)
            selector.unregister(other)
            other.close()

        return call

    for (mine, _), (other, _) in zip(pairs, reversed(pairs), strict=True):
        selector.register(mine, lean.READ, closes(other))
    for _, far in pairs:
        far.close()
    selector.serve(0)
    assert len(called) == 1
    for mine, _ in pairs:
        mine.close()
    selector.close()


def test_a_watch_that_is_changed_in_a_round_counts_from_the_next(agent):
    lean, _ = agent
    selector, called = lean.Selector(), []
    one, two = socket.socketpair()

    def call(mask):
        called.append(mask)
        selector.modify(one, lean.READ)

    selector.register(one, lean.READ | lean.WRITE, call)
    two.send(b"x")
    selector.serve(0)
    selector.serve(0)
    assert called == [lean.READ | lean.WRITE, lean.READ]
    assert (selector.unregister(one), selector.unregister(one), len(selector)) == (True, False, 0)
    for sock in (one, two):
        sock.close()
    assert not selector.unregister(one), "one that is closed is watched by nobody"
    selector.close()


def test_a_program_that_takes_no_connection_holds_up_nobody_else(agent, monkeypatch, tmp_path):
    lean, _ = agent
    import forwards

    monkeypatch.setattr(forwards, "APP_SOCKET", str(tmp_path / "app.sock"))
    selector = lean.Selector()
    with socket.create_server(("127.0.0.1", 0), backlog=0) as program, contextlib.ExitStack() as stack:
        port = program.getsockname()[1]
        for _ in range(4):  # more than it has room for
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        forwards.Forwards(selector).listen_for_app(port)
        visitor = stack.enter_context(socket.socket(socket.AF_UNIX))
        visitor.connect(str(tmp_path / "app.sock"))
        visitor.sendall(b"hello")
        selector.serve(0)  # would not come back
        selector.serve(0)
        said = b""
        while said != b"hello":
            taken, _ = program.accept()
            stack.enter_context(taken)
            taken.setblocking(False)
            for _ in range(200):
                selector.serve(0.01)
                with contextlib.suppress(BlockingIOError):
                    said = taken.recv(5)
                    break
        assert said == b"hello"
    selector.close()
    with warnings.catch_warnings():  # the agent never closes its listeners
        warnings.simplefilter("ignore", ResourceWarning)
        del selector
        gc.collect()


@pytest.mark.parametrize("value", [1.5, {1: "x"}, ("a",), b"bytes"])
def test_what_the_agent_never_says_it_cannot_say(agent, value):
    lean, _ = agent
    with pytest.raises(TypeError):
        lean.dumps(value)


def test_files_are_passed_as_python_passes_them(agent):
    lean, _ = agent
    one, two = socket.socketpair()
    read, write = os.pipe()
    socket.send_fds(one, [b"."], [read, write])
    passed = lean.receive_fds(two, 2)
    os.write(passed[1], b"through")
    assert os.read(passed[0], 7) == b"through"
    assert all(not os.get_inheritable(number) for number in passed), "no program gets them"
    for number in (read, write, *passed):
        os.close(number)
    one.close()
    two.close()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=VALUES)
def test_what_the_agent_writes_and_reads_is_json(agent, value):
    lean, _ = agent
    assert json.loads(lean.dumps(value)) == value
    assert lean.loads(json.dumps(value).encode()) == value


@pytest.mark.parametrize("text", ["", "{", "[1,]", '{"a": 1} 2', "nothing", '"\n"'])
def test_what_is_no_json_is_an_error(agent, text):
    lean, _ = agent
    with pytest.raises(ValueError, match=r"."):
        lean.loads(text.encode())
