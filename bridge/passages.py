"""A note cut into passages, and which of them a question is about. Pure.

    # Pool            lines 1-4    Pool
    ## Hours          lines 5-9    Pool > Hours

Promises that a passage is just the lines that it cites, that the passages of a note are all of its lines but
blank ones at their ends, and that what shares only everyday words with a question is not found.

Source: CommonMark 0.31 for what a heading is; line numbers are those of its blocks (`markdown-it-py`).
"""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final, TypeVar

from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

T = TypeVar("T")

LONGEST: Final = 1_200
"""Characters of a passage, above which it is cut between blocks, else between lines; one line never is."""
MOST_TERMS: Final = 32
"""Words of a question that are looked for."""
ONE_WORD: Final = 0.5
"""How much of a question a passage must have to be about it, where they share one word."""
SOME_WORDS: Final = 0.3
"""The same, where they share more."""
BESIDE_BEST: Final = 0.75
"""A passage that has less of the question than this share of what the best one has is left out."""
_STEM: Final = 4
"""Letters that are left of a word at least, when its ending is taken off."""
_ENDING: Final = 3
_TRAIL: Final = " > "
_BREAK: Final = re.compile(r"\r\n?|\n")
_WORD: Final = re.compile(r"\w+")
_parser = MarkdownIt("commonmark")
_parser.core.ruler.enableOnly(["normalize", "block"])

STOP_WORDS: Final = frozenset(
    (  # noqa: SIM905 - to be read by line
        # English
        "a about after all also am an and any are as at be been before but by can could did do does for "
        "from get had has have he her here him his how i if in is it its just let like many may me might "
        "more much must my no not of off on one only or our out please s say she should so some tell than "
        "that the their them then there these they this those to too until up us was we were what when "
        "where which who whom whose why will with would you your "
        # Dutch
        "aan al alle als ben bij dan dat de deze die dit doe door dus een en er even geen gaan had heb "
        "hebben heeft hem het hier hoe hun ik in is ja je jij jou jullie kan kun kunnen maar me meer met "
        "mij mijn moet naar nee niet nog nu of om ons onze ook op over te tot uit uur van veel voor waar "
        "waarom wanneer wat we wel welke wie wij wil word worden wordt zal ze zich zijn zo zou "
        # German
        "aber alle als am an auch auf aus bei bin bis bist da das dass dein dem den der des dich die dir "
        "doch du ein eine einem einen einer eines er es euch für gibt habe haben hat ich ihr im ist ja "
        "kann kein keine können man mein mich mir mit nach nein nicht noch nur oder sehr sein seine sich "
        "sie sind so über um und uns unser viel vom von vor wann warum was weil welche wem wen wer werden "
        "wie wir wird wo zu zum zur "
        # French
        "ai au aux avec ce ces cette comment dans de des du elle en est et eu il ils je la le les leur "
        "lui ma mais mes moi mon ne nos notre nous on ont ou où par pas plus pour pourquoi quand que quel "
        "quelle quels qui sa sans se ses son sont sur ta te tes toi ton tu un une vos votre vous y à "
    ).split()
)
"""Words that any question has; they say nothing about what it is about."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Lines `first` to `last` (from 1) of a note, under the headings `trail`, outermost first."""

    first: int
    last: int
    trail: tuple[str, ...]
    text: str


def lines_of(text: str) -> list[str]:
    """The lines of a note as CommonMark counts them."""
    return _BREAK.split(text)


def cut(text: str) -> tuple[Piece, ...]:
    """The passages of a note, in order."""
    lines = lines_of(text)
    after_matter = _front_matter(lines)
    blocks, headings = _blocks("\n".join([*[""] * after_matter, *lines[after_matter:]]))
    starts = sorted({0, after_matter, *headings})
    pieces: list[Piece] = []
    trail: list[tuple[int, str]] = []
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        if start in headings:
            level, title = headings[start]
            trail = [*(one for one in trail if one[0] < level), (level, title)]
        inside = [at for at in blocks if start < at < end]
        for first, last in _parts(lines, start, end, inside):
            pieces.append(
                Piece(first + 1, last, tuple(title for _, title in trail), "\n".join(lines[first:last]))
            )
    return tuple(pieces)


def _front_matter(lines: Sequence[str]) -> int:
    """How many lines the YAML between two `---` at the start has; 0 where there is none."""
    if not lines or lines[0].rstrip() != "---":
        return 0
    return next((at + 1 for at, line in enumerate(lines) if at and line.rstrip() in ("---", "...")), 0)


def _blocks(text: str) -> tuple[list[int], dict[int, tuple[int, str]]]:
    """Where top-level blocks begin (from 0), and the headings among them: level and title."""
    starts: list[int] = []
    headings: dict[int, tuple[int, str]] = {}
    tokens = _parser.parse(text)
    for at, token in enumerate(tokens):
        if token.map is None or token.level != 0 or token.nesting < 0:
            continue
        starts.append(token.map[0])
        if token.type == "heading_open":
            title = " ".join(tokens[at + 1].content.split())
            headings[token.map[0]] = (int(token.tag[1:]), title)
    return starts, headings


def _parts(lines: Sequence[str], start: int, end: int, blocks: Iterable[int]) -> list[tuple[int, int]]:
    """Lines `start` to `end` in parts of at most `LONGEST` characters, blank lines at their ends left out."""
    bounds = [start, *blocks, end]
    parts: list[tuple[int, int]] = []
    begin = start
    for at, after in pairwise(bounds):
        if at > begin and _size(lines, begin, after) > LONGEST:
            parts.append((begin, at))
            begin = at
        while _size(lines, begin, after) > LONGEST and after - begin > 1:
            stop = begin + 1
            while stop < after and _size(lines, begin, stop + 1) <= LONGEST:
                stop += 1
            if stop == after:
                break
            parts.append((begin, stop))
            begin = stop
    parts.append((begin, end))
    return [kept for first, last in parts if (kept := _trimmed(lines, first, last)) is not None]


def _size(lines: Sequence[str], first: int, last: int) -> int:
    return sum(len(line) + 1 for line in lines[first:last])


def _trimmed(lines: Sequence[str], first: int, last: int) -> tuple[int, int] | None:
    while first < last and not lines[first].strip():
        first += 1
    while last > first and not lines[last - 1].strip():
        last -= 1
    return (first, last) if first < last else None


# -- what a question is about ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Term:
    """A word to look for: itself, or (`open`) whatever begins like it."""

    stem: str
    open: bool

    @property
    def query(self) -> str:
        """As FTS5 has it (SQLite, FTS5 3.3): quoted, so that nothing in it is syntax."""
        return f'"{self.stem}"' + ("*" if self.open else "")


def words_of(text: str) -> list[str]:
    """The words of `text` as the index has them: lower case, without accents."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return _WORD.findall("".join(char for char in plain if not unicodedata.combining(char)))


def terms(question: str) -> tuple[Term, ...]:
    """What to look for: the words that not every question has, without their endings."""
    found = []
    for word in words_of(question[:4_000]):
        if word in _STOPS or len(word) > 40:  # noqa: PLR2004 - no word, and nobody's file name
            continue
        stem = word[: max(_STEM, len(word) - _ENDING)]
        found.append(Term(stem, open=len(word) >= _STEM))
    return tuple(dict.fromkeys(found))[:MOST_TERMS]


def covered(wanted: Sequence[Term], rarity: Mapping[Term, float], text: str) -> float:
    """How much of what is `wanted` stands in `text`, rare words counting more; 0: it is not about it."""
    exact = set(words_of(text))
    begun = {word[:length] for word in exact for length in {len(one.stem) for one in wanted}}
    has = [one for one in wanted if one.stem in (begun if one.open else exact)]
    whole = sum(rarity[one] for one in wanted)
    share = sum(rarity[one] for one in has) / whole if whole else 0.0
    return share if share >= (ONE_WORD if len(has) == 1 else SOME_WORDS) else 0.0


def best(scored: Iterable[tuple[float, T]], limit: int) -> list[T]:
    """At most `limit` of what is `scored`, best first; what is far behind the best is left out."""
    ranked = sorted((one for one in scored if one[0] > 0), key=lambda one: -one[0])
    return [what for share, what in ranked[:limit] if share >= BESIDE_BEST * ranked[0][0]]


def rarity_of(wanted: Iterable[Term], total: int, count: Callable[[Term], int]) -> dict[Term, float]:
    """How rare each word is among `total` passages (inverse document frequency, Sparck Jones 1972).

    A word that stands nowhere is as rare as one that stands once: the question may be about something else.
    """
    return {one: math.log(1 + total / max(count(one), 1)) for one in wanted}


_STOPS: Final = frozenset(word for one in STOP_WORDS for word in words_of(one))
