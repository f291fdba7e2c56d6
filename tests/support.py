"""What tests share: platforms on any database, a served API, people who register, code that runs in sandboxes."""

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import textwrap
import uuid
import warnings
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx2
import yaml

from cloister.audit import seal
from cloister.blueprint import Blueprint
from cloister.bootstrap import Platform, upgrade_schema
from cloister.cli.serving import http_server
from cloister.core.principal import SYSTEM
from cloister.platform import Database, Settings
from cloister.platform.settings import load
from cloister.query import WORKER_PACKAGES
from cloister.sandboxes import FINAL
from cloister.sandboxes.backends.fake import FakeBackend
from cloister.spaces.declaration import KERNEL

ROOT = Path(__file__).parent.parent
ENVIRONMENTS = ROOT / ".cache" / "environments"
ARROW = ["pyarrow>=20"]
LAB = [*ARROW, *KERNEL]


def free_port() -> int:
    """A port to listen on, given to nobody else: below those that connections get, and of this test process's own."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    while True:
        port = secrets.choice(range(12_000 + 4_000 * (worker % 4), 16_000 + 4_000 * (worker % 4)))
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port


_given: set[int] = set()


def make_settings(state: Path, **overrides) -> Settings:
    port = free_port()
    values = {
        "mode": "demo", "state_directory": state, "listen_port": port, "public_url": f"http://127.0.0.1:{port}",
        "environment_directory": ENVIRONMENTS, "log_level": "error", "sign_ins_per_minute": 100_000,
        "registrations_per_minute": 100_000, "operators": ["operator@test.example"], "query_memory_megabytes": 256,
        "query_cpus": 1.0, "shipped_modules": False, "build_cpus": 2.0,
    }  # fmt: skip
    return load(**{**values, **overrides})


class Postgres:
    """A PostgreSQL server of our own, for one test session."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="cloister-pg-"))
        self.folder.chmod(0o777)
        self._schema: str | None = None
        self.port = free_port()
        binaries = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
        data = self.folder / "data"
        self._stop = [*as_user, str(binaries / "pg_ctl"), "-D", str(data), "-m", "immediate", "-w", "stop"]
        run = lambda *command: subprocess.run([*as_user, *command], check=True, capture_output=True, cwd="/")  # noqa: E731
        run(
            str(binaries / "initdb"),
            "-D",
            str(data),
            "-A",
            "trust",
            "-U",
            "cloister",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C",
        )
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off -c max_connections=200"
        run(str(binaries / "pg_ctl"), "-D", str(data), "-w", "-l", str(self.folder / "log"), "-o", options, "start")

    async def new_database(self, *, empty: bool = False) -> str:
        """A database of its own: with today's schema, since to make that takes ten times as long as to copy it; or empty."""
        if self._schema is None and not empty:
            self._schema = await self._create("schema")
            await make_schema(make_settings(self.folder, database_url=self._schema))
        return await self._create(f"t{uuid.uuid4().hex[:12]}", "template0" if empty else "schema")

    async def _create(self, name: str, template: str = "template0") -> str:
        connection = await asyncpg.connect(host="127.0.0.1", port=self.port, user="cloister", database="postgres")
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        await connection.close()
        return f"postgresql://cloister@127.0.0.1:{self.port}/{name}"

    def close(self) -> None:
        subprocess.run(self._stop, check=False, capture_output=True, cwd="/")
        shutil.rmtree(self.folder, ignore_errors=True)


def fake_backend() -> FakeBackend:
    """For tests that run nothing; it warns of itself, which is an error in tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return FakeBackend()


async def make_schema(settings: Settings) -> None:
    database = Database(settings.database_dsn, seal=seal, publish=lambda _events: None)
    await upgrade_schema(database)
    await database.close()


async def have_schema(settings: Settings) -> None:
    """Put a database with today's schema where a platform looks for SQLite's, unless it has one."""
    file = settings.state_directory / "cloister.sqlite"
    if settings.database_url is not None or file.exists():
        return
    if not _schema:
        folder = tempfile.TemporaryDirectory(prefix="cloister-schema-")
        await make_schema(make_settings(Path(folder.name)))
        _schema.append((folder, Path(folder.name) / file.name))
    file.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_schema[0][1], file)


_schema: list[tuple[tempfile.TemporaryDirectory, Path]] = []


def blueprint(**changes) -> Blueprint:
    """A small course, changed as a test likes."""
    base = {
        "slug": "course", "kind": "course", "title": "A course",
        "agreements": [{"name": "dua", "title": "Data use agreement", "text": "Be good.\n"}],
        "roles": {"owner": ["owner@test.example"], "steward": ["steward@test.example"]},
        "environments": [{"name": "python-basic", "packages": ARROW}],
        "sizes": {"small": {"cpus": 1.0, "memory": "256M", "disk": "64M", "scratch": "16M", "processes": 64, "seconds": 60}},
    }  # fmt: skip
    return Blueprint.model_validate({**base, **changes})


def cgroups(sandbox: str) -> list[Path]:
    """The folders of a sandbox's control groups, one per hierarchy; those of others may go at any moment."""
    top = Path("/sys/fs/cgroup")
    parents = [path for each in (top, *top.iterdir()) if each.is_dir() for path in each.iterdir()]
    groups = [path / sandbox for path in parents if path.name.startswith("cloister-")]
    return [group for group in groups if group.is_dir()]


async def declare(platform: Platform, declared: Blueprint, folder: Path = ROOT) -> None:
    """Apply a blueprint and wait until its data are loaded."""
    versions = await platform.blueprints.apply(declared, folder, lambda _line: None, SYSTEM)
    for version in versions:
        await until(lambda v=version: _loaded(platform, v.operation), 60)


async def _loaded(platform: Platform, operation: str) -> bool:
    async with platform.database.read(SYSTEM) as uow:
        found = await platform.operations.get(uow, operation)
    assert found.state != "failed", found.error
    return found.state == "done"


PATIENCE = 3
"""How much longer than expected things may take: these machines are sometimes four times slower than at other times."""


async def until(condition, seconds: float = 10, every: float = 0.01):
    """Wait for an (async) condition; return its value when it holds. The limit is for what hangs, not a promise."""
    seconds *= PATIENCE
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        value = await condition()
        if value:
            return value
        assert asyncio.get_running_loop().time() < deadline, f"this did not come true within {seconds} s"
        await asyncio.sleep(every)


@contextlib.asynccontextmanager
async def served(settings: Settings, **options) -> AsyncIterator["Api"]:
    """A platform, its controllers and its HTTP server, in this event loop."""
    await have_schema(settings)
    platform = Platform(settings, **options)
    server = http_server(platform, manage=False)
    server.capture_signals = contextlib.nullcontext
    async with platform.running(stop_sandboxes=True):
        if options.get("backend") is None:
            await platform.environments.ensure(WORKER_PACKAGES)
            await platform.environments.ensure(ARROW)
        task = asyncio.create_task(server.serve())
        while not server.started:
            assert not task.done(), task
            await asyncio.sleep(0.01)
        api = Api(platform, f"http://127.0.0.1:{settings.listen_port}")
        try:
            yield api
        finally:
            await api.close()
            server.should_exit = True
            await task


class Api:
    """A served platform, seen from outside."""

    def __init__(self, platform: Platform, url: str) -> None:
        self.platform, self.url = platform, url
        self.options: dict = {}
        """Of every client, such as whose certificates it trusts."""
        self._clients: list[httpx2.AsyncClient] = []

    async def close(self) -> None:
        for client in self._clients:
            await client.aclose()

    def anonymous(self, **options) -> httpx2.AsyncClient:
        # The server hangs up on what is idle for 5 s; who closes first should not be a matter of luck.
        limits = httpx2.Limits(keepalive_expiry=2.0)
        client = httpx2.AsyncClient(
            base_url=f"{self.url}/api/v1", timeout=60, limits=limits, **{**self.options, **options}
        )
        self._clients.append(client)
        return client

    def operator(self) -> httpx2.AsyncClient:
        """As a command on the server's own machine."""
        return self.anonymous(headers={"Authorization": f"Bearer {self.platform.operator_secret}"})

    async def sign_in(self, name: str) -> httpx2.AsyncClient:
        """Somebody, signed in; ``operator``, ``owner`` and ``steward`` are those of `blueprint`."""
        client = self.anonymous()
        answer = await client.post("/auth/demo", json={"email": f"{name}@test.example", "name": name})
        assert answer.status_code == 200, answer.text
        return client

    async def apply(
        self, client: httpx2.AsyncClient, space: str = "course", *, sign: bool = True, **body
    ) -> httpx2.Response:
        form = (await client.get(f"/spaces/{space}/registration")).json()
        signatures = {a["name"]: a["hash"] for a in form["agreements"]} if sign else {}
        return await client.post(f"/spaces/{space}/enrolment", json={"signatures": signatures, **body})

    async def member(self, name: str, space: str = "course", **body) -> httpx2.AsyncClient:
        """Somebody who registered, signed and was admitted."""
        client = await self.sign_in(name)
        answer = await self.apply(client, space, **body)
        assert answer.status_code == 202, answer.text

        async def admitted():
            return (await client.get(f"/spaces/{space}/enrolment")).json()["state"] == "active"

        await until(admitted)
        return client

    async def query(self, client: httpx2.AsyncClient, sql: str, space: str = "course", params=None) -> httpx2.Response:
        return await client.post(f"/spaces/{space}/query", json={"sql": sql, "params": params})

    async def start(self, client: httpx2.AsyncClient, code: str, space: str = "course", **body) -> dict:
        """Start Python code in a sandbox of the person's team."""
        body = {"command": ["python3", "main.py"], "files": {"main.py": textwrap.dedent(code)}, **body}

        async def accepted():
            answer = await client.post(f"/spaces/{space}/sandboxes", json=body)
            prepared = answer.json().get("code") != "query.edition_not_ready"  # else: try again, as it says
            return answer if prepared else None

        answer = await until(accepted, 20, 0.1)
        assert answer.status_code == 202, answer.text
        return answer.json()

    async def show(self, client: httpx2.AsyncClient, sandbox: dict) -> dict:
        return (await client.get(f"/spaces/{sandbox['space']}/sandboxes/{sandbox['id']}")).json()

    async def output(self, client: httpx2.AsyncClient, sandbox: dict, level: str | None = None) -> str:
        answer = await client.get(f"/spaces/{sandbox['space']}/sandboxes/{sandbox['id']}/output")
        items = [json.loads(line) for line in answer.text.splitlines()]
        return "".join(item["text"] for item in items if level in {None, item["level"]})

    async def finish(self, client: httpx2.AsyncClient, sandbox: dict, seconds: float = 60) -> tuple[dict, str]:
        """Wait for a sandbox's end; return how it ended and what it printed."""

        async def ended():
            state = await self.show(client, sandbox)
            return state if state["state"] in FINAL else None

        state = await until(ended, seconds, 0.02)
        return state, await self.output(client, sandbox)

    async def run(self, client: httpx2.AsyncClient, code: str, space: str = "course", **body) -> tuple[dict, str]:
        return await self.finish(client, await self.start(client, code, space, **body))

    async def running(self, client: httpx2.AsyncClient, sandbox: dict) -> None:
        async def is_running():
            state = await self.show(client, sandbox)
            assert state["state"] not in FINAL, state
            return state["state"] == "running"

        await until(is_running, 30)

    async def records(self, **wanted) -> list[dict]:
        """The newest records of the whole platform."""
        await self.platform.recorder.flush()
        async with contextlib.AsyncExitStack() as stack:
            client = await stack.enter_async_context(
                httpx2.AsyncClient(
                    base_url=f"{self.url}/api/v1", headers={"Authorization": f"Bearer {self.platform.operator_secret}"}
                )
            )
            answer = await client.get("/audit", params={"limit": 500, **wanted})
        assert answer.status_code == 200, answer.text
        return answer.json()["items"]


def csv_file(folder: Path, name: str, text: str) -> str:
    """Write a CSV for a blueprint's table; return its source."""
    (folder / name).write_text(textwrap.dedent(text).lstrip())
    return str(folder / name)


def yaml_file(folder: Path, data: dict) -> Path:
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump(data))
    return path
