"""Commands about modules: from a folder on one's own machine to a release."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import httpx2
import typer

from cloister.cli.client import checked, connect
from cloister.cli.output import Failure, table
from cloister.core.errors import CloisterError
from cloister.modules import TEMPLATES, Described, check_files, pack, read_folder, unpack

app = typer.Typer(no_args_is_help=True, help="Modules: integrations that fetch data, widgets that draw it.")
Folder = Annotated[Path, typer.Argument(help="The module's folder.", exists=True, file_okay=False)]
Name = Annotated[str | None, typer.Option("--name", "-n", help="The module's name. Default: the folder's.")]
TICK_SECONDS = 20.0
LOOK_SECONDS = 0.5
AWAY_SECONDS = 2.0


def _described(folder: Path) -> tuple[dict[str, bytes], Described]:
    files = read_folder(folder)
    return files, check_files(files)[0]


def _push(http: httpx2.Client, name: str, files: dict[str, bytes]) -> None:
    """Make one's draft on the server be these files."""
    if http.get(f"/modules/{name}").status_code == 404:
        checked(http.post("/modules", json={"name": name, "files": {}}))
    headers = {"Content-Type": "application/zip"}
    checked(http.put(f"/modules/{name}/archive", content=pack(files), headers=headers))


@app.command("init")
def begin(
    folder: Path, kind: Annotated[str, typer.Option("--kind", "-k", help="python, node, go or widget.")] = "python"
) -> None:
    """Begin a module in a new folder."""
    if kind not in TEMPLATES:
        raise Failure(f"There is no template “{kind}”; choose one of {', '.join(TEMPLATES)}.")
    if folder.exists() and any(folder.iterdir()):
        raise Failure(f"{folder} is not empty.")
    for path, content in TEMPLATES[kind].items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
        typer.echo(f"wrote {folder / path}")
    typer.echo(f"Next: cloister module run {folder} --space SPACE --team TEAM")


@app.command("test")
def check(folder: Folder) -> None:
    """Check a module's files as publishing would, without a server."""
    files, described = _described(folder)
    manifest = described.manifest
    typer.echo(f"{manifest.kind}{f' in {manifest.runtime}' if manifest.runtime else ''}, {len(files)} files")
    for entry in described.model:
        typer.echo(f"  setting {entry.name}: {entry.type}")
    asked = manifest.permissions.model_dump(mode="json", exclude_defaults=True)
    typer.echo(f"  permissions: {json.dumps(asked) if asked else 'none'}")


@app.command()
def publish(folder: Folder, version: str, name: Name = None) -> None:
    """Publish a folder as a release."""
    files, _ = _described(folder)
    name = name or folder.resolve().name
    with connect() as http:
        _push(http, name, files)
        checked(http.post(f"/modules/{name}/releases", json={"version": version}))
        asyncio.run(_built(http, name, version))
    typer.echo(f"{name} {version} is published.")


async def _built(http: httpx2.Client, name: str, version: str) -> None:
    """Follow a build to its end, printing what it says."""
    path, after = f"/modules/{name}/releases/{version}", 0
    while True:
        said = checked(await asyncio.to_thread(http.get, f"{path}/log", params={"after": after}))
        typer.echo(said["text"], nl=False)
        state, after = said["state"], said["next"]
        if state != "building" and not said["text"]:
            break
        if state == "building":
            await asyncio.sleep(LOOK_SECONDS)  # a bounded poll over HTTP, as any client would
    if state == "failed":
        raise Failure(f"The build failed: {checked(http.get(path))['reason']}")


@app.command()
def sync(
    name: str,
    url: Annotated[str | None, typer.Option("--from", help="The repository to keep it in from now on.")] = None,
    branch: Annotated[str, typer.Option("--branch", "-b")] = "main",
    folder: Annotated[str, typer.Option("--folder", "-f", help="Where in the repository it is.")] = "",
) -> None:
    """Fetch a module from its repository: the branch becomes the draft, each tag that is a new version a release."""
    path = f"/modules/{name}/source"
    with connect() as http:
        if url is None:
            source = checked(http.post(f"{path}/sync"))
        else:
            if http.get(f"/modules/{name}").status_code == 404:
                checked(http.post("/modules", json={"name": name, "files": {}}))
            source = checked(http.put(path, json={"url": url, "branch": branch, "folder": folder}))
            typer.echo(f"webhook: {source['hook']}\nits secret, shown once: {source['secret']}")
        typer.echo("fetching ...")
        source = asyncio.run(_fetched(http, path, source))
    if source["state"] == "failed":
        raise Failure(source["reason"])
    typer.echo(f"{name} is at {source['commit'][:12]}.")


async def _fetched(http: httpx2.Client, path: str, source: dict[str, Any]) -> dict[str, Any]:
    while source["state"] in {"waiting", "fetching"}:
        await asyncio.sleep(LOOK_SECONDS)  # a bounded poll over HTTP, as any client would
        source = checked(await asyncio.to_thread(http.get, path))
    return source


@app.command()
def fork(
    source: str,
    name: str,
    version: Annotated[str, typer.Option("--version", "-v")] = "latest",
    into: Annotated[Path | None, typer.Option("--into", help="A new folder for its files.")] = None,
) -> None:
    """Begin a module of your own from another's release."""
    if into is not None and into.exists() and any(into.iterdir()):
        raise Failure(f"{into} is not empty.")
    with connect() as http:
        made = checked(http.post(f"/modules/{source}/forks", json={"name": name, "version": version}))
        typer.echo(f"{made['name']}, from {made['forked_from']}")
        if into is not None:
            archive = http.get(f"/modules/{name}/archive")
            if archive.is_error:
                checked(archive)
            for path, content in unpack(archive.content).items():
                (into / path).parent.mkdir(parents=True, exist_ok=True)
                (into / path).write_bytes(content)
                typer.echo(f"wrote {into / path}")


@app.command()
def yank(name: str, version: str, back: Annotated[bool, typer.Option("--back", help="Show it again.")] = False) -> None:
    """Hide a release of yours from new users. Where it is pinned it still runs."""
    with connect() as http:
        checked(http.put(f"/modules/{name}/releases/{version}/yank", json={"yanked": not back}))
    typer.echo(f"{name}@{version} is {'shown again' if back else 'hidden'}")


@app.command()
def remove(name: str, version: str, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Take a release of yours away for good. Dashboards that use it say so; its number is never used again."""
    if not yes:
        typer.confirm(f"Take {name}@{version} away for good?", abort=True)
    with connect() as http:
        checked(http.delete(f"/modules/{name}/releases/{version}"))
    typer.echo(f"{name}@{version} is gone")


@app.command()
def search(
    words: Annotated[str, typer.Argument(help="What to look for; nothing: all.")] = "",
    kind: Annotated[str | None, typer.Option("--kind", "-k")] = None,
) -> None:
    """Find published modules."""
    with connect() as http:
        params: dict[str, str | int] = {"q": words, "limit": 50, **({"kind": kind} if kind else {})}
        found = checked(http.get("/modules", params=params))["items"]
    rows = [(m["name"], m["kind"], m["latest"] or "", m["author"], m["summary"]) for m in found]
    typer.echo(table(rows, ("name", "kind", "latest", "author", "summary")))


@app.command()
def show(name: str) -> None:
    """A module, its releases and what each needs."""
    with connect() as http:
        module = checked(http.get(f"/modules/{name}"))
    typer.echo(
        f"{module['title']}: {module['summary']}\n{module['kind']} by {module['author']}, used {module['uses']} times"
    )
    for release in module["releases"]:
        more = f", asks for more: {', '.join(release['asks_more'])}" if release["asks_more"] else ""
        typer.echo(f"  {release['version']}: {release['state']}{more}")


@app.command()
def run(
    folder: Folder,
    space: Annotated[str, typer.Option("--space", "-s", help="The space in whose sandbox it runs.")],
    team: Annotated[str, typer.Option("--team", "-t", help="Your team there, such as t-000001.")],
    values: Annotated[list[str] | None, typer.Option("--set", help="A setting, such as place=Lisbon or n=3.")] = None,
    name: Name = None,
) -> None:
    """Run a folder in a real sandbox, show what it puts out and prints, and start it anew on each save. Ctrl+C ends it."""
    given = {}
    for value in values or []:
        key, equals, text = value.partition("=")
        if not equals:
            raise Failure(f"“{value}” is no setting; write NAME=VALUE.")
        try:
            given[key] = json.loads(text)
        except ValueError:
            given[key] = text
    body = {"team": team, "values": given}
    with connect() as http:
        asyncio.run(_run(http, folder, name or folder.resolve().name, f"/spaces/{space}/trials/", body))


async def _run(http: httpx2.Client, folder: Path, name: str, path: str, body: dict[str, Any]) -> None:
    """Push, try, follow; again whenever a file changes."""

    async def trial() -> asyncio.Task[bool] | None:
        files, _ = _described(folder)
        await asyncio.to_thread(_push, http, name, files)
        tried = checked(await asyncio.to_thread(lambda: http.post(f"{path}{name}", json=body)))
        if tried["frame"]:
            typer.echo(f"drawn at {tried['page']}")
            return None
        return asyncio.create_task(_follow(http, tried["live"]["path"]))

    following, lost = await trial(), False
    seen = await asyncio.to_thread(read_folder, folder)
    while following is None or not following.done() or not following.result():
        await asyncio.sleep(LOOK_SECONDS)  # saves are looked for so often: not every file system tells of them
        now = await asyncio.to_thread(read_folder, folder)
        lost = lost or (following is not None and following.done() and not following.result())
        if now == seen and not lost:
            continue
        typer.echo("-- saved: starts anew" if now != seen else "-- the connection was lost: tries again")
        seen = now
        if following is not None:
            following.cancel()
        try:
            following, lost = await trial(), False
        except (Failure, CloisterError) as failure:  # wrong while it is written: say so, and wait for the next save
            typer.echo(str(failure))
            following = None
            await asyncio.sleep(AWAY_SECONDS if lost else 0)
        except httpx2.HTTPError:  # the server is away
            following, lost = None, True
            await asyncio.sleep(AWAY_SECONDS)


@contextlib.asynccontextmanager
async def _looking(ws: aiohttp.ClientWebSocketResponse) -> AsyncIterator[None]:
    """Say again and again that somebody looks: what nobody looks at is ended after a minute."""

    async def tick() -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            await ws.send_str('{"type":"TICK"}')

    ticking = asyncio.create_task(tick())
    try:
        yield
    finally:
        ticking.cancel()
        await asyncio.gather(ticking, return_exceptions=True)


async def _follow(http: httpx2.Client, path: str) -> bool:
    """Show what a live session says; return whether it was ended, and not only the connection to it."""
    address = f"{http.base_url}{path.lstrip('/')}"
    with contextlib.suppress(aiohttp.ClientError):
        return await _shown(address)
    return False


async def _shown(address: str) -> bool:
    async with aiohttp.ClientSession() as client, client.ws_connect(address, max_msg_size=0) as ws, _looking(ws):
        async for message in ws:
            said = json.loads(message.data)
            if said["type"] == "OUTPUT":
                if "bytes" in said:
                    typer.echo(f"OUTPUT of {said['bytes']} bytes")
                    continue
                shown = said["model"] if "model" in said else {"changed": said["patch"]}
                typer.echo(f"OUTPUT {json.dumps(shown, ensure_ascii=False)[:2000]}")
            elif said["type"] == "STATUS" and "state" in said:
                typer.echo(f"{said['state'].upper()} {said['reason']}")
            elif said["type"] == "STATUS":
                typer.echo(f"{said['level']} {said['text'].rstrip()}")
            elif said["type"] == "TERMINATE":
                typer.echo(said["reason"])
                return True
    return False
