"""Presets: starting values that a room copies, each a page that a parent can read.

A page is TOML: the fields of `RoomPolicy` (`policies/room.py`) with the reason above each. What a page does
not name stays as `RoomPolicy` has it. Promises that every name in `NAMES` has a page in the package; refuses
any other name. The pages are read when the package is imported, so that no turn waits for the disk.
"""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Final

NAMES: Final[tuple[str, ...]] = ("family", "association", "city", "school")


_PAGES: Final = {
    name: (resources.files(__name__) / f"{name}.toml").read_text(encoding="utf-8") for name in NAMES
}


def text(name: str) -> str:
    """The page of the preset `name`, with its comments. KeyError: there is none of that name."""
    return _PAGES[name]


def values(name: str) -> dict[str, object]:
    """The fields that the preset `name` sets, as TOML has them: lists, and words rather than enums.

    To be read leniently: `RoomPolicy.model_validate(values(name), strict=False)`. The dictionary is the
    caller's own. KeyError: there is none of that name.
    """
    return tomllib.loads(text(name))
