"""Dashboards, live sessions and shares over HTTP."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Query, Response

from cloister.audit import Name as Said
from cloister.audit import record
from cloister.core.actions import Action, guard
from cloister.core.errors import NotFound
from cloister.core.pagination import MAX_PAGE
from cloister.dashboards.document import Document, without_secrets
from cloister.dashboards.frames import Frames, page_asset
from cloister.dashboards.hub import PROTOCOL
from cloister.dashboards.live import LiveSessions
from cloister.dashboards.pictures import HEADERS, drawn, own
from cloister.dashboards.schemas import (
    DashboardIn,
    DashboardOut,
    DashboardPage,
    PartList,
    RevertIn,
    ShareIn,
    ShareList,
    ShareOut,
    SharePauseIn,
    TicketOut,
    TrialIn,
    TrialOut,
    VariableView,
    VersionList,
    VersionOut,
    View,
    VisitIn,
    WidgetView,
)
from cloister.dashboards.service import Dashboards
from cloister.dashboards.shares import Shares, Wish, shown
from cloister.dashboards.tickets import Tickets
from cloister.dashboards.variables import chosen
from cloister.identity import secret_hash
from cloister.platform import Call, Database, Settings
from cloister.platform.call import current_call
from cloister.platform.etags import check_etag, check_seen
from cloister.platform.ratelimit import RateLimit
from cloister.spaces import TeamNotFound, team_number

CallDep = Annotated[Call, Depends(current_call)]
Slug = Annotated[str, Path(max_length=60)]
Id = Annotated[str, Path(max_length=64)]
Cursor = Annotated[str | None, Query(max_length=400)]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
IfMatch = Annotated[str | None, Header()]
READ, WRITE = guard(Action.DASHBOARD_READ), guard(Action.DASHBOARD_WRITE)
ADDRESSES = 20
"""Wrong passphrases of a share from everywhere: so many times as many as from one address."""


def add_routes(
    api: APIRouter, settings: Settings, database: Database, dashboards: Dashboards, shares: Shares, frames: Frames, tickets: Tickets,
    live: LiveSessions,
) -> None:  # fmt: skip
    @api.get("/spaces/{space}/dashboards", openapi_extra=READ)
    async def list_dashboards(
        space: Slug, call: CallDep, cursor: Cursor = None, limit: Limit = 50, latest: bool = False
    ) -> DashboardPage:
        """The dashboards of your team, without their pictures; with ``latest`` those that were changed last, and no more."""
        del space
        page = await dashboards.page(call.uow, call.scope, cursor, limit, latest=latest)
        return DashboardPage(items=[DashboardOut.listed(row) for row in page.items], next_cursor=page.next_cursor)

    @api.post("/spaces/{space}/dashboards", openapi_extra=WRITE, status_code=201)
    async def create_dashboard(space: Slug, body: DashboardIn, call: CallDep) -> DashboardOut:
        """Make a dashboard; also the way to import one."""
        del space
        made = await dashboards.create(call.uow, call.scope, team_number(body.team), call.person, body.document)
        return DashboardOut.of(made)

    @api.get("/spaces/{space}/dashboards/{dashboard}", openapi_extra=READ)
    async def show_dashboard(space: Slug, dashboard: Id, call: CallDep, response: Response) -> DashboardOut:
        """A dashboard, with the ETag that a change needs."""
        del space
        row = await dashboards.get(call.uow, call.scope, dashboard)
        response.headers["ETag"] = f'"{row.version}"'
        return DashboardOut.of(row)

    @api.put("/spaces/{space}/dashboards/{dashboard}", openapi_extra=WRITE)
    async def save_dashboard(
        space: Slug, dashboard: Id, body: Document, call: CallDep, response: Response, if_match: IfMatch = None
    ) -> DashboardOut:
        """Make a dashboard be this. Of two with one ETag, the second is told to look again."""
        del space
        row = await dashboards.get(call.uow, call.scope, dashboard)
        await call.uow.session.refresh(row, with_for_update=True)
        check_etag(f'"{row.version}"', if_match)
        saved = await dashboards.save(call.uow, row, call.person, body)
        response.headers["ETag"] = f'"{saved.version}"'
        return DashboardOut.of(saved)

    @api.get("/spaces/{space}/dashboards/{dashboard}/parts", openapi_extra=READ)
    async def dashboard_parts(space: Slug, dashboard: Id, call: CallDep) -> PartList:
        """The releases that the parts of a dashboard are, what can be set in each, and where widgets' pages are."""
        del space
        row = await dashboards.get(call.uow, call.scope, dashboard)
        return PartList(items=await frames.parts(call.uow, Document.model_validate(row.document)))

    @api.get("/spaces/{space}/dashboards/{dashboard}/thumbnail", openapi_extra=READ, response_class=Response)
    async def dashboard_thumbnail(space: Slug, dashboard: Id, call: CallDep) -> Response:
        """The small picture of a dashboard: its own, or one drawn of where its widgets are."""
        del space
        document = Document.model_validate((await dashboards.get(call.uow, call.scope, dashboard)).document)
        kind, content = own(document) or drawn(document, await frames.pictures(call.uow, document))
        return Response(content, media_type=kind, headers=HEADERS)

    @api.delete("/spaces/{space}/dashboards/{dashboard}", openapi_extra=WRITE, status_code=204)
    async def delete_dashboard(space: Slug, dashboard: Id, call: CallDep, if_match: IfMatch = None) -> None:
        """Delete a dashboard, its history and its shares."""
        del space
        row = await dashboards.get(call.uow, call.scope, dashboard)
        await call.uow.session.refresh(row, with_for_update=True)
        check_seen(f'"{row.version}"', if_match)
        await dashboards.delete(call.uow, row)

    @api.get("/spaces/{space}/dashboards/{dashboard}/versions", openapi_extra=READ)
    async def dashboard_history(space: Slug, dashboard: Id, call: CallDep) -> VersionList:
        """What a dashboard was, newest first."""
        del space
        row = await dashboards.get(call.uow, call.scope, dashboard)
        return VersionList(items=[VersionOut.of(v) for v in await dashboards.history(call.uow, row)])

    @api.post("/spaces/{space}/dashboards/{dashboard}/revert", openapi_extra=WRITE)
    async def revert_dashboard(
        space: Slug, dashboard: Id, body: RevertIn, call: CallDep, response: Response, if_match: IfMatch = None
    ) -> DashboardOut:
        """Go back to a version; that can be undone in the same way. Of two with one ETag, the second is told to look again."""
        del space
        row = await dashboards.get(call.uow, call.scope, dashboard)
        await call.uow.session.refresh(row, with_for_update=True)
        check_seen(f'"{row.version}"', if_match)
        reverted = await dashboards.revert(call.uow, row, body.version, call.person)
        response.headers["ETag"] = f'"{reverted.version}"'
        return DashboardOut.of(reverted)

    @api.post("/spaces/{space}/dashboards/{dashboard}/copies", openapi_extra=WRITE, status_code=201)
    async def duplicate_dashboard(space: Slug, dashboard: Id, call: CallDep) -> DashboardOut:
        """A copy, without its secrets."""
        del space
        row = await dashboards.get(call.uow, call.scope, dashboard)
        return DashboardOut.of(await dashboards.duplicate(call.uow, call.scope, row, call.person))

    @api.get("/spaces/{space}/dashboards/{dashboard}/export", openapi_extra=READ)
    async def export_dashboard(space: Slug, dashboard: Id, call: CallDep) -> Document:
        """A dashboard as one file, without its secrets."""
        del space
        row = await dashboards.get(call.uow, call.scope, dashboard)
        return without_secrets(Document.model_validate(row.document))

    @api.post("/spaces/{space}/dashboards/{dashboard}/live", openapi_extra=guard(Action.DASHBOARD_READ, writes=True))
    async def open_dashboard(space: Slug, dashboard: Id, call: CallDep) -> TicketOut:
        """A ticket into the live session of a dashboard."""
        row = await dashboards.get(call.uow, call.scope, dashboard)
        record(call.uow, Said.DASHBOARD_OPENED, space=row.space, team=row.team, subject=row.id)
        return _ticket(tickets.issue(row.id, space, call.principal))

    @api.post("/spaces/{space}/trials/{module}", openapi_extra=WRITE)
    async def try_module(
        space: Slug, module: Annotated[str, Path(max_length=60)], body: TrialIn, call: CallDep
    ) -> TrialOut:
        """Run your own draft as it is now, or draw it. Again takes the place of what ran before."""
        team = team_number(body.team)
        if call.scope.teams is not None and team not in call.scope.teams:
            raise TeamNotFound
        found = await frames.modules.own(call.uow, module, call.person)
        call.uow.unrecorded("a draft on trial; the sandbox that it runs in is recorded")
        described, release = await frames.modules.on_trial(call.uow, found)
        page = f"{settings.public_url}/modules/{found.name}/edit?watch"
        if described.manifest.kind == "widget":
            return TrialOut(live=None, frame=frames.address(frames.trials.preview(found)), page=page)
        trial = frames.trials.begin(found, described, release, call.person, space, team, body.values, dashboards.seal)
        return TrialOut(live=_ticket(tickets.issue(trial.board.id, space, call.principal)), frame=None, page=page)

    _share_routes(api, dashboards, shares, frames.shares)
    _visitor_routes(api, shares, frames, tickets, live, database, settings.share_guesses_per_minute)


def _ticket(secret: str) -> TicketOut:
    return TicketOut(protocol=PROTOCOL, path=f"/live?ticket={secret}")


def _share_routes(api: APIRouter, dashboards: Dashboards, shares: Shares, origin: str) -> None:
    @api.get("/spaces/{space}/dashboards/{dashboard}/shares", openapi_extra=WRITE)
    async def list_shares(space: Slug, dashboard: Id, call: CallDep) -> ShareList:
        """The shares of a dashboard."""
        del space
        row = await dashboards.get(call.uow, call.scope, dashboard)
        return ShareList(items=[ShareOut.of(share) for share in await shares.of(call.uow, row)])

    @api.post("/spaces/{space}/dashboards/{dashboard}/shares", openapi_extra=WRITE, status_code=201)
    async def share_dashboard(space: Slug, dashboard: Id, body: ShareIn, call: CallDep) -> ShareOut:
        """Make a link that shows a dashboard and nothing behind it. The link is in this answer alone."""
        del space
        row = await dashboards.get(call.uow, call.scope, dashboard)
        wish = Wish(body.passphrase, tuple(body.origins), body.expires_at, tuple(body.variables))
        share, token = await shares.create(call.uow, row, call.person, wish)
        return ShareOut.of(share, f"{origin}/api/v1/view/{share.id}/view.html#{token}")

    @api.put("/spaces/{space}/shares/{share}/pause", openapi_extra=WRITE)
    async def pause_share(space: Slug, share: Id, body: SharePauseIn, call: CallDep) -> ShareOut:
        """Let a share rest, or show again. Those who look are cut off within a second."""
        del space
        found = await shares.get(call.uow, call.scope, share)
        return ShareOut.of(await shares.pause(call.uow, found, paused=body.paused))

    @api.delete("/spaces/{space}/shares/{share}", openapi_extra=WRITE, status_code=204)
    async def revoke_share(space: Slug, share: Id, call: CallDep) -> None:
        """End a share for good, within a second."""
        del space
        await shares.revoke(call.uow, await shares.get(call.uow, call.scope, share))


def _visitor_routes(
    api: APIRouter, shares: Shares, frames: Frames, tickets: Tickets, live: LiveSessions, database: Database, most: int
) -> None:
    guesses, guesses_of_all = RateLimit(most), RateLimit(most * ADDRESSES)

    @api.post("/shares/view", openapi_extra=guard(Action.PUBLIC_READ, transaction=False))
    async def view_share(body: VisitIn, call: CallDep) -> View:
        """What a share shows, and a ticket into its live session. Its token comes in the body, to be in no log."""
        async with database.read(call.principal) as uow:
            share, _ = await shares.find(uow, body.token, body.share)
        if share.passphrase_hash is not None and body.passphrase is not None:
            # Before it is looked at: a thousand at once are a thousand guesses. And outside any transaction: it is slow.
            places = (guesses, f"{share.id} {call.address}"), (guesses_of_all, share.id)
            for limit, who in places:
                limit.take(who)
            await asyncio.to_thread(shares.check_passphrase, share, body.passphrase)
            for limit, who in places:
                limit.give_back(who)  # it was right, and a whole class that knows it may come from one address
        else:
            shares.check_passphrase(share, None)
        async with database.write(call.principal) as uow:
            share, row = await shares.find(uow, body.token, body.share)
            settings = await shares.settings(uow, share, row)
            values = chosen(settings, body.values)
            await shares.viewed(uow, share, again=body.again)
            data = shown(row, await frames.releases(uow, Document.model_validate(row.document).widgets))
            widgets = [WidgetView(frame=frames.address(w.pop("digest")), **w) for w in data["widgets"]]
            variables = [VariableView.of(setting, body.values.get(setting.id, setting.value)) for setting in settings]
            ticket = _ticket(tickets.issue(row.id, row.space, call.principal, secret_hash(body.token), values))
            return View(
                name=data["name"], background=data["background"], version=row.version, widgets=widgets,
                variables=variables, live=ticket,
            )  # fmt: skip

    @api.get("/live/{session}/outputs/{channel}", openapi_extra=guard(Action.PUBLIC_READ), response_class=Response)
    async def large_output(
        session: Id, channel: Id, call: CallDep, live_viewer: Annotated[str, Header(max_length=100)] = ""
    ) -> Response:
        """A large output of a live session, for a viewer who shows the key that its connection was given."""
        del call
        output = live.output_of(session, channel, live_viewer)
        body = f'{{"seq":{output.seq},"model":{output.text}}}'
        return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})

    @api.get("/view/{name}", openapi_extra=guard(Action.PUBLIC_READ), include_in_schema=False)
    async def unembedded_page(name: str, call: CallDep) -> Response:
        """The same for links that do not say which share they are of: no other page may embed it."""
        return await view_page("", name, call)

    @api.get("/view/{share}/{name}", openapi_extra=guard(Action.PUBLIC_READ), include_in_schema=False)
    async def view_page(share: Id, name: str, call: CallDep) -> Response:
        """The page that shows a share, with the rule who may embed it; the link's last part, which opens it, never
        reaches a server.
        """
        found = page_asset(name)
        if found is None:
            raise NotFound
        policy = frames.page_policy(await frames.embedders(call.uow, share))
        headers = {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"}
        return Response(found[0], media_type=found[1], headers=headers)


def add_frame_routes(api: APIRouter, frames: Frames) -> None:
    """What is at the origin of widgets, and nowhere else."""

    @api.get("/w/{digest}/{path:path}", openapi_extra=guard(Action.PUBLIC_READ))
    async def widget_file(digest: Id, path: Annotated[str, Path(max_length=200)], call: CallDep) -> Response:
        content, headers = await frames.file(call.uow, digest, path)
        return Response(content, headers=headers)

    @api.get("/lib/{name}", openapi_extra=guard(Action.PUBLIC_READ))
    async def widget_library(name: Annotated[str, Path(max_length=60)], call: CallDep) -> Response:
        del call
        content, headers = await asyncio.to_thread(frames.library, name)
        return Response(content, headers=headers)
