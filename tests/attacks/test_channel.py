"""The channel: tokens work once and for one sandbox, floods are slowed, and what a sandbox leaves is read with care."""

import asyncio
import json

import pytest

from cloister.sandboxes import controller as controller_module
from cloister.sandboxes.app_socket import connect_app
from tests.support import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

DIAL = """
import json, os, socket, sys, time
sys.path.insert(0, "/opt/cloister")
from channel import BINARY, BROKEN, OPENED, PING, TEXT, Channel
import attack

def text(data):
    return Channel().frame(TEXT, data.encode())

def dial(*events, wait=3.0):
    # Speak as if one were the agent; return what came back.
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(wait)
    sock.connect("/run/cloister/inner.sock")
    channel = Channel()
    sock.sendall(channel.request("/v1/control"))
    said = []
    try:
        while True:
            data = sock.recv(65536)
            if not data:
                break
            for kind, value in channel.received(data):
                if kind == OPENED:
                    for wanted in events:
                        sock.sendall(wanted)
                elif kind == TEXT:
                    said.append(value.decode())
                elif kind == BROKEN:
                    said.append("closed")
                    return said
    except OSError:
        pass
    finally:
        sock.close()
    return said
"""


async def attack(arena, code):
    return await arena.attack("from dial import *\n" + code, files={"dial.py": DIAL})


async def refusals(arena, sandbox=None):
    found = await arena.api.records(name="sandboxes:token:refuse")
    return [record for record in found if sandbox in {None, record["sandbox"]}]


async def test_an_instance_token_works_once(arena, monkeypatch):
    """Even when it is known: the platform's own copy of it is handed to the program, which presents it again."""
    tokens, make = [], controller_module.make_place

    def overheard(place, token):
        tokens.append(token)
        make(place, token)

    monkeypatch.setattr(controller_module, "make_place", overheard)
    body = arena.body(
        """
        from dial import *
        listener = socket.socket(socket.AF_UNIX)
        listener.bind("/run/app/app.sock")
        listener.listen()
        print("ready", flush=True)
        token = listener.accept()[0].recv(1000).decode()
        hello = text(json.dumps({"type": "HELLO", "token": token}))
        attack.report(first=dial(hello), second=dial(hello))
        """,
        files={"dial.py": DIAL},
    )
    sandbox = await arena.api.start(arena.attacker, "", **body)

    async def ready():
        return "ready" in await arena.api.output(arena.attacker, sandbox)

    await until(ready, 20)
    _, writer = await connect_app(arena.platform.sandbox_controller.place(sandbox["id"]))
    writer.write(tokens[0].encode())
    await writer.drain()
    writer.close()
    state, output = await arena.api.finish(arena.attacker, sandbox)
    assert state["exit_code"] == 0, (state, output)
    found = json.loads(output.strip().splitlines()[-1])
    assert found == {"first": ["closed"], "second": ["closed"]}
    assert len(await refusals(arena, sandbox["id"])) == 2


async def test_no_program_runs_before_the_token_is_spent(arena, monkeypatch):
    """However late the platform hears that the agent is ready, nothing can read the token meanwhile."""
    inner = arena.platform.inner
    hear = inner._on_message

    async def slow(sandbox, message):
        if message.get("type") == "READY":
            await asyncio.sleep(0.7)
        return await hear(sandbox, message)

    monkeypatch.setattr(inner, "_on_message", slow)
    found = await attack(
        arena,
        "try:\n    token = open('/run/cloister/token').read()\nexcept OSError:\n    token = ''\n"
        "said = dial(text(json.dumps({'type': 'HELLO', 'token': token})), wait=2) if token else []\n"
        "attack.report(token=token, said=[text[:20] for text in said])",
    )
    assert found == {"token": "", "said": []}


HELLOS = """
deep = "[" * 200_000
hellos = {
    "wrong token": [text(json.dumps({"type": "HELLO", "token": "x" * 43}))],
    "no token": [text(json.dumps({"type": "HELLO"}))],
    "token of another kind": [text(json.dumps({"type": "HELLO", "token": {"a": [1]}}))],
    "half a character": [text('{"type": "HELLO", "token": "\\\\ud800"}')],
    "access token": [text(json.dumps({"type": "HELLO", "token": open(os.environ["CLOISTER_TOKEN_FILE"]).read()}))],
    "not JSON": [text("HELLO")],
    "null": [text("null")],
    "a list": [text("[1, 2]")],
    "deep": [text(deep)],
    "bytes": [Channel().frame(BINARY, b"\\x00" * 1000)],
    "too long": [text("x" * 3_000_000)],
    "a ping only": [Channel().frame(PING, b"x")] * 1000,
    "a broken frame": [b"\\xff" * 1000],
    "an EXIT": [text(json.dumps({"type": "EXIT", "code": 0}))],
    "a STATUS": [text(json.dumps({"type": "STATUS", "level": "INFO", "text": "forged"}))],
    "no message": [],
}
for name, events in hellos.items():
    try:
        said = dial(*events, wait=1.0)
    except Exception as error:
        said = [type(error).__name__]
    attack.results[name] = said
print("still heard")
attack.report()
"""


async def test_nobody_else_can_be_the_agent(arena):
    body = arena.body("from dial import *\n" + HELLOS, files={"dial.py": DIAL})
    sandbox = await arena.api.start(arena.attacker, "", **body)
    state, output = await arena.api.finish(arena.attacker, sandbox)
    assert (state["state"], state["exit_code"]) == ("stopped", 0), (state, output)
    assert "still heard" in output
    assert "forged" not in output.replace('"forged"', "")
    found = json.loads(output.strip().splitlines()[-1])
    assert [name for name, said in found.items() if any("INIT" in text for text in said)] == []
    refused = await refusals(arena, sandbox["id"])
    assert len(refused) >= 8
    assert {record["team"] for record in refused} == {sandbox["team"]}
    await arena.healthy()


async def test_a_malformed_hello_is_refused_and_recorded_not_an_error_of_ours(arena):
    """One by one, since an exception in the platform leaves no record."""
    for name in ("half a character", "deep"):
        body = arena.body(
            "from dial import *\n" + HELLOS.replace("in hellos.items()", f"in [({name!r}, hellos[{name!r}])]"),
            files={"dial.py": DIAL},
        )
        sandbox = await arena.api.start(arena.attacker, "", **body)
        await arena.api.finish(arena.attacker, sandbox)
        assert len(await refusals(arena, sandbox["id"])) == 1, name


async def test_an_access_token_is_worth_nothing_in_another_sandbox(arena):
    ask = """
        import http.client, json, os, socket, attack
        def ask(token, body='{"sql": "select 1"}', path="/v1/query", method="POST", more={}):
            connection = http.client.HTTPConnection("sandbox", timeout=20)
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect("/run/cloister/inner.sock")
            connection.putrequest(method, path)
            if token is not None:
                connection.putheader("Authorization", b"Bearer " + token)
            connection.putheader("Content-Length", str(len(body)))
            for name, value in more.items():
                connection.putheader(name, value)
            connection.endheaders(body if isinstance(body, bytes) else body.encode())
            answer = connection.getresponse()
            return answer.status, answer.read().decode("utf-8", "replace")[:300]
        mine = open(os.environ["CLOISTER_TOKEN_FILE"], "rb").read()
    """
    state, token = await arena.run(
        "import os, time; print(open(os.environ['CLOISTER_TOKEN_FILE']).read())", arena.victim
    )
    assert state["exit_code"] == 0
    found = await arena.attack(
        ask
        + f"""
        stolen = {token.strip().encode()!r}
        many = b"[" * 100_000
        attack.report(
            mine=ask(mine, path="/v1/datasets", method="GET"), stolen=ask(stolen), nothing=ask(None),
            empty=ask(b""), odd=ask(b"\\xff\\xfe"), deep=ask(mine, many), charset=ask(mine, more={{"Content-Type": "a/b; charset=nope"}}),
            notjson=ask(mine, "x"),
        )
        """
    )
    assert found.pop("mine")[0] == 200
    statuses = {name: answer[0] for name, answer in found.items()}
    assert {name: statuses[name] for name in ("stolen", "nothing", "empty", "odd")} == dict.fromkeys(
        ("stolen", "nothing", "empty", "odd"), 403
    ), found
    assert all(400 <= status < 500 for status in statuses.values()), found
    why = [record["details"].get("why", "") for record in await refusals(arena)]
    assert sum("access token" in reason for reason in why) >= 4
