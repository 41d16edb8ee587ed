"""Who may see an answer: never more people than its question."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.mastodon.audience import LONGEST_SPOILER, language, reply_visibility, spoiler

WIDTH = {"direct": 0, "private": 1, "unlisted": 2, "public": 3}
"""https://docs.joinmastodon.org/entities/Status/#visibility, the narrowest first."""
anything = st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.lists(st.text(max_size=3))


@given(st.sampled_from(sorted(WIDTH)) | anything)
def test_never_wider_than_asked(asked: object) -> None:
    """Of any visibility, known or not; "followers" would be the bot's, and is never used."""
    given_ = reply_visibility(asked)
    known = WIDTH.get(asked, 0) if isinstance(asked, str) else 0
    assert WIDTH[given_] <= known
    assert given_ in ("direct", "unlisted")


@pytest.mark.parametrize("asked", ["public", "unlisted"])
def test_what_anybody_may_read_is_answered_where_they_read(asked: str) -> None:
    """A public thread stays readable, outside the timelines."""
    assert reply_visibility(asked) == "unlisted"


@given(st.text(max_size=300))
def test_a_warning_stays_and_stays_short(words: str) -> None:
    """One `re:` in front, one line, at most as long as answers are reckoned with."""
    warning = spoiler(words)
    assert len(warning) <= LONGEST_SPOILER
    assert "\n" not in warning
    assert spoiler(warning) == warning
    if words.strip().isalnum() and words.isascii():
        assert warning.startswith("re: " + words.strip()[:90])


@pytest.mark.parametrize("before", ["food", "re: food", "Re: RE:  food", "re:food"])
def test_a_warning_is_marked_once(before: str) -> None:
    """However often people have answered each other."""
    assert spoiler(before) == "re: food"


@given(anything)
def test_a_warning_that_is_none_is_none(asked: object) -> None:
    """Only words are a warning."""
    if not isinstance(asked, str):
        assert spoiler(asked) == ""


@given(anything)
def test_a_language_is_a_code(told: object) -> None:
    """What the question says if it says one, else what the settings say; `pt-BR` is `pt`."""
    found = language({"language": told}, "de")
    assert found == "de" or (isinstance(told, str) and told.startswith(found) and 2 <= len(found) <= 3)
    assert language({"language": "pt-BR"}, "de") == "pt"
    assert language({}, "de") == "de"
