"""Opening a link room: the one that is there, the one that we are invited to, else a new one.

A room of the type `community.hearth.link` (`m.room.create`; spec, "Room types"), encrypted, with the two bots
in its state and whoever of both is invited to watch. Never made with `trusted_private_chat`, which
would give both bots a power above every level (MSC4289). Creating a room has no key that a server remembers;
what makes it happen once is that a room which names the two is looked for first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import structlog

from bridge.matrix.errors import LoggedOut
from bridge.matrix.facts import LINK_TYPE
from bridge.platform import Broken, PlatformError, Refused, Retryable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bots.conversation import OpenLink
    from bridge.matrix.client import Client
    from bridge.matrix.facts import RoomState
    from bridge.matrix.invites import Invites

log = structlog.get_logger(__name__)

THERE: Final = frozenset({"join", "invite"})
_BOT, _MODERATOR = 100, 50
_TURNS, _TURN = 2, 2.0
"""How often, and for how many seconds each, one of two bots waits for the other to open the room."""
_FEDERATED: Final = 90.0
"""Seconds that a server may take which has to ask another one."""


def room_with(rooms: Mapping[str, RoomState], us: str, peer: str) -> RoomState | None:
    """The link room of `us` and `peer` (user ids); of several the one that both sides take."""
    found = [room for room in rooms.values() if room.is_link and {us, peer} <= (room.bots or frozenset())]
    # One that the other side has joined is better than one in which it never was.
    return min(found, key=lambda room: (peer not in room.peers_there, room.id), default=None)


async def open_link(
    client: Client, rooms: Mapping[str, RoomState], invites: Invites, wanted: OpenLink, attempts: int
) -> str:
    """Share a link room with a bot; its id. One of the four families where that is not so yet.

    `attempts` is how often that was tried before.
    """
    peer = f"@{wanted.peer}"
    room = room_with(rooms, client.user_id, peer)
    if room is None:
        invited = invites.link_from(peer)
        if invited is not None:
            await invites.accept_link(invited, peer)
            await _invite_watchers(client, invited, {}, wanted)
            return invited
        if client.user_id > peer and attempts < _TURNS:
            # Where both sides say `!link` at once, one room is enough: the other side's comes first.
            raise Retryable("waiting for an invitation by the other bot", _TURN)
        created = await client.call("POST", ("v3", "createRoom"), room_content(client.user_id, peer))
        room_id = created.get("room_id")
        if not isinstance(room_id, str):
            raise Retryable("createRoom: the answer has no room_id")
        there: dict[str, str] = {}
        await _share_power(client, room_id, peer)
    else:
        room_id = room.id
        there = {user: member.membership for user, member in room.members.items()}
        if room.power_of(peer) < _BOT <= room.power_of(client.user_id):
            await _share_power(client, room_id, peer)
    await _invite_watchers(client, room_id, there, wanted)
    if there.get(peer) not in THERE:
        try:
            await _invite(client, room_id, peer)
        except Refused as error:
            if error.rule == "M_FORBIDDEN":  # it is there already, and has not been synced
                log.info("link_not_invited", place=room_id, peer=peer, error=str(error))
            else:
                raise
    return room_id


def room_content(us: str, peer: str) -> dict[str, Any]:
    """The body of `createRoom` for a link room of two bots."""
    servers = " - ".join(user.partition(":")[2] for user in (us, peer))
    return {
        "preset": "private_chat",
        "name": f"Link {servers}",
        "topic": "Bots of two communities ask each other here, by what both have decided. People may watch.",
        "creation_content": {"type": LINK_TYPE},
        "initial_state": [
            {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}},
            {"type": LINK_TYPE, "state_key": "", "content": {"v": 1, "bots": sorted((us, peer))}},
        ],
    }


async def _share_power(client: Client, room_id: str, peer: str) -> None:
    """Give the other bot the power that the creator of a room has, and let only the two invite.

    Not at creation: what lists its users there must name us in rooms before version 12, and must not after.
    """
    path = ("v3", "rooms", room_id, "state", "m.room.power_levels")
    levels = await client.call("GET", path)
    users = levels.get("users")
    levels["users"] = {**(users if isinstance(users, dict) else {}), peer: _BOT}
    levels["invite"] = _MODERATOR
    await client.call("PUT", path, levels)


async def _invite_watchers(client: Client, room_id: str, there: Mapping[str, str], wanted: OpenLink) -> None:
    """Ask people to watch; a link does not wait for them."""
    for user in wanted.watchers:
        if there.get(user) in THERE:
            continue
        try:
            await _invite(client, room_id, user)
        except LoggedOut:
            raise
        except (Refused, Broken, PlatformError) as error:
            log.info("watcher_not_invited", place=room_id, error=str(error))


async def _invite(client: Client, room_id: str, user: str) -> None:
    await client.call("POST", ("v3", "rooms", room_id, "invite"), {"user_id": user}, deadline=_FEDERATED)
