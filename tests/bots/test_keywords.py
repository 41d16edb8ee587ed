"""A key as words: the same for everybody, and others for another key."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bots.keywords import COUNT, WORDS, key_words, spoken


def text_of(raw: bytes) -> str:
    return base64.b64encode(raw).decode().rstrip("=")


def test_words_of_a_known_key() -> None:
    """Fixed for ever: people have written them down."""
    assert len(WORDS) == len({word[:4] for word in WORDS}) == 2048
    assert spoken(text_of(bytes(32))) == "`grid duck problem valid cloth roof rate wealth`"


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_other_keys_have_other_words(one: bytes, other: bytes) -> None:
    """Eight of them, from the list."""
    words = key_words(text_of(one))
    assert len(words) == COUNT
    assert set(words) <= set(WORDS)
    assert (words == key_words(text_of(other))) == (one == other)


@pytest.mark.parametrize("text", ["", "A" * 42, "A" * 44, "ä" * 43, "A" * 21 + " " + "A" * 21])
def test_what_is_no_key_has_no_words(text: str) -> None:
    """Rather an error than words that mean nothing."""
    with pytest.raises(ValueError):  # noqa: PT011 - binascii's is one
        key_words(text)
