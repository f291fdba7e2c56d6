"""What the controller needs of a backend, and what this package needs of those above it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cloister.core.principal import Principal
from cloister.platform import UnitOfWork
from cloister.sandboxes.spec import Mount, Place, SandboxSpec


@dataclass(frozen=True)
class Wall:
    """One promise of isolation, and whether this machine keeps it."""

    name: str
    enforced: bool
    required: bool
    detail: str


@dataclass(frozen=True)
class Usage:
    """What a sandbox uses now."""

    cpu_seconds: float
    memory_bytes: int
    processes: int


class Backend(Protocol):
    """Runs sandboxes. Every call may be repeated: asking for what is already so is no error."""

    async def start(self, id_: str, spec: SandboxSpec, place: Place, uid: int, volume: Path | None) -> int:
        """Start a blank sandbox whose first process is the agent; return the host's process id of it.

        Raises:
            BackendFailed: with what the runtime said.
        """

    async def fork_in(self, id_: str, spec: SandboxSpec, pid: int, token: str) -> bool:
        """Fork a warm program into a sandbox whose first process waits for it; False when it must be started."""

    async def warm_up(self, packages: Path) -> None:
        """Prepare for `fork_in` of programs that run on a set of trusted packages."""

    async def close(self) -> None:
        """End what belongs to this process and to no sandbox."""

    async def alive(self, id_: str) -> int | None:
        """The process id of a sandbox's first process, or None when it does not run."""

    async def wait(self, pid: int) -> None:
        """Return when a process has ended."""

    async def remove(self, id_: str, place: Place) -> None:
        """Kill what runs and remove every trace but the folder."""

    async def resize(self, id_: str, spec: SandboxSpec) -> bool:
        """Hold a running sandbox to other cpu, memory and process limits from now on; False when it must be started
        anew for that.
        """

    async def usage(self, id_: str) -> Usage | None:
        """What it uses, or None when it does not run."""

    async def known(self) -> set[str]:
        """The ids of all sandboxes that the machine knows."""

    def walls(self) -> list[Wall]:
        """What is enforced here."""


class DataAccess(Protocol):
    """Which governed data a sandbox of a team may have mounted. Implemented above, by ``query``."""

    async def mounts(
        self, uow: UnitOfWork, principal: Principal, space: str, team: int
    ) -> tuple[list[Mount], list[str]]:
        """The files to mount, and the names of the data editions they are."""

    async def still_granted(
        self, uow: UnitOfWork, space: str, team: int, person: int | None, editions: list[str]
    ) -> bool:
        """Whether a running sandbox may keep what it has mounted."""
