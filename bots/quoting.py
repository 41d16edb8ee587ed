r"""What another community's bot wrote, as Markdown that can be nothing but text. Pure.

Each line is quoted (`> `), and every character that means something to CommonMark, where it stands, has a
backslash (section 2.4), so that a renderer shows it as it is: no link, no image, no heading, no code, no
HTML. What pings people by its letters alone is parted by a space that is seen: `@room`, `@name`, addresses,
and links of matrix.to. An invisible character in their place would not do: whoever reads the text without
what cannot be seen (`bots.commands.visible`) would have the ping again. URLs stay whole, as text.
"""

from __future__ import annotations

import re
from typing import Final

from bots.commands import visible

QUOTED: Final = 3_000
"""Characters of a quote, marks and all."""
LOOKED_AT: Final = 10
"""Times `limit`: characters of a text that are looked at."""
_MORE: Final = "\u2026"
_BREAK: Final = re.compile("\r\n|[\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029]")
_PING: Final = re.compile(r"(?<!\w)@(?=\S)|@(?=room)", re.IGNORECASE)
_PERMALINK: Final = re.compile(
    "(matrix)(\\.|%2e|[\u3002\uff0e\uff61\u2024])(to)|(matrix:)(?=[ur]/|room)", re.IGNORECASE
)
"""Links that clients show as somebody's name: those of matrix.to, also as a URL parser reads its dot, and
those of the scheme `matrix:` (client-server API, "URIs")."""
_SPECIAL: Final = re.compile(
    r"[\\`*<>\[\]|]"
    r"|~(?=~)|(?<=~)~"  # one alone strikes nothing through, and URLs have them
    r"|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])"  # between letters it emphasises nothing
    r"|&(?=#?\w+;)"
)
_START: Final = re.compile(r"(?:(?=[-+=:#!/])|(\d+)(?=[.)]))")
"""At the start of a line these begin a list, a heading, a rule, the second line of a table; or a command."""


def quoted(text: str, limit: int = QUOTED) -> str:
    """`text` as a quote of at most `limit` characters (ten at least); one that was cut ends with `…`."""
    plain = visible(_BREAK.sub("\n", text[: LOOKED_AT * limit])).strip()
    plain = _PERMALINK.sub(_parted, _PING.sub("@ ", plain))
    if len(text) <= LOOKED_AT * limit and len(plain) <= limit and len(whole := _quote(plain)) <= limit:
        return whole
    low, high = 0, min(len(plain), limit)  # what `low` characters become fits; of `high`, it does not have to
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(_cut(plain, middle)) <= limit else (low, middle - 1)
    return _cut(plain, low)


def _cut(plain: str, at: int) -> str:
    return _quote(f"{plain[:at].rstrip()} {_MORE}")


def _quote(plain: str) -> str:
    paragraphs: list[list[str]] = [[]]
    for line in plain.split("\n"):
        words = _escaped(line.strip())
        if words:
            paragraphs[-1].append(f"> {words}")
        elif paragraphs[-1]:
            paragraphs.append([])
    # Two spaces end a line for good; a line break alone is shown as a space.
    return "\n>\n".join("  \n".join(lines) for lines in paragraphs if lines) or f"> {_MORE}"


def _escaped(line: str) -> str:
    words = _SPECIAL.sub(r"\\\g<0>", line)
    return _START.sub(lambda found: f"{found[1] or ''}\\", words, count=1) if _START.match(words) else words


def _parted(found: re.Match[str]) -> str:
    return f"{found[4]} " if found[4] else f"{found[1]} {found[2]} {found[3]}"
