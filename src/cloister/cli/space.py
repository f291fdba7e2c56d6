"""Commands about spaces: plan, apply, export, schema."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from cloister.blueprint import Removed, catalogue, dump, json_schema, read
from cloister.bootstrap import Platform, StateInUse, upgrade_schema
from cloister.cli.opening import opened
from cloister.cli.output import Failure
from cloister.core.principal import EVERYTHING, SYSTEM
from cloister.datasets import DatasetVersion
from cloister.platform import logs
from cloister.platform.operations import Operation
from cloister.platform.settings import load

app = typer.Typer(no_args_is_help=True, help="Spaces, declared in space.yaml.")
File = Annotated[Path, typer.Argument(help="The declaration.")]


@app.command()
def plan(file: File) -> None:
    """Print what apply would change."""

    async def run() -> None:
        async with opened() as platform:
            await upgrade_schema(platform.database)
            blueprint = read(file, catalogue(platform.settings.environment_catalogue))
            changes = await platform.blueprints.plan(blueprint, file.parent)
        typer.echo("\n".join(str(change) for change in changes) or "Nothing to change.")

    asyncio.run(run())


@app.command()
def apply(file: File) -> None:
    """Make a space be what the file declares. Applying twice is applying once."""
    settings = load()
    logs.configure(settings.model_copy(update={"log_level": "warning", "log_format": "console"}))
    platform = Platform(settings)
    asyncio.run(_apply(platform, file))


async def _apply(platform: Platform, file: Path) -> None:
    """Apply; the data are loaded by the server that runs here, or else by this process."""
    blueprint = read(file, catalogue(platform.settings.environment_catalogue))
    own = await _start_or_join(platform)
    try:
        versions = await platform.blueprints.apply(blueprint, file.parent, typer.echo, SYSTEM)
        for version in versions:
            await follow(platform, version)
    finally:
        await _leave(platform, own=own)


async def _start_or_join(platform: Platform) -> bool:
    """Let the controllers run here, unless a server on this machine runs them already; whether they run here."""
    try:
        await platform.start()
    except StateInUse:
        return False
    return True


async def _leave(platform: Platform, *, own: bool) -> None:
    if own:
        await platform.stop(stop_sandboxes=True)
    else:
        await platform.database.close()


async def follow(platform: Platform, version: DatasetVersion) -> None:
    """Show a version's loading until it is ready.

    Raises:
        Failure: when it failed, with the reason.
    """
    said = ""
    while True:
        async with platform.database.read(EVERYTHING.principal) as uow:
            operation: Operation = await platform.operations.get(uow, version.operation)
        if operation.state == "failed":
            raise Failure(f"dataset {version.dataset}: {operation.message}")
        line = f"dataset {version.dataset}: {operation.message} {operation.progress:.0%}"
        if line != said and (operation.state == "running" or said):
            typer.echo(line)
        said = line
        if operation.state == "done":
            return
        await asyncio.sleep(0.2)  # a poll of progress: the work may be another process's


@app.command()
def end(
    slug: str,
    confirm: Annotated[str, typer.Option(help="The slug again: what the space has cannot be brought back.")],
) -> None:
    """End a space: remove everything it had, and prove that it is gone. The log and signatures stay."""
    if confirm != slug:
        raise Failure("--confirm must be the space's slug.")

    async def run() -> list[Removed]:
        platform = Platform(load())
        own = await _start_or_join(platform)
        try:
            return await platform.endings.end(slug, SYSTEM)
        finally:
            await _leave(platform, own=own)

    report = asyncio.run(run())
    typer.echo("\n".join(str(line) for line in report))
    if any(line.left for line in report):
        raise Failure("Something is left. Run the command again.")


@app.command()
def export(slug: str) -> None:
    """Print a space's declaration as it is now."""

    async def run() -> str:
        async with opened() as platform:
            return dump(await platform.blueprints.export(slug))

    sys.stdout.write(asyncio.run(run()))


@app.command()
def schema() -> None:
    """Print the JSON Schema of space.yaml."""
    typer.echo(json.dumps(json_schema(), indent=2))
