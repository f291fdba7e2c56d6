"""A server of one's own to kill, and a machine that is clean after it."""

import random
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.chaos.server import Server
from tests.support import blueprint

STARTS = 50
"""So many sandboxes a team may have at once."""


@pytest.fixture
def server(tmp_path):
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))  # short: the names of sockets have a limit
    first_uid = 800_000_000 + random.randrange(1000) * 100_000  # our own, so that leftovers are known to be ours
    found = Server(folder / "s", sandbox_uid_base=first_uid)
    found.first_uid = first_uid
    course = blueprint(policies={"sandboxes_per_team": STARTS})
    found.declare(tmp_path, course)
    found.start()
    yield found
    if found.process.poll() is None:
        found.kill()
    print(found.log.read_text()[-20_000:])  # shown when the test failed
    found.run("space", "apply", str(tmp_path / "space.json"))  # takes over, and stops every sandbox at its end
    shutil.rmtree(folder, ignore_errors=True)
