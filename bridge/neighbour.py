"""`Neighbour`: a person with a Matrix client of their own, for the demonstration.

Owns one device whose keys live in memory and are gone with it. Promises that what it reports is
what that device really received and decrypted. Refuses nothing and hides nothing: an error of
the server is a `NeighbourError` that says which step failed. Built on matrix-nio's own calls and
not on `bridge.matrix`, so that the demonstration shows our side as a stranger's client sees it.
"""

from __future__ import annotations

import asyncio
import io
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

import nio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

_SYNC_MS = 1_000
_POLL = "org.matrix.msc3381.poll.start"
_REQUEST_DEADLINE = 30
_R = TypeVar("_R")


class NeighbourError(RuntimeError):
    """A step of the demonstration failed: which one, and what the server said."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A message as this device shows it. `encrypted` says that it came encrypted and was opened here."""

    id: str
    room: str
    sender: str
    text: str
    encrypted: bool
    reply_to: str | None


class Neighbour:
    """One logged-in person. Syncs only when asked to wait, so one task may drive several."""

    def __init__(self, url: str, user: str, password: str, *, heard: Callable[[Heard], None]) -> None:
        """`heard` is called with each message that arrives, own ones included, in the room's order."""
        config = nio.AsyncClientConfig(
            store=nio.store.SqliteMemoryStore,
            encryption_enabled=True,
            max_timeouts=1,
            max_limit_exceeded=1,
            request_timeout=_REQUEST_DEADLINE,
        )
        self.user = user
        self._client = nio.AsyncClient(url, user, config=config)
        self._password = password
        self._heard = heard
        self._since: str | None = None

    async def __aenter__(self) -> Self:
        try:
            _need("logging in", await self._client.login(self._password), nio.LoginResponse)
            await self._catch_up(0)
        except BaseException:
            await self._client.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            # The device has no use any more, and a person who logs in later should not see it.
            await self._client.logout()
        await self._client.close()

    async def open_room(self, name: str, invite: Sequence[str]) -> str:
        """Create an encrypted room and invite people; its id."""
        answer = await self._client.room_create(
            name=name,
            invite=list(invite),
            initial_state=[nio.EnableEncryptionBuilder().as_dict()],
            preset=nio.RoomPreset.private_chat,
        )
        room = _need("creating the room", answer, nio.RoomCreateResponse).room_id
        await self._catch_up(0)
        return str(room)

    async def join(self, room: str) -> None:
        """Accept an invitation."""
        _need("joining", await self._client.join(room), nio.JoinResponse)
        await self._catch_up(0)

    async def until_joined(self, room: str, user: str, *, deadline: float) -> None:
        """Wait until `user` is in the room; `NeighbourError` after `deadline` seconds."""
        until = time.monotonic() + deadline
        while True:
            answer = await self._client.joined_members(room)
            members = _need("reading the members", answer, nio.JoinedMembersResponse).members
            if user in {member.user_id for member in members}:
                return await self._catch_up(0)
            if time.monotonic() > until:
                raise NeighbourError(f"{user} did not join within {deadline:.0f} s")
            await self._catch_up(_SYNC_MS)

    async def say(
        self,
        room: str,
        text: str,
        *,
        mentions: Sequence[str] = (),
        reply_to: str | None = None,
        thread: str | None = None,
    ) -> str:
        """Say `text`, encrypted; the id of the event."""
        await self._catch_up(0)  # whoever joined meanwhile needs the key too
        content: dict[str, Any] = {
            "msgtype": "m.text",
            "body": text,
            "m.mentions": {"user_ids": list(mentions)} if mentions else {},
        }
        if thread is not None:
            content["m.relates_to"] = {"rel_type": "m.thread", "event_id": thread}
        return await self._send(room, content, reply_to)

    async def speak(self, room: str, voice: Path, seconds: float, *, reply_to: str | None = None) -> str:
        """Send the Ogg/Opus file `voice` as a voice message (MSC3245), encrypted; the id of the event."""
        await self._catch_up(0)
        sound = io.BytesIO(await asyncio.to_thread(voice.read_bytes))
        size = len(sound.getbuffer())
        answer, key = await self._client.upload(
            sound, content_type="application/octet-stream", encrypt=True, filesize=size
        )
        url = _need("sending the voice message", answer, nio.UploadResponse).content_uri
        duration = round(seconds * 1000)
        content: dict[str, Any] = {
            "msgtype": "m.audio",
            "body": "Voice message",
            "file": {**key, "url": url},
            "info": {"mimetype": "audio/ogg", "size": size, "duration": duration},
            "org.matrix.msc3245.voice": {},
            "org.matrix.msc1767.audio": {"duration": duration},
            "m.mentions": {},
        }
        return await self._send(room, content, reply_to)

    async def _send(self, room: str, content: dict[str, Any], reply_to: str | None) -> str:
        if reply_to is not None:
            content["m.relates_to"] = {"m.in_reply_to": {"event_id": reply_to}}
        answer = await self._client.room_send(room, "m.room.message", content, ignore_unverified_devices=True)
        return str(_need("sending", answer, nio.RoomSendResponse).event_id)

    async def react(self, event: Heard, emoji: str) -> None:
        """Put `emoji` on a message. A reaction is not encrypted: servers have to count them."""
        relation = {"rel_type": "m.annotation", "event_id": event.id, "key": emoji}
        await self._catch_up(0)
        content = {"m.relates_to": relation}
        answer = await self._client.room_send(event.room, "m.reaction", content)
        _need("reacting", answer, nio.RoomSendResponse)

    async def give_power(self, room: str, user: str, power: int) -> None:
        """Let `user` have `power` in a room of one's own."""
        kind = "m.room.power_levels"
        answer = await self._client.room_get_state_event(room, kind)
        levels = _need("reading the power levels", answer, nio.RoomGetStateEventResponse).content
        levels["users"] = levels.get("users", {}) | {user: power}
        _need("giving power", await self._client.room_put_state(room, kind, levels), nio.RoomPutStateResponse)

    async def until(self, seen: Callable[[], bool], what: str, *, deadline: float) -> None:
        """Sync until `seen()`; `NeighbourError` with `what` was waited for after `deadline` seconds."""
        try:
            async with asyncio.timeout(deadline):
                while not seen():
                    await self._catch_up(_SYNC_MS)
        except TimeoutError as error:
            raise NeighbourError(f"{what} did not come within {deadline:.0f} s") from error

    async def _catch_up(self, wait_ms: int) -> None:
        """One sync with the chores of encryption that go with it (as matrix-nio's `sync_forever` does)."""
        client = self._client
        answer = await client.sync(timeout=wait_ms, since=self._since, full_state=self._since is None)
        response = _need("syncing", answer, nio.SyncResponse)
        self._since = response.next_batch
        await client.send_to_device_messages()
        if client.should_upload_keys:
            await client.keys_upload()
        if client.should_query_keys:
            await client.keys_query()
        if client.should_claim_keys:
            await client.keys_claim(client.get_users_for_key_claiming())
        for room, joined in response.rooms.join.items():
            for message in _messages(room, joined.timeline.events):
                self._heard(message)


def _messages(room: str, events: Sequence[object]) -> Iterator[Heard]:
    for event in events:
        if isinstance(event, nio.RoomEncryptedAudio):
            seconds = event.source["content"].get("info", {}).get("duration", 0) / 1000
            text = f"🎤 a voice message of {seconds:.1f} s"
        elif isinstance(event, nio.RoomMessageText | nio.RoomMessageNotice):
            text = event.body
        elif isinstance(event, nio.UnknownEvent) and event.type == _POLL:
            text = "🗳 " + event.source["content"].get(_POLL, {}).get("question", {}).get("body", "")
        else:
            continue
        relation = event.source["content"].get("m.relates_to") or {}
        if relation.get("rel_type") == "m.replace":
            continue  # the demonstration runs without streaming, so nothing is edited
        yield Heard(
            id=event.event_id,
            room=room,
            sender=event.sender,
            text=text,
            encrypted=bool(event.decrypted),
            reply_to=(relation.get("m.in_reply_to") or {}).get("event_id"),
        )


def _need(step: str, answer: object, kind: type[_R]) -> _R:
    if not isinstance(answer, kind):
        raise NeighbourError(f"{step} failed: {answer}")
    return answer
