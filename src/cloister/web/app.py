"""The application factory."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from cloister import __version__
from cloister.airlock.routes import add_routes as airlock_routes
from cloister.bootstrap import Platform
from cloister.core.errors import CloisterError, Invalid, NotFound, TooLarge
from cloister.dashboards.frames import Frames
from cloister.dashboards.live_socket import LiveSocket
from cloister.dashboards.routes import add_frame_routes
from cloister.dashboards.routes import add_routes as dashboard_routes
from cloister.datasets.routes import add_routes as dataset_routes
from cloister.gateway.routes import add_routes as gateway_routes
from cloister.identity.routes import add_routes as identity_routes
from cloister.insight.routes import add_routes as insight_routes
from cloister.modules.routes import add_routes as module_routes
from cloister.query.routes import add_routes as query_routes
from cloister.sandboxes import Following
from cloister.sandboxes.routes import add_routes as sandbox_routes
from cloister.spaces.routes import add_routes as space_routes
from cloister.web.answering import AnsweredBeforeError, problem_response
from cloister.web.branding import add_branding_routes
from cloister.web.edge import Authoriser, Edge
from cloister.web.routes import add_health_routes, add_platform_routes
from cloister.web.ui import add_ui_routes
from cloister.workspaces.routes import add_routes as workspace_routes

PREFIX = "/api/v1"
PROBLEM = "application/problem+json"


class Problem(BaseModel):
    """What went wrong (RFC 9457). ``code`` is stable; ``detail`` is a sentence for people."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    request: str
    errors: list[dict[str, str]] | None = None
    """Of input that cannot be accepted: each field, and what is wrong with it."""

    model_config = ConfigDict(extra="allow")
    """Some codes say more, such as ``retry_after`` or ``budget``."""


class MethodNotAllowed(CloisterError):
    """This address does not take that method."""

    status = 405
    code = "method_not_allowed"


def create_app(platform: Platform, *, manage: bool = True) -> FastAPI:
    """Make the API.

    Args:
        platform: the services.
        manage: whether the application's life starts and stops them.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        if manage:
            async with platform.running():
                yield
        else:
            yield

    app = FastAPI(
        title="Cloister",
        version=__version__,
        lifespan=lifespan,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
        separate_input_output_schemas=False,
        telemetry={"tracing": False},
    )
    authoriser = Authoriser(platform)
    _add_routes(app, platform, authoriser)
    _check_guards(app)
    _handle_errors(app, platform, authoriser)
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]  # FastAPI's documented way to extend it
    app.add_middleware(Edge, platform=platform)
    return app


def _add_routes(app: FastAPI, p: Platform, authoriser: Authoriser) -> None:
    """All routes in one list, each made once. FastAPI's own including makes each a second time, and looks through those of
    an included router twice for each request.
    """
    guards, routers = [Depends(authoriser)], list[APIRouter]()

    def at(prefix: str, tag: str, *, shown: bool = True) -> APIRouter:
        router = APIRouter(
            prefix=prefix,
            tags=[tag],
            dependencies=guards,
            responses={
                "422": _problem_content("The request cannot be accepted"),
                "default": _problem_content("A problem"),
            },
            generate_unique_id_function=lambda route: route.name,
            include_in_schema=shown,
        )
        routers.append(router)
        return router

    frames = Frames(p.modules, p.live.trials, p.hosts.widgets, p.hosts.shares, p.settings.public_url)
    identity_routes(
        at(PREFIX, "identity"), p.settings, p.sessions, p.tokens, p.oidc, p.on_sign_in, p.confirmations,
        p.spaces.on_confirmed, p.recorder,
    )  # fmt: skip
    space_routes(at(PREFIX, "spaces"), p.settings, p.spaces, p.enrolments)
    dataset_routes(at(PREFIX, "datasets"), p.settings, p.datasets, p.grants, p.database, p.recorder)
    query_routes(at(PREFIX, "query"), p.broker, p.relations, p.database)
    following = Following(p.sandbox_controller, p.database, p.bus)
    sandbox_routes(at(PREFIX, "sandboxes"), p.sandboxes, p.snapshots, p.volume_files, following, p.database)
    workspace_routes(at(PREFIX, "workspaces"), p.workspaces, p.capacity, p.hosts.origin)
    airlock_routes(at(PREFIX, "airlock"), p.airlock)
    gateway_routes(at(PREFIX, "workspaces"), p.settings, p.entering, p.decider, p.outflows)
    module_routes(at(PREFIX, "modules"), p.settings, p.modules, p.builds, p.sources)
    dashboard_routes(
        at(PREFIX, "dashboards"), p.settings, p.database, p.dashboards, p.shares, frames, p.tickets, p.live
    )  # fmt: skip
    insight_routes(at(PREFIX, "insight"), p.clock, p.machines)
    add_platform_routes(at(PREFIX, "platform"), p)
    add_branding_routes(at(PREFIX, "platform"), p)
    live = LiveSocket(p.database, p.decider, p.signed_in, p.dashboards, p.shares, p.live, p.tickets)
    add_frame_routes(at("", "frames", shown=False), frames)
    add_health_routes(at("", "health"), p)
    add_ui_routes(at("", "ui", shown=False), p.settings.public_url, p.hosts.widgets, p.settings.ui_files)
    app.router.routes += [live.route(), *(route for router in routers for route in router.routes)]


def _problem_content(description: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": description, "content": {PROBLEM: {"schema": schema}}}


def guarded_routes(app: FastAPI) -> list[APIRoute]:
    """Every route that asks for the decision."""
    return [route for route in app.routes if isinstance(route, APIRoute)]


def _check_guards(app: FastAPI) -> None:
    """Refuse to serve a route that does not say which action it is."""
    routes = guarded_routes(app)
    if not routes:
        message = "no routes were found to check"
        raise RuntimeError(message)
    for route in routes:
        if "x-cloister-action" not in (route.openapi_extra or {}):
            message = f"route {route.path} declares no action"
            raise RuntimeError(message)


def _handle_errors(app: FastAPI, platform: Platform, authoriser: Authoriser) -> None:
    def answer(request: Request, error: CloisterError) -> Response:
        return problem_response(error, request.scope["state"]["request_id"])

    @app.exception_handler(CloisterError)
    async def _cloister(request: Request, error: CloisterError) -> Response:
        return answer(request, error)

    @app.exception_handler(RequestValidationError)
    async def _validation(request: Request, error: RequestValidationError) -> Response:
        if not hasattr(request.state, "call"):  # the body was looked at first: whoever may not, is told only that
            try:
                await authoriser(request)
            except CloisterError as denied:
                return answer(request, denied)
        faults = [
            {"field": ".".join(str(part) for part in e["loc"][1:]) or str(e["loc"][0]), "message": str(e["msg"])}
            for e in error.errors()[:20]
        ]
        first = faults[0] if faults else {"field": "?", "message": "invalid"}
        detail = f"{first['field']}: {first['message']}."
        return answer(request, Invalid(detail, errors=faults))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        if isinstance(error.__cause__, CloisterError):  # of the body, which was being read
            return answer(request, error.__cause__)
        kinds: dict[int, type[CloisterError]] = {404: NotFound, 405: MethodNotAllowed, 413: TooLarge}
        response = answer(request, kinds.get(error.status_code, Invalid)())
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(AnsweredBeforeError)
    async def _before(_request: Request, error: AnsweredBeforeError) -> Response:
        headers = {"Idempotency-Replayed": "true"}
        if error.kept.location:
            headers["Location"] = error.kept.location
        body = platform.box.decrypt(error.kept.body.decode(), "kept answers")
        return Response(body, error.kept.status, headers, media_type=error.kept.content_type)


def _say_idempotency(document: dict[str, Any]) -> None:
    """Every create takes an ``Idempotency-Key``; the edge sees to that, no route of its own does."""
    header = {
        "name": "Idempotency-Key", "in": "header", "required": False, "schema": {"type": "string", "maxLength": 200},
        "description": "Any text of your own, new for each new thing. The same request with the same key is done once, and answered again.",
    }  # fmt: skip
    for path in document["paths"].values():
        operation = path.get("post")
        if operation is not None and {"201", "202"} & operation["responses"].keys():
            operation.setdefault("parameters", []).append(header)


def _document(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            routes=app.routes,
            separate_input_output_schemas=False,
            description="Cloister: data that people work on together and that does not leak.",
        )
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        _say_idempotency(document)
        schemas["Problem"] = Problem.model_json_schema()
        schemas.pop("HTTPValidationError", None)
        schemas.pop("ValidationError", None)
        document["components"]["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer", "description": "An API token (clo_…)"},
            "session": {"type": "apiKey", "in": "cookie", "name": "cloister", "description": "A browser's session"},
        }
        document["security"] = [{"token": []}, {"session": []}, {}]
        app.openapi_schema = document
    return app.openapi_schema
