"""Who may see an answer: never more people than its question."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.mastodon.audience import LONGEST_SPOILER, language, reply_visibility, spoiler

WIDTH = {"direct": 0, "private": 1, "unlisted": 2, "public": 3}
"""https://docs.joinmastodon.org/entities/Status/#visibility, the narrowest first."""
anything = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.binary(max_size=4)
    | st.text(max_size=20)
    | st.lists(st.text(max_size=3))
    | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)
)
"""Whatever JSON, or a server that writes none, may have there."""


@given(st.sampled_from(sorted(WIDTH)) | anything)
def test_never_wider_than_asked(asked: object) -> None:
    """Of any visibility, known or not; "followers" would be the bot's, and is never used."""
    given_ = reply_visibility(asked)
    known = WIDTH.get(asked, 0) if isinstance(asked, str) else 0
    assert WIDTH[given_] <= known
    assert given_ in ("direct", "unlisted")


@pytest.mark.parametrize(
    "asked", ["private", "direct", "local", "list", "PUBLIC", "public ", "", None, 3, ["public"]]
)
def test_what_is_not_surely_open_is_answered_in_private(asked: object) -> None:
    """Followers are those of the author; `local` and `list` are Pleroma's; nearly "public" is not public."""
    assert reply_visibility(asked) == "direct"


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


@given(st.lists(st.sampled_from(["re:", "Re: ", "RE:\n", " "]), max_size=9), st.text(max_size=200))
def test_no_chain_of_marks_grows(marks: list[str], words: str) -> None:
    """However many people have marked it: one of ours, no second one behind it, and none around nothing."""
    warning = spoiler("".join(marks) + words)
    assert re.match(r"re:\s*re:", warning, re.IGNORECASE) is None
    assert not warning or (warning.startswith("re: ") and warning[4:].strip())
    assert spoiler("".join(marks)) == ""


def test_a_long_warning_says_that_it_goes_on() -> None:
    """What is left out is left out visibly."""
    assert spoiler("a" * 96) == "re: " + "a" * 96
    assert spoiler("a" * 97) == "re: " + "a" * 95 + "\u2026"


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
