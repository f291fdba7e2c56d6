"""Findings, use, cost and uptime over HTTP."""

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from cloister.core.actions import Action, guard
from cloister.core.clock import Clock
from cloister.core.pagination import MAX_PAGE
from cloister.insight import findings
from cloister.insight.costs import Costs, SpaceCostList, costs, every_space
from cloister.insight.machine import EnvironmentList, Machine, Machines
from cloister.insight.schemas import ClosingIn, FindingOut, FindingPage
from cloister.insight.uptime import Uptime, uptime
from cloister.insight.usage import Usage, usage
from cloister.platform import Call
from cloister.platform.call import current_call

CallDep = Annotated[Call, Depends(current_call)]
Slug = Annotated[str, Path(max_length=60)]
Number = Annotated[int, Path(ge=1, le=2**53)]
Cursor = Annotated[str | None, Query(max_length=400)]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Days = Annotated[int, Query(ge=1, le=366)]
"""How far back, from now."""


def _period(clock: Clock, days: int) -> tuple[datetime, datetime]:
    now = clock.now()
    return now - timedelta(days=days), now


def add_routes(api: APIRouter, clock: Clock, machines: Machines) -> None:
    @api.get("/findings", openapi_extra=guard(Action.AUDIT_READ_ALL))
    async def all_findings(call: CallDep, cursor: Cursor = None, limit: Limit = 50) -> FindingPage:
        """What the rules found on the whole platform, newest first."""
        page = await findings.page(call.uow, call.scope, cursor, limit)
        return FindingPage(items=list(page.items), next_cursor=page.next_cursor)

    @api.get("/spaces/{space}/findings", openapi_extra=guard(Action.SPACE_AUDIT_READ))
    async def space_findings(space: Slug, call: CallDep, cursor: Cursor = None, limit: Limit = 50) -> FindingPage:
        """What the rules found in a space: mining, scraping, repeated wall hits; newest first."""
        del space
        page = await findings.page(call.uow, call.scope, cursor, limit)
        return FindingPage(items=list(page.items), next_cursor=page.next_cursor)

    @api.get("/spaces/{space}/usage", openapi_extra=guard(Action.SPACE_AUDIT_READ))
    async def space_usage(space: Slug, call: CallDep) -> Usage:
        """How a space is used: the way from registered to running code, when, from where, and by how many."""
        return await usage(call.uow, call.scope, space)

    @api.get("/spaces/{space}/costs", openapi_extra=guard(Action.SPACE_AUDIT_READ))
    async def space_costs(space: Slug, call: CallDep, days: Days = 30) -> Costs:
        """What a space's work took: hours, what they cost by the prices it declares now, and disks; by team and day."""
        return await costs(call.uow, call.scope, space, *_period(clock, days))

    @api.get("/platform/costs", openapi_extra=guard(Action.PLATFORM_READ))
    async def all_costs(call: CallDep, days: Days = 30) -> SpaceCostList:
        """The same of each space."""
        return SpaceCostList(items=await every_space(call.uow, *_period(clock, days)))

    @api.get("/platform/uptime", openapi_extra=guard(Action.PLATFORM_READ))
    async def platform_uptime(call: CallDep, days: Days = 30) -> Uptime:
        """How much of the time the server and what it rests on worked, and when they did not."""
        return await uptime(call.uow, *_period(clock, days))

    @api.get("/platform/machine", openapi_extra=guard(Action.PLATFORM_READ))
    async def machine(call: CallDep) -> Machine:
        """What the machine has, what it promised to sandboxes, and what each of them uses now."""
        return await machines.machine(call.uow)

    @api.get("/platform/environments", openapi_extra=guard(Action.PLATFORM_READ))
    async def environments(call: CallDep) -> EnvironmentList:
        """The environments that are built or declared, and who uses them."""
        return await machines.environments(call.uow)

    @api.post("/spaces/{space}/findings/{number}/closing", openapi_extra=guard(Action.SPACE_AUDIT_READ))
    async def close_finding(space: Slug, number: Number, body: ClosingIn, call: CallDep) -> FindingOut:
        """Say that a finding needs nothing more, and why."""
        del space
        return await findings.close(call.uow, call.scope, number, body.why)
