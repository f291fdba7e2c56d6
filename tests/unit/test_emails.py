"""Addresses are matched in one spelling, and only as far as the provider's rules are known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.identity import BadAddress, canonical_email


@pytest.mark.parametrize(
    ("typed", "canonical"),
    [
        ("Ada.Lovelace+x@GoogleMail.com", "adalovelace@gmail.com"),
        ("a.d.a@gmail.com", "ada@gmail.com"),
        ("Ada.L+x@Example.ORG", "ada.l+x@example.org"),
        (" ada@bücher.example ", "ada@xn--bcher-kva.example"),
        ("ADA@XN--BCHER-KVA.example", "ada@xn--bcher-kva.example"),
        ("ada@example.org.", "ada@example.org"),
    ],
)
def test_one_spelling(typed, canonical):
    assert canonical_email(typed) == canonical


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("strauß@uni.example", "strauss@uni.example"), ("ﬁona@uni.example", "fiona@uni.example"),
        ("ſam@uni.example", "sam@uni.example"), ("①@uni.example", "1@uni.example"),
        ("ＡＤＡ@uni.example", "ada@uni.example"), ("аda@uni.example", "ada@uni.example"), ("İda@uni.example", "ida@uni.example"),
    ],
)  # fmt: skip
def test_what_only_looks_alike_is_two_peoples(one, two):
    assert canonical_email(one) != canonical_email(two)


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "ada",
        "@x.org",
        "ada@",
        "a b@x.org",
        "a@b@x.org",
        ".a@x.org",
        "a..b@x.org",
        "a@x",
        "+x@gmail.com",
        "NA",
        "\u212aim@uni.example",
    ],
)
def test_what_is_no_address_is_refused(typed):
    with pytest.raises(BadAddress):
        canonical_email(typed)


@given(
    st.from_regex(
        r"[a-z0-9](\.?[a-z0-9]){0,20}(\+[a-z0-9]{1,5})?@(gmail|googlemail|example|uni-x)\.(com|org)", fullmatch=True
    )
)
def test_the_canonical_spelling_of_a_canonical_spelling_is_itself(address):
    once = canonical_email(address)
    assert canonical_email(once) == once
    assert canonical_email(address.upper()) == once


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_a_clear_error(text):
    try:
        assert "@" in canonical_email(text)
    except BadAddress as error:
        assert error.detail
