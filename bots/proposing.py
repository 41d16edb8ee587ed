"""Text to a change of the policy, or to a proposal: what follows `!policy set` and `!propose`. Pure.

    voice asked                                  a field and its value
    quiet 22:00-07:00 Europe/Amsterdam, ...      lists are written with commas
    ask @bot:city.example classes=general until=3 months quota=5 key=...
    answer @bot:family.example classes=local-knowledge notes=pool,library

Never raises on any text; what cannot be understood is a `Mistake`, with a guess where there is one.
"""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from policies.classes import Class
from policies.document import UNSET, Unreadable, read
from policies.grant import KEY, Direction
from policies.proposal import LONGEST_DAYS, Proposal
from policies.room import COLLECTION, PEER, RoomPolicy

if TYPE_CHECKING:
    from collections.abc import Mapping

UNSETTING: Final = frozenset({"none", "unset", "default"})
_YES: Final = frozenset({"yes", "on", "true", "ja"})
_NO: Final = frozenset({"no", "off", "false", "nee"})
_DAYS: Final[Mapping[str, int]] = {
    "day": 1,
    "week": 7,
    "month": 30,
    "dag": 1,
    "dagen": 1,
    "weken": 7,
    "maand": 30,
    "maanden": 30,
}
_OPTION: Final = re.compile(r"(\w+)\s*[=:]\s*(.*?)(?=\s+\w+\s*[=:](?!\S*\.)|$)", re.DOTALL)
_SPAN: Final = re.compile(r"(\d{1,3})\s*([a-z]+)")
_EMPTY: Final = "-"
_SHOWN: Final = 40


@dataclass(frozen=True, slots=True)
class Mistake:
    """What cannot be understood: a code for the words, what was typed, and what may have been meant."""

    code: str
    what: str = ""
    guess: str = ""


def change(text: str) -> dict[str, Any] | Mistake:
    """`KEY VALUE` as a change of the policy document: field to JSON value, None to unset it."""
    key, _, value = text.strip().partition(" ")
    name = key.casefold().rstrip(":=").replace("-", "_")
    if not name:
        return Mistake("no_key")
    if name not in RoomPolicy.model_fields:
        near = difflib.get_close_matches(name[:_SHOWN], RoomPolicy.model_fields, n=1, cutoff=0.5)
        return Mistake("unknown_key", key[:_SHOWN], near[0] if near else "")
    value = value.strip().removeprefix("=").strip()
    if not value:
        return Mistake("no_value", name)
    found = _value(name, value)
    tried = read(json.dumps({"v": 1, name: found} if found is not None else {"v": 1}))
    if isinstance(tried, Unreadable):
        return Mistake("bad_value", name, tried.problem)
    return {name: found}


def _value(name: str, text: str) -> object:
    """The JSON value that was meant; what does not fit the field is found by reading it as a document."""
    plain = text.casefold()
    usual = getattr(UNSET, name)
    if plain in UNSETTING:
        return None
    if isinstance(usual, bool):
        return True if plain in _YES else False if plain in _NO else text
    if isinstance(usual, frozenset):
        parts = [part.strip() for part in text.split(",") if part.strip() not in ("", _EMPTY)]
        return [part.removeprefix("@") if name.endswith("_peers") else part for part in parts]
    if re.fullmatch(r"[+-]?\d{1,16}", text) and not isinstance(usual, str):
        return int(text)
    return plain if isinstance(usual, str) and name != "persona" else text


def proposal(text: str) -> Proposal | Mistake:
    """What is proposed: something with a peer, or a change of the policy."""
    word, _, rest = text.strip().partition(" ")
    direction = next((one for one in Direction if one == word.casefold()), None)
    if direction is None:
        changes = change(text)
        return changes if isinstance(changes, Mistake) else Proposal(changes)
    name, _, options = rest.strip().partition(" ")
    peer = name.removeprefix("@").casefold()
    if not re.fullmatch(PEER, peer):
        return Mistake("no_peer", name[:_SHOWN])
    return _deal(peer, direction, {key.casefold(): value.strip() for key, value in _OPTION.findall(options)})


def _deal(  # noqa: PLR0911 - one for each mistake
    peer: str, direction: Direction, options: Mapping[str, str]
) -> Proposal | Mistake:
    for key in options:
        if key not in ("classes", "class", "until", "quota", "key", "notes"):
            return Mistake("unknown_option", key[:_SHOWN])
    named = [one.strip() for one in options.get("classes", options.get("class", "general")).split(",")]
    classes = [one.casefold() for one in named if one]
    unknown = next((one for one in classes if one not in set(Class)), None)
    if unknown is not None or not classes:
        near = difflib.get_close_matches((unknown or "")[:_SHOWN], list(Class), n=1)
        return Mistake("unknown_class", (unknown or "")[:_SHOWN], near[0] if near else "")
    days = _days(options["until"]) if "until" in options else LONGEST_DAYS
    if days is None:
        return Mistake("bad_until", options["until"][:_SHOWN])
    quota = options.get("quota")
    if quota is not None and not re.fullmatch(r"\d{1,6}", quota):
        return Mistake("bad_quota", quota[:_SHOWN])
    key = options.get("key", "")
    if not re.fullmatch(KEY, key):
        return Mistake("bad_key")
    notes = tuple(sorted({one.strip() for one in options.get("notes", "").split(",")} - {""}))
    wrong = next((one for one in notes if not re.fullmatch(COLLECTION, one)), None)
    if wrong is not None:
        return Mistake("bad_notes", wrong[:_SHOWN])
    per_day = None if quota is None else int(quota)
    named_classes = tuple(sorted({Class(one) for one in classes}))
    return Proposal({}, peer, direction, named_classes, days, per_day, key, notes)


def _days(text: str) -> int | None:
    """`3 months`, `90 days`, `2 weeks`: days, at most 180; None where it says nothing such."""
    found = _SPAN.fullmatch(text.strip().casefold())
    unit = None if found is None else _DAYS.get(found[2], _DAYS.get(found[2].removesuffix("s")))
    if found is None or unit is None:
        return None
    days = int(found[1]) * unit
    return min(days, LONGEST_DAYS) if days > 0 else None
