"""Words about the community's notes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bots.language import _
from bots.wording import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bots.base import Passage

LONGEST: Final = 600
"""Characters that are shown of a passage."""


def sources(found: Sequence[Passage]) -> str:
    """Where an answer comes from."""
    named = ", ".join(dict.fromkeys(quoted(one.source) for one in found))
    return _("From: {sources}").format(sources=named)


def collections(names: Sequence[str]) -> str:
    """Which collections are read in this place."""
    if not names:
        return _("I have no notes that I may read here.")
    listed = ", ".join(quoted(one) for one in names)
    words = _("I read these notes here: {names}. `!notes opening hours` shows what they say about something.")
    return words.format(names=listed)


def passages(found: Sequence[Passage]) -> str:
    """What the notes say, quoted, with where it stands."""
    if not found:
        return _("My notes say nothing about that.")
    shown = []
    for one in found:
        text = one.text if len(one.text) <= LONGEST else one.text[:LONGEST].rstrip() + " …"
        lines = "\n".join(f"> {line}".rstrip() for line in text.splitlines())
        shown.append(f"{quoted(one.source)}\n{lines}")
    return "\n\n".join(shown)
