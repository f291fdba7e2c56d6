"""What this machine can enforce, found by trying it. ``cloister doctor`` prints it."""

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cloister.platform import Settings
from cloister.sandboxes.ports import Wall
from cloister.sandboxes.processes_privileged import environment

NAMESPACES = {"user": "-U", "pid": "-pf", "mount": "-m", "network": "-n", "ipc": "-i", "uts": "-u", "cgroup": "-C"}
CONTROLLERS = ("cpu", "memory", "pids")


@dataclass(frozen=True)
class Examination:
    """All walls of this machine."""

    walls: list[Wall]

    def missing(self, accepted: list[str]) -> list[Wall]:
        """The required walls that are not enforced and that the operator has not accepted to do without."""
        return [wall for wall in self.walls if wall.required and not wall.enforced and wall.name not in accepted]


def examine(settings: Settings) -> Examination:
    """Try everything that a sandbox needs."""
    walls = [_runtime(settings.oci_runtime)]
    walls += [_namespace(name, flag) for name, flag in NAMESPACES.items()]
    walls += [_cgroup(controller) for controller in CONTROLLERS]
    walls += [_seccomp(), _user_ids(settings), _disk(settings)]
    return Examination(walls)


def _try(*command: str) -> str | None:
    """None when a command succeeds, else what it said."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False, env=environment())
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if done.returncode == 0 else (done.stderr or done.stdout).strip()[:200] or f"exit {done.returncode}"


def _runtime(name: str) -> Wall:
    path = shutil.which(name)
    detail = f"{path}" if path else f"{name} is not installed: apt-get install {name}"
    return Wall("runtime", path is not None, required=True, detail=detail)


def _namespace(name: str, flag: str) -> Wall:
    outer = [] if os.geteuid() == 0 or name == "user" else ["-U", "-r"]
    problem = _try("unshare", *outer, flag, "true")
    return Wall(f"namespace:{name}", problem is None, required=True, detail=problem or "own namespace per sandbox")


def hybrid() -> bool:
    """Whether both versions of cgroups are mounted here."""
    return Path("/sys/fs/cgroup/unified/cgroup.procs").exists()


def cgroup_path(controller: str) -> Path | None:
    """Where a controller's hierarchy is mounted, whichever version of cgroups it belongs to."""
    top = Path("/sys/fs/cgroup")
    if (top / "cgroup.controllers").exists():
        return top if controller in (top / "cgroup.controllers").read_text().split() else None
    return top / controller if (top / controller / "cgroup.procs").exists() else None


def _cgroup(controller: str) -> Wall:
    path = cgroup_path(controller)
    if path is None:
        return Wall(f"limit:{controller}", False, required=True, detail="the controller is not mounted")
    version = "v2" if (path / "cgroup.controllers").exists() else "v1"
    probe = path / f"cloister-probe-{os.getpid()}"
    try:
        probe.mkdir()
        try:
            _limit(probe, controller)
        finally:
            probe.rmdir()
    except OSError as error:
        return Wall(f"limit:{controller}", False, required=True, detail=f"cgroup {version}: {error.strerror}")
    return Wall(f"limit:{controller}", True, required=True, detail=f"cgroup {version} at {path}")


LIMITS = {
    "memory": ("memory.limit_in_bytes", "67108864"),
    "cpu": ("cpu.cfs_quota_us", "50000"),
    "pids": ("pids.max", "64"),
}
"""For each controller of version 1 a limit that is set and read back; version 2's are set by the runtime alone."""


def _limit(group: Path, controller: str) -> None:
    """Set a limit on an empty group.

    Raises:
        OSError: when it does not take.
    """
    name, value = LIMITS.get(controller, ("", ""))
    if name and (group / name).exists():
        (group / name).write_text(value)
        if (group / name).read_text().strip() != value:
            raise OSError(0, f"{name} does not keep what is set")


def _seccomp() -> Wall:
    actions = Path("/proc/sys/kernel/seccomp/actions_avail")
    works = actions.exists() and "errno" in actions.read_text()
    return Wall(
        "seccomp", works, required=True, detail="deny by default" if works else "the kernel has no seccomp filter"
    )


def _user_ids(settings: Settings) -> Wall:
    if os.geteuid() == 0 and not _mapped(settings.sandbox_uid_base + 1):
        detail = f"user ids from {settings.sandbox_uid_base} on (sandbox_uid_base) do not exist in this user namespace"
        return Wall("user-ids", False, required=True, detail=detail)
    if os.geteuid() == 0:
        return Wall("user-ids", True, required=True, detail="each team has a host user id of its own")
    return Wall(
        "user-ids",
        False,
        required=True,
        detail="not root: every sandbox runs as your own user id, so teams are kept apart by namespaces alone",
    )


def _mapped(uid: int) -> bool:
    """Whether a user id exists in this process's user namespace: in a container there may be but one."""
    ranges = [[int(part) for part in line.split()] for line in Path("/proc/self/uid_map").read_text().splitlines()]
    return any(first <= uid < first + count for first, _, count in ranges)


def _disk(settings: Settings) -> Wall:
    backend = volume_backend(settings)
    detail = {
        "loop": "ext4 images on loop devices bound bytes and inodes",
        "fuse": "ext4 images behind fuse2fs bound bytes and inodes",
        "directory": "plain folders: nothing bounds their size (without root: apt-get install fuse2fs fuse3)",
    }[backend]
    return Wall("limit:disk", backend != "directory", required=True, detail=detail)


def volume_backend(settings: Settings) -> Literal["loop", "fuse", "directory"]:
    """How volumes are kept here: the one that is set, or the best that works."""
    if settings.volume_backend != "auto":
        return settings.volume_backend
    if os.geteuid() == 0 and loop_works():
        return "loop"
    return "fuse" if fuse_works() else "directory"


@functools.cache
def loop_works() -> bool:
    """Whether an image can be mounted on a loop device here: tried, as below."""
    return _mounts(lambda image, point: (("mount", "-o", "loop", image, point), ("umount", point)))


@functools.cache
def fuse_works() -> bool:
    """Whether an image can be mounted through FUSE here: tried, for what is installed may still not be allowed."""
    return _mounts(lambda image, point: (("fuse2fs", "-o", "fakeroot", image, point), ("fusermount3", "-u", point)))


def _mounts(steps: Callable[[str, str], Iterable[tuple[str, ...]]]) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        image, point = Path(folder) / "try.ext4", Path(folder) / "try"
        image.write_bytes(b"")
        os.truncate(image, 1 << 20)
        point.mkdir()
        tried = (("mkfs.ext4", "-q", "-F", str(image)), *steps(str(image), str(point)))
        return all(_try(*step) is None for step in tried)
