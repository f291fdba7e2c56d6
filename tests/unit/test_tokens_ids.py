"""Tokens can be recognised by scanners; ids sort by age."""

from hypothesis import given
from hypothesis import strategies as st

from cloister.core.ids import new_id, parse_label, person_label
from cloister.identity.tokens import looks_like_token, mint


def test_a_token_is_recognised_and_a_changed_one_is_not():
    token = mint()
    assert looks_like_token(token)
    for at in range(4, len(token)):
        other = "a" if token[at] != "a" else "b"
        assert not looks_like_token(token[:at] + other + token[at + 1 :])


@given(st.text(max_size=60))
def test_no_text_upsets_the_recogniser(text):
    assert not looks_like_token(text)


def test_ids_differ_and_sort_by_age():
    ids = [new_id("x") for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert ids[0][:10] <= ids[-1][:10]


@given(st.integers(0, 10**9))
def test_labels_round_trip(number):
    assert parse_label(person_label(number), "p") == number
