"""Governed SQL over HTTP."""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Request

from cloister.core.actions import Action, guard
from cloister.core.errors import NotFound
from cloister.core.ids import team_label
from cloister.platform import Call, Database
from cloister.platform.call import current_call
from cloister.platform.streamed import Streamed
from cloister.query.answers import Answer
from cloister.query.broker import FORMS, Broker, Open, Question
from cloister.query.errors import QueryCancelled
from cloister.query.relations import Relations
from cloister.query.schemas import (
    GrantedTableOut,
    GrantedTables,
    OpenQueries,
    OpenQuery,
    QueryIn,
)
from cloister.spaces import team_number

CallDep = Annotated[Call, Depends(current_call)]
Slug = Annotated[str, Path(max_length=60)]


class QueryNotFound(NotFound):
    """There is no such query under way."""

    code = "query.not_found"


def _may(call: Call, query: Open) -> bool:
    """People see their own queries; the organisers, who are bound to no team, all of the space's."""
    return query.principal.person == call.principal.person or call.scope.teams is None


async def _unless_gone(request: Request, asking: Coroutine[Any, Any, Answer]) -> Answer:
    """Wait for an answer to begin, but no longer than the client does."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    answer, left = asyncio.ensure_future(asking), asyncio.ensure_future(gone())
    try:
        await asyncio.wait({answer, left}, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        raise QueryCancelled("The client hung up.")
    finally:
        left.cancel()
        if not answer.done():
            answer.cancel()
            await asyncio.wait({answer})
            if not answer.cancelled() and answer.exception() is None:
                await answer.result().chunks.aclose()


def add_routes(api: APIRouter, broker: Broker, relations: Relations, database: Database) -> None:
    @api.post(
        "/spaces/{space}/query",
        openapi_extra=guard(Action.QUERY_RUN, transaction=False),
        response_class=Streamed,
        responses={
            200: {
                "description": "The answer, as Accept asks: Arrow IPC stream, CSV or JSON",
                "content": {media: {} for media in FORMS},
                "headers": {"Cloister-Query": {"schema": {"type": "string"}}},
            }
        },
    )
    async def ask(
        space: Slug,
        body: QueryIn,
        call: CallDep,
        request: Request,
        accept: Annotated[str, Header(max_length=1000)] = "application/json",
    ) -> Streamed:
        """Ask governed data. Only what is granted to you is there; what you ask is recorded before you get an answer."""
        del space
        team = None if body.team is None else team_number(body.team)
        media = next((name for name in FORMS if name in accept), "application/json")
        question = Question(body.sql, body.params, FORMS[media], team, request_id=call.request_id)
        answer = await _unless_gone(request, broker.ask(call.scope, question))
        headers = {"Cloister-Query": answer.query, "Cloister-Cached": "yes" if answer.cached else "no"}
        return Streamed(answer.chunks, media_type=media, headers=headers)

    @api.get("/spaces/{space}/queries", openapi_extra=guard(Action.QUERY_RUN))
    async def list_open(space: Slug, call: CallDep) -> OpenQueries:
        """The queries under way that you may see."""
        return OpenQueries(
            items=[
                OpenQuery(
                    id=query.id,
                    person=query.principal.label,
                    team=None if query.team is None else team_label(query.team),
                )
                for query in broker.open.values()
                if query.space == space and _may(call, query)
            ]
        )

    @api.delete("/spaces/{space}/queries/{query}", openapi_extra=guard(Action.QUERY_RUN), status_code=202)
    async def cancel(space: Slug, query: str, call: CallDep) -> OpenQueries:
        """Cancel a query under way."""
        if not broker.cancel(space, query, lambda found: _may(call, found), "cancelled on request"):
            raise QueryNotFound
        return OpenQueries(items=[])

    @api.get("/spaces/{space}/tables", openapi_extra=guard(Action.QUERY_RUN, transaction=False))
    async def granted_tables(space: Slug, call: CallDep) -> GrantedTables:
        """The tables that you may query, with their columns."""
        team = min(call.scope.teams, default=None) if call.scope.teams else None
        async with database.read(call.principal) as uow:
            tables = await relations.granted(uow, space, call.principal.person, team, "query")
        return GrantedTables(
            items=[
                GrantedTableOut(
                    table=t.name, ask=t.ask, version=t.version, columns=list(t.columns),
                    min_group=t.min_group, max_rows=t.limits.rows, until=t.until,
                )
                for t in tables
            ]
        )  # fmt: skip
