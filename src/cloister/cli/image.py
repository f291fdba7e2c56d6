"""Commands about OCI images."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from cloister.bootstrap import Platform
from cloister.cli.opening import opened
from cloister.cli.output import table
from cloister.platform.settings import load
from cloister.sandboxes import Images

app = typer.Typer(no_args_is_help=True, help="OCI images that environments and modules may use.")


def _images(platform: Platform) -> Images:
    async def nothing() -> None:
        """What a server may be building just now is not ours to sweep."""

    workshop = replace(platform.workshop, ready=nothing, swept=True)
    return replace(platform.images, workshop=workshop)


@app.command("import")
def bring(
    name: str, path: Annotated[Path, typer.Argument(help="An image layout: a folder, or a tar file of one.")]
) -> None:
    """Take an image under a name. `skopeo copy docker://… oci:DIR` or `podman save --format oci-archive` makes one."""

    async def run() -> None:
        async with opened() as platform:
            image = await _images(platform).bring(name, path, lambda _level, text: typer.echo(text, nl=False))
            typer.echo(f"{image.name}: {image.digest[:19]}, {image.size_bytes / 2**20:.0f}M")

    asyncio.run(run())


@app.command("ls")
def list_images() -> None:
    """List the images that this machine has."""
    images = _images(Platform(load())).all()
    rows = [(i.name, i.digest[:19], f"{i.size_bytes / 2**20:.0f}M", " ".join(i.command)[:60]) for i in images]
    typer.echo(table(rows, ("image", "digest", "size", "runs")))


@app.command("rm")
def remove(name: str) -> None:
    """Forget an image. What uses it cannot start any more; its files go with `cloister environment gc`."""
    _images(Platform(load())).remove(name)
    typer.echo(f"forgot {name}")
