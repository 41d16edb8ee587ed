"""A text as it is read, not as it is encoded: for rules that must not be evaded by how a word is typed.

Accents, upper case, full-width, zero-width and look-alike characters, other scripts' digits and runs of
white space all go. Promises: total on any text, lone surrogates too; linear in its length (each character
is folded alone, because `unicodedata.normalize` of a whole text sorts its marks, which is quadratic in a
long row of them); and `fold(a + " " + b)` begins as `fold(a)` does, so that adding words hides none.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

_APOSTROPHES: Final = dict.fromkeys("\u2018\u2019\u201b\u02bc\u2032\uff07", "'")
# Letters that have no decomposition (UAX #15), and those of other scripts that look Latin (UTS #39).
_LETTERS: Final = {
    **dict(zip("øØłŁđĐıð", "oOlLdDid", strict=True)),
    **{"ß": "ss", "ẞ": "SS", "þ": "th"},  # noqa: PIE800 - one kind a line
    **{"æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE"},  # noqa: PIE800
    **dict(zip("авекмнорстухіјѕһԁԛԝ", "abekmhopctyxijshdqw", strict=True)),
    **dict(zip("АВЕКМНОРСТУХІЈЅҺ", "ABEKMHOPCTYXIJSH", strict=True)),
    **dict(zip("αεικνορτυχ", "aeikvoptux", strict=True)),
    **dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "ABEZHIKMNOPTYX", strict=True)),  # noqa: RUF001 - ambiguous is why they are here
}
_FILLERS: Final = "\u115f\u1160\u3164\uffa0\u2800"
"""Letters and symbols that are drawn as nothing."""
_SOFT_HYPHEN: Final = "\xad"
_MARKS: Final = ("Mn", "Me")
_MOST_PARTS: Final = 4
"""Characters that one can stand for, as in "⒇"; an Arabic ligature would make 18 of one."""


@dataclass(frozen=True, slots=True)
class Folded:
    """A folded text, `cased` and in lower case (`low`), of one length.

    `at` has, for each of its characters, the place in the original of the character that it comes from.
    """

    cased: str
    low: str
    at: list[int]


def fold(text: str, *, split: bool = False) -> Folded:
    """`text` folded. `split`: what has no width parts two words, rather than being nothing."""
    cased: list[str] = []
    at: list[int] = []
    last = " "
    for place, char in enumerate(text):
        for part in _parts(char, split=split):
            if part == last == " ":
                continue
            cased.append(part)
            at.append(place)
            last = part
    whole = "".join(cased)
    return Folded(whole, "".join(map(_lower, whole)), at)


def has_unseen(text: str) -> bool:
    """Whether `fold(text, split=True)` may differ from `fold(text)`."""
    return any(_is_unseen(char) for char in text)


@lru_cache(maxsize=4_096)
def _parts(char: str, *, split: bool) -> str:
    if _is_unseen(char):
        return " " if split and char != _SOFT_HYPHEN else ""
    return "".join(map(_part, unicodedata.normalize("NFKD", char)[:_MOST_PARTS]))


def _part(char: str) -> str:
    if char.isspace():
        return " "
    category = unicodedata.category(char)
    if category in _MARKS or _is_unseen(char):
        return ""
    if category == "Nd":
        return str(unicodedata.decimal(char))
    if category == "Pd" or char == "\u2212":
        return "-"
    return _APOSTROPHES.get(char) or _LETTERS.get(char, char)


def _is_unseen(char: str) -> bool:
    """Controls, formats, surrogates, characters that do not exist, and fillers."""
    return char in _FILLERS or (unicodedata.category(char)[0] == "C" and not char.isspace())


def _lower(char: str) -> str:
    # One for one, so that `low` and `cased` have the same places.
    low = char.lower()
    return low if len(low) == 1 else char
