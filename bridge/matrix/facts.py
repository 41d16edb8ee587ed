"""What is known of a room from its state events: members, power, encryption, where it went. Pure.

matrix-nio's own tracking is not used: it reads a creator of room version 12 as powerless (MSC4289)
and drops members whose profile it dislikes. Unreadable state counts as absent; absent power is 0.
"""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from bots.conversation import Person, Place, PlaceKind
from bridge.platform import PlaceFacts
from policies.document import STATE_TYPE, Standing

if TYPE_CHECKING:
    from collections.abc import Mapping

CREATOR: Final = 10**9
"""Power of the creators of a room of version 12 or later, who are above every level (MSC4289)."""

STATE_TYPES: Final = (
    "m.room.create",
    "m.room.member",
    "m.room.power_levels",
    "m.room.encryption",
    "m.room.history_visibility",
    "m.room.name",
    "m.room.tombstone",
    STATE_TYPE,
)
"""The state that is asked of the server; nothing else of a room's state reaches us."""

_LEGACY_CREATOR = 100
_STATE_DEFAULT = 50
_NAME_LENGTH = 80
_OLD_VERSIONS = frozenset(str(version) for version in range(1, 12)) | {""}
_INVITED_READ = frozenset({"invited", "shared", "world_readable"})


@dataclass(frozen=True, slots=True)
class Member:
    """One person's standing in the room: `join` or `invite`, and the name shown there."""

    membership: str
    name: str


@dataclass(frozen=True, slots=True)
class Tombstone:
    """The room moved to `replacement`, said `sender` in event `id`; `age_ms` when it reached us."""

    id: str
    sender: str
    replacement: str
    age_ms: int


@dataclass(slots=True)
class RoomState:
    """The state of one room as of the last event given to `apply`."""

    id: str
    own_id: str
    members: dict[str, Member] = field(default_factory=dict)
    creators: frozenset[str] = frozenset()
    creators_are_infinite: bool = False
    predecessor: str | None = None
    levels: Mapping[str, Any] = field(default_factory=dict)
    has_levels: bool = False
    encrypted: bool = False
    visibility: str = "shared"
    name: str = ""
    tombstone: Tombstone | None = None
    policy: Standing | None = None
    policy_event: str = ""

    def apply(self, raw: Mapping[str, Any]) -> None:
        """Take one event in the room's order: state, or a redaction of the policy; else nothing changes."""
        kind, key, content = raw.get("type"), raw.get("state_key"), raw.get("content")
        if not isinstance(content, dict):
            return
        policy = self.policy_after(raw)
        if policy is not None:
            self.policy = policy
            self.policy_event = _text(raw.get("event_id")) if kind == STATE_TYPE else self.policy_event
        elif isinstance(key, str):
            self._state(kind, key, raw, content)

    def policy_after(self, raw: Mapping[str, Any]) -> Standing | None:
        """The policy that an event sets: one of its own, or `{}` where the policy is redacted; None: not so.

        Whom the server let redact is not asked again: that can only stop us.
        """
        kind, content = raw.get("type"), raw.get("content")
        if not isinstance(content, dict):
            return None
        sent_at = raw.get("origin_server_ts")
        by, at = _text(raw.get("sender")), sent_at if isinstance(sent_at, int) else 0
        if kind == STATE_TYPE and raw.get("state_key") == "":
            return Standing(_document(content), by, at)
        redacted = (raw.get("redacts"), content.get("redacts")) if kind == "m.room.redaction" else ()
        return Standing("{}", by, at) if self.policy_event and self.policy_event in redacted else None

    def _state(self, kind: object, key: str, raw: Mapping[str, Any], content: Mapping[str, Any]) -> None:
        match kind, key:
            case "m.room.member", _:
                self._member(key, content)
            case "m.room.create", "":
                self._create(_text(raw.get("sender")), content)
            case "m.room.power_levels", "":
                self.levels, self.has_levels = content, True
            case "m.room.encryption", "":
                # A room never stops being encrypted, whatever a later (or redacted) state says.
                self.encrypted = True
            case "m.room.history_visibility", "":
                self.visibility = _text(content.get("history_visibility")) or "shared"
            case "m.room.name", "":
                self.name = clean_name(_text(content.get("name")))
            case "m.room.tombstone", "":
                self._tombstone(raw, content)
            case _:
                pass

    def _member(self, user_id: str, content: Mapping[str, Any]) -> None:
        membership = content.get("membership")
        if membership in ("join", "invite"):
            self.members[user_id] = Member(membership, clean_name(_text(content.get("displayname"))))
        else:
            self.members.pop(user_id, None)

    def _tombstone(self, raw: Mapping[str, Any], content: Mapping[str, Any]) -> None:
        replacement = _text(content.get("replacement_room"))
        if replacement:
            event_id, sender = _text(raw.get("event_id")), _text(raw.get("sender"))
            self.tombstone = Tombstone(event_id, sender, replacement, age_of(raw))

    def _create(self, sender: str, content: Mapping[str, Any]) -> None:
        version = _text(content.get("room_version"))
        self.creators_are_infinite = version not in _OLD_VERSIONS and (
            version.isdecimal() or version.startswith("org.matrix.hydra")
        )
        more = content.get("additional_creators")
        more = more if self.creators_are_infinite and isinstance(more, list) else []
        old = _text(content.get("creator")) if not self.creators_are_infinite else ""
        self.creators = frozenset({sender or old, *(one for one in more if isinstance(one, str))} - {""})
        predecessor = content.get("predecessor")
        self.predecessor = _text(predecessor.get("room_id")) if isinstance(predecessor, dict) else None

    # -- questions ---------------------------------------------------------------------------------

    @property
    def joined(self) -> bool:
        """Whether we are in the room."""
        own = self.members.get(self.own_id)
        return own is not None and own.membership == "join"

    @property
    def kind(self) -> PlaceKind:
        """Direct if nobody but us and one other person is in the room or invited to it."""
        others = len(self.members) - (self.own_id in self.members)
        return PlaceKind.DIRECT if others == 1 and self.joined else PlaceKind.GROUP

    @property
    def default_power(self) -> int:
        """The power of everybody who is not named (room version 12: creators excepted)."""
        return _level(self.levels.get("users_default"), 0)

    def power_of(self, user_id: str) -> int:
        """Power level of one person (client-server API, `m.room.power_levels`)."""
        if self.creators_are_infinite and user_id in self.creators:
            return CREATOR
        if not self.has_levels:
            return _LEGACY_CREATOR if user_id in self.creators else 0
        users = self.levels.get("users")
        given = users.get(user_id) if isinstance(users, dict) else None
        return _level(given, self.default_power)

    def power_needed(self, state_type: str) -> int:
        """Power level needed to send a state event of this type."""
        events = self.levels.get("events")
        given = events.get(state_type) if isinstance(events, dict) else None
        default = _level(self.levels.get("state_default"), _STATE_DEFAULT) if self.has_levels else 0
        return _level(given, default)

    def may_move(self, tombstone: Tombstone) -> bool:
        """Whether the sender of a tombstone had the power to close the room."""
        return self.power_of(tombstone.sender) >= self.power_needed("m.room.tombstone")

    @property
    def readers(self) -> frozenset[str]:
        """Who gets the keys of what we say: members, and invited people where history lets them read."""
        invited_too = self.visibility in _INVITED_READ
        return frozenset(
            user for user, member in self.members.items() if invited_too or member.membership == "join"
        )

    def person(self, user_id: str, known_bots: frozenset[str], *, is_bot: bool = False) -> Person:
        """Somebody as seen in this room."""
        member = self.members.get(user_id)
        return Person(
            id=user_id,
            name=member.name if member is not None else "",
            power=self.power_of(user_id),
            is_bot=is_bot or user_id in known_bots,
        )

    def facts(self, known_bots: frozenset[str]) -> PlaceFacts:
        """All of it for the journal. Names that two members share carry the address as well."""
        shared = Counter(member.name for member in self.members.values() if member.name)
        members = tuple(
            Person(
                id=user,
                name=f"{member.name} ({user})" if shared[member.name] > 1 else member.name,
                power=self.power_of(user),
                is_bot=user in known_bots,
            )
            for user, member in sorted(self.members.items())
            if member.membership == "join"
        )
        return PlaceFacts(
            place=Place(self.own_id, self.id, self.kind, self.name, self.policy),
            members=members if self.joined else (),
            must_encrypt=self.encrypted,
            joined=self.joined,
            default_power=self.default_power,
        )


def clean_name(name: str) -> str:
    """A display name without invisible, reordering or control characters, one line, at most 80 long."""
    kept = "".join(" " if one.isspace() else one for one in name if one.isspace() or not _is_hidden(one))
    return " ".join(kept.split())[:_NAME_LENGTH].rstrip()


def _is_hidden(char: str) -> bool:
    # Cc control, Cf format (zero width, bidi), Cs lone surrogates, Co private use, Cn unassigned.
    return unicodedata.category(char)[0] == "C" or char in "\u115f\u1160\u3164\uffa0\u2800"


def age_of(raw: Mapping[str, Any]) -> int:
    """Age in ms when the event reached us, by the server's clock; 0 if it does not say."""
    unsigned = raw.get("unsigned")
    age = unsigned.get("age") if isinstance(unsigned, dict) else None
    return max(0, age) if isinstance(age, int) and not isinstance(age, bool) else 0


def _document(content: Mapping[str, Any]) -> str:
    """The text of a policy document; what nobody could nest so deeply by hand is one that cannot be read."""
    try:
        return json.dumps(content)
    except RecursionError:
        return "[]"


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _level(value: object, default: int) -> int:
    """A power level; strings of digits are valid in old rooms (room versions 1 to 9)."""
    if isinstance(value, bool):
        return default
    if isinstance(value, int):
        return value
    if isinstance(value, str) and len(value) < 20:  # noqa: PLR2004 - more digits are no power level
        try:
            return int(value)
        except ValueError:
            return default
    return default
