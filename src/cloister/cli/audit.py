"""Commands about the audit log."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from cloister.audit import Filter, Name, Verdict, record, stream, verify
from cloister.audit.checkpoints import Checkpoint
from cloister.audit.models import AuditRecord
from cloister.audit.schemas import RecordOut
from cloister.cli.opening import opened
from cloister.cli.output import Failure
from cloister.core.ids import parse_label

app = typer.Typer(no_args_is_help=True, help="The audit log.")
Person = Annotated[str | None, typer.Option(help="A person's number, such as p-000123.")]
Team = Annotated[str | None, typer.Option(help="A team's number, such as t-000123.")]
SpaceOption = Annotated[str | None, typer.Option(help="A space's slug.")]
Dataset = Annotated[str | None, typer.Option(help="A dataset: what was done with it, and who asked it.")]
NameOption = Annotated[str | None, typer.Option(help="A record's name; may end in *.")]
Since = Annotated[datetime | None, typer.Option(help="From this time (UTC) on.")]
Until = Annotated[datetime | None, typer.Option(help="Until this time (UTC).")]


def _filter(
    person: str | None, team: str | None, space: str | None, dataset: str | None, name: str | None,
    since: datetime | None, until: datetime | None,
) -> Filter:  # fmt: skip
    from datetime import UTC  # noqa: PLC0415

    try:
        return Filter(
            space=space, person=parse_label(person, "p") if person else None,
            team=parse_label(team, "t") if team else None, dataset=dataset, name=name,
            since=since.replace(tzinfo=UTC) if since else None, until=until.replace(tzinfo=UTC) if until else None,
        )  # fmt: skip
    except ValueError as error:
        raise Failure(str(error)) from error


def _line(row: AuditRecord) -> str:
    out = RecordOut.of(row)
    who = " ".join(part for part in (out.person or out.actor, out.team, out.space, out.sandbox) if part)
    details = " ".join(f"{name}={value!r}" for name, value in out.details.items() if value not in (None, [], ""))
    return f"{out.seq:>8} {out.time} {out.outcome:<7} {out.name:<28} {who} {out.subject or ''} {details}"


@app.command()
def search(
    person: Person = None, team: Team = None, space: SpaceOption = None, dataset: Dataset = None,
    name: NameOption = None, since: Since = None, until: Until = None,
) -> None:  # fmt: skip
    """Print the records that match, oldest first."""
    _print(_filter(person, team, space, dataset, name, since, until))


@app.command()
def findings(space: SpaceOption = None) -> None:
    """Print what the anomaly rules found: mining, scraping, repeated wall hits."""
    _print(Filter(space=space, name=Name.ANOMALY_FOUND.value))


@app.command()
def tail(
    count: Annotated[int, typer.Option("-n", help="How many.")] = 20,
    person: Person = None, team: Team = None, space: SpaceOption = None, dataset: Dataset = None,
    name: NameOption = None, since: Since = None, until: Until = None,
) -> None:  # fmt: skip
    """Print the last records that match."""
    wanted = _filter(person, team, space, dataset, name, since, until)

    async def run() -> None:
        from cloister.audit import search as find  # noqa: PLC0415

        async with opened() as platform, platform.database.read() as uow:
            page = await find(uow, wanted, None, count)
        for row in reversed(page.items):
            typer.echo(_line(row))

    asyncio.run(run())


def _print(wanted: Filter) -> None:
    async def run() -> None:
        async with opened() as platform:
            async for rows in stream(platform.database, wanted):
                for row in rows:
                    typer.echo(_line(row))

    asyncio.run(run())


@app.command("verify")
def verify_log(
    checkpoints: Annotated[Path | None, typer.Option(help="Checkpoints kept elsewhere (JSON lines).")] = None,
    key: Annotated[str | None, typer.Option(help="The public key (hex) to trust; default: this platform's.")] = None,
) -> None:
    """Check the whole log: every hash, every signature. Fails, saying where, when anything does not fit."""

    async def run() -> Verdict:
        async with opened() as platform:
            own = platform.box.signing_key("audit checkpoints").public_key().public_bytes_raw()
            trusted = _public_key(key) if key else own
            exported = [Checkpoint.load(line) for line in checkpoints.read_text().splitlines()] if checkpoints else None
            console = Console(stderr=True)
            with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
                task = progress.add_task("verifying", total=None)
                verdict = await verify(
                    platform.database,
                    trusted,
                    exported,
                    lambda done, total: progress.update(task, completed=done, total=total),
                )
        return verdict

    verdict = asyncio.run(run())
    if not verdict.sound:
        raise Failure(f"The log is NOT sound: {verdict.fault}.")
    typer.echo(f"The log is sound: {verdict.records} records, {verdict.checkpoints} signed checkpoints.")


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="Where to; “-” for standard output. .parquet makes Parquet.")],
    person: Person = None, team: Team = None, space: SpaceOption = None, dataset: Dataset = None,
    name: NameOption = None, since: Since = None, until: Until = None,
) -> None:  # fmt: skip
    """Write the records that match as JSON lines or Parquet."""
    wanted = _filter(person, team, space, dataset, name, since, until)
    count = asyncio.run(_export(file, wanted))
    typer.echo(f"{count} records written.", err=True)


def _public_key(text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise Failure("--key is a public key of Ed25519: 64 hexadecimal digits.")
    return key


async def _export(file: Path, wanted: Filter) -> int:
    async with opened() as platform:
        async with platform.database.write() as uow:
            wished = {name: str(value) for name, value in asdict(wanted).items() if value is not None}
            record(uow, Name.LOG_EXPORTED, space=wanted.space, filter=wished)
        pages = stream(platform.database, wanted)
        return await (_to_parquet(file, pages) if file.suffix == ".parquet" else _to_lines(file, pages))


async def _to_lines(file: Path, pages: AsyncIterator[Sequence[AuditRecord]]) -> int:
    count = 0
    with sys.stdout if str(file) == "-" else file.open("w") as out:
        async for rows in pages:
            for row in rows:
                out.write(json.dumps(RecordOut.of(row).model_dump(), ensure_ascii=False) + "\n")
            count += len(rows)
    return count


async def _to_parquet(file: Path, pages: AsyncIterator[Sequence[AuditRecord]]) -> int:
    import pyarrow as pa  # noqa: PLC0415  (large; only here)
    import pyarrow.parquet as pq  # noqa: PLC0415

    fields: list[Any] = [("seq", pa.int64())]
    fields += [(name, pa.string()) for name in RecordOut.model_fields if name != "seq"]
    schema = pa.schema(fields)
    count = 0
    with pq.ParquetWriter(file, schema) as writer:
        async for rows in pages:
            items = [RecordOut.of(row).model_dump() for row in rows]
            for item in items:
                item["details"] = json.dumps(item["details"], ensure_ascii=False)
            writer.write_table(pa.Table.from_pylist(items, schema=schema))
            count += len(rows)
    return count
