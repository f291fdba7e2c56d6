"""Commands about environments."""

import asyncio
from typing import Annotated

import typer

from cloister.cli.opening import opened
from cloister.cli.output import table
from cloister.insight import declared_environments

app = typer.Typer(no_args_is_help=True, help="Environments: what is inside sandboxes.")


@app.command("ls")
def list_environments() -> None:
    """List what is built, and which spaces use it."""

    async def run() -> None:
        async with opened() as platform, platform.database.read() as uow:
            found = (await platform.machines.environments(uow)).items
        rows = [
            (
                one.id or "(not built)",
                f"{one.size_bytes / 2**20:.0f}M" if one.id else "",
                len(one.packages),
                ", ".join(one.used_by),
            )
            for one in found
        ]
        typer.echo(table(rows, ("environment", "size", "packages", "used by")))

    asyncio.run(run())


@app.command()
def build(
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Also choose the newest releases of those that are there.")
    ] = False,
) -> None:
    """Build every environment that a space declares and that is not there.

    With --refresh the newest releases that their requirements allow are chosen anew, the platform's own Jupyter server
    among them. What runs goes on with what it has, and has the new ones from its next start.
    """

    async def run() -> None:
        async with opened() as platform:
            async with platform.database.read() as uow:
                wanted = await declared_environments(uow)
            for name, requirements in wanted.items():
                typer.echo(f"{name} ...")
                make = platform.environments.refresh if refresh else platform.environments.ensure
                built = await make(requirements, lambda step: typer.echo(f"  {step}"))
                typer.echo(f"  {built.id}, {built.size_bytes / 2**20:.0f}M")

    asyncio.run(run())


@app.command()
def gc() -> None:
    """Remove what no space and no release of a module uses any more."""

    async def run() -> None:
        async with opened() as platform:
            gone = await platform.machines.collect()
            typer.echo("\n".join(f"removed {id_}" for id_ in gone) or "nothing to remove")

    asyncio.run(run())
