"""An answer in Markdown -> posts: plain words that call nobody, in a numbered chain. Pure.

Promises: no word is lost (what is not shown is given back), no post is longer than its room, and no handle
in it is one that a server resolves: in a private post every handle that resolves is a delivery.
Source: https://docs.joinmastodon.org/user/posting/.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from bridge.mastodon.length import atoms, measure
from bridge.mastodon.markdown import as_markdown, plain
from bridge.platform import Parts

if TYPE_CHECKING:
    from bridge.mastodon.instance import Instance

MOST_PARTS: Final = 6
_NUMBER: Final = len(" (1/6)")
_BREAK: Final = "\u200b"
"""A zero-width space: behind an `@` it ends the handle for every server, and nobody sees it."""
_ADDRESS = re.compile(
    r"(?<![\w@.+%/-])[\w.+%-]*\w@[a-z0-9-]+(?:\.[a-z0-9-]+)+(?![\w@.-]*@)", re.IGNORECASE | re.ASCII
)
_LINK = re.compile(r"https?://[^\s<>]+", re.IGNORECASE)
_SIGNS = re.compile("([@\uff20\ufe6b])(?!\u200b)")
_SENTENCE = re.compile("[.!?\u2026:;][\"'\u201d\u2019)\\]]*$")


def neutralise(text: str) -> str:
    """`text` with every handle broken. E-mail addresses and links work: in a link the sign is encoded."""
    out: list[str] = []
    at = 0
    for kept in _kept(text):
        out.append(_SIGNS.sub(rf"\1{_BREAK}", text[at : kept.start()]))
        whole = kept[0]
        out.append(whole.replace("@", "%40") if whole[:4].lower() == "http" else whole)
        at = kept.end()
    out.append(_SIGNS.sub(rf"\1{_BREAK}", text[at:]))
    return "".join(out)


def _kept(text: str) -> list[re.Match[str]]:
    links = list(_LINK.finditer(text))
    inside = [range(link.start(), link.end()) for link in links]
    addresses = [one for one in _ADDRESS.finditer(text) if all(one.start() not in span for span in inside)]
    return sorted((*links, *addresses), key=lambda one: one.start())


# -- parts -----------------------------------------------------------------------------------------


def parts(markdown: str, room: int, instance: Instance, *, offer: str) -> Parts:
    """Posts of at most `room` characters each (as the instance counts), numbered where there are several.

    Where six do not suffice the sixth ends with `offer`, and what is left is in `rest`, as Markdown that
    gives the same words again.
    """
    text = neutralise(plain(markdown))
    if measure(text, instance) <= room:
        return Parts((text,))
    shown: list[str] = []
    last_room = room - _NUMBER - measure(f"\n\n{offer}", instance)
    while text and len(shown) < MOST_PARTS:
        last = len(shown) == MOST_PARTS - 1
        if last and measure(text, instance) > room - _NUMBER:
            part, text = _cut(text, last_room, instance)
            shown.append(f"{part}\n\n{offer}")
        else:
            part, text = _cut(text, room - _NUMBER, instance)
            shown.append(part)
    count = len(shown)
    numbered = tuple(f"{part} ({number}/{count})" for number, part in enumerate(shown, 1))
    return Parts(numbered, as_markdown(text))


def _cut(text: str, room: int, instance: Instance) -> tuple[str, str]:
    """The longest beginning that fits and ends well, and what comes after it; never an empty beginning."""
    end = used = 0
    for atom, count in atoms(text, instance):
        if end and used + count > room:
            break
        end += len(atom)
        used += count
        if used > room:  # one link, longer than a post: it is cut like any other words
            end = max(1, room)
            break
    if end >= len(text):
        return text, ""
    at = _border(text[: end + 1], least=end // 2)
    head = text[: at or end]
    return head.rstrip(), text[len(head) :].lstrip("\n ")


def _border(text: str, *, least: int) -> int:
    """Where to cut: after a paragraph, a line, a sentence, a word; 0 where there is no such place."""
    for border in ("\n\n", "\n"):
        at = text.rfind(border)
        if at >= least:
            return at
    at = len(text)
    word = 0
    while (at := text.rfind(" ", 0, at)) >= max(1, least):
        word = word or at
        if _SENTENCE.search(text[max(0, at - 4) : at]):
            return at
    return word
