"""A room's votes on Matrix: polls that are opened and ended, what was decided written down, votes read back.

What the server holds is the ballot box: nothing of it is kept here, so a count can be done again by anybody
who reads the room. Refuses a poll with more answers than anybody would read (`MOST`).

Source: client-server API 1.16, "Relations API" and "PUT /rooms/{roomId}/state/{eventType}/{stateKey}".
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from bridge.matrix import poll
from bridge.matrix.facts import RoomState
from bridge.matrix.render import sendable
from bridge.matrix.translate import MARKER
from bridge.platform import Broken, Found, PlatformError, Refused

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from bots.conversation import ClosePoll, OpenPoll, PutState
    from bridge.matrix.client import Client
    from bridge.platform import StoredAction
    from policies.vote import Ballot

MOST: Final = 20_000
"""Answers to one poll that are read, and as many messages below it."""
STATE_LIMIT: Final = 60_000
"""Bytes of the content of a state event. The server's signatures share the 65,536 of the event with it."""
_PAGE: Final = 500


def start_content(opened: OpenPoll, key: str) -> dict[str, Any]:
    """The content of a new poll, with our mark."""
    answers = {choice: sendable(words) for choice, words in opened.answers.items()}
    return {**poll.start(sendable(opened.text), answers), "m.mentions": {}, MARKER: _mark(key)}


def end_content(closed: ClosePoll, key: str, target: str) -> dict[str, Any]:
    """The content that ends the poll `target`, with our mark."""
    return {**poll.end(target, sendable(closed.text)), "m.mentions": {}, MARKER: _mark(key)}


def _mark(key: str) -> dict[str, Any]:
    return {"bot": True, "key": key}


def state_content(put: PutState) -> dict[str, Any]:
    """The content of a state event; `Broken` where the stored text is not one that an event can carry."""
    try:
        content = json.loads(put.content)
        size = len(json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode())
    except (ValueError, RecursionError) as error:  # of which a lone surrogate is one
        raise Broken(f"put_state: the content of {put.type} is not JSON") from error
    if not isinstance(content, dict):
        raise Broken(f"put_state: the content of {put.type} is not a JSON object")
    if size > STATE_LIMIT:
        raise Broken(f"put_state: the content of {put.type} has {size:,} bytes; {STATE_LIMIT:,} are allowed")
    return content


async def put_state(client: Client, action: StoredAction, put: PutState) -> dict[str, Any]:
    """Set the state; the server's answer. What stands there already is not set a second time by servers."""
    content = state_content(put)
    try:
        if put.merge:
            content = _merged(await client.call("GET", _state_path(action.place, put)), content)
        return await client.call("PUT", _state_path(action.place, put), content)
    except Refused as error:
        raise await explained(client, action.place, error, put.type, is_state=True) from error


async def find_state(client: Client, action: StoredAction, put: PutState) -> str | Found:
    """The event that set the state, if it is as `put` wants it now. To set it once more harms nobody."""
    try:
        wanted = state_content(put)
        event = await client.call("GET", _state_path(action.place, put), query={"format": "event"})
    except Broken:
        return Found.ABSENT  # it never could be set; or the server does not know `format`
    except Refused as error:
        if error.rule == "M_NOT_FOUND":
            return Found.ABSENT
        raise
    event_id = event.get("event_id")
    # A server that ignores `format` answers with the content alone.
    content = event.get("content")
    if put.merge and isinstance(content, dict):
        wanted = _merged(content, wanted)
    stands = event.get("type") == put.type and content == wanted
    return event_id if stands and isinstance(event_id, str) else Found.ABSENT


def _merged(stands: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """`stands` with what is `wanted` in it; objects on both sides are merged one level deep."""
    found = {name: {**_object(stands.get(name)), **value} if isinstance(value, dict) else value
             for name, value in wanted.items()}  # fmt: skip
    return {**stands, **found}


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _state_path(place: str, put: PutState) -> tuple[str, ...]:
    path = ("v3", "rooms", place, "state", put.type)
    return (*path, put.state_key) if put.state_key else path


async def explained(
    client: Client, place: str, error: Refused, kind: str, *, is_state: bool = False
) -> Refused:
    """`error`, saying which power it takes to send events of type `kind`, where that is what is missing."""
    if error.rule != "M_FORBIDDEN":
        return error
    room = RoomState(place, client.user_id)
    try:
        levels = await client.call("GET", ("v3", "rooms", place, "state", "m.room.power_levels"))
    except PlatformError:
        return error  # not in the room any more, or nobody knows: what the server said stands
    room.apply({"type": "m.room.power_levels", "state_key": "", "content": levels})
    needed = room.power_needed(kind) if is_state else room.power_to_say(kind)
    has = room.power_of(client.user_id)
    if has >= needed:
        return error
    remedy = f"give the bot a power level of {needed} in the room (it has {has}): it sends {kind}"
    return Refused(error.rule, remedy)


# -- reading votes back ----------------------------------------------------------------------------


async def ballots(client: Client, place: str, poll_id: str, own_name: str) -> tuple[Ballot, ...]:
    """Every vote on a poll that stands now, in clear or decrypted; see `Platform.ballots`."""
    found: list[Ballot] = []
    async for event in _related(client, place, poll_id, "m.reference"):
        ballot = poll.ballot(event, poll_id)
        if ballot is not None:
            found.append(ballot)
    async for event in _related(client, place, poll_id, "m.thread"):
        ballot = poll.spoken(event, poll_id, own_id=client.user_id, own_name=own_name)
        if ballot is not None:
            found.append(ballot)
    return tuple(found)


async def _related(
    client: Client, place: str, poll_id: str, rel_type: str
) -> AsyncGenerator[dict[str, Any], None]:
    """What others sent with that relation to the poll, decrypted; without what is redacted or unreadable."""
    query = {"dir": "f", "limit": str(_PAGE)}
    path = ("v1", "rooms", place, "relations", poll_id, rel_type)
    read = 0
    while read < MOST:
        page = await client.call("GET", path, query=query)
        chunk = [event for event in page.get("chunk") or () if isinstance(event, dict)]
        for event in chunk:
            clear = _clear(client, place, event)
            if clear is not None and event.get("sender") != client.user_id:
                yield clear
        end = page.get("next_batch")
        if not isinstance(end, str):
            return
        query["from"] = end
        read += max(1, len(chunk))
    raise Broken(f"ballots: the poll has more than {MOST:,} answers; none of them is counted")


def _clear(client: Client, place: str, event: Mapping[str, Any]) -> dict[str, Any] | None:
    unsigned = event.get("unsigned")
    if isinstance(unsigned, dict) and "redacted_because" in unsigned:
        return None
    if event.get("type") != "m.room.encrypted":
        return dict(event)
    opened = client.opened(place, event)
    return None if opened is None else {**event, **opened}
