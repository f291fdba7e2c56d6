"""Commands about the gateway."""

import asyncio

import typer

from cloister.bootstrap import Platform
from cloister.platform.settings import load

app = typer.Typer(no_args_is_help=True, help="The gateway.")


@app.callback()
def _group() -> None:
    """Keeps ``config`` a command of a group."""


@app.command()
def config() -> None:
    """Print the configuration that Caddy gets, for the spaces that there are."""

    async def run() -> str:
        platform = Platform(load())
        try:
            return await platform.caddy.text()
        finally:
            await platform.database.close()

    typer.echo(asyncio.run(run()))
