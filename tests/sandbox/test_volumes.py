"""Volumes on disk, as root has them."""

import os

import pytest

from cloister.sandboxes import VolumeDisks
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
