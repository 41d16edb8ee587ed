"""Who may see an answer, and how it is marked. Pure.

Promises: an answer is never seen by more people than its question. "Followers" of an answer would be
those of the bot, who were not asked; so the answer to followers is private, and what is not known is
private too. Source: https://docs.joinmastodon.org/entities/Status/#visibility, /methods/statuses/#create.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from bridge.mastodon.text import clean

if TYPE_CHECKING:
    from collections.abc import Mapping

DIRECT: Final = "direct"
UNLISTED: Final = "unlisted"
REPLIES: Final[Mapping[str, str]] = {
    "public": UNLISTED,
    "unlisted": UNLISTED,
    "private": DIRECT,
    "direct": DIRECT,
}
"""The visibility of an answer by that of its question; of everything else `direct`."""

LONGEST_SPOILER: Final = 100
"""Characters of a content warning that are kept on the answer: it is paid for out of the answer's length."""

_AGAIN = re.compile(r"\A(?:\s*re:\s*)+", re.IGNORECASE)
_LANGUAGE = re.compile(r"[a-z]{2,3}")


def reply_visibility(asked: object) -> str:
    """How an answer to a post of visibility `asked` is posted."""
    return REPLIES.get(asked, DIRECT) if isinstance(asked, str) else DIRECT


def spoiler(asked: object) -> str:
    """The content warning of an answer: the question's, with exactly one `re: `; `""` where there is none."""
    words = " ".join(clean(asked).split()) if isinstance(asked, str) else ""
    words = _AGAIN.sub("", words)
    if not words:
        return ""
    marked = f"re: {words}"
    return marked if len(marked) <= LONGEST_SPOILER else marked[: LONGEST_SPOILER - 1] + "…"


def language(status: Mapping[str, Any], otherwise: str) -> str:
    """The language of an answer (ISO 639): that of the question, where it names one."""
    told = status.get("language")
    found = _LANGUAGE.match(told) if isinstance(told, str) else None
    return otherwise if found is None else found[0]
