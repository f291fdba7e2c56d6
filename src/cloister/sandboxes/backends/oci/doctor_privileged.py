"""What this machine can enforce, found by trying it. ``cloister doctor`` prints it."""

import functools
import os
import shutil
import subprocess
import tempfile
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
    walls += [_seccomp(), _user_ids(), _disk(settings)]
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
        probe.rmdir()
    except OSError as error:
        return Wall(f"limit:{controller}", False, required=True, detail=f"cgroup {version}: {error.strerror}")
    return Wall(f"limit:{controller}", True, required=True, detail=f"cgroup {version} at {path}")


def _seccomp() -> Wall:
    actions = Path("/proc/sys/kernel/seccomp/actions_avail")
    works = actions.exists() and "errno" in actions.read_text()
    return Wall(
        "seccomp", works, required=True, detail="deny by default" if works else "the kernel has no seccomp filter"
    )


def _user_ids() -> Wall:
    if os.geteuid() == 0:
        return Wall("user-ids", True, required=True, detail="each team has a host user id of its own")
    return Wall(
        "user-ids",
        False,
        required=True,
        detail="not root: every sandbox runs as your own user id, so teams are kept apart by namespaces alone",
    )


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
    if (
        os.geteuid() == 0
        and Path("/dev/loop-control").exists()
        and shutil.which("mkfs.ext4", path=environment()["PATH"]) is not None
    ):
        return "loop"
    return "fuse" if fuse_works() else "directory"


@functools.cache
def fuse_works() -> bool:
    """Whether an image can be mounted through FUSE here: tried, for what is installed may still not be allowed."""
    with tempfile.TemporaryDirectory() as folder:
        image, point = Path(folder) / "try.ext4", Path(folder) / "try"
        image.write_bytes(b"")
        os.truncate(image, 1 << 20)
        point.mkdir()
        steps = (
            ("mkfs.ext4", "-q", "-F", str(image)),
            ("fuse2fs", "-o", "fakeroot", str(image), str(point)),
            ("fusermount3", "-u", str(point)),
        )
        return all(_try(*step) is None for step in steps)
