"""The OCI bundle of a sandbox: pure, from a spec to ``config.json``."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloister.sandboxes.spec import (
    AGENT_MOUNT,
    ENVIRONMENT_MOUNT,
    HOME,
    PYTHON_MOUNT,
    Place,
    SandboxSpec,
)

USER = 1000
"""The user id inside; outside it is the team's own."""
INODES = 65536
MOUNT_POINTS = (
    "usr", "etc", "proc", "dev", "sys", "tmp", "var/tmp", "home/user", "data",
    "opt/python", "opt/env", "opt/cloister", "opt/worker", "opt/jupyter", "opt/module", "opt/cache", "run/cloister", "run/app", "out",
)  # fmt: skip
LINKS = {"opt/node_modules": "env/node_modules", "node_modules": "opt/cloister/node"}
"""Where Node looks for the packages of a module in ``/opt/module``: in its environment, which may have none."""
LOADERS = ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1")
USR_LINKS = ("bin", "sbin", "lib", "lib64", "lib32", "libx32")
MASKED = [
    f"/proc/{name}"
    for name in (
        "acpi", "asound", "kcore", "keys", "key-users", "kmsg", "kpagecount", "kpageflags", "kpagecgroup",
        "latency_stats", "timer_list", "timer_stats", "sched_debug", "scsi", "interrupts", "cmdline", "config.gz",
        "kallsyms", "modules", "mtrr", "vmallocinfo", "pagetypeinfo", "slabinfo", "pressure", "loadavg", "vmstat", "locks", "zoneinfo", "buddyinfo", "schedstat", "partitions",
        "diskstats", "swaps", "softirqs", "iomem", "ioports",
    )
]  # fmt: skip
READ_ONLY = [f"/proc/{name}" for name in ("bus", "fs", "irq", "sys", "sysrq-trigger", "driver")]
NAMESPACES = ("user", "pid", "mount", "network", "ipc", "uts", "cgroup")


@dataclass(frozen=True)
class Python:
    """The interpreter that sandboxes use, and how it is reached inside."""

    prefix: Path
    executable: str

    @classmethod
    def of(cls, interpreter: Path | None) -> "Python":
        """The given interpreter, or the one that runs Cloister."""
        name = f"python{sys.version_info.major}.{sys.version_info.minor}"
        real = (interpreter or Path(sys.base_prefix) / "bin" / name).resolve()
        prefix = real.parent.parent
        inside = f"{prefix}/bin/{real.name}" if prefix == Path("/usr") else f"{PYTHON_MOUNT}/bin/{real.name}"
        return cls(prefix, inside)

    @property
    def mounted(self) -> bool:
        return self.prefix != Path("/usr")

    def packages(self) -> list[str]:
        """Where, inside, this machine's own packages would be seen: they are no part of any environment, and what they
        hook into the interpreter's start (``.pth`` files) would run at every start in every sandbox.
        """
        if not self.mounted:
            return [str(found) for found in (Path("/usr/lib/python3/dist-packages"),) if found.is_dir()]
        found = self.prefix.glob("lib/python3*/site-packages")
        return [f"{PYTHON_MOUNT}/{folder.relative_to(self.prefix)}" for folder in sorted(found)]

    @property
    def environ(self) -> dict[str, str]:
        """A relocated Python with a shared library would else find the host's library of another patch level."""
        return {"LD_LIBRARY_PATH": f"{PYTHON_MOUNT}/lib"} if self.mounted else {}


@dataclass(frozen=True)
class Layout:
    """What is the same for all sandboxes of this machine."""

    rootfs: Path
    etc: Path
    agent: Path
    python: Python
    empty: Path
    """A folder with nothing in it."""
    hidden: tuple[str, ...]
    """Where, inside, it covers what this machine's Python has installed."""
    seccomp: dict[str, Any]
    root_uid: int
    """The host user id that stands for root inside; nothing runs as it."""
    cgroup: str
    """The parent of the sandboxes' control groups: this installation's own."""
    own_uid: int | None = None
    """Rootless: the only user id there is, as the runtime sees it. No control groups then, and no ids of teams."""

    @property
    def rootless(self) -> bool:
        return self.own_uid is not None


def _bind(source: Path | str, target: str, *options: str, writable: bool = False) -> dict[str, Any]:
    return {
        "destination": target,
        "type": "bind",
        "source": str(source),
        "options": ["bind", "rw" if writable else "ro", "nosuid", "nodev", "private", *options],
    }


def _tmpfs(target: str, size: int, *options: str) -> dict[str, Any]:
    return {
        "destination": target,
        "type": "tmpfs",
        "source": "tmpfs",
        "options": ["nosuid", "nodev", f"size={size}", f"nr_inodes={INODES}", *options],
    }


HOST_MOUNT = "/opt/host"
"""Where a sandbox on an image sees the host's ``/usr``: the agent's interpreter comes from there."""


def _loader() -> Path:
    """The dynamic loader of the host's programs; an image may have another, or none."""
    return next(Path(name).resolve() for name in LOADERS if Path(name).exists())


def _agent(spec: SandboxSpec, layout: Layout) -> list[str]:
    """How the first process is started."""
    program = ["-I", "-S", f"{AGENT_MOUNT}/agent.py"]
    if spec.image is None:
        return [layout.python.executable, *program]
    loader = _loader()
    libraries = [
        Path(HOST_MOUNT) / loader.parent.relative_to("/usr"),
        Path(HOST_MOUNT) / "lib",
        Path(f"{PYTHON_MOUNT}/lib"),
    ]
    python = layout.python.executable
    if not layout.python.mounted:
        python = f"{HOST_MOUNT}/{Path(python).relative_to('/usr')}"
    inside = f"{HOST_MOUNT}/{loader.relative_to('/usr')}"
    return [inside, "--library-path", ":".join(map(str, libraries)), python, *program]


def _system(spec: SandboxSpec, layout: Layout) -> list[dict[str, Any]]:
    """Programs and libraries: the host's, or an image's, which has its own."""
    certificates = _bind("/etc/ssl/certs", "/etc/ssl/certs")
    if spec.image is not None:
        return [_bind("/usr", HOST_MOUNT), certificates]
    return [
        _bind("/usr", "/usr"), _bind(layout.etc, "/etc"), certificates, _bind("/etc/alternatives", "/etc/alternatives")
    ]  # fmt: skip


def _mounts(spec: SandboxSpec, place: Place, layout: Layout, volume: Path | None) -> list[dict[str, Any]]:
    scratch = spec.limits.scratch_bytes
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {
            "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "noexec", "strictatime", "mode=755", "size=64k", "nr_inodes=64"],
        },
        {
            "destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
        },
        _tmpfs("/dev/shm", scratch, "noexec", "mode=1777"),  # noqa: S108  (inside)
        _tmpfs("/tmp", scratch, "mode=1777"),  # noqa: S108  (inside)
        *_system(spec, layout),
        _bind(layout.agent, AGENT_MOUNT),
        _bind(place.sockets, "/run/cloister", "noexec"),
        _bind(place.app, "/run/app", "noexec", writable=True),
    ]  # fmt: skip
    if layout.python.mounted:
        mounts.append(_bind(layout.python.prefix, PYTHON_MOUNT))
    if layout.python.mounted or spec.image is None:  # an image has its own /usr, which need not have such a folder
        mounts += [_bind(layout.empty, hidden) for hidden in layout.hidden]
    if spec.environment:
        mounts.append(_bind(spec.environment, ENVIRONMENT_MOUNT))
    if volume is not None:
        mounts.append(_bind(volume, HOME, writable=True))
    else:
        mounts.append(_tmpfs(HOME, scratch, "mode=1777"))
    if any(mount.target.startswith("/data/") for mount in spec.mounts):
        mounts.append(_tmpfs("/data", 65536, "mode=755"))
    mounts += [_bind(mount.source, mount.target, *(() if mount.executable else ("noexec",))) for mount in spec.mounts]
    return mounts


def environ(layout: Layout, *, image: bool = False) -> dict[str, str]:
    """The environment of the agent and of the programs it starts. Nothing secret is ever in it."""
    ours = f"{ENVIRONMENT_MOUNT}/bin:{Path(layout.python.executable).parent}:/usr/bin:/bin"
    return {
        **({} if image else layout.python.environ),
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" if image else ours,
        "HOME": HOME,
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
    }


def resources(spec: SandboxSpec) -> dict[str, Any]:
    """The limits that hold while it runs, and can be changed then."""
    limits = spec.limits
    return {
        "memory": {"limit": limits.memory_bytes, "swap": limits.memory_bytes},
        "cpu": {
            "quota": max(1000, int(limits.cpus * 100_000)),
            "period": 100_000,
            "shares": max(2, int(limits.cpus * 1024)),
        },
        "pids": {"limit": limits.processes},
    }


def config(
    id_: str, spec: SandboxSpec, place: Place, layout: Layout, uid: int, volume: Path | None, root: Path | None = None
) -> dict[str, Any]:
    """The contents of ``config.json`` (OCI runtime specification 1.0.2). ``root`` is where an image's files can be reached."""
    if root is None:
        root = layout.rootfs if spec.image is None else Path(spec.image) / "rootfs"
    none: list[str] = []
    me = {"containerID": USER, "hostID": uid if layout.own_uid is None else layout.own_uid, "size": 1}
    maps = [me] if layout.rootless else [{"containerID": 0, "hostID": layout.root_uid, "size": 1}, me]
    limits, devices = spec.limits, [{"allow": False, "access": "rwm"}]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": USER, "gid": USER, "umask": 0o027},
            "args": _agent(spec, layout),
            "env": [f"{name}={value}" for name, value in environ(layout, image=spec.image is not None).items()],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "inheritable", "permitted", "ambient"), none),
            "noNewPrivileges": True,
            "oomScoreAdj": 500,
            "rlimits": [
                {"type": "RLIMIT_NOFILE", "soft": limits.files, "hard": limits.files},
                {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
            ],
        },
        "root": {"path": str(root), "readonly": True},
        "hostname": "sandbox",
        "mounts": _mounts(spec, place, layout, volume),
        "linux": {
            "uidMappings": maps,
            "gidMappings": maps,
            "namespaces": [{"type": name} for name in NAMESPACES],
            "cgroupsPath": f"/{layout.cgroup}/{id_}",
            **({} if layout.rootless else {"resources": {"devices": devices, **resources(spec)}}),
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
            "seccomp": layout.seccomp,
        },
    }
