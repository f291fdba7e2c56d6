"""The catalogue, uploads, versions and grants over HTTP."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response

from cloister.audit import Draft, Name, Recorder
from cloister.core.actions import Action, guard
from cloister.core.errors import TooLarge
from cloister.core.pagination import MAX_PAGE
from cloister.datasets.declaration import OPERATIONS, GrantDeclaration, Metadata
from cloister.datasets.errors import BadSource, DownloadNotGranted, VersionNotFound
from cloister.datasets.grants import Grants, subject_names
from cloister.datasets.models import Dataset
from cloister.datasets.schemas import (
    DatasetOut,
    DatasetPage,
    GrantOut,
    GrantPage,
    NewTable,
    RightOut,
    TitleList,
    TitleOut,
    UploadOut,
    VersionIn,
    VersionOut,
    VersionPage,
)
from cloister.datasets.service import Datasets, Source, format_of
from cloister.platform import Call, Database, Settings, UnitOfWork
from cloister.platform.call import current_call
from cloister.platform.etags import check_etag
from cloister.platform.objects import may_be_read
from cloister.platform.streamed import Streamed
from cloister.spaces import get_space, in_space

CallDep = Annotated[Call, Depends(current_call)]
Slug = Annotated[str, Path(max_length=60)]
Name_ = Annotated[str, Path(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Cursor = Annotated[str | None, Query(max_length=400)]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
MOST_TITLES = 50
IfMatch = Annotated[str | None, Header(max_length=200)]


def _etag(row: Dataset) -> str:
    return f'"{row.id}-{row.version}"'


def add_routes(
    api: APIRouter, settings: Settings, datasets: Datasets, grants: Grants, database: Database, recorder: Recorder
) -> None:
    _catalogue_routes(api, datasets, grants)
    _version_routes(api, settings, datasets, database)
    _download_route(api, datasets, grants, database, recorder)
    _grant_routes(api, grants)


def _catalogue_routes(api: APIRouter, datasets: Datasets, grants: Grants) -> None:
    @api.get("/spaces/{space}/datasets", openapi_extra=guard(Action.DATASET_READ))
    async def list_datasets(
        space: Slug,
        call: CallDep,
        q: Annotated[str | None, Query(max_length=200)] = None,
        cursor: Cursor = None,
        limit: Limit = 50,
    ) -> DatasetPage:
        """The catalogue; ``q`` is looked for in names and descriptions."""
        await get_space(call.uow, space)
        page = await datasets.catalogue(call.uow, call.scope, q, cursor, limit)
        return DatasetPage(items=[DatasetOut.of(row) for row in page.items], next_cursor=page.next_cursor)

    @api.get("/spaces/{space}/dataset-titles", openapi_extra=guard(Action.SPACE_SEE))
    async def list_titles(space: Slug, call: CallDep) -> TitleList:
        """What data a space has, in a line each, for those who think of joining. Nothing of the data itself."""
        if not (await get_space(call.uow, space)).listed:
            return TitleList(
                items=[]
            )  # whoever has the link of a space that is not shown around sees no more than that
        page = await datasets.catalogue(call.uow, in_space(space), None, None, MOST_TITLES)
        rows = [Metadata.model_validate(row.metadata_) for row in page.items]
        return TitleList(items=[TitleOut(title=row.title, description=row.description[:400]) for row in rows])

    @api.get("/spaces/{space}/datasets/{dataset}", openapi_extra=guard(Action.DATASET_READ))
    async def show_dataset(space: Slug, dataset: Name_, call: CallDep, response: Response) -> DatasetOut:
        """A dataset's description, with the ETag that a change needs."""
        row = await datasets.get(call.uow, call.scope, dataset)
        response.headers["ETag"] = _etag(row)
        team = next(iter(call.scope.teams or ()), None)
        may = [
            RightOut(operation=operation, until=grant.valid_until)
            for operation in OPERATIONS
            for grant in await grants.effective(call.uow, space, call.principal.person, team, operation)
            if grant.dataset == dataset
        ]
        return DatasetOut.of(row, may)

    @api.post("/spaces/{space}/datasets/{dataset}", openapi_extra=guard(Action.DATASET_WRITE), status_code=201)
    async def create_dataset(space: Slug, dataset: Name_, body: Metadata, call: CallDep) -> DatasetOut:
        """Make a dataset. The same again is the same; one that is described otherwise is described anew by PUT."""
        await datasets.check_new(call.uow, space, dataset, body)
        return DatasetOut.of(await datasets.declare(call.uow, space, dataset, body))

    @api.put("/spaces/{space}/datasets/{dataset}", openapi_extra=guard(Action.DATASET_WRITE))
    async def describe_dataset(
        space: Slug, dataset: Name_, body: Metadata, call: CallDep, response: Response, if_match: IfMatch = None
    ) -> DatasetOut:
        """Describe a dataset anew."""
        row = await datasets.get(call.uow, call.scope, dataset)
        await call.uow.session.refresh(row, with_for_update=True)  # of two with one ETag, the second waits and fails
        check_etag(_etag(row), if_match)
        row = await datasets.declare(call.uow, space, dataset, body)
        response.headers["ETag"] = _etag(row)
        return DatasetOut.of(row)


def _version_routes(api: APIRouter, settings: Settings, datasets: Datasets, database: Database) -> None:
    @api.post(
        "/spaces/{space}/uploads",
        status_code=201,
        openapi_extra=guard(Action.DATASET_WRITE, transaction=False)
        | {
            "requestBody": {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
        },
    )
    async def upload(space: Slug, call: CallDep, request: Request) -> UploadOut:
        """Upload a file that is to become a table. It is streamed to the object store and checksummed on the way."""
        async with database.read(call.principal) as uow:
            await get_space(uow, space)

        async def limited() -> AsyncIterator[bytes]:
            size = 0
            async for chunk in request.stream():
                size += len(chunk)
                if size > settings.upload_bytes:
                    raise TooLarge(f"Files may have {settings.upload_bytes} bytes here.")
                if chunk:
                    yield chunk

        stored = await datasets.store_original(space, limited())
        return UploadOut(upload=stored.key.rsplit("/", 1)[1], size=stored.size, sha256=stored.sha256)

    async def source(space: str, item: NewTable) -> Source:
        form = format_of(item.table.source, item.table.format)
        if item.url is None:
            stored = await datasets.uploaded(space, item.upload or "", item.sha256 or "", item.size or 0)
            return Source(item.table, stored, form, uploaded=True)
        if not may_be_read(settings, item.url):
            raise BadSource(f"Nothing may be loaded from {item.url} here. Operators say from where (dataset_urls).")
        return Source(item.table, datasets.still_to_come(space), form, item.url)

    @api.get("/spaces/{space}/datasets/{dataset}/versions", openapi_extra=guard(Action.DATASET_READ))
    async def list_versions(
        space: Slug, dataset: Name_, call: CallDep, cursor: Cursor = None, limit: Limit = 50
    ) -> VersionPage:
        """All versions of a dataset, newest first."""
        del space
        await datasets.get(call.uow, call.scope, dataset)
        page = await datasets.version_page(call.uow, call.scope, dataset, cursor, limit)
        return VersionPage(items=[VersionOut.of(row) for row in page.items], next_cursor=page.next_cursor)

    @api.post("/spaces/{space}/datasets/{dataset}/versions", openapi_extra=guard(Action.DATASET_WRITE), status_code=202)
    async def create_version(space: Slug, dataset: Name_, body: VersionIn, call: CallDep) -> VersionOut:
        """Make a version from uploads and addresses. Its operation tells how far it is."""
        sources = [await source(space, item) for item in body.tables]
        return VersionOut.of(await datasets.new_version(call.uow, space, dataset, sources))


def _download_route(api: APIRouter, datasets: Datasets, grants: Grants, database: Database, recorder: Recorder) -> None:
    @api.get(
        "/spaces/{space}/datasets/{dataset}/versions/{number}/tables/{table}.parquet",
        openapi_extra=guard(Action.DATASET_DOWNLOAD, transaction=False),
        response_class=Streamed,
        responses={200: {"content": {"application/vnd.apache.parquet": {}}, "description": "The table"}},
    )
    async def download(
        space: Slug, dataset: Name_, number: Annotated[int, Path(ge=1, le=2**31)], table: Name_, call: CallDep
    ) -> Streamed:
        """Download a table whole, where a grant lets it leave. Recorded before the first byte."""
        async with database.read(call.principal) as uow:
            await _check_download(uow, grants, call, dataset, number)
            call.while_streaming.append(lambda later: _check_download(later, grants, call, dataset, number))
            version = await datasets.version(uow, call.scope, dataset, number)
        found = next((item for item in version.tables if item["name"] == table), None)
        if found is None:
            raise VersionNotFound("This version has no such table.")
        await recorder.record(
            Draft(
                name=Name.DATASET_DOWNLOADED, person=call.person, actor=call.principal.kind, space=space,
                subject=dataset, request_id=call.request_id,
                details={"version": version.number, "table": table, "bytes": found["size"], "rows": found["rows"]},
            )
        )  # fmt: skip
        return Streamed(datasets.objects.stream(found["key"]), media_type="application/vnd.apache.parquet")


async def _check_download(uow: UnitOfWork, grants: Grants, call: Call, dataset: str, number: int) -> None:
    """Let a whole table leave only under a grant that says so and narrows nothing."""
    team = min(call.scope.teams, default=None) if call.scope.teams else None  # as for queries: the most specific counts
    for grant in await grants.effective(uow, call.scope.space or "", call.person, team, "download"):
        policy = GrantDeclaration.model_validate(grant.policy)
        if grant.dataset == dataset and policy.tables is None and policy.version in {None, number}:
            return
    raise DownloadNotGranted


def _grant_routes(api: APIRouter, grants: Grants) -> None:
    @api.get("/spaces/{space}/grants", openapi_extra=guard(Action.GRANT_READ))
    async def list_grants(space: Slug, call: CallDep, cursor: Cursor = None, limit: Limit = 50) -> GrantPage:
        """All grants that count."""
        await get_space(call.uow, space)
        page = await grants.page(call.uow, call.scope, cursor, limit)
        names = await subject_names(call.uow, space, page.items)
        return GrantPage(items=[GrantOut.of(row, names) for row in page.items], next_cursor=page.next_cursor)

    @api.post("/spaces/{space}/grants", openapi_extra=guard(Action.GRANT_WRITE), status_code=201)
    async def give_grant(space: Slug, body: GrantDeclaration, call: CallDep) -> GrantOut:
        """Give a grant."""
        grant = await grants.give(call.uow, space, body, call.principal.label)
        return GrantOut.of(grant, await subject_names(call.uow, space, [grant]))

    @api.delete("/spaces/{space}/grants/{grant}", openapi_extra=guard(Action.GRANT_WRITE), status_code=204)
    async def revoke_grant(space: Slug, grant: str, call: CallDep) -> None:
        """Revoke a grant. What is open under it ends within a second."""
        del space
        await grants.revoke(call.uow, call.scope, grant)
