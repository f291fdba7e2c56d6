"""Governed SQL for programs in sandboxes, over the inner API."""

import asyncio
import json
from collections.abc import Callable
from contextlib import aclosing

from aiohttp import web

from cloister.access import Decider
from cloister.core.actions import Action
from cloister.core.errors import CloisterError, Forbidden, Invalid
from cloister.core.principal import Scope
from cloister.platform import Database
from cloister.query.answers import Answer
from cloister.query.broker import FORMS, Broker, Question
from cloister.query.errors import QueryFailed
from cloister.query.relations import Relations
from cloister.sandboxes import Connected, InnerApi


def register(inner: InnerApi, broker: Broker, relations: Relations, decider: Decider, database: Database) -> None:
    """Offer ``POST /v1/query`` and ``GET /v1/datasets`` to sandboxes."""

    async def scope_of(sandbox: Connected) -> Scope:
        """Decided anew on each request: a sandbox may no more than the person it runs for, and only for its team."""
        _check_declared(sandbox)
        async with database.read(sandbox.principal) as uow:
            scope = await decider.decide(uow, sandbox.principal, Action.QUERY_RUN, sandbox.space)
        teams = frozenset() if sandbox.team is None else frozenset({sandbox.team})
        return Scope(scope.space, teams, scope.roles, sandbox.principal, scope.until)

    async def query(sandbox: Connected, request: web.Request) -> web.StreamResponse:
        scope = await scope_of(sandbox)
        try:
            body = json.loads(await request.text())
            sql, parameters = body["sql"], body.get("params")
        except (ValueError, KeyError, TypeError, RecursionError, LookupError) as error:
            raise QueryFailed("Send a JSON object with “sql” and, if needed, “params”.") from error
        if not isinstance(sql, str) or not isinstance(parameters, list | dict | None):
            raise Invalid("“sql” is a text, “params” a list or an object.")
        accept = request.headers.get("Accept", "")
        media = next((name for name in FORMS if name in accept), "application/vnd.apache.arrow.stream")
        question = Question(sql, parameters, FORMS[media], sandbox.team, sandbox.id, only=sandbox.queries_of)
        answer = await broker.ask(scope, question)
        response = web.StreamResponse(headers={"Content-Type": media, "Cloister-Query": answer.query})
        response.enable_chunked_encoding()
        await response.prepare(request)
        await _send(
            response, request, answer, lambda why: broker.cancel(sandbox.space, answer.query, lambda _: True, why)
        )
        return response

    async def datasets(sandbox: Connected, request: web.Request) -> web.StreamResponse:
        del request
        scope = await scope_of(sandbox)
        async with database.read(sandbox.principal) as uow:
            tables = await relations.granted(uow, sandbox.space, scope.principal.person, sandbox.team, "query")
        return web.json_response(
            {
                "items": [
                    {"table": t.name, "version": t.version, "columns": list(t.columns), "min_group": t.min_group}
                    for t in tables
                    if sandbox.queries_of is None or t.dataset in sandbox.queries_of
                ]
            }
        )

    inner.register("POST", "/v1/query", query)
    inner.register("GET", "/v1/datasets", datasets)


def _check_declared(sandbox: Connected) -> None:
    if not sandbox.queries:
        raise Forbidden("This module did not declare that it asks governed data, so it may not.")


async def _send(
    response: web.StreamResponse, request: web.Request, answer: Answer, cancel: Callable[[str], object]
) -> None:
    """Pass an answer on; end the query when nobody reads it any more."""
    try:
        async with aclosing(answer.chunks) as chunks:
            async for chunk in chunks:
                await response.write(chunk)
        await response.write_eof()
    except CloisterError:
        # The answer had begun: cut the connection, so that nobody takes a part for the whole.
        if request.transport is not None:
            request.transport.abort()
    except ConnectionError:  # it may have read all that it wanted
        cancel("the program hung up")
    except asyncio.CancelledError:
        cancel("the program hung up")
        raise
