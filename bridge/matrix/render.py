"""Markdown -> contents of Matrix events, cut to fit. Pure.

Promises: HTML carries only what the spec lets clients show; words never ping anybody but the
`mentions` that are given; every part fits one encrypted event; cutting keeps every character and
never leaves a code block open. Source: client-server API 1.16, "m.room.message msgtypes",
"User and room mentions", "Event replacements", "Threading".
"""

from __future__ import annotations

import html
import json
import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import nh3
from markdown_it import MarkdownIt

from bridge.matrix.translate import MARKER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bots.conversation import Revise, Say

CONTENT_LIMIT: Final = 44_000
"""Bytes of the words of one event as JSON. Encryption adds a third, the server its signatures and
references; together they stay below the 65,536 bytes that an event may have."""

_PREVIEW: Final = 500
"""Characters of a revision that clients without edits show."""

_TAGS: Final = frozenset(
    [
        "a",
        "b",
        "blockquote",
        "br",
        "caption",
        "code",
        "del",
        "div",
        "em",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "hr",
        "i",
        "li",
        "ol",
        "p",
        "pre",
        "s",
        "span",
        "strong",
        "sub",
        "sup",
        "table",
        "tbody",
        "td",
        "th",
        "thead",
        "tr",
        "u",
        "ul",
    ]
)
_ATTRIBUTES: Final = {"a": {"href"}, "code": {"class"}, "ol": {"start"}}
_SCHEMES: Final = frozenset({"https", "http", "ftp", "mailto", "magnet"})
_PILL = re.compile(r"\A(?:https?://(?:www\.)?matrix\.to/?(?:#|%23)/?|matrix:)(.*)", re.IGNORECASE | re.DOTALL)
_LANGUAGE = re.compile(r"\Alanguage-[\w+#.-]{1,40}\Z")
_EVERYBODY = re.compile("@room", re.IGNORECASE)
_UNSENDABLE = re.compile("[\x00\ud800-\udfff]")
_FENCE = re.compile(r"^[ \t]{0,12}(`{3,40}|~{3,40})([^\n]*)$")
_FLAG = re.compile("[\U0001f1e6-\U0001f1ff]")  # two of these make one flag
_EXTENDS = re.compile("[\u200d\ufe00-\ufe0f\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]")
_CLUSTER: Final = 64
_LONG_INFO: Final = 100
_WORST: Final = 30
"""JSON bytes that one character takes at most in ordinary text: body, HTML, escapes."""

_markdown = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


def to_html(text: str, mentions: Sequence[str] = ()) -> str:
    """Markdown as HTML that Matrix clients show. Links that would ping anybody else lose their target."""
    pinged = frozenset(mentions)

    def keep(tag: str, _attribute: str, value: str) -> str | None:
        if tag == "code":
            return value if _LANGUAGE.match(value) else None
        if tag != "a":
            return value
        pill = _PILL.match(value)
        return value if pill is None or _pilled(pill[1]) in pinged else None

    clean = nh3.clean(
        _markdown.render(sendable(text)),
        tags=set(_TAGS),
        attributes={tag: set(names) for tag, names in _ATTRIBUTES.items()},
        attribute_filter=keep,
        url_schemes=set(_SCHEMES),
        link_rel=None,
    )
    return _quiet(clean).rstrip("\n")


def _pilled(target: str) -> str:
    user = unquote(target).partition("?")[0]
    return "@" + user.removeprefix("u/") if user.startswith("u/") else user


_QUOTED = re.compile(r"^>.*$", re.MULTILINE)
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")


def words(text: str, *, mentions: Sequence[str] = (), notice: bool = False) -> dict[str, Any]:
    """`msgtype`, `body`, HTML where it says more than the body, and exactly the given `mentions`."""
    # What somebody else wrote is quoted with its marks escaped; the plain body has no use for the escapes.
    body = _quiet(_QUOTED.sub(lambda line: _ESCAPE.sub(r"\1", line[0]), sendable(text)))
    content: dict[str, Any] = {
        "msgtype": "m.notice" if notice else "m.text",
        "body": body,
        "m.mentions": {"user_ids": list(mentions)} if mentions else {},
    }
    shown = to_html(text, mentions)
    if shown != f"<p>{html.escape(body, quote=False)}</p>":
        content |= {"format": "org.matrix.custom.html", "formatted_body": shown}
    return content


def say_content(action: Say, key: str) -> dict[str, Any]:
    """The content of a new message."""
    return _said(words(action.text, mentions=action.mentions, notice=action.notice), action, key)


def file_content(action: Say, key: str, uploaded: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a new message that shows a file; `uploaded` is what `media.upload` told of it."""
    name = _quiet(sendable(action.text))
    content = {
        "msgtype": "m.file",
        "body": name,
        "filename": name,
        "info": {"mimetype": uploaded["mimetype"], "size": uploaded["size"]},
        "m.mentions": {"user_ids": list(action.mentions)} if action.mentions else {},
        **{where: uploaded[where] for where in ("file", "url") if where in uploaded},
    }
    return _said(content, action, key)


def _said(content: dict[str, Any], action: Say, key: str) -> dict[str, Any]:
    relation: dict[str, Any] = {}
    if action.thread is not None:
        relation = {
            "rel_type": "m.thread",
            "event_id": action.thread,
            # True: the reply below is only there for clients that do not know threads.
            "is_falling_back": action.reply_to is None,
            "m.in_reply_to": {"event_id": action.reply_to or action.thread},
        }
    elif action.reply_to is not None:
        relation = {"m.in_reply_to": {"event_id": action.reply_to}}
    if relation:
        content["m.relates_to"] = relation
    content[MARKER] = {"bot": True, "key": key}
    return content


def revise_content(action: Revise, key: str, target: str) -> dict[str, Any]:
    """The content of an edit; nobody is notified by it (push rule `.m.rule.suppress_edits`)."""
    new = words(action.text, mentions=action.mentions, notice=action.notice)
    return _edit(new, target, {"bot": True, "key": key})


def progress_content(text: str, target: str, mentions: Sequence[str] = ()) -> dict[str, Any]:
    """The content of an edit that shows an answer while it is being made."""
    return _edit(words(text, mentions=mentions), target, {"bot": True, "progress": True})


def _edit(new: dict[str, Any], target: str, mark: dict[str, Any]) -> dict[str, Any]:
    body = new["body"]
    return {
        "msgtype": new["msgtype"],
        "body": "* " + (body if len(body) <= _PREVIEW else body[: _safe(body, _PREVIEW)] + "…"),
        "m.mentions": {},
        "m.new_content": {**new, MARKER: mark},
        "m.relates_to": {"rel_type": "m.replace", "event_id": target},
        MARKER: mark,
    }


def sendable(text: str) -> str:
    """`text` without what JSON on the wire cannot carry: NUL and lone surrogates."""
    return _UNSENDABLE.sub("\ufffd", text)


def _quiet(text: str) -> str:
    # Clients from before m.mentions notify everybody on this word; a word joiner keeps it readable.
    return _EVERYBODY.sub(lambda found: f"@\u2060{found[0][1:]}", text)


# -- cutting ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a text: `kernel` is a slice of it, around which code fences are opened and closed."""

    kernel: str
    before: str = ""
    after: str = ""

    @property
    def text(self) -> str:
        """What is sent."""
        return f"{self.before}{self.kernel}{self.after}"


def parts(text: str) -> tuple[str, ...]:
    """Cut `text` into pieces that each fit one event; at least one."""
    return tuple(part.text for part in cut(text))


def cut(text: str, limit: int = CONTENT_LIMIT) -> tuple[Part, ...]:
    """Cut `text` so that each part's words take at most `limit` bytes; the kernels join to `text`.

    Cuts between paragraphs where that leaves parts of at least half the size, else between lines,
    words, characters as people see them; never inside a surrogate pair or an emoji sequence.
    """
    pieces: list[Part] = []
    rest, opened = text, ""
    while True:
        if _fits(Part(rest, opened), limit):
            pieces.append(Part(rest, opened))
            return tuple(pieces)
        size = len(rest)
        while True:
            size = _shorter(rest, size, opened, limit)
            at = _boundary(rest, size)
            fence = _open_fence(opened + rest[:at])
            part = Part(rest[:at], opened, _closing(rest[:at], fence))
            if _fits(part, limit) or at <= 1:
                break
            size = at
        pieces.append(part)
        rest, opened = rest[at:], fence and f"{fence}\n"


def _fits(part: Part, limit: int) -> bool:
    text = part.text
    return len(text) * _WORST <= limit or len(json.dumps(words(text))) <= limit


def _shorter(rest: str, size: int, opened: str, limit: int) -> int:
    """A length below `size` that is likely to fit, from the weight of the text so far."""
    weight = len(json.dumps(words(opened + rest[:size])))
    return max(1, min(size - 1, size * limit * 9 // (weight * 10)))


def _boundary(text: str, most: int) -> int:
    """The best place to cut at or before `most`, at least 1."""
    for mark in ("\n\n", "\n", ". ", " "):
        at = text.rfind(mark, most // 2, most)
        if at > 0:
            return at + len(mark)
    return max(1, _safe(text, most))


def _safe(text: str, at: int) -> int:
    """The nearest place at or before `at` that is between two characters as people see them."""
    for place in range(at, max(0, at - _CLUSTER), -1):
        if place >= len(text) or not _belongs(text, place):
            return place
    return at


def _belongs(text: str, place: int) -> bool:
    """Whether the character at `place` is shown as one with that before it (UAX 29, the common cases)."""
    char, before = text[place], text[place - 1]
    if _FLAG.match(char) and _FLAG.match(before):
        run = place
        while run > 0 and _FLAG.match(text[run - 1]):
            run -= 1
        return (place - run) % 2 == 1
    return (
        before in "\u200d\r"
        or _EXTENDS.match(char) is not None
        or unicodedata.category(char) in ("Mn", "Mc", "Me")
    )


def _open_fence(text: str) -> str:
    """The line that opens the code block in which `text` ends; `""` outside of one."""
    opening = marker = ""
    for line in text.split("\n"):
        found = _FENCE.match(line)
        if found is None:
            continue
        run, info = found[1], found[2]
        if not marker:
            if "`" not in info or run[0] == "~":
                marker = run
                opening = line if len(line) <= _LONG_INFO else line[: line.index(run) + len(run)]
        elif run[0] == marker[0] and len(run) >= len(marker) and not info.strip():
            opening = marker = ""
    return opening


def _closing(kernel: str, fence: str) -> str:
    if not fence:
        return ""
    found = _FENCE.match(fence)
    assert found is not None
    indent = fence[: fence.index(found[1])]
    return ("" if kernel.endswith("\n") else "\n") + indent + found[1]
