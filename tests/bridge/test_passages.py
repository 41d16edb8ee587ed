"""A note is cut where it says something new, cites just its lines, and is found by what it is about."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.passages import LONGEST, best, covered, cut, lines_of, rarity_of, terms, words_of

NOTE = """---
title: The pool
---
# Pool

In Mill Street.

## Opening hours ##

Tuesday to Sunday, from nine.

Prices
------

A ticket costs four euros.
# Library
Ten to six.
"""


def test_a_note_is_cut_at_its_headings() -> None:
    """Front matter apart, each heading with what is under it, and where it stands."""
    assert [(one.first, one.last, one.trail) for one in cut(NOTE)] == [
        (1, 3, ()),
        (4, 6, ("Pool",)),
        (8, 10, ("Pool", "Opening hours")),
        (12, 15, ("Pool", "Prices")),
        (16, 17, ("Library",)),
    ]


def test_what_looks_like_a_heading_in_code_is_none() -> None:
    """A fence, a quote and a list are parts of their section."""
    note = "# A\n```\n# not one\n```\n> # nor this\n- # nor this\n"
    assert [(one.first, one.last, one.trail) for one in cut(note)] == [(1, 6, ("A",))]


def test_long_sections_are_cut_between_blocks_else_between_lines() -> None:
    """A paragraph stays whole where it can; one line is never cut."""
    note = "# A\n\n" + "\n\n".join(f"{n} " + "word " * 100 for n in range(5))
    pieces = cut(note)
    assert [one.text.split()[0] for one in pieces] == ["#", "2", "4"]
    assert all(len(one.text) <= LONGEST for one in pieces)
    wall = "\n".join("word " * 40 for _ in range(30)) + "\n" + "x" * 5_000
    lengths = [len(one.text) for one in cut(wall)]
    assert lengths[-1] == 5_000
    assert all(length <= LONGEST for length in lengths[:-1])


markdown = st.lists(
    st.sampled_from(
        ["# A", "## B", "C\n===", "", "", "- item", "> quote", "```", "    code", "---", "word " * 99]
    )
    | st.text(max_size=30)
).map("\n".join)


@given(markdown | st.text())
def test_a_passage_is_the_lines_that_it_cites(note: str) -> None:
    """And all passages together are the note, but for blank lines."""
    lines = lines_of(note)
    after = 0
    for piece in cut(note):
        assert after < piece.first <= piece.last <= len(lines)
        assert piece.text == "\n".join(lines[piece.first - 1 : piece.last])
        assert not any(line.strip() for line in lines[after : piece.first - 1])
        after = piece.last
    assert not any(line.strip() for line in lines[after:])


@pytest.mark.parametrize(
    ("question", "about"),
    [
        ("When does the pool open?", True),
        ("does it OPEN on tuesdays", True),
        ("Wann ist das geöffnet, Tuesday oder Sunday?", True),
        ("Tell me a joke about pirates", False),
        ("When does the museum open?", False),
        ("what is it and when will they be there?", False),
        ("", False),
        ('" OR * NEAR(', False),
    ],
)
def test_a_question_finds_what_it_is_about(question: str, *, about: bool) -> None:
    """Rare words count, everyday words do not, and one of three is not enough."""
    passages = [f"{' '.join(one.trail)} {one.text}" for one in cut(NOTE)] + ["The library opens on Sunday."]
    wanted = terms(question)

    def count(term: object) -> int:
        return sum(covered([term], {term: 1.0}, one) > 0 for one in passages)  # type: ignore[list-item,dict-item]

    rarity = rarity_of(wanted, len(passages), count)
    found = best([(covered(wanted, rarity, one), one) for one in passages], 3)
    assert any("nine" in one for one in found) is about


@given(st.text(), st.text())
def test_coverage_is_total(question: str, text: str) -> None:
    """Never raises, is a share; a text has all of its own words."""
    wanted = terms(question)
    rarity = dict.fromkeys(wanted, 1.0)
    assert 0.0 <= covered(wanted, rarity, text) <= 1.0
    if wanted:
        assert covered(wanted, rarity, question) == 1.0


def test_words_are_as_the_index_has_them() -> None:
    """Lower case, without accents."""
    assert words_of("Öffnungszeiten: Café, ÉTÉ!") == ["offnungszeiten", "cafe", "ete"]
