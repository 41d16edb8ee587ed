"""What is posted: no handle that resolves, no post that is too long, and no word lost."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import regex
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.mastodon.length import measure
from bridge.mastodon.markdown import plain
from bridge.mastodon.render import MOST_PARTS, neutralise, parts
from tests.mastodon.posts import HOME

OFFER = "Reply “more” for the rest."
RAW = replace(HOME, counts_raw=True)

MENTION = re.compile(r"(?<![=/\w])@[a-z0-9_]+(?:[a-z0-9_.-]+[a-z0-9_]+)?(?:@[\w.-]+\w+)?", re.IGNORECASE)
"""Mastodon's `Account::MENTION_RE` (app/models/account.rb): what it takes for a handle."""
LINK = re.compile(r"https://[a-z.]+/[\w./?=%-]*\w")

handle = st.sampled_from(
    [
        "@bob",
        "@bob@far.example",
        "(@bob)",
        ".@bob",
        "a.@bob.example",
        "x-@bob.de",
        "\uff20bob",
        "@@bob",
        "@bob@bob.de",
    ]
)
word = st.sampled_from(
    [
        "tea", "garden,", "mother's",
        "👩‍👩‍👧‍👦", "e\u0301", "🇩🇪", "ü", "ok.", "why?", "\n\n", "\n", "**bold**", "`code`",
        "mail bob@far.example now", "https://far.example/@bob/1",
        "https://a.io/x?y=1", "# head\n", "- point\n",
        "[link](https://far.example/a)", "```\nprint('@bob')\n```\n", "1. one\n", "> quote\n", "x" * 90,
    ]
)  # fmt: skip
texts = st.lists(word | handle | st.text(max_size=8), max_size=150).map(" ".join)


@given(texts)
@example("hi.@bob.example")
@example("https://far.example/@bob")
def test_no_handle_resolves(text: str) -> None:
    """By the rule that the server itself uses; e-mail addresses are none, and stay."""
    out = neutralise(text)
    assert MENTION.search(out) is None
    assert out.replace("\u200b", "").replace("%40", "@") == text.replace("\u200b", "").replace("%40", "@")


def test_an_address_and_a_link_still_work() -> None:
    """Only what calls somebody is broken."""
    assert neutralise("write to bob.b@far.example") == "write to bob.b@far.example"
    assert neutralise("see https://far.example/@bob/1") == "see https://far.example/%40bob/1"


@given(texts, st.integers(120, 500))
def test_every_post_fits_and_no_word_is_lost(text: str, room: int) -> None:
    """At most six, numbered, each within its room as readers count; what is left is given back."""
    cut = parts(text, room, HOME, offer=OFFER)
    assert 1 <= len(cut.shown) <= MOST_PARTS
    for part in cut.shown:
        assert _readers_count(part) <= measure(part, HOME) <= room
    if len(cut.shown) > 1:
        numbers = [re.search(r" \((\d)/(\d)\)$", part) for part in cut.shown]
        assert [(int(one[1]), int(one[2])) for one in numbers if one] == [
            (at, len(cut.shown)) for at in range(1, len(cut.shown) + 1)
        ]
    assert bool(cut.rest) == any(OFFER in part for part in cut.shown)
    shown = "".join(re.sub(r" \(\d/\d\)$", "", part).removesuffix(OFFER) for part in cut.shown)
    if len(cut.shown) == 1:
        shown = cut.shown[0]
    assert _letters(shown) + _letters(neutralise(plain(cut.rest))) == _letters(neutralise(plain(text)))


@given(texts)
def test_a_server_that_counts_every_sign_is_believed(text: str) -> None:
    """Takahe and GoToSocial count code points, and links in full."""
    for part in parts(text, 200, RAW, offer=OFFER).shown:
        assert len(part) <= 200


def _readers_count(text: str) -> int:
    """Grapheme clusters, a link as 23: as https://docs.joinmastodon.org/user/posting/#text says."""
    return len(regex.findall(r"\X", LINK.sub("x" * 23, text)))


def _letters(text: str) -> str:
    return "".join(re.findall(r"\w", text))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("tea", 3),
        ("e\u0301", 1),
        ("👩‍👩‍👧‍👦", 1),
        ("🇩🇪", 1),
        ("https://far.example.com/a/very/long/path/that/goes/on", 23),
        ("https://far.example.com see", 27),
        ("https://a.museum", 39),
        ("@ada@far.example tea", 8),
        ("@ada tea", 8),
        ("bob@far.example", 15),
    ],
)
def test_a_post_is_measured_as_the_server_does(text: str, count: int) -> None:
    """A link counts 23, a mention without its domain, a cluster once."""
    assert measure(text, HOME) == count


def test_a_short_answer_is_one_post_without_a_number() -> None:
    """Nobody counts to one."""
    assert parts("At **nine**.", 400, HOME, offer=OFFER).shown == ("At nine.",)
