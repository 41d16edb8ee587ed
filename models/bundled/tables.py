"""The tables of the little world: words, small talk and kinds of fact, read from TOML files."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any


def read(name: str) -> dict[str, Any]:
    """The table `name.toml`; every list of text as a tuple."""
    table = tomllib.loads(Path(__file__).with_name(f"{name}.toml").read_text(encoding="utf-8"))
    return {key: freeze(value) for key, value in table.items()}


def freeze(value: Any) -> Any:
    """Lists of text to tuples, all the way down."""
    if isinstance(value, list):
        return tuple(freeze(item) for item in value)
    if isinstance(value, dict):
        return {key: freeze(item) for key, item in value.items()}
    return value


WORDS: dict[str, tuple[str, ...]] = read("words")
TALK: dict[str, Any] = read("smalltalk")
KINDS: tuple[dict[str, Any], ...] = read("kinds")["kind"]
UNKNOWN: str = TALK["unknown"]
"""The one answer to whatever does not stand in the context."""
