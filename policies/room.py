"""`RoomPolicy`: what a room allows, as data. A room's state event carries one; the settings make the ceiling.

Promises: every permission has its `meet`, the stricter of two, so that the wishes of a room and the limits
of whoever runs the bot combine the same way in any order; wording (`language`, `persona`) permits nothing
and has none. Left out, a field narrows nothing of what the bot does inside the room, and lets nothing out.
"""

from __future__ import annotations

import re
from collections.abc import Callable  # noqa: TC003 - pydantic looks at annotations
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from policies.classes import Class

ANYONE: Final = "*"
MOST_NAMES: Final = 1_000
_TIME: Final = r"([01]\d|2[0-3]):([0-5]\d)"
_WINDOW: Final = re.compile(rf"{_TIME}-{_TIME}(?: ([A-Za-z0-9_+/-]{{1,64}}))?")


class _Ordered(StrEnum):
    """Values from the strictest on."""

    def allows(self, other: _Ordered) -> bool:
        """Whether this allows at least as much as `other` does."""
        order = tuple(type(self))
        return order.index(self) >= order.index(other)


class Voice(_Ordered):
    """What is listened to of what people speak, from the strictest on."""

    OFF = "off"
    """Nothing, whoever asks."""
    ASKED = "asked"
    """What is asked for: a mention, a reply to us, a direct room, a command, an ear."""
    NAMED = "named"
    """Every voice message; what begins with the bot's name is answered, of the rest nothing is said."""
    ALL = "all"
    """Every voice message is written down in the room."""


class Trust(_Ordered):
    """What vouches for the device that a message was encrypted by, from the most on."""

    VERIFIED = "verified"
    """Its owner's identity, which somebody here has compared with that person."""
    SIGNED = "signed"
    """Its owner's identity."""
    UNSIGNED = "unsigned"
    """Nothing; also of what was not encrypted."""


class Answers(_Ordered):
    """Which messages are answered, from the strictest on."""

    DIRECT = "direct"
    """Those of a room of two."""
    MENTION = "mention"
    """Those that mention the bot or reply to it, too."""
    ALL = "all"
    """Every message of the room."""


class Preview(_Ordered):
    """When the asker sees, and agrees to, what would leave the room; from the strictest on."""

    ALWAYS = "always"
    FIRST_TIME = "first_time"
    NEVER = "never"


class Mode(_Ordered):
    """Who decides what the room allows, from the strictest on."""

    CONSENT = "consent"
    """A vote that an open objection blocks."""
    MAJORITY = "majority"
    """A vote."""
    ADMIN = "admin"
    """Whoever may write the room's state."""


# -- meets -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Meet:
    """How two limits combine. Commutative, associative, idempotent, and never looser than either."""

    of: Callable[[Any, Any], Any]


def _meet_names(ours: frozenset[str], theirs: frozenset[str]) -> frozenset[str]:
    return frozenset(_covered(ours, theirs) | _covered(theirs, ours))


def _covered(names: frozenset[str], by: frozenset[str]) -> set[str]:
    """Those of `names` that a pattern in `by` covers. A look-up for each: lists may be long."""
    return {one for one in names if ANYONE in by or one in by or (server_of(one) or None) in by}


def _shorter_trial(one: int, other: int) -> int:
    return min(one, other) if one and other else max(one, other)


def _lower(one: int | None, other: int | None) -> int | None:
    limits = [limit for limit in (one, other) if limit is not None]
    return min(limits, default=None)


def _stricter(one: _Ordered, other: _Ordered) -> _Ordered:
    return other if one.allows(other) else one


NAMES: Final = Meet(_meet_names)
BOTH: Final = Meet(lambda one, other: one & other)
EITHER: Final = Meet(lambda one, other: one | other)
LOWER: Final = Meet(_lower)
HIGHER: Final = Meet(max)
STRICTER: Final = Meet(_stricter)
TRIAL: Final = Meet(_shorter_trial)
"""Of days; 0, which is no trial, allows the most."""


# -- fields ----------------------------------------------------------------------------------------


def _window(text: str) -> str:
    found = _WINDOW.fullmatch(text)
    if found is None:
        raise ValueError('a quiet time is written "22:00-07:00" or "22:00-07:00 Europe/Amsterdam"')
    if found[5] is not None:
        try:
            _zone(found[5])
        except (ValueError, OSError, LookupError):
            raise ValueError("a quiet time names a time zone that nobody knows") from None
    return text


@lru_cache(maxsize=100)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


Pattern = Annotated[str, StringConstraints(min_length=1, max_length=255)]
Names = Annotated[frozenset[Pattern], Field(max_length=MOST_NAMES), NAMES]
PEER: Final = r"[a-z0-9._=/+-]{1,200}:[A-Za-z0-9.\[\]:-]{1,200}"
"""The letters of a Matrix address (user identifiers) without its `@`: no look-alikes."""
Peer = Annotated[str, StringConstraints(pattern=rf"^(\*|{PEER})$")]
"""A bot of another community, `bot:server`: its Matrix address without the `@`."""
Peers = Annotated[frozenset[Peer], Field(max_length=MOST_NAMES), NAMES]
Classes = Annotated[frozenset[Class], BOTH]
COLLECTION: Final = r"[a-z0-9][a-z0-9-]{0,39}"
"""The name of a collection of notes."""
Collection = Annotated[str, StringConstraints(pattern=rf"^{COLLECTION}$")]
CollectionOrAll = Annotated[str, StringConstraints(pattern=rf"^(\*|{COLLECTION})$")]
Collections = Annotated[frozenset[CollectionOrAll], Field(max_length=MOST_NAMES), NAMES]
Limit = Annotated[int | None, Field(ge=0, le=1_000_000), LOWER]
Window = Annotated[str, AfterValidator(_window)]


class RoomPolicy(BaseModel):
    """What a room allows; each permission's `meet` stands beside its type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    # What the bot does in the room.
    askers: Names = Field(
        default=frozenset({ANYONE}),
        description='Who may ask: full addresses, whole servers, or `"*"`. An empty list: nobody.',
    )
    min_power: Annotated[int, Field(ge=-(2**53), le=2**53), HIGHER] = Field(
        default=0, description="The power level that asking takes: 0 for everybody, 50 for moderators."
    )
    asker_trust: Annotated[Trust, STRICTER] = Field(
        default=Trust.UNSIGNED,
        description=(
            "What must vouch for an asker's device: `verified` (an admin has compared keys with that "
            "person), `signed` (its owner's identity), `unsigned` (nothing)."
        ),
    )
    answers: Annotated[Answers, STRICTER] = Field(
        default=Answers.MENTION,
        description="What is answered: `direct` (only in rooms of two), `mention`, `all` (every message).",
    )
    voice: Annotated[Voice, STRICTER] = Field(
        default=Voice.ALL, description="What is listened to, at most: `off`, `asked`, `named`, `all`."
    )
    per_person_day: Limit = Field(default=None, description="Answers for one person in 24 hours.")
    per_place_day: Limit = Field(default=None, description="Answers for the whole room in 24 hours.")
    quiet: Annotated[frozenset[Window], Field(max_length=20), EITHER] = Field(
        default=frozenset(),
        description='When nothing is answered: `"22:00-07:00 Europe/Amsterdam"`; without a zone, UTC.',
    )
    answer_words: Annotated[int | None, Field(ge=5, le=10_000), LOWER] = Field(
        default=None, description="Words of an answer, at most."
    )
    memory_messages: Limit = Field(
        default=None, description="Earlier messages that are read for an answer, at most. 0: none."
    )
    memory_hours: Limit = Field(default=None, description="How old those may be.")
    notes: Collections = Field(
        default=frozenset({ANYONE}),
        description='Collections of notes that are read for an answer, or `"*"`: all that there are.',
    )
    remote_model: Annotated[bool, BOTH] = Field(
        default=True, description="Whether a model on another machine may be used, where one is set up."
    )
    language: str = Field(
        default="",
        max_length=35,
        description='The language to speak, as in `"nl"` (BCP 47). Empty: that of the settings.',
    )
    persona: str = Field(
        default="",
        max_length=2_000,
        description="Words for the model on how to be here. Permits nothing.",
    )

    # What leaves the room, and what comes in.
    ask_peers: Peers = Field(
        default=frozenset(),
        description='Bots of other communities that may be asked, as `bot:server`, or `"*"`: all granted.',
    )
    answer_peers: Peers = Field(default=frozenset(), description="Bots of other communities that may ask.")
    classes_out: Classes = Field(default=frozenset(), description="Classes of questions that may leave.")
    classes_in: Classes = Field(default=frozenset(), description="Classes of questions that peers may ask.")
    with_summary: Annotated[bool, BOTH] = Field(
        default=False, description="Whether a summary of the talk may go with a question."
    )
    preview: Annotated[Preview, STRICTER] = Field(
        default=Preview.ALWAYS,
        description="When the asker is shown what would leave: `always`, `first_time`, `never`.",
    )
    voice_may_leave: Annotated[bool, BOTH] = Field(
        default=False, description="Whether what was spoken may leave, as text."
    )
    max_hops: Annotated[int, Field(ge=0, le=3), LOWER] = Field(
        default=0, description="How often a peer may pass a question on."
    )
    peer_per_day: Limit = Field(
        default=None, description="Questions of the room to one peer in 24 hours, and as many for passages."
    )
    peer_per_person_day: Limit = Field(default=None, description="Questions of one person in 24 hours.")

    # Who decides.
    mode: Annotated[Mode, STRICTER] = Field(
        default=Mode.ADMIN, description="Who decides what is allowed: `consent`, `majority` (votes), `admin`."
    )
    voting_hours: Annotated[int, Field(ge=1, le=2_160), HIGHER] = Field(
        default=168, description="How long a vote is open."
    )
    min_member_hours: Annotated[int, Field(ge=0, le=8_760), HIGHER] = Field(
        default=0, description="How long somebody has to be a member before a vote opens, to have one."
    )
    trial_days: Annotated[int, Field(ge=0, le=180), TRIAL] = Field(
        default=30, description="Days after which a peer that was allowed is voted on again. 0: no trial."
    )
    term_days: Annotated[int, Field(ge=1, le=180), LOWER] = Field(
        default=180, description="Days for which a peer is allowed, at most, after the trial."
    )

    def meet(self, other: RoomPolicy) -> RoomPolicy:
        """Both at once: nothing is allowed that either of the two refuses. The wording is `other`'s."""
        met = {name: getattr(other, name) for name in WORDING}
        for name, meet in MEETS.items():
            met[name] = meet.of(getattr(self, name), getattr(other, name))
        return RoomPolicy.model_construct(**met)

    def widens(self, other: RoomPolicy) -> tuple[str, ...]:
        """The permissions in which this allows anything that `other` does not."""
        return tuple(
            name
            for name, meet in MEETS.items()
            if meet.of(getattr(self, name), getattr(other, name)) != getattr(self, name)
        )

    def admits(self, address: str) -> bool:
        """Whether `address` is named here, by itself, by its server or by `*`."""
        return any(covers(pattern, address) for pattern in self.askers)

    def quiet_until(self, now: int) -> str | None:
        """When the quiet time of `now` (ms since the epoch) ends, as `07:00`; None: it is not quiet."""
        ends = sorted(end for window in self.quiet if (end := _ends(window, now)) is not None)
        return ends[-1] if ends else None


MEETS: Final[dict[str, Meet]] = {
    name: one
    for name, field in RoomPolicy.model_fields.items()
    for one in field.metadata
    if isinstance(one, Meet)
}
"""The permissions, each with how two of it combine."""
LOOSEST: Final = RoomPolicy(
    min_power=-(2**53),
    answers=Answers.ALL,
    ask_peers=frozenset({ANYONE}),
    answer_peers=frozenset({ANYONE}),
    classes_out=frozenset(Class),
    classes_in=frozenset(Class),
    with_summary=True,
    preview=Preview.NEVER,
    voice_may_leave=True,
    max_hops=3,
    voting_hours=1,
    trial_days=0,
)
"""What forbids nothing: its meet with any policy is that policy."""
DECIDING: Final = frozenset({"mode", "voting_hours", "min_member_hours", "trial_days", "term_days"})
"""Fields about deciding itself. Whoever could change one of them alone could choose who decides."""
WORDING: Final = tuple(name for name in RoomPolicy.model_fields if name not in MEETS)
"""The fields that permit nothing."""


def covers(pattern: str, address: str) -> bool:
    """Whether `pattern` (an address, a server or `*`) names at least all that `address` names."""
    # An empty pattern names nobody: it must not match the empty server of an address without one.
    return bool(pattern) and pattern in (ANYONE, address, server_of(address))


def server_of(address: str) -> str:
    """The server part of `@user:server` or `@user@server` (it may carry a port); `""` if there is none."""
    found = re.fullmatch(r"@[^:@]*[:@](.*)", address, re.DOTALL)
    return "" if found is None else found[1]


def _ends(window: str, now: int) -> str | None:
    """The end of `window` if `now` lies in it. A time that no calendar has is never quiet."""
    found = _WINDOW.fullmatch(window)
    if found is None:
        return None
    try:
        at = datetime.fromtimestamp(now / 1000, _zone(found[5]) if found[5] else UTC)
    except (OverflowError, OSError, ValueError, LookupError):
        return None
    minute = at.hour * 60 + at.minute
    start, end = int(found[1]) * 60 + int(found[2]), int(found[3]) * 60 + int(found[4])
    inside = start <= minute < end if start <= end else minute >= start or minute < end
    return f"{found[3]}:{found[4]}" if inside else None
