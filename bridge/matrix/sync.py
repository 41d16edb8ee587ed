"""The loop: everything that arrived since a cursor, in batches that are committed as a whole.

    poll --> keys --> rooms: state, gap filled, timeline, decrypted, translated --> batch
      ^                                                                               |
      '---- chores (to-device, upload, query, claim) <---- the consumer has committed-'

Owns what is known of the rooms while it runs. Promises: nothing after the cursor is skipped
without a recorded `Gap`; events come in the room's order, each once per batch; an error of the
server never makes a loop without a pause. Refuses to be used again after a failed commit: a new
`Sync` starts from the stored cursor (matrix-nio ignores an answer that it has seen).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog
from vodozemac import DecodeException, MegolmMessage

from bridge.matrix import wire
from bridge.matrix.crypto.verification import heard, taken_out
from bridge.matrix.errors import LoggedOut
from bridge.matrix.facts import STATE_TYPES, RoomState
from bridge.matrix.invites import FOLLOW_AGE_MS
from bridge.matrix.translate import Us, document_change, translate
from bridge.platform import (
    Batch,
    Broken,
    Event,
    EventKind,
    Gap,
    PlaceFacts,
    PlatformError,
    Refused,
    Retryable,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence

    from bridge.matrix.client import Client
    from bridge.matrix.crypto.identities import Identities
    from bridge.matrix.crypto.keeper import Keeper
    from bridge.matrix.crypto.verification import Heard, Verifications
    from bridge.matrix.invites import Invites
    from bridge.matrix.link import Links
    from policies.room import Trust

log = structlog.get_logger(__name__)

LONG_POLL: Final = 30.0
"""Seconds that the server holds a sync request when nothing happens."""

_FIRST_DEADLINE: Final = 300.0
_MARGIN: Final = 15.0
_TIMELINE: Final = 50
_PAGE: Final = 100
_SEALED: Final = 1000

_QUIET: Final[Mapping[str, Any]] = {"types": [], "not_types": ["*"]}
FILTER: Final = json.dumps(
    {
        "presence": _QUIET,
        "account_data": _QUIET,
        "room": {
            "ephemeral": _QUIET,
            "account_data": _QUIET,
            "state": {"types": list(STATE_TYPES)},
            "timeline": {"limit": _TIMELINE},
        },
    },
    separators=(",", ":"),
)
_INVITES_ONLY: Final = json.dumps(
    {
        "presence": _QUIET,
        "account_data": _QUIET,
        "room": {
            "ephemeral": _QUIET,
            "account_data": _QUIET,
            "state": _QUIET,
            "timeline": {**_QUIET, "limit": 1},
        },
    },
    separators=(",", ":"),
)

_T = TypeVar("_T")


@dataclass(slots=True)
class _Round:
    """What one answer of the server amounts to, while it is being read."""

    events: dict[str, Event]
    places: list[PlaceFacts]
    gaps: list[Gap]
    verifying: list[Heard]

    def add(self, event: Event) -> None:
        self.events.setdefault(event.id, event)


class Sync:
    """One run of the loop with one client, from one cursor."""

    def __init__(
        self,
        client: Client,
        us: Us,
        cursor: str | None,
        sealed: Sequence[Event],
        *,
        invites: Invites,
        links: Links,
        identities: Identities,
        verifications: Verifications,
        keeper: Keeper,
        max_backfill: int,
        salt: int,
        pause: Callable[[int, float | None], Awaitable[None]],
    ) -> None:
        self._client = client
        self._us = us
        self._cursor = cursor
        self._invites = invites
        self._max_backfill = max_backfill
        self._salt = salt
        self._pause = pause
        self.rooms: dict[str, RoomState] = {}
        self._identities = identities
        self._verifications = verifications
        self._links = links
        self._keeper = keeper
        links.follow(self.rooms)
        self._told: dict[str, PlaceFacts] = {}
        self._newest: dict[str, str] = {}
        self._sealed: dict[str, Event] = {}
        for event in sealed:
            self._remember_sealed(event)

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """Yield batches for ever; the consumer commits each before it asks for the next.

        Raises `LoggedOut` when the token is no longer valid, `Misconfigured` when only the
        operator can help; everything else is retried.
        """
        first = True
        if self._cursor is not None:
            await self._offer_open_invites()
        while True:
            raw = await self._patiently("sync", self._poll_all if first else self._poll)
            batch = await self._read(raw, first=first)
            if first:
                # Whoever sends next needs the devices of everybody in the rooms.
                await self._keep_keys()
            if batch.cursor != self._cursor or batch.events or first:
                yield batch
            self._cursor = batch.cursor
            if not first:
                await self._keep_keys()
            self._links.greet()
            first = False

    async def _poll_all(self) -> dict[str, Any]:
        return await self._poll(full=True)

    async def _poll(self, *, full: bool = False) -> dict[str, Any]:
        query = {"filter": FILTER, "timeout": "0" if full else str(int(LONG_POLL * 1000))}
        if self._cursor is not None:
            query["since"] = self._cursor
        if full:
            query["full_state"] = "true"
        deadline = _FIRST_DEADLINE if full else LONG_POLL + _MARGIN
        raw = await self._client.call("GET", ("v3", "sync"), query=query, deadline=deadline)
        if not isinstance(raw.get("next_batch"), str):
            raise Retryable("GET sync: no next_batch in the answer")
        return raw

    async def _offer_open_invites(self) -> None:
        """An invitation is told once; what a crash interrupted is found again here.

        Without `since` the server does not wait; the odd timeout keeps Synapse, which answers an
        equal request within two minutes from its cache, from telling of old invitations.
        """
        query = {"filter": _INVITES_ONLY, "timeout": str(self._salt)}
        raw = await self._patiently(
            "sync", lambda: self._client.call("GET", ("v3", "sync"), query=query, deadline=_FIRST_DEADLINE)
        )
        for room_id, invite in _items(_dict(raw.get("rooms")), "invite"):
            self._invites.offer(room_id, invite)

    async def _keep_keys(self) -> None:
        try:
            await self._client.keep_keys()
            await self._keeper.round()
        except LoggedOut:
            raise
        except PlatformError as error:
            # Everything that is left undone is asked for again in the next round.
            log.warning("keys_not_kept", error=str(error))

    async def _patiently(self, what: str, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """Repeat until it works, with growing, jittered pauses; one line in the log per outage."""
        tried = 0
        while True:
            try:
                value = await attempt()
            except LoggedOut:
                raise
            except (Retryable, Broken, Refused) as error:
                if tried == 0:
                    log.warning(
                        "homeserver_not_answering", during=what, error=str(error), url=self._client.homeserver
                    )
                await self._pause(tried, error.after if isinstance(error, Retryable) else None)
                tried += 1
                continue
            if tried:
                log.info("homeserver_answers_again", during=what, attempts=tried)
                self._links.reconnected()
            return value

    # -- reading one answer ------------------------------------------------------------------------

    async def _read(self, raw: Mapping[str, Any], *, first: bool) -> Batch:
        raw, verifying = taken_out(raw)
        found = _Round({}, [], [], verifying)
        new_keys = await self._client.take_keys(raw) or self._keeper.take_news()
        rooms = _dict(raw.get("rooms"))
        self._identities.forget(wire.texts(_dict(raw.get("device_lists")).get("changed")))
        await self._learn(rooms, sealed=new_keys or first)
        for room_id, info in _items(rooms, "join"):
            await self._read_joined(found, room_id, info, first=first)
        for room_id, info in _items(rooms, "leave"):
            self._read_left(found, room_id, info)
        for room_id, info in _items(rooms, "invite"):
            self._invites.offer(room_id, info)
        for event in found.events.values():
            if event.kind is EventKind.SEALED:
                self._remember_sealed(event)
        opened = tuple(self._open_sealed(found)) if new_keys or first else ()
        for event in await self._verifications.take(found.verifying, self.rooms):
            found.add(event)
        return Batch(
            account=self._us.id,
            cursor=str(raw["next_batch"]),
            events=tuple(found.events.values()),
            places=tuple(found.places),
            gaps=tuple(found.gaps),
            opened=opened,
        )

    async def _learn(self, rooms: Mapping[str, Any], *, sealed: bool) -> None:
        """Ask who people are that write encrypted, where their words may become work."""
        if self._cursor is None:
            return
        events = [one for _, info in _items(rooms, "join") for one in _event_list(info.get("timeline"))]
        users = {_text(one.get("sender")) for one in events if one.get("type") == "m.room.encrypted"}
        if sealed:
            users |= {event.sender.id for event in self._sealed.values() if not event.context_only}
        await self._identities.learn(users - {self._us.id, ""})

    async def _read_joined(
        self, found: _Round, room_id: str, info: Mapping[str, Any], *, first: bool
    ) -> None:
        fresh = room_id not in self.rooms and not first
        room = self.rooms.setdefault(room_id, RoomState(room_id, self._us.id))
        before = room.tombstone
        state = _event_list(info.get("state"))
        timeline = _event_list(info.get("timeline"))
        for event in state:
            room.apply(event)
        joins = [self._is_own_join(event) for event in timeline]
        older: list[dict[str, Any]] = []
        part = _dict(info.get("timeline"))
        if part.get("limited") is True and self._cursor is not None and not fresh and not any(joins):
            older = await self._fill_gap(found, room_id, part.get("prev_batch"), known=timeline)
        if fresh and not any(joins):
            for event in state:
                if self._is_own_join(event):
                    self._admit(found, room, event, before_join=False)
        self._read_events(found, room, [*older, *timeline])
        if timeline:
            self._newest[room_id] = str(timeline[-1].get("event_id"))
        self._client.follow(room_id, room.readers, encrypted=room.encrypted)
        self._client.heard(str(event.get("sender")) for event in timeline)
        if fresh or first or any(map(_may_change_state, (*state, *older, *timeline))):
            self._tell(found, room)
        moved = room.tombstone
        recent = moved is not None and (not first or moved.age_ms <= FOLLOW_AGE_MS)
        if moved is not None and moved != before and recent and room.may_move(moved):
            self._invites.follow(room_id, moved)

    def _read_events(self, found: _Round, room: RoomState, events: Sequence[dict[str, Any]]) -> None:
        # History from before we joined is context; so is all that was there before the first start.
        history = any(self._is_own_join(event) for event in events)
        for event in events:
            if self._is_own_join(event):
                history = False
            self._admit(found, room, event, before_join=history or self._cursor is None)
            room.apply(event)

    def _read_left(self, found: _Round, room_id: str, info: Mapping[str, Any]) -> None:
        room = self.rooms.get(room_id) or RoomState(room_id, self._us.id)
        events = (*_event_list(info.get("state")), *_event_list(info.get("timeline")))
        # A refused invitation comes here as well; only rooms that we were in concern anybody.
        if not any(self._is_own_leave(event, was_in=room.joined) for event in events):
            return
        for event in events:
            room.apply(event)
            self._admit(found, room, event, before_join=False)
        self.rooms.pop(room_id, None)
        self._newest.pop(room_id, None)
        self._client.unfollow(room_id)
        self._tell(found, room)
        self._told.pop(room_id, None)

    def _admit(self, found: _Round, room: RoomState, raw: Mapping[str, Any], *, before_join: bool) -> None:
        clear = self._client.opened(room.id, raw) if raw.get("type") == "m.room.encrypted" else None
        event = translate(raw, clear, room, self._us, before_join=before_join, trust=self._trust(raw, clear))
        if event is not None:
            found.add(event if clear is None else replace(event, ratchet=_ratchet(raw)))
        if not before_join:
            self._hear(found, room, raw, clear)
        changed = document_change(raw, room, self._us, before_join=before_join)
        if changed is not None:
            found.add(changed)

    def _trust(self, raw: Mapping[str, Any], clear: Mapping[str, Any] | None) -> Trust:
        return self._identities.trust(_text(raw.get("sender")), (clear or {}).get("sent_by"))

    def _hear(
        self, found: _Round, room: RoomState, raw: Mapping[str, Any], clear: Mapping[str, Any] | None
    ) -> None:
        """Keep for afterwards what belongs to a verification."""
        said = raw if clear is None else clear
        asked = heard(raw, said.get("type"), said.get("content"), room.id)
        if asked is not None and "state_key" not in raw:
            found.verifying.append(asked)

    def _tell(self, found: _Round, room: RoomState) -> None:
        facts = room.facts(self._us.known_bots)
        if self._told.get(room.id) != facts:
            self._told[room.id] = facts
            found.places.append(facts)

    def _is_own_join(self, event: Mapping[str, Any]) -> bool:
        return (
            event.get("type") == "m.room.member"
            and event.get("state_key") == self._us.id
            and _dict(event.get("content")).get("membership") == "join"
            and _dict(_dict(event.get("unsigned")).get("prev_content")).get("membership") != "join"
        )

    def _is_own_leave(self, event: Mapping[str, Any], *, was_in: bool) -> bool:
        before = _dict(_dict(event.get("unsigned")).get("prev_content")).get("membership")
        return (
            event.get("type") == "m.room.member"
            and event.get("state_key") == self._us.id
            and _dict(event.get("content")).get("membership") in ("leave", "ban")
            and (before == "join" or was_in)
        )

    # -- gaps --------------------------------------------------------------------------------------

    async def _fill_gap(
        self, found: _Round, room_id: str, start: object, *, known: Iterable[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """Events between the cursor and a limited timeline, oldest first; what is missing becomes a `Gap`.

        The cursor is not given to the server as the end: events that were back-filled over
        federation sort before it there (research/two-homeservers.md). The last event that was
        known ends the search instead.
        """
        since = self._cursor or ""
        if not isinstance(start, str):
            found.gaps.append(Gap(room_id, since, "no_prev_batch"))
            return []
        seen = {event.get("event_id") for event in known}
        older: list[dict[str, Any]] = []
        try:
            end = self._newest.get(room_id) or await self._newest_at(room_id, since)
            token: str | None = start
            while token is not None and len(older) < self._max_backfill:
                page = await self._page(room_id, token, _PAGE)
                chunk = [event for event in _list(page.get("chunk")) if isinstance(event, dict)]
                for event in chunk:
                    if event.get("event_id") == end or len(older) >= self._max_backfill:
                        token = None
                        break
                    if event.get("event_id") not in seen:
                        seen.add(event.get("event_id"))
                        older.append(event)
                    if self._is_own_join(event):
                        return older[::-1]
                else:
                    token = page["end"] if chunk and isinstance(page.get("end"), str) else None
        except (Refused, Broken) as error:
            log.warning("gap_not_filled", place=room_id, error=str(error))
            found.gaps.append(Gap(room_id, since, "refused"))
            return older[::-1]
        if len(older) >= self._max_backfill:
            log.warning("gap_too_long", place=room_id, fetched=len(older))
            found.gaps.append(Gap(room_id, since, "limit"))
        return older[::-1]

    async def _newest_at(self, room_id: str, token: str) -> str | None:
        page = await self._page(room_id, token, 1)
        chunk = _list(page.get("chunk"))
        return str(_dict(chunk[0]).get("event_id")) if chunk else None

    async def _page(self, room_id: str, start: str, limit: int) -> dict[str, Any]:
        query = {"dir": "b", "from": start, "limit": str(limit)}

        async def ask() -> dict[str, Any] | PlatformError:
            try:
                return await self._client.call("GET", ("v3", "rooms", room_id, "messages"), query=query)
            except (Refused, Broken) as error:
                return error  # decided, so not repeated

        answer = await self._patiently("messages", ask)
        if isinstance(answer, PlatformError):
            raise answer
        return answer

    # -- sealed events -----------------------------------------------------------------------------

    def _remember_sealed(self, event: Event) -> None:
        if event.sealed is None:
            return
        self._sealed[event.id] = event
        while len(self._sealed) > _SEALED:
            self._sealed.pop(next(iter(self._sealed)))

    def _open_sealed(self, found: _Round) -> Iterable[Event]:
        for event in list(self._sealed.values()):
            room = self.rooms.get(event.place)
            raw = _dict(_parsed(event.sealed or ""))
            clear = self._client.opened(event.place, raw) if raw and room is not None else None
            if clear is None or room is None:
                continue
            del self._sealed[event.id]
            trust = self._trust(raw, clear)
            opened = translate(raw, clear, room, self._us, before_join=event.context_only, trust=trust)
            if not event.context_only:
                self._hear(found, room, raw, clear)
            # What turns out to be no message stays known, as nothing to be answered.
            opened = opened or replace(event, kind=EventKind.MESSAGE, sealed=None, context_only=True)
            yield replace(opened, ratchet=_ratchet(raw))


def _ratchet(raw: Mapping[str, Any]) -> str | None:
    """Where an event that could be decrypted was encrypted; matrix-nio forgets it when we end."""
    content = _dict(raw.get("content"))
    try:
        index = MegolmMessage.from_base64(content["ciphertext"]).message_index()
    except (KeyError, TypeError, DecodeException):
        return None
    return f"{content.get('session_id')}:{index}"


def _dict(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _items(rooms: Mapping[str, Any], section: str) -> list[tuple[str, Mapping[str, Any]]]:
    return [(room_id, info) for room_id, info in _dict(rooms.get(section)).items() if isinstance(info, dict)]


def _event_list(part: object) -> list[dict[str, Any]]:
    return [event for event in _list(_dict(part).get("events")) if isinstance(event, dict)]


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _may_change_state(event: Mapping[str, Any]) -> bool:
    return "state_key" in event or event.get("type") == "m.room.redaction"
