"""What a room says for itself: its policy document, as a state event carries it. Pure.

    {"v": 1, "askers": ["@ada:home.example", "school.example"], "per_person_day": 20, "voice": "asked"}

A document can only narrow: what it does not name stays as whoever runs the bot has it. Promises that one
which cannot be read in every field denies, and says which field: an unknown field may be a limit that
a later version knows. `{}`, which is what redaction leaves, cannot be read; so whoever may redact can stop.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from policies.room import ANYONE, RoomPolicy, Voice

STATE_TYPE: Final = "community.hearth.policy"
"""The type of the state event; its state key is empty. The homeserver holds who may write it."""
LONGEST: Final = 65_536
"""Characters of a document; a whole event has at most so many bytes (Matrix, size limits)."""
_WHERE_LENGTH: Final = 60

Pattern = Annotated[str, StringConstraints(min_length=1, max_length=255)]
Limit = Annotated[int, Field(ge=0, le=1_000_000)]


class PolicyDocument(BaseModel):
    """The fields of a policy document. Every field but `v` may be left out."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    v: Literal[1] = Field(description="Version of the form: 1.")
    askers: frozenset[Pattern] = Field(
        frozenset({ANYONE}),
        max_length=1_000,
        description='Who may ask: full addresses, whole servers, or `"*"`. An empty list: nobody.',
    )
    per_person_day: Limit | None = Field(None, description="Answers for one person in 24 hours.")
    per_place_day: Limit | None = Field(None, description="Answers for the whole room in 24 hours.")
    voice: Voice = Field(
        Voice.ALL,
        description="What is listened to, at most: `off`, `asked`, `named`, `all`.",
    )

    def policy(self) -> RoomPolicy:
        """The limits, to be met with those of whoever runs the bot."""
        return RoomPolicy(self.askers, self.per_person_day, self.per_place_day, self.voice)


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


def limits_of(standing: Standing | None) -> RoomPolicy | Unreadable | None:
    """What the document of a room allows, for `decide`; None where there is none."""
    return None if standing is None else read(standing.text)


@lru_cache(maxsize=1_000)
def read(text: str) -> RoomPolicy | Unreadable:
    """What a document allows. Total; what is wrong with one is said without quoting what it says."""
    if len(text) > LONGEST:
        return Unreadable("", f"it is longer than {LONGEST:,} characters")
    if text.strip() == "{}":
        return Unreadable("", "it is empty, which stops me")
    try:
        return PolicyDocument.model_validate_json(text).policy()
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"] if part != "__root__")
        return Unreadable(_plain(where), str(first["msg"]).removeprefix("Input "))
    except (ValueError, RecursionError):
        return Unreadable("", "it is not JSON")


def _plain(where: str) -> str:
    """A field's name as it may be shown: it was typed by anybody."""
    kept = "".join(char for char in where if char.isascii() and (char.isalnum() or char in "._-"))
    return kept[:_WHERE_LENGTH]


def schema() -> str:
    """The JSON Schema of a document, for editors and for docs/policy.schema.json."""
    return json.dumps(PolicyDocument.model_json_schema(), indent=2, sort_keys=True) + "\n"
