"""Publishing agreements and signing them."""

import asyncio
import difflib
from typing import Any

from sqlalchemy import func

from cloister.access import Bindings, scoped_get, scoped_select
from cloister.audit import Name, record
from cloister.core.clock import Clock
from cloister.core.events import EnrolmentWanted
from cloister.core.pagination import Page
from cloister.core.principal import Role
from cloister.platform import UnitOfWork
from cloister.platform.paging import page_by
from cloister.spaces.declaration import AgreementDeclaration
from cloister.spaces.errors import AgreementNotFound, AgreementOutdated
from cloister.spaces.form import BadAnswer, FormField, check_answers
from cloister.spaces.models import AgreementVersion, Enrolment, Signature
from cloister.spaces.store import current_agreements, in_space, unsigned


async def all_versions(uow: UnitOfWork, space: str) -> list[tuple[AgreementVersion, int]]:
    """Every version of every agreement of a space, newest first, and by how many it was signed."""
    here = in_space(space)
    found = (
        await uow.session.scalars(scoped_select(AgreementVersion, here).order_by(AgreementVersion.id.desc()))
    ).all()
    counts = (
        scoped_select(Signature, here)
        .with_only_columns(Signature.agreement, Signature.number, func.count())
        .group_by(Signature.agreement, Signature.number)
    )
    signed = {(name, number): count for name, number, count in (await uow.session.execute(counts)).all()}
    return [(version, signed.get((version.name, version.number), 0)) for version in found]


async def signers(uow: UnitOfWork, space: str, agreement: str, cursor: str | None, limit: int) -> Page[Signature]:
    """Who signed which version of an agreement, newest first."""
    query = scoped_select(Signature, in_space(space)).where(Signature.agreement == agreement)
    return await page_by(uow, query, Signature.id, cursor, limit, newest_first=True)


def missing_sentence(agreements: list[AgreementVersion]) -> str:
    titles = " and ".join(f"“{agreement.title}”" for agreement in agreements)
    return f"Read and sign {titles} first."


async def publish(
    uow: UnitOfWork, space: str, wanted: list[AgreementDeclaration], bindings: Bindings, clock: Clock
) -> None:
    """Make the declared texts the current versions; whoever must sign again rests until they do."""
    current = {agreement.name: agreement for agreement in await current_agreements(uow, space)}
    changed = False
    for declaration in wanted:
        before = current.pop(declaration.name, None)
        if before is not None and before.hash == declaration.version_hash:
            if before.required != declaration.required:
                before.required = declaration.required
                changed = True
            before.title = declaration.title
            continue
        number = 1 + max([v.number for v in await versions(uow, space, declaration.name)], default=0)
        if before is not None:
            before.current = False
        uow.session.add(
            AgreementVersion(
                space=space,
                name=declaration.name,
                number=number,
                title=declaration.title,
                text=declaration.text,
                hash=declaration.version_hash,
                questions=[question.model_dump(exclude_defaults=True) for question in declaration.questions],
                required=declaration.required,
                floor=number if declaration.sign_again or before is None else before.floor,
                current=True,
                published_at=clock.now(),
            )
        )
        record(
            uow,
            Name.AGREEMENT_PUBLISHED,
            space=space,
            subject=declaration.name,
            number=number,
            hash=declaration.version_hash,
        )
        changed = True
    for gone in current.values():
        gone.current = False  # its versions and signatures stay
        changed = True
    await uow.session.flush()
    if changed:
        await _rest_or_resume(uow, space, bindings)


async def _rest_or_resume(uow: UnitOfWork, space: str, bindings: Bindings) -> None:
    members = await bindings.in_space(uow, space, Role.MEMBER)
    missing = await unsigned(uow, space, [binding.person for binding in members])
    for binding in members:
        agreements = missing[binding.person]
        reason = missing_sentence(agreements) if agreements else None
        if binding.suspended != reason:
            await bindings.suspend(uow, space, [binding.person], reason)
    uow.publish(EnrolmentWanted(space))


async def versions(uow: UnitOfWork, space: str, name: str) -> list[AgreementVersion]:
    query = scoped_select(AgreementVersion, in_space(space)).where(AgreementVersion.name == name)
    return list((await uow.session.scalars(query.order_by(AgreementVersion.number))).all())


async def difference(uow: UnitOfWork, space: str, name: str, since: int) -> str:
    """A unified diff from one version of an agreement to its current one.

    Raises:
        AgreementNotFound: when there is no such agreement or version.
    """
    known = await versions(uow, space, name)
    old = next((v for v in known if v.number == since), None)
    new = next((v for v in known if v.current), None)
    if old is None or new is None:
        raise AgreementNotFound
    names = f"{name} version {old.number}", f"{name} version {new.number}"
    lines = difflib.unified_diff(_lines(old), _lines(new), *names, lineterm="")
    return await asyncio.to_thread("\n".join, lines)


def _lines(version: AgreementVersion) -> list[str]:
    """All that is signed, by line: the text, then the questions."""
    asked = [FormField.model_validate(question) for question in version.questions]
    said = [f"{q.label} ({q.type}{': ' + ', '.join(q.options) if q.options else ''})" for q in asked]
    return [*version.text.splitlines(), *(["", *(f"? {line}" for line in said)] if said else [])]


async def sign(
    uow: UnitOfWork,
    space: str,
    person: int,
    name: str,
    version_hash: str,
    answers: dict[str, Any],
    address: str | None,
    bindings: Bindings,
    clock: Clock,
) -> Signature:
    """Sign the current version of an agreement. Signing twice is signing once.

    Raises:
        AgreementNotFound: when there is no such agreement.
        AgreementOutdated: when the version read is not the current one.
        BadAnswer: when one of its questions has no answer, or a wrong one.
    """
    current = _current(await current_agreements(uow, space), name, version_hash)
    existing = await scoped_get(uow, Signature, in_space(space), person=person, agreement=name, number=current.number)
    if existing is not None:
        return existing
    signature = _new_signature(uow, current, person, _answered(current, answers), address, clock)
    await uow.session.flush()
    await _after_signature(uow, space, person, bindings)
    return signature


async def sign_all(
    uow: UnitOfWork, space: str, person: int, hashes: dict[str, str], profile: dict[str, Any],
    answers: dict[str, dict[str, Any]], address: str | None, clock: Clock,
) -> None:  # fmt: skip
    """Sign the agreements, by name and hash of the version read, that come with an application.

    A signature binds what the application said (``profile``) and what was answered to the agreement's own questions.

    Raises:
        AgreementNotFound: when there is no agreement of a name.
        AgreementOutdated: when a version read is not the current one.
        BadAnswer: when a question has no answer, or a wrong one, or belongs to nothing that is signed.
    """
    loose = min(answers.keys() - hashes.keys(), default=None)
    if loose is not None:
        raise BadAnswer(f"There are answers to “{loose[:60]}”, which is not signed.", field=loose[:60])
    if not hashes:
        return
    known = await current_agreements(uow, space)
    theirs = scoped_select(Signature, in_space(space)).where(Signature.person == person)
    signed = {(s.agreement, s.number) for s in await uow.session.scalars(theirs)}
    for name, version_hash in hashes.items():
        current = _current(known, name, version_hash)
        own = _answered(current, answers.get(name, {}))
        if (name, current.number) not in signed:
            _new_signature(uow, current, person, {**profile, **own}, address, clock)


def _answered(agreement: AgreementVersion, answers: dict[str, Any]) -> dict[str, Any]:
    return check_answers([FormField.model_validate(question) for question in agreement.questions], answers)


def _current(known: list[AgreementVersion], name: str, version_hash: str) -> AgreementVersion:
    current = next((a for a in known if a.name == name), None)
    if current is None:
        raise AgreementNotFound
    if current.hash != version_hash:
        raise AgreementOutdated(hash=current.hash)
    return current


def _new_signature(
    uow: UnitOfWork,
    current: AgreementVersion,
    person: int,
    answers: dict[str, Any],
    address: str | None,
    clock: Clock,
) -> Signature:
    space, name = current.space, current.name
    signature = Signature(
        space=space,
        person=person,
        agreement=name,
        number=current.number,
        hash=current.hash,
        answers=answers,
        address=address,
        signed_at=clock.now(),
    )
    uow.session.add(signature)
    record(
        uow,
        Name.AGREEMENT_SIGNED,
        person=person,
        space=space,
        subject=name,
        number=current.number,
        hash=current.hash,
    )
    return signature


async def _after_signature(uow: UnitOfWork, space: str, person: int, bindings: Bindings) -> None:
    missing = (await unsigned(uow, space, [person]))[person]
    reason = missing_sentence(missing) if missing else None
    here = [b for b in await bindings.of(uow, person, space) if b.space == space and b.role == Role.MEMBER]
    if any(binding.suspended != reason for binding in here):
        await bindings.suspend(uow, space, [person], reason)
    enrolment = await scoped_get(uow, Enrolment, in_space(space), person=person)
    if enrolment is not None and enrolment.state == "applied":
        enrolment.waiting_for = None  # look again
        uow.publish(EnrolmentWanted(space))
