"""Transcripts as the files that people ask for."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.transcript import FORMS, MEDIA_TYPES, Segment, Transcript, Word, clock, paragraphs, render

MEETING = Transcript(
    (
        Segment(0.0, 2.5, "Good evening.", language="en"),
        Segment(3.0, 6.04, " We begin <now> --> & *here*.", doubtful=True, language="en"),
        Segment(3725.5, 3727.0, "Auf Wiedersehen.", language="de", words=(Word(3725.5, 3726.0, "Auf", 0.9),)),
    ),
    "en",
    3730.0,
)


def test_text() -> None:
    """`text` is the words and nothing else."""
    assert render(MEETING, "text") == "Good evening. We begin <now> --> & *here*. Auf Wiedersehen.\n"


def test_srt() -> None:
    """Numbered subtitles with a comma in the times; an arrow in the words cannot break them."""
    assert render(MEETING, "srt") == (
        "1\n00:00:00,000 --> 00:00:02,500\nGood evening.\n\n"
        "2\n00:00:03,000 --> 00:00:06,040\nWe begin <now> -> & *here*.\n\n"
        "3\n01:02:05,500 --> 01:02:07,000\nAuf Wiedersehen.\n\n"
    )


def test_vtt() -> None:
    """WebVTT with the speaker where known, and words that are no markup."""
    assert render(MEETING, "vtt", {"speaker": "Ada & Ben"}) == (
        "WEBVTT\n\n"
        "00:00:00.000 --> 00:00:02.500\n<v Ada &amp; Ben>Good evening.\n\n"
        "00:00:03.000 --> 00:00:06.040\n<v Ada &amp; Ben>We begin &lt;now&gt; --&gt; &amp; *here*.\n\n"
        "01:02:05.500 --> 01:02:07.000\n<v Ada &amp; Ben>Auf Wiedersehen.\n\n"
    )


def test_markdown() -> None:
    """Front matter, a time and the speaker at each paragraph, doubt marked, words that are no markup."""
    about = {"title": 'The "garden": a talk', "date": "2026-11-23", "speaker": "Ada", "room": ""}
    assert render(MEETING, "md", about) == (
        "---\n"
        'title: "The \\"garden\\": a talk"\n'
        'date: "2026-11-23"\n'
        'speaker: "Ada"\n'
        'language: "en"\n'
        'duration: "1:02:10"\n'
        "---\n\n"
        "[0:00] **Ada:** Good evening. (?) We begin \\<now\\> --\\> & \\*here\\*.\n\n"
        "[1:02:05] **Ada:** Auf Wiedersehen.\n"
    )


def test_txt() -> None:
    """Paragraphs to read, doubt marked."""
    assert render(MEETING, "txt") == ("Good evening. (?) We begin <now> --> & *here*.\n\nAuf Wiedersehen.\n")
    assert render(MEETING, "txt", {"speaker": "Ada"}).startswith("Ada: Good evening.")


def test_json() -> None:
    """`json` is the words with what is said about them, `verbose_json` has segments and words."""
    assert json.loads(render(MEETING, "json", {"usage": {"seconds": 1}})) == {
        "text": MEETING.text,
        "usage": {"seconds": 1},
    }
    whole = json.loads(render(MEETING, "verbose_json"))
    assert whole["segments"][1] == {
        "id": 1,
        "start": 3.0,
        "end": 6.04,
        "text": " We begin <now> --> & *here*.",
        "language": "en",
        "doubtful": True,
    }
    assert whole["words"] == [{"word": "Auf", "start": 3725.5, "end": 3726.0, "probability": 0.9}]
    assert (whole["duration"], whole["language"]) == (3730.0, "en")


def test_paragraphs() -> None:
    """A pause or a minute begins a paragraph."""
    steady = Transcript(tuple(Segment(at, at + 1.0, f"s{at}") for at in range(100)))
    assert [start for start, _ in paragraphs(steady)] == [0, 60]
    paused = Transcript((Segment(0, 1, "a"), Segment(3, 4, "b"), Segment(6.1, 7, "c"), Segment(7, 8, " ")))
    assert paragraphs(paused) == [(0, "a b"), (6.1, "c")]


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.9, "0:59"), (125, "2:05"), (3725, "1:02:05")])
def test_clock(seconds: float, text: str) -> None:
    """Time as people read it."""
    assert clock(seconds) == text


@given(
    st.lists(
        st.builds(
            lambda start, length, text: Segment(start, start + length, text),
            st.floats(0, 1e5),
            st.floats(0, 100),
            st.text(max_size=20),
        ),
        max_size=5,
    )
)
def test_no_words_break_a_form(segments: list[Segment]) -> None:
    """Whatever was said, every form can be written, subtitles have as many cues as words, each lasts."""
    transcript = Transcript(tuple(segments), "en", 9.0)
    said = [one for one in segments if one.text.split()]
    assert all(render(transcript, form) is not None for form in FORMS)
    for form, point in (("srt", ","), ("vtt", r"\.")):
        stamp = rf"\d{{2,}}:\d\d:\d\d{point}\d{{3}}"
        cues = re.findall(rf"^({stamp}) --> ({stamp})$", render(transcript, form), re.MULTILINE)
        assert len(cues) == len(said)
        assert all(begin != end for begin, end in cues)


def test_forms_are_known() -> None:
    """Another form is a mistake of ours; every media type belongs to a form."""
    with pytest.raises(KeyError):
        render(MEETING, "docx")
    assert set(MEDIA_TYPES) <= set(FORMS)
    assert render(Transcript(), "md") == '---\nduration: "0:00"\n---\n'
