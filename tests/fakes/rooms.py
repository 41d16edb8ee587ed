"""What a homeserver knows: accounts, devices, rooms and one stream of everything that happened.

The state behind `tests.fakes.homeserver`; no HTTP in here. Rules of the specification that a
client can run into are kept: who may read and send what, one event for one transaction id, redacted
content is gone, a device gets its messages until it has acknowledged them by asking for more.
"""

from __future__ import annotations

import itertools
import secrets
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Json = dict[str, Any]

KEPT_ON_REDACTION = {"m.room.member": ("membership",), "m.room.create": ("creator", "room_version")}


class Refusal(Exception):
    """An answer that is not the one hoped for: HTTP status, `errcode`, more of the body."""

    def __init__(self, status: int, errcode: str, error: str = "", **body: Any) -> None:
        super().__init__(f"{status} {errcode} {error}")
        self.status = status
        self.body: Json = {"errcode": errcode, "error": error or errcode, **body}


@dataclass
class Device:
    """One login of one account."""

    id: str
    user: str
    token: str
    keys: Json | None = None
    one_time_keys: dict[str, Json] = field(default_factory=dict)
    inbox: deque[tuple[int, Json]] = field(default_factory=deque)


@dataclass
class Account:
    """One user, with the cross-signing keys by usage (`master_key`, ...)."""

    id: str
    password: str
    name: str
    devices: dict[str, Device] = field(default_factory=dict)
    cross_signing: dict[str, Json] = field(default_factory=dict)
    keys_changed: int = 0


@dataclass
class Room:
    """A room: everything that happened in it, in order, each event with its position `pos`."""

    id: str
    timeline: list[Json] = field(default_factory=list)
    state: dict[tuple[str, str], Json] = field(default_factory=dict)

    def membership(self, user: str) -> str:
        event = self.state.get(("m.room.member", user))
        return str(event["content"].get("membership", "leave")) if event is not None else "leave"

    def members(self, *memberships: str) -> list[str]:
        return [
            key
            for (kind, key), event in self.state.items()
            if kind == "m.room.member" and event["content"].get("membership") in memberships
        ]

    def power(self, user: str) -> int:
        levels = self.state.get(("m.room.power_levels", ""))
        given: int = 0 if levels is None else levels["content"].get("users", {}).get(user, 0)
        return given

    def state_before(self, pos: int) -> dict[tuple[str, str], Json]:
        """The state as of just before stream position `pos`."""
        if not self.timeline or pos > self.timeline[-1]["pos"]:
            return dict(self.state)
        earlier = (event for event in self.timeline if event["pos"] < pos and "state_key" in event)
        return {(event["type"], event["state_key"]): event for event in earlier}


class Rooms:
    """All accounts and rooms of one server; `changed` is called after everything that happened."""

    def __init__(self, server_name: str, clock: Callable[[], int], changed: Callable[[], None]) -> None:
        self.server_name = server_name
        self.accounts: dict[str, Account] = {}
        self.tokens: dict[str, Device] = {}
        self.rooms: dict[str, Room] = {}
        self.pos = 0
        self.listener: Callable[[Json], None] = lambda _event: None
        """Called with every event that comes into being, before anybody else hears of it."""
        self._clock = clock
        self._changed = changed
        self._numbers = itertools.count(1)
        self._events: dict[str, Json] = {}
        self._transactions: dict[tuple[str, str, str], str] = {}
        self._rooms_of: defaultdict[str, set[str]] = defaultdict(set)

    def now(self) -> int:
        """Milliseconds since the Unix epoch."""
        return self._clock()

    # -- accounts ----------------------------------------------------------------------------------

    def register(self, localpart: str, password: str = "pw", name: str = "") -> str:
        user = f"@{localpart}:{self.server_name}"
        self.accounts[user] = Account(user, password, name or localpart.capitalize())
        return user

    def log_in(self, user: str, password: str | None, device_id: str | None) -> Device:
        account = self.accounts.get(user)
        if account is None or (password is not None and account.password != password):
            raise Refusal(403, "M_FORBIDDEN", "Invalid username or password")
        device = account.devices.get(device_id or "")
        if device is None:
            device = Device(device_id or secrets.token_hex(5).upper(), user, "")
            account.devices[device.id] = device
        self.tokens.pop(device.token, None)
        device.token = f"syt_{secrets.token_urlsafe(16)}"
        self.tokens[device.token] = device
        return device

    def log_out(self, device: Device) -> None:
        """End a session; as on a real server the device's keys go with it."""
        self.tokens.pop(device.token, None)
        self.accounts[device.user].devices.pop(device.id, None)
        self.device_changed(device.user)

    def account(self, user: str) -> Account:
        if user not in self.accounts:
            raise Refusal(404, "M_NOT_FOUND", "no such user here")
        return self.accounts[user]

    def device_changed(self, user: str) -> None:
        self.accounts[user].keys_changed = self._next()
        self._changed()

    def to_device(self, sender: str, kind: str, messages: Mapping[str, Mapping[str, Json]]) -> None:
        for user, devices in messages.items():
            known = self.accounts[user].devices if user in self.accounts else {}
            for device_id, content in devices.items():
                meant = known.values() if device_id == "*" else filter(None, [known.get(device_id)])
                for device in meant:
                    event = {"type": kind, "sender": sender, "content": content}
                    device.inbox.append((self._next(), event))
        self._changed()

    # -- events ------------------------------------------------------------------------------------

    def room(self, room_id: str, reader: str) -> Room:
        """A room that `reader` is in; 403 otherwise, as for a room that does not exist."""
        room = self.rooms.get(room_id)
        if room is None or room.membership(reader) != "join":
            raise Refusal(403, "M_FORBIDDEN", f"{reader} is not in the room")
        return room

    def event(self, room: Room, event_id: str) -> Json:
        event = self._events.get(event_id)
        if event is None or event["room_id"] != room.id:
            raise Refusal(404, "M_NOT_FOUND", "no such event in this room")
        return event

    def create_room(self, creator: str, body: Mapping[str, Any]) -> str:
        room = Room(f"!{secrets.token_urlsafe(12)}:{self.server_name}")
        self.rooms[room.id] = room
        power: Json = {"users": {creator: 100}, "users_default": 0, "state_default": 50}
        power |= body.get("power_level_content_override") or {}
        public = body.get("preset") == "public_chat"
        self._put(room, creator, "m.room.create", {"room_version": "11"}, "")
        self._member(room, creator, creator, "join")
        self._put(room, creator, "m.room.power_levels", power, "")
        self._put(room, creator, "m.room.join_rules", {"join_rule": "public" if public else "invite"}, "")
        self._put(room, creator, "m.room.history_visibility", {"history_visibility": "shared"}, "")
        for state in body.get("initial_state") or ():
            self._put(room, creator, state["type"], state["content"], state.get("state_key", ""))
        if body.get("name"):
            self._put(room, creator, "m.room.name", {"name": body["name"]}, "")
        for user in body.get("invite") or ():
            self._member(room, creator, user, "invite")
        self._changed()
        return room.id

    def invite(self, room_id: str, sender: str, user: str) -> None:
        self._member(self.room(room_id, sender), sender, user, "invite")
        self._changed()

    def join(self, room_id: str, user: str) -> None:
        room = self.rooms.get(room_id)
        if room is None:
            raise Refusal(404, "M_NOT_FOUND", "no such room")
        rule = room.state[("m.room.join_rules", "")]["content"].get("join_rule")
        if room.membership(user) != "join":
            if rule != "public" and room.membership(user) != "invite":
                raise Refusal(403, "M_FORBIDDEN", "you are not invited")
            self._member(room, user, user, "join")
            self._changed()

    def leave(self, room_id: str, user: str, sender: str | None = None) -> None:
        room = self.rooms.get(room_id)
        if room is None or room.membership(user) not in ("join", "invite"):
            raise Refusal(403, "M_FORBIDDEN", f"{user} is not in the room")
        if sender not in (None, user) and room.power(sender or "") < 50:
            raise Refusal(403, "M_FORBIDDEN", "you may not kick")
        self._member(room, sender or user, user, "leave")
        self._changed()

    def send(self, room_id: str, sender: str, kind: str, content: Json) -> str:
        event_id = self._put(self.room(room_id, sender), sender, kind, content)
        self._changed()
        return event_id

    def put_state(self, room_id: str, sender: str, kind: str, key: str, content: Json) -> str:
        room = self.room(room_id, sender)
        if room.power(sender) < 50 and not (kind == "m.room.member" and key == sender):
            raise Refusal(403, "M_FORBIDDEN", "you may not change this state")
        event_id = self._put(room, sender, kind, content, key)
        self._changed()
        return event_id

    def redact(self, room_id: str, sender: str, event_id: str, reason: str | None) -> str:
        room = self.room(room_id, sender)
        target = self.event(room, event_id)
        if target["sender"] != sender and room.power(sender) < 50:
            raise Refusal(403, "M_FORBIDDEN", "you may not redact what others said")
        content: Json = {"redacts": event_id} | ({"reason": reason} if reason else {})
        redaction = self._put(room, sender, "m.room.redaction", content)
        self._events[redaction]["redacts"] = event_id
        kept = KEPT_ON_REDACTION.get(target["type"], ())
        target["content"] = {key: value for key, value in target["content"].items() if key in kept}
        target["redacted_because"] = redaction
        self._changed()
        return redaction

    def once(self, device: Device, path: str, txn: str, act: Callable[[], str]) -> str:
        """Do `act` unless this device did it before on this path under this transaction id."""
        key = (device.user, device.id, f"{path}\n{txn}")
        if key not in self._transactions:
            self._transactions[key] = act()
            self._events[self._transactions[key]]["transaction"] = (device.id, txn)
        return self._transactions[key]

    def _next(self) -> int:
        self.pos = next(self._numbers)
        return self.pos

    def _member(self, room: Room, sender: str, user: str, membership: str) -> None:
        content: Json = {"membership": membership}
        if user in self.accounts:
            content["displayname"] = self.accounts[user].name
        self._put(room, sender, "m.room.member", content, user)
        if membership == "leave":
            return  # it stays among the rooms of its user, who must be told
        self._rooms_of[user].add(room.id)

    def _put(self, room: Room, sender: str, kind: str, content: Json, key: str | None = None) -> str:
        event: Json = {
            "event_id": f"${secrets.token_urlsafe(24)}",
            "room_id": room.id,
            "type": kind,
            "sender": sender,
            "content": content,
            "origin_server_ts": self._clock(),
            "pos": self._next(),
        }
        if key is not None:
            event["state_key"] = key
            before = room.state.get((kind, key))
            if before is not None:
                event["prev_content"] = before["content"]
            room.state[(kind, key)] = event
        room.timeline.append(event)
        self._events[event["event_id"]] = event
        self.listener(event)
        return str(event["event_id"])

    # -- reading -----------------------------------------------------------------------------------

    def shown(self, event: Json, device: Device | None) -> Json:
        """An event as clients get it: `unsigned` made for this device, our own notes taken out."""
        ours = ("pos", "prev_content", "transaction", "redacted_because")
        told = {key: value for key, value in event.items() if key not in ours}
        unsigned: Json = {"age": max(0, self._clock() - event["origin_server_ts"])}
        if "prev_content" in event:
            unsigned["prev_content"] = event["prev_content"]
        if "transaction" in event and device is not None and event["sender"] == device.user:
            device_id, txn = event["transaction"]
            if device_id == device.id:
                unsigned["transaction_id"] = txn
        if "redacted_because" in event:
            unsigned["redacted_because"] = self.shown(self._events[event["redacted_because"]], device)
        return {**told, "unsigned": unsigned}

    def rooms_of(self, user: str) -> Iterable[Room]:
        return [self.rooms[room_id] for room_id in self._rooms_of[user]]

    def changed_since(self, pos: int, user: str) -> list[str]:
        """Whose devices changed after `pos`, among those who share a room with `user`, who is one of them."""
        changed = {one.id for one in self.accounts.values() if one.keys_changed > pos}
        if not changed:
            return []
        shared = (room for room in self.rooms_of(user) if room.membership(user) == "join")
        contacts = {user, *(member for room in shared for member in room.members("join", "invite"))}
        return sorted(changed & contacts)
