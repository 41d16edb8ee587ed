"""The answer to one `/sync` of one device, from what `tests.fakes.rooms` knows.

Source: Matrix client-server API 1.16, "Syncing". Tokens are `s<position>` and `t<position>` in one stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.fakes.rooms import Device, Json, Room, Rooms

STRIPPED = ("m.room.create", "m.room.name", "m.room.encryption", "m.room.join_rules")
_INBOX = 100


def sync_answer(rooms: Rooms, device: Device, since: int | None, limit: int, *, full: bool) -> Json:
    """Everything after position `since` (None: everything), at most `limit` events a room."""
    sections: Json = {"join": {}, "invite": {}, "leave": {}}
    after = since or 0
    for room in rooms.rooms_of(device.user):
        own = room.state[("m.room.member", device.user)]
        match own["content"].get("membership"):
            case "join":
                part = _joined(rooms, room, device, since, limit, full=full)
                if part is not None:
                    sections["join"][room.id] = part
            case "invite" if own["pos"] > after:
                state = [event for (kind, _), event in room.state.items() if kind in STRIPPED]
                events = [_stripped(event) for event in (*state, own)]
                sections["invite"][room.id] = {"invite_state": {"events": events}}
            case "leave" | "ban" if own["pos"] > after and since is not None:
                last = [event for event in room.timeline if after < event["pos"] <= own["pos"]][-limit:]
                shown = [rooms.shown(event, device) for event in last]
                timeline = {"events": shown, "limited": False, "prev_batch": f"t{after}"}
                sections["leave"][room.id] = {"timeline": timeline, "state": {"events": []}}
    changed = [] if since is None else rooms.changed_since(since, device.user)
    return {
        "next_batch": f"s{rooms.pos}",
        "rooms": sections,
        "to_device": {"events": [event for _, event in list(device.inbox)[:_INBOX]]},
        "device_lists": {"changed": changed, "left": []},
        "device_one_time_keys_count": {"signed_curve25519": len(device.one_time_keys)},
        "presence": {"events": []},
        "account_data": {"events": []},
    }


def is_empty(answer: Json) -> bool:
    """Whether there is nothing in it that a long poll waits for."""
    rooms, told = answer["rooms"], answer["to_device"]["events"]
    return not any((rooms["join"], rooms["invite"], rooms["leave"], told, answer["device_lists"]["changed"]))


def _joined(
    rooms: Rooms, room: Room, device: Device, since: int | None, limit: int, *, full: bool
) -> Json | None:
    fresh = since is None or room.state[("m.room.member", device.user)]["pos"] > since
    after = 0 if fresh else since or 0
    found: list[Json] = []
    for event in reversed(room.timeline):
        if event["pos"] <= after or len(found) > limit:
            break
        found.append(event)
    timeline = found[:limit][::-1]
    start = timeline[0]["pos"] if timeline else rooms.pos + 1
    state: list[Json] = []
    if fresh or full or len(found) > limit:
        before = room.state_before(start).values()
        state = [event for event in before if fresh or full or event["pos"] > after]
    if not timeline and not state:
        return None
    return {
        "timeline": {
            "events": [rooms.shown(event, device) for event in timeline],
            "limited": len(found) > limit,
            "prev_batch": f"t{start - 1}",
        },
        "state": {"events": [rooms.shown(event, device) for event in state]},
        "ephemeral": {"events": []},
        "account_data": {"events": []},
        "summary": {},
        "unread_notifications": {},
    }


def _stripped(event: Json) -> Json:
    return {key: event[key] for key in ("type", "sender", "state_key", "content")}
