"""The HTML of a post -> the words that its author wrote. Pure.

Promises: total on any string, in time and memory that grow with its length up to a limit; what a
person reads is there (line breaks, paragraphs, hashtags, whole links, the parts that `span.invisible`
hides from the eye), what a server adds is not (the `RE:` line of a quote, a mention of us in front or
at the end). Who is mentioned is decided by the post's `mentions`, never by how a link looks: hashtags
carry the class `mention` too. Source: https://docs.joinmastodon.org/spec/activitypub/#sanitization,
/entities/Status/#content, /client/quotes/.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import unescape
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LONGEST_HTML: Final = 200_000
"""Characters that are read of a post; a post of 5,000 characters has a tenth of that."""
LONGEST_TAG: Final = 4_000
LONGEST: Final = 20_000
"""Characters of the words."""

_BLOCKS: Final = frozenset(
    {"p", "div", "ul", "ol", "blockquote", "pre", "h1", "h2", "h3", "h4", "h5", "h6", "table", "hr"}
)
_LINES: Final = frozenset({"li", "tr", "dt", "dd"})
_UNSEEN: Final = frozenset({"script", "style", "template", "title", "noscript", "svg", "math"})
_SPACE = re.compile(r"[ \t\r\n\f]+")
_LONE = re.compile("[\ud800-\udfff]")
_SEPARATOR = re.compile(r"\s*[:,;]+(?=\s|$)\s*")
_BLANK_LINES = re.compile(r"\n{3,}")
_MOST_BREAKS: Final = 2


@dataclass(slots=True)
class _Piece:
    """Some words; with the account's id where they are a mention."""

    text: str
    account: str | None = None


def plain(html: str, mentions: Sequence[Mapping[str, Any]], *, me_id: str, quoted: bool) -> str:
    """The words of `html`.

    `mentions` is the post's list of that name (`id`, `username`, `acct`, `url`); somebody in it is
    written `@acct`. Mentions of `me_id` in the leading and the trailing run of mentions are left out;
    inside a sentence they are words. `quoted`: the post quotes another, so its `quote-inline` repeats that.
    """
    reader = _Reader(_People(mentions), quoted=quoted)
    first, *chunks = html[:LONGEST_HTML].split("<")
    reader.words(first)
    for chunk in chunks:
        tag, closed, after = chunk.partition(">")
        if not (tag[:1].isalpha() or tag[:1] in ("/", "!", "?")):
            reader.words(f"<{chunk}")  # "I <3 you", from a server that does not escape it
        elif closed:
            reader.tag(tag)
            reader.words(after)
    pieces = _without(reader.ended(), me_id)
    words = "".join(piece.text for piece in pieces)
    return clean(words)[:LONGEST].strip()


def clean(text: str) -> str:
    """`text` as it can be stored: no lone surrogates, no NUL, at most one blank line in a row."""
    return _BLANK_LINES.sub("\n\n", _LONE.sub("\ufffd", text).replace("\0", ""))


class _People:
    """Who is mentioned, to be found by the link that mentions them."""

    def __init__(self, mentions: Sequence[Mapping[str, Any]]) -> None:
        self._by: dict[str, tuple[str, str]] = {}
        for one in mentions:
            account, acct, url = one.get("id"), one.get("acct"), one.get("url")
            if not isinstance(account, str) or not isinstance(acct, str):
                continue
            username = one.get("username")
            name = username if isinstance(username, str) else acct.partition("@")[0]
            host = _host(url)
            for key in (url, _key(host, name), f"@{acct}"):
                if isinstance(key, str):
                    self._by.setdefault(key.casefold(), (account, acct))

    def find(self, href: str, shown: str) -> tuple[str, str] | None:
        """Id and `acct` of whom a link to `href` that reads `shown` is for."""
        name = urlsafe_path(href).rstrip("/").rpartition("/")[2].removeprefix("@").partition("@")[0]
        for key in (href, _key(_host(href), name), shown.strip()):
            found = self._by.get(key.casefold())
            if found is not None:
                return found
        return None


def _key(host: str, name: str) -> str:
    return f"{host}\x1f{name}"


def _host(url: object) -> str:
    try:
        return urlsplit(url).netloc if isinstance(url, str) else ""
    except ValueError:
        return ""


def urlsafe_path(url: str) -> str:
    """The path of a URL that may be none."""
    try:
        return urlsplit(url).path
    except ValueError:
        return ""


class _Reader(HTMLParser):
    """Collects pieces. It never recurses: what is open is counted, not stacked.

    It is given one tag at a time, because `HTMLParser` takes time that grows with the square of what
    is malformed: six minutes for 200,000 characters of `<a <a <a` (measured, Python 3.11).
    """

    def __init__(self, people: _People, *, quoted: bool) -> None:
        super().__init__(convert_charrefs=True)
        self._people = people
        self._quoted = quoted
        self._pieces: list[_Piece] = []
        self._breaks = 0
        self._space = False
        self._pre = 0
        self._skipped: str | None = None
        self._depth = 0
        self._link: tuple[str, int] | None = None

    def ended(self) -> list[_Piece]:
        self._end_link()
        return self._pieces

    # -- tags --------------------------------------------------------------------------------------

    def tag(self, tag: str) -> None:
        """Take what stands between `<` and `>`."""
        self.feed(f"<{tag if len(tag) <= LONGEST_TAG else tag.split(maxsplit=1)[0]}>")
        if self.rawdata:  # a quote in it was never closed
            self.reset()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if not self._skips(tag):
            self._start(tag, {name: value or "" for name, value in attrs})

    def _skips(self, tag: str) -> bool:
        """Whether `tag` starts inside of something that is left out."""
        if self._skipped == "p" == tag:
            self._skipped = None  # a paragraph ends where the next one begins
        self._depth += tag == self._skipped
        return self._skipped is not None

    def _start(self, tag: str, values: Mapping[str, str]) -> None:
        classes = values.get("class", "").split()
        if tag in _UNSEEN or (self._quoted and "quote-inline" in classes):
            self._skipped, self._depth = tag, 1
        elif tag == "br":
            self._breaks += 1
        elif tag in _BLOCKS:
            self._break(_MOST_BREAKS)
            self._pre += tag == "pre"
        elif tag in _LINES:
            self._break(1)
            if tag == "li":
                self._say("- ")
        elif tag == "img":
            self._say(values.get("alt", "") or values.get("title", ""))
        elif tag == "a":
            self._end_link()
            is_tag = "hashtag" in classes or values.get("rel", "") == "tag"
            self._link = None if is_tag else (values.get("href", ""), len(self._pieces))

    def handle_endtag(self, tag: str) -> None:
        if self._skipped is not None:
            if tag == self._skipped:
                self._depth -= 1
                self._skipped = self._skipped if self._depth else None
        elif tag == "a":
            self._end_link()
        elif tag in _BLOCKS:
            self._break(_MOST_BREAKS)
            self._pre -= tag == "pre" and self._pre > 0
        elif tag in _LINES:
            self._break(1)

    def _end_link(self) -> None:
        """Make one mention of what the link's text was, if it is one."""
        if self._link is None:
            return
        (href, start), self._link = self._link, None
        shown = "".join(piece.text for piece in self._pieces[start:])
        words = shown.lstrip()
        person = self._people.find(href, words)
        if person is not None and words.startswith("@"):
            account, acct = person
            lead = shown[: len(shown) - len(words)]
            self._pieces[start:] = [_Piece(lead), _Piece(f"@{acct}", account)]

    # -- words -------------------------------------------------------------------------------------

    def words(self, escaped: str) -> None:
        """Take what stands between two tags."""
        if self._skipped is not None:
            return
        data = unescape(escaped)
        if self._pre:
            self._say(data)
            return
        text = _SPACE.sub(" ", data)
        words = text.strip(" ")
        if not words:
            self._space = self._space or bool(text)
            return
        self._space = self._space or text.startswith(" ")
        self._say(words)
        self._space = text.endswith(" ")

    def _break(self, lines: int) -> None:
        self._breaks = max(self._breaks, lines)

    def _say(self, text: str) -> None:
        if not text:
            return
        if self._breaks:
            if self._pieces:
                self._pieces.append(_Piece("\n" * min(self._breaks, _MOST_BREAKS)))
        elif self._space and self._pieces:
            self._pieces.append(_Piece(" "))
        self._breaks, self._space = 0, False
        self._pieces.append(_Piece(text))


# -- mentions of us --------------------------------------------------------------------------------


def _without(pieces: list[_Piece], me_id: str) -> list[_Piece]:
    """`pieces` without us in the leading and the trailing run of mentions."""
    lead = _run(pieces)
    head, rest = pieces[:lead], pieces[lead:]
    tail_length = _run(rest[::-1])
    middle, tail = rest[: len(rest) - tail_length], rest[len(rest) - tail_length :]
    if any(piece.account == me_id for piece in head) and middle:
        middle = [_Piece(_SEPARATOR.sub("", middle[0].text, count=1), middle[0].account), *middle[1:]]
    return [*_others(head, me_id, before=False), *middle, *_others(tail, me_id, before=True)]


def _run(pieces: list[_Piece]) -> int:
    """How many pieces at the start are mentions and what is between them."""
    for index, piece in enumerate(pieces):
        if piece.account is None and piece.text.strip():
            return index
    return len(pieces)


def _others(run: list[_Piece], me_id: str, *, before: bool) -> list[_Piece]:
    """The mentions of others in a run, a space apart; `before`: they follow words."""
    if not any(piece.account == me_id for piece in run):
        return run
    kept = [piece for piece in run if piece.account not in (None, me_id)]
    spaced: list[_Piece] = []
    for piece in kept:
        spaced += [_Piece(" "), piece] if before else [piece, _Piece(" ")]
    return spaced
