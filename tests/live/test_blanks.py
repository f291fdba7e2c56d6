"""Sandboxes that wait: taken by the team they were made for, knowing nothing before, walled like any other."""

import json
import os
import signal
from pathlib import Path

import pytest
import pytest_asyncio

from tests.live.conftest import CONFIG, live_platform
from tests.support import until

pytestmark = pytest.mark.asyncio(loop_scope="module")
SECRET = "s3cret-of-the-second-opening"
LOOK = """
import json, os, sys, cloister
told = {"path": sys.path[0], "argv": sys.argv, "name": __name__, "files": sorted(os.listdir("/opt/module")),
        "stdin": os.readlink("/proc/self/fd/0"), "cwd": os.getcwd(), "main": sys.modules["__main__"].__file__,
        "uid": os.getuid(), "secret": cloister.MODEL["key"], "module": type(cloister).__module__}
try:
    open("/opt/module/main.py", "a")
    told["written"] = True
except OSError as error:
    told["written"] = error.strerror
cloister.output(told)
import time; time.sleep(600)
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def studio(tmp_path_factory):
    async with live_platform(tmp_path_factory.mktemp("blanks"), gateway="off") as studio:
        yield studio


def blanks(studio):
    return studio.api.platform.sandbox_controller.blanks


async def waiting(studio, count=1):
    """Wait until so many agents have their interpreter ready; return their ids."""

    async def there():
        ready = {id_: blank for id_, blank in blanks(studio).ready.items() if blank.promised is None}
        here = [id_ for id_, blank in ready.items() if blank.connected.channel is not None and _interpreter(blank.pid)]
        return here if len(here) == count == len(ready) else None

    return await until(there, 30)


def _interpreter(agent):
    """The process that waits beside an agent."""
    children = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
    return next((int(child) for child in children if b"waiting" in Path(f"/proc/{child}/cmdline").read_bytes()), None)


async def waiting_for(studio, person):
    """The blanks of somebody's team whose interpreter waits."""
    uid = studio.api.platform.sandboxes.uid_of(int(person.team.removeprefix("t-")))
    return [b for b in blanks(studio).ready.values() if b.kind.uid == uid and _interpreter(b.pid)]


async def opened(studio, person, board):
    async with studio.look(person, board) as viewer:
        said = await viewer.output()
        sandboxes = (await person.get("/spaces/cup/sandboxes?live=true")).json()["items"]
    await person.delete(f"/spaces/cup/dashboards/{board['id']}")
    return said["model"], sandboxes[0]["id"]


async def test_what_a_team_starts_again_runs_in_one_that_waited_and_knew_nothing(studio):
    ada = await studio.person("ada")
    await studio.publish(ada, "look", {"main.py": LOOK, "helper.py": "", "config.json": CONFIG})
    use = {"id": "i", "module": "look", "values": {"key": "first", "place": "x"}}
    cold, _ = await opened(studio, ada, await studio.dashboard(ada, [use]))
    [ready] = await waiting(studio)
    blank = blanks(studio).ready[ready]
    root = Path(f"/proc/{blank.pid}/root")
    assert list((root / "opt/module").iterdir()) == []
    assert not (root / "dev/shm/cloister-configuration").exists()
    assert not (root / "dev/shm/cloister-token").exists()
    assert b"first" not in Path(f"/proc/{blank.pid}/environ").read_bytes()
    warm, sandbox = await opened(studio, ada, await studio.dashboard(ada, [{**use, "values": {"key": SECRET}}]))
    assert sandbox == ready, "it is the one that waited"
    assert warm == {**cold, "secret": SECRET}, "and a program cannot tell"
    assert warm["written"] is not True
    assert warm["name"] == "__main__"


async def test_one_team_s_never_runs_another_team_s_program(studio):
    ada, eve = await studio.person("ada2"), await studio.person("eve")
    await studio.publish(ada, "look2", {"main.py": LOOK, "config.json": CONFIG})
    use = {"id": "i", "module": "look2", "values": {"key": "k"}}
    await opened(studio, ada, await studio.dashboard(ada, [use]))
    before = set(blanks(studio).ready)
    await until(lambda: _more(studio, before), 30)
    mine = set(blanks(studio).ready) - before
    _, sandbox = await opened(studio, eve, await studio.dashboard(eve, [use]))
    assert sandbox not in mine | before
    users = {blank.kind.uid for blank in blanks(studio).ready.values()}
    teams = {studio.api.platform.sandboxes.uid_of(int(p.team.removeprefix("t-"))) for p in (ada, eve)}
    assert len(teams) == 2
    assert users >= {blanks(studio).ready[id_].kind.uid for id_ in mine}


async def _more(studio, before):
    return set(blanks(studio).ready) - before


async def test_one_that_died_while_it_waited_is_not_missed(studio):
    bob = await studio.person("bob")
    await studio.publish(bob, "look3", {"main.py": LOOK, "config.json": CONFIG})
    use = {"id": "i", "module": "look3", "values": {"key": "k"}}
    for victim in ("the agent", "the interpreter"):
        await opened(studio, bob, await studio.dashboard(bob, [use]))
        blank = (await until(lambda: waiting_for(studio, bob), 30))[0]
        os.kill(blank.pid if victim == "the agent" else _interpreter(blank.pid), signal.SIGKILL)
        model, _ = await opened(studio, bob, await studio.dashboard(bob, [use]))
        assert model["secret"] == "k", victim


async def test_a_fault_in_a_program_reads_as_if_it_had_been_started_from_its_file(studio):
    cleo = await studio.person("cleo")
    await studio.publish(
        cleo, "bad", {"main.py": "import cloister\n\ndef f():\n    raise ValueError('no rain')\n\nf()\n"}
    )
    board = await studio.dashboard(cleo, [{"id": "i", "module": "bad"}])
    texts = []
    for _ in range(2):
        async with studio.look(cleo, board) as viewer:
            said = await viewer.hear(lambda m: m.get("state") == "red")
            assert "exit code 1" in said["reason"]
            texts.append("".join(m["text"] for m in viewer.heard if m.get("level") == "ERROR"))
        board = await studio.dashboard(cleo, [{"id": "i", "module": "bad"}])
        if len(texts) == 1:
            await until(lambda: waiting_for(studio, cleo), 30)
    assert texts[0].startswith("Traceback")
    assert "waiting" not in texts[1]
    assert texts[0] == texts[1]


async def test_none_is_kept_for_long_nor_left_behind(tmp_path):
    async with live_platform(tmp_path, gateway="off", blank_seconds=4.0) as studio:
        dora = await studio.person("dora")
        node = "const c = require('cloister');\nc.output([c.MODEL.place, require.main === module, process.argv[1]]);\nsetInterval(() => {}, 1000);\n"
        await studio.publish(dora, "node-look", {"index.js": node, "package.json": {}, "config.json": CONFIG})
        use = {"id": "i", "module": "node-look", "values": {"place": "Faro"}}
        cold, _ = await opened(studio, dora, await studio.dashboard(dora, [use]))
        [ready] = await waiting(studio)
        warm, sandbox = await opened(studio, dora, await studio.dashboard(dora, [use]))
        assert sandbox == ready
        assert json.dumps(warm) == json.dumps(cold) == '["Faro", true, "/opt/module/index.js"]'
        await waiting(studio, 2)

        async def none():
            return not blanks(studio).ready

        await until(none, 30)
        await opened(studio, dora, await studio.dashboard(dora, [use]))
        [ready] = await waiting(studio)
        pid = blanks(studio).ready[ready].pid
    assert not Path(f"/proc/{pid}").exists(), "it ends with the platform"
