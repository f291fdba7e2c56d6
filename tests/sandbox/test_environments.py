"""Packages of strangers' modules are installed within bounds; whoever waits for them sees how it goes."""

import os
import sys
from pathlib import Path

import pytest

from cloister.sandboxes import Bounds, EnvironmentBuildFailed, Environments


@pytest.mark.parametrize(
    ("bounds", "said"),
    [(Bounds(120, 1 << 20), "more than 1 MB of disk"), (Bounds(0.01, 1 << 30), "longer than 0.01 s")],
)
async def test_what_meets_a_bound_is_ended_and_leaves_nothing(tmp_path, bounds, said):
    environments = Environments(tmp_path, Path(sys.executable))
    with pytest.raises(EnvironmentBuildFailed) as failure:
        await environments.ensure(["numpy"], bounds=bounds)
    assert said in failure.value.detail
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == []
    assert not [name for name in os.listdir("/proc") if name.isdigit() and _is_uv(Path("/proc", name))]


def _is_uv(process):
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:  # it has ended
        return False
    return words[0].endswith(b"/uv") and b"pip" in words


async def test_within_its_bounds_it_is_built_and_each_line_of_the_installer_is_heard(tmp_path):
    environments, heard = Environments(tmp_path, Path(sys.executable)), []
    built = await environments.ensure(["iniconfig"], heard.append, Bounds(120, 1 << 30))
    assert (built.path / "lib" / "iniconfig").is_dir()
    assert any("iniconfig==" in line for line in heard), heard
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == [built.id], "its cache is gone"


async def test_a_package_that_is_not_there_is_named(tmp_path):
    with pytest.raises(EnvironmentBuildFailed, match="no-such-package-of-anybody"):
        await Environments(tmp_path, Path(sys.executable)).ensure(["no-such-package-of-anybody"], bounds=Bounds(60, 1))


async def test_newer_releases_take_the_place_of_what_there_is_only_when_they_are_built(tmp_path, monkeypatch):
    environments = Environments(tmp_path, Path(sys.executable))
    before = await environments.ensure(["iniconfig"])
    real, starts = environments._lock, []

    async def fails(wanted, lock):
        starts.append(environments.ready(["iniconfig"]))
        raise EnvironmentBuildFailed("the registry is away")

    monkeypatch.setattr(environments, "_lock", fails)
    with pytest.raises(EnvironmentBuildFailed):
        await environments.refresh(["iniconfig"])
    assert starts == [before], "whoever starts meanwhile starts with what there was"
    assert environments.ready(["iniconfig"]) == before

    async def newer(wanted, lock):
        await real(wanted + "# chosen anew\n", lock)
        lock.write_text(lock.read_text() + "# newer\n")

    monkeypatch.setattr(environments, "_lock", newer)
    after = await environments.refresh(["iniconfig"])
    assert environments.ready(["iniconfig"]) == after
    assert after.id != before.id
    assert before.path.is_dir(), "what runs goes on with it"
