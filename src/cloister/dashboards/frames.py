"""Pages of widgets, at an origin of their own, where they can reach nothing but the page that shows them."""

import mimetypes
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from cloister.access import scoped_get, scoped_select
from cloister.core.principal import EVERYTHING
from cloister.dashboards.document import Document, Integration, Use
from cloister.dashboards.models import Share
from cloister.dashboards.pictures import Picture
from cloister.dashboards.schemas import PartOut
from cloister.dashboards.trials import Trials
from cloister.dashboards.uses import release_if_any
from cloister.modules import Described, Module, ModuleFileNotFound, Modules, Release
from cloister.platform import UnitOfWork

STATIC = Path(__file__).parent / "static"
# Anybody may frame it: who may frame the page that shows it, which has the data, that page says. A widget by itself is
# published code without a cookie, and speaks to nobody but such a page.
FRAME_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; media-src 'self' data: blob:; connect-src 'none'; "
    "worker-src 'none'; frame-src 'none'; form-action 'none'; base-uri 'none'; frame-ancestors *"
)
CONNECTIONS = "(response-origin);webrtc=block"
"""No content security policy stops WebRTC in Chromium; the list of connections that a page may make does."""
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self' {sockets}; "
    "frame-src {widgets}; base-uri 'none'; form-action 'none'; frame-ancestors {ancestors}"
)
ABOUT = {"module.yaml", "README.md", "config.json"}
MAX_PICTURE = 16_000
"""Of a module's picture within a dashboard's, in bytes."""
PAGE, LIBRARY = "index.html", b"/lib/cloister.js"
_START = re.compile(rb"\s*(<!doctype[^>]*>)?\s*(<html[^>]*>)?\s*(<head[^>]*>)?", re.IGNORECASE)
OWN = {"charts.js", "cloister.js", "tables.js", "widget.css"}
LIBRARIES = OWN | {
    "d3.js", "echarts.js", "leaflet.css", "leaflet.js", "three.core.js", "three.js", "topojson.js",
    "world.js",
}  # fmt: skip
"""What is there for widgets. All but our own are copied from the packages that ``ui/package-lock.json`` pins."""
TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".html": "text/html"}


class Frames:
    """Where widgets are, and what they may."""

    def __init__(self, modules: Modules, trials: Trials, origin: str, shares: str, home: str) -> None:
        self.modules = modules
        self.trials = trials
        self.origin = origin
        self.shares = shares
        self.home = home

    async def releases(self, uow: UnitOfWork, uses: Iterable[Use]) -> dict[str, Release | None]:
        """The release that each part of a dashboard is, by the part's id; None where its author took it away."""
        return {use.id: await release_if_any(uow, self.modules, use) for use in uses}

    async def parts(self, uow: UnitOfWork, document: Document) -> list[PartOut]:
        """The releases that the parts of a dashboard are, what can be set in each, and where widgets' pages are."""
        uses = [*document.integrations, *document.widgets]
        releases = await self.releases(uow, uses)
        items = []
        for use in uses:
            release = releases[use.id]
            described = None if release is None else Described.model_validate(release.described)
            widget = described is not None and described.manifest.kind == "widget"
            items.append(
                PartOut(
                    id=use.id, module=use.module, version=None if release is None else release.version,
                    title=described.manifest.title or use.module if described else use.module,
                    configuration=[] if described is None else [e.model_dump(exclude_none=True) for e in described.model],
                    frame=self.address(release.digest) if release is not None and widget else None,
                    **await self._more(uow, use, release),
                )
            )  # fmt: skip
        return items

    async def pictures(self, uow: UnitOfWork, document: Document) -> dict[str, Picture]:
        """The thumbnails of the modules that the widgets of a dashboard are, but for large ones."""
        releases = await self.releases(uow, document.widgets)
        digests = {w.module: one.digest for w in document.widgets if (one := releases[w.id]) is not None}
        found = {module: await self.modules.files.picture(digest) for module, digest in digests.items()}
        return {module: picture for module, picture in found.items() if picture and len(picture[1]) <= MAX_PICTURE}

    async def _more(self, uow: UnitOfWork, use: Use, release: Release | None) -> dict[str, Any]:
        """The release that an integration would be if what it asks for beyond what was accepted were accepted, and the newest
        of its module where the range leaves that out.
        """
        if not isinstance(use, Integration) or use.accepts is None:
            return {}
        newer, asked = await self.modules.beyond(uow, use.module, use.version, use.accepts)
        module = await scoped_get(uow, Module, EVERYTHING, name=use.module)
        latest = None if module is None or release is None or release.version == module.latest else module.latest
        return {"newer": newer, "asks_more": asked, "latest": latest}

    def address(self, digest: str | None) -> str | None:
        return None if digest is None else f"{self.origin}/w/{digest}/index.html"

    async def file(self, uow: UnitOfWork, digest: str, path: str) -> tuple[bytes, dict[str, str]]:
        """A file of a published widget, with its headers.

        Raises:
            ModuleFileNotFound: when there is none; of integrations nothing is served here.
        """
        if digest.startswith("draft-"):
            files = await self.trials.previewed(uow, digest)
            if path not in files:
                raise ModuleFileNotFound
            return _with_library(path, files[path]), {**self.headers(path), "Cache-Control": "no-store"}
        query = scoped_select(Release, EVERYTHING).where(
            Release.digest == digest, Release.state == "ready", Release.removed.is_(False)
        )
        release = (await uow.session.scalars(query.limit(1))).first()
        if release is None or Described.model_validate(release.described).manifest.kind != "widget":
            raise ModuleFileNotFound
        if path in ABOUT:  # no part of what is drawn, and visitors of a share need not know
            raise ModuleFileNotFound
        return _with_library(path, await self.modules.files.file(digest, path)), self.headers(path)

    def headers(self, path: str) -> dict[str, str]:
        kind = TYPES.get(Path(path).suffix) or mimetypes.guess_type(path)[0] or "application/octet-stream"
        return {
            "Content-Type": kind + ("; charset=utf-8" if kind.startswith("text/") else ""),
            "Content-Security-Policy": FRAME_POLICY,
            "Connection-Allowlist": CONNECTIONS,
            "Cache-Control": "public, max-age=31536000, immutable",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "cross-origin",
            "Access-Control-Allow-Origin": "*",  # scripts of type module ask; it is published code, and no cookie comes
            "Permissions-Policy": "camera=(), microphone=(), geolocation=(), usb=(), clipboard-read=()",
        }

    def library(self, name: str) -> tuple[bytes, dict[str, str]]:
        """What widgets load, from the platform's own set; the one of our own speaks to our own pages and to no others.

        Raises:
            ModuleFileNotFound: when there is no such library.
        """
        if name not in LIBRARIES:
            raise ModuleFileNotFound
        try:
            content = _static(name if name in OWN else f"lib/{name}")
        except FileNotFoundError as error:
            raise ModuleFileNotFound from error
        if name == "cloister.js":
            content = content.replace(b"__HOME__", self.home.encode()).replace(b"__SHARES__", self.shares.encode())
        return content, {**self.headers(name), "Cache-Control": "public, max-age=3600"}

    def page_policy(self, origins: set[str]) -> str:
        sockets = self.shares.replace("http", "ws", 1)
        ancestors = " ".join(["'self'", *sorted(origins)])
        return PAGE_POLICY.format(widgets=self.origin, sockets=sockets, ancestors=ancestors)

    @staticmethod
    async def embedders(uow: UnitOfWork, share: str) -> set[str]:
        """The origins that a share may be embedded by; none when there is no such share."""
        found = await scoped_get(uow, Share, EVERYTHING, id=share)
        return set() if found is None or found.paused else set(found.origins)


def _with_library(path: str, content: bytes) -> bytes:
    """A widget's page, with our library where it does not ask for it: widgets written for others expect it there."""
    if path != PAGE or LIBRARY in content:
        return content
    tag = b'<script src="' + LIBRARY + b'"></script>'
    found = _START.match(content)
    return content[: found.end()] + tag + content[found.end() :] if found else tag + content


@lru_cache
def _static(name: str) -> bytes:
    return (STATIC / name).read_bytes()


def page_asset(name: str) -> tuple[bytes, str] | None:
    """A file of the page that shows shares, and its type."""
    if name not in {"view.js", "view.css", "view.html"}:
        return None
    return _static(name), f"{TYPES[Path(name).suffix]}; charset=utf-8"
