"""The converter: files nobody trusts become Parquet in a sandbox of their own, which ends with the job."""

import asyncio
import base64
import json
import os
import stat
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import BaseModel, ConfigDict, ValidationError

from cloister.audit import Name, record
from cloister.core.errors import CloisterError, Unavailable
from cloister.core.events import Event, SandboxChanged
from cloister.core.ids import new_id
from cloister.core.principal import EVERYTHING
from cloister.datasets import BadGrant, BadSource, Converted, Progress, Reading
from cloister.platform import Bus, Database, Settings
from cloister.query.program import WORKER_MOUNT, WORKER_PACKAGES, worker_files
from cloister.sandboxes import (
    FINAL,
    Environments,
    Mount,
    OutputLog,
    Sandbox,
    SandboxController,
    Sandboxes,
    SandboxSpec,
    VolumeDisks,
    program_environ,
)
from cloister.spaces import Size, in_space

RESULT_BYTES = 8 * 1024 * 1024
PARQUET = b"PAR1"
SPARSE_SLACK = 2**20
END_SECONDS = 15.0
INPUT = "/data/in"


class ConversionFailed(Unavailable):
    """The file could not be converted: the sandbox that did it ended early."""

    code = "dataset.conversion_failed"


class _Column(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    type: str


class _Result(BaseModel):
    """What a conversion left. It is read as input that nobody trusts."""

    model_config = ConfigDict(extra="forbid")
    rows: int = 0
    columns: list[_Column] = []
    error: str | None = None


@dataclass
class SandboxConverter:
    """Implements the converter of `datasets`."""

    settings: Settings
    database: Database
    sandboxes: Sandboxes
    controller: SandboxController
    environments: Environments
    disks: VolumeDisks
    bus: Bus

    async def convert(
        self,
        space: str,
        source: Path,
        reading: Reading,
        store: Callable[[Converted], Awaitable[None]],
        progress: Progress,
    ) -> None:
        job = {"kind": "convert", **asdict(reading)}
        await self._job(space, source, job, store, progress, BadSource)

    async def narrow(
        self,
        space: str,
        source: Path,
        columns: list[str] | None,
        rows: str | None,
        store: Callable[[Converted], Awaitable[None]],
    ) -> None:
        async def nothing(_part: float, _message: str) -> None:
            return

        job = {"kind": "narrow", "format": "parquet", "columns": columns, "rows": rows}
        await self._job(space, source, job, store, nothing, BadGrant)

    async def _job(
        self,
        space: str,
        source: Path,
        job: dict[str, Any],
        store: Callable[[Converted], Awaitable[None]],
        progress: Progress,
        fault: type[CloisterError],
    ) -> None:
        built = await self.environments.ensure(WORKER_PACKAGES)
        file = await asyncio.to_thread(source.stat)
        name = f"{INPUT}/source{'.gz' if await asyncio.to_thread(_is_gzip, source) else ''}"
        memory = self.settings.query_memory_megabytes
        spec = SandboxSpec(
            command=("python3", f"{WORKER_MOUNT}/convert.py", "/home/user/job.json"),
            environment=str(built.path),
            size=Size(cpus=self.settings.query_cpus, memory=f"{memory}M", scratch="64M").model_dump(),
            mounts=(Mount(str(worker_files()), WORKER_MOUNT), Mount(str(source), name)),
            files={},
            environ=program_environ(),
            egress=False,
            seconds=3600.0,
        )
        job |= {"source": name, "memory_mb": memory * 6 // 10, "threads": max(1, round(self.settings.query_cpus))}
        async with self.database.write() as uow:
            volume = await self.sandboxes.ensure_volume(
                uow, space, None, new_id("conversion"), 64 * 2**20 + file.st_size * 6
            )
            ready = SandboxSpec.load({**spec.dump(), "volume": volume.id, "files": _encoded(job)})
            row = await self.sandboxes.request(
                uow, space=space, team=None, person=None, purpose="convert", environment="worker", size="conversion",
                spec=ready,
            )  # fmt: skip
        try:
            await self._wait(row.id, progress)
            await self._collect(row.id, volume.id, store, fault)
        finally:
            await self._make_end(row.id)
            await self.disks.delete(volume.id)
            async with self.database.write() as uow:
                await uow.session.delete(await self.sandboxes.volume(uow, in_space(space), volume.id))
                record(uow, Name.VOLUME_DELETED, space=space, subject=volume.id)

    async def _wait(self, id_: str, progress: Progress) -> None:
        """Wait until a sandbox has ended, passing its progress on."""
        ended = asyncio.Event()

        def on_change(event: Event) -> None:
            if isinstance(event, SandboxChanged) and event.sandbox == id_ and event.state in FINAL:
                ended.set()

        unsubscribe = self.bus.subscribe(SandboxChanged, on_change)
        try:
            while not ended.is_set():
                waiting = asyncio.ensure_future(ended.wait())
                await asyncio.wait({waiting}, timeout=1.0)
                waiting.cancel()
                if not ended.is_set() and await self._row_ended(id_):
                    ended.set()
                await self._pass_progress(id_, progress)
        finally:
            unsubscribe()

    async def _make_end(self, id_: str) -> None:
        """Have a sandbox end, if it has not; its volume must not go before it."""
        if await self._row_ended(id_):
            return
        async with self.database.write() as uow:
            uow.unrecorded("the stop is recorded")
            await self.sandboxes.stop(uow, EVERYTHING, id_)
        until = asyncio.get_running_loop().time() + END_SECONDS
        while not await self._row_ended(id_):
            if asyncio.get_running_loop().time() > until:
                raise ConversionFailed
            await asyncio.sleep(0.05)  # a bounded poll of the row, which another process may change

    async def _row_ended(self, id_: str) -> bool:
        async with self.database.read() as uow:
            return (await self.sandboxes.get(uow, EVERYTHING, id_)).state in FINAL

    async def _pass_progress(self, id_: str, progress: Progress) -> None:
        live = self.controller.live.get(id_)
        if live is None or live.connected is None:
            return
        last = None
        async for line in live.connected.output.lines(follow=False):
            text = json.loads(line)["text"].strip().rsplit("\n", 1)[-1]
            if text.startswith('{"progress"'):
                last = text
        part = _progress(last) if last is not None else None
        if part is not None:
            await progress(min(1.0, max(0.0, part)), "converting")

    async def _collect(
        self, id_: str, volume: str, store: Callable[[Converted], Awaitable[None]], fault: type[CloisterError]
    ) -> None:
        async with self.database.read() as uow:
            row: Sandbox = await self.sandboxes.get(uow, EVERYTHING, id_)
        if row.exit_code != 0:
            how = row.reason or f"it ended with code {row.exit_code}"
            raise ConversionFailed(": ".join([how, *await self._complaints(id_)]))
        folder = await self.disks.mount(volume)
        try:
            result = await asyncio.to_thread(_read_result, folder)
            if result.error is not None:
                raise fault(result.error)
            columns = [column.model_dump() for column in result.columns]
            await asyncio.to_thread(_check_parquet, folder)
            await store(Converted(folder / "result.parquet", result.rows, columns))
        finally:
            await self.disks.unmount(volume)

    async def _complaints(self, id_: str) -> list[str]:
        """What a program said at last on its error stream, if anything."""
        lines = [line async for line in OutputLog(self.controller.place(id_).log, 0).lines(follow=False)]
        said = "".join(line["text"] for line in map(json.loads, lines) if line["level"] == "ERROR")
        return [said.strip()[-500:]] if said.strip() else []


def _encoded(job: dict[str, Any]) -> dict[str, str]:
    return {"job.json": base64.b64encode(json.dumps(job).encode()).decode()}


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _progress(line: str) -> float | None:
    try:
        part = json.loads(line).get("progress")
    except (ValueError, RecursionError, AttributeError):
        return None
    return float(part) if isinstance(part, int | float) else None


def _open(path: Path) -> BinaryIO:
    """Open a plain file that a sandbox left: nothing is followed, nothing is waited for.

    Raises:
        ConversionFailed: when it is not there, or is a link, a folder, a pipe or a device.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ConversionFailed("The conversion left no result.") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ConversionFailed("The conversion left no result.")
    return os.fdopen(descriptor, "rb")


def _read_result(folder: Path) -> _Result:
    """Read what a sandbox wrote: no more than is sensible, nothing but what is expected."""
    with _open(folder / "result.json") as file:
        data = file.read(RESULT_BYTES)
    try:
        return _Result.model_validate_json(data)
    except ValidationError as error:
        raise ConversionFailed from error


def _check_parquet(folder: Path) -> None:
    """Whether the result begins and ends as a Parquet file does; what is in between is read in sandboxes only."""
    with _open(folder / "result.parquet") as file:
        status = os.fstat(file.fileno())
        size = status.st_size
        if size > status.st_blocks * 512 + SPARSE_SLACK:
            raise ConversionFailed("The conversion left a file with holes.")  # it may pretend to any size
        ends = []
        if size >= 2 * len(PARQUET):
            for place in (0, size - len(PARQUET)):
                file.seek(place)
                ends.append(file.read(len(PARQUET)))
    if ends != [PARQUET, PARQUET]:
        raise ConversionFailed("The conversion left no Parquet file.")
