"""Which rooms are entered, left or followed.

Joins and leaves are idempotent and not stored: what a crash interrupts is offered again, because
each start lists the open invitations anew. Promises: no invitation by anybody but allowed users
is accepted, one refusal per inviter and minute is sent, a moved room is followed only when its
sender had the power, and only into a room that names the old one as its predecessor.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import structlog

from bridge.matrix.errors import LoggedOut
from bridge.matrix.facts import LINK_TYPE
from bridge.platform import PlatformError, Retryable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from bridge.matrix.client import Client
    from bridge.matrix.facts import Tombstone

log = structlog.get_logger(__name__)

FOLLOW_AGE_MS: Final = 24 * 3600 * 1000
"""A move that is older than this when we start was dealt with, or we were removed since."""

_AT_ONCE: Final = 4
_PENDING: Final = 200
_ATTEMPTS: Final = 60
"""With pauses of up to a minute: about an hour. A restart offers what is left again."""
_JOIN_DEADLINE: Final = 90.0
_COOL_DOWN: Final = 60.0
_INVITERS: Final = 1000
_LINKS: Final = 20
"""Invitations to link rooms that are kept for whoever says `!link`."""


class Invites:
    """Acts on invitations and moves, in the background, until `close`."""

    def __init__(
        self,
        client: Client,
        may_invite: Callable[[str], bool],
        *,
        wants_link: Callable[[str], bool] = lambda _bot: False,
        link_offered: Callable[[str], None] = lambda _bot: None,
        pause: Callable[[int], Awaitable[None]],
        clock: Callable[[], float],
    ) -> None:
        self._client = client
        self._may_invite = may_invite
        self._wants_link = wants_link
        self._link_offered = link_offered
        self._links: dict[str, str] = {}
        """Link rooms that we are invited to and that nobody here wants yet, by who invites."""
        self._pause = pause
        self._clock = clock
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._refused: dict[str, float] = {}
        self._followed: set[str] = set()

    async def close(self) -> None:
        """Stop; what was not done is offered again after the next start."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def offer(self, room_id: str, invite: Mapping[str, Any]) -> None:
        """Accept or refuse the invitation `invite` (an entry of `rooms.invite` of a sync answer)."""
        inviter = inviter_of(invite, self._client.user_id)
        if inviter is not None and is_link(invite):
            self._offer_link(room_id, inviter)
            return
        if inviter is not None and self._may_invite(inviter):
            self._start(room_id, self._join(room_id, inviter))
            return
        now = self._clock()
        if now - self._refused.get(inviter or "", -_COOL_DOWN) < _COOL_DOWN:
            return
        self._refused.pop(inviter or "", None)
        while len(self._refused) >= _INVITERS:
            self._refused.pop(next(iter(self._refused)))
        self._refused[inviter or ""] = now
        log.info("invite_refused", place=room_id, inviter=inviter)
        self._start(room_id, self._leave(room_id))

    def _offer_link(self, room_id: str, inviter: str) -> None:
        """Join a link room if somebody here wants to be linked with who invites; else keep the invitation."""
        if self._wants_link(inviter):
            self._start(room_id, self._join(room_id, inviter))
        elif inviter in self._links or len(self._links) < _LINKS:
            if self._links.get(inviter) != room_id:
                log.info("link_offered", place=room_id, peer=inviter)
                self._link_offered(inviter)
            self._links[inviter] = room_id

    def link_from(self, inviter: str) -> str | None:
        """The link room to which `inviter` invites us."""
        return self._links.get(inviter)

    async def accept_link(self, room_id: str, inviter: str) -> None:
        """Join that room. Raises one of the four families."""
        await self._enter(room_id, inviter)
        self._links.pop(inviter, None)

    def follow(self, old_id: str, tombstone: Tombstone) -> None:
        """Go where the room moved to, unless we did already."""
        if tombstone.replacement in self._followed or tombstone.replacement in self._client.rooms:
            return
        self._followed.add(tombstone.replacement)
        self._start(tombstone.replacement, self._move(old_id, tombstone))

    def _start(self, room_id: str, work: Coroutine[Any, Any, None]) -> None:
        if room_id in self._tasks or len(self._tasks) >= _PENDING:
            work.close()
            return
        task = asyncio.create_task(self._persist(room_id, work))
        self._tasks[room_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(room_id, None))

    async def _persist(self, room_id: str, work: Coroutine[Any, Any, None]) -> None:
        async with self._slots:
            try:
                await work
            except PlatformError as error:
                log.warning("room_not_entered", place=room_id, error=str(error))

    async def _join(self, room_id: str, via: str) -> None:
        await self._repeat(lambda: self._enter(room_id, via))
        log.info("joined", place=room_id, inviter=via)

    async def _enter(self, room_id: str, via: str) -> dict[str, Any]:
        server = via.partition(":")[2]
        # A room id of version 12 has no server in it: whom to ask must be said (MSC4291).
        query = {"server_name": server, "via": server}
        return await self._client.call(
            "POST", ("v3", "join", room_id), {}, query=query, deadline=_JOIN_DEADLINE
        )

    async def _leave(self, room_id: str) -> None:
        await self._repeat(lambda: self._client.call("POST", ("v3", "rooms", room_id, "leave"), {}))

    async def _move(self, old_id: str, tombstone: Tombstone) -> None:
        new_id = tombstone.replacement
        await self._join(new_id, tombstone.sender)
        path = ("v3", "rooms", new_id, "state", "m.room.create", "")
        try:
            created = await self._repeat(lambda: self._client.call("GET", path))
        except PlatformError:
            created = {}
        predecessor = created.get("predecessor")
        if not isinstance(predecessor, dict) or predecessor.get("room_id") != old_id:
            log.warning("move_refused", place=old_id, replacement=new_id)
            await self._leave(new_id)

    async def _repeat(self, attempt: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        for tried in range(_ATTEMPTS - 1):
            try:
                return await attempt()
            except LoggedOut:
                raise
            except Retryable:
                await self._pause(tried)
        return await attempt()


def is_link(invite: Mapping[str, Any]) -> bool:
    """Whether the stripped state of an invitation says that it is to a link room. Pure and total."""
    state = invite.get("invite_state")
    events = state.get("events") if isinstance(state, dict) else None
    for event in events if isinstance(events, list) else ():
        if isinstance(event, dict) and event.get("type") == "m.room.create":
            content = event.get("content")
            return isinstance(content, dict) and content.get("type") == LINK_TYPE
    return False


def inviter_of(invite: Mapping[str, Any], own_id: str) -> str | None:
    """Who invited us, from the stripped state; None if it does not say. Pure and total."""
    state = invite.get("invite_state")
    events = state.get("events") if isinstance(state, dict) else None
    for event in events if isinstance(events, list) else ():
        if not isinstance(event, dict) or event.get("type") != "m.room.member":
            continue
        content, sender = event.get("content"), event.get("sender")
        if event.get("state_key") == own_id and isinstance(content, dict) and isinstance(sender, str):
            return sender if content.get("membership") == "invite" else None
    return None
