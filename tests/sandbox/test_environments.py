"""What is in a sandbox is what its environment says, and nothing that this machine happens to have."""

import json
from pathlib import Path

import pytest

from tests.support import blueprint, declare, make_settings, served

LOOK = """
import importlib.metadata, json, sys
print(json.dumps([sorted({d.name.lower() for d in importlib.metadata.distributions()}), "_distutils_hack" in sys.modules]))
"""


PYTHONS = [None, *(path for path in (Path("/usr/bin/python3"),) if path.exists())]
"""The one that runs Cloister, and Debian's, where there is one."""


@pytest.fixture(params=PYTHONS, ids=str)
async def api(tmp_path, request):
    async with served(make_settings(tmp_path / "s", sandbox_python=request.param)) as made:
        await declare(made.platform, blueprint())
        yield made


async def test_packages_of_this_machines_own_python_are_not_there_and_hook_into_nothing(api):
    ann = await api.member("ann")
    state, text = await api.run(ann, LOOK)
    assert state["exit_code"] == 0, text
    found, hooked = json.loads(text)
    assert not {"pip", "setuptools", "pytest"} & set(found), found
    assert "pyarrow" in found, "and what the environment declares is"
    assert not hooked
