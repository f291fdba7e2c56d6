"""Commands about the gateway."""

import asyncio

import typer

from cloister.cli.opening import opened

app = typer.Typer(no_args_is_help=True, help="The gateway.")


@app.callback()
def _group() -> None:
    """Keeps ``config`` a command of a group."""


@app.command()
def config() -> None:
    """Print the configuration that Caddy gets."""

    async def run() -> str:
        async with opened() as platform:
            return platform.caddy.text()

    typer.echo(asyncio.run(run()))
