"""What was heard, written down: it stays words, and nothing of it is lost."""

from __future__ import annotations

import re
from html import unescape

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bots import heard
from bots.commands import visible
from bridge.matrix.render import to_html, words
from models.transcript import DOUBT, Segment, Transcript

ATTACKS = (
    "@room come here",
    "@ada:home.example",
    "[Ada](https://matrix.to/#/@ada:home.example)",
    "<https://matrix.to/#/@ada:home.example>",
    "https://matrix.to/#/@ada:home.example",
    "![x](https://away.example/x.png)",
    "**bold** _em_ `code` ~~gone~~ # head",
    "a | b\n--- | ---\n1 | 2",
    "x\n\n> quote\n\n- list\n\n```\nfence",
    "<b>bold</b> &amp; \\",
    "[x]: https://away.example",
    "1. one",
    "2026) year",
    "+ plus",
    "===",
    "\u202e\u2028# head",
)
spoken = st.text() | st.builds("".join, st.lists(st.sampled_from(ATTACKS) | st.text(max_size=4), max_size=5))
TAG = re.compile(r"<[^>]*>")


def shown_by(html: str) -> str:
    return " ".join(unescape(TAG.sub(" ", html)).split())


@given(st.lists(spoken, min_size=1, max_size=4), spoken)
@example(list(ATTACKS), "")
def test_a_quote_is_words_and_nothing_else(texts: list[str], title: str) -> None:
    """Whatever was said, clients show one block quote of paragraphs: no mention, link or formatting."""
    quoted = heard.quote([heard.plain(text) for text in texts], title)
    html = to_html(quoted)
    assert {tag.strip("</>") for tag in TAG.findall(html)} == {"blockquote", "p"}
    assert html.count("<blockquote>") == 1
    assert html.count("<p>") <= len(texts)
    content = words(quoted)
    assert content["m.mentions"] == {}
    for text in (content["body"], shown_by(html)):
        assert not re.search(r"@\w|://", text)


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "S", "Zs"])))
def test_a_quote_shows_every_word(text: str) -> None:
    """What is escaped shows as it was said; calls and addresses of pages only get a space."""
    shown = shown_by(to_html(f"> x{heard.plain(text)}"))
    assert "".join(shown.split()) == "".join(f"x{visible(text)}".split())


def segment(at: float, last: float, text: str, *, doubtful: bool = False, language: str = "") -> Segment:
    return Segment(at, at + last, text, doubtful, language)


steps = st.lists(
    st.tuples(
        st.floats(0, 20),
        st.floats(0, 28),
        st.lists(st.sampled_from(["who", "when", "the", "shop", "three"]), max_size=40),
        st.booleans(),
        st.sampled_from(["", "en", "de"]),
    ),
    max_size=30,
)


@st.composite
def transcripts(draw: st.DrawFn) -> Transcript:
    at, segments = 0.0, []
    for pause, last, said, doubtful, language in draw(steps):
        at += pause
        segments.append(segment(at, last, " ".join(said), doubtful=doubtful, language=language))
        at += last
    return Transcript(tuple(segments), "en", at)


@given(transcripts())
def test_passages_are_all_of_it_in_order(transcript: Transcript) -> None:
    """Every word is in exactly one passage, times only grow, and none is longer than it should be."""
    passages = heard.passages(transcript)
    said = " ".join(one.text for passage in passages for one in passage.segments)
    assert said == transcript.text
    starts = [one.start for one in passages]
    assert starts == sorted(starts)
    for one in passages:
        assert len(one.segments) == 1 or one.segments[-1].end - one.start <= heard.PASSAGE
        assert len({part.language for part in one.segments}) == 1
        assert one.text.count(DOUBT) == sum(part.doubtful for part in one.segments)


@given(transcripts())
def test_each_line_has_its_time(transcript: Transcript) -> None:
    """A line begins with the time of its passage, and with the language where that is another one."""
    for line, passage in zip(heard.lines(transcript), heard.passages(transcript), strict=True):
        mark = re.match(r"\[(\d+):(\d\d)( \w+)?\] ", line)
        assert mark is not None
        assert int(mark[1]) * 60 + int(mark[2]) == int(passage.start)
        assert (mark[3] is None) == (passage.segments[0].language in ("en", ""))


@given(transcripts(), st.floats(30, 600))
def test_sections_are_all_of_it_in_order(transcript: Transcript, seconds: float) -> None:
    """Sections hold every word once; a section that is too long is one passage."""
    sections = heard.sections(transcript, seconds)
    assert " ".join(one.text for section in sections for one in section) == transcript.text
    passages = {one.segments for one in heard.passages(transcript)}
    for section in sections:
        assert section[-1].end - section[0].start <= seconds or section in passages


@given(transcripts())
def test_halves_are_all_of_it_and_come_to_an_end(transcript: Transcript) -> None:
    """Halving a section again and again ends in single words, none of them lost, in time's order."""
    waiting = [section[::1] for section in heard.sections(transcript, 1e9)][::-1]
    words_, rounds = [], 0
    starts = []
    while waiting:
        rounds += 1
        section = waiting.pop()
        parts = heard.halves(section)
        if parts is None:
            words_ += section[0].text.split()
            starts.append(section[0].start)
        else:
            waiting += parts[::-1]
    assert words_ == transcript.text.split()
    assert rounds <= 2 * len(words_) + 1
    assert starts == sorted(starts)


def test_a_section_is_cut_at_its_longest_pause() -> None:
    """Of the pauses in the middle half the longest; those near the ends would leave a crumb."""
    times = (0, 90, 94, 100, 103, 106, 140, 142)
    section = tuple(segment(at, 2, "word") for at in times)
    first, second = heard.halves(section) or ((), ())
    assert (len(first), len(second)) == (6, 2)
    assert first + second == section


@pytest.mark.parametrize(
    ("said", "rest"),
    [
        ("> \U0001f399 when\n\nAt nine.", "At nine."),
        ("> \U0001f399 1:02: [0:00] when\n>\n> [0:31] where\n\n> so", "> so"),
        ("> \U0001f399 when", ""),
        ("> \U0001f399 0:12: when\n>\n> where", ""),
        ("> when\n\nAt nine.", "> when\n\nAt nine."),
        ("At nine.", "At nine."),
        ("", ""),
    ],
)
def test_what_we_said_is_told_from_what_we_heard(said: str, rest: str) -> None:
    """The quote before an answer goes; other quotes stay."""
    assert heard.without_heard(said) == rest


@given(
    st.lists(spoken, min_size=1, max_size=3), st.text(min_size=1).filter(lambda text: text[0] not in "\n>")
)
def test_an_answer_survives_its_quote(texts: list[str], answer: str) -> None:
    """Whatever was heard, taking the quote off leaves exactly the answer."""
    quoted = heard.quote([heard.plain(text) for text in texts])
    assert heard.without_heard(f"{quoted}\n\n{answer}") == answer


def test_opening_is_never_empty() -> None:
    """As many lines as fit, and the first one in any case."""
    lines = ["a" * 10, "b" * 10, "c"]
    assert heard.opening(lines, 5) == lines[:1]
    assert heard.opening(lines, 20) == lines[:2]
    assert heard.opening(lines, 99) == lines
