"""What goes out to another community, without who it is about: traces, and the names of members. Pure.

`policies/screens.py` takes out what identifies by its form (mail, phone, IBAN, address, handle, secrets in a
URL); here the names that are known join it. A name is its words: "Ada van Loon" is found as a whole, as "Ada"
and as "Loon" (not as "van"), however it is typed (`policies/folded.py`), with or without a genitive `s`.
It errs towards taking out: a member called Will costs a question its "will", and whoever asks sees so in
the preview. A single letter names nobody.

Promises: total on any text; linear in it; idempotent; no listed name stands in what is left; one person is
one number throughout a text, in the order in which they appear.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from policies import screens
from policies.folded import fold, has_unseen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from policies.folded import Folded

NAME: Final = "name"
"""The word, with a number after it, that stands for a person."""
MOST_WORDS: Final = 8
"""Words of a name that are looked at as one; a longer one is found by these, and by each."""
LONGEST_WITHIN: Final = 16
"""Letters of a name that are looked at in a script without spaces."""
_PLACED: Final = re.compile(
    rf"\[(?:email|phone|iban|handle|address|url|{screens.WITHHELD}|{NAME} [1-9][0-9]{{0,5}})\]"
)
"""What stands for something already; a member called Phone finds nothing here."""
_WORD: Final = re.compile(r"[^\W_]+")
_JOINED: Final = re.compile(r"[ .'_-]{1,3}")
"""What may stand between two words of one name."""
_PARTICLES: Final = frozenset(
    (  # noqa: SIM905 - to be read by line
        "a al and at bin by da das de del den der des di do dos du e el en et het ibn in la las le les "
        "los of on or s st t te ten ter the to und van vom von y za zu zum zur "
    ).split()
)
_LEAST_GENITIVE: Final = 3
"""Letters of a name whose genitive is looked for without an apostrophe ("Adas Rad")."""
_UNSPACED: Final = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "THAI", "LAO", "KHMER", "MYANMAR")
"""Scripts in which a name is not parted from what follows it, by how Unicode calls their letters."""


class _Found(NamedTuple):
    start: int
    end: int
    person: int


class _Names(NamedTuple):
    """The rows of words that name somebody, with whom; and those of scripts without spaces."""

    rows: Mapping[tuple[str, ...], int]
    within: Mapping[str, int]
    lengths: tuple[int, ...]
    """Of those in `within`, the longest first."""


def redact(text: str, names: Iterable[str] = ()) -> tuple[str, dict[str, int]]:
    """`text` without traces and without `names` (display names of members); and how many of each kind.

    `[name 1]` stands for a person, `[email]` and so on for a trace. A text that still shows something new
    after `screens.ROUNDS` was made to evade, and is `[withheld]` as a whole.
    """
    known = _names_of(tuple(dict.fromkeys(names)))
    counts: Counter[str] = Counter()
    for _ in range(screens.ROUNDS):
        text, traces = screens.redact(text)
        counts.update(traces)
        without, found = _without_names(text, known)
        if not found:
            return text, dict(counts)
        counts[NAME] += found
        text = without
    return f"[{screens.WITHHELD}]", {screens.WITHHELD: 1}


# -- the names -------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _names_of(names: tuple[str, ...]) -> _Names:
    rows: dict[tuple[str, ...], int] = {}
    within: dict[str, int] = {}
    for person, name in enumerate(names):
        whole = tuple(_WORD.findall(fold(name).low))[:MOST_WORDS]
        alone = [(word,) for word in whole if word not in _PARTICLES]
        for row in (whole, *alone):
            if sum(map(len, row)) > 1:
                rows.setdefault(row, person)
            if len(row) == 1 and len(row[0]) > 1 and _is_unspaced(row[0]):
                within.setdefault(row[0][:LONGEST_WITHIN], person)
    return _Names(rows, within, tuple(sorted({len(one) for one in within}, reverse=True)))


def _is_unspaced(word: str) -> bool:
    return any(unicodedata.name(char, "").startswith(_UNSPACED) for char in word)


# -- where they stand ------------------------------------------------------------------------------


def _without_names(text: str, names: _Names) -> tuple[str, int]:
    """`text` with a number for each person in it, and how often one stood there."""
    if not names.rows:
        return text, 0
    found = _apart(_places(text, names))
    used = {int(number) for number in re.findall(rf"\[{NAME} ([1-9][0-9]{{0,5}})\]", text)}
    free = (number for number in range(1, len(text) + 2) if number not in used)
    numbers: dict[int, int] = {}
    parts: list[str] = []
    done = 0
    for start, end, person in found:
        if person not in numbers:
            numbers[person] = next(free)
        parts += (text[done:start], f"[{NAME} {numbers[person]}]")
        done = end
    return "".join((*parts, text[done:])), len(found)


def _places(text: str, names: _Names) -> Iterator[_Found]:
    """Every name as a place of `text`, in no order; they may overlap."""
    placed = [match.span() for match in _PLACED.finditer(text)]
    pieces = zip([0, *(end for _, end in placed)], [*(start for start, _ in placed), len(text)], strict=True)
    for start, end in pieces:
        piece = text[start:end]
        folds = [fold(piece), *([fold(piece, split=True)] if has_unseen(piece) else [])]
        for folded in folds:
            for one in _in(folded, names):
                after = folded.at[one.end] if one.end < len(folded.at) else len(piece)
                last = max(after, folded.at[one.end - 1] + 1)
                yield _Found(start + folded.at[one.start], start + last, one.person)


def _in(text: Folded, names: _Names) -> Iterator[_Found]:
    words = list(_WORD.finditer(text.low))
    for at in range(len(words)):
        row: tuple[str, ...] = ()
        for last in range(at, min(at + MOST_WORDS, len(words))):
            if last > at and not _JOINED.fullmatch(text.low, words[last - 1].end(), words[last].start()):
                break
            row = (*row, words[last][0])
            person = names.rows.get(row, names.rows.get(_nominative(row)))
            if person is not None:
                yield _Found(words[at].start(), words[last].end(), person)
    for at in range(len(text.low) if names.within else 0):
        for length in names.lengths:
            person = names.within.get(text.low[at : at + length])
            if person is not None:
                yield _Found(at, at + length, person)


def _nominative(row: tuple[str, ...]) -> tuple[str, ...]:
    """A row without the `s` of a genitive, if it has one."""
    last = row[-1]
    if last.endswith("s") and len(last) > _LEAST_GENITIVE:
        return (*row[:-1], last[:-1])
    return row


def _apart(found: Iterable[_Found]) -> list[_Found]:
    """In order, those that overlap as one: the person of the longest that begins first."""
    apart: list[_Found] = []
    for one in sorted(found, key=lambda each: (each.start, -each.end)):
        if apart and one.start < apart[-1].end:
            last = apart.pop()
            one = last._replace(end=max(last.end, one.end))  # noqa: PLW2901 - the two as one
        apart.append(one)
    return apart
