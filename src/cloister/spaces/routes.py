"""Spaces, registration, agreements, enrolments and teams over HTTP."""

import difflib
from collections import Counter
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Query, Response
from pydantic import Field

from cloister.access import scoped_select
from cloister.core.actions import Action, guard
from cloister.core.ids import parse_label, person_label
from cloister.core.pagination import MAX_PAGE
from cloister.core.principal import Scope
from cloister.identity import people_by_number
from cloister.platform import Call, Settings
from cloister.platform.call import current_call
from cloister.platform.etags import check_etag
from cloister.platform.markdown import to_html
from cloister.platform.ratelimit import RateLimit
from cloister.spaces import agreements, allow_list, teams
from cloister.spaces.allow_list_schemas import (
    AllowListEntryOut,
    AllowListIn,
    AllowListPage,
    AllowListReport,
    AllowListRow,
)
from cloister.spaces.enrolment import Application, Enrolments
from cloister.spaces.errors import EnrolmentNotFound
from cloister.spaces.lifecycle import Spaces, list_enrolments, list_teams, members_of
from cloister.spaces.membership import memberships
from cloister.spaces.models import Enrolment
from cloister.spaces.owning import SpaceSettings
from cloister.spaces.schemas import (
    AgreementDiff,
    AgreementOut,
    AgreementPreview,
    AgreementText,
    AgreementVersionList,
    AgreementVersionOut,
    ApplicationIn,
    EnrolmentOut,
    EnrolmentPage,
    InvitationOut,
    JoinIn,
    MemberList,
    MemberOut,
    MembershipList,
    MembershipOut,
    NamedPerson,
    NameList,
    Reason,
    RegistrationOut,
    SettingsEffects,
    SignatureIn,
    SignatureOut,
    SignerOut,
    SignerPage,
    SpaceOut,
    SpacePage,
    TeamIn,
    TeamOut,
    TeamPage,
)
from cloister.spaces.store import active_space, current_agreements, get_space, get_team, signed_by, team_number

CallDep = Annotated[Call, Depends(current_call)]
Slug = Annotated[str, Path(max_length=60)]
Cursor = Annotated[str | None, Query(max_length=400)]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
IfMatch = Annotated[str | None, Header(max_length=200)]


def _person(label: str) -> int:
    try:
        return parse_label(label, "p")
    except ValueError as error:
        raise EnrolmentNotFound from error


def _etag(row: Enrolment) -> str:
    return f'"{row.id}-{row.version}"'


def add_routes(api: APIRouter, settings: Settings, spaces: Spaces, enrolments: Enrolments) -> None:
    _space_routes(api, spaces)
    _owner_routes(api, spaces)
    _enrolment_routes(api, enrolments, RateLimit(settings.registrations_per_minute))
    _review_routes(api, spaces, enrolments)
    _team_routes(api, enrolments)


def _space_routes(api: APIRouter, spaces: Spaces) -> None:
    @api.get("/spaces", openapi_extra=guard(Action.PUBLIC_READ))
    async def list_spaces(call: CallDep, cursor: Cursor = None, limit: Limit = 50) -> SpacePage:
        """The spaces that everybody may see, and yours."""
        page = await spaces.list_for(call.uow, call.scope, cursor, limit)
        return SpacePage(items=[SpaceOut.of(space) for space in page.items], next_cursor=page.next_cursor)

    @api.get("/me/spaces", openapi_extra=guard(Action.SELF_READ))
    async def my_spaces(call: CallDep) -> MembershipList:
        """The spaces that you have, had or asked for a place in, and what you are there."""
        found, operates = await memberships(call.uow, spaces.bindings, call.person)
        return MembershipList(
            items=[
                MembershipOut(
                    space=SpaceOut.of(one.space), roles=one.roles, suspended=one.suspended, team_name=one.team_name,
                    enrolment=None if one.enrolment is None else EnrolmentOut.of(one.enrolment),
                )
                for one in found
            ],
            operator=operates,
        )  # fmt: skip

    @api.get("/spaces/{space}", openapi_extra=guard(Action.SPACE_SEE))
    async def see_space(space: Slug, call: CallDep) -> SpaceOut:
        """A space's front page."""
        return SpaceOut.of(await get_space(call.uow, space))

    @api.get("/spaces/{space}/registration", openapi_extra=guard(Action.SPACE_SEE))
    async def registration(space: Slug, call: CallDep) -> RegistrationOut:
        """The form to fill in and the agreements to sign."""
        _, declaration = await active_space(call.uow, space)
        current = await current_agreements(call.uow, space)
        mine = await signed_by(call.uow, space, call.principal.person)
        return RegistrationOut(
            fields=declaration.registration,
            agreements=[AgreementOut.of(version, mine.get(version.name)) for version in current],
            needs_code=declaration.enrolment.mode == "code",
            chooses_team=declaration.kind != "course",
            notebook=any(environment.app is not None for environment in declaration.environments),
        )

    @api.get("/spaces/{space}/agreements/{agreement}/diff", openapi_extra=guard(Action.SPACE_SEE))
    async def agreement_diff(
        space: Slug, agreement: str, call: CallDep, since: Annotated[int, Query(ge=1, le=2**31)]
    ) -> AgreementDiff:
        """What changed in an agreement since a version."""
        return AgreementDiff(diff=await agreements.difference(call.uow, space, agreement, since))


def _owner_routes(api: APIRouter, spaces: Spaces) -> None:
    @api.get("/spaces/{space}/settings", openapi_extra=guard(Action.SPACE_CONFIGURE))
    async def show_settings(space: Slug, call: CallDep, response: Response) -> SpaceSettings:
        """What you may change of your space, with the ETag that a change needs."""
        row, declaration = await active_space(call.uow, space)
        response.headers["ETag"] = f'"{row.version}"'
        return SpaceSettings.of(declaration)

    @api.put("/spaces/{space}/settings", openapi_extra=guard(Action.SPACE_CONFIGURE))
    async def change_settings(
        space: Slug, body: SpaceSettings, call: CallDep, response: Response, if_match: IfMatch = None
    ) -> SpaceSettings:
        """Change your space. A changed text of an agreement is a new version of it; those who signed are asked again
        where it says so.
        """
        row, declaration = await active_space(call.uow, space)
        await call.uow.session.refresh(row, with_for_update=True)  # of two with one ETag, the second waits and fails
        check_etag(f'"{row.version}"', if_match)
        wanted = body.applied(declaration)
        if not await spaces.declare(call.uow, wanted):
            call.uow.unrecorded("nothing changed")
        response.headers["ETag"] = f'"{row.version}"'
        return SpaceSettings.of(wanted)

    @api.post("/spaces/{space}/settings/effects", openapi_extra=guard(Action.SPACE_CONFIGURE))
    async def effects_of_settings(space: Slug, body: SpaceSettings, call: CallDep) -> SettingsEffects:
        """What a change would mean for those who are in, before it is made."""
        _, declaration = await active_space(call.uow, space)
        call.uow.unrecorded("only a look")
        leave, sign, back = await spaces.effects(call.uow, declaration, body.applied(declaration))
        return SettingsEffects(leave=leave, sign=sign, back=back)

    @api.post("/spaces/{space}/agreements/preview", openapi_extra=guard(Action.SPACE_CONFIGURE))
    async def preview_agreement(space: Slug, body: AgreementText, call: CallDep) -> AgreementPreview:
        """A text as people will read it, and what it changes of the agreement that holds now."""
        current = {one.name: one for one in await current_agreements(call.uow, space)}.get(body.name)
        call.uow.unrecorded("only a look")
        before = "" if current is None else current.text
        lines = difflib.unified_diff(before.splitlines(), body.text.splitlines(), "now", "new", lineterm="")
        return AgreementPreview(html=to_html(body.text), diff="\n".join(list(lines)[2:]))


def _enrolment_routes(api: APIRouter, enrolments: Enrolments, limit: RateLimit) -> None:
    @api.post(
        "/spaces/{space}/agreements/{agreement}/signatures", openapi_extra=guard(Action.SPACE_ENROL), status_code=201
    )
    async def sign(space: Slug, agreement: str, body: SignatureIn, call: CallDep) -> SignatureOut:
        """Sign the version of an agreement that you read."""
        await active_space(call.uow, space)
        signature = await agreements.sign(
            call.uow,
            space,
            call.person,
            agreement,
            body.hash,
            dict(body.answers),
            call.address,
            enrolments.bindings,
            enrolments.clock,
        )
        return SignatureOut(
            agreement=signature.agreement,
            number=signature.number,
            hash=signature.hash,
            signed_at=signature.signed_at,
        )

    @api.post("/spaces/{space}/enrolment", openapi_extra=guard(Action.SPACE_ENROL), status_code=202)
    async def register(space: Slug, body: ApplicationIn, call: CallDep, response: Response) -> EnrolmentOut:
        """Register. The answer comes at once; you are admitted within a second of having all that is needed."""
        limit.take(str(call.person))
        application = Application(
            answers=body.answers,
            signatures=body.signatures,
            agreement_answers=body.agreement_answers,
            code=body.code,
            team_name=body.team,
            invitation=body.invitation,
        )
        row = await enrolments.apply(call.uow, space, call.person, application, call.address)
        response.headers["ETag"] = _etag(row)
        return EnrolmentOut.of(row)

    @api.get("/spaces/{space}/enrolment", openapi_extra=guard(Action.SPACE_ENROL))
    async def my_enrolment(space: Slug, call: CallDep, response: Response) -> EnrolmentOut:
        """How far your own registration is."""
        row = await enrolments.mine(call.uow, space, call.person)
        response.headers["ETag"] = _etag(row)
        return EnrolmentOut.of(row)

    @api.delete("/spaces/{space}/enrolment", openapi_extra=guard(Action.SPACE_ENROL))
    async def withdraw(space: Slug, call: CallDep) -> EnrolmentOut:
        """Leave the space. Your team's files stay."""
        row = await enrolments.mine(call.uow, space, call.person)
        await enrolments.end(call.uow, row, "withdrawn", None)
        return EnrolmentOut.of(row)


def _review_routes(api: APIRouter, spaces: Spaces, enrolments: Enrolments) -> None:
    @api.get("/spaces/{space}/enrolments", openapi_extra=guard(Action.ENROLMENT_REVIEW))
    async def all_enrolments(
        space: Slug,
        call: CallDep,
        state: Annotated[str | None, Query(max_length=20)] = None,
        q: Annotated[str, Query(max_length=100)] = "",
        cursor: Cursor = None,
        limit: Limit = 50,
    ) -> EnrolmentPage:
        """Everybody's enrolments; with ``q`` of those in whose name, address or number it is."""
        await get_space(call.uow, space)
        page = await list_enrolments(call.uow, call.scope, state, q, cursor, limit)
        people = await people_by_number(call.uow, [row.person for row in page.items])
        items = [EnrolmentOut.of(row, people.get(row.person)) for row in page.items]
        return EnrolmentPage(items=items, next_cursor=page.next_cursor)

    @api.get("/spaces/{space}/names", openapi_extra=guard(Action.ENROLMENT_REVIEW))
    async def names(
        space: Slug,
        call: CallDep,
        person: Annotated[list[Annotated[str, Field(max_length=20)]], Query(max_length=100)],
    ) -> NameList:
        """What people of a space are called, by their numbers."""
        await get_space(call.uow, space)
        here = scoped_select(Enrolment, call.scope).where(Enrolment.person.in_([_person(one) for one in person]))
        found = await people_by_number(call.uow, [row.person for row in (await call.uow.session.scalars(here)).all()])
        return NameList(items=[NamedPerson(person=person_label(one.number), name=one.name) for one in found.values()])

    @api.get("/spaces/{space}/agreements", openapi_extra=guard(Action.ENROLMENT_REVIEW))
    async def agreement_versions(space: Slug, call: CallDep) -> AgreementVersionList:
        """Every version of every agreement, and by how many it was signed."""
        await get_space(call.uow, space)
        return AgreementVersionList(
            items=[
                AgreementVersionOut(**AgreementOut.of(version).model_dump(), current=version.current, signatures=count)
                for version, count in await agreements.all_versions(call.uow, space)
            ]
        )

    @api.get("/spaces/{space}/agreements/{agreement}/signatures", openapi_extra=guard(Action.ENROLMENT_REVIEW))
    async def agreement_signers(
        space: Slug, agreement: str, call: CallDep, cursor: Cursor = None, limit: Limit = 50
    ) -> SignerPage:
        """Who signed which version of an agreement, when, and what they answered."""
        await get_space(call.uow, space)
        page = await agreements.signers(call.uow, space, agreement, cursor, limit)
        people = await people_by_number(call.uow, [row.person for row in page.items])
        return SignerPage(
            items=[
                SignerOut(
                    person=person_label(row.person),
                    name=people[row.person].name,
                    number=row.number,
                    answers=row.answers,
                    signed_at=row.signed_at,
                )
                for row in page.items
            ],
            next_cursor=page.next_cursor,
        )

    @api.get("/spaces/{space}/enrolments/{person}", openapi_extra=guard(Action.ENROLMENT_REVIEW))
    async def one_enrolment(space: Slug, person: str, call: CallDep, response: Response) -> EnrolmentOut:
        """Somebody's enrolment, with the ETag that a change needs."""
        row = await enrolments.find(call.uow, call.scope, _person(person))
        response.headers["ETag"] = _etag(row)
        return EnrolmentOut.of(row)

    @api.post("/spaces/{space}/enrolments/{person}/approval", openapi_extra=guard(Action.ENROLMENT_REVIEW))
    async def approve(space: Slug, person: str, call: CallDep) -> EnrolmentOut:
        """Let an applicant in."""
        return EnrolmentOut.of(await enrolments.approve(call.uow, call.scope, _person(person)))

    @api.put("/spaces/{space}/enrolments/{person}/removal", openapi_extra=guard(Action.ENROLMENT_REVIEW))
    async def remove(space: Slug, person: str, body: Reason, call: CallDep, if_match: IfMatch = None) -> EnrolmentOut:
        """Refuse an applicant, or put somebody out. What they have open ends within a second."""
        row = await enrolments.find(call.uow, call.scope, _person(person))
        await call.uow.session.refresh(row, with_for_update=True)  # of two with one ETag, the second waits and fails
        check_etag(_etag(row), if_match)
        await enrolments.put_out(call.uow, row, body.reason)
        return EnrolmentOut.of(row)

    @api.get("/spaces/{space}/allow-list", openapi_extra=guard(Action.ENROLMENT_REVIEW))
    async def show_allow_list(space: Slug, call: CallDep, cursor: Cursor = None, limit: Limit = 50) -> AllowListPage:
        """The addresses that may enrol, as they are matched."""
        await get_space(call.uow, space)
        page = await allow_list.entries(call.uow, space, cursor, limit)
        items = [AllowListEntryOut(address=row.canonical_email, note=row.note) for row in page.items]
        return AllowListPage(items=items, next_cursor=page.next_cursor)

    @api.delete("/spaces/{space}/allow-list/{address}", openapi_extra=guard(Action.ENROLMENT_REVIEW), status_code=204)
    async def shorten_allow_list(space: Slug, address: Annotated[str, Path(max_length=320)], call: CallDep) -> None:
        """Take an address off the list. Whoever is in already stays in."""
        await get_space(call.uow, space)
        await allow_list.remove(call.uow, space, address)

    @api.post("/spaces/{space}/allow-list", openapi_extra=guard(Action.ENROLMENT_REVIEW))
    async def extend_allow_list(space: Slug, body: AllowListIn, call: CallDep) -> AllowListReport:
        """Add addresses that may enrol; the report says what became of each row."""
        await get_space(call.uow, space)
        rows = await allow_list.add(call.uow, space, body.csv)
        count = Counter(row.outcome for row in rows)
        return AllowListReport(
            added=count["added"],
            known=count["known"],
            wrong=count["wrong"],
            rows=[AllowListRow(**asdict(row)) for row in rows],
        )


def _team_routes(api: APIRouter, enrolments: Enrolments) -> None:
    bindings, clock = enrolments.bindings, enrolments.clock

    @api.get("/spaces/{space}/teams", openapi_extra=guard(Action.TEAM_READ))
    async def all_teams(space: Slug, call: CallDep, cursor: Cursor = None, limit: Limit = 50) -> TeamPage:
        """The teams that you may see: your own, or all for the organisers."""
        await get_space(call.uow, space)
        page = await list_teams(call.uow, call.scope, cursor, limit)
        inside = await members_of(call.uow, call.scope, [team.team for team in page.items])
        items = [TeamOut.of(team, inside.get(team.team, [])) for team in page.items]
        return TeamPage(items=items, next_cursor=page.next_cursor)

    @api.post("/spaces/{space}/teams", openapi_extra=guard(Action.TEAM_CREATE), status_code=201)
    async def create_team(space: Slug, body: TeamIn, call: CallDep) -> TeamOut:
        """Make a team, with you in it."""
        _, declaration = await active_space(call.uow, space)
        return TeamOut.of(await teams.create(call.uow, declaration, call.person, body.name, bindings, clock))

    @api.get("/spaces/{space}/teams/{team}/members", openapi_extra=guard(Action.TEAM_READ))
    async def team_members(space: Slug, team: str, call: CallDep) -> MemberList:
        """Who is in a team."""
        found = await get_team(call.uow, call.scope, team_number(team))
        rows = await teams.members(call.uow, space, found.team)
        out = [EnrolmentOut.of(row) for row in rows]
        return MemberList(items=[MemberOut(person=row.person, state=row.state) for row in out])

    @api.post("/spaces/{space}/teams/{team}/invitations", openapi_extra=guard(Action.TEAM_CHANGE), status_code=201)
    async def invite(space: Slug, team: str, call: CallDep) -> InvitationOut:
        """Make a code that lets one person join your team."""
        found = await get_team(call.uow, call.scope, team_number(team))
        invitation, code = await teams.invite(call.uow, found, clock)
        return InvitationOut(code=code, expires_at=invitation.expires_at)

    @api.post("/spaces/{space}/join", openapi_extra=guard(Action.TEAM_CREATE))
    async def join(space: Slug, body: JoinIn, call: CallDep) -> TeamOut:
        """Join a team by invitation."""
        _, declaration = await active_space(call.uow, space)
        number = await teams.accept(call.uow, space, call.person, body.code, declaration, bindings, clock)
        return TeamOut.of(await get_team(call.uow, Scope(space), number))

    @api.delete("/spaces/{space}/teams/{team}/members/me", openapi_extra=guard(Action.TEAM_CHANGE), status_code=204)
    async def leave(space: Slug, team: str, call: CallDep) -> None:
        """Leave your team. Its files stay with it."""
        _, declaration = await active_space(call.uow, space)
        await teams.leave(call.uow, declaration, call.person, team_number(team), bindings)
