"""What is written to whom about exports."""

from cloister.access import Bindings
from cloister.airlock.models import Export
from cloister.core.clock import Clock
from cloister.core.ids import person_label, team_label
from cloister.core.principal import Role
from cloister.identity import get_person
from cloister.platform import UnitOfWork
from cloister.platform.mail import queue_letter
from cloister.spaces import get_space


async def tell_reviewers(uow: UnitOfWork, clock: Clock, bindings: Bindings, row: Export, public_url: str) -> None:
    """Tell those who may decide that something waits; where nobody may, those who can appoint somebody.

    Neither names of files nor reasons: letters leave the platform.
    """
    title = (await get_space(uow, row.space)).title
    asks = f"team {team_label(row.team)} ({person_label(row.person)}) asks to take {len(row.files)} file(s) out of {title}."
    here = f"{public_url}/s/{row.space}"
    deciders = await _with_role(uow, clock, bindings, row.space, Role.STEWARD, Role.REVIEWER)
    if told := deciders - {row.person, *row.insiders}:
        subject = f"Files wait for your review in {title}"
        text = f"{asks} Look at them here:\n\n{here}/exports\n"
    else:
        told = await _with_role(uow, clock, bindings, row.space, Role.OWNER)
        subject = f"Nobody may decide on an export from {title}"
        text = (
            f"{asks} Only a steward or reviewer who is not in that team may decide, and there is none. "
            f"Appoint somebody here:\n\n{here}/settings\n"
        )
    for number in sorted(told):
        person = await get_person(uow, number)
        if person.email:
            queue_letter(uow, clock, to=person.email, subject=subject, text=f"Hello {person.name},\n\n{text}")


async def _with_role(uow: UnitOfWork, clock: Clock, bindings: Bindings, space: str, *roles: Role) -> set[int]:
    return {
        binding.person
        for role in roles
        for binding in await bindings.in_space(uow, space, role)
        if binding.until is None or binding.until > clock.now()
    }


async def tell_asker(uow: UnitOfWork, clock: Clock, row: Export, public_url: str) -> None:
    """Tell who asked what became of it."""
    person = await get_person(uow, row.person)
    if not person.email:
        return
    title = (await get_space(uow, row.space)).title
    word = "may leave: you can download them now" if row.state == "approved" else "may not leave"
    because = f"\n\nThe reviewer wrote: {row.reason}" if row.reason else ""
    queue_letter(
        uow, clock, to=person.email, subject=f"Your export from {title}: {row.state}",
        text=f"Hello {person.name},\n\nthe files that you asked to take out of {title} {word}.{because}\n\n"
        f"{public_url}/s/{row.space}/exports\n",
    )  # fmt: skip
