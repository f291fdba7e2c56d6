"""Requests whose answers are files or pages: policy, metering, and our own word in the page."""

import io
import json
import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from cloister.audit import Draft, Name, Outcome, Recorder
from cloister.core.errors import CloisterError
from cloister.gateway.decision import Allowed, Asked, Decisions
from cloister.gateway.errors import BudgetSpent, CommandRefused, DownloadsBlocked, TerminalsBlocked, TooLargeToView
from cloister.gateway.outflow import Outflows
from cloister.gateway.upload import CHUNK, Body, Uploads
from cloister.gateway.upstream import Upstreams
from cloister.platform import Settings
from cloister.spaces import parse_bytes

HOP = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailers", "transfer-encoding",
    "upgrade", "host", "authorization", "cookie", "content-length",
}  # fmt: skip
OURS = re.compile(r"^(cloister-|x-forwarded-)", re.IGNORECASE)
_DOWNLOAD = re.compile(r"^/(files|nbconvert)/|^/kernelspecs/[^/]+/(?!logo-)")
"""What hands out files as they are: also those beside a kernel's description, which anybody can put there."""
_SESSION = re.compile(r"^/api/collaboration/session/(.+)$")
_TERMINALS = re.compile(r"^/api/terminals/?$")
SMALL_BYTES = 1024 * 1024
"""A file that can be opened to work on though no more may leave today."""
_CONTENTS = re.compile(r"^/api/contents(/|$)")
TERMINAL_BYTES = 64 * 1024
PAGE_BYTES = 2 * 1024 * 1024
OUR_SCRIPTS = (
    b'<script src="/_cloister/banner.js" defer></script><script src="/_cloister/names.js" defer></script></head>'
)


@dataclass(eq=False)
class _Way:
    """An answer that is on its way, and on whose right."""

    request: web.Request
    asked: Asked
    allowed: Allowed


class Leaving:
    """Passes such requests on to the app."""

    def __init__(
        self, settings: Settings, decisions: Decisions, upstreams: Upstreams, outflows: Outflows, recorder: Recorder
    ) -> None:  # fmt: skip
        self._decisions = decisions
        self._upstreams = upstreams
        self._open: set[_Way] = set()
        self._outflows = outflows
        self._recorder = recorder
        self._uploads = Uploads(settings)

    async def recheck(self, *, everybody: bool) -> None:
        """Cut answers whose asker may no longer have them: of those of whom there is news, or of everybody."""
        for way in list(self._open):
            if not everybody and self._decisions.stands(way.asked, way.allowed):
                continue
            blocked = False
            try:
                allowed = await self._decisions.decide(way.asked)
                still = allowed.sandbox == way.allowed.sandbox
                blocked = allowed.policies.downloads == "blocked" and _is_download(way.request)
                way.allowed = allowed
            except CloisterError:
                still = False
            if (blocked or not still) and way in self._open and way.request.transport is not None:
                self._open.discard(way)
                if blocked:
                    self._record(way.request, way.allowed, Outcome.REFUSED, code=DownloadsBlocked.code)
                way.request.transport.abort()

    async def serve(
        self, request: web.Request, asked: Asked, allowed: Allowed, *, document: bool
    ) -> web.StreamResponse:
        """Pass a request on, and its answer back as far as the space lets it leave, and as long as the asker may be here.

        Raises:
            DownloadsBlocked, TooLargeToView, BudgetSpent, UploadTooLarge, CommandRefused: what the space does not let happen.
        """
        way = _Way(request, asked, allowed)
        self._open.add(way)
        try:
            return await self._serve(request, allowed, document=document)
        finally:
            self._open.discard(way)

    async def _serve(self, request: web.Request, allowed: Allowed, *, document: bool) -> web.StreamResponse:
        download = _is_download(request)
        contents = _CONTENTS.match(request.path) is not None and request.method in {"GET", "HEAD"}
        session = _SESSION.match(request.path) if request.method == "PUT" else None
        upload = await self._uploads.check(request, allowed)
        if _TERMINALS.match(request.path) and request.method == "POST":
            try:
                upload = await _only_a_terminal(upload, allowed)
            except (CommandRefused, TerminalsBlocked) as error:
                self._record(request, allowed, Outcome.REFUSED, name=Name.TERMINAL_OPENED, code=error.code)
                raise
        try:
            if download and allowed.policies.downloads == "blocked":
                raise DownloadsBlocked
            if contents and allowed.policies.downloads != "allowed" and not _only_about(request):
                await self._open_file(request, request.rel_url.raw_path, allowed)
            if session and allowed.policies.downloads != "allowed":  # the editor's own way to a file's contents
                await self._open_file(request, f"/api/contents/{quote(session[1])}", allowed)
        except CloisterError as error:
            self._record(request, allowed, Outcome.REFUSED, code=error.code)
            raise
        if download:
            await self._check_budget(request, allowed, 0)
            await self._recorder.record(self._draft(request, allowed, Outcome.OK))
        try:
            return await self._forward(request, allowed, upload, download=download, document=document and not download)
        except aiohttp.ClientError as error:
            if isinstance(error.__cause__, CloisterError):  # of the body, which was being read meanwhile
                raise error.__cause__ from error
            raise

    async def _check_budget(self, request: web.Request, allowed: Allowed, size: int) -> None:
        try:
            await self._outflows.check(allowed, size)
        except BudgetSpent as error:
            self._record(request, allowed, Outcome.REFUSED, code=error.code)
            raise

    async def _open_file(self, request: web.Request, path: str, allowed: Allowed) -> None:
        """Opening a file to work on it is no download; reading a whole data set through the editor is. What is opened is on
        record, and when the day's budget is used up only small files open.

        Raises:
            TooLargeToView, BudgetSpent: when it is not opened.
        """
        url = URL(f"http://localhost{path}?content=0", encoded=True)
        async with self._upstreams.client(allowed).get(url, headers=self._upstreams.headers(allowed)) as answer:
            if answer.status != 200:
                return
            about = await answer.json()
        size = about.get("size") if isinstance(about, dict) else None
        if isinstance(size, int) and size > parse_bytes(allowed.policies.view):
            raise TooLargeToView(f"Files of up to {allowed.policies.view} can be opened here; this has {size:,} bytes.")
        if isinstance(size, int) and about.get("type") != "directory":
            if size > SMALL_BYTES:
                await self._outflows.check(allowed)
            self._recorder.note(self._draft(request, allowed, Outcome.OK, name=Name.FILE_OPENED, bytes=str(size)))

    async def _forward(
        self, request: web.Request, allowed: Allowed, upload: Body, *, download: bool, document: bool
    ) -> web.StreamResponse:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in HOP and not OURS.match(k)}
        headers |= {**self._upstreams.headers(allowed), "Host": request.host}
        cookies = [part.strip() for part in request.headers.get("Cookie", "").split(";")]
        if theirs := [part for part in cookies if part and "cloister" not in part.lower()]:
            headers["Cookie"] = "; ".join(theirs)
        if document:
            headers["Accept-Encoding"] = "identity"
        if isinstance(upload, io.BytesIO):
            headers["Content-Length"] = str(upload.getbuffer().nbytes)
        elif request.content_length is not None and upload is not None:
            headers["Content-Length"] = str(request.content_length)
        async with self._upstreams.client(allowed).request(
            request.method, URL(f"http://localhost{request.rel_url.raw_path_qs}", encoded=True), headers=headers,
            data=upload, allow_redirects=False,
        ) as answer:  # fmt: skip
            return await self._answer(request, allowed, answer, download=download, document=document)

    async def _answer(
        self, request: web.Request, allowed: Allowed, answer: aiohttp.ClientResponse, *, download: bool, document: bool
    ) -> web.StreamResponse:
        kept = [(k, v) for k, v in answer.headers.items() if k.lower() not in HOP]
        kept = [(k, v) for k, v in kept if not (k.lower() == "set-cookie" and "cloister" in v.lower())]
        size, beginning = answer.content_length or 0, b""
        html = answer.headers.get("Content-Type", "").startswith("text/html")
        if document and html and answer.status == 200 and size <= PAGE_BYTES:
            beginning, whole = await _read_page(answer)
            # It is not the app's alone: our scripts are in it, and where Caddy has its files.
            kept = [(k, v) for k, v in kept if k.lower() not in {"etag", "last-modified"}]
            if _metered(allowed):
                await self._outflows.take(allowed, len(beginning), gently=True)
            beginning = _from_disk(beginning, allowed).replace(b"</head>", OUR_SCRIPTS, 1)
            if whole:
                return web.Response(body=beginning, status=200, headers=_multi(kept))
        if download and answer.status == 200:
            await self._check_budget(request, allowed, size)
        most = None if download or not _metered(allowed) else parse_bytes(allowed.policies.view)
        if most is not None and size > most:
            raise TooLargeToView(f"Answers of up to {allowed.policies.view} can be looked at here.")
        out = web.StreamResponse(status=answer.status, headers=_multi(kept))
        if answer.content_length is not None and not beginning:
            out.content_length = answer.content_length
        await out.prepare(request)
        if beginning:
            await out.write(beginning)
        try:
            await self._stream(answer, out, allowed, most, gently=not download)
        except (BudgetSpent, TooLargeToView):
            # Of a length that nobody said, or beside others: it ends unfinished, and visibly so.
            if request.transport is not None:
                request.transport.abort()
        await out.write_eof()
        return out

    async def _stream(
        self, answer: aiohttp.ClientResponse, out: web.StreamResponse, allowed: Allowed, most: int | None, *, gently: bool
    ) -> None:  # fmt: skip
        sent = 0
        async for chunk in answer.content.iter_chunked(CHUNK):
            sent += len(chunk)
            if most is not None and sent > most:
                raise TooLargeToView
            if _metered(allowed):
                await self._outflows.take(allowed, len(chunk), gently=gently)
            await out.write(chunk)

    def _draft(
        self, request: web.Request, allowed: Allowed, outcome: Outcome, *, name: Name | None = None, **details: str
    ) -> Draft:  # fmt: skip
        name = name or (Name.DOWNLOADED if outcome is Outcome.OK else Name.DOWNLOAD_REFUSED)
        return Draft(
            name=name, outcome=outcome, person=allowed.person, team=allowed.team, actor=allowed.principal.kind,
            space=allowed.space, sandbox=allowed.sandbox, subject=unquote(request.path)[:500], details=details,
        )  # fmt: skip

    def _record(
        self, request: web.Request, allowed: Allowed, outcome: Outcome, *, name: Name | None = None, **details: str
    ) -> None:  # fmt: skip
        self._recorder.note(self._draft(request, allowed, outcome, name=name, **details))


async def _only_a_terminal(body: Body, allowed: Allowed) -> Body:
    """A request for a terminal, which may not bring a command: what is run there is to be typed, for the record.

    Raises:
        TerminalsBlocked, CommandRefused: when there may be none, or none like this.
    """
    if allowed.policies.terminals == "blocked":
        raise TerminalsBlocked
    if allowed.policies.terminals == "allowed" or body is None:
        return body
    text = bytearray(body.read() if isinstance(body, io.BytesIO) else b"")
    if not isinstance(body, io.BytesIO):
        async for chunk in body:
            text += chunk
            if len(text) > TERMINAL_BYTES:
                raise CommandRefused
    try:
        wanted = json.loads(text) if text.strip() else {}
    except ValueError as error:
        raise CommandRefused from error
    if not isinstance(wanted, dict) or not set(wanted) <= {"name", "cwd"}:
        raise CommandRefused
    return io.BytesIO(json.dumps(wanted).encode())  # as it was read here, and not otherwise


def _from_disk(page: bytes, allowed: Allowed) -> bytes:
    """Let a page of an app name its unchanging files where Caddy has them."""
    for name, address in allowed.static:
        named = re.compile(rb"""(\b(?:src|href)=["']?)(?:\./|/)?""" + re.escape(name.encode()) + b"/")
        page = named.sub(rb"\g<1>" + address.encode() + b"/", page)
    return page


def _is_download(request: web.Request) -> bool:
    return _DOWNLOAD.match(request.path) is not None and request.method in {"GET", "HEAD"}


def _metered(allowed: Allowed) -> bool:
    return allowed.policies.downloads != "allowed"


async def _read_page(answer: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    """The beginning of a page of whatever length, and whether that is all of it."""
    page = bytearray()
    async for chunk in answer.content.iter_chunked(CHUNK):
        page += chunk
        if len(page) > PAGE_BYTES:
            return bytes(page), False
    return bytes(page), True


def _only_about(request: web.Request) -> bool:
    """Whether a request for contents wants to know about a file, and nothing in it."""
    return set(request.query.getall("content", [])) == {"0"}


def _multi(pairs: list[tuple[str, str]]) -> "CIMultiDict[str]":
    return CIMultiDict(pairs)
