"""The schema: Alembic, driven from here so that there is no second configuration."""

import asyncio
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection

from cloister.bootstrap.models import metadata
from cloister.platform import Database

SCRIPTS = Path(__file__).parent.parent / "platform" / "migrations"


def configuration(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.attributes["connection"] = connection
    config.attributes["metadata"] = metadata
    config.attributes["include_name"] = _is_ours
    return config


async def upgrade_schema(database: Database) -> None:
    """Bring the schema to the newest revision; does nothing when it is there."""
    async with database.writer.connect() as connection:
        await connection.run_sync(lambda sync: command.upgrade(configuration(sync), "head"))
        await connection.commit()


def _is_ours(name: str | None, kind: str, _parents: object) -> bool:
    """Whether the models say it: the search index is each database's own."""
    return not (kind == "table" and name is not None and name.startswith("module_search"))


async def check_schema(database: Database) -> list[str]:
    """The differences between the database and the models; none when all is well."""

    def compare(connection: Connection) -> list[str]:
        opts = {"compare_type": True, "include_name": _is_ours}
        context = MigrationContext.configure(connection, opts=opts)
        return [str(difference) for difference in compare_metadata(context, metadata)]

    async with database.reader.connect() as connection:
        return await connection.run_sync(compare)


def make_revision(message: str, dsn: str) -> None:
    """Write a migration from the differences between an up-to-date database and the models (for developers)."""
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415

    async def run() -> None:
        engine = create_async_engine(dsn)
        async with engine.connect() as connection:
            await connection.run_sync(
                lambda sync: command.revision(configuration(sync), message=message, autogenerate=True)
            )
        await engine.dispose()

    asyncio.run(run())
