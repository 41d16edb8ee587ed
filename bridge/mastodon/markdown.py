"""Markdown <-> the words of it, for a network that shows none of its marks. Pure.

Lists and quotes keep their signs, because people write them that way too. Source: CommonMark 0.31.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

from bridge.mastodon.text import clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markdown_it.token import Token

_SPECIAL = re.compile(r"([\\`*_\[\]<>&~|])")
_LEADING = re.compile(r"^( *)(?:([#+=-])|(\d{1,9})([.)]))?")

_markdown = MarkdownIt("commonmark", {"html": False})


def plain(markdown: str) -> str:
    """The words of `markdown`."""
    writer = _Writer()
    for token in _markdown.parse(clean(markdown)):
        writer.take(token)
    return clean("\n".join(writer.lines)).strip("\n")


class _Writer:
    """Block tokens as lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._lead: list[str] = []
        """What stands before the lines of the lists and quotes that are open."""
        self._numbers: list[int | None] = []
        """Of each open list the number of its next item; None: it has none."""
        self._first = ""
        """What stands before the next line alone: the sign of its item."""

    def take(self, token: Token) -> None:
        kind = token.type
        if kind == "inline":
            self._write(_inline(token.children or []))
        elif kind in ("fence", "code_block"):
            self._gap()
            self._write(token.content.rstrip("\n"))
        elif kind == "hr":
            self._gap()
            self._write("\u2014")
        elif kind in ("paragraph_open", "heading_open"):
            self._gap()
        elif kind.startswith("list_item"):
            self._item(opens=kind.endswith("open"))
        elif kind.endswith(("list_open", "list_close")):
            self._list(token)
        elif kind == "blockquote_open":
            self._gap()
            self._lead.append("> ")
        elif kind == "blockquote_close":
            self._lead.pop()

    def _list(self, token: Token) -> None:
        if token.type.endswith("close"):
            self._numbers.pop()
            return
        self._gap()
        start = token.attrGet("start")
        ordered = token.type.startswith("ordered")
        self._numbers.append(int(1 if start is None else start) if ordered else None)

    def _item(self, *, opens: bool) -> None:
        if not opens:
            if self._first:
                self._write("")
            self._lead.pop()
            return
        number = self._numbers[-1]
        self._first = "- " if number is None else f"{number}. "
        self._lead.append(" " * len(self._first))
        if number is not None:
            self._numbers[-1] = number + 1

    def _write(self, text: str) -> None:
        for line in text.split("\n"):
            lead = self._lead[:-1] if self._first else self._lead
            self.lines.append("".join(lead) + self._first + line)
            self._first = ""

    def _gap(self) -> None:
        """An empty line between paragraphs; none inside lists."""
        if self.lines and self.lines[-1].strip("> ") and not self._numbers:
            self.lines.append("".join(self._lead).rstrip())


def _inline(tokens: Sequence[Token]) -> str:
    """The words of inline tokens; a link is followed by where it leads, unless it says so itself."""
    out: list[str] = []
    links: list[tuple[int, str]] = []
    for token in tokens:
        match token.type:
            case "text":
                out.append(token.content)
            case "softbreak" | "hardbreak":
                out.append("\n")
            case "code_inline":
                out.append(f"`{token.content}`")
            case "image":
                said = _inline(token.children or [])
                out.append(" ".join(filter(None, (said, f"({token.attrGet('src')})"))))
            case "link_open":
                links.append((len(out), str(token.attrGet("href") or "")))
            case "link_close" if links:
                at, target = links.pop()
                if target and "".join(out[at:]) not in (target, target.removeprefix("mailto:")):
                    out.append(f" ({target})")
            case _:
                pass
    return "".join(out)


def as_markdown(text: str) -> str:
    """Plain words as Markdown that shows them as they are, line by line."""
    return "\n".join(_line(line) for line in text.split("\n"))


def _line(line: str) -> str:
    escaped = _SPECIAL.sub(r"\\\1", line)
    found = _LEADING.match(escaped)
    assert found is not None  # all of it is optional
    indent = "\u00a0" * len(found[1])
    if found[2]:
        start = f"\\{found[2]}"
    elif found[3]:
        start = f"{found[3]}\\{found[4]}"
    else:
        start = ""
    return indent + start + escaped[found.end() :]
