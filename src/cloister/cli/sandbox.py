"""Commands about sandboxes."""

import json
import sys
import time
from pathlib import Path
from typing import Annotated

import httpx2
import typer

from cloister.cli.client import checked, connect
from cloister.cli.output import table

app = typer.Typer(no_args_is_help=True, help="Sandboxes.")
SpaceOption = Annotated[str, typer.Option("--space", "-s", help="The space's slug.")]
FINAL = {"stopped", "failed"}


@app.command(context_settings={"ignore_unknown_options": True})
def run(
    space: SpaceOption,
    command: Annotated[list[str], typer.Argument(help="The command, after --.")],
    team: Annotated[str | None, typer.Option(help="The team's number.")] = None,
    environment: Annotated[str | None, typer.Option("--environment", "-e")] = None,
    size: Annotated[str | None, typer.Option()] = None,
    volume: Annotated[str | None, typer.Option(help="A volume of the team to have as home.")] = None,
    file: Annotated[list[Path] | None, typer.Option(help="A text file to put into the working folder.")] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Print the id and do not wait.")] = False,
) -> None:
    """Run a command in a sandbox and show what it prints; ends with its exit code."""
    body = {
        "command": command, "team": team, "environment": environment, "size": size, "volume": volume,
        "files": {path.name: path.read_text() for path in file or []},
    }  # fmt: skip
    with connect(timeout=None) as http:
        sandbox = checked(http.post(f"/spaces/{space}/sandboxes", json=body))
        if detach:
            typer.echo(sandbox["id"])
            return
        try:
            code = _attend(http, space, sandbox["id"])
        except KeyboardInterrupt:
            checked(http.delete(f"/spaces/{space}/sandboxes/{sandbox['id']}"))
            code = 130
    raise typer.Exit(code)


def _attend(http: httpx2.Client, space: str, id_: str) -> int:
    path = f"/spaces/{space}/sandboxes/{id_}"
    said = ""
    while (state := checked(http.get(path)))["state"] in {"requested", "starting"}:
        if state["state"] != said and sys.stderr.isatty():
            said = state["state"]
            typer.echo(f"{id_}: {said}", err=True)
        time.sleep(0.02)  # a bounded poll: the server gives up on a start after its own limit
    _show(http, path, follow=True)
    while (state := checked(http.get(path)))["state"] not in FINAL:
        time.sleep(0.05)  # the program has ended; the platform is tidying up
    if state["reason"]:
        typer.echo(f"{id_}: {state['reason']}", err=True)
    if state["exit_code"] is None:
        return 1
    return int(state["exit_code"]) if state["exit_code"] >= 0 else 128 - int(state["exit_code"])


def _show(http: httpx2.Client, path: str, *, follow: bool) -> None:
    with http.stream("GET", f"{path}/output", params={"follow": follow}) as response:
        if response.status_code >= 400:
            checked(response)
        for line in response.iter_lines():
            item = json.loads(line)
            (sys.stdout if item["level"] == "INFO" else sys.stderr).write(item["text"])
            sys.stdout.flush()


@app.command("ls")
def list_sandboxes(space: SpaceOption, everything: Annotated[bool, typer.Option("--all", "-a")] = False) -> None:
    """List sandboxes: those that live, or all."""
    with connect() as http:
        items = checked(http.get(f"/spaces/{space}/sandboxes", params={"live": not everything, "limit": 500}))["items"]
    rows = [(i["id"], i["team"], i["person"], i["purpose"], i["state"], i["reason"] or "") for i in items]
    typer.echo(table(rows, ("sandbox", "team", "person", "purpose", "state", "reason")))


@app.command()
def logs(sandbox: str, space: SpaceOption, follow: Annotated[bool, typer.Option("--follow", "-f")] = False) -> None:
    """Show what a sandbox printed."""
    with connect(timeout=None) as http:
        _show(http, f"/spaces/{space}/sandboxes/{sandbox}", follow=follow)


@app.command()
def stop(sandbox: str, space: SpaceOption) -> None:
    """Stop a sandbox and wait until it is gone."""
    with connect() as http:
        path = f"/spaces/{space}/sandboxes/{sandbox}"
        state = checked(http.delete(path))
        while state["state"] not in FINAL:
            time.sleep(0.05)  # a bounded poll: stopping has a time limit of its own
            state = checked(http.get(path))
    typer.echo(f"{sandbox}: {state['state']}")


@app.command()
def stats(space: SpaceOption) -> None:
    """Show what the sandboxes of a space use now."""
    with connect() as http:
        items = checked(http.get(f"/spaces/{space}/sandboxes", params={"live": True, "limit": 500}))["items"]
        rows = []
        for item in items:
            response = http.get(f"/spaces/{space}/sandboxes/{item['id']}/usage")
            if response.status_code == 404:
                continue  # it ended in between
            usage = checked(response)
            rows.append(
                (item["id"], item["team"], item["purpose"], f"{usage['cpu_seconds']:.1f}",
                 f"{usage['memory_bytes'] / 2**20:.0f}M", usage["processes"])
            )  # fmt: skip
    typer.echo(table(rows, ("sandbox", "team", "purpose", "cpu s", "memory", "processes")))
