"""What belongs to no single domain: operations, the audit log, health, metrics, the state of this machine."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from cloister.audit import Filter, search
from cloister.audit.schemas import RecordOut, RecordPage
from cloister.bootstrap import Platform
from cloister.core.actions import Action, guard
from cloister.core.errors import Invalid, Unavailable
from cloister.core.events import AccessChanged
from cloister.core.ids import parse_label
from cloister.core.pagination import MAX_PAGE, decode_cursor, page_of
from cloister.identity import disable, search_people
from cloister.identity.schemas import DisabledIn, PersonList, PersonRow
from cloister.platform import Call, metrics
from cloister.platform.call import current_call
from cloister.platform.operations import Operation
from cloister.platform.settings import explain

CallDep = Annotated[Call, Depends(current_call)]
Text = Annotated[str | None, Query(max_length=200)]
Label = Annotated[str, Path(max_length=60)]


class OperationOut(BaseModel):
    """A long operation and how far it is."""

    id: str
    kind: str
    space: str | None
    subject: str
    state: str
    progress: float
    message: str
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: Operation) -> "OperationOut":
        return cls(**{name: getattr(row, name) for name in cls.model_fields})


class WallOut(BaseModel):
    """One promise of isolation, and whether this machine keeps it."""

    name: str
    enforced: bool
    required: bool
    detail: str


class SettingOut(BaseModel):
    """A setting as it is; of secrets only whether they are set."""

    name: str
    value: str
    source: str


class SettingList(BaseModel):
    """All settings."""

    items: list[SettingOut]


class Walls(BaseModel):
    """All of them."""

    items: list[WallOut]


class Health(BaseModel):
    """Whether this process works."""

    status: str


class RecordQuery(BaseModel):
    """What to look for in the log."""

    person: str | None = None
    team: str | None = None
    sandbox: str | None = None
    subject: str | None = None
    name: str | None = None
    outcome: str | None = None
    request: str | None = None
    dataset: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def filter(self, space: str | None) -> Filter:
        try:
            person = None if self.person is None else parse_label(self.person, "p")
            team = None if self.team is None else parse_label(self.team, "t")
        except ValueError as error:
            raise Invalid(str(error)) from error
        for moment in (self.since, self.until):
            if moment is not None and moment.tzinfo is None:
                raise Invalid("Times need a time zone, for example 2026-11-21T10:00:00Z.")
        return Filter(
            space=space, person=person, team=team, sandbox=self.sandbox, subject=self.subject, name=self.name,
            outcome=self.outcome, request_id=self.request, dataset=self.dataset, since=self.since, until=self.until,
        )  # fmt: skip


async def _record_query(
    person: Text = None, team: Text = None, sandbox: Text = None, subject: Text = None, name: Text = None,
    outcome: Text = None, request: Text = None, dataset: Text = None, since: datetime | None = None,
    until: datetime | None = None,
) -> RecordQuery:  # fmt: skip
    return RecordQuery(
        person=person, team=team, sandbox=sandbox, subject=subject, name=name, outcome=outcome, request=request,
        dataset=dataset, since=since, until=until,
    )  # fmt: skip


def add_platform_routes(api: APIRouter, platform: Platform) -> None:
    query_dep = Depends(_record_query)

    @api.get("/operations/{operation}", openapi_extra=guard(Action.OPERATION_READ))
    async def show_operation(operation: str, call: CallDep) -> OperationOut:
        """How far a long operation of yours is; operators see everybody's."""
        stands = await platform.decider.standing(call.uow, call.scope.principal, None)
        return OperationOut.of(await platform.operations.get(call.uow, operation, operator=stands.operator))

    @api.get("/audit", openapi_extra=guard(Action.AUDIT_READ_ALL))
    async def search_audit(
        call: CallDep, wanted: Annotated[RecordQuery, query_dep], space: Text = None,
        cursor: Annotated[str | None, Query(max_length=400)] = None, limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
    ) -> RecordPage:  # fmt: skip
        """Records of the whole platform, newest first."""
        page = await search(call.uow, wanted.filter(space), cursor, limit)
        return RecordPage(items=[RecordOut.of(row) for row in page.items], next_cursor=page.next_cursor)

    @api.get("/spaces/{space}/audit", openapi_extra=guard(Action.SPACE_AUDIT_READ))
    async def search_space_audit(
        space: Annotated[str, Path(max_length=60)], call: CallDep, wanted: Annotated[RecordQuery, query_dep],
        cursor: Annotated[str | None, Query(max_length=400)] = None, limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
    ) -> RecordPage:  # fmt: skip
        """Records of a space, newest first."""
        page = await search(call.uow, wanted.filter(space), cursor, limit)
        return RecordPage(items=[RecordOut.of(row) for row in page.items], next_cursor=page.next_cursor)

    @api.get("/people", openapi_extra=guard(Action.PLATFORM_READ))
    async def list_people(
        call: CallDep, q: Annotated[str, Query(max_length=200)] = "",
        cursor: Annotated[str | None, Query(max_length=400)] = None, limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
    ) -> PersonList:  # fmt: skip
        """Everybody who has ever signed in, or those whose name or address has some words in it."""
        rows = await search_people(call.uow, q, decode_cursor(cursor, int) or 0, limit + 1)
        page = page_of(rows, limit, lambda row: row.number)
        return PersonList(items=[PersonRow.of(row) for row in page.items], next_cursor=page.next_cursor)

    @api.put("/people/{person}/disabled", openapi_extra=guard(Action.PLATFORM_WRITE))
    async def disable_person(person: Label, body: DisabledIn, call: CallDep) -> PersonRow:
        """Close somebody's account: they are signed out, and what they have open ends within a second. Or open it again."""
        try:
            number = parse_label(person, "p")
        except ValueError as error:
            raise Invalid(str(error)) from error
        if body.disabled and number == call.principal.person:
            raise Invalid("You cannot close your own account.")
        row = await disable(call.uow, number, platform.clock, disabled=body.disabled, reason=body.reason)
        if body.disabled:
            await platform.sessions.end_all(call.uow, number)
        for space in {binding.space for binding in await platform.bindings.of(call.uow, number, None)}:
            call.uow.publish(AccessChanged(space, number))
        return PersonRow.of(row)

    @api.get("/platform/settings", openapi_extra=guard(Action.PLATFORM_READ))
    async def settings_in_effect() -> SettingList:
        """Every setting, secrets masked, and where it comes from."""
        rows = explain(platform.settings)
        return SettingList(items=[SettingOut(name=name, value=value, source=source) for name, value, source in rows])

    @api.get("/platform/walls", openapi_extra=guard(Action.PLATFORM_READ))
    async def walls() -> Walls:
        """What this machine enforces."""
        return Walls(
            items=[
                WallOut(name=w.name, enforced=w.enforced, required=w.required, detail=w.detail)
                for w in platform.backend.walls()
            ]
        )


def add_health_routes(api: APIRouter, platform: Platform) -> None:
    scrape = Action.PUBLIC_READ if platform.settings.metrics_public else Action.PLATFORM_READ

    @api.get("/health/live", openapi_extra=guard(Action.PUBLIC_READ, transaction=False))
    async def live() -> Health:
        """Whether the process answers at all."""
        return Health(status="ok")

    @api.get("/health/ready", openapi_extra=guard(Action.PUBLIC_READ, transaction=False))
    async def ready() -> Health:
        """Whether it can do its work: the database answers."""
        try:
            await platform.database.ping()
        except (SQLAlchemyError, OSError) as error:
            raise Unavailable("The database does not answer.") from error
        return Health(status="ok")

    @api.get(
        "/metrics", openapi_extra=guard(scrape, transaction=False), response_class=Response,
        responses={200: {"content": {"text/plain": {}}, "description": "Prometheus text"}},
    )  # fmt: skip
    async def scrape_metrics() -> Response:
        """Prometheus metrics."""
        return Response(metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")
