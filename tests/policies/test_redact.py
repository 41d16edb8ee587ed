"""What leaves a room names nobody who is in it, however the name is typed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.folded import fold
from policies.redact import redact

NAMES = ("Ada van Loon", "Ben", "Zoë", "田中さくら")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Can Ada swim?", "Can [name 1] swim?"),
        ("Can Ada van Loon and ada swim with BEN?", "Can [name 1] and [name 1] swim with [name 2]?"),
        ("Ada's bike, Bens Rad", "[name 1]'s bike, [name 2] Rad"),
        ("Zoe and ZOË", "[name 1] and [name 1]"),
        ("\uff21\uff44\uff41 and B\u200ben", "[name 1] and [name 2]"),
        ("Is the van open? Benign, Adam", "Is the van open? Benign, Adam"),
        ("田中さくらは泳げますか", "[name 1]は泳げますか"),
        ("mail ada@home.example or +31 6 12345678", "mail [email] or [phone]"),
        ("nothing of that", "nothing of that"),
    ],
)
def test_names_and_traces_are_taken_out(text: str, left: str) -> None:
    """One number a person; words that only look like a name stay."""
    assert redact(text, NAMES)[0] == left


def test_what_was_taken_out_is_counted() -> None:
    """For the preview and the audit: numbers, no words."""
    assert redact("Ada, Ben and ada@home.example", NAMES)[1] == {"name": 2, "email": 1}


words = st.lists(
    st.sampled_from(
        [*NAMES, "ada", "loon", "BEN", "the", "pool", "[name 1]", "ada@x.example", "\u200b", "-", "s"]
    )
    | st.text(max_size=6)
).map(" ".join)


@given(words)
def test_no_name_is_left_and_twice_is_once(text: str) -> None:
    """Idempotent; no word of a name stands in it; it does not grow without bound."""
    left, _ = redact(text, NAMES)
    assert redact(left, NAMES)[0] == left
    low = f" {fold(left).low} "
    assert not any(f" {name} " in low for name in ("ada", "loon", "ben", "zoe"))
    assert len(left) <= 12 * len(text) + 12


@pytest.mark.parametrize(
    "text", ["Ada " * 12_500, "a" * 50_000, "ada.van." * 6_000, "[name 1" * 7_000, "@" * 50_000]
)
@pytest.mark.timeout(60)  # quadratic work would take an hour
def test_a_long_text_costs_little(text: str) -> None:
    """Linear: what is made to be slow is not."""
    assert redact(text, NAMES) is not None
