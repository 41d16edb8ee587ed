"""`Grant`: what a room allows with one bot of another community, until when, and decided by what. Pure.

    {"v": 1, "peer": "bot:city.example", "app_ed25519": "...", "direction": "ask",
     "classes": ["general"], "not_before": 1781000000000, "until": 1788000000000, "status": "trial"}

Promises: a grant always ends; one that cannot be read in every field denies, and says which. State of a room
has no end of its own and no signature, so `until`, the status and the pinned keys are looked at whenever
something is decided.
"""

from __future__ import annotations

import json
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from policies.document import LONGEST, Unreadable, unreadable
from policies.room import BOTH, LOWER, MOST_NAMES, PEER, Classes, Collection, Limit, Meet

if TYPE_CHECKING:
    from policies.document import Standing

GRANT_TYPE: Final = "community.hearth.grant"
"""The type of the state event; its state key is the peer, which therefore never begins with `@`."""
DAY_MS: Final = 86_400_000
LONGEST_TERM_MS: Final = 180 * DAY_MS
TRIAL_PER_DAY: Final = 5
"""Questions a day while a grant is on trial."""

Time = Annotated[int, Field(ge=0, le=2**53)]
KEY: Final = r"([A-Za-z0-9+/]{43})?"
KeyText = Annotated[str, StringConstraints(pattern=rf"^{KEY}$")]
"""An Ed25519 public key in unpadded base64, as Matrix writes it (32 bytes); empty: none is pinned."""


class Direction(StrEnum):
    """Who may ask whom."""

    ASK = "ask"
    """This room's bot asks the peer."""
    ANSWER = "answer"
    """The peer asks this room's bot."""
    BOTH = "both"

    def covers(self, other: Direction) -> bool:
        """Whether this allows all that `other` does."""
        return self in (Direction.BOTH, other)


class Status(StrEnum):
    """How a grant stands, from what allows most on."""

    ACTIVE = "active"
    TRIAL = "trial"
    SUSPENDED = "suspended"
    REVOKED = "revoked"


def _worse(one: Status, other: Status) -> Status:
    order = tuple(Status)
    return max(one, other, key=order.index)


class Grant(BaseModel):
    """A permission with one peer. Times are milliseconds since the epoch."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    v: Literal[1] = Field(description="Version of the form: 1.")
    peer: str = Field(
        pattern=rf"^{PEER}$",
        description="The other community's bot, `bot:server`; the same as the state key.",
    )
    app_ed25519: KeyText = Field(
        default="", description="The key that signs its envelopes, pinned. Empty: no use yet."
    )
    direction: Direction = Field(description="Who may ask whom: `ask` (we them), `answer` (they us), `both`.")
    classes: Classes = Field(description="Classes of questions.")
    notes: Annotated[frozenset[Collection], Field(max_length=MOST_NAMES), BOTH] = Field(
        default=frozenset(), description="Collections of notes from which it is answered. Left out: none."
    )
    per_day: Limit = Field(
        default=None,
        description="Questions in 24 hours, and as many for passages of notes. On trial at most 5.",
    )
    not_before: Annotated[Time, Meet(max)] = Field(description="From when on it holds.")
    until: Annotated[Time, LOWER] = Field(description="When it ends; at most 180 days after `not_before`.")
    status: Annotated[Status, Meet(_worse)] = Field(
        description="How it stands: `trial`, `active`, `suspended`, `revoked`."
    )
    decided_by: str = Field(
        default="", max_length=255, description="The poll (event id) that decided it, or who did."
    )

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.until > self.not_before + LONGEST_TERM_MS:
            raise ValueError("a grant ends at most 180 days after it begins")
        return self

    def is_in_force(self, now: int) -> bool:
        """Whether it allows anything at `now` (ms), or will."""
        return self.status in (Status.TRIAL, Status.ACTIVE) and now < self.until

    def is_within(self, other: Grant) -> bool:
        """Whether this allows nothing that `other` does not."""
        if (self.peer, self.app_ed25519) != (other.peer, other.app_ed25519):
            return False
        narrower = all(
            meet.of(getattr(self, name), getattr(other, name)) == getattr(self, name)
            for name, meet in _MEETS.items()
        )
        return narrower and other.direction.covers(self.direction)


_MEETS: Final = {
    name: one for name, field in Grant.model_fields.items() for one in field.metadata if isinstance(one, Meet)
}


@lru_cache(maxsize=10_000)
def read_grant(text: str, peer: str) -> Grant | Unreadable:
    """The grant that stands under the state key `peer`. Total; what is wrong is said without quoting it."""
    if len(text) > LONGEST:
        return Unreadable("", f"it is longer than {LONGEST:,} characters")
    if text.strip() == "{}":
        return Unreadable("", "it is empty, which stops it")
    try:
        grant = Grant.model_validate_json(text)
    except (ValidationError, ValueError, RecursionError) as error:
        return unreadable(error)
    if grant.peer != peer:
        return Unreadable("peer", "it names another peer than its state key")
    return grant


def grants_of(standing: tuple[tuple[str, Standing], ...]) -> dict[str, Grant | Unreadable]:
    """The grants of a place by peer, each read."""
    return {peer: read_grant(one.text, peer) for peer, one in standing}


def schema() -> str:
    """The JSON Schema of a grant, for editors and for docs/grant.schema.json."""
    return json.dumps(Grant.model_json_schema(), indent=2, sort_keys=True) + "\n"
