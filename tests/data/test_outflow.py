"""What left is counted, and a steward's word begins the day's budget anew."""

import asyncio
from types import SimpleNamespace

from cloister.access import scoped_select
from cloister.core.clock import Clock
from cloister.core.principal import EVERYTHING
from cloister.gateway.models import Outflow
from cloister.gateway.outflow import Outflows
from tests.support import blueprint, declare, fake_backend, make_settings, served


async def test_sums_that_are_written_down_while_a_budget_is_renewed_do_not_count_against_it(tmp_path):
    backend = fake_backend()
    async with served(make_settings(tmp_path, sandbox_backend="fake"), backend=backend) as api:
        database = api.platform.database
        await declare(api.platform, blueprint())
        await api.member("ada")
        ada = SimpleNamespace(space="course", team=1, person=1)
        outflows = Outflows(database, Clock(), api.platform.bus)
        outflows.note(ada, 1000)
        await outflows.look()
        outflows.note(ada, 500)
        async with database.write() as uow:
            await outflows.renew(uow, "course", 1)
            writing = asyncio.create_task(outflows.look())
            await asyncio.sleep(0.05)  # it has begun, and waits for this one
        await writing
        async with database.read() as uow:
            assert [row.bytes for row in await uow.session.scalars(scoped_select(Outflow, EVERYTHING))] == [0]
        assert await outflows.used(ada) == (0, 0)
