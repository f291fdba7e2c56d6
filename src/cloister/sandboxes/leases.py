"""Which sandboxes this machine looks after: the rows it holds leases of."""

from datetime import timedelta

from sqlalchemy import or_

from cloister.access import scoped_select, scoped_update
from cloister.core.clock import Clock
from cloister.core.ids import new_id
from cloister.core.principal import EVERYTHING
from cloister.platform import Database, Settings
from cloister.sandboxes.models import Sandbox
from cloister.sandboxes.starting import node_id
from cloister.sandboxes.states import LIVE

LEASE = timedelta(seconds=30)


class Leases:
    """Of the live rows that are this machine's or nobody's.

    The state directory belongs to one process at a time, so a lease on this node under another name is dead.
    """

    def __init__(self, settings: Settings, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._node = node_id(settings)
        self._me = new_id("ctl")
        self.closing = False
        """Whether this process is about to end: what is asked for now is whoever's comes next."""

    def take(self, row: Sandbox) -> None:
        """Let a row that is about to be written be this machine's from the beginning: who was asked starts it."""
        if not self.closing:
            row.node, row.lease_owner, row.lease_until = self._node, self._me, self._clock.now() + LEASE

    async def claim(self) -> list[Sandbox]:
        """Take, or keep, those leases; returns the rows, oldest first."""
        now = self._clock.now()
        wanted = scoped_select(Sandbox, EVERYTHING).where(
            Sandbox.state.in_([state.value for state in LIVE]),
            or_(Sandbox.node == self._node, Sandbox.node.is_(None)),
        )
        async with self._database.read() as uow:
            rows = list((await uow.session.scalars(wanted.order_by(Sandbox.id))).all())
        renew = [
            row.id for row in rows
            if row.lease_owner != self._me or row.lease_until is None or row.lease_until < now + LEASE / 2
        ]  # fmt: skip
        if renew:
            async with self._database.write() as uow:
                uow.unrecorded("leases")
                await uow.session.execute(
                    scoped_update(Sandbox, EVERYTHING)
                    .where(Sandbox.id.in_(renew), or_(Sandbox.node == self._node, Sandbox.node.is_(None)))
                    .values(lease_owner=self._me, lease_until=now + LEASE, node=self._node)
                )
        return rows

    async def all_live(self) -> set[str]:
        """Every live sandbox that the database has, on whatever machine."""
        live = scoped_select(Sandbox, EVERYTHING).where(Sandbox.state.in_([state.value for state in LIVE]))
        async with self._database.read() as uow:
            return set((await uow.session.scalars(live.with_only_columns(Sandbox.id))).all())

    async def stop_all(self) -> None:
        """Want everything on this machine to end."""
        async with self._database.write() as uow:
            uow.unrecorded("the platform stops; each end is recorded")
            await uow.session.execute(
                scoped_update(Sandbox, EVERYTHING)
                .where(Sandbox.state.in_([state.value for state in LIVE]), Sandbox.node == self._node)
                .values(wanted="stopped")
            )
