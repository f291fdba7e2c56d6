"""A backend in memory, for tests of what stands above. It isolates nothing and says so."""

import asyncio
import itertools
import warnings
from pathlib import Path

from cloister.sandboxes.ports import Usage, Wall
from cloister.sandboxes.spec import Place, SandboxSpec


class FakeIsolationWarning(UserWarning):
    """The fake backend is in use: nothing runs, and nothing is isolated."""


class FakeBackend:
    """Pretends that sandboxes run until they are removed."""

    def __init__(self) -> None:
        warnings.warn(FakeIsolationWarning(FakeIsolationWarning.__doc__), stacklevel=2)
        self.running: dict[str, tuple[int, asyncio.Event]] = {}
        self._pids = itertools.count(1)

    async def start(self, id_: str, spec: SandboxSpec, place: Place, uid: int, volume: Path | None) -> int:
        del spec, place, uid, volume
        pid, _ = self.running.setdefault(id_, (next(self._pids), asyncio.Event()))
        return pid

    async def fork_in(self, id_: str, spec: SandboxSpec, pid: int, token: str) -> bool:
        del id_, spec, pid, token
        return False

    async def warm_up(self, packages: Path) -> None:
        """There is nothing to warm."""

    async def close(self) -> None:
        """There is nothing to close."""

    async def alive(self, id_: str) -> int | None:
        return self.running[id_][0] if id_ in self.running else None

    async def wait(self, pid: int) -> None:
        for known, ended in list(self.running.values()):
            if known == pid:
                await ended.wait()

    async def remove(self, id_: str, place: Place) -> None:
        del place
        if id_ in self.running:
            self.running.pop(id_)[1].set()

    async def resize(self, id_: str, spec: SandboxSpec) -> bool:
        del spec
        return id_ in self.running

    async def usage(self, id_: str) -> Usage | None:
        return Usage(0.0, 0, 1) if id_ in self.running else None

    async def known(self) -> set[str]:
        return set(self.running)

    def walls(self) -> list[Wall]:
        return []
