"""The WebSocket of live sessions."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from cloister.access import Decider, scoped_get
from cloister.core.actions import Action
from cloister.core.errors import CloisterError
from cloister.core.principal import EVERYTHING, Principal
from cloister.dashboards.errors import ShareNotFound
from cloister.dashboards.hub import PROTOCOL, Hub, Viewer
from cloister.dashboards.live import LiveSessions
from cloister.dashboards.models import Dashboard, Share
from cloister.dashboards.service import Dashboards
from cloister.dashboards.sessions import Session
from cloister.dashboards.shares import Shares
from cloister.dashboards.tickets import Ticket, Tickets
from cloister.platform import Database, UnitOfWork

MAX_WORD = 2000
SignedIn = Callable[[UnitOfWork, Principal], Awaitable[None]]
"""Sees that the session or token that somebody came with counts still; raises when it does not."""


@dataclass
class LiveSocket:
    """Those who look; `docs/live-protocol.md` says what is spoken with them."""

    database: Database
    decider: Decider
    signed_in: SignedIn
    dashboards: Dashboards
    shares: Shares
    live: LiveSessions
    tickets: Tickets

    def route(self) -> WebSocketRoute:
        return WebSocketRoute("/api/v1/live", self._endpoint)

    async def _row_of(self, ticket: Ticket) -> Dashboard:
        """The dashboard that somebody may look at.

        Raises:
            CloisterError: why they may not, or not any more.
        """
        async with self.database.read(ticket.principal) as uow:
            if ticket.share is not None:
                share = await scoped_get(uow, Share, EVERYTHING, token_hash=ticket.share)
                if share is None:
                    raise ShareNotFound
                return await self.shares.still(uow, share)
            await self.signed_in(uow, ticket.principal)
            trial = self.live.trials.running.get(ticket.dashboard)
            if trial is not None:
                await self.decider.decide(uow, ticket.principal, Action.DASHBOARD_WRITE, ticket.space)
                return trial.board
            scope = await self.decider.decide(uow, ticket.principal, Action.DASHBOARD_READ, ticket.space)
            return await self.dashboards.get(uow, scope, ticket.dashboard)

    async def _endpoint(self, websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            ticket = self.tickets.redeem(websocket.query_params.get("ticket", ""))
            row = await self._row_of(ticket)
        except CloisterError as error:
            await _turn_away(websocket, error)
            return

        async def check() -> str | None:
            try:
                await self._row_of(ticket)
            except CloisterError as error:
                return error.detail
            return None

        extension = websocket.scope.get("extensions", {}).get("cloister.wire", {})
        viewer = Viewer(websocket.send_text, console=ticket.share is None, wire=extension.get("wire"))
        right = ticket.share or repr(ticket.principal)
        try:
            session, hub = await self.live.join(
                row, viewer, right, check, shared=ticket.share is not None, values=ticket.values
            )
        except CloisterError as error:
            await _turn_away(websocket, error)
            return
        await self._show(websocket, session, hub, viewer, may_restart=ticket.share is None)

    async def _show(
        self, websocket: WebSocket, session: Session, hub: Hub, viewer: Viewer, *, may_restart: bool
    ) -> None:
        hello = {"type": "INIT", "protocol": PROTOCOL, "session": session.id, "channels": hub.names}
        hello |= {"key": viewer.key, "version": session.version}
        tasks: set[asyncio.Task[None]] = set()
        try:
            await websocket.send_text(json.dumps(hello))
            listening = _listen(websocket, self.live, session, may_restart=may_restart)
            tasks = {asyncio.create_task(viewer.run(hub.channels)), asyncio.create_task(listening)}
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.live.leave(session, viewer)
            for task in tasks:
                task.cancel()
            for ended in await asyncio.gather(*tasks, return_exceptions=True):
                if not isinstance(ended, asyncio.CancelledError | WebSocketDisconnect | RuntimeError | None):
                    raise ended
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # it has hung up already
                await websocket.close()


async def _turn_away(websocket: WebSocket, error: CloisterError) -> None:
    await websocket.send_text(json.dumps({"type": "TERMINATE", "reason": error.detail, "code": error.code}))
    await websocket.close(4403)


async def _listen(websocket: WebSocket, live: LiveSessions, session: Session, *, may_restart: bool) -> None:
    """What viewers say: that they look, and that one integration is to be started anew."""
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            text = await websocket.receive_text()
            try:
                message = json.loads(text) if len(text) <= MAX_WORD else None
            except (ValueError, RecursionError):
                message = None
            match message:
                case {"type": "TICK"}:
                    live.tick(session)
                case {"type": "RESTART", "integration": str(id_)} if may_restart:
                    live.restart(session, id_)
                case _:
                    return
