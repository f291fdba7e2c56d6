"""The demo's check: the main job, played over HTTP without a browser, told with figures."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import httpx2
import typer

from cloister.audit import Filter, Name, verify
from cloister.audit import search as search_log
from cloister.bootstrap import Platform
from cloister.cli.story_dashboard import show
from cloister.cli.story_steps import check, expect
from cloister.cli.story_workspace import NOTEBOOK, Visitor
from cloister.core.principal import EVERYTHING

COURSE = "clinical-course"
TEAM_CODE = """
import cloister
table = cloister.sql(
    "select treat = 0 as alone, count(*) as patients, round(avg(cd420 - cd40), 1) as change "
    "from actg175 group by alone order by alone"
)
for row in table.to_pylist():
    print("zidovudine alone:" if row["alone"] else "other treatments:", row["patients"], "patients, CD4 change", row["change"])
"""
EXPORT_CODE = """
import cloister
from pyarrow import csv
csv.write_csv(cloister.sql("select treat, count(*) as patients from actg175 group by treat"), "table1.csv")
print(cloister.export("table1.csv", why="table 1 of our paper")["id"])
"""
ESCAPE_CODE = """
import ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True)
tried = {}
def attempt(name, action):
    try:
        action()
        tried[name] = "WORKED"
    except OSError as error:
        tried[name] = os.strerror(error.errno or 0) or str(error)
def call(name, *arguments):
    if libc[name](*arguments) != 0:
        raise OSError(ctypes.get_errno(), "")
attempt("read /etc/shadow", lambda: open("/etc/shadow").read())
attempt("write /usr", lambda: open("/usr/escape", "w"))
attempt("mount", lambda: call("mount", b"none", b"/tmp", b"tmpfs", 0, None))
attempt("new user namespace", lambda: call("unshare", 0x10000000))
attempt("connect to the cloud's metadata", lambda: socket.create_connection(("169.254.169.254", 80), 2))
attempt("connect to the internet", lambda: socket.create_connection(("1.1.1.1", 443), 2))
attempt("raw socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
for name, outcome in tried.items():
    print(f"{name}: {outcome}")
raise SystemExit(any(outcome == "WORKED" for outcome in tried.values()))
"""


@dataclass
class Story:
    """What happens, step by step."""

    platform: Platform
    url: str
    station: int
    """The port of the demo's file server."""
    told: int = 0
    failed: list[str] = field(default_factory=list)
    people: dict[str, httpx2.AsyncClient] = field(default_factory=dict)

    async def step(self, title: str, action: Callable[[], Awaitable[str]]) -> None:
        begun = perf_counter()
        self.told += 1
        try:
            result = await action()
            mark = "ok"
        except (AssertionError, httpx2.HTTPError, KeyError) as error:
            result, mark = f"{type(error).__name__}: {error}", "FAILED"
            self.failed.append(title)
        typer.echo(f"[{mark:>6}] {title} ({(perf_counter() - begun) * 1000:.0f} ms)")
        for line in result.splitlines():
            typer.echo(f"           {line}")

    async def sign_in(self, name: str, domain: str = "story.example") -> httpx2.AsyncClient:
        http = httpx2.AsyncClient(base_url=f"{self.url}/api/v1", timeout=60)
        response = await http.post("/auth/demo", json={"email": f"{name}@{domain}", "name": name.title()})
        expect(response, 200)
        self.people[name] = http
        return http

    # -- the steps

    async def register_three(self) -> str:
        names = ["ada", "florence", "john"]
        await asyncio.gather(*(self.sign_in(name) for name in names))
        form = expect(await self.people["ada"].get(f"/spaces/{COURSE}/registration"), 200)
        agreement = form["agreements"][0]
        times = await asyncio.gather(*(self._register(name, {agreement["name"]: agreement["hash"]}) for name in names))
        numbers = [expect(await self.people[name].get("/me"), 200)["number"] for name in names]
        teams = [expect(await self.people[name].get(f"/spaces/{COURSE}/enrolment"), 200)["team"] for name in names]
        check(len(set(numbers)) == 3 and len(set(teams)) == 3, f"three people, but {numbers} in {teams}")
        return (
            f"numbers {', '.join(numbers)}, teams {', '.join(teams)}: three people, three teams\n"
            f"signed “{agreement['title']}” {agreement['hash'][:12]}…; submit to admitted: median {median(times):.0f} ms"
        )

    async def _register(self, name: str, signatures: dict[str, str]) -> float:
        http = self.people[name]
        begun = perf_counter()
        body = {"answers": {"country": "PT", "background": "clinician"}, "signatures": signatures}
        state = expect(await http.post(f"/spaces/{COURSE}/enrolment", json=body), 202)
        while state["state"] != "active":
            check(perf_counter() - begun < 10, f"{name} waits for {state['waiting_for']}")
            await asyncio.sleep(0.01)
            state = expect(await http.get(f"/spaces/{COURSE}/enrolment"), 200)
        return (perf_counter() - begun) * 1000

    async def refuse_unsigned(self) -> str:
        http = await self.sign_in("mallory")
        body = {"answers": {"country": "FR", "background": "other"}, "signatures": {}}
        expect(await http.post(f"/spaces/{COURSE}/enrolment", json=body), 202)
        response = await http.post(f"/spaces/{COURSE}/query", json={"sql": "select * from actg175"})
        problem = expect(response, 403)
        check(problem["code"] == "agreement.unsigned", str(problem))
        return f"403 {problem['code']}: {problem['detail']}"

    async def ask_sql(self) -> str:
        http = self.people["ada"]
        sql = "select count(*) as patients, round(avg(age), 1) as mean_age, sum(cens) as events from actg175"
        lines, last = [], None
        for label in ("a cold worker", "a warm worker", "the cache"):
            begun = perf_counter()
            statement = sql if label != "a warm worker" else sql + " "
            response = await http.post(
                f"/spaces/{COURSE}/query", json={"sql": statement}, headers={"Accept": "application/json"}
            )
            answer = expect(response, 200)
            lines.append(
                f"from {label}: {(perf_counter() - begun) * 1000:.1f} ms, cached: {response.headers['cloister-cached']}"
            )
            cached = response.headers["cloister-cached"]
            check((cached == "yes") == (label == "the cache"), f"{label}: cached {cached}")
            if label == "a warm worker":
                await http.post(f"/spaces/{COURSE}/query", json={"sql": sql})
            last = dict(zip((c["name"] for c in answer["columns"]), answer["rows"][0], strict=True))
        check(last is not None and last["patients"] == 2139, str(last))
        return f"{last}\n" + "\n".join(lines)

    async def narrowed(self) -> str:
        http = self.people["ada"]
        response = await http.post(f"/spaces/{COURSE}/query", json={"sql": "describe kidney_transplant"})
        columns = [row[0] for row in expect(response, 200)["rows"]]
        check(columns == ["time", "death", "age"], str(columns))
        answer = expect(
            await http.post(
                f"/spaces/{COURSE}/query", json={"sql": "select min(age), count(*) from kidney_transplant"}
            ),
            200,
        )
        check(answer["rows"][0][0] >= 18, str(answer))
        refused = expect(
            await http.post(f"/spaces/{COURSE}/query", json={"sql": "select * from read_csv('/etc/passwd')"}), 403
        )
        return (
            f"the grant shows {', '.join(columns)} of adults only: youngest {answer['rows'][0][0]}\n"
            f"read_csv('/etc/passwd'): 403 {refused['code']}"
        )

    async def run_team_code(self) -> str:
        state, text = await self._run("florence", TEAM_CODE)
        check(
            state["exit_code"] == 0 and "2139" not in text and "patients" in text,
            f"{state['state']} {state['reason']} {text}",
        )
        return text

    async def open_workspace(self) -> str:
        http = self.people["ada"]
        team = expect(await http.get(f"/spaces/{COURSE}/enrolment"), 200)["team"]
        path = f"/spaces/{COURSE}/teams/{team}/workspace"
        begun = perf_counter()
        state = expect(await http.post(f"{path}/start"), 202)
        while state["state"] != "running":
            check(state["state"] != "failed" and perf_counter() - begun < 60, f"{state['state']}: {state['reason']}")
            await asyncio.sleep(0.02)
            state = expect(await http.get(path), 200)
        started = (perf_counter() - begun) * 1000
        visitor = Visitor(self.url, state["url"].partition("//")[2])
        try:
            outside, _, _ = await visitor.get("/api/status")
            check(outside == 401, f"somebody without a sign-in got {outside}")
            await visitor.enter(http)
            printed, times = await visitor.run_notebook(NOTEBOOK)
        finally:
            await visitor.close()
        check("patients" in printed, printed)
        await self.platform.recorder.flush()
        async with self.platform.database.read() as uow:
            page = await search_log(uow, Filter(space=COURSE, name=Name.CODE_RUN.value), None, 10)
        me = int(expect(await http.get("/me"), 200)["number"][2:])
        check([row.person for row in page.items] == [me] * len(NOTEBOOK), "the cells are not on the record as hers")
        return (
            f"{state['url']}: JupyterLab serves {started:.0f} ms after it was asked for; without a sign-in: 401\n"
            f"{printed}\n{len(NOTEBOOK)} cells in {', '.join(f'{t:.0f}' for t in times)} ms, each on the record as Ada's"
        )

    async def show_dashboard(self) -> str:
        ada = self.people["ada"]
        team = expect(await ada.get(f"/spaces/{COURSE}/enrolment"), 200)["team"]
        return await show(self.url, ada, COURSE, team, self.station)

    async def export(self) -> str:
        state, said = await self._run("florence", EXPORT_CODE, volume="home")
        check(state["exit_code"] == 0, said)
        path = f"/spaces/{COURSE}/exports/{said}"
        florence, steward = self.people["florence"], await self.sign_in("steward", "demo.example")
        early = expect(await florence.get(f"{path}/files/0"), 403)
        looked = await steward.get(f"{path}/files/0")
        check(looked.text.startswith('"treat","patients"'), looked.text)
        expect(await steward.post(f"{path}/decision", json={"approve": True, "reason": "counts only"}), 200)
        taken = await florence.get(f"{path}/files/0")
        check(taken.content == looked.content, taken.text)
        (file,) = expect(await florence.get(path), 200)["files"]
        return (
            f"before a steward looked: 403 {early['code']}\n"
            f"approved and downloaded: {file['path']}, {file['size']} bytes, SHA-256 {file['sha256'][:12]}…"
        )

    async def refuse_escape(self) -> str:
        state, text = await self._run("john", ESCAPE_CODE)
        check(state["exit_code"] == 0 and "WORKED" not in text and "raw socket" in text, f"{state['reason']} {text}")
        check(not Path("/usr/escape").exists(), "something was written to /usr")
        return text

    async def _run(self, name: str, code: str, **more: str) -> tuple[dict[str, Any], str]:
        http = self.people[name]
        body = {"command": ["python3", "main.py"], "files": {"main.py": code}, **more}
        sandbox = expect(await http.post(f"/spaces/{COURSE}/sandboxes", json=body), 202)
        path = f"/spaces/{COURSE}/sandboxes/{sandbox['id']}"
        begun = perf_counter()
        while (state := expect(await http.get(path), 200))["state"] not in {"stopped", "failed"}:
            check(perf_counter() - begun < 60, f"still {state['state']}")
            await asyncio.sleep(0.02)
        output = await http.get(f"{path}/output")
        text = "".join(httpx2.Response(200, content=line).json()["text"] for line in output.text.splitlines())
        return state, text.strip()

    async def read_log(self) -> str:
        number = int(expect(await self.people["florence"].get("/me"), 200)["number"][2:])
        await self.platform.recorder.flush()
        async with self.platform.database.read() as uow:
            page = await search_log(uow, Filter(person=number, space=COURSE), None, 100)
        names = [row.name for row in reversed(page.items)]
        for wanted in (
            "spaces:agreement:sign",
            "spaces:enrolment:admit",
            "sandboxes:sandbox:start",
            "query:statement:ask",
        ):
            check(wanted in names, f"{wanted} is not in {names}")
        return "florence's story: " + ", ".join(dict.fromkeys(names))

    async def verify_log(self) -> str:
        await self.platform.recorder.flush()
        await self.platform.checkpoints.sign_now()
        key = self.platform.box.signing_key("audit checkpoints").public_key().public_bytes_raw()
        begun = perf_counter()
        verdict = await verify(self.platform.database, key)
        check(verdict.sound, verdict.fault or "")
        return f"{verdict.records} records and {verdict.checkpoints} signed checkpoints fit, in {(perf_counter() - begun) * 1000:.0f} ms"

    async def stop_cleanly(self) -> str:
        for http in self.people.values():
            await http.aclose()
        await self.platform.sandbox_controller.shut_down(stop_sandboxes=True)
        left = await self.platform.backend.known()
        check(not left, f"sandboxes left: {left}")
        run = str(self.platform.settings.run_directory)
        mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines() if run in line]
        check(not mounts, f"mounts left: {mounts}")
        async with self.platform.database.read() as uow:
            rows = (await self.platform.sandboxes.page(uow, EVERYTHING, None, 500, live=False)).items
        running = await asyncio.to_thread(_processes, {row.id for row in rows})
        check(not running, f"processes left: {running}")
        return "no sandbox, no mount and no process is left"


def _processes(sandboxes: set[str]) -> list[str]:
    """The processes that are in the control groups of some sandboxes."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cgroup"):
        try:
            groups = file.read_text()
        except OSError:
            continue  # it has ended
        if any(line.rpartition("/")[2] in sandboxes for line in groups.splitlines()):
            found.append(file.parent.name)
    return found


async def tell(platform: Platform, url: str, station: int) -> list[str]:
    """Play all steps; return the titles of those that failed."""
    story = Story(platform, url, station)
    typer.echo("")
    await story.step("three people register at once, sign, and are admitted", story.register_three)
    await story.step("somebody who has not signed is refused", story.refuse_unsigned)
    await story.step("governed SQL on a real trial", story.ask_sql)
    await story.step("a grant that narrows columns and rows", story.narrowed)
    await story.step("a team's code queries the data in a sandbox", story.run_team_code)
    await story.step("a team's workspace opens, and a notebook runs through the gateway", story.open_workspace)
    await story.step("a live dashboard of governed data and a station's files, and its share", story.show_dashboard)
    await story.step("results leave through the airlock once a steward has looked at them", story.export)
    await story.step("code that tries to get out is refused", story.refuse_escape)
    await story.step("everything is on the record", story.read_log)
    await story.step("the audit chain verifies", story.verify_log)
    await story.step("it stops cleanly", story.stop_cleanly)
    typer.echo(f"\n{story.told - len(story.failed)} of {story.told} steps went well.")
    return story.failed
