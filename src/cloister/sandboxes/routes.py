"""Sandboxes and volumes over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from cloister.access import scoped_select
from cloister.core.actions import Action, guard
from cloister.core.pagination import MAX_PAGE
from cloister.platform import Call, Database
from cloister.platform.call import current_call
from cloister.platform.paging import page_by
from cloister.platform.streamed import Streamed
from cloister.sandboxes.errors import SandboxNotFound
from cloister.sandboxes.following import Following
from cloister.sandboxes.inside_volumes import Entry
from cloister.sandboxes.models import Volume
from cloister.sandboxes.schemas import (
    EntryList,
    EntryOut,
    GrowIn,
    RestoreIn,
    RestoreOut,
    RunIn,
    SandboxOut,
    SandboxPage,
    SnapshotOut,
    UsageOut,
    VolumeOut,
    VolumePage,
)
from cloister.sandboxes.service import RunRequest, Sandboxes
from cloister.sandboxes.snapshots import Snapshots
from cloister.sandboxes.volume_files import VolumeFiles
from cloister.spaces import team_number

CallDep = Annotated[Call, Depends(current_call)]
Slug = Annotated[str, Path(max_length=60)]
Cursor = Annotated[str | None, Query(max_length=400)]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]


def add_routes(
    api: APIRouter,
    sandboxes: Sandboxes,
    snapshots: Snapshots,
    files: VolumeFiles,
    following: Following,
    database: Database,
) -> None:
    @api.post("/spaces/{space}/sandboxes", openapi_extra=guard(Action.SANDBOX_RUN), status_code=202)
    async def run(space: Slug, body: RunIn, call: CallDep) -> SandboxOut:
        """Run a command of your team in a sandbox."""
        del space
        team = None if body.team is None else team_number(body.team)
        wanted = RunRequest(
            command=tuple(body.command), environment=body.environment, size=body.size, team=team, files=body.files,
            volume=body.volume, seconds=body.seconds,
        )  # fmt: skip
        return SandboxOut.of(await sandboxes.run(call.uow, call.scope, wanted))

    @api.get("/spaces/{space}/sandboxes", openapi_extra=guard(Action.SANDBOX_READ))
    async def list_sandboxes(
        space: Slug, call: CallDep, cursor: Cursor = None, limit: Limit = 50, live: bool = False
    ) -> SandboxPage:
        """The sandboxes of your team, or of all teams for the organisers."""
        del space
        page = await sandboxes.page(call.uow, call.scope, cursor, limit, live=live)
        return SandboxPage(items=[SandboxOut.of(row) for row in page.items], next_cursor=page.next_cursor)

    @api.get("/spaces/{space}/sandboxes/{sandbox}", openapi_extra=guard(Action.SANDBOX_READ))
    async def show(space: Slug, sandbox: str, call: CallDep) -> SandboxOut:
        """One sandbox."""
        del space
        return SandboxOut.of(await sandboxes.get(call.uow, call.scope, sandbox))

    @api.delete("/spaces/{space}/sandboxes/{sandbox}", openapi_extra=guard(Action.SANDBOX_STOP), status_code=202)
    async def stop(space: Slug, sandbox: str, call: CallDep) -> SandboxOut:
        """Stop a sandbox."""
        del space
        return SandboxOut.of(await sandboxes.stop(call.uow, call.scope, sandbox))

    @api.get("/spaces/{space}/sandboxes/{sandbox}/usage", openapi_extra=guard(Action.SANDBOX_READ))
    async def usage(space: Slug, sandbox: str, call: CallDep) -> UsageOut:
        """What a running sandbox uses now."""
        del space
        row = await sandboxes.get(call.uow, call.scope, sandbox)
        found = await sandboxes.backend.usage(row.id)
        if found is None:
            raise SandboxNotFound("That sandbox does not run.")
        return UsageOut(cpu_seconds=found.cpu_seconds, memory_bytes=found.memory_bytes, processes=found.processes)

    @api.get(
        "/spaces/{space}/sandboxes/{sandbox}/output",
        openapi_extra=guard(Action.SANDBOX_OUTPUT, transaction=False),
        response_class=Streamed,
        responses={200: {"content": {"application/x-ndjson": {}}, "description": "One JSON object per line"}},
    )
    async def output(space: Slug, sandbox: str, call: CallDep, follow: bool = False) -> Streamed:
        """What a sandbox printed; with ``follow``, also what it will print, from before it starts to its end."""
        del space
        async with database.read(call.principal) as uow:
            row = await sandboxes.get(uow, call.scope, sandbox)
        return Streamed(following.lines(row.id, follow=follow), media_type="application/x-ndjson")

    _volume_routes(api, sandboxes, snapshots, files)


def _entries(found: list[Entry]) -> EntryList:
    items = [EntryOut(name=e.name, folder=e.folder, size=e.size, changed_at=e.changed_at) for e in found]
    return EntryList(items=items)


def _volume_routes(api: APIRouter, sandboxes: Sandboxes, snapshots: Snapshots, files: VolumeFiles) -> None:
    def out(row: Volume) -> VolumeOut:
        return VolumeOut.of(row, snapshots.of(row.id))

    @api.get("/spaces/{space}/volumes", openapi_extra=guard(Action.SANDBOX_READ))
    async def list_volumes(space: Slug, call: CallDep, cursor: Cursor = None, limit: Limit = 50) -> VolumePage:
        """The volumes of your team."""
        del space
        page = await page_by(call.uow, scoped_select(Volume, call.scope), Volume.id, cursor, limit)
        return VolumePage(items=[out(row) for row in page.items], next_cursor=page.next_cursor)

    @api.delete("/spaces/{space}/volumes/{volume}", openapi_extra=guard(Action.SANDBOX_RUN), status_code=204)
    async def delete_volume(
        space: Slug, volume: str, call: CallDep, confirm: Annotated[str | None, Query(max_length=200)] = None
    ) -> None:
        """Delete a volume and its copies for good. ``confirm`` is its name: what is in it cannot be brought back."""
        del space
        await sandboxes.delete_volume(call.uow, call.scope, volume, confirm)

    @api.delete(
        "/spaces/{space}/volumes/{volume}/snapshots/{snapshot}",
        openapi_extra=guard(Action.SANDBOX_RUN, transaction=False),
        status_code=204,
    )
    async def delete_snapshot(space: Slug, volume: str, snapshot: str, call: CallDep) -> None:
        """Remove a copy of a volume for good."""
        del space
        await snapshots.delete(call.scope, volume, snapshot)

    @api.get("/spaces/{space}/volumes/{volume}/files", openapi_extra=guard(Action.SANDBOX_RUN, transaction=False))
    async def volume_files(
        space: Slug, volume: str, call: CallDep, path: Annotated[str, Query(max_length=4000)] = ""
    ) -> EntryList:
        """What is in a folder of a volume now."""
        del space
        return _entries(await files.entries(call.scope, volume, path))

    @api.post("/spaces/{space}/volumes/{volume}/size", openapi_extra=guard(Action.SPACE_CONFIGURE))
    async def grow(space: Slug, volume: str, body: GrowIn, call: CallDep) -> VolumeOut:
        """Make a volume larger, in use or not."""
        del space
        return out(await sandboxes.grow_volume(call.uow, call.scope, volume, body.size_bytes))

    @api.post(
        "/spaces/{space}/volumes/{volume}/snapshots", openapi_extra=guard(Action.SANDBOX_RUN, transaction=False),
        status_code=201,
    )  # fmt: skip
    async def take_snapshot(space: Slug, volume: str, call: CallDep) -> SnapshotOut:
        """Copy a volume as it is now."""
        del space
        return SnapshotOut.of(await snapshots.take(call.scope, volume))

    @api.get(
        "/spaces/{space}/volumes/{volume}/snapshots/{snapshot}/files",
        openapi_extra=guard(Action.SANDBOX_RUN, transaction=False),
    )
    async def snapshot_files(
        space: Slug, volume: str, snapshot: str, call: CallDep, path: Annotated[str, Query(max_length=4000)] = ""
    ) -> EntryList:
        """What is in a folder of a snapshot."""
        del space
        return _entries(await snapshots.files(call.scope, volume, snapshot, path))

    @api.post(
        "/spaces/{space}/volumes/{volume}/snapshots/{snapshot}/restore",
        openapi_extra=guard(Action.SANDBOX_RUN, transaction=False),
    )
    async def restore(space: Slug, volume: str, snapshot: str, body: RestoreIn, call: CallDep) -> RestoreOut:
        """Bring back one file while the workspace runs, or the whole volume while it does not."""
        del space
        kept = None
        if body.file is None:
            await snapshots.restore(call.scope, volume, snapshot)
        else:
            kept = await snapshots.restore_file(call.scope, volume, snapshot, body.file)
        return RestoreOut(restored=body.file or "everything", kept_as=kept)
