"""The one address of the gateway at the platform's own origin: from a sign-in into a workspace."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import RedirectResponse

from cloister.access import Decider
from cloister.core.actions import Action, guard
from cloister.gateway.entering import Entering
from cloister.gateway.errors import NoSuchWorkspace
from cloister.platform import Call
from cloister.platform.call import current_call

CallDep = Annotated[Call, Depends(current_call)]
Host = Annotated[str, Query(max_length=300)]
To = Annotated[str, Query(max_length=4000)]


def router(entering: Entering, decider: Decider) -> APIRouter:
    api = APIRouter(tags=["workspaces"])

    @api.get("/workspaces/enter", openapi_extra=guard(Action.SELF_READ, writes=True), response_class=RedirectResponse)
    async def enter_workspace(host: Host, call: CallDep, to: To = "/") -> RedirectResponse:
        """Carry your sign-in to a workspace's own address, by a code that works once."""
        address = entering.hosts.parse(host)
        if address is None:
            raise NoSuchWorkspace
        team = await entering.team_at(call.uow, address)
        scope = await decider.decide(call.uow, call.principal, Action.WORKSPACE_USE, team.space)
        return RedirectResponse(await entering.issue(call.uow, scope, team, to), status_code=303)

    return api
