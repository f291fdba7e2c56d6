"""Modules over HTTP."""

import asyncio
import base64
import binascii
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Query, Request
from fastapi.responses import Response

from cloister.core.actions import Action, guard
from cloister.core.errors import Invalid
from cloister.core.ids import parse_label
from cloister.core.pagination import MAX_PAGE
from cloister.modules import search
from cloister.modules.archive import MAX_BYTES, pack, unpack
from cloister.modules.building import BuildController
from cloister.modules.configuration import json_schema
from cloister.modules.errors import ModuleFileNotFound, ModuleTooLarge
from cloister.modules.models import Module
from cloister.modules.schemas import (
    BuildLogOut,
    ChangeList,
    ChangeOut,
    FileIn,
    FileList,
    FileOut,
    ForkIn,
    ModuleDetail,
    ModuleIn,
    ModuleList,
    ModuleOut,
    PublishIn,
    ReleaseOut,
    SourceIn,
    SourceOut,
    YankIn,
)
from cloister.modules.service import DRAFT, Modules
from cloister.modules.sources import SIGNATURES, Sources
from cloister.modules.templates import TEMPLATES
from cloister.platform import Call, Settings
from cloister.platform.call import current_call
from cloister.platform.etags import check_seen, etag_of
from cloister.platform.ratelimit import RateLimit

CallDep = Annotated[Call, Depends(current_call)]
Name = Annotated[str, Path(max_length=60)]
Version = Annotated[str, Path(max_length=60)]
FilePath = Annotated[str, Path(max_length=200)]
Cursor = Annotated[str | None, Query(max_length=400)]
IfMatch = Annotated[str | None, Header(max_length=200)]
Word = Annotated[str | None, Query(max_length=60)]
READ, WRITE = guard(Action.MODULE_READ), guard(Action.MODULE_WRITE)


def add_routes(api: APIRouter, settings: Settings, modules: Modules, builds: BuildController, sources: Sources) -> None:
    async def detail(call: Call, row: Module) -> ModuleDetail:
        releases = [r for r in await modules.releases(call.uow, row) if not r.removed]
        if row.author != call.person:
            releases = [r for r in releases if r.state == "ready"]
        out = [ReleaseOut.of(r, await modules.more_permissions(call.uow, row, r)) for r in releases]
        deletable = row.author == call.person and await modules.deletable(call.uow, row)
        return ModuleDetail(**ModuleOut.of(row).model_dump(), releases=out, deletable=deletable)

    @api.get("/modules", openapi_extra=READ)
    async def search_modules(
        call: CallDep, q: Annotated[str, Query(max_length=200)] = "", kind: Word = None, runtime: Word = None,
        author: Word = None, without: Annotated[list[str] | None, Query(max_length=2)] = None,
        cursor: Cursor = None, limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 24,
    ) -> ModuleList:  # fmt: skip
        """Published modules, best first. ``without`` leaves out those that need ``hosts`` or ``datasets``."""
        try:
            number = None if author is None else parse_label(author, "p")
        except ValueError as error:
            raise Invalid(str(error)) from error
        wanted = search.Wanted(q, kind, runtime, number, frozenset(without or ()))
        page = await search.search(call.uow, wanted, cursor, limit)
        return ModuleList(items=[ModuleOut.of(row) for row in page.items], next_cursor=page.next_cursor)

    @api.get("/me/modules", openapi_extra=WRITE)
    async def my_modules(
        call: CallDep, cursor: Cursor = None, limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50
    ) -> ModuleList:
        """Your own modules, drafts among them, newest first."""
        page = await modules.written_by(call.uow, call.person, cursor, limit)
        return ModuleList(items=[ModuleOut.of(row) for row in page.items], next_cursor=page.next_cursor)

    @api.get("/modules/{name}/thumbnail", openapi_extra=READ, response_class=Response)
    async def thumbnail(name: Name, call: CallDep) -> Response:
        """The picture of a module's latest release."""
        module, release = await modules.resolve(call.uow, name, "latest")
        found = await modules.files.picture(release.digest)
        if found is not None:
            headers = {
                "Cache-Control": "private, max-age=600",
                "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
            }
            return Response(found[1], media_type=found[0], headers=headers)
        raise ModuleFileNotFound(f"“{module.name}” has no picture.")

    @api.get("/modules/configuration-schema", openapi_extra=guard(Action.PUBLIC_READ))
    async def configuration_schema(call: CallDep) -> dict[str, object]:
        """The JSON Schema of ``config.json``."""
        del call
        return json_schema()

    @api.post("/modules", openapi_extra=WRITE, status_code=201)
    async def create_module(body: ModuleIn, call: CallDep) -> ModuleDetail:
        """Begin a module. Only you see it until you publish."""
        files = {path: text.encode() for path, text in body.files.items()} or TEMPLATES[body.template]
        return await detail(call, await modules.create(call.uow, call.person, body.name, files))

    @api.get("/modules/{name}", openapi_extra=READ)
    async def show_module(name: Name, call: CallDep) -> ModuleDetail:
        """A module, its releases and what each needs."""
        return await detail(call, await modules.find(call.uow, name, call.person))

    @api.delete("/modules/{name}", openapi_extra=WRITE, status_code=204)
    async def delete_module(name: Name, call: CallDep) -> None:
        """Delete a module of yours that never had a release."""
        await modules.delete(call.uow, await modules.own(call.uow, name, call.person))

    @api.post("/modules/{name}/forks", openapi_extra=WRITE, status_code=201)
    async def fork_module(name: Name, body: ForkIn, call: CallDep) -> ModuleDetail:
        """Begin a module of your own with the files of this one's release."""
        return await detail(call, await modules.fork(call.uow, call.person, name, body.version, body.name))

    _draft_routes(api, modules)
    _release_routes(api, modules, builds)
    _source_routes(api, settings, modules, sources)


def _file(path: str, content: bytes, response: Response) -> FileOut:
    out = FileOut.of(path, content)
    response.headers["ETag"] = out.etag
    return out


def _draft_routes(api: APIRouter, modules: Modules) -> None:
    async def check_unchanged(call: Call, module: Module, path: str, if_match: str | None) -> None:
        if if_match is None:
            return
        await call.uow.session.refresh(module, with_for_update=True)  # of two with one ETag, the second waits and fails
        content = (await modules.draft(call.uow, module)).get(path)
        check_seen(None if content is None else etag_of(content), if_match)

    @api.get("/modules/{name}/files", openapi_extra=WRITE)
    async def draft_files(name: Name, call: CallDep, response: Response) -> FileList:
        """The files of your draft, with the ETag of all of them."""
        module = await modules.own(call.uow, name, call.person)
        files = await modules.draft(call.uow, module)
        response.headers["ETag"] = etag_of(sorted(files.items()))
        return FileList(items=[FileOut.of(path, files[path]) for path in sorted(files)])

    @api.get("/modules/{name}/files/{path:path}", openapi_extra=WRITE)
    async def read_file(name: Name, path: FilePath, call: CallDep, response: Response) -> FileOut:
        """One file of your draft, with the ETag that a change may send."""
        module = await modules.own(call.uow, name, call.person)
        files = await modules.draft(call.uow, module)
        if path not in files:
            raise ModuleFileNotFound
        return _file(path, files[path], response)

    @api.put("/modules/{name}/files/{path:path}", openapi_extra=WRITE)
    async def write_file(
        name: Name, path: FilePath, body: FileIn, call: CallDep, response: Response, if_match: IfMatch = None
    ) -> FileOut:
        """Write one file of your draft; with ``If-Match`` only if it is still as it was read."""
        module = await modules.own(call.uow, name, call.person)
        content = _content(body)
        await check_unchanged(call, module, path, if_match)
        await modules.put_file(call.uow, module, path, content)
        return _file(path, content, response)

    @api.delete("/modules/{name}/files/{path:path}", openapi_extra=WRITE, status_code=204)
    async def delete_file(name: Name, path: FilePath, call: CallDep, if_match: IfMatch = None) -> None:
        """Delete one file of your draft; with ``If-Match`` only if it is still as it was read."""
        module = await modules.own(call.uow, name, call.person)
        await check_unchanged(call, module, path, if_match)
        await modules.delete_file(call.uow, module, path)

    @api.get("/modules/{name}/archive", openapi_extra=WRITE, response_class=Response)
    async def download_draft(name: Name, call: CallDep) -> Response:
        """Your draft as a ZIP file."""
        module = await modules.own(call.uow, name, call.person)
        files = await modules.draft(call.uow, module)
        return Response(await asyncio.to_thread(pack, files), media_type="application/zip")

    @api.put("/modules/{name}/archive", openapi_extra=WRITE)
    async def upload_draft(name: Name, request: Request, call: CallDep, if_match: IfMatch = None) -> ModuleOut:
        """Put the files of a ZIP file in the place of your draft's; with ``If-Match`` only if they are as they were read."""
        module = await modules.own(call.uow, name, call.person)
        if if_match is not None:
            await call.uow.session.refresh(module, with_for_update=True)
            check_seen(etag_of(sorted((await modules.draft(call.uow, module)).items())), if_match)
        data = await request.body()
        if len(data) > MAX_BYTES:
            raise ModuleTooLarge
        return ModuleOut.of(await modules.replace(call.uow, module, await asyncio.to_thread(unpack, data)))


def _release_routes(api: APIRouter, modules: Modules, builds: BuildController) -> None:
    @api.post("/modules/{name}/releases", openapi_extra=WRITE, status_code=202)
    async def publish_release(name: Name, body: PublishIn, call: CallDep) -> ReleaseOut:
        """Make a release of your draft. It is built, then everybody can use it."""
        module = await modules.own(call.uow, name, call.person)
        release = await modules.publish(call.uow, module, body.version)
        return ReleaseOut.of(release, await modules.more_permissions(call.uow, module, release))

    @api.get("/modules/{name}/releases/{version}", openapi_extra=READ)
    async def show_release(name: Name, version: Version, call: CallDep) -> ReleaseOut:
        """One release, also while it is built."""
        module = await modules.find(call.uow, name, call.person)
        release = await modules.release(call.uow, module, version, call.principal.person)
        return ReleaseOut.of(release, await modules.more_permissions(call.uow, module, release))

    @api.get("/modules/{name}/releases/{version}/log", openapi_extra=WRITE)
    async def build_log(
        name: Name, version: Version, call: CallDep, after: Annotated[int, Query(ge=0, le=10_000_000)] = 0
    ) -> BuildLogOut:
        """What the build of your release has said, from a character on; ask again with ``next`` while it is built."""
        module = await modules.own(call.uow, name, call.person)
        release = await modules.release(call.uow, module, version, call.principal.person)
        text = await builds.said(release)
        return BuildLogOut(state=release.state, text=text[after:], next=len(text))

    @api.get("/modules/{name}/releases/{version}/archive", openapi_extra=READ, response_class=Response)
    async def download_release(name: Name, version: Version, call: CallDep) -> Response:
        """A release as a ZIP file."""
        module = await modules.find(call.uow, name, call.person)
        release = await modules.release(call.uow, module, version, call.principal.person)
        return Response(await modules.files.zip(release.digest), media_type="application/zip")

    @api.get("/modules/{name}/releases/{version}/diff/{other}", openapi_extra=READ)
    async def diff_releases(name: Name, version: Version, other: Version, call: CallDep) -> ChangeList:
        """What changed from one release to another, or (``draft``) to your draft."""
        if other == DRAFT:
            module = await modules.own(call.uow, name, call.person)
            release = await modules.release(call.uow, module, version, call.principal.person)
            changes = await modules.diff_to_draft(call.uow, release, module)
            return ChangeList(items=[ChangeOut.of(change) for change in changes])
        module = await modules.find(call.uow, name, call.person)
        one, two = [await modules.release(call.uow, module, v, call.principal.person) for v in (version, other)]
        return ChangeList(items=[ChangeOut.of(change) for change in await modules.diff(one, two)])

    @api.put("/modules/{name}/releases/{version}/yank", openapi_extra=WRITE)
    async def yank_release(name: Name, version: Version, body: YankIn, call: CallDep) -> ReleaseOut:
        """Hide a release from new users. Where it is pinned it still runs."""
        module = await modules.own(call.uow, name, call.person)
        return ReleaseOut.of(await modules.yank(call.uow, module, version, yanked=body.yanked), [])

    @api.delete("/modules/{name}/releases/{version}", openapi_extra=WRITE, status_code=204)
    async def remove_release(name: Name, version: Version, call: CallDep) -> None:
        """Take a release away for good. Dashboards that use it say so."""
        await modules.remove(call.uow, await modules.own(call.uow, name, call.person), version)


def _source_routes(api: APIRouter, settings: Settings, modules: Modules, sources: Sources) -> None:
    guesses, signed = RateLimit(settings.module_hooks_per_minute), RateLimit(settings.module_hooks_per_minute)

    def hook(name: str) -> str:
        return f"{settings.public_url}/api/v1/modules/{name}/hook"

    @api.get("/modules/{name}/source", openapi_extra=WRITE)
    async def show_source(name: Name, call: CallDep) -> SourceOut:
        """The repository that your module is kept in, and how fetching it went."""
        module = await modules.own(call.uow, name, call.person)
        return SourceOut.of(await sources.of(call.uow, module), hook(name))

    @api.put("/modules/{name}/source", openapi_extra=WRITE)
    async def set_source(name: Name, body: SourceIn, call: CallDep) -> SourceOut:
        """Keep your module in a repository: its branch becomes your draft, each tag that is a new version a release."""
        module = await modules.own(call.uow, name, call.person)
        row, secret = await sources.set(call.uow, module, body.url, body.branch, body.folder)
        return SourceOut.of(row, hook(name), secret)

    @api.delete("/modules/{name}/source", openapi_extra=WRITE, status_code=204)
    async def remove_source(name: Name, call: CallDep) -> None:
        """Write your module here from now on."""
        await sources.remove(call.uow, await modules.own(call.uow, name, call.person))

    @api.post("/modules/{name}/source/sync", openapi_extra=WRITE, status_code=202)
    async def sync_source(name: Name, call: CallDep) -> SourceOut:
        """Fetch the repository now."""
        module = await modules.own(call.uow, name, call.person)
        row = await sources.of(call.uow, module)
        sources.want(call.uow, module, row, "its author asked")
        return SourceOut.of(row, hook(name))

    @api.post("/modules/{name}/hook", openapi_extra=guard(Action.MODULE_HOOK), status_code=202)
    async def hear_hook(name: Name, request: Request, call: CallDep) -> None:
        """A webhook of GitHub's, Gitea's or Forgejo's kind: the repository has changed."""
        who = f"{name} {call.address}"
        guesses.take(who)
        given = next((value for header in SIGNATURES if (value := request.headers.get(header))), None)
        await sources.heard(call.uow, name, await request.body(), given)
        guesses.give_back(who)  # it was signed: strangers who guess do not use up what is there for the repository
        signed.take(name)


def _content(body: FileIn) -> bytes:
    if (body.text is None) == (body.base64 is None):
        raise Invalid("Send “text” or “base64”.")
    if body.text is not None:
        return body.text.encode()
    try:
        return base64.b64decode(body.base64 or "", validate=True)
    except binascii.Error as error:
        raise Invalid("“base64” is not base64.") from error
