"""Volumes on disk, as root has them."""

import asyncio
import contextlib
import os
import subprocess

import pytest

from cloister.sandboxes import VolumeDisks, volumes_privileged
from cloister.sandboxes.errors import VolumeBusy
from cloister.sandboxes.processes_privileged import output_of
from tests.support import make_settings

SIZE = 64 << 20


@pytest.mark.parametrize("backend", ["loop", "fuse"])
async def test_growing_that_was_killed_in_the_middle_is_finished_by_the_next_try(tmp_path, backend):
    disks = VolumeDisks(make_settings(tmp_path, volume_backend=backend))
    await disks.create("v-1", SIZE, 1_000_002)
    os.truncate(disks.image("v-1"), 2 * SIZE)  # as far as it came
    await disks.create("v-1", 2 * SIZE, 1_000_002)
    space = os.statvfs(await disks.mount("v-1"))
    await disks.delete("v-1")
    assert space.f_blocks * space.f_bsize > 1.5 * SIZE


async def test_through_fuse_the_kernel_still_weighs_whose_file_it_is(tmp_path):
    disks = VolumeDisks(make_settings(tmp_path, volume_backend="fuse"))
    await disks.create("v-1", SIZE, 1_000_002)
    point = await disks.mount("v-1")
    (point / "private").write_text("mine")
    (point / "private").chmod(0o600)
    os.chown(point / "private", 1_000_002, 1_000_002)
    folder = os.open(point, os.O_PATH)

    def read_as(uid: int) -> str:
        os.seteuid(uid)
        try:
            with open("private", opener=lambda name, flags: os.open(name, flags, dir_fd=folder)) as file:
                return file.read()
        finally:
            os.seteuid(0)

    try:
        assert read_as(1_000_002) == "mine"
        with pytest.raises(PermissionError):
            read_as(1_000_003)
    finally:
        os.close(folder)
        await disks.delete("v-1")


@contextlib.contextmanager
def held(point):
    """A file system held by another mount namespace, as that of a sandbox does for a moment while it starts."""
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo here; exec sleep 600"]
    with subprocess.Popen(command, cwd=point, stdout=subprocess.PIPE) as holder:
        try:
            holder.stdout.readline()
            yield holder
        finally:
            holder.kill()


async def test_a_volume_that_another_sandbox_s_start_still_holds_is_not_checked_or_mounted_before_that_ends(tmp_path):
    disks = VolumeDisks(make_settings(tmp_path, volume_backend="loop"))
    await disks.create("v-1", SIZE, 1_000_002)
    point = await disks.mount("v-1")
    with held(point) as holder:
        (point / "work").write_text("of a week")
        await disks.unmount("v-1")
        again = asyncio.create_task(disks.mount("v-1"))
        await asyncio.sleep(0.3)
        assert not again.done()
        holder.kill()
        assert (await again / "work").read_text() == "of a week"
    found = disks.snapshots("v-1")
    await disks.delete("v-1")
    assert found == []  # what e2fsck will not mend alone is copied: nothing was damaged


async def test_what_is_damaged_though_it_was_unmounted_in_order_is_mended_all_the_same(tmp_path):
    disks = VolumeDisks(make_settings(tmp_path, volume_backend="loop"))
    await disks.create("v-1", SIZE, 1_000_002)
    (await disks.mount("v-1") / "work").write_text("of a week")
    await disks.unmount("v-1")
    image = disks.image("v-1")
    await output_of("debugfs", "-w", "-R", "set_bg 0 checksum 4660", str(image))
    assert volumes_privileged._in_order(image)
    assert (await disks.mount("v-1") / "work").read_text() == "of a week"
    await disks.delete("v-1")


@pytest.mark.parametrize("sign", ["ssv state 0", "ssv state 3", "feature needs_recovery", "ssv last_orphan 12"])
async def test_an_image_that_is_not_in_order_is_told_apart(tmp_path, sign):
    disks = VolumeDisks(make_settings(tmp_path, volume_backend="loop"))
    await disks.create("v-1", SIZE, 1_000_002)
    image = disks.image("v-1")
    assert volumes_privileged._in_order(image), "a new one is in order"
    await output_of("debugfs", "-w", "-R", sign, str(image))
    assert not volumes_privileged._in_order(image)


async def test_a_volume_that_stays_held_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(volumes_privileged, "RELEASE_SECONDS", 0.1)
    disks = VolumeDisks(make_settings(tmp_path, volume_backend="loop"))
    await disks.create("v-1", SIZE, 1_000_002)
    point = await disks.mount("v-1")
    (point / "work").write_text("of a week")
    with held(point):
        await disks.unmount("v-1")
        with pytest.raises(VolumeBusy, match="still in use"):
            await disks.mount("v-1")
    assert (await disks.mount("v-1") / "work").read_text() == "of a week"
    await disks.delete("v-1")


async def test_a_copy_that_was_killed_in_the_middle_does_not_hold_up_those_who_write_for_ever(tmp_path):
    settings = make_settings(tmp_path, volume_backend="loop")
    disks = VolumeDisks(settings)
    await disks.create("v-1", SIZE, 1_000_002)
    point = await disks.mount("v-1")
    await disks._freeze("v-1")  # as far as it came
    writes = asyncio.create_task(asyncio.to_thread((point / "work").write_text, "of a week"))
    await asyncio.sleep(0.2)
    assert not writes.done()
    await VolumeDisks(settings).thaw_left()
    async with asyncio.timeout(10):
        await writes
    await disks.snapshot("v-1", "20260101T000000000000")
    async with disks.look_into("v-1", "20260101T000000000000") as root:
        assert (root / "work").read_text() == "of a week"
    await disks.delete("v-1")
