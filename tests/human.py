"""`Human`: a person with a Matrix client, for tests. A second implementation's eyes on what we did.

Built on matrix-nio's own high-level calls, not on `bridge.matrix`, so that it can be the oracle.
It syncs only when asked (`say`, `until`, `catch_up`), so tests stay deterministic. The crypto
store is in memory; a `Human` lives as long as its test.

    async with Human(url, "@ada:hearth.test", "password") as ada:
        room = await ada.create_room("Family", encrypted=True, invite=[bot])
        asked = await ada.say(room, "Hearth, hello", mentions=[bot])
        answer = await ada.until(room, lambda said: said.reply_to == asked)
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self, TypeVar

import nio
from nio.crypto.attachments import decrypt_attachment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

DEADLINE = 30.0
"""Seconds that a person waits for something to happen before the test fails."""

_POLL_MS = 500
_PAGE = 100
_FILTER = {"room": {"timeline": {"limit": _PAGE}}}
"""The default of ten loses what is said in a hurry: nobody here fills gaps."""
_POLL = "org.matrix.msc3381.poll"
_TEXT = "org.matrix.msc1767.text"
_R = TypeVar("_R")


class NotSeen(AssertionError):
    """What a person waited for did not happen in time."""


@dataclass(frozen=True, slots=True)
class Said:
    """One message as a client shows it: with its latest edit, and blank once redacted.

    `text` is the body, `html` the formatted body, `content` the whole decrypted content of the
    latest version, `mentions` those of the original event (they notify), `edits` how many edits
    there were, `readable` whether it could be decrypted, `encrypted` whether it had to be.
    """

    id: str
    sender: str
    content: dict[str, Any] = field(default_factory=dict)
    sent_at: int = 0
    encrypted: bool = False
    readable: bool = True
    redacted: bool = False
    edits: int = 0
    reply_to: str | None = None
    thread: str | None = None
    mentions: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return str(self.content.get("body", ""))

    @property
    def html(self) -> str:
        return str(self.content.get("formatted_body", ""))

    @property
    def msgtype(self) -> str:
        return str(self.content.get("msgtype", ""))

    @property
    def mark(self) -> dict[str, Any]:
        """The bot marker, `{}` on words of people."""
        mark = self.content.get("community.hearth")
        return mark if isinstance(mark, dict) else {}


@dataclass(frozen=True, slots=True)
class Poll:
    """A poll as a client shows it; `answers` by id, `result` what ended it, None while it is open."""

    id: str
    sender: str
    question: str
    answers: dict[str, str]
    encrypted: bool = False
    mark: dict[str, Any] = field(default_factory=dict)
    result: str | None = None


class Human:
    """One logged-in device of one person."""

    def __init__(self, url: str, user_id: str, password: str, *, device_id: str = "") -> None:
        config = nio.AsyncClientConfig(
            store=nio.store.SqliteMemoryStore, encryption_enabled=True, max_timeouts=1, request_timeout=30
        )
        self.user_id = user_id
        self.client = nio.AsyncClient(url, user_id, device_id=device_id or None, config=config)
        self._password = password
        self._since: str | None = None
        self._raw: dict[str, list[Any]] = defaultdict(list)
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> Self:
        expect(await self.client.login(self._password, device_name="test"), nio.LoginResponse)
        await self.catch_up()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self.client.close()
        if self.client.store is not None:
            self.client.store.database.close()

    # -- rooms -------------------------------------------------------------------------------------

    async def create_room(
        self,
        name: str = "",
        *,
        encrypted: bool = True,
        invite: Sequence[str] = (),
        direct: bool = False,
        public: bool = False,
        version: str | None = None,
        state: Sequence[dict[str, Any]] = (),
    ) -> str:
        initial = list(state)
        if encrypted:
            initial.append(nio.EnableEncryptionBuilder().as_dict())
        answer = await self.client.room_create(
            name=name or None,
            invite=list(invite),
            is_direct=direct,
            initial_state=initial,
            room_version=version,
            preset=nio.RoomPreset.public_chat if public else nio.RoomPreset.private_chat,
        )
        room_id = str(expect(answer, nio.RoomCreateResponse).room_id)
        await self.catch_up()
        return room_id

    async def invite(self, room: str, user_id: str) -> None:
        expect(await self.client.room_invite(room, user_id), nio.RoomInviteResponse)

    async def kick(self, room: str, user_id: str) -> None:
        expect(await self.client.room_kick(room, user_id), nio.RoomKickResponse)

    async def join(self, room: str) -> None:
        expect(await self.client.join(room), nio.JoinResponse)
        await self.catch_up()

    async def leave(self, room: str) -> None:
        expect(await self.client.room_leave(room), nio.RoomLeaveResponse)

    async def set_name(self, name: str) -> None:
        expect(await self.client.set_displayname(name), nio.ProfileSetDisplayNameResponse)

    async def put_state(self, room: str, kind: str, content: dict[str, Any], state_key: str = "") -> str:
        answer = await self.client.room_put_state(room, kind, content, state_key)
        return str(expect(answer, nio.RoomPutStateResponse).event_id)

    async def joined(self, room: str) -> set[str]:
        """Who is in the room, by the server."""
        answer = expect(await self.client.joined_members(room), nio.JoinedMembersResponse)
        return {member.user_id for member in answer.members}

    async def until_joined(self, room: str, user_id: str, *, deadline: float = DEADLINE) -> None:
        """Wait until `user_id` has joined the room."""
        until = time.monotonic() + deadline
        while user_id not in await self.joined(room):
            if time.monotonic() > until:
                raise NotSeen(f"{user_id} did not join {room} within {deadline:.0f} s")
            await self.catch_up(_POLL_MS)
        await self.catch_up()

    async def until_membership(
        self, room: str, user_id: str, membership: str, *, deadline: float = DEADLINE
    ) -> None:
        """Wait until the membership of `user_id` is `membership` (`leave`, `ban`, `invite`, `join`)."""
        until = time.monotonic() + deadline
        while True:
            answer = await self.client.room_get_state_event(room, "m.room.member", user_id)
            if (
                isinstance(answer, nio.RoomGetStateEventResponse)
                and answer.content["membership"] == membership
            ):
                return
            if time.monotonic() > until:
                raise NotSeen(f"{user_id} is not {membership!r} in {room} after {deadline:.0f} s")
            await self.catch_up(_POLL_MS)

    # -- words -------------------------------------------------------------------------------------

    async def say(
        self,
        room: str,
        text: str,
        *,
        mentions: Sequence[str] | None = None,
        reply_to: str | None = None,
        thread: str | None = None,
        msgtype: str = "m.text",
        extra: dict[str, Any] | None = None,
        fresh: bool = True,
    ) -> str:
        """Say `text`; the event id. `mentions=None` leaves `m.mentions` out, as old clients do.

        `fresh=False` skips the sync before it (faster; only when no device is new in the room).
        """
        content: dict[str, Any] = {"msgtype": msgtype, "body": text}
        content |= _addressed(mentions, reply_to, thread)
        return await self.send(room, content | (extra or {}), fresh=fresh)

    async def send_voice(
        self,
        room: str,
        data: bytes,
        *,
        mentions: Sequence[str] | None = None,
        reply_to: str | None = None,
        thread: str | None = None,
        duration_ms: int = 1000,
        media_type: str = "audio/ogg",
        extra: dict[str, Any] | None = None,
    ) -> str:
        """Send a voice message as Element does, the file encrypted where the room is; the event id.

        `extra` replaces parts of the content (another `msgtype`, a `filename` with its caption).
        """
        await self.catch_up()
        encrypted = bool(self.client.rooms[room].encrypted)
        content: dict[str, Any] = {
            "msgtype": "m.audio",
            "body": "Voice message",
            "info": {"duration": duration_ms, "mimetype": media_type, "size": len(data)},
            "org.matrix.msc1767.audio": {"duration": duration_ms, "waveform": [0, 1024]},
            "org.matrix.msc3245.voice": {},
            **await self.put_file(data, media_type, encrypted=encrypted),
        }
        content |= _addressed(mentions, reply_to, thread)
        return await self.send(room, content | (extra or {}), fresh=False)

    async def put_file(self, data: bytes, media_type: str, *, encrypted: bool) -> dict[str, Any]:
        """Upload a file; the `url` or `file` of the content that shows it."""
        answer, keys = await self.client.upload(
            lambda _limited, _late: data, content_type=media_type, encrypt=encrypted, filesize=len(data)
        )
        url = str(expect(answer, nio.UploadResponse).content_uri)
        return {"url": url} if keys is None else {"file": {**keys, "url": url}}

    async def read_file(self, said: Said) -> bytes:
        """The file that a message shows, fetched and decrypted."""
        file = said.content.get("file")
        answer = await self.client.download(said.content["url"] if file is None else file["url"])
        body = bytes(expect(answer, nio.MemoryDownloadResponse).body)
        if file is None:
            return body
        clear = decrypt_attachment(body, file["key"]["k"], file["hashes"]["sha256"], file["iv"])
        return bytes(clear)

    async def react(self, room: str, event_id: str, emoji: str) -> str:
        """Put an emoji on a message; in clear, as clients do in encrypted rooms too."""
        relation = {"rel_type": "m.annotation", "event_id": event_id, "key": emoji}
        return await self.send(room, {"m.relates_to": relation}, kind="m.reaction")

    async def key_kept_from(self, room: str, user: str, device: str) -> dict[str, str]:
        """Start a session of the room without one device; the key that it lacks (`m.room_key`)."""
        lacking = self.client.device_store[user][device]
        self.client.blacklist_device(lacking)
        await self.client.share_group_session(room, ignore_unverified_devices=True)
        session = self.client.olm.outbound_group_sessions[room]
        return {
            "algorithm": "m.megolm.v1.aes-sha2",
            "room_id": room,
            "session_id": session.id,
            "session_key": session.session_key,
        }

    async def hand_over(self, key: dict[str, str], user: str, device: str) -> None:
        """Send a device the key that it lacked, late."""
        lacking = self.client.device_store[user][device]
        await self.client.keys_claim({user: [device]})
        olm = self.client.olm
        message = olm._olm_encrypt(olm.session_store.get(lacking.curve25519), lacking, "m.room_key", key)
        answer = await self.client.send(
            "PUT",
            "/_matrix/client/v3/sendToDevice/m.room.encrypted/late",
            json.dumps({"messages": {user: {device: message}}}),
            {"Authorization": f"Bearer {self.client.access_token}"},
        )
        assert answer.status == 200

    async def vote(self, room: str, poll: str, *choices: str, fresh: bool = True) -> str:
        """Answer a poll (MSC3381), encrypted where the room is; no choice takes the vote back."""
        content = {
            "m.relates_to": {"rel_type": "m.reference", "event_id": poll},
            f"{_POLL}.response": {"answers": list(choices)},
        }
        return await self.send(room, content, kind=f"{_POLL}.response", fresh=fresh)

    async def edit(
        self, room: str, event_id: str, text: str, *, mentions: Sequence[str] | None = None
    ) -> str:
        """Replace what `event_id` says, as clients do: the fallback body starts with `* `."""
        new: dict[str, Any] = {"msgtype": "m.text", "body": text}
        if mentions is not None:
            new["m.mentions"] = {"user_ids": list(mentions)} if mentions else {}
        content = {
            "msgtype": "m.text",
            "body": f"* {text}",
            "m.new_content": new,
            "m.relates_to": {"rel_type": "m.replace", "event_id": event_id},
        }
        if mentions is not None:
            content["m.mentions"] = {}
        return await self.send(room, content)

    async def redact(self, room: str, event_id: str, reason: str | None = None) -> str:
        answer = await self.client.room_redact(room, event_id, reason)
        return str(expect(answer, nio.RoomRedactResponse).event_id)

    async def send(
        self, room: str, content: dict[str, Any], *, kind: str = "m.room.message", fresh: bool = True
    ) -> str:
        """Send any content; encrypted where the room is."""
        if fresh:
            await self.catch_up()
        answer = await self.client.room_send(
            room, kind, content, tx_id=str(uuid.uuid4()), ignore_unverified_devices=True
        )
        return str(expect(answer, nio.RoomSendResponse).event_id)

    # -- reading -----------------------------------------------------------------------------------

    async def catch_up(self, wait_ms: int = 0) -> None:
        """One sync (waiting up to `wait_ms` for news) and the key chores that go with it."""
        async with self._lock:
            first = self._since is None
            answer = await self.client.sync(
                timeout=wait_ms, sync_filter=_FILTER, since=self._since, full_state=first
            )
            response = expect(answer, nio.SyncResponse)
            self._since = response.next_batch
            for room_id, info in response.rooms.join.items():
                self._raw[room_id].extend(info.timeline.events)
            await self.client.send_to_device_messages()
            if self.client.should_upload_keys:
                expect(await self.client.keys_upload(), nio.KeysUploadResponse)
            if self.client.should_query_keys:
                expect(await self.client.keys_query(), nio.KeysQueryResponse)
            if self.client.should_claim_keys:
                await self.client.keys_claim(self.client.get_users_for_key_claiming())

    async def until(self, room: str, seen: Callable[[Said], bool], *, deadline: float = DEADLINE) -> Said:
        """Wait until a message of the room satisfies `seen`; raises `NotSeen` after `deadline` seconds."""
        until = time.monotonic() + deadline
        while True:
            for said in self.seen(room):
                if seen(said):
                    return said
            if time.monotonic() > until:
                told = "\n".join(f"  {said.sender}: {said.text[:80]!r}" for said in self.seen(room))
                raise NotSeen(f"not seen in {room} within {deadline:.0f} s; there is:\n{told or '  nothing'}")
            await self.catch_up(_POLL_MS)

    def seen(self, room: str) -> list[Said]:
        """What this device has received by sync so far, as a client shows it, oldest first."""
        return _shown(self._raw[room])

    async def until_poll(
        self, room: str, seen: Callable[[Poll], bool] = lambda _: True, *, deadline: float = DEADLINE
    ) -> Poll:
        """Wait until a poll of the room satisfies `seen`; raises `NotSeen` after `deadline` seconds."""
        until = time.monotonic() + deadline
        while True:
            for poll in self.polls(room):
                if seen(poll):
                    return poll
            if time.monotonic() > until:
                raise NotSeen(f"no such poll in {room} within {deadline:.0f} s")
            await self.catch_up(_POLL_MS)

    def polls(self, room: str) -> list[Poll]:
        """The polls that this device has received by sync so far, oldest first; redacted ones are none."""
        return _polls(self._raw[room])

    async def history(self, room: str) -> list[Said]:
        """The whole room, read anew from the server, oldest first: the oracle for what really is there."""
        await self.catch_up()
        raw: list[Any] = []
        start: str | None = ""
        while start is not None:
            answer = expect(
                await self.client.room_messages(room, start, limit=_PAGE), nio.RoomMessagesResponse
            )
            raw.extend(answer.chunk)
            start = answer.end if answer.chunk else None
        return _shown(list(reversed(raw)))


def _addressed(mentions: Sequence[str] | None, reply_to: str | None, thread: str | None) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if mentions is not None:
        content["m.mentions"] = {"user_ids": list(mentions)} if mentions else {}
    relation: dict[str, Any] = {}
    if thread is not None:
        relation |= {"rel_type": "m.thread", "event_id": thread, "is_falling_back": reply_to is None}
        relation["m.in_reply_to"] = {"event_id": reply_to or thread}
    elif reply_to is not None:
        relation["m.in_reply_to"] = {"event_id": reply_to}
    if relation:
        content["m.relates_to"] = relation
    return content


def _shown(raw: Sequence[Any]) -> list[Said]:
    """Apply edits and redactions the way clients do: the sender's latest edit wins."""
    messages: dict[str, Said] = {}
    for event in raw:
        source: dict[str, Any] = event.source
        content = source.get("content") or {}
        if isinstance(event, nio.RedactionEvent):
            if event.redacts in messages:
                messages[event.redacts] = replace(messages[event.redacts], content={}, redacted=True)
            continue
        encrypted = bool(getattr(event, "decrypted", False)) or source.get("type") == "m.room.encrypted"
        redacted = "redacted_because" in (source.get("unsigned") or {})
        if source.get("type") not in {"m.room.message", "m.room.encrypted"} or event.event_id in messages:
            continue
        relation = content.get("m.relates_to") or {}
        if relation.get("rel_type") == "m.replace" and not redacted:
            target = messages.get(relation.get("event_id", ""))
            if target is not None and target.sender == event.sender and not target.redacted:
                new = content.get("m.new_content") or {}
                messages[target.id] = replace(target, content=new, edits=target.edits + 1)
            continue
        threaded = relation.get("rel_type") == "m.thread"
        reply = (relation.get("m.in_reply_to") or {}).get("event_id")
        messages[event.event_id] = Said(
            id=event.event_id,
            sender=event.sender,
            content={} if redacted else content,
            sent_at=event.server_timestamp,
            encrypted=encrypted,
            readable=source.get("type") != "m.room.encrypted" or redacted,
            redacted=redacted,
            reply_to=None if threaded and relation.get("is_falling_back") else reply,
            thread=relation.get("event_id") if threaded else None,
            mentions=tuple((content.get("m.mentions") or {}).get("user_ids") or ()),
        )
    return list(messages.values())


def _polls(raw: Sequence[Any]) -> list[Poll]:
    """Only who opened a poll is believed to have ended it."""
    polls: dict[str, Poll] = {}
    for event in raw:
        source: dict[str, Any] = event.source
        content = source.get("content") or {}
        if isinstance(event, nio.RedactionEvent):
            polls.pop(event.redacts, None)
        elif source.get("type") == f"{_POLL}.start" and content:
            asked = content[f"{_POLL}.start"]
            polls[event.event_id] = Poll(
                id=event.event_id,
                sender=event.sender,
                question=asked["question"][_TEXT],
                answers={one["id"]: one[_TEXT] for one in asked["answers"]},
                encrypted=bool(getattr(event, "decrypted", False)),
                mark=content.get("community.hearth") or {},
            )
        elif source.get("type") == f"{_POLL}.end" and content:
            ended = polls.get(content["m.relates_to"]["event_id"])
            if ended is not None and ended.sender == event.sender:
                polls[ended.id] = replace(ended, result=content[_TEXT])
    return list(polls.values())


def expect(answer: object, kind: type[_R]) -> _R:
    """The answer if it is one of `kind`; matrix-nio returns errors as values, here they fail the test."""
    assert isinstance(answer, kind), f"expected {kind.__name__}, got {answer}"
    return answer
