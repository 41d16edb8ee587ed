"""`Verdict`: allowed or not, and why, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Code(StrEnum):
    """What a verdict says. A stable name: people see it in `!why`, operators in logs."""

    ALLOWED = "allowed"
    BOT = "bot"
    LOOP = "loop"
    NOT_AN_ASKER = "not_an_asker"
    NOT_ENOUGH_POWER = "not_enough_power"
    NOT_VOUCHED = "not_vouched"
    NOT_HERE = "not_here"
    QUIET = "quiet"
    REMOTE_MODEL = "remote_model"
    PERSON_QUOTA = "person_quota"
    PLACE_QUOTA = "place_quota"
    VOICE_OFF = "voice_off"
    UNASKED = "unasked"
    UNREADABLE = "unreadable"
    NOT_YOURS = "not_yours"
    NOT_A_MODERATOR = "not_a_moderator"
    NOT_AN_ADMIN = "not_an_admin"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    STOPPED = "stopped"
    FAILED = "failed"
    UNKNOWN = "unknown"
    NOTES_STAY = "notes_stay"
    # What concerns bots of other communities.
    NO_PEER = "no_peer"
    UNCLASSIFIED = "unclassified"
    CLASS_STAYS = "class_stays"
    SUMMARY_STAYS = "summary_stays"
    VOICE_STAYS = "voice_stays"
    TOO_MANY_HOPS = "too_many_hops"
    PEER_QUOTA = "peer_quota"
    NO_GRANT = "no_grant"
    NOT_YET = "not_yet"
    ENDED = "ended"
    SUSPENDED = "suspended"
    OTHER_DIRECTION = "other_direction"
    KEY_CHANGED = "key_changed"
    UNSAFE_ROOM = "unsafe_room"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Allowed or not, and why: the code, its parameters, the rule and what would change it.

    `rule` is where the rule stands: `policy.*` in the settings, `room.*` in the room's document, `grant.*` in
    its grant, `peer.*` in the peer's grant for us, `hearth.*` nowhere but in Hearth. `params` name who set a
    room's rule and when (`set_by`, `set_at`, ms since the epoch). `remedy` is a code that `bots/` turns into
    words.
    """

    allowed: bool
    code: Code
    rule: str
    params: dict[str, int | str] = field(default_factory=dict)
    remedy: str = ""
