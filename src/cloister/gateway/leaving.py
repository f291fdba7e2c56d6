"""Requests whose answers are files or pages: policy, metering, and our own word in the page."""

import re
from urllib.parse import quote, unquote

from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from cloister.audit import Draft, Name, Outcome, Recorder
from cloister.core.errors import CloisterError
from cloister.gateway.decision import Allowed
from cloister.gateway.errors import BudgetSpent, DownloadsBlocked, TooLargeToView, UploadTooLarge
from cloister.gateway.outflow import Outflows
from cloister.gateway.upstream import Upstreams
from cloister.spaces import parse_bytes

HOP = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailers", "transfer-encoding",
    "upgrade", "host", "authorization", "cookie", "content-length",
}  # fmt: skip
OURS = re.compile(r"^(cloister-|x-forwarded-)", re.IGNORECASE)
_DOWNLOAD = re.compile(r"^/(files|nbconvert)/")
_SESSION = re.compile(r"^/api/collaboration/session/(.+)$")
_CONTENTS = re.compile(r"^/api/contents(/|$)")
CHUNK = 64 * 1024
PAGE_BYTES = 2 * 1024 * 1024
BANNER = b'<script src="/_cloister/banner.js" defer></script></head>'


class Leaving:
    """Passes such requests on to the app."""

    def __init__(self, upstreams: Upstreams, outflows: Outflows, recorder: Recorder) -> None:
        self._upstreams = upstreams
        self._outflows = outflows
        self._recorder = recorder

    async def serve(self, request: web.Request, allowed: Allowed, *, document: bool) -> web.StreamResponse:
        """Pass a request on, and its answer back as far as the space lets it leave.

        Raises:
            DownloadsBlocked, TooLargeToView, BudgetSpent, UploadTooLarge: what the space does not let happen.
        """
        download = _DOWNLOAD.match(request.path) is not None and request.method in {"GET", "HEAD"}
        contents = _CONTENTS.match(request.path) is not None and request.method in {"GET", "HEAD"}
        session = _SESSION.match(request.path) if request.method == "PUT" else None
        said = request.headers.get("Content-Length", "")
        if said.isdigit() and int(said) > parse_bytes(allowed.policies.upload):
            raise UploadTooLarge(f"At most {allowed.policies.upload} at once.")
        try:
            if download and allowed.policies.downloads == "blocked":
                raise DownloadsBlocked
            if contents and allowed.policies.downloads != "allowed" and not _only_about(request):
                await self._check_size(request.rel_url.raw_path, allowed)
            if session and allowed.policies.downloads != "allowed":  # the editor's own way to a file's contents
                await self._check_size(f"/api/contents/{quote(session[1])}", allowed)
        except CloisterError as error:
            self._record(request, allowed, Outcome.REFUSED, code=error.code)
            raise
        if download:
            await self._check_budget(request, allowed, 0)
            await self._recorder.record(self._draft(request, allowed, Outcome.OK))
        return await self._forward(request, allowed, metered=download or contents, document=document and not download)

    async def _check_budget(self, request: web.Request, allowed: Allowed, size: int) -> None:
        try:
            await self._outflows.check(allowed, size)
        except BudgetSpent as error:
            self._record(request, allowed, Outcome.REFUSED, code=error.code)
            raise

    async def _check_size(self, path: str, allowed: Allowed) -> None:
        """Opening a file to work on it is no download; reading a whole data set through the editor is."""
        url = URL(f"http://localhost{path}?content=0", encoded=True)
        async with self._upstreams.client(allowed).get(url, headers=self._upstreams.headers(allowed)) as answer:
            if answer.status != 200:
                return
            about = await answer.json()
        size = about.get("size") if isinstance(about, dict) else None
        if isinstance(size, int) and size > parse_bytes(allowed.policies.view):
            raise TooLargeToView(f"Files of up to {allowed.policies.view} can be opened here; this has {size:,} bytes.")

    async def _forward(
        self, request: web.Request, allowed: Allowed, *, metered: bool, document: bool
    ) -> web.StreamResponse:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in HOP and not OURS.match(k)}
        headers |= {**self._upstreams.headers(allowed), "Host": request.host}
        xsrf = request.cookies.get("_xsrf")
        if xsrf:
            headers["Cookie"] = f"_xsrf={xsrf}"
        if document:
            headers["Accept-Encoding"] = "identity"
        client = self._upstreams.client(allowed)
        async with client.request(
            request.method, URL(f"http://localhost{request.rel_url.raw_path_qs}", encoded=True), headers=headers,
            data=request.content if request.can_read_body else None, allow_redirects=False,
        ) as answer:  # fmt: skip
            kept = [(k, v) for k, v in answer.headers.items() if k.lower() not in HOP]
            kept = [(k, v) for k, v in kept if not (k.lower() == "set-cookie" and "cloister" in v.lower())]
            html = answer.headers.get("Content-Type", "").startswith("text/html")
            if document and html and answer.status == 200 and (answer.content_length or 0) <= PAGE_BYTES:
                text = (await answer.read()).replace(b"</head>", BANNER, 1)
                return web.Response(body=text, status=200, headers=_multi(kept))
            if metered and answer.status == 200:
                await self._check_budget(request, allowed, answer.content_length or 0)
            out = web.StreamResponse(status=answer.status, headers=_multi(kept))
            if answer.content_length is not None:
                out.content_length = answer.content_length
            await out.prepare(request)
            async for chunk in answer.content.iter_chunked(CHUNK):
                try:
                    if metered:
                        await self._outflows.take(allowed, len(chunk))
                except (
                    BudgetSpent
                ):  # of a length that nobody said, or beside others: it ends unfinished, and visibly so
                    if request.transport is not None:
                        request.transport.abort()
                    break
                await out.write(chunk)
            await out.write_eof()
            return out

    def _draft(self, request: web.Request, allowed: Allowed, outcome: Outcome, **details: str) -> Draft:
        name = Name.DOWNLOADED if outcome is Outcome.OK else Name.DOWNLOAD_REFUSED
        return Draft(
            name=name, outcome=outcome, person=allowed.person, team=allowed.team, actor=allowed.principal.kind,
            space=allowed.space, sandbox=allowed.sandbox, subject=unquote(request.path)[:500], details=details,
        )  # fmt: skip

    def _record(self, request: web.Request, allowed: Allowed, outcome: Outcome, **details: str) -> None:
        self._recorder.note(self._draft(request, allowed, outcome, **details))


def _only_about(request: web.Request) -> bool:
    """Whether a request for contents wants to know about a file, and nothing in it."""
    return set(request.query.getall("content", [])) == {"0"}


def _multi(pairs: list[tuple[str, str]]) -> "CIMultiDict[str]":
    return CIMultiDict(pairs)
