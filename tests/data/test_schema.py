"""The schema: what the migrations make is what the models say, on each database."""

import asyncio

import pytest
from sqlalchemy import text

from cloister.audit import Name, record, seal, verify
from cloister.bootstrap import Platform, check_schema, upgrade_schema
from cloister.platform import Database
from tests.support import make_settings


@pytest.fixture
def empty():
    return True


@pytest.fixture
async def database(settings):
    found = Database(settings.database_dsn, seal=seal, publish=lambda _events: None)
    yield found
    await found.close()


async def test_an_upgraded_schema_is_what_the_models_say(database):
    await upgrade_schema(database)
    assert await check_schema(database) == []


async def test_an_empty_database_is_told_apart(database):
    assert any("audit_records" in difference for difference in await check_schema(database))


async def test_a_strayed_schema_is_told(database):
    await upgrade_schema(database)
    async with database.writer.begin() as connection:
        await connection.execute(text("ALTER TABLE letters ADD COLUMN stray INTEGER"))
    differences = await check_schema(database)
    assert len(differences) == 1 and "stray" in differences[0]


async def test_upgrading_again_changes_nothing(database):
    await upgrade_schema(database)
    async with database.write() as uow:
        record(uow, Name.SIGNED_IN, person=1)
    await upgrade_schema(database)
    await asyncio.sleep(0)
    assert await check_schema(database) == []
    assert (await verify(database, None)).records == 1


async def test_a_connection_that_two_give_up_at_once_ends_for_both(tmp_path):
    """As when a task is cancelled in the middle of a statement; the driver's own way waits for ever then."""
    database = Database(make_settings(tmp_path).database_dsn, seal=seal, publish=lambda _events: None)
    async with database.reader.connect() as connection:
        await connection.execute(text("SELECT 1"))
        adapted = (await connection.get_raw_connection()).dbapi_connection
        async with asyncio.timeout(10):
            await asyncio.gather(*(adapted._terminate_graceful_close() for _ in range(2)))
            adapted._terminate_force_close()
        await connection.invalidate()
    await database.close()


async def test_a_platform_that_is_stopped_as_its_controllers_begin_stops(tmp_path):
    async with asyncio.timeout(60):
        for moment in range(12):
            async with Platform(make_settings(tmp_path / str(moment % 2))).running():
                await asyncio.sleep(moment * 0.015)
