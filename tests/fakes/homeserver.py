"""A homeserver double: a real HTTP server on loopback that speaks the client-server API.

It is for what takes Synapse an hour (ten thousand turns) and for what Synapse cannot be asked to
do (forget its transaction ids, limit rates to the letter). Owns no disk. Promises what clients rely
on: long polls, `since` that may be asked for again, transaction ids per device and path, rate limits with
`Retry-After`, device lists, to-device messages until acknowledged. Refuses whatever it does not know
with `M_UNRECOGNIZED`, so that a test finds out. Files are in `tests.fakes.media`. Not here: federation,
presence, push, ephemeral events in sync (receipts and typing are counted), lazy-loaded members.

    async with HomeserverDouble() as server:
        ada = server.register("ada")
        room = server.rooms.create_room(ada, {"invite": [bot]})
        server.rooms.send(room, ada, "m.room.message", {...})

Source: Matrix client-server API 1.16.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote

from aiohttp import web

from tests.fakes.media import MAX_UPLOAD, Media
from tests.fakes.rooms import Device, Json, Refusal, Rooms
from tests.fakes.sync import is_empty, sync_answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

API = "/_matrix/client/v3"
MAX_EVENT = 65_536
MAX_POLL = 60.0
_CROSS_SIGNING = ("master_key", "self_signing_key", "user_signing_key")
_FULL_CHUNK = 1000


class HomeserverDouble:
    """One server on a free port of loopback, while its context lasts.

    `per_second` and `burst` limit the sends of each account as Synapse's `rc_message` does; None is no limit.
    """

    def __init__(
        self,
        server_name: str = "double.test",
        *,
        per_second: float | None = None,
        burst: int = 10,
        max_upload: int = MAX_UPLOAD,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rooms = Rooms(server_name, lambda: time.time_ns() // 1_000_000, self._ring)
        self.media = Media(server_name, self._device, max_upload=max_upload)
        self.counts: Counter[str] = Counter()
        self.url = ""
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._sent: dict[str, deque[float]] = {}
        self._news = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._auth_sessions: set[str] = set()

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=4 * MAX_EVENT, middlewares=[self._answer])
        app.add_routes([*self._routes(), *self.media.routes()])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def register(self, localpart: str, password: str = "pw", name: str = "") -> str:
        return self.rooms.register(localpart, password, name)

    def _ring(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    # -- the border --------------------------------------------------------------------------------

    def _routes(self) -> list[web.RouteDef]:
        room = f"{API}/rooms/{{room}}"
        return [
            web.get("/_matrix/client/versions", self._versions),
            web.get(f"{API}/login", self._flows),
            web.post(f"{API}/login", self._log_in),
            web.post(f"{API}/logout", self._log_out),
            web.get(f"{API}/account/whoami", self._whoami),
            web.get(f"{API}/capabilities", self._capabilities),
            web.get(f"{API}/sync", self._sync),
            web.post(f"{API}/user/{{user}}/filter", self._filter),
            web.get(f"{API}/profile/{{user}}", self._profile),
            web.put(f"{API}/profile/{{user}}/displayname", self._set_name),
            web.post(f"{API}/createRoom", self._create_room),
            web.get(f"{API}/joined_rooms", self._joined_rooms),
            web.post(f"{API}/join/{{room}}", self._join),
            web.post(f"{room}/join", self._join),
            web.post(f"{room}/leave", self._leave),
            web.post(f"{room}/forget", self._nothing),
            web.post(f"{room}/invite", self._invite),
            web.post(f"{room}/kick", self._kick),
            web.get(f"{room}/messages", self._messages),
            web.get(f"{room}/members", self._members),
            web.get(f"{room}/joined_members", self._joined_members),
            web.get(f"{room}/event/{{event}}", self._event),
            web.get("/_matrix/client/v1/rooms/{room}/relations/{event}/{rel}", self._relations),
            web.get(f"{room}/state", self._state),
            web.get(f"{room}/state/{{type}}{{key:(/.*)?}}", self._one_state),
            web.put(f"{room}/state/{{type}}{{key:(/.*)?}}", self._put_state),
            web.put(f"{room}/send/{{type}}/{{txn}}", self._send),
            web.put(f"{room}/redact/{{event}}/{{txn}}", self._redact),
            web.post(f"{room}/receipt/{{type}}/{{event}}", self._read),
            web.post(f"{room}/read_markers", self._read),
            web.put(f"{room}/typing/{{user}}", self._read),
            web.put(f"{API}/sendToDevice/{{type}}/{{txn}}", self._to_device),
            web.post(f"{API}/keys/upload", self._upload_keys),
            web.post(f"{API}/keys/query", self._query_keys),
            web.post(f"{API}/keys/claim", self._claim_keys),
            web.post(f"{API}/keys/device_signing/upload", self._upload_signing),
            web.post(f"{API}/keys/signatures/upload", self._upload_signatures),
        ]

    @web.middleware
    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            answer = await handler(request)
        except web.HTTPNotFound:
            self.counts["unrecognized"] += 1
            refusal = Refusal(404, "M_UNRECOGNIZED", f"{request.method} {request.path}")
            return web.json_response(refusal.body, status=refusal.status)
        except Refusal as refusal:
            wait = refusal.body.get("retry_after_ms")
            headers = {} if wait is None else {"Retry-After": str(-(-wait // 1000))}
            return web.json_response(refusal.body, status=refusal.status, headers=headers)
        finally:
            resource = request.match_info.route.resource
            path = (resource.canonical if resource is not None else request.path).removeprefix(API)
            self.counts[f"{request.method} {path}"] += 1
        return answer

    def _device(self, request: web.Request) -> Device:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        token = token or request.query.get("access_token", "")
        if not token:
            raise Refusal(401, "M_MISSING_TOKEN")
        if token not in self.rooms.tokens:
            raise Refusal(401, "M_UNKNOWN_TOKEN", soft_logout=False)
        return self.rooms.tokens[token]

    def _limit(self, user: str) -> None:
        if self._per_second is None:
            return
        now, sent = self._clock(), self._sent.setdefault(user, deque())
        window = self._burst / self._per_second
        while sent and now - sent[0] >= window:
            sent.popleft()
        if len(sent) >= self._burst:
            wait = int((window - (now - sent[0])) * 1000) + 1
            raise Refusal(429, "M_LIMIT_EXCEEDED", "Too Many Requests", retry_after_ms=wait)
        sent.append(now)

    # -- sessions ----------------------------------------------------------------------------------

    async def _versions(self, request: web.Request) -> web.Response:
        return web.json_response({"versions": ["v1.11", "v1.12"], "unstable_features": {}})

    async def _capabilities(self, request: web.Request) -> web.Response:
        self._device(request)
        return web.json_response({"capabilities": {"m.room_versions": {"default": "11", "available": {}}}})

    async def _nothing(self, request: web.Request) -> web.Response:
        self._device(request)
        return web.json_response({})

    async def _flows(self, request: web.Request) -> web.Response:
        return web.json_response({"flows": [{"type": "m.login.password"}]})

    async def _log_in(self, request: web.Request) -> web.Response:
        body = await _body(request)
        user = str(body.get("identifier", {}).get("user") or body.get("user"))
        user = user if user.startswith("@") else f"@{user}:{self.rooms.server_name}"
        device = self.rooms.log_in(user, str(body.get("password")), body.get("device_id"))
        told = {"user_id": user, "device_id": device.id, "access_token": device.token}
        return web.json_response(told)

    async def _log_out(self, request: web.Request) -> web.Response:
        self.rooms.log_out(self._device(request))
        return web.json_response({})

    async def _whoami(self, request: web.Request) -> web.Response:
        device = self._device(request)
        return web.json_response({"user_id": device.user, "device_id": device.id})

    async def _filter(self, request: web.Request) -> web.Response:
        self._device(request)
        return web.json_response({"filter_id": "0"})

    async def _profile(self, request: web.Request) -> web.Response:
        return web.json_response({"displayname": self.rooms.account(_part(request, "user")).name})

    async def _set_name(self, request: web.Request) -> web.Response:
        device, body = self._device(request), await _body(request)
        self.rooms.account(device.user).name = str(body.get("displayname", ""))
        return web.json_response({})

    # -- rooms -------------------------------------------------------------------------------------

    async def _create_room(self, request: web.Request) -> web.Response:
        device = self._device(request)
        return web.json_response({"room_id": self.rooms.create_room(device.user, await _body(request))})

    async def _joined_rooms(self, request: web.Request) -> web.Response:
        user = self._device(request).user
        joined = [room.id for room in self.rooms.rooms_of(user) if room.membership(user) == "join"]
        return web.json_response({"joined_rooms": joined})

    async def _join(self, request: web.Request) -> web.Response:
        room = _part(request, "room")
        self.rooms.join(room, self._device(request).user)
        return web.json_response({"room_id": room})

    async def _leave(self, request: web.Request) -> web.Response:
        self.rooms.leave(_part(request, "room"), self._device(request).user)
        return web.json_response({})

    async def _kick(self, request: web.Request) -> web.Response:
        body = await _body(request)
        self.rooms.leave(_part(request, "room"), str(body.get("user_id")), self._device(request).user)
        return web.json_response({})

    async def _invite(self, request: web.Request) -> web.Response:
        body = await _body(request)
        self.rooms.invite(_part(request, "room"), self._device(request).user, str(body.get("user_id")))
        return web.json_response({})

    async def _send(self, request: web.Request) -> web.Response:
        device, content = self._device(request), await _body(request)
        room, kind, txn = (_part(request, name) for name in ("room", "type", "txn"))

        def act() -> str:
            self._limit(device.user)
            if len(json.dumps(content).encode()) > MAX_EVENT - 500:
                raise Refusal(413, "M_TOO_LARGE", "event too large")
            return self.rooms.send(room, device.user, kind, content)

        return web.json_response({"event_id": self.rooms.once(device, f"{room} send {kind}", txn, act)})

    async def _redact(self, request: web.Request) -> web.Response:
        device, body = self._device(request), await _body(request)
        room, event, txn = (_part(request, name) for name in ("room", "event", "txn"))

        def act() -> str:
            self._limit(device.user)
            return self.rooms.redact(room, device.user, event, body.get("reason"))

        return web.json_response({"event_id": self.rooms.once(device, f"{room} redact {event}", txn, act)})

    async def _put_state(self, request: web.Request) -> web.Response:
        device, content = self._device(request), await _body(request)
        room, kind, key = (_part(request, name) for name in ("room", "type", "key"))
        event_id = self.rooms.put_state(room, device.user, kind, key.removeprefix("/"), content)
        return web.json_response({"event_id": event_id})

    async def _read(self, request: web.Request) -> web.Response:
        self.rooms.room(_part(request, "room"), self._device(request).user)
        return web.json_response({})

    async def _messages(self, request: web.Request) -> web.Response:
        device = self._device(request)
        room = self.rooms.room(_part(request, "room"), device.user)
        back = request.query.get("dir", "b") == "b"
        limit = min(int(request.query.get("limit", "10")), _FULL_CHUNK)
        start = _position(request.query.get("from"), self.rooms.pos if back else 0)
        if back:
            found = [event for event in reversed(room.timeline) if event["pos"] <= start]
        else:
            found = [event for event in room.timeline if event["pos"] > start]
        chunk = found[:limit]
        told: Json = {
            "start": f"t{start}",
            "chunk": [self.rooms.shown(event, device) for event in chunk],
            "state": [],
        }
        if len(found) > limit:
            told["end"] = f"t{chunk[-1]['pos'] - (1 if back else 0)}"
        return web.json_response(told)

    async def _relations(self, request: web.Request) -> web.Response:
        device, rel = self._device(request), _part(request, "rel")
        room = self.rooms.room(_part(request, "room"), device.user)
        target = self.rooms.event(room, _part(request, "event"))["event_id"]
        found = [event for event in room.timeline if _relation(event) == (rel, target)]
        if request.query.get("dir", "b") == "b":
            found.reverse()
        start = _position(request.query.get("from"), 0)
        end = start + min(int(request.query.get("limit", "5")), _FULL_CHUNK)
        told: Json = {"chunk": [self.rooms.shown(event, device) for event in found[start:end]]}
        if len(found) > end:
            told["next_batch"] = f"t{end}"
        return web.json_response(told)

    async def _members(self, request: web.Request) -> web.Response:
        device = self._device(request)
        room = self.rooms.room(_part(request, "room"), device.user)
        chunk = [
            self.rooms.shown(event, device)
            for (kind, _), event in room.state.items()
            if kind == "m.room.member"
        ]
        return web.json_response({"chunk": chunk})

    async def _joined_members(self, request: web.Request) -> web.Response:
        room = self.rooms.room(_part(request, "room"), self._device(request).user)
        joined = {user: {"display_name": self.rooms.account(user).name} for user in room.members("join")}
        return web.json_response({"joined": joined})

    async def _event(self, request: web.Request) -> web.Response:
        device = self._device(request)
        room = self.rooms.room(_part(request, "room"), device.user)
        event = self.rooms.event(room, _part(request, "event"))
        return web.json_response(self.rooms.shown(event, device))

    async def _state(self, request: web.Request) -> web.Response:
        device = self._device(request)
        room = self.rooms.room(_part(request, "room"), device.user)
        return web.json_response([self.rooms.shown(event, device) for event in room.state.values()])

    async def _one_state(self, request: web.Request) -> web.Response:
        device = self._device(request)
        room = self.rooms.room(_part(request, "room"), device.user)
        event = room.state.get((_part(request, "type"), _part(request, "key").removeprefix("/")))
        if event is None:
            raise Refusal(404, "M_NOT_FOUND", "no such state")
        whole = request.query.get("format") == "event"
        return web.json_response(self.rooms.shown(event, device) if whole else event["content"])

    # -- sync --------------------------------------------------------------------------------------

    async def _sync(self, request: web.Request) -> web.Response:
        device, query = self._device(request), request.query
        since = None if "since" not in query else _position(query["since"], 0)
        full = query.get("full_state") == "true"
        limit = _timeline_limit(query.get("filter"))
        until = self._clock() + min(int(query.get("timeout", "0")) / 1000, MAX_POLL)
        while device.inbox and since is not None and device.inbox[0][0] <= since:
            device.inbox.popleft()
        while True:
            news = self._news
            told = sync_answer(self.rooms, device, since, limit, full=full)
            left = until - self._clock()
            if since is None or full or left <= 0 or not is_empty(told):
                return web.json_response(told)
            try:
                await asyncio.wait_for(news.wait(), left)
            except TimeoutError:
                continue

    # -- keys --------------------------------------------------------------------------------------

    async def _to_device(self, request: web.Request) -> web.Response:
        device, body = self._device(request), await _body(request)
        self.rooms.to_device(device.user, _part(request, "type"), body.get("messages", {}))
        return web.json_response({})

    async def _upload_keys(self, request: web.Request) -> web.Response:
        device, body = self._device(request), await _body(request)
        for key_id, key in (body.get("one_time_keys") or {}).items():
            if device.one_time_keys.get(key_id, key) != key:
                raise Refusal(400, "M_UNKNOWN", f"one-time key {key_id} already exists")
            device.one_time_keys[key_id] = key
        if body.get("device_keys"):
            device.keys = body["device_keys"]
            self.rooms.device_changed(device.user)
        counts = {"signed_curve25519": len(device.one_time_keys)}
        return web.json_response({"one_time_key_counts": counts})

    async def _query_keys(self, request: web.Request) -> web.Response:
        self._device(request)
        asked = (await _body(request)).get("device_keys", {})
        told: Json = {"device_keys": {}, "failures": {}}
        for user in asked:
            account = self.rooms.accounts.get(user)
            if account is None:
                continue
            wanted = asked[user] or list(account.devices)
            devices = [account.devices[one] for one in wanted if one in account.devices]
            told["device_keys"][user] = {device.id: device.keys for device in devices if device.keys}
            for usage, key in account.cross_signing.items():
                told.setdefault(f"{usage}s", {})[user] = key
        return web.json_response(told)

    async def _claim_keys(self, request: web.Request) -> web.Response:
        self._device(request)
        told: Json = {}
        for user, devices in (await _body(request)).get("one_time_keys", {}).items():
            for device_id in devices:
                device = self.rooms.account(user).devices.get(device_id)
                if device is not None and device.one_time_keys:
                    key_id = next(iter(device.one_time_keys))
                    key = device.one_time_keys.pop(key_id)
                    told.setdefault(user, {})[device_id] = {key_id: key}
        return web.json_response({"one_time_keys": told, "failures": {}})

    async def _upload_signing(self, request: web.Request) -> web.Response:
        device, body = self._device(request), await _body(request)
        account = self.rooms.account(device.user)
        auth = body.get("auth") or {}
        if auth.get("session") not in self._auth_sessions or auth.get("password") != account.password:
            session = f"session{len(self._auth_sessions)}"
            self._auth_sessions.add(session)
            told = {"session": session, "flows": [{"stages": ["m.login.password"]}], "params": {}}
            return web.json_response(told, status=401)
        account.cross_signing |= {usage: body[usage] for usage in _CROSS_SIGNING if usage in body}
        self.rooms.device_changed(device.user)
        return web.json_response({})

    async def _upload_signatures(self, request: web.Request) -> web.Response:
        device, body = self._device(request), await _body(request)
        failures: Json = {}
        for user, signed in body.items():
            for key_id, value in signed.items():
                target = self.rooms.account(user).devices.get(key_id)
                if target is None or target.keys is None or user != device.user:
                    failures.setdefault(user, {})[key_id] = {"errcode": "M_NOT_FOUND"}
                    continue
                for signer, signatures in value.get("signatures", {}).items():
                    target.keys.setdefault("signatures", {}).setdefault(signer, {}).update(signatures)
        self.rooms.device_changed(device.user)
        return web.json_response({"failures": failures})


def _part(request: web.Request, name: str) -> str:
    return unquote(request.match_info[name])


async def _body(request: web.Request) -> Json:
    text = await request.text()
    try:
        body = json.loads(text) if text else {}
    except ValueError:
        raise Refusal(400, "M_NOT_JSON") from None
    if not isinstance(body, dict):
        raise Refusal(400, "M_BAD_JSON")
    return body


def _relation(event: Json) -> tuple[object, object]:
    """What an event says of another: how, and of which."""
    relation = event["content"].get("m.relates_to") or {}
    return relation.get("rel_type"), relation.get("event_id")


def _position(token: str | None, default: int) -> int:
    if token is None:
        return default
    if not token[1:].isdecimal():
        raise Refusal(400, "M_INVALID_PARAM", f"not a token of ours: {token}")
    return int(token[1:])


def _timeline_limit(given: str | None) -> int:
    if not given or not given.startswith("{"):
        return 10
    chosen: Any = json.loads(given).get("room", {}).get("timeline", {})
    if chosen.get("not_types") == ["*"]:
        return 0
    return int(chosen.get("limit", 10))
