"""Keeps the zygote running and has it fork into sandboxes. This file starts a process and compiles filters.

The zygote's own program is ``runtimes/zygote.py``; what it may and may not is said there.
"""

import asyncio
import base64
import contextlib
import ctypes
import json
import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any

from cloister.platform.logs import logger
from cloister.sandboxes.backends.oci.bundle import Layout, environ
from cloister.sandboxes.spec import AGENT_MOUNT, HOME, PYTHON_MOUNT, SandboxSpec

log = logger(__name__)
READY_SECONDS = 60.0
FORK_SECONDS = 5.0
MAX_MESSAGE = 1 << 20
ACTIONS = {"SCMP_ACT_ALLOW": 0x7FFF0000}
ERRNO = 0x00050000
MASKED_EQ = 7


class _Compare(ctypes.Structure):
    _fields_ = (
        ("arg", ctypes.c_uint), ("op", ctypes.c_int), ("datum_a", ctypes.c_uint64), ("datum_b", ctypes.c_uint64),
    )  # fmt: skip


def compile_filter(profile: dict[str, Any]) -> bytes:
    """Compile an OCI seccomp profile to the program that the runtime loads, with the library that the runtime uses.

    Raises:
        OSError: when libseccomp is missing or refuses a rule.
    """
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
    library.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(_Compare),
    ]  # fmt: skip
    library.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.seccomp_release.argtypes = [ctypes.c_void_p]
    context = library.seccomp_init(ERRNO | profile["defaultErrnoRet"])
    try:
        for rule in profile["syscalls"]:
            action = ACTIONS.get(rule["action"], ERRNO | rule.get("errnoRet", 1))
            compares = [_Compare(a["index"], MASKED_EQ, a["value"], a["valueTwo"]) for a in rule.get("args", [])]
            array = (_Compare * len(compares))(*compares)
            for name in rule["names"]:
                number = library.seccomp_syscall_resolve_name(name.encode())
                if number < 0:
                    continue  # this kernel's architecture has no such call
                code = library.seccomp_rule_add_array(context, action, number, len(compares), array)
                if code != 0:
                    raise OSError(-code, f"libseccomp refused {name}: {os.strerror(-code)}")
        with tempfile.TemporaryFile() as file:
            code = library.seccomp_export_bpf(context, file.fileno())
            if code != 0:
                raise OSError(-code, f"libseccomp: {os.strerror(-code)}")
            file.seek(0)
            return file.read()
    finally:
        library.seccomp_release(context)


class Zygote:
    """One, for the platform's own Jupyter packages."""

    def __init__(self, packages: Path, layout: Layout, folder: Path) -> None:
        self.packages = packages
        self._layout = layout
        self._root = folder / "zygote"
        self._socket: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._answers: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.ready = asyncio.Event()
        self.forks = 0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self) -> None:
        """Start it and wait until it has everything imported.

        Raises:
            OSError: when it does not come up.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        layout = self._layout
        await asyncio.to_thread(self._root.mkdir, parents=True, exist_ok=True)
        binds = [("/usr", "usr"), (layout.etc, "etc"), (layout.agent, AGENT_MOUNT[1:]), (self.packages, "opt/jupyter")]
        binds.append(("/proc", "proc"))
        if layout.python.mounted:
            binds.append((layout.python.prefix, PYTHON_MOUNT[1:]))
        binds += [(layout.empty, hidden[1:]) for hidden in layout.hidden]
        plan = {
            "root": str(self._root), "rootfs": str(layout.rootfs), "python": layout.python.executable,
            "binds": [(str(source), inside) for source, inside in binds],
            "environ": {**environ(layout), "CLOISTER_JUPYTER": self.packages.name},
        }  # fmt: skip
        interpreter = layout.python.prefix / "bin" / Path(layout.python.executable).name
        self._socket = ours
        self._process = await asyncio.create_subprocess_exec(
            str(interpreter), "-I", "-S", str(layout.agent / "zygote.py"), json.dumps(plan),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            env={"CLOISTER_ZYGOTE_SOCKET": str(theirs.fileno())}, pass_fds=(theirs.fileno(),), start_new_session=True,
        )  # fmt: skip
        theirs.close()
        self._tasks = [asyncio.create_task(self._follow()), asyncio.create_task(self._listen())]
        bpf = await asyncio.to_thread(compile_filter, layout.seccomp)
        await asyncio.get_running_loop().sock_sendall(
            ours, json.dumps({"bpf": base64.b64encode(bpf).decode()}).encode()
        )
        async with asyncio.timeout(READY_SECONDS):
            await self.ready.wait()
        if self.pid is None:
            raise OSError("the zygote did not come up")
        log.info("zygote.ready", pid=self.pid)

    async def _follow(self) -> None:
        """Pass on what it complains of; when it ends, whoever waits for it must not wait longer."""
        if self._process is None or self._process.stderr is None:
            return
        async for line in self._process.stderr:
            log.info("zygote.said", text=line.decode("utf-8", "replace").rstrip())
        code = await self._process.wait()
        log.warning("zygote.ended", code=code)
        self.ready.set()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_result({"error": "the zygote ended"})

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        while self._socket is not None:
            data = await loop.sock_recv(self._socket, MAX_MESSAGE)
            if not data:
                return
            said = json.loads(data)
            if said.get("ready"):
                self.ready.set()
                continue
            answer = self._answers.get(said.get("id", ""))
            if answer is not None and not answer.done():
                answer.set_result(said)
            elif "error" in said:
                log.warning("zygote.fork_failed", sandbox=said.get("id"), error=said["error"])

    async def fork(self, id_: str, spec: SandboxSpec, pid: int, groups: list[Path], token: str) -> bool:
        """Fork the program into a sandbox; False when it could not be."""
        if self.pid is None or self._socket is None or not self.ready.is_set():
            return False
        loop = asyncio.get_running_loop()
        answer = self._answers[id_] = loop.create_future()
        order = {
            "id": id_, "pid": pid, "files": spec.limits.files, "cwd": HOME, "argv": list(spec.command)[1:], "token": token,
            "environ": {**environ(self._layout), **spec.environ},
        }  # fmt: skip
        try:
            await loop.sock_sendall(self._socket, json.dumps(order).encode())
            async with asyncio.timeout(FORK_SECONDS):
                said = await answer
            if "forked" not in said:
                log.warning("zygote.fork_failed", sandbox=id_, error=said.get("error"))
                return False
            await asyncio.to_thread(_put, said["forked"], groups)
            answer = self._answers[id_] = loop.create_future()
            await loop.sock_sendall(self._socket, json.dumps({"go": id_}).encode())
            async with asyncio.timeout(FORK_SECONDS):
                said = await answer
            if not said.get("running"):
                log.warning("zygote.fork_failed", sandbox=id_, error=said.get("error"))
                return False
        except (OSError, TimeoutError) as error:
            log.warning("zygote.fork_failed", sandbox=id_, error=str(error))
            return False
        finally:
            self._answers.pop(id_, None)
        self.forks += 1
        return True

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()  # not for the end of its error stream: who was forked from it may hold it
        await asyncio.to_thread(shutil.rmtree, self._root, ignore_errors=True)


def _put(pid: int, groups: list[Path]) -> None:
    """Move a process into a sandbox's control groups, and make it the first to go when memory is short."""
    for group in groups:
        (group / "cgroup.procs").write_text(str(pid))
    Path(f"/proc/{pid}/oom_score_adj").write_text("500")
