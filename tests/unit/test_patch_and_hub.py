"""Steps between models, and a hub whose memory stays bounded."""

import asyncio
import json
import time

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol, Opcode

from cloister.dashboards.hub import Channel, Hub, Viewer
from cloister.dashboards.lines import Lines
from cloister.dashboards.patch import diff, same
from cloister.dashboards.running import Runner
from cloister.dashboards.sessions import Instance

MODEL = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=4), inner, max_size=5),
    max_leaves=25,
)


@given(MODEL, MODEL)
def test_a_step_makes_the_one_of_the_other(before, after):
    operations = diff(before, after)
    assert operations is not None
    made = jsonpatch.apply_patch(before, operations)
    assert json.dumps(made, sort_keys=True) == json.dumps(after, sort_keys=True)


@given(st.lists(st.integers(), min_size=3, max_size=40), st.integers(1, 3), st.lists(st.integers(), max_size=5))
def test_a_window_that_moves_makes_small_steps(window, gone, new):
    after = window[gone:] + new
    operations = diff({"w": window}, {"w": after})
    assert jsonpatch.apply_patch({"w": window}, operations) == {"w": after}


def test_a_window_over_time_moves_by_as_many_operations_as_moved():
    rows = [{"t": n, "v": n * n} for n in range(100)]
    operations = diff(rows[:60], rows[2:62])
    assert [o["op"] for o in operations] == ["remove", "remove", "add", "add"]


async def test_a_channel_that_goes_is_taken_back_from_the_slowest_and_counts_on_when_it_comes_back():
    hub = Hub({"a": Channel("a")})
    gate, heard = asyncio.Event(), []

    async def slowly(text):
        await gate.wait()
        heard.append(json.loads(text))

    viewer = Viewer(slowly, console=False)
    hub.join(viewer)
    task = asyncio.create_task(viewer.run(hub.channels))
    for n in range(3):
        hub.output("a", json.dumps(n), n)
        await asyncio.sleep(0)
    hub.drop("a")
    assert hub.names == []
    hub.output("a", "7", 7)
    gate.set()
    await asyncio.sleep(0.01)
    last = [m for m in heard if m["type"] == "OUTPUT"][-1]
    assert (last["seq"], last["model"]) == (4, None)
    hub.add("a")
    hub.output("a", "8", 8)
    await asyncio.sleep(0.01)
    assert [(m["seq"], m["model"]) for m in heard if m["type"] == "OUTPUT"][-1] == (5, 8)
    late = []
    newcomer = Viewer(lambda text: _keep(late, text), console=False)
    hub.drop("a")
    hub.join(newcomer)
    other = asyncio.create_task(newcomer.run(hub.channels))
    await asyncio.sleep(0.01)
    assert late == [], "whoever comes afterwards hears nothing of it"
    for one in (task, other):
        one.cancel()


async def _keep(heard, text):
    heard.append(text)


async def test_what_is_printed_is_put_together_to_whole_lines():
    said = []
    lines = Lines(lambda level, text: said.append((level, text)))
    for piece in ("line", " ", "1", "\nli", "ne 2\n", "thr"):
        lines.take("INFO", piece)
    lines.take("ERROR", "oh\n")
    assert said == [("INFO", "line 1\n"), ("INFO", "line 2\n"), ("ERROR", "oh\n")]
    await asyncio.sleep(0.3)
    assert said[-1] == ("INFO", "thr"), "a line that does not end is shown after a moment"
    for _ in range(6):
        lines.take("INFO", ".")
        await asyncio.sleep(0.06)
    assert said[-1][1].startswith("."), "also of one who goes on and on"
    lines.take("INFO", "secret")
    lines.forget()
    await asyncio.sleep(0.3)
    assert "secret" not in str(said)


async def test_a_slow_viewer_skips_to_the_newest_and_a_quick_one_gets_steps():
    hub = Hub({"a": Channel("a")})
    gate, slow, quick = asyncio.Event(), [], []

    async def slowly(text):
        await gate.wait()
        slow.append(json.loads(text))

    async def quickly(text):
        quick.append(json.loads(text))

    viewers = [Viewer(slowly, console=False), Viewer(quickly, console=True)]
    tasks = [asyncio.create_task(v.run(hub.channels)) for v in viewers]
    for viewer in viewers:
        hub.join(viewer)
    model = {"rows": list(range(1000)), "n": 0}
    for n in range(1, 51):
        model = {**model, "n": n}
        hub.output("a", json.dumps(model), model)
        hub.line("a", "INFO", f"line {n}")
        await asyncio.sleep(0)
    gate.set()
    for viewer in viewers:
        viewer.end("the end")
    await asyncio.gather(*tasks)
    outputs = [m for m in quick if m["type"] == "OUTPUT"]
    whole = outputs[0]["model"]
    for step in outputs[1:]:
        whole = jsonpatch.apply_patch(whole, step["patch"]) if "patch" in step else step["model"]
    assert whole["n"] == 50 or len(outputs) >= 1
    assert any("patch" in step for step in outputs), "a quick one gets what changed"
    assert len([m for m in slow if m["type"] == "OUTPUT"]) <= 2, "a slow one skips"
    assert not any("text" in m for m in slow), "what programs print is not for everybody"
    assert slow[-1] == {"type": "TERMINATE", "reason": "the end"}


async def test_who_is_cancelled_while_an_integration_ends_does_not_go_on():
    """The platform stops while a dashboard is taken down: the one must not swallow what ends the other."""
    gone = asyncio.Event()

    async def slow_to_end():
        try:
            await asyncio.Event().wait()
        finally:
            await gone.wait()

    instance = Instance(None, "", "", task=asyncio.create_task(slow_to_end()))
    await asyncio.sleep(0)
    stopping = asyncio.create_task(Runner.stop(None, instance))
    await asyncio.sleep(0)
    stopping.cancel()
    gone.set()
    with pytest.raises(asyncio.CancelledError):
        await stopping


class Buffer:
    """A connection that takes so many frames and then is full until it is read."""

    def __init__(self, room):
        self.room, self.frames = room, []

    def takes(self):
        return len(self.frames) < self.room

    def write(self, frame):
        assert self.takes(), "no more than it takes"
        self.frames.append(frame)


def heard(frames):
    """The texts of frames, as any client reads them."""
    client = FrameProtocol(client=True, extensions=[])
    client.receive_bytes(b"".join(frames))
    found = list(client.received_frames())
    assert all(frame.opcode is Opcode.TEXT and frame.message_finished for frame in found)
    return [json.loads(frame.payload) for frame in found]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 70_000)), max_size=12), st.integers(0, 5))
async def test_a_frame_goes_to_whoever_is_ready_and_nobody_misses_the_newest_nor_gets_it_twice(puts, room):
    hub = Hub({"a": Channel("a"), "b": Channel("b")})
    wire, slow = Buffer(room), []

    async def send(text):
        slow.append(json.loads(text))

    viewer = Viewer(send, console=False, wire=wire)
    hub.join(viewer)
    task = asyncio.create_task(viewer.run(hub.channels))
    await asyncio.sleep(0)
    seen = {}
    for n, (id_, size) in enumerate(puts):
        model = {"n": n, "x": "x" * size}
        hub.output(id_, json.dumps(model), model)
        hub.state(id_, "green" if n % 3 else "red", "so")
        if n % 2:
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    viewer.end("over")
    await task
    said = heard(wire.frames) + slow[:-1]
    for id_ in "ab":
        outputs = [m["seq"] for m in said if m["type"] == "OUTPUT" and m["integration"] == id_]
        assert len(outputs) == len(set(outputs))
        seen[id_] = max(outputs, default=None)
        newest = hub.channels[id_].output
        assert seen[id_] == (newest.seq if newest else None)
        states = [m["state"] for m in said if m["type"] == "STATUS" and m["integration"] == id_]
        assert hub.channels[id_].state in states


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(lambda n: [n, *range(1_000_000)], id="a million numbers"),
        pytest.param(lambda n: _deep(list(range(100_000)), n), id="lists in lists"),
    ],
)
def test_comparing_models_takes_no_longer_than_sending_them(model):
    one, other = model(0), model(1)
    begun = time.process_time()
    assert diff(one, other) is None, "it is sent whole"
    assert not same(one, model(2))
    assert time.process_time() - begun < 5, "comparing each list at each depth anew would take minutes"


def _deep(inner, n):
    for level in range(200):
        inner = [level, inner] if level % 2 else [inner, n]
    return inner


def test_a_truth_that_becomes_a_number_is_news():
    assert not same({"a": [True]}, {"a": [1]})
    assert same({"a": [1, {"b": None}]}, {"a": [1, {"b": None}]})
