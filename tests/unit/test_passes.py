"""Passes, at any pace of asking."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.gateway import passes
from cloister.gateway.decision import Asked
from cloister.gateway.hosts import Address
from cloister.gateway.passes import PASS_SECONDS, Passes

PEOPLE = [Asked(Address("blue", "cup"), f"cookie {number}", None, None) for number in range(3)]
STEPS = st.lists(st.tuples(st.sampled_from(PEOPLE), st.floats(0, 2 * PASS_SECONDS)), max_size=30)


@given(STEPS)
def test_a_pass_names_who_got_it_for_half_its_time_after_it_was_last_given_and_no_longer_than_its_own(steps):
    with pytest.MonkeyPatch.context() as patch:
        now = 1000.0
        patch.setattr(passes, "monotonic", lambda: now)
        kept, first = Passes(), {}
        for asked, pause in steps:
            word, until = kept.give(asked)
            first.setdefault(word, (asked, now))
            assert first[word][0] == asked, "nobody gets another's"
            assert now < until < now + PASS_SECONDS / 2 + 0.001
            shown, now = now, until + PASS_SECONDS / 2 - 0.001
            assert kept.asker(word) == asked
            now = first[word][1] + PASS_SECONDS + 0.001
            assert kept.asker(word) is None
            now = shown + pause
        assert kept.asker("") is None


def test_who_keeps_asking_gets_few_passes_and_those_of_the_past_are_forgotten():
    with pytest.MonkeyPatch.context() as patch:
        now = 1000.0
        patch.setattr(passes, "monotonic", lambda: now)
        kept, words = Passes(), Counter()
        for _ in range(2000):
            words[kept.give(PEOPLE[0])[0]] += 1
            now += 0.05
        assert len(words) <= 11
        now += 2 * PASS_SECONDS
        kept.give(PEOPLE[1])
        assert (len(kept._askers), len(kept._words)) == (1, 1)
