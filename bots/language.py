"""The language of what Hearth says by itself: which there are, and which one is spoken now.

Owns the catalogues and the language of the turn at hand. A catalogue is gettext's,
`<folder>/<language>/LC_MESSAGES/hearth.mo`, made from the `hearth.po` beside it by `make words`;
English is the source and has none. Promises never to raise, whatever is given as a language, and
that no translation breaks a sentence: what is not translated, or has a placeholder that the English
does not have, is said in English. Reads the package's own catalogues once, when it is imported, so
that no turn waits for the disk; logs nothing, `problems` tells what is wrong with them.
"""

from __future__ import annotations

import gettext
import string
import struct
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

SOURCE: Final = "en"
"""The language of the sentences in the code."""

DOMAIN: Final = "hearth"
"""What the files of a catalogue are called."""

PACKAGED: Final = Path(__file__).with_name("locale")
"""Where the languages are that ship."""

LONGEST: Final = 35
"""Characters of a tag that are looked at (RFC 5646, section 4.4.1: no real one is longer)."""

_ENGLISH: Final = gettext.NullTranslations()
_SPOKEN: ContextVar[gettext.NullTranslations] = ContextVar("spoken", default=_ENGLISH)


def N_(text: str) -> str:  # noqa: N802 - gettext's own name for it, which the extraction knows
    """Mark `text` of a table as one to translate; `_` translates it when it is said."""
    return text


def _(text: str) -> str:
    """`text` in the language that is spoken now."""
    # The empty text is the key of a catalogue's header.
    return _safe(_SPOKEN.get().gettext(text), text) if text else ""


def ngettext(one: str, many: str, n: int) -> str:
    """`one` or `many` in the language that is spoken now, by its own rule for `n` things.

    Both have the same placeholders: some languages use the first form for 21 as well.
    """
    english = one if n == 1 else many
    return _safe(_SPOKEN.get().ngettext(one, many, n), english)


def number(count: int) -> str:
    """`count` with the sign between its thousands that the language has: `1,000` in English."""
    # Translators: how one thousand is written in digits; other numbers get the same sign.
    thousand = _("1,000")
    sign = thousand[1:-3] if thousand.startswith("1") and thousand.endswith("000") else ","
    return f"{count:,}".replace(",", sign)


MONTHS: Final = (
    N_("January"),
    N_("February"),
    N_("March"),
    N_("April"),
    N_("May"),
    N_("June"),
    N_("July"),
    N_("August"),
    N_("September"),
    N_("October"),
    N_("November"),
    N_("December"),
)


def day(at: int) -> str:
    """The day (UTC) of a time in ms since the epoch; a time that no calendar has is told as unknown."""
    try:
        date = datetime.fromtimestamp(at / 1000, UTC)
    except (OverflowError, OSError, ValueError):
        return _("an unknown day")
    # Translators: a date, such as 3 May 2026.
    words = _("{day} {month} {year}")
    return words.format(day=date.day, month=_(MONTHS[date.month - 1]), year=date.year)


def moment(at: int) -> str:
    """A time (ms since the epoch) with its minute."""
    try:
        clock = f"{datetime.fromtimestamp(at / 1000, UTC):%H:%M}"
    except (OverflowError, OSError, ValueError):
        return day(at)
    # Translators: a day and a time of day, such as 3 May 2026, 14:05 UTC.
    return _("{day}, {time} UTC").format(day=day(at), time=clock)


@contextmanager
def speaking(language: str, folder: Path = PACKAGED) -> Generator[str]:
    """Speak `language` (a BCP 47 tag, such as `nl` or `pt-BR`) in this task until the block ends.

    Yields the language that is really spoken: that of the tag, else of the tag without its last
    part and so on ("Lookup" of RFC 4647, section 3.4), else English. Other tasks speak their own; a task
    or thread (`asyncio.to_thread`) that is started inside speaks this one. Enter and leave in the
    same task. `folder` is where the catalogues are; it is read once (see `languages`).
    """
    words = _read(folder).words
    tag = _best(language, words)
    before = _SPOKEN.set(words.get(tag, _ENGLISH))
    try:
        yield tag
    finally:
        _SPOKEN.reset(before)


def languages(folder: Path = PACKAGED) -> tuple[str, ...]:
    """The tags of the languages that can be spoken, English among them, sorted.

    A `folder` other than the package's own is read at the first call with it, which blocks, and
    never again.
    """
    return tuple(sorted({SOURCE, *_read(folder).words}))


def problems(folder: Path = PACKAGED) -> Mapping[str, str]:
    """The languages whose catalogue cannot be read, each with what is wrong; they speak English.

    For whoever starts the bots to log: nothing here does.
    """
    return _read(folder).problems


def placeholders(text: str) -> frozenset[tuple[str, str, str]]:
    """The placeholders of a sentence: name, format and conversion of each. Raises `ValueError`."""
    return frozenset(
        (name, form or "", conversion or "")
        for _literal, name, form, conversion in string.Formatter().parse(text)
        if name is not None
    )


@dataclass(frozen=True, slots=True)
class _Catalogues:
    """What a folder holds, by tag in lower case: words, and why a language has none."""

    words: Mapping[str, gettext.NullTranslations]
    problems: Mapping[str, str]


@cache  # of folders that the program names; what users write never gets here
def _read(folder: Path) -> _Catalogues:
    words: dict[str, gettext.NullTranslations] = {}
    broken: dict[str, str] = {}
    for place in folder.iterdir() if folder.is_dir() else ():
        file = place / "LC_MESSAGES" / f"{DOMAIN}.mo"
        tag = _normal(place.name)
        if not file.is_file():
            continue
        try:
            with file.open("rb") as opened:
                words[tag] = gettext.GNUTranslations(opened)
        # What the parser of the standard library raises on bytes that are no catalogue.
        except (OSError, ValueError, LookupError, struct.error) as error:
            broken[tag] = f"{place.name}: {type(error).__name__}: {error}"
    return _Catalogues(words, broken)


def _normal(language: str) -> str:
    """A tag as it is compared: `pt_BR` (the name of a folder) and `pt-br` are `pt-BR`."""
    return language.strip()[:LONGEST].replace("_", "-").casefold()


def _best(language: str, known: Mapping[str, object]) -> str:
    tag = _normal(language)
    while tag and tag not in known:
        tag = tag.rpartition("-")[0]
    return tag or SOURCE


def _safe(said: str, english: str) -> str:
    """`said`, unless it is empty, or formatting it like `english` could fail."""
    if said == english:
        return said
    try:
        return said if said and placeholders(said) <= placeholders(english) else english
    except ValueError:
        return english


_read(PACKAGED)
