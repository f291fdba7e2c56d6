"""Cold start of a sandbox: from a member's request to the first line of their program, and where the time goes."""

import asyncio
import json
import statistics
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import aiohttp
from tests.chaos.server import Server
from tests.support import blueprint

from benchmarks.table import Row, folder, middle, percentile, say
from cloister.platform import Settings
from cloister.sandboxes.backends.oci.runtime_privileged import HIDDEN

STARTS = 20
FIRST_LINE = "import time, sys; print(time.time_ns(), flush=True); time.sleep(0.25)"
STAGES = ("request → row (API)", "row → bundle (controller)", "bundle → runtime done", "→ agent ready", "→ first line")


async def register(http: aiohttp.ClientSession, api: str) -> None:
    async with http.post(f"{api}/auth/demo", json={"email": "ada@test.example", "name": "Ada"}) as answer:
        assert answer.status == 200
    form = await (await http.get(f"{api}/spaces/course/registration")).json()
    body = {"signatures": {a["name"]: a["hash"] for a in form["agreements"]}}
    async with http.post(f"{api}/spaces/course/enrolment", json=body) as answer:
        assert answer.status == 202
    while (await (await http.get(f"{api}/spaces/course/enrolment")).json())["state"] != "active":
        await asyncio.sleep(0.05)


async def run(http: aiohttp.ClientSession, api: str, code: str) -> dict[str, str]:
    body = {"command": ["python3", "-S", "-c", code]}
    while True:
        async with http.post(f"{api}/spaces/course/sandboxes", json=body) as answer:
            found: dict[str, str] = await answer.json()
        if answer.status == 202:
            return found
        assert found["code"] in {"sandbox.environment_not_ready", "sandbox.too_many"}, found
        await asyncio.sleep(0.1)


def moment(path: Path) -> float:
    return path.stat().st_mtime_ns / 1e6


async def start(http: aiohttp.ClientSession, server: Server) -> tuple[float, float, list[float]]:
    """One start; milliseconds to the first line, to the line in the client's hands, and of each stage."""
    api = f"{server.url}/api/v1"
    asked = time.time_ns() / 1e6
    sandbox = await run(http, api, FIRST_LINE)
    output = server.state / "run" / "sandboxes" / sandbox["id"] / "output" / "1.jsonl"
    while not output.exists() or not output.stat().st_size:
        await asyncio.sleep(0.002)
    written = time.time_ns() / 1e6
    bundle = server.state / "run" / "oci" / "bundles" / sandbox["id"]
    line = int(json.loads(output.read_text().splitlines()[0])["text"]) / 1e6
    created = datetime.fromisoformat(sandbox["created_at"]).timestamp() * 1000
    marks = [
        asked, created, moment(bundle / "config.json"), moment(bundle / "pid"), moment(output.parents[1] / "sockets"), line,
    ]  # fmt: skip
    while (await (await http.get(f"{api}/spaces/course/sandboxes/{sandbox['id']}")).json())["state"] != "stopped":
        await asyncio.sleep(0.03)
    return line - asked, written - asked, [after - before for before, after in zip(marks, marks[1:], strict=False)]


def alone(server: Server, id_: str, *, seccomp: bool) -> list[float]:
    """The runtime without us: the same bundle, with the program in the agent's place."""
    bundle = server.state / "run" / "oci" / "bundles" / id_
    config = json.loads((bundle / "config.json").read_text())
    config["process"]["args"] = [config["process"]["args"][0], "-S", "-c", "print(1)"]
    if not seccomp:
        del config["linux"]["seccomp"]
    taken = []
    for number in range(STARTS):
        name = f"bench-{id_}-{number}"
        config["linux"]["cgroupsPath"] = f"/cloister/{name}"
        copy = server.state / "alone"
        copy.mkdir(exist_ok=True)
        (copy / "config.json").write_text(json.dumps(config))
        base = ["crun", "--root", str(server.state / "alone-state"), "--cgroup-manager=cgroupfs"]
        command = [*base, "run", "--bundle", str(copy), name]
        if Path("/sys/fs/cgroup/unified/cgroup.procs").exists():
            command = [*HIDDEN, *command]
        taken.append(first_line(command))
    return taken


def first_line(command: list[str]) -> float:
    begun = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        taken = (time.perf_counter() - begun) * 1000
        assert line == b"1\n", process.stderr.read()
    return taken


async def measure() -> list[Row]:
    with folder() as place:
        server = Server(place / "s")
        server.declare(place, blueprint(policies={"sandboxes_per_team": 100}))
        server.start()
        try:
            return await starts(server)
        finally:
            server.stop()
            server.run("space", "apply", str(place / "space.json"))  # ends what still runs


async def starts(server: Server) -> list[Row]:
    assert Settings.model_fields["oci_runtime"].default == "crun"
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        await register(http, f"{server.url}/api/v1")
        await start(http, server)
        found = []
        for number in range(STARTS):
            say(f"start {number + 1} of {STARTS}")
            found.append(await start(http, server))
        long = await run(http, f"{server.url}/api/v1", "import time; time.sleep(50)")
        while not (server.state / "run" / "oci" / "bundles" / long["id"] / "pid").exists():
            await asyncio.sleep(0.05)
    say("the runtime alone")
    runtime, bare = [await asyncio.to_thread(alone, server, long["id"], seccomp=flag) for flag in (True, False)]
    plain = [first_line([sys.executable, "-S", "-c", "print(1)"]) for _ in range(STARTS)]
    lines, seen = [f[0] for f in found], [f[1] for f in found]
    peer = middle(runtime)
    rows = [
        Row("request → first line, p50", middle(lines), "ms", "crun alone:", peer),
        Row("request → first line, p95", percentile(lines, 0.95), "ms", "crun alone, p95:", percentile(runtime, 0.95)),
        Row("request → line kept by the platform, p50", middle(seen), "ms", "python3 -S -c alone:", middle(plain)),
    ]  # fmt: skip
    for number, stage in enumerate(STAGES):
        rows.append(Row(f"  {stage}", statistics.median(f[2][number] for f in found), "ms"))
    rows.append(
        Row("  of the runtime: compiling seccomp", peer - middle(bare), "ms", "crun without seccomp:", middle(bare))
    )
    return rows
