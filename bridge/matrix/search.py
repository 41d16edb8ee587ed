"""Did an action already happen? Looked up in the room itself, when the server may have forgotten.

A server remembers transaction ids for a time and per device. Past that, our own events are read
back to the moment the action was stored: by `unsigned.transaction_id`, which outlives the server's
table on the same device, then by the key that every message of ours carries inside, and every
poll.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bots.conversation import OpenLink, PutState, Redact, Upload
from bridge.matrix.translate import MARKER
from bridge.matrix.votes import find_state
from bridge.platform import Found, Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bridge.matrix.client import Client
    from bridge.platform import StoredAction

MARGIN_MS: Final = 10 * 60 * 1000
"""How far the server's clock may be behind ours."""

_PAGE: Final = 100
_PAGES: Final = 30


async def find(client: Client, action: StoredAction) -> str | Found:
    """The event id of `action` if it happened, absent, or unknown; raises one of the four families."""
    if isinstance(action.action, Redact):
        return await _find_redaction(client, action)
    if isinstance(action.action, PutState):
        return await find_state(client, action, action.action)
    if isinstance(action.action, Upload | OpenLink):
        # Nobody can see a file that no message shows, so there is nothing to be found, or to double; and
        # opening a link looks for its room by itself.
        return Found.ABSENT
    query = {"dir": "b", "limit": str(_PAGE)}
    doubtful = False
    for _ in range(_PAGES):
        page = await client.call("GET", ("v3", "rooms", action.place, "messages"), query=query)
        chunk = [event for event in page.get("chunk") or () if isinstance(event, dict)]
        for event in chunk:
            if event.get("sender") != client.user_id:
                continue
            matches = _is_ours(client, action, event)
            if matches:
                return str(event["event_id"])
            doubtful = doubtful or matches is None
        oldest = chunk[-1].get("origin_server_ts") if chunk else None
        end = page.get("end")
        if not isinstance(end, str) or not chunk or _is_before(oldest, action.created_at):
            return Found.UNKNOWN if doubtful else Found.ABSENT
        query["from"] = end
    return Found.UNKNOWN


def _is_before(sent_at: object, created_at: int) -> bool:
    return isinstance(sent_at, int) and sent_at < created_at - MARGIN_MS


def _is_ours(client: Client, action: StoredAction, event: Mapping[str, Any]) -> bool | None:
    """Whether an event of ours is this action; None if it cannot be told."""
    unsigned = event.get("unsigned")
    told = unsigned.get("transaction_id") if isinstance(unsigned, dict) else None
    if told is not None:
        return bool(told == action.key)
    if "state_key" in event or event.get("type") in ("m.room.redaction", "m.reaction"):
        return False
    content = event.get("content")
    if event.get("type") == "m.room.encrypted" and content:
        clear = client.opened(action.place, event)
        content = clear["content"] if clear is not None else None
    if not isinstance(content, dict) or not content:
        # Unreadable or redacted, and sent from another device of ours: it may have been this one.
        return None
    mark = content.get(MARKER)
    return isinstance(mark, dict) and mark.get("key") == action.key


async def _find_redaction(client: Client, action: StoredAction) -> str | Found:
    if action.target is None:
        return Found.UNKNOWN
    try:
        event = await client.call("GET", ("v3", "rooms", action.place, "event", action.target))
    except Refused as error:
        if error.rule == "M_NOT_FOUND":
            return Found.UNKNOWN
        raise
    unsigned = event.get("unsigned")
    because = unsigned.get("redacted_because") if isinstance(unsigned, dict) else None
    if isinstance(because, dict) and isinstance(because.get("event_id"), str):
        return str(because["event_id"])
    return Found.ABSENT
