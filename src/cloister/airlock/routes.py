"""The airlock over HTTP."""

from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Depends, Path, Query

from cloister.airlock.schemas import ExportDecisionIn, ExportIn, ExportOut, ExportPage
from cloister.airlock.service import Airlock
from cloister.core.actions import Action, guard
from cloister.core.pagination import MAX_PAGE
from cloister.platform import Call
from cloister.platform.call import current_call
from cloister.platform.streamed import Streamed
from cloister.spaces import team_number

CallDep = Annotated[Call, Depends(current_call)]
Slug = Annotated[str, Path(max_length=60)]
Id = Annotated[str, Path(max_length=60)]
Cursor = Annotated[str | None, Query(max_length=400)]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
State = Annotated[Literal["waiting", "approved", "refused", "withdrawn", "failed"] | None, Query()]
BYTES = "application/octet-stream"


def add_routes(api: APIRouter, airlock: Airlock) -> None:
    @api.post(
        "/spaces/{space}/teams/{team}/exports", openapi_extra=guard(Action.EXPORT_ASK, transaction=False),
        status_code=201,
    )  # fmt: skip
    async def ask_export(space: Slug, team: str, body: ExportIn, call: CallDep) -> ExportOut:
        """Ask to take files of your workspace out. They are copied as they are now; a steward or reviewer decides."""
        del space
        return ExportOut.of(await airlock.ask(call.scope, team_number(team), body.paths, body.why, volume=body.volume))

    @api.get("/spaces/{space}/exports", openapi_extra=guard(Action.EXPORT_READ))
    async def list_exports(
        space: Slug, call: CallDep, state: State = None, cursor: Cursor = None, limit: Limit = 50
    ) -> ExportPage:
        """What your team asked to take out, or what all teams did for those who decide."""
        del space
        page = await airlock.page(call.uow, call.scope, cursor, limit, state)
        return ExportPage(items=[ExportOut.of(row) for row in page.items], next_cursor=page.next_cursor)

    @api.get("/spaces/{space}/exports/{export}", openapi_extra=guard(Action.EXPORT_READ))
    async def show_export(space: Slug, export: Id, call: CallDep) -> ExportOut:
        """One request, and what became of it."""
        del space
        return ExportOut.of(await airlock.find(call.uow, call.scope, export))

    @api.get(
        "/spaces/{space}/exports/{export}/files/{number}",
        openapi_extra=guard(Action.EXPORT_READ, transaction=False),
        response_class=Streamed,
        responses={200: {"content": {BYTES: {}}, "description": "The file"}},
    )
    async def export_file(
        space: Slug, export: Id, number: Annotated[int, Path(ge=0, le=100)], call: CallDep
    ) -> Streamed:
        """A file: for those who decide at any time, for the team once it is approved. Recorded before the first byte."""
        del space
        about, chunks = await airlock.content(call.scope, export, number, call.request_id)
        name = quote(about["path"].rpartition("/")[2], safe="")
        headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{name}", "Content-Length": str(about["size"])}
        return Streamed(chunks, media_type=BYTES, headers=headers)

    @api.post("/spaces/{space}/exports/{export}/withdrawal", openapi_extra=guard(Action.EXPORT_ASK))
    async def withdraw_export(space: Slug, export: Id, call: CallDep) -> ExportOut:
        """Take a request back while it waits."""
        del space
        return ExportOut.of(await airlock.withdraw(call.uow, call.scope, export))

    @api.post("/spaces/{space}/exports/{export}/decision", openapi_extra=guard(Action.EXPORT_DECIDE))
    async def decide_export(space: Slug, export: Id, body: ExportDecisionIn, call: CallDep) -> ExportOut:
        """Let files out, or refuse with a reason. Never of your own team."""
        del space
        row = await airlock.decide(call.uow, call.scope, export, approve=body.approve, reason=body.reason)
        return ExportOut.of(row)
