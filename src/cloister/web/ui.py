"""The web application: one page, and the files that it loads. Behind Caddy the files come straight from disk."""

import asyncio
import mimetypes
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Header
from fastapi import Path as PathParameter
from starlette.responses import FileResponse, Response

from cloister.core.actions import Action, guard
from cloister.core.errors import NotFound

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self' {sockets}; worker-src 'self' blob:; frame-src {widgets}; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'; manifest-src 'self'"
)
FOR_EVER = "public, max-age=31536000, immutable"
NOT_BUILT = "The web application is not built: run scripts/ui. The API is at /api/v1."


def add_ui_routes(api: APIRouter, home: str, widgets: str, directory: Path) -> None:
    """Everything that is no API: files by name, and for every other address the page, which knows its own."""
    policy = POLICY.format(sockets=home.replace("http", "ws", 1), widgets=widgets)

    @api.get("/assets/{name}", openapi_extra=guard(Action.PUBLIC_READ, transaction=False))
    async def asset(name: Annotated[str, PathParameter(pattern=r"^[A-Za-z0-9_.-]+$", max_length=200)]) -> Response:
        file = directory / "assets" / name
        if not await asyncio.to_thread(file.is_file):
            raise NotFound
        kind = "text/javascript" if file.suffix == ".js" else mimetypes.guess_type(name)[0]
        return FileResponse(file, media_type=kind, headers={"Cache-Control": FOR_EVER})

    @api.get("/{path:path}", openapi_extra=guard(Action.PUBLIC_READ, transaction=False))
    async def page(
        path: Annotated[str, PathParameter(max_length=500)], accept: Annotated[str, Header(max_length=1000)] = ""
    ) -> Response:
        if path.startswith(("api/", "health/", "w/", "lib/")) or "text/html" not in accept:
            raise NotFound
        file = directory / "index.html"
        if not await asyncio.to_thread(file.is_file):
            raise NotFound(NOT_BUILT)
        headers = {"Content-Security-Policy": policy, "Cache-Control": "no-cache"}
        return FileResponse(file, media_type="text/html; charset=utf-8", headers=headers)
