"""Larger sizes and disks: what they cost, what a team may take by itself, and what a steward decides."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cloister.access import scoped_get, scoped_select
from cloister.audit import Name, Outcome, record
from cloister.core.clock import Clock
from cloister.core.ids import new_id
from cloister.core.pagination import Page
from cloister.core.principal import Scope
from cloister.platform import UnitOfWork
from cloister.platform.paging import page_by
from cloister.sandboxes import check_size
from cloister.spaces import SpaceDeclaration, active_space, in_space, parse_bytes
from cloister.workspaces.errors import RequestDecided, RequestNotFound, WorkspaceNotFound
from cloister.workspaces.models import CapacityRequest, Workspace

if TYPE_CHECKING:
    from cloister.workspaces.service import Workspaces

GIGABYTE = 2**30


def price_of(declaration: SpaceDeclaration, size: str, disk_bytes: int) -> float:
    """What a workspace costs in an hour while it runs; 0 for a size that the space no longer has."""
    declared = declaration.sizes.get(size)
    beyond = max(0, disk_bytes - parse_bytes(declaration.policies.workspace_disk)) / GIGABYTE
    return round((declared.price if declared else 0) + beyond * declaration.policies.disk_price, 4)


def may_take(declaration: SpaceDeclaration, allowance: float | None, size: str, disk_bytes: int) -> bool:
    """Whether a team may take a size and disk by itself."""
    budget = declaration.policies.team_budget
    price = price_of(declaration, size, disk_bytes)
    if disk_bytes > parse_bytes(declaration.policies.workspace_disk) and declaration.policies.disk_price == 0:
        return False  # without a price there is no budget that would end it
    if allowance is not None and 0 < price <= allowance:
        return True
    if budget is None:
        return disk_bytes <= parse_bytes(declaration.policies.workspace_disk)
    return price <= budget


@dataclass(frozen=True)
class Offer:
    """A size that a space has, and what it costs in an hour with the disk that is asked for."""

    name: str
    cpus: float
    memory_bytes: int
    price: float


@dataclass(frozen=True)
class Quote:
    """What a wish would cost."""

    size: str
    disk_bytes: int
    price: float
    price_now: float
    budget: float | None
    needs_approval: bool
    sizes: tuple[Offer, ...]


@dataclass
class Capacity:
    """The service."""

    workspaces: "Workspaces"
    clock: Clock

    async def quote(self, uow: UnitOfWork, row: Workspace, size: str | None, disk_bytes: int | None) -> Quote:
        """Say what a size and disk would cost, and whether a steward has to approve.

        Raises:
            SizeUnknown: naming the sizes that there are.
        """
        _, declaration = await active_space(uow, row.space)
        have = (await self.workspaces.volume(uow, row)).size_bytes
        name, disk = size or row.size, max(have, disk_bytes or 0)
        check_size(declaration, name)
        return Quote(
            name, disk, price_of(declaration, name, disk), price_of(declaration, row.size, have),
            declaration.policies.team_budget, not may_take(declaration, row.allowance, name, disk),
            tuple(
                Offer(each, limits.cpus, limits.memory_bytes, price_of(declaration, each, disk))
                for each, limits in declaration.sizes.items()
            ),
        )  # fmt: skip

    async def ask(
        self, uow: UnitOfWork, scope: Scope, row: Workspace, size: str | None, disk_bytes: int | None, why: str
    ) -> CapacityRequest:
        """Note a wish for a steward to decide. A team's earlier wish that still waits is replaced."""
        quote = await self.quote(uow, row, size, disk_bytes)
        waiting = scoped_select(CapacityRequest, in_space(row.space)).where(
            CapacityRequest.team == row.team, CapacityRequest.state == "waiting"
        )
        for earlier in (await uow.session.scalars(waiting)).all():
            earlier.state, earlier.reason, earlier.decided_at = "refused", "replaced by a later one", self.clock.now()
        request = CapacityRequest(
            id=new_id("cap"), space=row.space, team=row.team, person=scope.principal.person, size=quote.size,
            disk_bytes=quote.disk_bytes, price=quote.price, why=why, state="waiting", decided_by=None, reason=None,
            asked_at=self.clock.now(), decided_at=None,
        )  # fmt: skip
        uow.session.add(request)
        record(
            uow, Name.CAPACITY_ASKED, space=row.space, team=row.team, subject=request.id, size=quote.size,
            disk_bytes=quote.disk_bytes, price=quote.price, why=why,
        )  # fmt: skip
        await uow.session.flush()
        return request

    async def page(self, uow: UnitOfWork, scope: Scope, cursor: str | None, limit: int) -> Page[CapacityRequest]:
        """The wishes that a scope reaches, newest first."""
        query = scoped_select(CapacityRequest, scope)
        return await page_by(uow, query, CapacityRequest.id, cursor, limit, newest_first=True)

    async def decide(
        self, uow: UnitOfWork, scope: Scope, id_: str, *, approve: bool, reason: str
    ) -> tuple[CapacityRequest, Workspace]:
        """Approve a wish or refuse it; an approved one still has to be applied, by `Workspaces.change`.

        Raises:
            RequestNotFound: when the scope reaches none.
            RequestDecided: when it is over.
        """
        request = await scoped_get(uow, CapacityRequest, scope, id=id_)
        if request is None:
            raise RequestNotFound
        if request.state != "waiting":
            raise RequestDecided(f"It is {request.state} already.")
        row = await scoped_get(uow, Workspace, in_space(request.space), team=request.team)
        if row is None:
            raise WorkspaceNotFound
        request.state, request.reason = "approved" if approve else "refused", reason
        request.decided_by, request.decided_at = scope.principal.person, self.clock.now()
        record(
            uow, Name.CAPACITY_DECIDED, outcome=Outcome.OK if approve else Outcome.REFUSED, space=request.space,
            team=request.team, subject=request.id, price=request.price, reason=reason,
        )  # fmt: skip
        return request, row
