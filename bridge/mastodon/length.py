"""How long a post is, as the instance counts it, and where it can be cut. Pure.

Mastodon counts what a reader sees as one character (a grapheme cluster), a link as 23 whatever its length,
and of `@user@domain` only `@user`; the content warning counts too. Promises never to count less than
the instance does: what is not surely one cluster or one link counts in full, and what may be the beginning
of a link counts as a link besides. Source:
https://docs.joinmastodon.org/user/posting/#text, /entities/V2_Instance/#configuration; UAX #29.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bridge.mastodon.instance import Instance

_JOINER: Final = "\u200d"
_EXTENDS: Final = frozenset({"Mn", "Me"})
_SKIN: Final = range(0x1F3FB, 0x1F400)
_FLAGS: Final = range(0x1F1E6, 0x1F200)
_PICTURES: Final = (range(0x1F300, 0x1F600), range(0x1F600, 0x1FB00), range(0x2600, 0x27C0))
_LONGEST_CLUSTER: Final = 32
_LINK = re.compile(
    r"https?://(?:[a-z0-9](?:[a-z0-9-]{0,62})\.){1,8}"
    # Only names that every server takes for one: a link that is none for the server counts in full.
    r"(?:com|org|net|edu|gov|info|eu|io|social|[a-z]{2})(?![a-z0-9.@-])"
    r"(?:/(?:[a-z0-9_~/%+.-]*[a-z0-9_~/+-])?)?(?:\?(?:[a-z0-9_=&%.+-]*[a-z0-9_=&])?)?",
    re.IGNORECASE,
)
_MAYBE_LINK = re.compile(r"[a-z][a-z0-9+.-]*://|(?:xmpp|magnet):", re.IGNORECASE)
_MENTION = re.compile(r"(?<![\w/=])@(\w+(?:[.-]\w+)*)(?:@[\w.:-]+)?", re.ASCII)


def clusters(text: str) -> Iterator[str]:
    """Yield what a reader takes for one character each; joined they are `text`."""
    cluster = ""
    for char in text:
        if cluster and len(cluster) < _LONGEST_CLUSTER and _goes_on(cluster, char):
            cluster += char
            continue
        if cluster:
            yield cluster
        cluster = char
    if cluster:
        yield cluster


def _goes_on(cluster: str, char: str) -> bool:
    code, last = ord(char), cluster[-1]
    if last == "\n" or (len(cluster) == 1 and unicodedata.category(last).startswith("C")):
        return False
    if char == _JOINER or unicodedata.category(char) in _EXTENDS or code in _SKIN:
        return True
    if last == _JOINER:
        return _is_picture(code) and _is_picture(ord(cluster[0]))
    return code in _FLAGS and len(cluster) == 1 and ord(last) in _FLAGS


def _is_picture(code: int) -> bool:
    return any(code in some for some in _PICTURES)


def atoms(text: str, instance: Instance) -> Iterator[tuple[str, int]]:
    """Yield the pieces of `text` that are not to be cut, each with what it counts; joined they are `text`."""
    if instance.counts_raw:
        yield from ((cluster, len(cluster)) for cluster in clusters(text))
        return
    at = 0
    for link in _LINK.finditer(text):
        yield from _words(text[at : link.start()], instance)
        yield link[0], instance.characters_per_url
        at = link.end()
    yield from _words(text[at:], instance)


def _words(text: str, instance: Instance) -> Iterator[tuple[str, int]]:
    at = 0
    for scheme in _MAYBE_LINK.finditer(text):
        yield from ((cluster, 1) for cluster in clusters(text[at : scheme.start()]))
        yield scheme[0], len(scheme[0]) + instance.characters_per_url
        at = scheme.end()
    yield from ((cluster, 1) for cluster in clusters(text[at:]))


def measure(text: str, instance: Instance) -> int:
    """Characters of `text` as the instance counts them."""
    counted = text if instance.counts_raw else _MENTION.sub(r"@\1", text)
    return sum(count for _, count in atoms(counted, instance))
