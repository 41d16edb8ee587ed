"""What Hearth says on a public network (Mastodon), where posts are short, counted and seen by others."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from models.transcript import Transcript

ALT_LENGTH: Final = 1_500
"""Characters of a media description (Mastodon's limit for a long time; servers may allow more)."""


def more() -> str:
    """What ends the last part of an answer of which something is held back."""
    return "There is more: reply \u201cmore\u201d and I go on."


def posts_nearly_spent(seconds: float) -> str:
    """The server lets an account post so often, and that is nearly used up; free again after `seconds`.

    Minutes up to an hour and a half, then hours.
    """
    minutes = max(1, math.ceil(seconds / 60))
    whole, unit = (minutes, "minute") if minutes < 90 else (math.ceil(minutes / 60), "hour")  # noqa: PLR2004 - above
    when = f"{whole} {unit}{'' if whole == 1 else 's'}"
    return f"(I have nearly used up what this server lets me post. My next answers come in {when}.)"


def alt(transcript: Transcript) -> str:
    """A description of a recording for those who cannot hear it, to be pasted by its author."""
    said = " ".join(transcript.text.split())
    words = f"Recording of {_length(transcript.duration)}: \u201c{said}\u201d"
    if len(words) > ALT_LENGTH:
        words = words[: ALT_LENGTH - 2].rsplit(" ", 1)[0] + "\u2026\u201d"
    return words


def alt_advice(*, bundled: bool) -> str:
    """What stands above such a description."""
    toy = " My speech model is only the toy that ships, so read it twice." if bundled else ""
    return f"A description to paste, made from what I heard. Please correct it first.{toy}"


def _length(seconds: float) -> str:
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min"
