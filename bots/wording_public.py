"""What Hearth says on a public network (Mastodon), where posts are short, counted and seen by others."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from bots.language import _, ngettext
from bots.wording import sentences

if TYPE_CHECKING:
    from models.transcript import Transcript

ALT_LENGTH: Final = 1_500
"""Characters of a media description (Mastodon's limit for a long time; servers may allow more)."""


def more() -> str:
    """What ends the last part of an answer of which something is held back."""
    # Translators: keep the word "more" as it is: it is the one that I understand.
    return _("There is more: reply \u201cmore\u201d and I go on.")


def posts_nearly_spent(seconds: float) -> str:
    """The server lets an account post so often, and that is nearly used up; free again after `seconds`.

    Minutes up to an hour and a half, then hours.
    """
    minutes = max(1, math.ceil(seconds / 60))
    if minutes < 90:  # noqa: PLR2004 - above
        count = minutes
        words = ngettext(
            "(I have nearly used up what this server lets me post. My next answers come in {count} minute.)",
            "(I have nearly used up what this server lets me post. My next answers come in {count} minutes.)",
            count,
        )
    else:
        count = math.ceil(minutes / 60)
        words = ngettext(
            "(I have nearly used up what this server lets me post. My next answers come in {count} hour.)",
            "(I have nearly used up what this server lets me post. My next answers come in {count} hours.)",
            count,
        )
    return words.format(count=count)


def alt(transcript: Transcript) -> str:
    """A description of a recording for those who cannot hear it, to be pasted by its author."""
    said = " ".join(transcript.text.split())
    # Translators: the words of a recording, in the quotation marks of your language.
    words = _("Recording of {length}: \u201c{said}\u201d")
    length = _length(transcript.duration)
    room = ALT_LENGTH - len(words.format(length=length, said=""))
    if len(said) > room:
        said = said[: room - 1].rsplit(" ", 1)[0] + "\u2026"
    return words.format(length=length, said=said)


def alt_advice(*, bundled: bool) -> str:
    """What stands above such a description."""
    return sentences(
        _("A description to paste, made from what I heard. Please correct it first."),
        _("My speech model is only the toy that ships, so read it twice.") if bundled else "",
    )


def _length(seconds: float) -> str:
    if seconds < 60:  # noqa: PLR2004 - a minute
        return _("{count} s").format(count=max(1, round(seconds)))
    return _("{count} min").format(count=round(seconds / 60))
