"""What is written to whom about exports."""

from cloister.access import Bindings
from cloister.airlock.models import Export
from cloister.core.clock import Clock
from cloister.core.ids import person_label, team_label
from cloister.core.principal import Role
from cloister.identity import get_person
from cloister.platform import UnitOfWork
from cloister.platform.letters import Fact, Phrase, write_letter
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
    told, letter, link = deciders - {row.person, *row.insiders}, "export_waits", f"{here}/exports"
    if not told:
        told = await _with_role(uow, clock, bindings, row.space, Role.OWNER)
        letter, link = "export_stuck", f"{here}/settings"
    for number in sorted(told):
        write_letter(uow, clock, await get_person(uow, number), letter, link=link, **facts)


async def _with_role(uow: UnitOfWork, clock: Clock, bindings: Bindings, space: str, *roles: Role) -> set[int]:
    return {
        binding.person
        for role in roles
        for binding in await bindings.in_space(uow, space, role)
        if binding.until is None or binding.until > clock.now()
    }


async def tell_asker(uow: UnitOfWork, clock: Clock, row: Export, public_url: str) -> None:
    """Tell who asked what became of it."""
    write_letter(
        uow, clock, await get_person(uow, row.person), f"export_{row.state}", title=(await get_space(uow, row.space)).title,
        because=Phrase("because", {"reason": row.reason}) if row.reason else Phrase(),
        link=f"{public_url}/s/{row.space}/exports",
    )  # fmt: skip
