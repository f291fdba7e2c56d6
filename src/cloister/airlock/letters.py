"""What is written to whom about exports."""

from cloister.access import Bindings
from cloister.airlock.models import Export
from cloister.core.clock import Clock
from cloister.core.ids import person_label, team_label
from cloister.core.principal import Role
from cloister.identity import get_person
from cloister.platform import UnitOfWork
from cloister.platform.letters import Fact, LetterName, Phrase, write_letter
from cloister.spaces import get_space


async def tell_reviewers(uow: UnitOfWork, clock: Clock, bindings: Bindings, row: Export, public_url: str) -> None:
    """Tell those who may decide that something waits; where nobody may, those who can appoint somebody.

    Neither names of files nor reasons: letters leave the platform.
    """
    title = (await get_space(uow, row.space)).title
    facts: dict[str, Fact] = {
        "title": title,
        "team": team_label(row.team),
        "asker": person_label(row.person),
        "count": len(row.files),
    }
    here = f"{public_url}/s/{row.space}"
    deciders = await _with_role(uow, clock, bindings, row.space, Role.STEWARD, Role.REVIEWER)
    if told := deciders - {row.person, *row.insiders}:
        for number in sorted(told):
            write_letter(uow, clock, await get_person(uow, number), "export_waits", link=f"{here}/exports", **facts)
        return
    for number in sorted(await _with_role(uow, clock, bindings, row.space, Role.OWNER)):
        write_letter(uow, clock, await get_person(uow, number), "export_stuck", link=f"{here}/settings", **facts)


async def _with_role(uow: UnitOfWork, clock: Clock, bindings: Bindings, space: str, *roles: Role) -> set[int]:
    return {
        binding.person
        for role in roles
        for binding in await bindings.in_space(uow, space, role)
        if binding.until is None or binding.until > clock.now()
    }


async def tell_asker(uow: UnitOfWork, clock: Clock, row: Export, public_url: str) -> None:
    """Tell who asked what became of it."""
    letter: LetterName = "export_approved" if row.state == "approved" else "export_refused"
    write_letter(
        uow, clock, await get_person(uow, row.person), letter, title=(await get_space(uow, row.space)).title,
        because=Phrase("because", {"reason": row.reason}) if row.reason else Phrase(),
        link=f"{public_url}/s/{row.space}/exports",
    )  # fmt: skip
