"""Commands of operators: settings, doctor, database, server, demo."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from cloister.bootstrap import Platform, check_schema, upgrade_schema
from cloister.cli.demo import run_demo
from cloister.cli.opening import opened
from cloister.cli.output import Failure, table
from cloister.cli.serving import http_server
from cloister.platform import logs
from cloister.platform.settings import explain, load
from cloister.sandboxes import Wall

app = typer.Typer()
database_app = typer.Typer(no_args_is_help=True, help="The database's schema.")
app.add_typer(database_app, name="db")


@app.command("settings")
def show_settings() -> None:
    """Print each setting, its value (secrets masked) and where it comes from."""
    typer.echo(table(explain(load()), ("setting", "value", "from")))


@app.command()
def doctor() -> None:
    """Say what this machine enforces, and what it does not."""
    from cloister.sandboxes.backends.oci.doctor_privileged import examine  # noqa: PLC0415

    settings = load()
    examination = examine(settings)
    typer.echo(table([_wall_row(wall) for wall in examination.walls], ("wall", "", "detail")))
    missing = examination.missing(settings.sandbox_allow_unenforced)
    if missing:
        names = ", ".join(wall.name for wall in missing)
        raise Failure(f"Code of users will not be started here: {names} not enforced.")
    typer.echo("Code of users can be run here.")


def _wall_row(wall: Wall) -> tuple[str, str, str]:
    return wall.name, "enforced" if wall.enforced else "MISSING", wall.detail


@app.command()
def serve() -> None:
    """Run the server until it is told to stop. Sandboxes go on and are adopted by the next one."""
    settings = load()
    logs.configure(settings)
    uvloop.run(http_server(Platform(settings), manage=True).serve())


@app.command()
def demo(
    check: Annotated[bool, typer.Option("--check", help="Play the main job, print what happened, and stop.")] = False,
    state: Annotated[Path, typer.Option(help="Where the demo keeps its state.")] = Path(".demo"),
    spaces: Annotated[Path, typer.Option(help="Where the demo's spaces are declared.")] = Path("demo"),
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8080,
) -> None:
    """Start everything on real data with embedded defaults."""
    try:
        failed = uvloop.run(run_demo(state.resolve(), spaces, port, check=check))
    except asyncio.CancelledError:
        raise typer.Exit(130) from None
    if failed:
        raise Failure("The demo's check failed: " + ", ".join(failed))


@database_app.command("upgrade")
def db_upgrade() -> None:
    """Bring the schema to the newest revision."""

    async def run() -> None:
        async with opened() as platform:
            await upgrade_schema(platform.database)

    asyncio.run(run())
    typer.echo("The schema is up to date.")


@database_app.command("check")
def db_check() -> None:
    """Compare the schema with what this version expects."""

    async def run() -> list[str]:
        async with opened() as platform:
            return await check_schema(platform.database)

    differences = asyncio.run(run())
    if differences:
        raise Failure("The schema differs; run “cloister db upgrade”.\n" + "\n".join(differences))
    typer.echo("The schema is what this version expects.")
