"""Fixtures. Every test of the data layer runs on SQLite and on PostgreSQL."""

import asyncio
import os
import sys

import pytest
import pytest_asyncio

from tests.support import Postgres, fake_backend, make_settings, served


@pytest.fixture(autouse=True, scope="session")
def _clean_environment():
    """No setting of the caller's shell reaches a test."""
    for name in [name for name in os.environ if name.startswith("CLOISTER_")]:
        del os.environ[name]


@pytest_asyncio.fixture(autouse=True, scope="session", loop_scope="session")
async def _one_browser():
    """Tests in one event loop share a browser; `scripts/test` lets those that need one be in one."""
    module = sys.modules.get("tests.workspaces.browser")
    if module is not None:
        module.Chromium.loop = asyncio.get_running_loop()
    yield
    if module is not None:
        await module.Chromium.close()


@pytest.fixture(scope="session")
def postgres():
    server = Postgres()
    yield server
    server.close()


@pytest.fixture
def empty():
    """Whether a fresh platform's PostgreSQL database has no schema yet."""
    return False


@pytest.fixture(params=["sqlite", "postgresql"])
async def settings(request, tmp_path, empty):
    """Settings of a fresh platform, once for each database; nothing is isolated, since nothing is run."""
    url = None
    if request.param == "postgresql":
        url = await request.getfixturevalue("postgres").new_database(empty=empty)
    return make_settings(tmp_path / "state", database_url=url, sandbox_backend="fake")


@pytest.fixture
async def api(settings):
    """A served platform without sandboxes, on each database."""

    backend = fake_backend()
    async with served(settings, backend=backend) as found:
        yield found
