"""A space may want gVisor's kernel under its code. gVisor itself cannot be installed where these tests run: what stands in
for it notes how it was called, and has crun do the work."""

import os
import shutil

import pytest

from tests.support import blueprint, declare, make_settings, served

STAND_IN = """#!/bin/sh
echo "$@" >> {log}
for argument in "$@"; do
    shift
    case $argument in --network=none|--platform=*) ;; *) set -- "$@" "$argument" ;; esac
done
exec crun --cgroup-manager=cgroupfs "$@"
"""


@pytest.fixture
async def api(tmp_path):
    async with served(make_settings(tmp_path / "s")) as made:
        await declare(made.platform, blueprint(policies={"isolation": "gvisor"}))
        yield made


async def test_without_it_nothing_of_the_space_runs(api):
    ann = await api.member("ann")
    refused = await ann.post("/spaces/course/sandboxes", json={"command": ["python3", "-V"]})
    assert refused.json()["code"] == "sandbox.walls_missing"
    assert "gVisor" in refused.json()["detail"]
    assert shutil.which("runsc") is None, "then this file can do without its stand-in"


async def test_with_it_the_spaces_code_runs_on_it_and_other_code_does_not(api, tmp_path, monkeypatch):
    log = tmp_path / "calls"
    stand_in = tmp_path / "bin" / "runsc"
    stand_in.parent.mkdir()
    stand_in.write_text(STAND_IN.format(log=log))
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stand_in.parent}:{os.environ['PATH']}")
    await declare(api.platform, blueprint(slug="other", title="Another"))
    ann, bob = await api.member("ann"), await api.member("bob", "other")
    state, text = await api.run(ann, "print('here')")
    assert (state["exit_code"], text) == (0, "here\n")
    calls = log.read_text().splitlines()
    assert any("--network=none" in call and " run " in f" {call} " and state["id"] in call for call in calls)
    assert any("delete --force" in call and state["id"] in call for call in calls)
    state, _ = await api.run(bob, "print('here')", space="other")
    assert state["exit_code"] == 0
    assert state["id"] not in log.read_text()
    assert await api.platform.backend.known() == set()


async def test_a_note_of_the_runtime_that_a_kill_left_empty_stops_nothing(api):
    backend, id_ = api.platform.backend, "sbx_half"
    bundle = api.platform.settings.run_directory / "oci" / "bundles" / id_
    bundle.mkdir(parents=True)
    (bundle / "runtime").touch()
    assert await backend.alive(id_) is None
    await backend.remove(id_, api.platform.sandbox_controller.place(id_))
    assert not bundle.exists()
