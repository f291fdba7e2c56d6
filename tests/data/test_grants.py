"""Grants begin and end by the clock."""

import warnings
from datetime import UTC, datetime, timedelta

from cloister.access import scoped_select
from cloister.core.clock import ManualClock
from cloister.core.events import AccessChanged
from cloister.core.principal import EVERYTHING
from cloister.datasets import Dataset, GrantDeclaration, GrantPeriodController
from cloister.sandboxes.backends.fake import FakeBackend
from cloister.spaces import Space
from tests.support import blueprint, declare, served


async def test_a_grant_for_later_ends_the_present_one_only_then_and_each_turn_is_news(settings):
    clock = ManualClock(datetime(2026, 2, 1, tzinfo=UTC))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        backend = FakeBackend()
    async with served(settings, backend=backend, clock=clock) as api:
        platform = api.platform
        await declare(platform, blueprint())
        start, end = clock.now() + timedelta(hours=1), clock.now() + timedelta(hours=2)
        async with platform.database.write() as uow:
            uow.unrecorded("a test")
            space = (await uow.session.scalars(scoped_select(Space, EVERYTHING))).one()
            uow.session.add(
                Dataset(
                    id="dts_1", space=space.space, name="d", metadata_={}, version=1, created_at=clock.now(),
                )
            )  # fmt: skip
            await uow.session.flush()
            for more in ({}, {"valid_from": start, "valid_until": end}):
                wanted = GrantDeclaration(to="everybody", dataset="d", allow=["query" if not more else "mount"], **more)
                await platform.grants.give(uow, "course", wanted, "api")

        async def counts():
            async with platform.database.read() as reading:
                found = await platform.grants.effective(reading, "course", 1, 1)
                return [grant.policy.get("allow", ["query"]) for grant in found]

        news = []
        platform.bus.subscribe(AccessChanged, news.append)
        controller = GrantPeriodController(platform.database, platform.bus, clock)
        assert await controller.look() == 3600
        assert (await counts(), news) == ([["query"]], [])
        clock.advance(timedelta(hours=1))
        assert await controller.look() == 3600
        assert (await counts(), len(news)) == ([["mount"]], 1)
        clock.advance(timedelta(hours=1))
        await controller.look()
        assert (await counts(), len(news)) == ([], 2)
