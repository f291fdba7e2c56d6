"""Applying, approving, leaving, removing; and coming back."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cloister.access import Bindings, scoped_get
from cloister.audit import Name, Outcome, record
from cloister.core.clock import Clock
from cloister.core.errors import CloisterError
from cloister.core.events import EnrolmentWanted
from cloister.core.ids import person_label
from cloister.core.principal import Role, Scope
from cloister.platform import UnitOfWork
from cloister.spaces import agreements, teams
from cloister.spaces.declaration import SpaceDeclaration
from cloister.spaces.errors import (
    EnrolmentClosed,
    EnrolmentNotFound,
    EnrolmentOver,
    EnrolmentWaiting,
    NotEnrolled,
    SignatureMissing,
    SpaceNotFound,
    WrongCode,
    WrongState,
)
from cloister.spaces.form import check_answers
from cloister.spaces.models import Enrolment, Space
from cloister.spaces.store import active_space, get_space, in_space, unsigned

APPROVAL = "A steward has to approve your registration. You will get a mail."
ALLOW_LIST = "Your address is not on this space's list yet. Ask its organisers to add it."


@dataclass(frozen=True)
class Application:
    """What somebody sends to get in, all in one."""

    answers: dict[str, Any]
    signatures: dict[str, str]
    """Agreement name to the hash of the version that was read."""
    agreement_answers: dict[str, dict[str, Any]]
    """Agreement name to the answers to its questions."""
    code: str | None = None
    team_name: str | None = None
    invitation: str | None = None


def _check_door(declaration: SpaceDeclaration, code: str | None, now: datetime) -> None:
    """Whether somebody may apply now, with this code."""
    policy = declaration.enrolment
    early = policy.opens is not None and now < policy.opens
    late = any(end is not None and now >= end for end in (policy.closes, declaration.ends))
    if early or late:
        raise EnrolmentClosed
    if policy.mode == "code":
        given = hashlib.sha256((code or "").strip().encode()).hexdigest()
        if not secrets.compare_digest(given, policy.code_sha256 or ""):
            raise WrongCode


@dataclass
class Enrolments:
    """The way in and the way out."""

    bindings: Bindings
    clock: Clock

    async def apply(
        self, uow: UnitOfWork, slug: str, person: int, application: Application, address: str | None
    ) -> Enrolment:
        """Apply, or apply again after an end: the same enrolment, number, team and files come back.

        Raises:
            SpaceNotFound, SpaceEnded, EnrolmentClosed: when nobody can enrol now.
            WrongCode, BadAnswer, AgreementOutdated, BadTeamName, InvitationInvalid: naming what is wrong.
            WrongState: for somebody who is in, or was put out for good.
        """
        _, declaration = await active_space(uow, slug)
        now = self.clock.now()
        _check_door(declaration, application.code, now)
        answers = check_answers(declaration.registration, application.answers)
        if application.team_name is not None:
            await teams.check_new_name(uow, slug, application.team_name)
        enrolment = await scoped_get(uow, Enrolment, in_space(slug), person=person)
        if enrolment is None:
            enrolment = Enrolment(space=slug, person=person, approved=False, team=None, version=0)
            uow.session.add(enrolment)
        elif enrolment.state == "active":
            raise WrongState("You are enrolled already.")
        elif enrolment.state == "eliminated":
            raise WrongState("You cannot register again by yourself. Ask the organisers of this space.")
        else:
            enrolment.approved = enrolment.approved and enrolment.state == "applied"
        enrolment.state, enrolment.waiting_for, enrolment.reason = "applied", None, None
        enrolment.answers, enrolment.applied_at = answers, now
        enrolment.wanted_team, enrolment.ended_at = application.team_name, None
        enrolment.version += 1
        if application.invitation is not None:
            await uow.session.flush()
            enrolment.team = await teams.accept(
                uow, slug, person, application.invitation, declaration, self.bindings, self.clock
            )
        record(uow, Name.ENROLMENT_APPLIED, person=person, space=slug, subject=person_label(person))
        await agreements.sign_all(
            uow, slug, person, application.signatures, answers, application.agreement_answers, address, self.clock
        )
        uow.publish(EnrolmentWanted(slug))
        return enrolment

    async def mine(self, uow: UnitOfWork, slug: str, person: int) -> Enrolment:
        """Return a person's enrolment.

        Raises:
            EnrolmentNotFound: when they never applied.
        """
        await get_space(uow, slug)
        return await self.find(uow, in_space(slug), person)

    async def find(self, uow: UnitOfWork, scope: Scope, person: int) -> Enrolment:
        found = await scoped_get(uow, Enrolment, Scope(scope.space), person=person)
        if found is None:
            raise EnrolmentNotFound
        return found

    async def approve(self, uow: UnitOfWork, scope: Scope, person: int) -> Enrolment:
        """Let an applicant in, or somebody eliminated come back.

        Raises:
            EnrolmentNotFound: when they never applied.
            WrongState: when they are in, or left by themselves.
        """
        enrolment = await self.find(uow, scope, person)
        if enrolment.state not in {"applied", "eliminated"}:
            raise WrongState(f"The enrolment is {enrolment.state}; only one that waits can be approved.")
        enrolment.state, enrolment.approved, enrolment.waiting_for = "applied", True, None
        enrolment.ended_at = None
        enrolment.version += 1
        record(uow, Name.ENROLMENT_APPLIED, space=enrolment.space, subject=person_label(person), approved=True)
        uow.publish(EnrolmentWanted(enrolment.space))
        return enrolment

    async def end(self, uow: UnitOfWork, enrolment: Enrolment, state: str, reason: str | None) -> None:
        """End an enrolment: ``withdrawn`` by the person, ``eliminated`` by the organisers, ``expired`` by time.

        The team and its files stay. The organisers can put out also somebody who has left, so that they stay out.

        Raises:
            WrongState: when it has ended already.
        """
        left = state == "eliminated" and enrolment.state in {"withdrawn", "expired"}
        if enrolment.state not in {"applied", "active"} and not left:
            raise WrongState(f"The enrolment is {enrolment.state} already.")
        enrolment.state, enrolment.reason, enrolment.ended_at = state, reason, self.clock.now()
        enrolment.expires_at, enrolment.waiting_for, enrolment.approved = None, None, False
        enrolment.version += 1
        record(
            uow,
            Name.ENROLMENT_ENDED,
            space=enrolment.space,
            team=enrolment.team,
            subject=person_label(enrolment.person),
            state=state,
            reason=reason,
        )
        await self.bindings.revoke(uow, enrolment.person, space=enrolment.space, role=Role.MEMBER, source="enrolment")

    async def put_out(self, uow: UnitOfWork, enrolment: Enrolment, reason: str) -> None:
        """Refuse an applicant, or remove somebody who is in (or was, so that they stay out).

        Raises:
            WrongState: when they are out already.
        """
        if enrolment.state == "applied":
            record(
                uow, Name.ENROLMENT_REFUSED, outcome=Outcome.REFUSED, space=enrolment.space,
                subject=person_label(enrolment.person), reason=reason,
            )  # fmt: skip
        await self.end(uow, enrolment, "eliminated", reason)

    async def explain(self, uow: UnitOfWork, person: int, slug: str) -> CloisterError:
        """Why somebody without a role in a space is outside, for `access` to say."""
        if await scoped_get(uow, Space, in_space(slug)) is None:
            return SpaceNotFound()
        enrolment = await scoped_get(uow, Enrolment, in_space(slug), person=person)
        if enrolment is None:
            return NotEnrolled(space=slug)
        if enrolment.state == "applied":
            missing = (await unsigned(uow, slug, [person]))[person]
            if missing:
                return SignatureMissing(
                    agreements.missing_sentence(missing), space=slug, agreements=[a.name for a in missing]
                )
            return EnrolmentWaiting(enrolment.waiting_for)
        if enrolment.state in {"expired", "active"}:
            return EnrolmentOver("Your time in this space is over. Register again to come back to your files.")
        return EnrolmentOver(enrolment.reason and f"Your enrolment has ended: {enrolment.reason}")
