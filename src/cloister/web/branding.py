"""Name, colour, words, links and logo of an installation."""

import hashlib
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from cloister import __version__
from cloister.audit import Name, record
from cloister.bootstrap import Platform
from cloister.core.actions import Action, guard
from cloister.core.errors import Invalid, NotFound, TooLarge
from cloister.platform import Call, UnitOfWork
from cloister.platform.branding import THE_ONE, Branding
from cloister.platform.call import current_call
from cloister.platform.etags import check_seen, etag_of

CallDep = Annotated[Call, Depends(current_call)]
IfMatch = Annotated[str | None, Header(max_length=200)]
MAX_LOGO = 200_000
KINDS = {b"\x89PNG\r\n\x1a\n": "image/png", b"<svg": "image/svg+xml", b"<?xml": "image/svg+xml"}
LOGO_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
"""A picture is a picture: whatever else is in an SVG file does nothing."""


class LogoNotFound(NotFound):
    """This installation has no logo of its own."""

    code = "platform.no_logo"


class Link(BaseModel):
    """A link at the foot of every page."""

    model_config = ConfigDict(extra="forbid")

    text: Annotated[str, Field(min_length=1, max_length=60)]
    address: Annotated[str, Field(pattern=r"^https?://[^\s\"'<>]{1,500}$")]


class BrandingIn(BaseModel):
    """What an operator may change of an installation's looks."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=60)]
    color: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
    welcome: Annotated[str, Field(max_length=600)] = ""
    sign_in: Annotated[str, Field(max_length=600)] = ""
    """What stands above the sign-in."""
    links: Annotated[list[Link], Field(max_length=12)] = Field(default_factory=list)


class PlatformOut(BrandingIn):
    """An installation: what it is called and looks like, and what it has."""

    logo: str | None
    """Where its logo is, by its content; None for Cloister's own."""
    version: str
    demo: bool
    widgets: str
    """The origin that widgets are drawn from."""
    workspaces: bool


@dataclass
class Brands:
    """What holds: the row, or where there is none the settings."""

    platform: Platform

    async def kept(self, uow: UnitOfWork) -> Branding | None:
        return await uow.session.get(Branding, THE_ONE)

    async def changed(self, uow: UnitOfWork) -> Branding:
        """The row to change; it begins as the settings are."""
        row = await self.kept(uow)
        if row is None:
            row = self._by_settings()
            uow.session.add(row)
        row.updated_at = self.platform.clock.now()
        return row

    def _by_settings(self) -> Branding:
        settings = self.platform.settings
        links = [{"text": text, "address": address} for text, address in settings.brand_links.items()]
        return Branding(
            id=THE_ONE, name=settings.brand_name, color=settings.brand_color, welcome=settings.brand_welcome, sign_in="",
            links=links, logo=None, logo_type=None,
        )  # fmt: skip

    def shown(self, row: Branding | None) -> PlatformOut:
        row = row or self._by_settings()
        logo = None if row.logo is None else f"/api/v1/platform/logo?{hashlib.sha256(row.logo).hexdigest()[:16]}"
        settings = self.platform.settings
        return PlatformOut.model_construct(  # an operator's settings are not held to what the browser may set
            name=row.name, color=row.color, welcome=row.welcome, sign_in=row.sign_in,
            links=[Link.model_construct(text=link["text"], address=link["address"]) for link in row.links], logo=logo, version=__version__,
            demo=settings.mode == "demo", widgets=self.platform.hosts.widgets, workspaces=settings.gateway != "off",
        )  # fmt: skip


def _etag(shown: PlatformOut) -> str:
    links = [(link.text, link.address) for link in shown.links]
    return etag_of(shown.name, shown.color, shown.welcome, shown.sign_in, links)


def add_branding_routes(api: APIRouter, platform: Platform) -> None:
    brands = Brands(platform)

    @api.get("/platform", openapi_extra=guard(Action.PUBLIC_READ))
    async def about(call: CallDep, response: Response) -> PlatformOut:
        """What this installation is called and looks like, with the ETag that a change may send."""
        shown = brands.shown(await brands.kept(call.uow))
        response.headers["ETag"] = _etag(shown)
        return shown

    @api.put("/platform/branding", openapi_extra=guard(Action.PLATFORM_WRITE))
    async def change_branding(
        body: BrandingIn, call: CallDep, response: Response, if_match: IfMatch = None
    ) -> PlatformOut:
        """Change what this installation is called and looks like. It holds over the settings."""
        row = await brands.changed(call.uow)
        check_seen(_etag(brands.shown(row)), if_match)
        row.name, row.color, row.welcome, row.sign_in = body.name, body.color, body.welcome, body.sign_in
        row.links = [link.model_dump() for link in body.links]
        record(call.uow, Name.BRANDING_CHANGED, called=body.name)
        shown = brands.shown(row)
        response.headers["ETag"] = _etag(shown)
        return shown

    @api.delete("/platform/branding", openapi_extra=guard(Action.PLATFORM_WRITE))
    async def reset_branding(call: CallDep) -> PlatformOut:
        """Let the settings hold again."""
        row = await brands.kept(call.uow)
        if row is not None:
            await call.uow.session.delete(row)
        record(call.uow, Name.BRANDING_CHANGED, reset=True)
        return brands.shown(None)

    @api.put("/platform/logo", openapi_extra=guard(Action.PLATFORM_WRITE))
    async def change_logo(request: Request, call: CallDep) -> PlatformOut:
        """Take another logo: an SVG or PNG file of at most 200 kB, as the request's body."""
        data = await request.body()
        if len(data) > MAX_LOGO:
            raise TooLarge("A logo has at most 200 kB.")
        kind = next((kind for start, kind in KINDS.items() if data.lstrip().startswith(start)), None)
        if kind is None:
            raise Invalid("A logo is an SVG or a PNG file.")
        row = await brands.changed(call.uow)
        row.logo, row.logo_type = data, kind
        record(call.uow, Name.BRANDING_CHANGED, logo=len(data))
        return brands.shown(row)

    @api.get("/platform/logo", openapi_extra=guard(Action.PUBLIC_READ), response_class=Response)
    async def logo(call: CallDep) -> Response:
        """This installation's logo."""
        row = await brands.kept(call.uow)
        if row is None or row.logo is None:
            raise LogoNotFound
        headers = {"Cache-Control": "public, max-age=3600", "Content-Security-Policy": LOGO_POLICY}
        return Response(row.logo, media_type=row.logo_type, headers=headers | {"X-Content-Type-Options": "nosniff"})
