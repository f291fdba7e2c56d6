"""The peer of workspaces: JupyterHub with its local spawner behind configurable-http-proxy, installed for the run."""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
from tests.support import ROOT, free_port

from benchmarks.table import say

GIVEN_UP_SECONDS = 60.0
PEERS = ROOT / ".cache" / "peers"
PACKAGES = ["jupyterhub==6.1.1", "jupyterlab>=4.6,<5"]
PROXY = "configurable-http-proxy@5"
CONFIG = """
c.JupyterHub.bind_url = "http://127.0.0.1:{port}"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{hub}"
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{api}"
c.ConfigurableHTTPProxy.command = ["{proxy}"]
c.JupyterHub.spawner_class = "simple"
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.Spawner.args = ["--allow-root"]
c.JupyterHub.concurrent_spawn_limit = 0
c.JupyterHub.services = [{{"name": "bench", "api_token": "benchbenchbench"}}]
c.JupyterHub.load_roles = [{{"name": "bench", "services": ["bench"], "scopes": ["admin:users", "admin:servers", "access:servers"]}}]
c.JupyterHub.log_level = "ERROR"
"""
ZMQ = """
import time
from jupyter_client.manager import start_new_kernel
manager, client = start_new_kernel(kernel_name="python3")
times = []
for _ in range(105):
    begun = time.perf_counter()
    asked = client.execute("1")
    while client.get_shell_msg(timeout=30)["parent_header"].get("msg_id") != asked:
        pass
    times.append((time.perf_counter() - begun) * 1000)
    idle = False
    while not idle:
        said = client.get_iopub_msg(timeout=30)
        idle = said["parent_header"].get("msg_id") == asked and said["content"].get("execution_state") == "idle"
client.stop_channels()
manager.shutdown_kernel(now=True)
print(sorted(times[5:])[50])
"""
"""What a cell takes without any server: from a client of the kernel's own protocol, on this machine."""
HEADERS = {"Authorization": "token benchbenchbench"}


def install() -> None:
    """Once; kept beside the environments."""
    if not (PEERS / "bin" / "jupyterhub").exists():
        say("installing JupyterHub to measure beside ...")
        uv = str(Path(sys.executable).with_name("uv"))
        run = lambda *command: subprocess.run(command, check=True, capture_output=True)  # noqa: E731
        run(uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(PEERS))
        run(uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(PEERS / "bin" / "python"), *PACKAGES)
    if not (PEERS / "node_modules").exists():
        subprocess.run(["npm", "install", "--silent", "--prefix", str(PEERS), PROXY], check=True, capture_output=True)


def zmq_round_trip() -> float:
    """Milliseconds from sending a cell over ZMQ straight to a kernel to its reply, p50."""
    install()
    done = subprocess.run([str(PEERS / "bin" / "python"), "-c", ZMQ], check=True, capture_output=True, text=True)
    return float(done.stdout)


@contextlib.asynccontextmanager
async def hub(folder: Path) -> AsyncIterator["Hub"]:
    """A running hub."""
    install()
    port = free_port()
    proxy = PEERS / "node_modules" / ".bin" / "configurable-http-proxy"
    file = folder / "jupyterhub_config.py"
    file.write_text(CONFIG.format(port=port, hub=free_port(), api=free_port(), proxy=proxy))
    environ = {**os.environ, "PATH": f"{PEERS / 'bin'}:{os.environ['PATH']}"}
    process = await asyncio.create_subprocess_exec(
        str(PEERS / "bin" / "jupyterhub"), "-f", str(file), cwd=folder, env=environ, start_new_session=True,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    async with aiohttp.ClientSession(headers=HEADERS) as http:
        found = Hub(http, f"http://127.0.0.1:{port}", process.pid)
        try:
            async with asyncio.timeout(60):
                while not await found.answers("/hub/api/"):
                    await asyncio.sleep(0.1)
            yield found
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            await process.wait()
            kill_left()


def kill_left() -> None:
    """End its servers and proxy, which outlive it in sessions of their own: what is measured next is not beside them."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.fsencode(PEERS) in (process / "cmdline").read_bytes():
                os.kill(int(process.name), 9)


class Hub:
    """The hub's API, as far as starting servers takes it."""

    def __init__(self, http: aiohttp.ClientSession, url: str, pid: int) -> None:
        self.http, self.url, self.pid = http, url, pid

    async def answers(self, path: str) -> bool:
        try:
            async with self.http.get(self.url + path) as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    async def create(self, name: str) -> None:
        """Make somebody an account."""
        async with self.http.post(f"{self.url}/hub/api/users/{name}") as answer:
            assert answer.status == 201, await answer.text()

    async def spawn(self, name: str) -> float | None:
        """Start somebody's server and wait until it answers through the proxy; return when, or None if it never does."""
        await self.create(name)
        async with self.http.post(f"{self.url}/hub/api/users/{name}/server") as answer:
            await answer.read()
        try:
            async with asyncio.timeout(GIVEN_UP_SECONDS):
                while not await self.answers(f"/user/{name}/api/status"):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            return None
        return time.perf_counter()

    async def stop(self, name: str) -> None:
        async with self.http.delete(f"{self.url}/hub/api/users/{name}/server") as answer:
            await answer.read()

    def memory(self) -> list[float]:
        """Megabytes (PSS) of each single-user server, kernels left out."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if b"jupyterhub-singleuser" in (folder / "cmdline").read_bytes():
                    found.append(pss(folder))
        return found


def processor(pid: int) -> float:
    """Seconds of processor time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pss(process: Path) -> float:
    """Megabytes of a process, shared pages divided among those who share them."""
    lines = (process / "smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
