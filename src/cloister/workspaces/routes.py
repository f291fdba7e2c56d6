"""Workspaces over HTTP."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Query, Response

from cloister.core.actions import Action, guard
from cloister.core.ids import person_label, team_label
from cloister.core.pagination import MAX_PAGE
from cloister.platform import Call
from cloister.platform.call import current_call
from cloister.platform.etags import check_seen, etag_of
from cloister.sandboxes import EnvironmentNotReady
from cloister.spaces import declared, get_space, get_team, in_space, parse_bytes, team_number
from cloister.workspaces.capacity import Capacity, price_of
from cloister.workspaces.models import Workspace
from cloister.workspaces.schemas import (
    CapacityIn,
    CapacityOut,
    CapacityPage,
    DecisionIn,
    DiskSize,
    EnvironmentChoice,
    EnvironmentChoices,
    QuoteOut,
    StartIn,
    WorkspaceIn,
    WorkspaceOut,
    WorkspacePage,
)
from cloister.workspaces.service import Change, Workspaces

CallDep = Annotated[Call, Depends(current_call)]
Slug = Annotated[str, Path(max_length=60)]
Cursor = Annotated[str | None, Query(max_length=400)]
IfMatch = Annotated[str | None, Header(max_length=200)]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Origin = Callable[[str, str], str]
"""The address of a team's workspace in a space."""


def add_routes(api: APIRouter, workspaces: Workspaces, capacity: Capacity, origin: Origin) -> None:
    async def out(call: Call, row: Workspace) -> WorkspaceOut:
        team = await get_team(call.uow, in_space(row.space), row.team)
        declaration = declared(await get_space(call.uow, row.space))
        disk = (await workspaces.volume(call.uow, row)).size_bytes
        price = price_of(declaration, row.size, disk)
        return WorkspaceOut.of(row, origin(team.name, row.space), price, declaration.policies.keep_hours)

    @api.get("/spaces/{space}/workspaces", openapi_extra=guard(Action.WORKSPACE_READ))
    async def list_workspaces(space: Slug, call: CallDep, cursor: Cursor = None, limit: Limit = 50) -> WorkspacePage:
        """The workspace of your team, or of all teams for the organisers."""
        del space
        page = await workspaces.page(call.uow, call.scope, cursor, limit)
        return WorkspacePage(items=[await out(call, row) for row in page.items], next_cursor=page.next_cursor)

    @api.get("/spaces/{space}/workspace-environments", openapi_extra=guard(Action.WORKSPACE_READ))
    async def list_environments(space: Slug, call: CallDep) -> EnvironmentChoices:
        """The environments that your team's workspace can have."""
        declaration = declared(await get_space(call.uow, space))
        pinned = declaration.pinned(workspaces.clock.now())
        return EnvironmentChoices(
            items=[
                EnvironmentChoice(
                    name=one.name, title=one.title or one.name, description=one.description, icon=one.icon,
                    packages=one.packages, ready=problem is None,
                    problem=None if problem is None or isinstance(problem, EnvironmentNotReady) else problem.detail,
                    pinned=pinned is not None and pinned.environment == one.name,
                )
                for one, problem in workspaces.choices(declaration)
            ]
        )  # fmt: skip

    @api.get("/spaces/{space}/teams/{team}/workspace", openapi_extra=guard(Action.WORKSPACE_READ))
    async def show_workspace(space: Slug, team: str, call: CallDep, response: Response) -> WorkspaceOut:
        """A team's workspace, and why it runs or does not, with the ETag that a change may send."""
        del space
        row = await workspaces.find(call.uow, call.scope, team_number(team))
        response.headers["ETag"] = _etag(row)
        return await out(call, row)

    @api.post(
        "/spaces/{space}/teams/{team}/workspace/start", openapi_extra=guard(Action.WORKSPACE_MANAGE), status_code=202
    )
    async def start_workspace(space: Slug, team: str, call: CallDep, body: StartIn | None = None) -> WorkspaceOut:
        """Start a team's workspace; made on the first call."""
        del space
        wish = body or StartIn()
        row = await workspaces.open(
            call.uow, call.scope, team_number(team), safe=wish.safe, environment=wish.environment
        )
        return await out(call, row)

    @api.post(
        "/spaces/{space}/teams/{team}/workspace/stop", openapi_extra=guard(Action.WORKSPACE_MANAGE), status_code=202
    )
    async def stop_workspace(space: Slug, team: str, call: CallDep) -> WorkspaceOut:
        """Stop a team's workspace. Its files stay."""
        del space
        row = await workspaces.find(call.uow, call.scope, team_number(team))
        return await out(call, await workspaces.stop(call.uow, row, "Stopped by a member or an organiser."))

    @api.post(
        "/spaces/{space}/teams/{team}/workspace/restart", openapi_extra=guard(Action.WORKSPACE_MANAGE), status_code=202
    )
    async def restart_workspace(space: Slug, team: str, call: CallDep, body: StartIn | None = None) -> WorkspaceOut:
        """Stop a team's workspace and start it anew."""
        del space
        row = await workspaces.find(call.uow, call.scope, team_number(team))
        safe = body is not None and body.safe
        return await out(call, await workspaces.restart(call.uow, call.scope, row, safe=safe))

    @api.patch("/spaces/{space}/teams/{team}/workspace", openapi_extra=guard(Action.WORKSPACE_MANAGE))
    async def change_workspace(
        space: Slug, team: str, body: WorkspaceIn, call: CallDep, response: Response, if_match: IfMatch = None
    ) -> WorkspaceOut:
        """Choose another environment (from the next start), size, a larger disk, or for how long it stays awake."""
        del space
        row = await workspaces.find(call.uow, call.scope, team_number(team))
        await call.uow.session.refresh(row, with_for_update=True)  # of two with one ETag, the second waits and fails
        check_seen(_etag(row), if_match)
        wanted = Change(body.environment, body.size, _bytes(body.disk), body.keep_until)
        row = await workspaces.change(call.uow, row, wanted, steward=_is_steward(call))
        response.headers["ETag"] = _etag(row)
        return await out(call, row)

    _capacity_routes(api, workspaces, capacity)


def _etag(row: Workspace) -> str:
    """Of what its people choose; starts and stops of it change nothing of that."""
    return etag_of(row.environment, row.size, row.keep_until)


def _is_steward(call: Call) -> bool:
    """Whether the caller may give more than a team may take: those whose scope is not one team's."""
    return call.scope.teams is None


def _capacity_routes(api: APIRouter, workspaces: Workspaces, capacity: Capacity) -> None:
    @api.get("/spaces/{space}/teams/{team}/workspace/quote", openapi_extra=guard(Action.WORKSPACE_READ))
    async def quote_capacity(
        space: Slug, team: str, call: CallDep, size: Annotated[str | None, Query(max_length=60)] = None,
        disk: DiskSize = None,
    ) -> QuoteOut:  # fmt: skip
        """What a size and disk would cost, and whether a steward would have to approve."""
        del space
        row = await workspaces.find(call.uow, call.scope, team_number(team))
        return QuoteOut(**asdict(await capacity.quote(call.uow, row, size, _bytes(disk))))

    @api.post("/spaces/{space}/teams/{team}/workspace/capacity", openapi_extra=guard(Action.WORKSPACE_MANAGE))
    async def ask_capacity(space: Slug, team: str, body: CapacityIn, call: CallDep) -> CapacityOut:
        """Ask for a larger size or disk: at once within the team's budget, above it when a steward approves."""
        row = await workspaces.find(call.uow, call.scope, team_number(team))
        quote = await capacity.quote(call.uow, row, body.size, _bytes(body.disk))
        if quote.needs_approval and not _is_steward(call):
            return CapacityOut.of(await capacity.ask(call.uow, call.scope, row, body.size, _bytes(body.disk), body.why))
        await workspaces.change(
            call.uow, row, Change(size=body.size, disk_bytes=_bytes(body.disk)), steward=_is_steward(call)
        )
        return CapacityOut(
            id=None, team=team_label(row.team), person=person_label(call.person), size=quote.size,
            disk_bytes=quote.disk_bytes, price=quote.price, why=body.why, state="granted", reason=None,
            decided_by=None, asked_at=workspaces.clock.now(), decided_at=workspaces.clock.now(),
        )  # fmt: skip

    @api.get("/spaces/{space}/capacity-requests", openapi_extra=guard(Action.WORKSPACE_READ))
    async def list_capacity(space: Slug, call: CallDep, cursor: Cursor = None, limit: Limit = 50) -> CapacityPage:
        """What your team asked for, or what all teams did for those who decide."""
        del space
        page = await capacity.page(call.uow, call.scope, cursor, limit)
        return CapacityPage(items=[CapacityOut.of(row) for row in page.items], next_cursor=page.next_cursor)

    @api.post("/spaces/{space}/capacity-requests/{request}/decision", openapi_extra=guard(Action.CAPACITY_DECIDE))
    async def decide_capacity(space: Slug, request: str, body: DecisionIn, call: CallDep) -> CapacityOut:
        """Approve a wish, which is then fulfilled at once, or refuse it with a reason."""
        del space
        wish, row = await capacity.decide(call.uow, call.scope, request[:60], approve=body.approve, reason=body.reason)
        if body.approve:
            await workspaces.change(call.uow, row, Change(size=wish.size, disk_bytes=wish.disk_bytes), steward=True)
        return CapacityOut.of(wish)


def _bytes(disk: str | None) -> int | None:
    return None if disk is None else parse_bytes(disk)
