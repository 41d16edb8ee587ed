"""What a room says for itself: its policy document, as a state event carries it. Pure.

    {"v": 1, "askers": ["@ada:home.example", "school.example"], "per_person_day": 20, "voice": "asked"}

Promises that a document which cannot be read in every field denies, and says which field: an unknown field
may be a limit that a later version knows. `{}`, which is what redaction leaves, cannot be read; so whoever
may redact can stop.

Where a room decides by vote, a document that widens is inert without one (`effective`): what it narrows
holds at once, what it widens waits for a vote.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

from pydantic import Field, ValidationError

from policies.room import DECIDING, WORDING, Mode, RoomPolicy

STATE_TYPE: Final = "community.hearth.policy"
"""The type of the state event; its state key is empty. The homeserver holds who may write it."""
LONGEST: Final = 65_536
"""Characters of a document; a whole event has at most so many bytes (Matrix, size limits)."""
_WHERE_LENGTH: Final = 60
LEAVING: Final = (
    *("ask_peers", "answer_peers", "classes_out", "classes_in", "with_summary", "preview"),
    *("voice_may_leave", "max_hops", "peer_per_day", "peer_per_person_day"),
)
"""The fields about other communities."""
UNSET: Final = RoomPolicy()
"""What a room without a document wishes: no limits of its own inside, and nothing leaves."""
SHUT: Final = RoomPolicy(askers=frozenset(), mode=Mode.CONSENT)


class PolicyDocument(RoomPolicy):
    """A policy as it stands in a room. Every field but `v` may be left out."""

    v: Literal[1] = Field(description="Version of the form: 1.")
    decided_by: str = Field(
        default="",
        max_length=255,
        description="The poll that decided it, or who did. Permits nothing.",
    )

    def policy(self) -> RoomPolicy:
        """The limits, to be met with those of whoever runs the bot."""
        return RoomPolicy.model_construct(**{name: getattr(self, name) for name in RoomPolicy.model_fields})


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A document that denies because it cannot be read: at which field, and what is wrong there."""

    where: str
    problem: str

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}" if self.where else self.problem


@dataclass(frozen=True, slots=True)
class Standing:
    """The document that stands in a room: its text (JSON), who set it, and when (ms since the epoch)."""

    text: str
    set_by: str
    set_at: int


def limits_of(standing: Standing | None) -> RoomPolicy | Unreadable:
    """What the document of a room allows, for `decide`; where there is none, `UNSET`."""
    return UNSET if standing is None else read(standing.text)


def base_of(text: str | None) -> RoomPolicy:
    """What a change begins from: the document `text` that held last and could be read; None: there is none.

    Were that lost, nothing would be allowed, and only a vote could change it.
    """
    found = UNSET if text is None else read(text)
    return SHUT if isinstance(found, Unreadable) else found


@lru_cache(maxsize=1_000)
def read(text: str) -> RoomPolicy | Unreadable:
    """What a document allows. Total; what is wrong with one is said without quoting what it says."""
    found = parsed(text)
    return found.policy() if isinstance(found, PolicyDocument) else found


def parsed(text: str) -> PolicyDocument | Unreadable:
    """The document with what it says about itself; see `read`."""
    if len(text) > LONGEST:
        return Unreadable("", f"it is longer than {LONGEST:,} characters")
    if text.strip() == "{}":
        return Unreadable("", "it is empty, which stops me")
    try:
        return PolicyDocument.model_validate_json(text)
    except (ValidationError, ValueError, RecursionError) as error:
        return unreadable(error)


def unreadable(error: Exception) -> Unreadable:
    """What a validation has found, without what was typed."""
    if not isinstance(error, ValidationError):
        return Unreadable("", "it is not JSON")
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"] if part != "__root__")
    problem = str(first["msg"]).removeprefix("Input ").removeprefix("Value error, ")
    return Unreadable(_plain(where), problem)


def _plain(where: str) -> str:
    """A field's name as it may be shown: it was typed by anybody."""
    kept = "".join(char for char in where if char.isascii() and (char.isalnum() or char in "._-"))
    return kept[:_WHERE_LENGTH]


def written(policy: RoomPolicy, decided_by: str = "") -> str:
    """The text of a document that says `policy`: what is not said is as where nothing is set."""
    said: dict[str, Any] = {"v": 1}
    for name, value in policy.model_dump(mode="json").items():
        if getattr(policy, name) != getattr(UNSET, name):
            said[name] = sorted(value) if isinstance(value, list) else value
    if decided_by:
        said["decided_by"] = decided_by
    return json.dumps(said, ensure_ascii=False, sort_keys=True)


def effective(base: RoomPolicy | None, new: RoomPolicy, *, voted: bool) -> RoomPolicy:
    """What holds once `new` stands where `base` held; None: a room that we see for the first time.

    All of it where the room's vote says so, or where admins decided so far; else only what narrows, and
    nothing about deciding itself: a stricter rule, too, can be one that suits whoever sets it. Wording
    permits nothing, so it needs no vote. Of a voting room that we have not seen before we know no votes, so
    nothing leaves it.
    """
    mode = new.mode if base is None else base.mode
    if voted or mode is Mode.ADMIN:
        return new
    if base is None:
        return new.model_copy(update={name: getattr(UNSET, name) for name in LEAVING})
    return base.meet(new).model_copy(update={name: getattr(base, name) for name in DECIDING})


def held(ceiling: RoomPolicy, standing: Standing | None) -> RoomPolicy:
    """What holds in a room: both limits, and the room's wording.

    A document that cannot be read adds nothing here; `decide` refuses because of it.
    """
    room = limits_of(standing)
    return ceiling if isinstance(room, Unreadable) else ceiling.meet(room)


def inert(new: RoomPolicy, held: RoomPolicy) -> tuple[str, ...]:
    """The fields of `new` that are not in force where `held` is."""
    return tuple(
        name
        for name in RoomPolicy.model_fields
        if name not in WORDING and getattr(new, name) != getattr(held, name)
    )


def schema() -> str:
    """The JSON Schema of a document, for editors and for docs/policy.schema.json."""
    return json.dumps(PolicyDocument.model_json_schema(), indent=2, sort_keys=True) + "\n"
