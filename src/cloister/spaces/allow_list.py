"""The addresses that may enrol in a space, where it goes by a list."""

import csv
import io
from dataclasses import dataclass

from cloister.access import scoped_get, scoped_select
from cloister.audit import Name, record
from cloister.core.errors import Invalid, NotFound
from cloister.core.events import EnrolmentWanted
from cloister.core.pagination import Page
from cloister.identity import BadAddress, canonical_email
from cloister.platform import UnitOfWork
from cloister.platform.paging import page_by
from cloister.spaces.enrolment import ALLOW_LIST
from cloister.spaces.models import AllowListEntry, Enrolment
from cloister.spaces.store import in_space


class NotListed(NotFound):
    """That address is not on the list."""

    code = "allow_list.not_listed"


@dataclass(frozen=True)
class RowReport:
    """What became of one row of an allow-list."""

    row: int
    address: str
    outcome: str  # added, known, wrong
    why: str = ""


async def add(uow: UnitOfWork, slug: str, text: str) -> list[RowReport]:
    """Add the addresses of a CSV (address, then anything) and report on every row."""
    known = {
        entry.canonical_email
        for entry in (await uow.session.scalars(scoped_select(AllowListEntry, in_space(slug)))).all()
    }
    reports, added = [], []
    try:
        lines = list(csv.reader(io.StringIO(text.removeprefix("\ufeff"))))
    except csv.Error as error:
        raise Invalid(f"This is no CSV: {error}.") from error
    for number, cells in enumerate(lines, start=1):
        address = cells[0].strip() if cells else ""
        if not any(cells) or (number == 1 and address.lower() in {"email", "e-mail", "address"}):
            continue
        try:
            canonical = canonical_email(address)
        except BadAddress as error:
            reports.append(RowReport(number, address[:254], "wrong", error.detail))
            continue
        if canonical in known:
            reports.append(RowReport(number, address, "known"))
            continue
        known.add(canonical)
        added.append(AllowListEntry(space=slug, canonical_email=canonical, note=",".join(cells[1:])[:500]))
        reports.append(RowReport(number, address, "added"))
    uow.session.add_all(added)
    record(uow, Name.ALLOW_LIST_CHANGED, space=slug, rows=len(reports), added=len(added))
    waiting = scoped_select(Enrolment, in_space(slug)).where(Enrolment.waiting_for == ALLOW_LIST)
    for row in (await uow.session.scalars(waiting)).all():
        row.waiting_for = None
    uow.publish(EnrolmentWanted(slug))
    return reports


async def entries(uow: UnitOfWork, slug: str, cursor: str | None, limit: int) -> Page[AllowListEntry]:
    """The list, by address."""
    query = scoped_select(AllowListEntry, in_space(slug))
    return await page_by(uow, query, AllowListEntry.canonical_email, cursor, limit)


async def remove(uow: UnitOfWork, slug: str, address: str) -> None:
    """Take an address off the list, however it is spelled. Whoever is in already stays in.

    Raises:
        BadAddress: when it is none.
        NotListed: when the list does not have it.
    """
    canonical = canonical_email(address)
    found = await scoped_get(uow, AllowListEntry, in_space(slug), canonical_email=canonical)
    if found is None:
        raise NotListed
    await uow.session.delete(found)
    record(uow, Name.ALLOW_LIST_CHANGED, space=slug, removed=1)
