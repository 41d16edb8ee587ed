"""From what people type to what an instance serves: HTML of a status, who is mentioned, how long it is.

Pure. Rules: https://docs.joinmastodon.org/user/posting/#text (what is a link, a mention, a hashtag; 500
characters, a link is 23, only the local part of a mention counts) and
https://docs.joinmastodon.org/spec/activitypub/#sanitization; the form of the HTML is that of recordings of
Mastodon 4.7.3. Not here: custom emoji, Markdown, links without a scheme.
"""

from __future__ import annotations

import re
import unicodedata
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

URL_LENGTH = 23
SHOWN_OF_URL = 30

_URL = r"(?P<url>https?://[^\s<>\"]*[^\s<>\".,:;!?'()\[\]])"
_MENTION = r"(?<![=/\w])@(?P<name>\w+)(?:@(?P<domain>[\w-]+(?:\.[\w-]+)*(?::\d+)?))?"
_HASHTAG = r"(?<![/)\w&])#(?P<tag>\w*[^\W\d]\w*)"
_ENTITY = re.compile(f"{_URL}|{_MENTION}|{_HASHTAG}")
MENTION = re.compile(_MENTION)
"""Groups: name, domain."""
_JOINER = "\u200d"


def hashtags(text: str) -> list[str]:
    """The hashtags of a text without `#`, lower case, each once."""
    found = (match["tag"].lower() for match in _ENTITY.finditer(text) if match["tag"] is not None)
    return list(dict.fromkeys(found))


def to_html(text: str, link_of: Callable[[str, str | None], tuple[str, str] | None], base: str) -> str:
    """`text` as the instance at `base` serves it; `link_of` gives page and name of who is mentioned."""
    paragraphs = [part for part in re.split(r"\n{2,}", text.replace("\r\n", "\n").strip()) if part]
    return "".join(
        "<p>"
        + "<br />".join("".join(_pieces(line, base, link_of)) for line in paragraph.split("\n"))
        + "</p>"
        for paragraph in paragraphs
    )


def _pieces(
    line: str, base: str, link_of: Callable[[str, str | None], tuple[str, str] | None]
) -> Iterator[str]:
    position = 0
    for match in _ENTITY.finditer(line):
        yield escape(line[position : match.start()], quote=True)
        position = match.end()
        if match["url"] is not None:
            yield link(match["url"])
        elif match["tag"] is not None:
            yield (
                f'<a href="{base}/tags/{match["tag"].lower()}" class="mention hashtag" rel="tag">'
                f"#<span>{match['tag']}</span></a>"
            )
        else:
            who = link_of(match["name"], match["domain"])
            yield match[0] if who is None else _card(*who)
    yield escape(line[position:], quote=True)


def _card(url: str, name: str) -> str:
    return (
        f'<span class="h-card" translate="no"><a href="{escape(url)}" class="u-url mention">'
        f"@<span>{name}</span></a></span>"
    )


def link(url: str) -> str:
    """A link as Mastodon shortens it: the scheme and everything after 30 characters are invisible."""
    start = re.match(r"https?://(?:www\.)?", url)
    prefix = start[0] if start is not None else ""
    shown, rest = url[len(prefix) :][:SHOWN_OF_URL], url[len(prefix) + SHOWN_OF_URL :]
    return (
        f'<a href="{escape(url)}" target="_blank" rel="nofollow noopener" translate="no">'
        f'<span class="invisible">{escape(prefix)}</span>'
        f'<span class="{"ellipsis" if rest else ""}">{escape(shown)}</span>'
        f'<span class="invisible">{escape(rest)}</span></a>'
    )


def length(text: str, spoiler: str = "", *, raw: bool = False) -> int:
    """How long a status is: graphemes, links as 23, `@user@domain` as `@user`, the warning included.

    `raw`: code points as they are, which is how Takahe counts.
    """
    if raw:
        return len(text)
    return graphemes(spoiler) + graphemes(_ENTITY.sub(_counted, text))


def _counted(match: re.Match[str]) -> str:
    if match["url"] is not None:
        return "x" * URL_LENGTH
    return f"@{match['name']}" if match["name"] is not None else match[0]


def graphemes(text: str) -> int:
    """Characters as people see them (UAX 29, as far as marks, emoji sequences, flags and line ends go)."""
    count, flags, previous = 0, 0, ""
    for character in text:
        flag = "\U0001f1e6" <= character <= "\U0001f1ff"
        flags = flags + 1 if flag else 0
        joined = (
            unicodedata.category(character) in {"Mn", "Me", "Mc"}
            or character == _JOINER
            or "\U0001f3fb" <= character <= "\U0001f3ff"
            or "\U000e0020" <= character <= "\U000e007f"
            or (previous == _JOINER and unicodedata.category(character) == "So")
            or (flag and flags % 2 == 0)
            or (previous == "\r" and character == "\n")
        )
        count += not (joined and previous)
        previous = character
    return count
