"""The command line beside a running server: what operators and members type, and what they read."""

import json
import os
import re
import time

import httpx2
import pyarrow.ipc
import pyarrow.parquet
import pytest
import yaml
from typer.testing import CliRunner

from cloister.cli.main import assemble
from cloister.cli.output import Failure
from cloister.core.errors import CloisterError
from tests.chaos.server import Server
from tests.sandbox.governed import short_folder
from tests.sandbox.test_datasets import xlsx
from tests.support import csv_file

DECLARED = {
    "slug": "lab", "kind": "study", "title": "A lab",
    "roles": {"steward": ["steward@test.example"]},
    "environments": [{"name": "python-basic", "packages": ["pyarrow>=20"]}],
    "sizes": {"small": {"cpus": 1.0, "memory": "256M", "disk": "64M", "scratch": "16M", "processes": 64, "seconds": 60}},
    "datasets": [{"name": "rain", "title": "Rain", "license": "CC0-1.0", "tables": [{"name": "rain", "source": "rain.csv"}]}],
    "grants": [{"to": "everybody", "dataset": "rain", "allow": ["query", "mount"]}],
}  # fmt: skip


class Terminal:
    """Somebody's terminal on the server's machine, or (with a token) elsewhere."""

    def __init__(self, server: Server, folder) -> None:
        self.server, self.folder = server, folder
        self.token: str | None = None

    def types(self, *words: str) -> tuple[int, str, str]:
        """Type a command; return its exit code and what it printed."""
        environ = {name: value for name, value in self.server.environ.items() if name.startswith("CLOISTER_")}
        if self.token is not None:
            environ = {"CLOISTER_URL": self.server.url, "CLOISTER_TOKEN": self.token}
        before = dict(os.environ)
        try:
            for name in [name for name in os.environ if name.startswith("CLOISTER_")]:
                del os.environ[name]
            result = CliRunner().invoke(assemble(words), words, env=environ)
        finally:
            os.environ.clear()
            os.environ.update(before)
        if isinstance(result.exception, Failure | CloisterError):  # what `main` makes a sentence of
            return 1, result.stdout, str(result.exception)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        return result.exit_code, result.stdout, result.stderr

    def reads(self, *words: str) -> str:
        code, out, err = self.types(*words)
        assert code == 0, f"cloister {' '.join(words)}: {out}{err}"
        return out


@pytest.fixture(scope="module")
def desk():
    with short_folder() as folder:
        csv_file(folder, "rain.csv", "day,mm\n1,2.5\n2,0\n3,7\n")
        (folder / "space.yaml").write_text(yaml.safe_dump(DECLARED))
        server = Server(folder / "state", query_memory_megabytes=256)
        terminal = Terminal(server, folder)
        try:
            yield terminal
        finally:
            server.stop()
            terminal.types("space", "end", "lab", "--confirm", "lab")  # for when a test before the last one failed


@pytest.fixture(scope="module")
def declared(desk):
    """A server that runs, with the space; and a member's token."""
    file = str(desk.folder / "space.yaml")
    assert "+ study lab: A lab" in desk.reads("space", "plan", file)
    assert "is up to date" in desk.reads("db", "upgrade")
    said = desk.reads("space", "apply", file)
    assert "space lab: declared" in said
    assert "dataset rain: version 1 loading" in said
    desk.server.start()
    return desk


@pytest.fixture(scope="module")
def member(declared):
    with httpx2.Client(base_url=f"{declared.server.url}/api/v1") as ana:
        ana.post("/auth/demo", json={"email": "ana@test.example", "name": "ana"})
        assert ana.post("/spaces/lab/enrolment", json={"team": "gauge"}).status_code == 202
        while ana.get("/spaces/lab/enrolment").json()["state"] != "active":
            time.sleep(0.05)
        scopes = ["query.*", "sandbox.*", "dataset.*", "space.*", "team.*"]
        made = ana.post("/me/tokens", json={"name": "cli", "scopes": scopes, "days": 1})
        assert made.status_code == 201, made.text
    elsewhere = Terminal(declared.server, declared.folder)
    elsewhere.token = made.json()["token"]
    return elsewhere


def test_the_machine_is_looked_at_before_anything_runs(desk):
    assert re.search(r"limit:disk\s+enforced", desk.reads("doctor"))
    settings = desk.reads("settings")
    assert re.search(r"listen_port\s+\d+\s+environment", settings)
    assert "0.1.0" in desk.reads("version")


def test_a_declaration_is_planned_applied_and_comes_back_as_it_was(declared):
    file = declared.folder / "space.yaml"
    assert declared.reads("space", "plan", str(file)).strip() == "Nothing to change."
    assert "space lab: unchanged" in declared.reads("space", "apply", str(file))
    exported = yaml.safe_load(declared.reads("space", "export", "lab"))
    assert exported["grants"] == DECLARED["grants"]
    assert exported["datasets"][0]["title"] == "Rain"
    changed = declared.folder / "changed.yaml"
    changed.write_text(
        yaml.safe_dump({**DECLARED, "grants": [{"to": "everybody", "dataset": "rain", "allow": ["query"]}]})
    )
    plan = declared.reads("space", "plan", str(changed))
    assert "+ grant of rain to everybody: query" in plan
    assert "- grant of rain to everybody: mount, query" in plan
    (declared.folder / "wrong.yaml").write_text("slug: lab\nkind: study\ntitel: x\n")
    code, _, said = declared.types("space", "plan", str(declared.folder / "wrong.yaml"))
    assert (code, "wrong.yaml:3: “titel” is not known here. Did you mean “title”?" in said) == (1, True), said
    assert "what this version expects" in declared.reads("db", "check")
    assert json.loads(declared.reads("space", "schema"))["title"] == "space.yaml"


def test_data_are_loaded_listed_and_asked_in_every_form(declared, member, tmp_path):
    assert re.search(r"rain\s+Rain\s+CC0-1.0", member.reads("dataset", "ls", "-s", "lab"))
    book = tmp_path / "book.xlsx"
    book.write_bytes(xlsx(["a"], [1], Second=(["b"], [7])))
    said = declared.reads("dataset", "load", "extra", str(book), "-s", "lab", "--sheet", "Second")
    assert said.strip() == "extra: version 1 is ready"
    assert "there is no such file" in declared.types("dataset", "load", "extra", "gone.csv", "-s", "lab")[2]
    ask = "select day, mm from rain where mm > ? order by day"
    assert member.reads("sql", ask, "-s", "lab", "-p", "1").splitlines()[1:] == ["1    2.5", "3    7.0"]
    assert member.reads("sql", ask, "-s", "lab", "-p", "1", "-f", "csv").splitlines() == ['"day","mm"', "1,2.5", "3,7"]
    assert json.loads(member.reads("sql", ask, "-s", "lab", "-p", "1", "-f", "json"))["rows"] == [[1, 2.5], [3, 7.0]]
    code, _, said = member.types("sql", "select * from extra", "-s", "lab")
    assert (code, "[query." in said) == (1, True), said
    assert "--format is one of" in member.types("sql", "select 1", "-s", "lab", "-f", "xml")[2]


def test_a_command_runs_is_followed_watched_and_stopped(declared, member):
    code, out, err = member.types(
        "sandbox", "run", "-s", "lab", "--", "python3", "-c", "import sys; print('hello'); sys.exit(3)"
    )
    assert (code, out) == (3, "hello\n"), err
    started = member.reads(
        "sandbox",
        "run",
        "-s",
        "lab",
        "-d",
        "--",
        "python3",
        "-c",
        "import time; print('on', flush=True); time.sleep(60)",
    ).strip()
    assert re.search(
        rf"{started}\s+t-\d+\s+p-\d+\s+run\s+(requested|starting|running)", member.reads("sandbox", "ls", "-s", "lab")
    )
    assert started in declared.reads("sandbox", "ls", "-s", "lab"), "operators see all"
    while not re.search(rf"{started}\s.* running", member.reads("sandbox", "ls", "-s", "lab")):
        time.sleep(0.05)
    assert re.search(rf"{started}\s.*\d+M\s+\d", member.reads("sandbox", "stats", "-s", "lab"))
    assert member.reads("sandbox", "stop", started, "-s", "lab").strip() == f"{started}: stopped"
    assert member.reads("sandbox", "logs", started, "-s", "lab", "-f") == "on\n"
    assert started not in member.reads("sandbox", "ls", "-s", "lab")
    assert started in member.reads("sandbox", "ls", "-s", "lab", "--all")


def test_the_log_is_searched_exported_and_verified(declared, member, tmp_path):
    found = declared.reads("audit", "search", "--name", "query:*", "--space", "lab")
    assert "select day, mm from rain" in found
    asked = declared.reads("audit", "search", "--dataset", "rain", "--name", "query:*").splitlines()
    assert asked == [line for line in found.splitlines() if "rain.rain" in line]
    assert len(declared.reads("audit", "tail", "-n", "3").splitlines()) == 3
    assert "is not of the form p-000123" in declared.types("audit", "search", "--person", "ana")[2]
    lines, table = tmp_path / "log.jsonl", tmp_path / "log.parquet"
    declared.reads("audit", "export", str(lines), "--space", "lab")
    declared.reads("audit", "export", str(table), "--space", "lab")
    names = [json.loads(line)["name"] for line in lines.read_text().splitlines()]
    assert pyarrow.parquet.read_table(table)["name"].to_pylist()[: len(names)] == names
    assert "The log is sound" in declared.reads("audit", "verify")


def test_a_wrong_token_and_a_server_that_is_away_are_said(member, desk):
    stranger = Terminal(desk.server, desk.folder)
    stranger.token = "clo_wrong"
    code, _, said = stranger.types("dataset", "ls", "-s", "lab")
    assert (code, "[unauthenticated]" in said) == (1, True), said


def test_environments_and_the_gateways_configuration_are_shown(declared):
    assert "python-basic" in declared.reads("environment", "ls") or "packages" in declared.reads("environment", "ls")
    assert "reverse_proxy" in declared.reads("gateway", "config")


def test_a_space_ends_with_a_report_of_what_is_gone(declared):
    assert "--confirm must be" in declared.types("space", "end", "lab", "--confirm", "lob")[2]
    said = declared.reads("space", "end", "lab", "--confirm", "lab")
    assert re.search(r"sandboxes", said)
    assert re.search(r"volumes", said)
    assert "There is no such space" in declared.types("space", "end", "lob", "--confirm", "lob")[2]
