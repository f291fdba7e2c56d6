"""The gateway at the platform's own origin: from a sign-in into a workspace."""

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from cloister.access import Decider
from cloister.core.actions import Action, guard
from cloister.core.errors import CloisterError, NotFound, Unauthenticated
from cloister.gateway import pages
from cloister.gateway.entering import Entering
from cloister.gateway.errors import NoSuchWorkspace
from cloister.gateway.outflow import Outflows
from cloister.platform import Call, Settings
from cloister.platform.call import current_call
from cloister.spaces import get_team, team_number

CallDep = Annotated[Call, Depends(current_call)]
Host = Annotated[str, Query(max_length=300)]
To = Annotated[str, Query(max_length=4000)]
OWN_POLICY = pages.POLICY + "; form-action 'self'"


def add_routes(api: APIRouter, settings: Settings, entering: Entering, decider: Decider, outflows: Outflows) -> None:
    @api.get("/workspaces/enter", openapi_extra=guard(Action.PUBLIC_READ, writes=True), response_class=RedirectResponse)
    async def enter_workspace(host: Host, call: CallDep, request: Request, to: To = "/") -> Response:
        """Carry your sign-in to a workspace's own address, by a code that works once."""
        person = "text/html" in request.headers.get("accept", "")
        try:
            if call.principal.person is None:
                raise Unauthenticated
            address = entering.hosts.parse(host)
            if address is None:
                raise NoSuchWorkspace
            team = await entering.team_at(call.uow, address)
            scope = await decider.decide(call.uow, call.principal, Action.WORKSPACE_USE, team.space)
            return RedirectResponse(await entering.issue(call.uow, scope, team, to), status_code=303)
        except Unauthenticated:
            if not person:
                raise
            back = f"{request.url.path}?{request.url.query}"
            return RedirectResponse(f"/api/v1/sign-in?to={quote(back, safe='')}", status_code=303)
        except CloisterError as error:
            if not person:
                raise
            text = pages.refusal(
                "You cannot go on here", error.detail, settings.public_url, styles="/api/v1/sign-in/pages.css"
            )
            return HTMLResponse(text, error.status, {"Content-Security-Policy": pages.POLICY})

    @api.post("/spaces/{space}/teams/{team}/downloads", openapi_extra=guard(Action.GRANT_WRITE), status_code=204)
    async def renew_budget(
        space: Annotated[str, Path(max_length=60)], team: Annotated[str, Path(max_length=40)], call: CallDep
    ) -> None:
        """Let today's budget of data that may leave a team's workspace begin anew."""
        await outflows.renew(call.uow, space, (await get_team(call.uow, call.scope, team_number(team))).team)

    @api.get("/sign-in", openapi_extra=guard(Action.PUBLIC_READ), include_in_schema=False)
    async def sign_in_page(call: CallDep, to: To = "/") -> HTMLResponse:
        """A plain page to sign in with."""
        del call
        providers = [(p.title, f"/api/v1/auth/oidc/{p.name}/start") for p in settings.oidc_providers]
        text = pages.sign_in(providers, to, demo=settings.mode == "demo")
        return HTMLResponse(text, headers={"Content-Security-Policy": OWN_POLICY})

    @api.get("/sign-in/{name}", openapi_extra=guard(Action.PUBLIC_READ), include_in_schema=False)
    async def sign_in_asset(name: str, call: CallDep) -> Response:
        """Its script and its style."""
        del call
        found = pages.asset(name)
        if found is None:
            raise NotFound
        return Response(found[0], media_type=found[1])
