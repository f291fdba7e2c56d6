"""Small parts: the state table, the allow-list, addresses, rate limits, cursors, answers, output."""

import ipaddress
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.audit import Name
from cloister.core.errors import TooManyRequests
from cloister.core.pagination import BadCursor, decode_cursor, encode_cursor
from cloister.platform.ratelimit import RateLimit
from cloister.query.cache import AnswerCache, Kept
from cloister.sandboxes import FINAL, TRANSITIONS, Environments, State
from cloister.sandboxes.egress import allowed, is_public
from cloister.sandboxes.output import Mask, OutputLog
from cloister.sandboxes.states import BadTransition, check_transition
from cloister.spaces import EgressRule
from tests.support import ROOT


def test_every_state_can_end_and_final_states_do_not_move():
    for state in State:
        reachable, frontier = {state}, [state]
        while frontier:
            new = TRANSITIONS[frontier.pop()] - reachable
            reachable |= new
            frontier += new
        assert reachable & FINAL
    with pytest.raises(BadTransition):
        check_transition(State.STOPPED, State.RUNNING)


@pytest.mark.parametrize(
    ("host", "port", "may"),
    [
        ("packages.example.net", 443, True), ("PACKAGES.example.net.", 443, True), ("packages.example.net", 80, False), ("evilpackages.example.net", 443, False),
        ("a.example.org", 443, True), ("a.b.example.org", 443, True), ("example.org", 443, False),
        ("example.org.evil.net", 443, False), ("", 443, False),
    ],
)  # fmt: skip
def test_the_allow_list_is_by_whole_names(host, port, may):
    rules = [EgressRule(host="packages.example.net"), EgressRule(host="*.example.org")]
    assert allowed(rules, host, port) is may


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
     "::1", "fe80::1", "fc00::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "2002:7f00:1::", "255.255.255.255"],
)  # fmt: skip
def test_special_addresses_are_not_public(address):
    assert not is_public(ipaddress.ip_address(address))


def test_ordinary_addresses_are_public():
    assert is_public(ipaddress.ip_address("151.101.0.223"))
    assert is_public(ipaddress.ip_address("2a04:4e42::223"))


def test_a_rate_limit_lets_bursts_through_and_says_how_long_to_wait():
    now = [0.0]
    limit = RateLimit(60, lambda: now[0])
    for _ in range(60):
        limit.take("a")
    with pytest.raises(TooManyRequests) as caught:
        limit.take("a")
    assert caught.value.facts["retry_after"] == 1
    limit.take("b")
    now[0] = 1.0
    limit.take("a")


@given(st.integers(-(2**61), 2**61) | st.text(max_size=50))
def test_cursors_round_trip(key):
    assert decode_cursor(encode_cursor(key), type(key)) == key


@given(st.text(max_size=40))
def test_a_made_up_cursor_is_an_error_or_a_number(text):
    try:
        assert isinstance(decode_cursor(text, int), int)
    except BadCursor:
        pass


def test_the_cache_forgets_the_least_used_and_refuses_the_large():
    cache = AnswerCache(limit=100, entry_limit=60)
    answer = lambda size: Kept((b"x" * size,), (), 1, size)  # noqa: E731
    cache.put("a", answer(50))
    cache.put("b", answer(50))
    assert cache.get("a")
    cache.put("c", answer(50))
    assert cache.get("a") and cache.get("c") and not cache.get("b")
    cache.put("huge", answer(61))
    assert cache.get("huge") is None


async def test_output_is_bounded_and_its_newest_part_is_kept(tmp_path):
    log = OutputLog(tmp_path, 20_000)
    for number in range(1000):
        await log.append("INFO", f"line {number}\n")
    lines = [line async for line in log.lines(follow=False)]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 20_000
    assert "line 999" in lines[-1] and "line 0\\n" not in lines[0]


@given(
    st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=3),
    st.lists(st.text("abcd", max_size=6), max_size=8),
)
def test_a_secret_is_masked_however_its_text_is_cut_and_nothing_else_is_lost(secrets, pieces):
    mask = Mask(tuple(secrets))
    shown = "".join([*map(mask.pass_on, pieces), mask.rest()])
    assert not any(secret in shown for secret in secrets)
    whole = "".join(pieces)
    if not any(secret in whole for secret in secrets):
        assert shown == whole
    assert shown.count("d") == whole.count("d")


async def test_an_environment_that_two_processes_build_at_once_is_built_once(tmp_path):
    environments = Environments(tmp_path, Path(sys.executable))
    built = await environments.ensure([])
    [lock] = tmp_path.glob("*.lock")
    await environments._install(
        lock, built.path, tmp_path / ".partial", None, None
    )  # as a process that began before the other was done
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [built.id]
    assert environments.ready([]) == built


def test_every_record_has_words_for_those_who_read_it():
    said = (ROOT / "ui/src/records.ts").read_text()
    assert [name.value for name in Name if f'"{name.value}"' not in said] == []


def test_faults_that_are_told_in_german_are_those_that_there_are():
    told = set(re.findall(r'^  "?([a-z_.]+)"?: "', (ROOT / "ui/src/faults.ts").read_text(), re.MULTILINE))
    known = set()
    for path in (ROOT / "src/cloister").rglob("*.py"):
        known |= set(re.findall(r'^    code = "([a-z_.]+)"', path.read_text(), re.MULTILINE))
    assert told <= known, told - known
    people = {
        code for code in known if code.split(".")[0] in {"enrolment", "query", "workspace", "dataset", "export", "team"}
    }
    assert people <= told, people - told
