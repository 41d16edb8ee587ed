"""JSON that has one spelling: RFC 8785, over a subset in which nothing can be read in two ways. Pure.

The subset: no floats, no `null`, integers that every reader keeps exact (|n| < 2^53), no member twice, no
lone surrogate, at most `DEEPEST` levels. Strings are kept as they are: nothing is normalised, so two
spellings of "é" are two texts with two hashes.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final, NoReturn

import rfc8785

DEEPEST: Final = 12
"""Arrays and objects inside each other, the outermost counted. A sealed text of version 1 has at most 7."""
LONGEST_NUMBER: Final = 16
"""Characters of an integer: 2^53 has 16 digits. Longer ones are never turned into a number."""


class NotCanonical(ValueError):
    """A text that is no JSON of the subset, or another spelling of one."""


def canonical(value: Any) -> bytes:
    """`value` as RFC 8785 writes it, in UTF-8. Raises `NotCanonical` where it is not of the subset."""
    try:
        return rfc8785.dumps(value)
    except (ValueError, RecursionError) as error:  # also UnicodeEncodeError, of a surrogate in a name
        raise NotCanonical("cannot be written") from error


def sha256(value: Any) -> str:
    """SHA-256 of the canonical form, 64 lower-case hexadecimal digits."""
    return hashlib.sha256(canonical(value)).hexdigest()


def parse(text: str) -> Any:
    """The value of a text that is its own canonical form. Raises `NotCanonical`, whatever the text is."""
    if depth(text) > DEEPEST:
        raise NotCanonical("too deep")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_members,
            parse_float=_refuse,
            parse_constant=_refuse,
            parse_int=_integer,
        )
    except (ValueError, RecursionError) as error:
        raise NotCanonical("not JSON") from error
    if canonical(value) != text.encode("utf-8", "surrogatepass"):
        raise NotCanonical("another spelling")
    return value


def depth(text: str) -> int:
    """How deep the brackets outside of strings nest. Linear, and needs no stack: made before parsing."""
    deepest = level = 0
    inside = escaped = False
    for char in text:
        if inside:
            inside = escaped or char != '"'
            escaped = char == "\\" and not escaped
        elif char == '"':
            inside = True
        elif char in "[{":
            level += 1
            deepest = max(deepest, level)
        elif char in "]}":
            level -= 1
    return deepest


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs) or None in found.values():
        raise NotCanonical("a member twice, or null")
    return found


def _integer(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER + 1:
        raise NotCanonical("a number too large")
    return int(digits)


def _refuse(_text: str) -> NoReturn:
    raise NotCanonical("not an integer")
