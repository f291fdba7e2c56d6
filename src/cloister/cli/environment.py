"""Commands about environments."""

import asyncio
from pathlib import Path

import typer

from cloister.access import scoped_select
from cloister.bootstrap import Platform
from cloister.cli.opening import opened
from cloister.cli.output import table
from cloister.core.principal import EVERYTHING
from cloister.modules import recipes
from cloister.query import WORKER_PACKAGES
from cloister.sandboxes import LIVE, Sandbox, SandboxSpec
from cloister.spaces import JUPYTERLAB, Space, declared

app = typer.Typer(no_args_is_help=True, help="Environments: what is inside sandboxes.")


async def _declared(platform: Platform) -> dict[str, list[str]]:
    """Every declared environment, as SPACE/NAME, with its requirements."""
    async with platform.database.read() as uow:
        spaces = (await uow.session.scalars(scoped_select(Space, EVERYTHING).where(Space.state == "active"))).all()
    return {f"{s.space}/{e.name}": e.requirements for s in spaces for e in declared(s).environments if not e.image}


async def _mounted(platform: Platform) -> set[str]:
    """What sandboxes have that run now, though nobody declares it any more."""
    states = [state.value for state in LIVE]
    async with platform.database.read() as uow:
        rows = (await uow.session.scalars(scoped_select(Sandbox, EVERYTHING).where(Sandbox.state.in_(states)))).all()
    specs = [SandboxSpec.load(row.spec) for row in rows]
    paths = [
        path for spec in specs for path in (spec.environment, spec.image, *(m.source for m in spec.mounts)) if path
    ]
    return {Path(path).name for path in paths}


@app.command("ls")
def list_environments() -> None:
    """List what is built, and which spaces use it."""

    async def run() -> None:
        async with opened() as platform:
            users: dict[str, list[str]] = {}
            for name, requirements in (await _declared(platform)).items():
                built = platform.environments.ready(requirements)
                users.setdefault(built.id if built else "(not built)", []).append(name)
            rows = [
                (b.id, f"{b.size_bytes / 2**20:.0f}M", len(b.packages), ", ".join(users.pop(b.id, [])))
                for b in platform.environments.all()
            ]
            rows += [(id_, "", 0, ", ".join(names)) for id_, names in users.items()]
            typer.echo(table(rows, ("environment", "size", "packages", "used by")))

    asyncio.run(run())


@app.command()
def build() -> None:
    """Build every environment that a space declares and that is not there."""

    async def run() -> None:
        async with opened() as platform:
            for name, requirements in (await _declared(platform)).items():
                typer.echo(f"{name} ...")
                built = await platform.environments.ensure(requirements, lambda step: typer.echo(f"  {step} ..."))
                typer.echo(f"  {built.id}, {built.size_bytes / 2**20:.0f}M")

    asyncio.run(run())


@app.command()
def gc() -> None:
    """Remove what no space and no release of a module uses any more."""

    async def run() -> None:
        async with opened() as platform:
            wanted = [*(await _declared(platform)).values(), WORKER_PACKAGES, JUPYTERLAB]
            used = {built.id for requirements in wanted if (built := platform.environments.ready(requirements))}
            used |= {image.path.name for image in platform.images.all()}
            used |= await platform.layers.used(await recipes(platform.database))
            used |= await _mounted(platform)
            gone = await platform.environments.collect(used)
            typer.echo("\n".join(f"removed {id_}" for id_ in gone) or "nothing to remove")

    asyncio.run(run())
