"""matrix-nio, tamed: it keeps the keys; requests, rooms and errors are ours.

Owns the HTTP session and the crypto store of one device. Promises: every request has a deadline
and ends in a value or in one of the four error families; nothing is encrypted for fewer devices
than the room has without being noticed and retried; a stranger's malformed event never raises.
Refuses to be used after `shut`: a new `Client` starts from what is on disk.

matrix-nio retries nothing here (`max_limit_exceeded=0`, `max_timeouts=0`), and it never sees a
room event: membership and encryption are told to it by `follow`, so that its parsers, which
reject some valid events (room version 12, MSC4381), cannot hide anything from us. Its SQLite store
runs on the event loop (peewee); moving it to a thread would reorder it against decryption.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import aiohttp
import nio
import structlog
from nio.events.room_events import MegolmEvent
from nio.rooms import MatrixRoom
from nio.store import SqliteStore

from bridge.matrix import wire
from bridge.matrix.errors import raise_for_response
from bridge.platform import Broken, Refused, Retryable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
    from pathlib import Path

log = structlog.get_logger(__name__)

REQUEST_DEADLINE = 30.0
"""Seconds for one request, unless the caller knows better."""

WITHHELD = "m.room_key.withheld"
_MOST_WITHHELD, _LONGEST_CODE = 1000, 64
_REPLAY_ENTRIES = 5000
_RETRY_DEVICES_FIRST = 60.0
_RETRY_DEVICES_CAP = 3600.0
_API = "/_matrix/client"


@dataclass(slots=True)
class _Missed:
    """`users` of a room have devices without its key: tried again at `again_at`, `pause` (s) after before."""

    again_at: float
    pause: float
    users: frozenset[str]


class Client(nio.AsyncClient):  # type: ignore[misc] # matrix-nio has no type information
    """One device on one homeserver, from login to `shut`."""

    def __init__(
        self,
        homeserver: str,
        user_id: str,
        device_id: str | None,
        store: Path,
        pickle_key: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        config = nio.AsyncClientConfig(
            store=SqliteStore,
            pickle_key=pickle_key,
            encryption_enabled=True,
            store_sync_tokens=False,
            max_limit_exceeded=0,
            max_timeouts=0,
            request_timeout=aiohttp.ClientTimeout(total=REQUEST_DEADLINE),
        )
        super().__init__(homeserver, user_id, device_id, str(store), config)
        self.dead = False
        self.server_time: int | None = None
        """When the server answered last, by its own clock (ms since the epoch, to the second)."""
        self._clock = clock
        self._sharing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._missed: dict[str, _Missed] = {}
        self.withheld: dict[tuple[str, str], str] = {}
        """(room, session) -> why its key was not given to us (`m.room_key.withheld`)."""
        self._wants_fallback = False
        """Whether the server has no fallback key of ours that nobody has used yet."""
        self._away: set[str] = set()
        """Servers that could not be asked for the one-time keys of their devices."""
        self._files: set[aiohttp.ClientResponse] = set()

    async def shut(self) -> None:
        """Let go of the network and the store. Requests that still run fail as retryable."""
        self.dead = True
        for response in self._files:
            response.close()  # closing the session alone leaves its reader waiting (aiohttp 3.14)
        await self.close()
        if self.store is not None:
            self.store.database.close()

    # -- requests ----------------------------------------------------------------------------------

    async def send(self, *args: Any, **kwargs: Any) -> aiohttp.ClientResponse:
        """Send one request; every request of matrix-nio and ours comes through here."""
        if self.dead:
            raise aiohttp.ClientConnectionError("this client was replaced by a new one")
        response: aiohttp.ClientResponse = await super().send(*args, **kwargs)
        self.server_time = wire.date(response.headers.get("Date")) or self.server_time
        return response

    async def call(
        self,
        method: str,
        path: tuple[str, ...],
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        deadline: float = REQUEST_DEADLINE,
        accept: frozenset[int] = frozenset(),
    ) -> dict[str, Any]:
        """Make one request and give the JSON object of the answer; raises one of the four families.

        `path` are the segments after `/_matrix/client`, unquoted. Statuses in `accept` are
        returned, not raised; the body then carries `errcode`.
        """
        url = "/".join((_API, *(quote(segment, safe="") for segment in path)))
        if query:
            url = f"{url}?{urlencode(query)}"
        what = f"{method} {'/'.join(path[1:3])}"
        data = None if body is None else json.dumps(body, separators=(",", ":"))
        return await self.ask(what, method, url, data, deadline=deadline, accept=accept)

    async def ask(
        self,
        what: str,
        method: str,
        url: str,
        data: str | bytes | None,
        *,
        media_type: str = "application/json",
        deadline: float = REQUEST_DEADLINE,
        accept: frozenset[int] = frozenset(),
    ) -> dict[str, Any]:
        """Make one request with any body, as `call` does; `url` is the path with its query, quoted."""
        headers = {"Content-Type": media_type, **self._authorization()}
        timeout = aiohttp.ClientTimeout(total=deadline)
        try:
            async with await self.send(method, url, data, headers, None, timeout) as response:
                text = await response.text("utf-8", errors="replace")
                status, retry_after = response.status, response.headers.get("Retry-After")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Retryable(f"{what}: {type(error).__name__}") from error
        answer = wire.json_object(text)
        if status not in accept:
            raise_for_response(what, status, answer, retry_after=retry_after)
        if not answer and text.strip() not in {"{}", ""}:
            raise Retryable(f"{what}: the answer is not a JSON object")
        return answer

    @asynccontextmanager
    async def get_file(
        self, url: str, limits: aiohttp.ClientTimeout
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """Ask for a file: the response, its body unread. Redirects are not followed.

        Raises what aiohttp raises, also in the middle of the body when this client is shut.
        """
        if self.dead or self.client_session is None:
            raise aiohttp.ClientConnectionError("this client was replaced by a new one")
        headers = {"Accept-Encoding": "identity", **self._authorization()}
        async with self.client_session.get(
            self.homeserver + url, headers=headers, timeout=limits, allow_redirects=False, ssl=self.ssl
        ) as response:
            self._files.add(response)
            try:
                yield response
            finally:
                self._files.discard(response)

    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.access_token}"} if self.access_token else {}

    async def receive_response(self, response: Any) -> None:
        """Let matrix-nio take in what it asked for, but no errors.

        It empties the access token on a soft logout, and takes any failed key share for one.
        """
        if not isinstance(response, nio.ErrorResponse):
            await super().receive_response(response)

    # -- what the server tells about keys ----------------------------------------------------------

    async def take_keys(self, sync: Mapping[str, Any]) -> bool:
        """Hand the parts of a sync answer that concern keys to matrix-nio; whether room keys may be new."""
        to_device = [event for event in wire.events(sync.get("to_device")) if wire.is_to_device(event)]
        lists = sync.get("device_lists")
        lists = lists if isinstance(lists, dict) else {}
        counts = sync.get("device_one_time_keys_count")
        response = nio.SyncResponse.from_dict(
            {
                "next_batch": str(sync.get("next_batch", "")),
                "to_device": {"events": to_device},
                "device_lists": {
                    "changed": wire.texts(lists.get("changed")),
                    "left": wire.texts(lists.get("left")),
                },
                "device_one_time_keys_count": {},
                "rooms": {},
            }
        )
        if isinstance(response, nio.SyncResponse):
            await self.receive_response(response)
        if isinstance(counts, dict) and self.olm is not None:
            count = counts.get("signed_curve25519", 0)
            if isinstance(count, int):
                # matrix-nio ignores a count of 0, so it would never upload keys again.
                self.olm.uploaded_key_count = count
        for event in to_device:
            if event["type"] == WITHHELD:
                self._note_withheld(event["content"])
        unused = sync.get("device_unused_fallback_key_types")
        # A server that knows nothing of fallback keys does not say that there are none.
        self._wants_fallback = isinstance(unused, list) and "signed_curve25519" not in unused
        return any(event["type"] == "m.room.encrypted" for event in to_device)

    def _note_withheld(self, content: Mapping[str, Any]) -> None:
        """Remember why we have no key. Anybody can say so: it only words what people are told."""
        room, session, code = (content.get(name) for name in ("room_id", "session_id", "code"))
        if isinstance(room, str) and isinstance(session, str) and isinstance(code, str):
            self.withheld[room, session] = code[:_LONGEST_CODE]
            while len(self.withheld) > _MOST_WITHHELD:
                self.withheld.pop(next(iter(self.withheld)))

    def _handle_decrypt_to_device(self, to_device_event: Any) -> Any:
        try:
            return super()._handle_decrypt_to_device(to_device_event)
        except Exception as error:  # noqa: BLE001 - anybody may send us garbage; vodozemac raises many types
            log.warning("to_device_unreadable", sender=to_device_event.sender, error=type(error).__name__)
            return None

    async def keys_upload(self) -> Any:
        """Upload device keys and one-time keys, saved first.

        matrix-nio saves them when the server has answered: a crash in between would make new keys
        under the ids of those on the server, which then refuses every upload.
        """
        keys = self.olm.share_keys() if self.should_upload_keys else {}
        if self._wants_fallback:
            keys["fallback_keys"] = self._fallback_keys()
        self.olm.save_account()
        method, path, data = nio.Api.keys_upload(self.access_token, keys)
        response = await self._send(nio.KeysUploadResponse, method, path, data)
        self._wants_fallback &= isinstance(response, nio.ErrorResponse)
        return response

    def _fallback_keys(self) -> dict[str, dict[str, Any]]:
        """A key for who finds no one-time key left, claimed as often as need be (spec, "Fallback keys").

        matrix-nio has none. vodozemac keeps the current one and the one before; a used one is replaced.
        """
        account = self.olm.account._account  # noqa: SLF001 - matrix-nio hands out no fallback keys
        if not account.fallback_key:  # one that was made and not uploaded is still good
            account.generate_fallback_key()
        signed = {}
        for name, key in account.fallback_key.items():
            content = {"key": key.to_base64(), "fallback": True}
            signature = self.olm.sign_json(content)
            content["signatures"] = {self.user_id: {f"ed25519:{self.device_id}": signature}}
            signed[f"signed_curve25519:{name}"] = content
        return signed

    async def keys_claim(self, user_set: Mapping[str, Iterable[str]]) -> Any:
        """Claim one-time keys; matrix-nio raises a TypeError when the server answers with an error."""
        wanted = {user: dict.fromkeys(devices, "signed_curve25519") for user, devices in user_set.items()}
        answer = await self.call("POST", ("v3", "keys", "claim"), {"one_time_keys": wanted})
        failures = answer.get("failures")
        self._away |= set(failures) if isinstance(failures, dict) else set()
        try:
            response = nio.KeysClaimResponse.from_dict(answer, "")
        except TypeError:
            response = None
        if not isinstance(response, nio.KeysClaimResponse):
            raise Retryable("keys/claim: the answer has not the expected shape")
        await self.receive_response(response)
        return response

    async def keep_keys(self) -> None:
        """Do what a sync round leaves to do for keys, in the order that clients must keep.

        Raises `Retryable` when the server does not answer; what was not done stays to be done.
        """
        try:
            for answer in await self.send_to_device_messages():
                _check("sendToDevice", answer)
            if self.should_upload_keys or self._wants_fallback:
                _check("keys/upload", await self.keys_upload())
            if self.should_query_keys:
                _check("keys/query", await self.keys_query())
            if self.should_claim_keys:
                _check("keys/claim", await self.keys_claim(self.get_users_for_key_claiming()))
        except _NIO_FAILURES as error:
            raise _meant("keys", error) from error
        if self.olm is not None:
            # The replay index only grows; the oldest entries guard messages that nobody fetches again.
            seen = self.olm.message_index_store
            while len(seen) > _REPLAY_ENTRIES:
                seen.pop(next(iter(seen)))

    # -- rooms -------------------------------------------------------------------------------------

    def follow(self, room_id: str, readers: frozenset[str], *, encrypted: bool) -> None:
        """Tell matrix-nio who reads a room. A change of readers ends the current Megolm session."""
        room = self.rooms.get(room_id)
        if room is None:
            room = self.rooms[room_id] = MatrixRoom(room_id, self.user_id, room_id in self.encrypted_rooms)
        known = set(room.users)
        for gone in known - readers:
            room.remove_member(gone)
        for new in readers - known:
            room.add_member(new, None, None)
        room.members_synced = True
        if known != readers and self.olm is not None:
            self.invalidate_outbound_session(room_id)
        if encrypted:
            self.must_encrypt(room_id)

    def must_encrypt(self, room_id: str) -> None:
        """Mark a room as encrypted, for ever; whatever the server says later."""
        room = self.rooms[room_id]
        room.encrypted = True
        if self.olm is not None:
            self.olm.update_tracked_users(room)
        if room_id not in self.encrypted_rooms:
            self.encrypted_rooms.add(room_id)
            if self.store is not None:
                self.store.save_encrypted_rooms({room_id})

    def unfollow(self, room_id: str) -> None:
        """Forget the readers of a room that we left."""
        if self.olm is not None:
            self.invalidate_outbound_session(room_id)
        self.rooms.pop(room_id, None)
        self._sharing.pop(room_id, None)
        self._missed.pop(room_id, None)

    def reached(self, room_id: str) -> tuple[int, tuple[str, ...]]:
        """How many devices of others a room has, and whose could not be given its key when it was shared."""
        room, missed = self.rooms.get(room_id), self._missed.get(room_id)
        others = () if room is None else [user for user in room.users if user != self.user_id]
        devices = sum(1 for user in others for _ in self.device_store.active_user_devices(user))
        return devices, () if missed is None else tuple(sorted(missed.users))

    # -- encryption --------------------------------------------------------------------------------

    def heard(self, senders: Iterable[str]) -> None:
        """Take from who spoke which servers are back that could not be asked for one-time keys.

        Their devices that lack the key of a room get it with the next message, without a pause.
        """
        back = self._away & {_server(user) for user in senders}
        self._away -= back
        for missed in self._missed.values():
            if any(_server(user) in back for user in missed.users):
                missed.again_at = self._clock()

    async def sealed_for(
        self,
        room_id: str,
        kind: str,
        content: dict[str, Any],
        *,
        must_reach: frozenset[str] = frozenset(),
    ) -> tuple[str, dict[str, Any]]:
        """Encrypt for everybody who reads the room: the type and content to send.

        Raises `Retryable` when the keys could not be shared; the session is then dropped, so that
        the next try shares a new one (matrix-nio would treat the failed one as shared). Also raised where
        a device of those whom it `must_reach` could not read it: what it misses is unreadable for ever.
        """
        async with self._sharing[room_id]:
            missed = self._missed.get(room_id)
            if missed is not None and self._clock() >= missed.again_at:
                self.invalidate_outbound_session(room_id)
            if self.should_query_keys:
                await self._asked("keys/query", self.keys_query)
            if must_reach:
                await self._reach(room_id, must_reach)
            if self.olm.should_share_group_session(room_id):
                try:
                    await self._share(room_id)
                except BaseException:
                    self.olm.outbound_group_sessions.pop(room_id, None)
                    raise
            try:
                sealed = self.encrypt(room_id, kind, content)
            except _NIO_FAILURES as error:
                raise _meant("encrypt", error) from error
        return str(sealed[0]), dict(sealed[1])

    async def _reach(self, room_id: str, users: frozenset[str]) -> None:
        """Make sure that keys can be sent to every device of `users`, and are with the next share."""
        missing = self.olm.get_missing_sessions(sorted(users))
        if missing:
            await self._asked("keys/claim", lambda: self.keys_claim(missing))
            missing = self.olm.get_missing_sessions(sorted(users))
        unknown = [user for user in users if not any(self.device_store.active_user_devices(user))]
        if missing or unknown:
            raise Retryable("keys/claim: not every device of the other bot can be reached")
        missed = self._missed.get(room_id)
        if missed is not None and missed.users & users:
            self.invalidate_outbound_session(room_id)

    async def _share(self, room_id: str) -> None:
        try:
            shared = await self._asked(
                "sendToDevice", lambda: self.share_group_session(room_id, ignore_unverified_devices=True)
            )
        finally:
            # matrix-nio leaves its mark behind when claiming keys fails, and then refuses for ever.
            self.sharing_session.pop(room_id, None)
        session = self.olm.outbound_group_sessions[room_id]
        reached = set(shared.users_shared_with) | set(session.users_shared_with) | set(session.users_ignored)
        without: list[tuple[str, str]] = []
        for user in self.rooms[room_id].users:
            for device in self.device_store.active_user_devices(user):
                if (user, device.id) in reached:
                    continue
                if self.olm.session_store.get(device.curve25519):
                    raise Retryable("sendToDevice: the room's key did not reach every device")
                without.append((user, device.id))
        if without:
            # No one-time key could be claimed: their server is down, or they have none left. They
            # get a new session with a later message; what is sent until then stays unreadable there.
            missed = self._missed.get(room_id)
            pause = _RETRY_DEVICES_FIRST if missed is None else min(_RETRY_DEVICES_CAP, missed.pause * 2)
            users = frozenset(user for user, _ in without)
            self._missed[room_id] = _Missed(self._clock() + pause, pause, users)
            log.warning("devices_without_keys", place=room_id, devices=len(without), again_in=pause)
        else:
            self._missed.pop(room_id, None)

    async def _asked(self, what: str, ask: Callable[[], Any]) -> Any:
        try:
            return _check(what, await ask())
        except (Broken, Refused) as error:
            # It is not the message that is refused: it waits until its keys can be shared.
            raise Retryable(str(error)) from error
        except _NIO_FAILURES as error:
            raise _meant(what, error) from error

    def opened(self, room_id: str, raw: Mapping[str, Any]) -> dict[str, Any] | None:
        """The clear event (`type`, `content`) inside an encrypted one; None if it cannot be read (yet).

        `sent_by` are the keys of the device that handed us the session, where that was the device itself.
        """
        if self.olm is None:
            return None
        whole = dict(raw)
        content = raw.get("content")
        if isinstance(content, dict):
            # MSC4381: `sender_key` and `device_id` may be left out; matrix-nio insists on both.
            content = {"sender_key": None, "device_id": "", **content}
            content["sender_key"] = content["sender_key"] or self._sender_key(
                room_id, content.get("session_id")
            )
            whole["content"] = content
        try:
            event = MegolmEvent.from_dict(whole)
            if not isinstance(event, MegolmEvent):
                return None
            clear = self.olm.decrypt_megolm_event(event, room_id).source
        except _UNREADABLE:
            return None
        if not isinstance(clear, dict) or not isinstance(clear.get("content"), dict):
            return None
        found = {"type": clear.get("type"), "content": clear["content"]}
        session = self.olm.inbound_group_store.get(room_id, event.sender_key, event.session_id)
        if session is not None and not session.forwarding_chain:
            found["sent_by"] = {"curve25519": session.sender_key, "ed25519": session.ed25519}
        return found

    def _sender_key(self, room_id: str, session_id: object) -> str | None:
        for sender_key, sessions in self.olm.inbound_group_store[room_id].items():
            if session_id in sessions:
                return str(sender_key)
        return None


_NIO_FAILURES = (
    aiohttp.ClientError,
    TimeoutError,
    OSError,
    nio.LocalProtocolError,
    nio.EncryptionError,
    nio.GroupEncryptionError,
)


_UNREADABLE = (
    nio.EncryptionError,
    AssertionError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RecursionError,  # what was encrypted is nested deeper than Python's parser goes
)


def _server(user_id: str) -> str:
    return user_id.partition(":")[2]


def _meant(what: str, error: Exception) -> Retryable:
    return Retryable(f"{what}: {type(error).__name__}")


def _check(what: str, answer: Any) -> Any:
    """The answer of matrix-nio if it is a good one; its error values become our families."""
    if isinstance(answer, nio.ErrorResponse):
        response = answer.transport_response
        status = response.status if response is not None else 500
        body = {"errcode": answer.status_code, "retry_after_ms": answer.retry_after_ms}
        header = response.headers.get("Retry-After") if response is not None else None
        raise_for_response(what, status, body, retry_after=header)
        raise Retryable(f"{what}: the answer has not the expected shape")
    return answer
