"""Ending a space removes everything it had, and the report proves it."""

from pathlib import Path

import pytest

from cloister.audit import verify
from cloister.core.principal import SYSTEM
from tests.support import blueprint, csv_file, declare, make_settings, served


async def test_nothing_of_an_ended_space_is_left_but_the_log_and_the_signatures(tmp_path):
    async with served(make_settings(tmp_path / "state")) as api:
        source = csv_file(tmp_path, "t.csv", "a,b\n1,secret-value\n")
        tables = [{"name": "t", "source": source}]
        await declare(
            api.platform,
            blueprint(
                datasets=[{"name": "t", "title": "T", "tables": tables}],
                grants=[
                    {
                        "to": "everybody",
                        "dataset": "t",
                        "allow": ["query", "mount"],
                        "tables": {"t": {"columns": ["b"]}},
                    }
                ],
            ),
        )
        member = await api.member("ann")
        assert (await api.query(member, "select * from t")).status_code == 200
        state, _ = await api.run(member, "open('kept.txt', 'w').write('mine')", volume="home")
        assert state["exit_code"] == 0
        running = await api.start(member, "import time; time.sleep(60)")
        await api.running(member, running)

        report = await api.platform.endings.end("course", SYSTEM)

        removed = {line.what: line for line in report}
        assert all(line.left == 0 for line in report)
        assert removed["volumes, with their snapshots"].count == 1
        assert removed["stored objects"].count >= 3
        assert await api.platform.objects.keys("spaces/course") == []
        assert not await api.platform.backend.known()
        assert not [
            path
            for path in (tmp_path / "state").rglob("*")
            if path.is_file() and b"secret-value" in path.read_bytes() and "sqlite" not in path.name
        ]
        assert (await api.query(member, "select * from t")).status_code in {403, 404, 409}
        assert await api.records(space="course", name="spaces:space:end")
        assert await api.records(space="course", name="spaces:agreement:sign")
        assert (await verify(api.platform.database, None)).sound
        again = await api.platform.endings.end("course", SYSTEM)
        assert all(line.count == 0 for line in again)
        with pytest.raises(Exception, match="has ended"):
            await declare(api.platform, blueprint())


async def test_a_platform_that_stopped_leaves_no_control_group_of_its_own(tmp_path):
    async with served(make_settings(tmp_path / "state")) as api:
        await declare(api.platform, blueprint())
        state, _ = await api.run(await api.member("ann"), "print('here')")
        assert state["exit_code"] == 0
        name = api.platform.backend.layout.cgroup
        top = Path("/sys/fs/cgroup")
        assert [*top.glob(name), *top.glob(f"*/{name}")]
    assert [*top.glob(name), *top.glob(f"*/{name}")] == []
