"""What is posted: no handle that resolves, no post that is too long, and no word lost."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import regex
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.mastodon.length import atoms, measure
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

clusters = st.sampled_from(["a", "\u00fc", "e\u0301", "\u8a9e", "👩‍👩‍👧‍👦", "🇩🇪", "👍🏽", "☝️", "1️⃣"])


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
    shown = "".join(_words(part, whole=len(cut.shown) == 1) for part in cut.shown)
    assert shown + _letters(neutralise(plain(cut.rest))) == _letters(neutralise(plain(text)))


@given(texts, st.integers(120, 500))
def test_no_post_calls_anybody(text: str, room: int) -> None:
    """Nor where it was cut: the only mention is the one that is put in front."""
    for part in parts(text, room, HOME, offer=OFFER).shown:
        assert [one[0] for one in MENTION.finditer(f"@ada {part}")] == ["@ada"]


@given(st.lists(clusters, max_size=700).map("".join), st.integers(120, 300))
def test_what_readers_take_for_one_character_stays_one(text: str, room: int) -> None:
    """A family or a flag is never torn apart between two posts, with no space to cut at either."""
    cut = parts(text, room, HOME, offer=OFFER)
    shown = [re.sub(r" \(\d/\d\)$", "", part).removesuffix(f"\n\n{OFFER}") for part in cut.shown]
    seen = [one for part in (*shown, plain(cut.rest)) for one in regex.findall(r"\X", part)]
    assert seen == regex.findall(r"\X", text)
    assert all(_readers_count(part) <= room for part in cut.shown)


@given(texts, st.integers(150, 500))
def test_what_was_held_back_comes_next(text: str, room: int) -> None:
    """Asked for more and more, every word has been said in the end, once and in order."""
    said, rest = "", text
    for _ in range(20):
        cut = parts(rest, room, HOME, offer=OFFER)
        whole = len(cut.shown) == 1
        said += "".join(_words(part, whole=whole) for part in cut.shown)
        rest = cut.rest
        if not rest:
            break
    assert not rest
    assert said == _letters(neutralise(plain(text)))


def test_a_chain_is_full_before_it_goes_on() -> None:
    """No more posts than it takes: each has all the sentences that fit, and ends with one."""
    sentences = " ".join(f"This is sentence number {number:03}." for number in range(39))
    shown = parts(sentences, 400, HOME, offer=OFFER).shown
    assert len(shown) == 3
    assert all(re.search(r"\d{3}\. \(\d/3\)$", part) for part in shown)


@given(texts)
def test_a_server_that_counts_every_sign_is_believed(text: str) -> None:
    """Takahe and GoToSocial count code points, and links in full."""
    for part in parts(text, 200, RAW, offer=OFFER).shown:
        assert len(part) <= 200


def _readers_count(text: str) -> int:
    """Grapheme clusters, a link as 23: as https://docs.joinmastodon.org/user/posting/#text says."""
    return len(regex.findall(r"\X", LINK.sub("x" * 23, text)))


def _words(part: str, *, whole: bool) -> str:
    """The letters of a post, without its number and the offer; `whole`: it has neither."""
    return _letters(part if whole else re.sub(r" \(\d/\d\)$", "", part).removesuffix(OFFER))


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
        ("🇩🇪🇫🇷", 2),
        ("👍🏽👍", 2),
        ("1️⃣", 1),
        ("한국", 2),
        ("https://far.example.com/a/very/long/path/that/goes/on", 23),
        ("https://far.example.com see", 27),
        ("https://a.museum", 39),
        ("@ada@far.example tea", 8),
        ("@ada tea", 8),
        ("@ada@far.example:8080 tea", 8),
        ("(https://far.example.com/a)", 25),
        ("bob@far.example", 15),
    ],
)
def test_a_post_is_measured_as_the_server_does(text: str, count: int) -> None:
    """A link counts 23, a mention without its domain, a cluster once."""
    assert measure(text, HOME) == count


@pytest.mark.parametrize("text", ["@ada@far.example", "https://far.example.com/a/b", "e\u0301", "👩‍👩‍👧‍👦"])
def test_where_signs_are_counted_nothing_is_cheap(text: str) -> None:
    """Takahe and GoToSocial count code points: no link and no mention is shorter than it is written."""
    assert measure(text, RAW) == len(text)


def test_another_price_of_links_is_believed() -> None:
    """`characters_reserved_per_url` is the server's to say."""
    assert measure("https://far.example.com/a", replace(HOME, characters_per_url=30)) == 30


@given(st.text(max_size=200) | texts)
def test_the_pieces_are_the_text(text: str) -> None:
    """What is measured piece by piece is what is cut, nothing more and nothing less."""
    for instance in (HOME, RAW):
        assert "".join(atom for atom, _ in atoms(text, instance)) == text
    assert measure(text, HOME) >= len(regex.findall(r"\X", LINK.sub("x" * 23, MENTION.sub("@", text))))


def test_a_short_answer_is_one_post_without_a_number() -> None:
    """Nobody counts to one."""
    assert parts("At **nine**.", 400, HOME, offer=OFFER).shown == ("At nine.",)
