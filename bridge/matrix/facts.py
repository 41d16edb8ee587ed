"""What is known of a room from its state: members, power, encryption, documents, where it went. Pure.

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
from policies.decide import MODERATOR_POWER
from policies.document import STATE_TYPE, Standing
from policies.grant import GRANT_TYPE

if TYPE_CHECKING:
    from collections.abc import Mapping

LINK_TYPE: Final = "community.hearth.link"
"""Type of a room that links communities (`m.room.create`), and of the state (key `""`) that names its bots:
`{"v": 1, "bots": [user id, ...]}`."""

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
    GRANT_TYPE,
    LINK_TYPE,
)
"""The state that is asked of the server; nothing else of a room's state reaches us."""

PEERS: Final = 200
"""Grants that are kept of a room. One that is not kept allows nothing."""

_LEGACY_CREATOR = 100
_KEY_LENGTH = 255
_STATE_DEFAULT = 50
_NAME_LENGTH = 80
_OLD_VERSIONS = frozenset(str(version) for version in range(1, 12)) | {""}
_INVITED_READ = frozenset({"invited", "shared", "world_readable"})


@dataclass(frozen=True, slots=True)
class Member:
    """One person's standing in the room: `join` or `invite`, the name shown there, joined when (0: not)."""

    membership: str
    name: str
    since: int = 0


@dataclass(frozen=True, slots=True)
class Document:
    """A policy or a grant as an event sets it: `type` and `key` of the state, and what stands there then.

    `event` is the state event that a redaction would have to name.
    """

    type: str
    key: str
    standing: Standing
    event: str


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
    documents: dict[tuple[str, str], Document] = field(default_factory=dict)
    """What the room says it allows, by type and state key: its policy, and a grant for each peer."""
    bots: frozenset[str] | None = None
    """Whom the room links, us included; None: it is no link room."""
    link_event: str = ""
    made_by: str = ""
    """Who created a room of the type of link rooms; `""`: it is none."""

    def apply(self, raw: Mapping[str, Any]) -> None:
        """Take one event in the room's order: state, or a redaction of a document; else nothing changes."""
        kind, key, content = raw.get("type"), raw.get("state_key"), raw.get("content")
        if not isinstance(content, dict):
            return
        document = self.document_after(raw)
        if document is not None:
            self.documents[document.type, document.key] = document
        elif isinstance(key, str):
            self._state(kind, key, raw, content)
        elif kind == "m.room.redaction" and self.link_event in (raw.get("redacts"), content.get("redacts")):
            self.bots = None  # whoever may redact can stop a link

    def document_after(self, raw: Mapping[str, Any]) -> Document | None:
        """The document that an event sets: one of its own, or `{}` where one is redacted; None: none.

        Whom the server let redact is not asked again: that can only stop us.
        """
        kind, key, content = raw.get("type"), raw.get("state_key"), raw.get("content")
        if not isinstance(content, dict):
            return None
        by, at = _text(raw.get("sender")), _sent_at(raw)
        if isinstance(kind, str) and isinstance(key, str) and self._is_document(kind, key):
            return Document(kind, key, Standing(_document(content), by, at), _text(raw.get("event_id")))
        redacted = (raw.get("redacts"), content.get("redacts")) if kind == "m.room.redaction" else ()
        for one in self.documents.values():
            if one.event and one.event in redacted:
                return Document(one.type, one.key, Standing("{}", by, at), one.event)
        return None

    def _is_document(self, kind: str, key: str) -> bool:
        if kind == STATE_TYPE:
            return key == ""
        if kind != GRANT_TYPE or not key or len(key) > _KEY_LENGTH:
            return False
        if key.startswith("@") or not key.isprintable():
            return False  # not the name of a bot; a lone surrogate is not printable either
        return (kind, key) in self.documents or sum(one == GRANT_TYPE for one, _ in self.documents) < PEERS

    def _state(self, kind: object, key: str, raw: Mapping[str, Any], content: Mapping[str, Any]) -> None:
        match kind, key:
            case "m.room.member", _:
                self._member(key, raw, content)
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
            case link, "" if link == LINK_TYPE:
                self.bots, self.link_event = _bots(content), _text(raw.get("event_id"))
            case _:
                pass

    def _member(self, user_id: str, raw: Mapping[str, Any], content: Mapping[str, Any]) -> None:
        membership = content.get("membership")
        if membership in ("join", "invite"):
            name = clean_name(_text(content.get("displayname")))
            since = self._joined_at(user_id, raw) if membership == "join" else 0
            self.members[user_id] = Member(membership, name, since)
        else:
            self.members.pop(user_id, None)

    def _joined_at(self, user_id: str, raw: Mapping[str, Any]) -> int:
        """When a member joined. A new name or picture is no new join; where only that is known, it counts."""
        unsigned = raw.get("unsigned")
        before = unsigned.get("prev_content") if isinstance(unsigned, dict) else None
        came_back = isinstance(before, dict) and before.get("membership") != "join"
        known = self.members.get(user_id)
        if known is not None and known.membership == "join" and known.since and not came_back:
            return known.since
        return _sent_at(raw)

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
        self.made_by = sender if content.get("type") == LINK_TYPE else ""
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
    def is_link(self) -> bool:
        """Whether this is a link room that we are in: its state names us, and it is encrypted.

        One of its two bots has made it, so that nobody can pass off a room of his own, in which he would
        read, nor get two others to speak with each other in his.
        """
        bots = self.bots or frozenset()
        named = len(bots) == 2 and self.own_id in bots and self.made_by in bots  # noqa: PLR2004 - a pair
        return named and self.encrypted and self.joined

    @property
    def peers(self) -> frozenset[str]:
        """The other bots of a link room that have joined it; empty where it is no link room."""
        if self.bots is None or not self.is_link:
            return frozenset()
        there = {user for user, member in self.members.items() if member.membership == "join"}
        return frozenset((self.bots & there) - {self.own_id})

    @property
    def peers_there(self) -> frozenset[str]:
        """`peers`, and those of them who are invited."""
        if self.bots is None or not self.is_link:
            return frozenset()
        there = {user for user, member in self.members.items() if member.membership in ("join", "invite")}
        return frozenset((self.bots & there) - {self.own_id})

    @property
    def policy(self) -> Standing | None:
        """The policy document that stands here; None: there never was one."""
        written = self.documents.get((STATE_TYPE, ""))
        return None if written is None else written.standing

    @property
    def grants(self) -> tuple[tuple[str, Standing], ...]:
        """The grants that stand here, by peer, sorted."""
        found = [(one.key, one.standing) for one in self.documents.values() if one.type == GRANT_TYPE]
        return tuple(sorted(found, key=lambda one: one[0]))

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
        return self._needed(state_type, "state_default", _STATE_DEFAULT)

    def power_to_say(self, kind: str) -> int:
        """Power level needed to send an event of this type that is no state."""
        return self._needed(kind, "events_default", 0)

    def _needed(self, kind: str, otherwise: str, usual: int) -> int:
        events = self.levels.get("events")
        given = events.get(kind) if isinstance(events, dict) else None
        return _level(given, _level(self.levels.get(otherwise), usual) if self.has_levels else 0)

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

    def is_linked_bot(self, user_id: str) -> bool:
        """Whether a link room names somebody as the bot of a community."""
        return bool(self.made_by) and user_id != self.own_id and user_id in (self.bots or ())

    def person(self, user_id: str, known_bots: frozenset[str], *, is_bot: bool = False) -> Person:
        """Somebody as seen in this room."""
        member = self.members.get(user_id)
        return Person(
            id=user_id,
            name=member.name if member is not None else "",
            power=self.power_of(user_id),
            is_bot=is_bot or user_id in known_bots or self.is_linked_bot(user_id),
            since=member.since if member is not None else 0,
        )

    def facts(self, known_bots: frozenset[str]) -> PlaceFacts:
        """All of it for the journal. Names that two members share carry the address as well."""
        moved = self.tombstone
        needed = self.power_needed(STATE_TYPE), self.power_needed(GRANT_TYPE)
        least = min(needed)
        shared = Counter(member.name for member in self.members.values() if member.name)
        members = tuple(
            Person(
                id=user,
                name=f"{member.name} ({user})" if shared[member.name] > 1 else member.name,
                power=self.power_of(user),
                is_bot=user in known_bots or self.is_linked_bot(user),
                since=member.since,
            )
            for user, member in sorted(self.members.items())
            if member.membership == "join"
        )
        return PlaceFacts(
            place=Place(self.own_id, self.id, self.kind, self.name, self.policy, grants=self.grants),
            members=members if self.joined else (),
            must_encrypt=self.encrypted,
            joined=self.joined,
            default_power=self.default_power,
            policy_power=max(needed),
            ruled_by_members=least < MODERATOR_POWER or self.default_power >= least,
            levels_power=self.power_needed("m.room.power_levels"),
            moved_to=moved.replacement if moved is not None and self.may_move(moved) else "",
            links=tuple(sorted(user.removeprefix("@") for user in self.peers)) if self.made_by else None,
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


def _sent_at(raw: Mapping[str, Any]) -> int:
    """When an event was sent, as the server of its sender says (ms); 0 if it does not say."""
    sent_at = raw.get("origin_server_ts")
    return sent_at if isinstance(sent_at, int) and not isinstance(sent_at, bool) else 0


def _bots(content: Mapping[str, Any]) -> frozenset[str] | None:
    """Whom the state of a link room names; None where it is of no version that we know."""
    bots, version = content.get("bots"), content.get("v")
    if version != 1 or isinstance(version, bool) or not isinstance(bots, list):
        return None
    return frozenset(bot for bot in bots if isinstance(bot, str) and bot.startswith("@"))


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
