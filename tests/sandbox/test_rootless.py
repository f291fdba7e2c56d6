"""Cloister as somebody who is not root: what cannot be enforced is said, and nothing starts until that is accepted."""

import asyncio
import errno
import json
import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest
import pytest_asyncio

from cloister.query import WORKER_PACKAGES
from cloister.sandboxes import Environments
from tests.support import ARROW

NOBODY = 65534
ROOT = Path(__file__).parents[2]


def _readable_python(folder: Path) -> Path:
    """This interpreter where everybody may run it: it may be installed in root's own home."""
    copy = folder / "python"
    ignored = shutil.ignore_patterns("site-packages", "test", "idlelib", "__pycache__")
    shutil.copytree(sys.base_prefix, copy, ignore=ignored, symlinks=True)
    (copy / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages").mkdir(exist_ok=True)
    return copy


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def run_as_nobody():
    if os.geteuid() != 0:
        pytest.fail("this test becomes another user; run it as root")
    folder = Path(tempfile.mkdtemp(prefix="cloister-rootless-"))
    folder.chmod(0o755)
    home = folder / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    python = await asyncio.to_thread(_readable_python, folder)
    environments = Environments(folder / "environments", python / "bin" / "python3")
    for packages in (WORKER_PACKAGES, ARROW):
        await environments.ensure(packages)
    for path in environments.root.glob("*.lock"):
        path.chmod(0o644)

    Path("/dev/fuse").chmod(0o666)  # as udev does; it has no place on these machines

    async def run(program: str, *arguments: str) -> dict:
        process = await asyncio.create_subprocess_exec(
            "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--",
            str(python / "bin" / "python3"), "-m", f"tests.sandbox.{program}", *arguments,
            cwd=ROOT, stdout=asyncio.subprocess.PIPE,
            env={
                "PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home), "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONPATH": f"{ROOT / 'src'}:{sysconfig.get_path('purelib')}:{ROOT}",
                "LD_LIBRARY_PATH": str(python / "lib"),
            },
        )  # fmt: skip
        output, _ = await process.communicate()
        assert process.returncode == 0
        return json.loads(output.splitlines()[-1])

    async def start(*accepted: str) -> dict:
        return await run("rootless_program", str(environments.root), *([",".join(accepted)] if accepted else []))

    start.volumes = lambda: run("rootless_volumes")
    yield start
    shutil.rmtree(folder)


@pytest.mark.asyncio(loop_scope="module")
async def test_without_root_code_is_refused_and_each_missing_wall_is_named(run_as_nobody):
    said = await run_as_nobody()
    assert said["status"] == 503
    assert said["answer"]["code"] == "sandbox.walls_missing"
    missing = {name for name, enforced in said["walls"].items() if not enforced}
    assert "user-ids" in missing
    assert all(name in said["answer"]["detail"] for name in missing)


@pytest.mark.asyncio(loop_scope="module")
async def test_without_root_code_runs_on_a_bounded_disk_once_an_operator_accepts_what_is_missing(run_as_nobody):
    said = await run_as_nobody("limit:cpu", "limit:memory", "limit:pids", "user-ids")
    assert said["backend"] == "fuse"
    assert said["status"] == 202, said
    assert said["state"]["exit_code"] == 0, json.dumps(said)
    _, (capabilities, no_new_privileges, seccomp, *_), disk, names = json.loads(said["output"])
    assert (int(capabilities, 16), no_new_privileges, seccomp) == (0, "1", "2")
    assert (disk, names) == (errno.ENOSPC, errno.ENOSPC)
    assert said["again"].strip() == "True", "the next sandbox finds what the first one left"


@pytest.mark.asyncio(loop_scope="module")
async def test_volumes_without_root_are_copied_restored_grown_and_mended_as_with_it(run_as_nobody):
    assert await run_as_nobody.volumes() == {
        "backend": "fuse",
        "looked": "first",
        "renamed": "kept.txt.before-now",
        "brought": "first",
        "grow": "volume.busy",
        "after the kill": "written before the kill",
        "mounted": [],
        "grown": True,
        "restored": "first",
        "copy of the damaged": 2,
        "left": [],
    }
