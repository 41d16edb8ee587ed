"""How what was heard is written down: quotes, time marks, sections. Pure.

Promises that words out of a recording stay words: they make no mention, no link and no formatting,
and no line of theirs looks like one of ours. Nothing of a transcript is left out but by `opening`,
and every time comes from the transcript.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from bots.commands import visible
from models.transcript import DOUBT, PAUSE, clock

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from models.transcript import Segment, Transcript

MARK: Final = "\U0001f399"
"""A microphone: what follows was heard, not written."""

PASSAGE: Final = 30.0
"""Seconds after which a passage is long enough."""

_FORMATTING = re.compile(r"[\\`*_\[\]<>&~|]|\A[#+=-]")
_NUMBER = re.compile(r"\A(\d{1,9})([.)])")
_CALL = re.compile(r"@(?=\S)")
_LINK = re.compile(r":(?=//)")


@dataclass(frozen=True, slots=True)
class Passage:
    """Some segments that belong together; `language` is set where it is not that of the recording."""

    segments: tuple[Segment, ...]
    language: str = ""

    @property
    def start(self) -> float:
        """Where it begins, in seconds."""
        return self.segments[0].start

    @property
    def text(self) -> str:
        """Its words, as Markdown that shows them as they are, doubtful ones marked."""
        return " ".join(
            f"{DOUBT} {plain(one.text)}" if one.doubtful else plain(one.text) for one in self.segments
        )


def plain(text: str) -> str:
    """`text` as Markdown on one line that shows the words, calls nobody and links nowhere."""
    line = " ".join(visible(text).split())
    escaped = _FORMATTING.sub(r"\\\g<0>", _LINK.sub(": ", _CALL.sub("@ ", line)))
    return _NUMBER.sub(r"\1\\\2", escaped)


def passages(transcript: Transcript) -> tuple[Passage, ...]:
    """The transcript, cut at pauses, where the language changes, and about every 30 seconds."""
    spoken = [one for one in transcript.segments if one.text.strip()]
    groups: list[list[Segment]] = []
    for one in spoken:
        begun = groups[-1] if groups else []
        if (
            begun
            and one.start - begun[-1].end < PAUSE
            and one.end - begun[0].start <= PASSAGE
            and one.language == begun[0].language
        ):
            begun.append(one)
        else:
            groups.append([one])
    return tuple(
        Passage(tuple(group), "" if group[0].language == transcript.language else group[0].language)
        for group in groups
    )


def lines(transcript: Transcript) -> list[str]:
    """Each passage on a line that begins with its time."""
    return [
        f"[{clock(one.start)}{f' {plain(one.language)}' if one.language else ''}] {one.text}"
        for one in passages(transcript)
    ]


def quote(paragraphs: Iterable[str], title: str = "") -> str:
    """`paragraphs` (Markdown, one line each) as a block quote that is marked as heard.

    The plain text `title` (whose, how long) stands before them.
    """
    mark = f"{MARK} {plain(title)}: " if title else f"{MARK} "
    return f"> {mark}" + "\n>\n> ".join(paragraphs)


def opening(paragraphs: Sequence[str], limit: int) -> list[str]:
    """The first of `paragraphs`, as many as have `limit` characters together; at least one."""
    shown: list[str] = []
    for one in paragraphs:
        if shown and sum(map(len, shown)) + len(one) > limit:
            break
        shown.append(one)
    return shown


def without_heard(text: str) -> str:
    """What we said ourselves in `text`, without the quote of what was heard before it."""
    if not text.startswith(f"> {MARK}"):
        return text
    return re.sub(r"\A(?:>[^\n]*(?:\n|\Z))+\n*", "", text)


def sections(transcript: Transcript, seconds: float) -> list[tuple[Segment, ...]]:
    """The transcript in sections of about `seconds` that begin where a passage begins."""
    found: list[list[Segment]] = []
    for one in passages(transcript):
        if found and one.segments[-1].end - found[-1][0].start <= seconds:
            found[-1].extend(one.segments)
        else:
            found.append(list(one.segments))
    return [tuple(section) for section in found]


def halves(section: tuple[Segment, ...]) -> tuple[tuple[Segment, ...], tuple[Segment, ...]] | None:
    """`section` in two, at its longest pause in the middle; None for a single word.

    One segment is cut between words, and the time of the second half is reckoned.
    """
    if len(section) > 1:
        # The middle half: a pause near an end would leave a crumb, and halving would take for ever.
        low, high = len(section) // 4, (3 * len(section) + 3) // 4
        gaps = [(later.start - earlier.end, at) for at, (earlier, later) in enumerate(pairwise(section), 1)]
        at = max(gap for gap in gaps if low <= gap[1] <= high)[1]
        return section[:at], section[at:]
    words = section[0].text.split()
    if len(words) < 2:  # noqa: PLR2004 - one word has no halves
        return None
    half = len(words) // 2
    middle = section[0].start + (section[0].end - section[0].start) * half / len(words)
    first = replace(section[0], text=" ".join(words[:half]), end=middle, words=())
    second = replace(section[0], text=" ".join(words[half:]), start=middle, words=())
    return (first,), (second,)
