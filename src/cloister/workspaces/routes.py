"""Workspaces over HTTP."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from cloister.core.actions import Action, guard
from cloister.core.ids import parse_label
from cloister.core.pagination import MAX_PAGE
from cloister.core.principal import Role
from cloister.platform import Call
from cloister.platform.call import current_call
from cloister.spaces import TeamNotFound, get_team, in_space, parse_bytes
from cloister.workspaces.models import Workspace
from cloister.workspaces.schemas import StartIn, WorkspaceIn, WorkspaceOut, WorkspacePage
from cloister.workspaces.service import Change, Workspaces

CallDep = Annotated[Call, Depends(current_call)]
Slug = Annotated[str, Path(max_length=60)]
Cursor = Annotated[str | None, Query(max_length=400)]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Origin = Callable[[str, str], str]
"""The address of a team's workspace in a space."""


def _team(label: str) -> int:
    try:
        return parse_label(label, "t")
    except ValueError as error:
        raise TeamNotFound from error


def router(workspaces: Workspaces, origin: Origin) -> APIRouter:
    api = APIRouter(tags=["workspaces"])

    async def out(call: Call, row: Workspace) -> WorkspaceOut:
        team = await get_team(call.uow, in_space(row.space), row.team)
        return WorkspaceOut.of(row, origin(team.name, row.space))

    @api.get("/spaces/{space}/workspaces", openapi_extra=guard(Action.WORKSPACE_READ))
    async def list_workspaces(space: Slug, call: CallDep, cursor: Cursor = None, limit: Limit = 50) -> WorkspacePage:
        """The workspace of your team, or of all teams for the organisers."""
        del space
        page = await workspaces.page(call.uow, call.scope, cursor, limit)
        return WorkspacePage(items=[await out(call, row) for row in page.items], next_cursor=page.next_cursor)

    @api.get("/spaces/{space}/teams/{team}/workspace", openapi_extra=guard(Action.WORKSPACE_READ))
    async def show_workspace(space: Slug, team: str, call: CallDep) -> WorkspaceOut:
        """A team's workspace, and why it runs or does not."""
        del space
        return await out(call, await workspaces.find(call.uow, call.scope, _team(team)))

    @api.post(
        "/spaces/{space}/teams/{team}/workspace/start", openapi_extra=guard(Action.WORKSPACE_MANAGE), status_code=202
    )
    async def start_workspace(space: Slug, team: str, call: CallDep, body: StartIn | None = None) -> WorkspaceOut:
        """Start a team's workspace; made on the first call."""
        del space
        safe = body is not None and body.safe
        return await out(call, await workspaces.open(call.uow, call.scope, _team(team), safe=safe))

    @api.post(
        "/spaces/{space}/teams/{team}/workspace/stop", openapi_extra=guard(Action.WORKSPACE_MANAGE), status_code=202
    )
    async def stop_workspace(space: Slug, team: str, call: CallDep) -> WorkspaceOut:
        """Stop a team's workspace. Its files stay."""
        del space
        row = await workspaces.find(call.uow, call.scope, _team(team))
        return await out(call, await workspaces.stop(call.uow, row, "Stopped by a member or an organiser."))

    @api.post(
        "/spaces/{space}/teams/{team}/workspace/restart", openapi_extra=guard(Action.WORKSPACE_MANAGE), status_code=202
    )
    async def restart_workspace(space: Slug, team: str, call: CallDep, body: StartIn | None = None) -> WorkspaceOut:
        """Stop a team's workspace and start it anew."""
        del space
        row = await workspaces.find(call.uow, call.scope, _team(team))
        safe = body is not None and body.safe
        return await out(call, await workspaces.restart(call.uow, call.scope, row, safe=safe))

    @api.patch("/spaces/{space}/teams/{team}/workspace", openapi_extra=guard(Action.WORKSPACE_MANAGE))
    async def change_workspace(space: Slug, team: str, body: WorkspaceIn, call: CallDep) -> WorkspaceOut:
        """Choose another environment or size (from the next start), a larger disk, or for how long it stays awake."""
        del space
        row = await workspaces.find(call.uow, call.scope, _team(team))
        wanted = Change(
            body.environment, body.size, None if body.disk is None else parse_bytes(body.disk), body.keep_until
        )
        steward = call.scope.principal.operator or bool(call.scope.roles & {Role.STEWARD, Role.OWNER})
        return await out(call, await workspaces.change(call.uow, row, wanted, steward=steward))

    return api
