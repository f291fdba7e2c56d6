"""The rules that find mining, scraping and repeated wall hits."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from cloister.audit import Name
from cloister.insight import RULES, Engine, Key, Seen, Sign, signs

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def seen(
    name: Name, after: float = 0, seq: int = 1, outcome: str = "ok", subject: str | None = None, **details
) -> Seen:
    return Seen(seq, name.value, NOON + timedelta(seconds=after), "course", 7, 3, "sbx_1", outcome, subject, details)


def judge(*records: Seen) -> list[str]:
    engine = Engine()
    return [f.key.rule for r in records for s in signs(r) if (f := engine.take(s)) is not None]


def test_code_that_names_a_miner_is_found_at_once_and_once():
    code = "!./xmrig -o stratum+tcp://pool.example:3333"
    assert judge(*(seen(Name.CODE_RUN, n, code=code) for n in range(5))) == ["mining.code"]


def test_a_terminal_counts_like_a_cell():
    assert judge(seen(Name.TERMINAL_TYPED, typed="./cpuminer --help")) == ["mining.code"]


def test_ordinary_code_is_not_found():
    for code in ("import pandas as pd", "pool = multiprocessing.Pool()", "random.randint(1, 6)", "data mining course"):
        assert judge(seen(Name.CODE_RUN, code=code)) == []


def test_three_tries_at_a_mining_pool_are_found():
    tries = [seen(Name.EGRESS_DENIED, n, subject="eu.nanopool.org:14444", outcome="refused") for n in range(3)]
    assert judge(*tries) == ["mining.network"]
    assert judge(*(seen(Name.EGRESS_ALLOWED, n, subject="files.example.org:443") for n in range(50))) == []


def test_many_small_queries_are_scraping_but_cached_or_large_ones_are_not():
    small = [seen(Name.QUERY_ANSWERED, n, rows=10, cached=False) for n in range(250)]
    assert judge(*small) == ["scraping.queries"]
    assert judge(*(seen(Name.QUERY_ANSWERED, n, rows=10, cached=True) for n in range(250))) == []
    assert judge(*(seen(Name.QUERY_ANSWERED, n, rows=100_000, cached=False) for n in range(250))) == []


def test_wall_hits_must_come_close_together():
    assert judge(*(seen(Name.EGRESS_DENIED, n, subject="a.example:443") for n in range(25))) == ["walls.hits"]
    assert judge(*(seen(Name.EGRESS_DENIED, n * 60, subject="a.example:443") for n in range(60))) == []


def test_a_used_instance_token_weighs_ten():
    assert judge(*(seen(Name.TOKEN_REFUSED, n) for n in range(3))) == ["walls.hits"]


def test_a_finding_names_the_records_it_rests_on():
    engine = Engine()
    found = [engine.take(s) for n in range(25) for s in signs(seen(Name.EGRESS_DENIED, n, seq=100 + n, subject="a:1"))]
    assert found[-1].records == (120, 121, 122, 123, 124)


@given(st.lists(st.tuples(st.floats(0, 5000), st.floats(0.1, 20)), max_size=200))
def test_findings_of_one_rule_about_one_person_are_a_window_apart(steps):
    engine, rule = Engine(), RULES["walls.hits"]
    times = []
    for second, weight in sorted(steps):
        sign = Sign(Key(rule.name, "course", 1, 1), NOON + timedelta(seconds=second), weight)
        if (found := engine.take(sign)) is not None:
            assert found.weight >= rule.threshold - 0.1
            times.append(found.time)
    assert all(later - earlier >= rule.window for earlier, later in zip(times, times[1:], strict=False))
    engine.forget(NOON + timedelta(days=1))
    assert not engine.windows
