"""Commands about data: SQL with a token, and loading files."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from cloister.cli.client import checked, connect
from cloister.cli.output import Failure, table

app = typer.Typer()
dataset_app = typer.Typer(no_args_is_help=True, help="Datasets.")
app.add_typer(dataset_app, name="dataset")
SpaceOption = Annotated[str, typer.Option("--space", "-s", help="The space's slug.")]
FORMS = {
    "table": "application/json",
    "json": "application/json",
    "csv": "text/csv",
    "arrow": "application/vnd.apache.arrow.stream",
}
CHUNK = 1024 * 1024


@app.command()
def sql(
    statement: str,
    space: SpaceOption,
    form: Annotated[str, typer.Option("--format", "-f", help="table, csv, json or arrow")] = "table",
    param: Annotated[
        list[str] | None,
        typer.Option("--param", "-p", help="A value for each ? in turn, or NAME=VALUE for each $NAME."),
    ] = None,
) -> None:
    """Ask governed data."""
    if form not in FORMS:
        raise Failure(f"--format is one of {', '.join(FORMS)}.")
    body = {"sql": statement, "params": _parameters(statement, param or []) or None}
    with connect() as http:
        headers = {"Accept": FORMS[form]}
        with http.stream("POST", f"/spaces/{space}/query", json=body, headers=headers) as response:
            if response.status_code >= 400:
                checked(response)
            if form == "table":
                response.read()
                answer = response.json()
                typer.echo(table(answer["rows"], [column["name"] for column in answer["columns"]]))
                return
            for chunk in response.iter_bytes():
                sys.stdout.buffer.write(chunk)


def _parameters(statement: str, given: list[str]) -> list[Any] | dict[str, Any]:
    """Values as they are typed: numbers, true, false and null are those; all else, and what is in quotes, is text."""
    named = [one.partition("=") for one in given]
    if given and all(sep and f"${name}" in statement for name, sep, _ in named):
        return {name: _value(text) for name, _, text in named}
    return [_value(text) for text in given]


def _value(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(value, list | dict) else value


@dataset_app.command("ls")
def list_datasets(space: SpaceOption) -> None:
    """List the catalogue."""
    with connect() as http:
        items = checked(http.get(f"/spaces/{space}/datasets", params={"limit": 500}))["items"]
    rows = [(i["name"], i["metadata"]["title"], i["metadata"]["license"]) for i in items]
    typer.echo(table(rows, ("dataset", "title", "licence")))


@dataset_app.command()
def load(
    dataset: str, files: Annotated[list[str], typer.Argument(help="Files, or s3://bucket/key.")], space: SpaceOption,
    title: Annotated[str | None, typer.Option(help="The title, for a new dataset.")] = None,
    sheet: Annotated[str | None, typer.Option(help="Of a spreadsheet, the sheet by name.")] = None,
) -> None:  # fmt: skip
    """Make a new version of a dataset, a table from each file (CSV, Parquet, JSON, Excel)."""
    console = Console(stderr=True)
    with connect(timeout=None) as http, Progress(console=console, disable=not console.is_terminal) as progress:
        if http.get(f"/spaces/{space}/datasets/{dataset}").status_code == 404:
            checked(http.post(f"/spaces/{space}/datasets/{dataset}", json={"title": title or dataset}))
        tables = [_source(http, space, file, progress) for file in files]
        for file, source in zip(files, tables, strict=True):
            name = dataset if len(files) == 1 else "".join(c if c.isalnum() else "_" for c in Path(file).stem.lower())
            source["table"] = {"name": name, "source": Path(file).name, "sheet": sheet}
        version = checked(http.post(f"/spaces/{space}/datasets/{dataset}/versions", json={"tables": tables}))
        task = progress.add_task("loading", total=1.0)
        while (operation := checked(http.get(f"/operations/{version['operation']}")))["state"] == "running":
            progress.update(task, completed=operation["progress"], description=operation["message"])
            _pause()
    if operation["state"] == "failed":
        raise Failure(operation["message"])
    typer.echo(f"{dataset}: version {version['number']} is ready")


def _pause() -> None:
    import time  # noqa: PLC0415

    time.sleep(0.2)  # a poll of progress over HTTP


def _source(http: Any, space: str, file: str, progress: Progress) -> dict[str, Any]:
    """Upload a file, if it is one of this machine's."""
    if file.startswith("s3://"):
        return {"url": file}
    path = Path(file)
    if not path.is_file():
        raise Failure(f"{file}: there is no such file.")
    task = progress.add_task(f"uploading {path.name}", total=path.stat().st_size)

    def chunks() -> Any:
        with path.open("rb") as source:
            while chunk := source.read(CHUNK):
                progress.advance(task, len(chunk))
                yield chunk

    uploaded: dict[str, Any] = checked(http.post(f"/spaces/{space}/uploads", content=chunks()))
    return uploaded
