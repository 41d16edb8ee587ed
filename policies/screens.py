"""Screens: what the words of a question give away, before it may leave a room. Pure.

`screen` tells which sensitive classes the words suggest. It only ever raises: what it finds joins the class
that was declared (`policies/peers.py`), and it would rather find too much. It knows words, not meanings: a
question about an illness in words that are not in `policies/words.py` passes, so it stands beside the
preview and the model, and replaces neither. `redact` takes out what identifies by its form.

Both promise: total on any text, lone surrogates too; at most linear in its length; the same answer every
time; and that accents, upper case, full-width, zero-width and look-alike characters change nothing. More
words before or after never take a class away. `redact` is idempotent. Neither keeps or logs anything.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Final

from policies import words
from policies.classes import Class
from policies.folded import fold, has_unseen
from policies.traces import Span, Trace, addresses, spans

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from policies.folded import Folded

WITHHELD: Final = "withheld"
"""Stands for a whole text that would not come to rest."""
ROUNDS: Final = 8
"""What is taken out may let something else be seen; so often at most is looked again. Usually: once."""

_WORD: Final = re.compile(r"[a-z0-9]+")
_UMLAUTS: Final = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue"})


def screen(text: str) -> frozenset[Class]:
    """The sensitive classes that the words of `text` suggest."""
    found = _classes(fold(text))
    if has_unseen(text):
        found |= _classes(fold(text, split=True))
    return found


def redact(text: str) -> tuple[str, dict[str, int]]:
    """`text` with `[email]`, `[phone]`, `[iban]`, `[handle]`, `[address]`, `[url]` for what identifies.

    Also how many of each, by name, those that there are. `[url]` is one with a password or a token in it.
    A text that still shows something new after `ROUNDS` was made to evade, and is `[withheld]` as a whole.
    """
    counts: Counter[str] = Counter()
    for _ in range(ROUNDS):
        found = _merged(fold(text), len(text))
        if not found:
            return text, dict(counts)
        counts.update(str(span.trace) for span in found)
        text = _replaced(text, found)
    if _merged(fold(text), len(text)):
        return f"[{WITHHELD}]", {WITHHELD: 1}
    return text, dict(counts)


# -- classes ---------------------------------------------------------------------------------------

_AGE: Final = (
    r"(?<![a-z0-9])(?:1[0-7]|[0-9]"
    r"|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:thir|four|fif|six|seven)teen"
    r"|twee|drie|vier|vijf|zes|zeven|acht|negen|tien|elf|twaalf|(?:der|veer|vijf|zes|zeven)tien"
    r"|ein|zwei|drei|funf|fuenf|sechs|sieben|neun|zehn|zwolf|(?:drei|vier|funf|sech|sieb)zehn"
    r"|un|deux|trois|quatre|cinq|sept|huit|neuf|dix|onze|douze|treize|quatorze|quinze|seize)"
)
_AGES: Final = tuple(
    re.compile(pattern)
    for pattern in (
        _AGE + r"(?: and a half| 1/2)?[ -]?(?:years?|yrs?)[ -]olds?(?![a-z])",
        r"(?<![a-z0-9])\d{1,2}[ -](?:months?|weeks?)[ -]olds?(?![a-z])",
        _AGE + r" ?(?:yo|y/o|y\.o\.)(?![a-z])",
        r"(?<![a-z])(?:aged?|ages|age of|turn(?:s|ed|ing)?|leeftijd van|alter von) "
        + _AGE
        + r"(?![0-9])(?! ?[%°])",
        _AGE + r"[ -]?(?:jaar[ -](?:oude?|jonge?)|jarig[a-z]{0,5})(?![a-z])",
        r"(?<![a-z])(?:ben|bin|ist|is|wordt|wird) " + _AGE + r" ?(?:jaar|jahre)(?![a-z])",
        r"(?<![a-z0-9])\d{1,2} (?:maanden|weken) oude?(?![a-z])",
        _AGE + r"[ -]?(?:jahre? (?:alt|jung)|jahr(?:ig|ling)[a-z]{0,5})",
        _AGE + r"[ -]?jaehrig",
        r"(?<![a-z0-9])\d{1,2} (?:monate|wochen) alt(?![a-z])",
        r"(?<![a-z])(?:il|elle|ils|elles|qui|j'|lui|ag(?:e|ee|es|ees)) ?(?:a|ai|ont|aura|de) "
        + _AGE
        + r" (?:ans|mois)(?![a-z])",
    )
)


@dataclass(frozen=True, slots=True)
class _Lexicon:
    """The words of one class, folded. A word is looked up by itself, by its beginnings and its ends."""

    whole: frozenset[str]
    starts: frozenset[str]
    ends: frozenset[str]
    lengths: tuple[int, ...]
    """How many letters the beginnings and ends have."""
    phrases: Mapping[str, tuple[tuple[str, ...], ...]]
    """Words in a row, by the first of them."""

    def knows(self, text: Sequence[str]) -> bool:
        """Whether a word or a phrase of this stands in `text`."""
        return any(self._has(word) for word in set(text)) or any(
            tuple(text[place : place + len(phrase)]) == phrase
            for place, word in enumerate(text)
            for phrase in self.phrases.get(word, ())
        )

    def _has(self, word: str) -> bool:
        return (
            word in self.whole
            or any(word[:length] in self.starts for length in self.lengths)
            or any(word[-length:] in self.ends for length in self.lengths)
        )


def _lexicon(languages: Mapping[str, words.Words]) -> _Lexicon:
    whole: set[str] = set()
    starts: set[str] = set()
    ends: set[str] = set()
    phrases: dict[str, set[tuple[str, ...]]] = {}
    for language, listed in languages.items():
        for word in _spellings(listed.single.split(), language):
            part = word.strip("*")
            (starts if word.endswith("*") else ends if word.startswith("*") else whole).add(part)
        for line in filter(str.strip, listed.phrases.splitlines()):
            for row in product(*(_spellings(each.split("/"), language) for each in line.split())):
                phrases.setdefault(row[0], set()).add(row)
    by_first = {first: tuple(sorted(rows)) for first, rows in phrases.items()}
    lengths = tuple(sorted({len(part) for part in starts | ends}))
    return _Lexicon(frozenset(whole), frozenset(starts), frozenset(ends), lengths, by_first)


def _spellings(listed: Iterable[str], language: str) -> Iterator[str]:
    for word in listed:
        yield fold(word).low
        if language == words.GERMAN and word.translate(_UMLAUTS) != word:
            yield fold(word.translate(_UMLAUTS)).low


_LEXICONS: Final = {
    Class.HEALTH: _lexicon(words.HEALTH),
    Class.CHILDREN: _lexicon(words.CHILDREN),
    Class.LOCATION: _lexicon(words.LOCATION),
}


def _classes(text: Folded) -> frozenset[Class]:
    found = {cls for cls, lexicon in _LEXICONS.items() if lexicon.knows(_WORD.findall(text.low))}
    if Class.CHILDREN not in found and any(age.search(text.low) for age in _AGES):
        found.add(Class.CHILDREN)
    if Class.LOCATION not in found and next(addresses(text), None) is not None:
        found.add(Class.LOCATION)
    return frozenset(found)


# -- redaction -------------------------------------------------------------------------------------

_FIRST: Final = tuple(Trace)


def _merged(text: Folded, length: int) -> list[Span]:
    """The traces of `text` as places of the original, `length` long: in order, none overlapping."""
    merged: list[Span] = []
    for start, end, trace in sorted(_original(span, text, length) for span in spans(text)):
        if merged and start < merged[-1].end:
            last = merged.pop()
            names = min(last.trace, trace, key=_FIRST.index)
            merged.append(Span(last.start, max(last.end, end), names))
        else:
            merged.append(Span(start, end, trace))
    return merged


def _original(span: Span, text: Folded, length: int) -> Span:
    """`span` in the original text, with the marks and unseen characters that belong to its last one."""
    after = text.at[span.end] if span.end < len(text.at) else length
    return Span(text.at[span.start], max(after, text.at[span.end - 1] + 1), span.trace)


def _replaced(text: str, found: Iterable[Span]) -> str:
    parts: list[str] = []
    done = 0
    for start, end, trace in found:
        parts += (text[done:start], f"[{trace}]")
        done = end
    return "".join((*parts, text[done:]))
