"""Asking from inside: ``cloister.export("results.csv", why="...")``."""

import json

from aiohttp import web
from pydantic import ValidationError

from cloister.access import Decider, scoped_get
from cloister.airlock.schemas import ExportIn, ExportOut
from cloister.airlock.service import Airlock
from cloister.core.actions import Action
from cloister.core.errors import Forbidden, Invalid
from cloister.core.principal import Scope
from cloister.sandboxes import Connected, InnerApi, Sandbox, SandboxSpec
from cloister.spaces import in_space


def register(inner: InnerApi, airlock: Airlock, decider: Decider) -> None:
    """Offer ``POST /v1/exports`` to sandboxes."""

    async def ask(sandbox: Connected, request: web.Request) -> web.StreamResponse:
        if sandbox.team is None:
            raise Forbidden("Only a team's own sandbox can ask for an export.")
        async with airlock.database.read(sandbox.principal) as uow:
            scope = await decider.decide(uow, sandbox.principal, Action.EXPORT_ASK, sandbox.space)
            row = await scoped_get(uow, Sandbox, in_space(sandbox.space), id=sandbox.id)
        volume = None if row is None else SandboxSpec.load(row.spec).volume
        if volume is None:
            raise Invalid("This sandbox has no volume: nothing in it outlives it, and nothing can be exported.")
        if scope.teams is not None and sandbox.team not in scope.teams:
            raise Forbidden("You are not in the team that this sandbox belongs to.")
        narrow = Scope(scope.space, frozenset({sandbox.team}), scope.roles, sandbox.principal, scope.until)
        try:
            wanted = ExportIn.model_validate(json.loads(await request.text()))
        except ValidationError as error:
            first = error.errors()[0]
            raise Invalid(f"{'.'.join(map(str, first['loc'])) or 'the request'}: {first['msg']}") from error
        except (ValueError, RecursionError, LookupError) as error:
            raise Invalid("Send a JSON object with “paths”, a list of files, and “why”.") from error
        made = await airlock.ask(narrow, sandbox.team, wanted.paths, wanted.why, volume=volume)
        return web.json_response(ExportOut.of(made).model_dump(mode="json"))

    inner.register("POST", "/v1/exports", ask)
