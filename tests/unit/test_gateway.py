"""Host names, the kernel protocol and Caddy's configuration: pure parts, for any input."""

import contextlib
import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from cloister.core.errors import SettingsError
from cloister.gateway import Hosts, caddyfile
from cloister.gateway.hosts import plain
from cloister.gateway.kernel_protocol import Execute, Reply, Unreadable, answered, asked, bookkeeping
from cloister.gateway.relay import _without_token
from cloister.platform.settings import load

HOSTS = Hosts("https", "data.example.org", 8443)
LABEL = st.from_regex(r"[a-z][a-z0-9-]{0,38}[a-z0-9]", fullmatch=True)


@given(LABEL, LABEL)
def test_a_host_name_that_was_made_is_read_back(team, space):
    address = HOSTS.parse(HOSTS.host(team, space))
    assert (address.team, address.space) == (team, space)


@pytest.mark.parametrize("host", [
    "data.example.org:8443", "a.data.example.org:8443", "a.b.c.data.example.org:8443", "a.b.data.example.org:80",
    "a.b.evil.org:8443", "a..data.example.org:8443", "-a.b.data.example.org:8443", "a.b.data.example.org:x",
    "a.b.data.example.org.evil.org:8443", "", "a.b.xdata.example.org:8443", "a/.b.data.example.org",
])  # fmt: skip
def test_other_host_names_are_no_workspace(host):
    assert HOSTS.parse(host) is None


@given(st.text())
def test_no_host_name_is_an_error(host):
    HOSTS.parse(host)


@pytest.mark.parametrize(
    "path", ["/lab/../files/a", "/./a", "/%2e/a", "/a/%2E%2e/b", "/a//b", "//a", "/a\\..\\b", "/a/..", "/a/.?x"]
)
def test_crooked_paths_are_known(path):
    assert not plain(path)


@given(
    st.lists(st.from_regex(r"[a-z.]*[a-z][a-z.]*", fullmatch=True), max_size=5), st.sampled_from(["", "/", "?a=../b"])
)
def test_plain_paths_are_plain(parts, end):
    assert plain("/" + "/".join(parts) + (end if parts or end != "/" else ""))


def v1(channel, header, parent, metadata, content):
    parts = [channel.encode(), *(json.dumps(p).encode() for p in (header, parent, metadata, content))]
    offsets = [8 * (len(parts) + 2)]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    return struct.pack(f"<{len(offsets) + 1}Q", len(offsets), *offsets) + b"".join(parts)


@given(st.text(), st.text(min_size=1, max_size=40), st.booleans())
def test_code_is_read_in_both_forms_of_the_protocol(code, id_, binary):
    header, metadata = {"msg_type": "execute_request", "msg_id": id_}, {"cellId": "c"}
    content = {"code": code}
    if binary:
        found = asked(v1("shell", header, {}, metadata, content), v1=True)
    else:
        found = asked(
            json.dumps({"header": header, "parent_header": {}, "metadata": metadata, "content": content}), v1=False
        )
    assert found == Execute(id_[:100], code, "c", False)


def test_the_end_of_code_is_read():
    header, parent = {"msg_type": "execute_reply"}, {"msg_id": "m"}
    assert answered(v1("shell", header, parent, {}, {"status": "error"}), v1=True) == Reply("m", "error")


def test_whatever_runs_code_is_seen_however_it_is_written():
    spelled = (
        '{"header": {"msg_type": "\\u0065xecute_request", "msg_id": "m"}, "metadata": {}, "content": {"code": "1"}}'
    )
    assert asked(spelled, v1=False) == Execute("m", "1", None, False)
    header = {"msg_type": "execute_request", "msg_id": "m"}
    besides = asked(v1("shell", header, {}, {}, {"code": "", "user_expressions": {"x": "leak()"}}), v1=True)
    assert besides.also == '{"x": "leak()"}'
    debugged = {"command": "evaluate", "arguments": {"expression": "leak()"}}
    assert "leak()" in asked(v1("control", {**header, "msg_type": "debug_request"}, {}, {}, debugged), v1=True).code


@pytest.mark.parametrize(
    "frame",
    [
        v1(
            "shell", {"msg_type": "execute_request", "msg_id": "m"}, {}, {}, json.dumps({"code": "1"})
        ),  # content as text
        v1("shell", {"msg_type": "execute_request", "msg_id": "m"}, {}, {}, {"code": ["1"]}),
        struct.pack("<Q", 5000) + bytes(8 * 5000),
        b"nothing",
    ],
)
def test_what_cannot_be_told_does_not_reach_a_kernel(frame):
    with pytest.raises(Unreadable):
        asked(frame, v1=True)


@given(st.one_of(st.binary(), st.text()), st.booleans())
def test_no_frame_is_another_error(data, binary):
    prefix = b'"execute_reply"' if isinstance(data, bytes) else '"execute_reply"'
    for frame in (data, prefix + data, struct.pack("<Q", 2**63) + prefix + data if isinstance(data, bytes) else data):
        answered(frame, v1=binary)
        with contextlib.suppress(Unreadable):
            asked(frame, v1=binary)


@pytest.mark.parametrize("tls", ["off", "internal", "files", "acme"])
@pytest.mark.parametrize("gateway", ["managed", "external"])
def test_caddy_takes_every_configuration(tmp_path, tls, gateway):
    url = "http://localhost:8080" if tls == "off" else "https://data.example.org"
    certificate = tmp_path / "c.pem"
    settings = load(
        mode="demo", state_directory=tmp_path, public_url=url, gateway=gateway, gateway_tls=tls, listen_port=8080,
        gateway_certificate=certificate, gateway_certificate_key=certificate,
    )  # fmt: skip
    text = caddyfile(settings, tmp_path / "environments")
    (tmp_path / "Caddyfile").write_text(text)
    caddy = shutil.which("caddy", path=str(Path(sys.executable).parent))
    done = subprocess.run([caddy, "adapt", "--config", "Caddyfile"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "not formatted" not in done.stderr
    assert ('"on_demand"' in done.stdout) == (tls in {"internal", "acme"})


def test_the_gateway_refuses_to_travel_in_the_clear():
    with pytest.raises(SettingsError, match="loopback"):
        load(mode="demo", gateway="managed", public_url="http://data.example.org")
    with pytest.raises(SettingsError, match="disagree"):
        load(mode="demo", gateway="managed", public_url="https://data.example.org")


@pytest.mark.parametrize(
    ("asked", "passed"),
    [
        ("/api/kernels/1/channels?session_id=a&token=clo_x", "/api/kernels/1/channels?session_id=a"),
        ("/api/kernels/1/channels?token=clo_x", "/api/kernels/1/channels"),
        ("/api/kernels/1/channels?session_id=a%20b", "/api/kernels/1/channels?session_id=a%20b"),
    ],
)
def test_no_app_is_told_the_token_of_who_connects(asked, passed):
    assert _without_token(URL(asked, encoded=True)) == passed


REPLY = {"status": "error", "execution_count": 3, "ename": "E", "evalue": "secret", "traceback": ["secret"]}


@pytest.mark.parametrize("v1", [True, False])
def test_of_a_cell_past_the_budget_it_is_said_how_it_ended_and_nothing_else(v1):
    def frame(kind, content):
        header, parent = {"msg_id": "r", "msg_type": kind}, {"msg_id": "m"}
        if not v1:
            parts = {"header": header, "parent_header": parent, "metadata": {"secret": 1}, "content": content}
            return json.dumps({**parts, "channel": "shell", "buffers": []})
        pieces = [b"shell", *(json.dumps(one).encode() for one in (header, parent, {"secret": 1}, content))]
        offsets = [8 * 7]
        for piece in pieces:
            offsets.append(offsets[-1] + len(piece))
        return struct.pack("<7Q", 6, *offsets) + b"".join(pieces)

    long = {**REPLY, "traceback": ["secret" * 10_000]}
    for content in (REPLY, long, {"status": "ok", "execution_count": 3, "payload": ["secret"], "user_expressions": {}}):
        said = bookkeeping(frame("execute_reply", content), v1=v1)
        assert isinstance(said, bytes if v1 else str)
        assert "secret" not in (said.decode("latin-1") if v1 else said)
        found = answered(said, v1=v1)
        assert (found.id, found.status) == ("m", content["status"]), "and it is a reply as any other"
    for kind in ("stream", "display_data", "execute_result", "error", "comm_msg", "debug_reply", "complete_reply"):
        assert bookkeeping(frame(kind, {"text": "secret"}), v1=v1) is None
    assert bookkeeping(frame("status", {"execution_state": "idle"}), v1=v1) is not None
    assert bookkeeping(frame("status", {"execution_state": "x" * 100_000}), v1=v1) is None
