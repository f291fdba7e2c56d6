"""The controller that admits applicants and ends enrolments whose time is up. Woken at once; no batches to wait for.

Each applicant is judged by their own row, found by its key. (In the published system that Cloister learns from,
registrations were gathered for five minutes and matched by name within the batch; three whose lookup had failed all
matched the value "NA" and shared an account. Here nothing is gathered and no absent value is ever a key.)
"""

from collections import defaultdict
from dataclasses import dataclass

from sqlalchemy import Select, func

from cloister.access import RoleBinding, scoped_select
from cloister.audit import Name, record
from cloister.core.clock import Clock
from cloister.core.events import AccessChanged, EnrolmentWanted, SpaceChanged
from cloister.core.ids import person_label, team_label
from cloister.core.principal import EVERYTHING, Role
from cloister.identity import Person, people_by_number
from cloister.platform import Controller, Database, UnitOfWork
from cloister.platform.letters import Phrase, write_letter
from cloister.spaces.agreements import missing_sentence
from cloister.spaces.declaration import SpaceDeclaration
from cloister.spaces.enrolment import ALLOW_LIST, APPROVAL, Enrolments
from cloister.spaces.models import AgreementVersion, AllowListEntry, Enrolment, Team
from cloister.spaces.store import declared, get_space, in_space, unsigned
from cloister.spaces.teams import members

BATCH = 250


@dataclass
class _Gate:
    """What is known about the applicants of one space."""

    missing: dict[int, list[AgreementVersion]]
    listed: set[str]
    people: dict[int, Person]


class AdmissionController(Controller):
    """Looks for applicants whose turn it is, and for enrolments that are due to end."""

    name = "admission"
    wakes_on = (EnrolmentWanted, SpaceChanged)
    interval = 5.0

    def __init__(self, database: Database, enrolments: Enrolments, clock: Clock, public_url: str) -> None:
        super().__init__()
        self._database = database
        self._enrolments = enrolments
        self._clock = clock
        self._public_url = public_url

    async def look(self) -> float | None:
        while await self._admit() == BATCH:
            pass
        while await self._expire() == BATCH:
            pass
        return await self._until_next_end()

    async def _admit(self) -> int:
        async with self._database.read() as uow:
            if not (await uow.session.scalars(_turn().limit(1))).first():
                return 0
        async with self._database.write() as uow:
            uow.unrecorded("what each waits for; admissions are recorded")
            rows = (await uow.session.scalars(_turn().limit(BATCH).with_for_update(skip_locked=True))).all()
            by_space: dict[str, list[Enrolment]] = defaultdict(list)
            for row in rows:
                by_space[row.space].append(row)
            for slug, applicants in by_space.items():
                await self._judge(uow, slug, applicants)
        return len(rows)

    async def _judge(self, uow: UnitOfWork, slug: str, applicants: list[Enrolment]) -> None:
        declaration = declared(await get_space(uow, slug))
        people = [row.person for row in applicants]
        gate = _Gate(
            await unsigned(uow, slug, people),
            await _listed(uow, slug) if declaration.enrolment.mode == "allow-list" else set(),
            await people_by_number(uow, people),
        )
        admitted = []
        for row in applicants:
            row.waiting_for = _missing(row, declaration, gate)
            if row.waiting_for is None:
                admitted.append(row)
        await self._make_teams(uow, declaration, admitted)
        for row in admitted:
            self._admit_one(uow, row, declaration, gate.people[row.person])

    async def _make_teams(self, uow: UnitOfWork, declaration: SpaceDeclaration, admitted: list[Enrolment]) -> None:
        """A learner gets a team of one; elsewhere whoever named a team and was first with that name."""
        wanted: dict[str, Enrolment] = {}
        for row in admitted:
            if row.team is not None and declaration.kind != "course":
                others = [m for m in await members(uow, row.space, row.team) if m.state == "active"]
                if len(others) >= declaration.teams.max_members:
                    row.team = None  # others took the place of somebody who had left and comes back
            name = person_label(row.person) if declaration.kind == "course" else row.wanted_team
            if row.team is None and name is not None:
                wanted.setdefault(name, row)
        taken = scoped_select(Team, in_space(declaration.slug)).where(Team.name.in_(list(wanted)))
        for team in (await uow.session.scalars(taken)).all():
            del wanted[team.name]
        now = self._clock.now()
        teams = [
            Team(space=declaration.slug, name=name, created_by=row.person, created_at=now)
            for name, row in wanted.items()
        ]
        uow.session.add_all(teams)
        await uow.session.flush()
        for team in teams:
            wanted[team.name].team = team.team
            record(
                uow,
                Name.TEAM_CREATED,
                person=team.created_by,
                space=team.space,
                team=team.team,
                subject=team_label(team.team),
            )

    def _admit_one(self, uow: UnitOfWork, row: Enrolment, declaration: SpaceDeclaration, person: Person) -> None:
        now = self._clock.now()
        # Who comes back because a date was wrong was in all the time; who registers again begins anew.
        admitted = row.admitted_at if row.ended_at is not None and row.admitted_at else now
        row.state, row.admitted_at, row.ended_at, row.version = "active", admitted, None, row.version + 1
        row.expires_at = declaration.end_for(admitted)
        uow.session.add(
            RoleBinding(
                person=row.person,
                space=row.space,
                team=row.team or 0,
                role=Role.MEMBER.value,
                source="enrolment",
                until=row.expires_at,
                suspended=None,
                created_at=now,
            )
        )
        record(
            uow,
            Name.ENROLMENT_ADMITTED,
            person=row.person,
            space=row.space,
            team=row.team,
            subject=person_label(row.person),
            until=row.expires_at.isoformat() if row.expires_at else None,
            milliseconds=round((now - row.applied_at).total_seconds() * 1000),
        )
        uow.publish(AccessChanged(row.space, row.person))
        write_letter(
            uow, self._clock, person, "welcome", title=declaration.title, number=person_label(person.number),
            until=Phrase("until", {"day": row.expires_at}) if row.expires_at else Phrase(),
            team=Phrase("in_team", {"team": team_label(row.team)}) if row.team else Phrase("no_team"),
            link=f"{self._public_url}/s/{declaration.slug}",
        )  # fmt: skip

    async def _expire(self) -> int:
        now = self._clock.now()
        due = scoped_select(Enrolment, EVERYTHING).where(Enrolment.state == "active", Enrolment.expires_at <= now)
        async with self._database.read() as uow:
            if not (await uow.session.scalars(due.limit(1))).first():
                return 0
        async with self._database.write() as uow:
            rows = (await uow.session.scalars(due.limit(BATCH).with_for_update(skip_locked=True))).all()
            uow.unrecorded("another replica may have been first")
            for row in rows:
                await self._enrolments.end(uow, row, "expired", None)
                person = await uow.session.get_one(Person, row.person)
                title = (await get_space(uow, row.space)).title
                write_letter(uow, self._clock, person, "over", title=title, link=f"{self._public_url}/s/{row.space}")
        return len(rows)

    async def _until_next_end(self) -> float | None:
        async with self._database.read() as uow:
            next_end = await uow.session.scalar(
                scoped_select(Enrolment, EVERYTHING)
                .where(Enrolment.state == "active", Enrolment.expires_at.is_not(None))
                .with_only_columns(func.min(Enrolment.expires_at))
            )
        if next_end is None:
            return None
        seconds: float = (next_end - self._clock.now()).total_seconds()
        return max(0.0, seconds)


def _turn() -> Select[Enrolment]:
    return (
        scoped_select(Enrolment, EVERYTHING)
        .where(Enrolment.state == "applied", Enrolment.waiting_for.is_(None))
        .order_by(Enrolment.id)
    )


def _missing(row: Enrolment, declaration: SpaceDeclaration, gate: _Gate) -> str | None:
    """What an applicant still needs, as a sentence to them; None when nothing."""
    unsigned_agreements = gate.missing[row.person]
    if unsigned_agreements:
        return missing_sentence(unsigned_agreements)
    mode = declaration.enrolment.mode
    if row.approved or mode in {"open", "code"}:
        return None
    if mode == "allow-list":
        return None if gate.people[row.person].canonical_email in gate.listed else ALLOW_LIST
    return APPROVAL


async def _listed(uow: UnitOfWork, slug: str) -> set[str]:
    rows = await uow.session.scalars(scoped_select(AllowListEntry, in_space(slug)))
    return {row.canonical_email for row in rows}
