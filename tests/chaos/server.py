"""The control plane as a process of its own, to be killed and started again, and clients that do not give up."""

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import httpx2

from tests.support import ENVIRONMENTS, ROOT, cgroups, free_port

CLOISTER = str(Path(sys.executable).with_name("cloister"))


class Server:
    """``cloister serve`` on a state directory of its own."""

    def __init__(self, state: Path, **settings) -> None:
        port = free_port()
        self.state, self.url = state, f"http://127.0.0.1:{port}"
        values = {
            "mode": "demo", "state_directory": state, "listen_port": port, "public_url": self.url,
            "environment_directory": ENVIRONMENTS, "log_level": "warning", "sign_ins_per_minute": 1_000_000,
            "registrations_per_minute": 1_000_000, "operators": "operator@test.example",
            "shipped_modules": False, "build_cpus": 2.0, **settings,
        }  # fmt: skip
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("CLOISTER_")}
        self.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # each restart would compile everything anew
        self.environ |= {f"CLOISTER_{name.upper()}": str(value) for name, value in values.items()}
        self.process: subprocess.Popen | None = None
        self.log = state.parent / f"{state.name}.log"

    def run(self, *arguments: str) -> str:
        """A command on the server's machine, with its settings."""
        done = subprocess.run(
            [CLOISTER, *arguments], env=self.environ, cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"cloister {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def declare(self, folder: Path, blueprint) -> None:
        """Apply a declaration."""
        file = folder / "space.json"
        file.write_text(json.dumps(blueprint.model_dump(mode="json", exclude_defaults=True)))
        self.run("space", "apply", str(file))

    def start(self) -> float:
        """Start it and wait until it is ready; return the seconds that took."""
        begun = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([CLOISTER, "serve"], env=self.environ, cwd=ROOT, stdout=log, stderr=log)
        while True:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            with contextlib.suppress(httpx2.HTTPError):
                if httpx2.get(f"{self.url}/health/ready").status_code == 200:
                    return time.monotonic() - begun
            if time.monotonic() - begun > 60:
                self.kill()
                raise AssertionError(self.log.read_text()[-3000:])
            time.sleep(0.02)

    def kill(self) -> None:
        """As a power cut to the process: nothing of it gets to say goodbye."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def lives(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        if self.process is not None and self.lives():
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
                raise

    def client(self, **options) -> "Stubborn":
        return Stubborn(base_url=f"{self.url}/api/v1", timeout=30, verify=False, **options)

    def operator(self) -> "Stubborn":
        token = (self.state / "run" / "operator-token").read_text()
        return self.client(headers={"Authorization": f"Bearer {token}"})

    def rows(self, sql: str) -> list[tuple]:
        """What the database says, read beside the server."""
        with contextlib.closing(sqlite3.connect(f"file:{self.state / 'cloister.sqlite'}?mode=ro", uri=True)) as found:
            return found.execute(sql).fetchall()

    # -- what is on the machine

    def containers(self) -> set[str]:
        """The sandboxes that the runtime knows."""
        folder = self.state / "run" / "oci" / "crun"
        command = ["crun", "--root", str(folder), "list", "--quiet"]
        if not folder.exists():
            return set()
        return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())

    def first_process(self, sandbox: str) -> int:
        """The host's process id of a sandbox's first process."""
        return int((self.state / "run" / "oci" / "bundles" / sandbox / "pid").read_text())

    def mounts(self) -> list[str]:
        """What is mounted below the state directory."""
        lines = Path("/proc/self/mounts").read_text().splitlines()
        return [line for line in lines if f" {self.state}/" in line]

    def loops(self) -> list[str]:
        """Loop devices on images of volumes."""
        lines = subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=False).stdout.splitlines()
        return [line for line in lines if f"{self.state}/" in line]

    @staticmethod
    def cgroups(ids: set[str]) -> list[str]:
        return [str(path) for id_ in ids for path in cgroups(id_)]

    @staticmethod
    def processes(first_uid: int, count: int = 100_000) -> list[str]:
        """Living processes of some user ids."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                status = (folder / "status").read_text()
                fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
                if first_uid <= int(fields["Uid"].split()[1]) < first_uid + count and fields["State"][0] != "Z":
                    found.append(f"{folder.name} {fields['Name']}")
        return found


class Stubborn(httpx2.AsyncClient):
    """A client that asks again until it is answered, as people do; creates bear the same Idempotency-Key each time."""

    async def insist(self, method: str, path: str, **options) -> httpx2.Response:
        deadline = time.monotonic() + 60
        while True:
            try:
                return await self.request(method, path, **options)
            except httpx2.TransportError:
                assert time.monotonic() < deadline, f"no answer to {method} {path} for a minute"
                await asyncio.sleep(0.1)

    async def sign_in(self, name: str) -> None:
        answer = await self.insist("POST", "/auth/demo", json={"email": f"{name}@test.example", "name": name})
        assert answer.status_code == 200, answer.text

    async def create(self, path: str, key: str, body: dict) -> dict:
        """Ask for something new; an answer means that it is there, once."""
        answer = await self.insist("POST", path, json=body, headers={"Idempotency-Key": key})
        assert answer.status_code in {201, 202}, answer.text
        return answer.json()

    async def admitted(self, space: str = "course", seconds: float = 60) -> dict:
        deadline = time.monotonic() + seconds
        while True:
            found = (await self.insist("GET", f"/spaces/{space}/enrolment")).json()
            if found.get("state") == "active":
                return found
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.1)

    async def member(self, name: str, space: str = "course") -> dict:
        """Register, sign, and be admitted."""
        await self.sign_in(name)
        form = (await self.insist("GET", f"/spaces/{space}/registration")).json()
        signatures = {a["name"]: a["hash"] for a in form["agreements"]}
        await self.create(f"/spaces/{space}/enrolment", f"register-{name}", {"signatures": signatures})
        return await self.admitted(space)
