"""What a sandbox is to be. Complete, serialisable, and free of secrets."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cloister.spaces import Size


@dataclass(frozen=True)
class Mount:
    """A file or folder of the host that is visible, read-only, inside."""

    source: str
    target: str
    executable: bool = False
    """Whether programs and libraries in it can be run: true of the platform's own only."""


@dataclass(frozen=True)
class SandboxSpec:
    """The assignment of a sandbox: what runs, in what, with which limits, next to which data."""

    command: tuple[str, ...]
    environment: str | None
    """Path of a built environment, or None for the bare interpreter."""
    size: dict[str, Any]
    image: str | None = None
    """Path of an unpacked image whose files are the root file system, in the place of the host's."""
    gvisor: bool = False
    """Whether it runs on gVisor's kernel, whatever runtime others have."""
    mounts: tuple[Mount, ...] = ()
    datasets: tuple[str, ...] = ()
    """The data editions among the mounts: this is the access record's data part."""
    volume: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    """Small text files put into the working folder before the start, by relative path."""
    environ: dict[str, str] = field(default_factory=dict)
    cwd: str = "/home/user"
    egress: bool = True
    hosts: tuple[dict[str, Any], ...] | None = None
    """Hosts that it may reach of those that its space allows; None for all of them."""
    queries: bool = True
    """Whether it may ask governed data."""
    queries_of: tuple[str, ...] | None = None
    """The datasets that it may ask and no other, of those granted; None for all of them."""
    serves: bool = False
    """Whether it listens on the app socket."""
    warm: bool = False
    """Whether the program may come from the zygote instead of being started; it is the same program, and the same walls."""
    blank: bool = False
    """Whether a sandbox that already waits may become it (see `blanks`); what it has and may is the same."""
    expects: tuple[str, ...] = ()
    """Distributions that the program most likely imports: an interpreter that waits for it has done so already."""
    port: int | None = None
    """The loopback port of a program that speaks only TCP; the agent joins it to the app socket."""
    seconds: float | None = None
    """Wall-clock limit; None for services."""

    @property
    def limits(self) -> Size:
        return Size.model_validate(self.size)

    def assignment(self) -> dict[str, Any]:
        """What the agent is told of it."""
        names = ("environ", "cwd", "files", "egress", "port", "warm")
        return {"command": list(self.command), **{name: getattr(self, name) for name in names}}

    def dump(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def load(cls, data: dict[str, Any]) -> "SandboxSpec":
        values = dict(data)
        values["command"] = tuple(values["command"])
        values["mounts"] = tuple(Mount(**mount) for mount in values["mounts"])
        values["datasets"] = tuple(values["datasets"])
        if values.get("hosts") is not None:
            values["hosts"] = tuple(values["hosts"])
        if values.get("queries_of") is not None:
            values["queries_of"] = tuple(values["queries_of"])
        values["expects"] = tuple(values.get("expects", ()))
        return cls(**values)


@dataclass
class Companion:
    """What whoever asked for a sandbox gives it on its control channel, and hears of it. In memory alone: it may hold
    secrets.
    """

    configuration: str | None = None
    """JSON that the agent puts where only the program can read it."""
    masked: tuple[str, ...] = ()
    """Texts that are not to be seen in what it prints."""
    on_output: Callable[[str, str], None] | None = None
    """Called with the level and text of each piece of output."""


@dataclass(frozen=True)
class Place:
    """Where things of one sandbox are on this machine. The parent of ``root`` is closed to everybody but us."""

    root: Path

    @property
    def sockets(self) -> Path:
        """Seen read-only inside as ``/run/cloister``: the inner API's and egress proxy's sockets, the token."""
        return self.root / "sockets"

    @property
    def app(self) -> Path:
        """Seen writable inside as ``/run/app``: where a program listens for us."""
        return self.app_mount / "in"

    @property
    def app_mount(self) -> Path:
        """The small file system that ``app`` is a folder of. No sandbox sees the rest of it."""
        return self.root / "app"

    @property
    def app_link(self) -> Path:
        """Our own name for the socket that a program listens on, see `link_app`."""
        return self.app_mount / "app.sock"

    @property
    def module(self) -> Path:
        """Seen read-only inside as ``/opt/module``, where a sandbox was started before it was known what it runs."""
        return self.root / "module"

    @property
    def token(self) -> Path:
        return self.sockets / "token"

    @property
    def log(self) -> Path:
        return self.root / "output"

    @property
    def agent_log(self) -> Path:
        return self.root / "agent.log"


AGENT_MOUNT = "/opt/cloister"
ENVIRONMENT_MOUNT = "/opt/env"
PYTHON_MOUNT = "/opt/python"
MODULE_MOUNT = "/opt/module"
CACHE_MOUNT = "/opt/cache"
DATA_MOUNT = "/data"
HOME = "/home/user"
