"""`decide`: the one place where anything that Hearth does is allowed or refused.

Pure: no clock, no network, no database; everything it needs is an argument, everything that it
says is data. The words, in the person's language, are made in `bots/`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from policies.document import Unreadable
from policies.room import Voice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from policies.grant import Grant
    from policies.room import RoomPolicy

LOOP_WINDOW_MS = 60_000
LOOP_BUDGET = 20
"""Messages of one account to the bot in one window before it falls silent (openclaw: 20 in 60 s)."""


class Deed(StrEnum):
    """What is asked to be done."""

    ANSWER = "answer"
    TRANSCRIBE = "transcribe"
    """Listen to a recording, and say what was heard."""
    SHOW_UNASKED = "show_unasked"
    """Write down in the place what was heard there and what nobody asked us to hear."""
    COMMAND = "command"
    STOP = "stop"
    FORGET_ROOM = "forget_room"


class Code(StrEnum):
    """What a verdict says. A stable name: people see it in `!why`, operators in logs."""

    ALLOWED = "allowed"
    BOT = "bot"
    LOOP = "loop"
    NOT_AN_ASKER = "not_an_asker"
    PERSON_QUOTA = "person_quota"
    PLACE_QUOTA = "place_quota"
    VOICE_OFF = "voice_off"
    UNASKED = "unasked"
    UNREADABLE = "unreadable"
    NOT_YOURS = "not_yours"
    NOT_A_MODERATOR = "not_a_moderator"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    STOPPED = "stopped"
    FAILED = "failed"
    UNKNOWN = "unknown"


MODERATOR_POWER = 50
"""Matrix: the level that may redact others by default (spec, `m.room.power_levels`)."""


@dataclass(frozen=True, slots=True)
class Request:
    """Who asks for what, with the facts that the policy may look at.

    `asked_today` and `place_today` count answered questions in the last 24 hours;
    `recent` counts this account's messages to the bot in this place in the last minute; `age_ms` and
    `max_age_ms` say how old the question is and how old it may be; `owner` is whose answer a
    `STOP` would end; `unasked` marks voice that nobody addressed to us, of which a refusal is never
    said aloud.
    """

    deed: Deed
    asker: str
    asker_is_bot: bool = False
    power: int = 0
    direct: bool = False
    asked_today: int = 0
    place_today: int = 0
    recent: int = 0
    age_ms: int = 0
    max_age_ms: int | None = None
    owner: str | None = None
    unasked: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """Allowed or not, and why: the code, its parameters, the rule and what would change it.

    `rule` is where the rule stands (a settings key for now, a state event later); `remedy` is a
    code that `bots/` turns into words.
    """

    allowed: bool
    code: Code
    rule: str
    params: dict[str, int | str] = field(default_factory=dict)
    remedy: str = ""


def decide(
    policy: RoomPolicy,
    grants: Sequence[Grant],
    request: Request,
    now: int,
    *,
    room: RoomPolicy | Unreadable | None = None,
) -> Verdict:
    """Judge `request` at `now` (ms since the epoch). Total: never raises, and unknown is refused.

    `policy` is what whoever runs the bot allows at most, `room` what the room's own document allows (None:
    it has none). Both must allow; the rule of a verdict begins with `room.` where it was the room's.
    """
    del grants, now  # no rule looks at them yet; links between communities will
    verdict = _account(policy, request) or _deed(policy, request)
    if room is None or not verdict.allowed:
        return verdict
    if isinstance(room, Unreadable):
        # What explains, ends or erases works all the same: people must be able to find out, and to stop.
        if request.deed in (Deed.COMMAND, Deed.STOP, Deed.FORGET_ROOM):
            return verdict
        return Verdict(False, Code.UNREADABLE, "room.document", {"problem": str(room)}, "room_policy")
    own = _account(room, request) or _deed(room, request)
    if own.allowed:
        return verdict
    return replace(own, rule=own.rule.replace("policy.", "room.", 1), remedy="room_policy")


def _account(policy: RoomPolicy, request: Request) -> Verdict | None:
    """What speaks against this account, whatever it asks for."""
    if request.asker_is_bot:
        return Verdict(False, Code.BOT, "hearth.bots_are_not_answered")
    if request.recent > LOOP_BUDGET:
        return Verdict(
            False,
            Code.LOOP,
            "hearth.loop_budget",
            {"limit": LOOP_BUDGET, "seconds": LOOP_WINDOW_MS // 1000},
            "wait",
        )
    if not policy.admits(request.asker):
        return Verdict(False, Code.NOT_AN_ASKER, "policy.askers", {"asker": request.asker}, "ask_admin")
    return None


def _deed(policy: RoomPolicy, request: Request) -> Verdict:
    match request.deed:
        case Deed.ANSWER:
            return _answer(policy, request)
        case Deed.TRANSCRIBE | Deed.SHOW_UNASKED:
            return _transcribe(policy, request)
        case Deed.COMMAND:
            return _in_time(request) or Verdict(True, Code.ALLOWED, "policy.askers")
        case Deed.STOP:
            return _stop(request)
        case Deed.FORGET_ROOM:
            return _forget_room(request)
    return Verdict(False, Code.UNKNOWN, "hearth.default_deny")


def _stop(request: Request) -> Verdict:
    if request.owner == request.asker or request.power >= MODERATOR_POWER:
        return Verdict(True, Code.ALLOWED, "hearth.stop")
    return Verdict(False, Code.NOT_YOURS, "hearth.stop", remedy="ask_moderator")


def _forget_room(request: Request) -> Verdict:
    if request.direct or request.power >= MODERATOR_POWER:
        return Verdict(True, Code.ALLOWED, "hearth.forget_room")
    return Verdict(False, Code.NOT_A_MODERATOR, "hearth.forget_room", remedy="ask_moderator")


def _in_time(request: Request) -> Verdict | None:
    if request.max_age_ms is not None and request.age_ms > request.max_age_ms:
        return Verdict(
            False,
            Code.EXPIRED,
            "matrix.max_age",
            {"minutes": request.age_ms // 60_000, "limit": request.max_age_ms // 60_000},
            "ask_again",
        )
    return None


def _answer(policy: RoomPolicy, request: Request) -> Verdict:
    late = _in_time(request)
    if late is not None:
        return late
    if policy.per_person_day is not None and request.asked_today >= policy.per_person_day:
        return Verdict(
            False,
            Code.PERSON_QUOTA,
            "policy.per_person_day",
            {"limit": policy.per_person_day},
            "tomorrow",
        )
    if policy.per_place_day is not None and request.place_today >= policy.per_place_day:
        return Verdict(
            False,
            Code.PLACE_QUOTA,
            "policy.per_place_day",
            {"limit": policy.per_place_day},
            "tomorrow",
        )
    return Verdict(True, Code.ALLOWED, "policy.askers")


def _transcribe(policy: RoomPolicy, request: Request) -> Verdict:
    unasked = request.unasked or request.deed is Deed.SHOW_UNASKED
    needed = Voice.ALL if request.deed is Deed.SHOW_UNASKED else Voice.NAMED if unasked else Voice.ASKED
    if not policy.voice.allows(needed):
        if unasked:
            return Verdict(False, Code.UNASKED, "policy.voice")
        return Verdict(False, Code.VOICE_OFF, "policy.voice", remedy="turn_on_voice")
    return _answer(policy, request)
