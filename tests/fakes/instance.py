"""A loopback instance that speaks Mastodon's API as 4.4 does: a real HTTP server, with faults on order.

    async with LoopbackInstance() as server:
        ada, hearth = server.state.account("ada"), server.state.account("hearth", bot=True)
        token = server.state.token(hearth)
        ada.post("@hearth hello", visibility="direct")

What it knows is in `instance_state`, how it writes it in `instance_json`. Written from the documentation of
the API, not from what our client expects; each handler names its page. `tests.fakes.instance_main` runs it
as a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Self

from aiohttp import WSMsgType, web

from tests.fakes.instance_json import Writer
from tests.fakes.instance_login import Login
from tests.fakes.instance_state import MASTODON, Account, Differs, Media, Refusal, State, Token, iso

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from tests.fakes.instance_state import Json

LOST, HANG, HTML, CLOSE = "lost", "hang", "html", "close"
"""Faults beside a status code: done but never answered; never answered; a proxy's page; closed at once."""
_PAGE = "<!DOCTYPE html><html><body><h1>503 Service Unavailable</h1>nginx</body></html>"
_HEARTBEAT = 15.0
MOST_AT_ONCE = 20
"""Statuses in one request: `DEFAULT_STATUSES_LIMIT` in Mastodon's `api/v1/statuses_controller.rb`."""


@dataclass
class Fault:
    where: str
    how: int | str
    times: float
    method: str = ""


@dataclass(frozen=True)
class Request:
    """One line of the log."""

    method: str
    path: str
    account: str
    status: int


@dataclass
class _Asked:
    """What a handler has to go by."""

    request: web.Request
    account: Account | None
    token: Token | None
    body: Json
    headers: dict[str, str] = field(default_factory=dict)

    def need(self, scope: str) -> Account:
        """The account behind the request; refused without a token, or without the scope.

        https://docs.joinmastodon.org/api/oauth-scopes/: `read` covers `read:statuses`.
        """
        if self.account is None or self.token is None:
            raise Refusal(401, "This method requires an authenticated user")
        if not {scope, scope.partition(":")[0]} & self.token.scopes:
            raise Refusal(403, "This action is outside the authorized scopes")
        return self.account


def _now() -> int:
    return time.time_ns() // 1_000_000


class LoopbackInstance:
    """The server; `state` is what it knows, `log` every request that was answered (or not)."""

    def __init__(
        self,
        differs: Differs = MASTODON,
        *,
        clock: Callable[[], int] = _now,
        heartbeat: float = _HEARTBEAT,
        port: int = 0,
    ) -> None:
        self.state = State(clock, differs)
        self.log: list[Request] = []
        self.faults: list[Fault] = []
        self.redirect: str | None = None
        self.silent = False
        """Streams say nothing, not even a heartbeat."""
        self.media_polls = 0
        """How often an upload is still being processed when it is asked for."""
        self._heartbeat = heartbeat
        self._port = port
        self._writer = Writer(self.state)
        self.login = Login(self.state)
        self._streams: list[tuple[str, asyncio.Queue[tuple[str, str]]]] = []
        self._runner: web.AppRunner | None = None
        self.state.told = self._tell

    @property
    def url(self) -> str:
        return self.state.url

    def fail(self, where: str, how: int | str, times: float = 1, *, method: str = "") -> None:
        """The next `times` requests whose path contains `where` (of `method`) go wrong as `how` says."""
        self.faults.append(Fault(where, how, times, method))

    def count(self, where: str = "", *, method: str = "") -> int:
        """Requests whose path contains `where`."""
        return sum(where in one.path and method in ("", one.method) for one in self.log)

    def upload(self, account: Account, data: bytes, media_type: str, **more: Any) -> Media:
        """A file that somebody has attached in their client."""
        media = Media(self.state.new_id(), account, data, media_type, **more)
        media.url = media.url or f"{self.url}/files/{media.id}"
        self.state.media[media.id] = media
        return media

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=200 << 20)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.state.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, queue in self._streams:
            queue.put_nowait(("", ""))
        assert self._runner is not None
        await self._runner.cleanup()

    # -- one request -------------------------------------------------------------------------------

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removesuffix("/") if request.path.startswith("/api/v1/instance") else request.path
        fault = self._fault(request.method, path)
        asked = _Asked(request, None, None, {})
        response: web.StreamResponse
        try:
            if fault in (CLOSE, HANG):
                return await self._silence(request, fault)
            self._break(request, fault)
            self._who(asked)
            asked.body = await _body(request)
            response = await self._routed(asked, request.method, path)
            if fault == LOST:
                return await self._silence(request, fault)
        except Refusal as error:
            response = _refused(error)
            if error.status == 429:
                asked.headers |= self._limit_headers(0, self.state.now() + 60_000)
        except web.HTTPMove as moved:
            response = web.Response(status=moved.status, headers={"Location": str(moved.location)})
        self._note(request, asked, response.status)
        if not response.prepared:
            response.headers.update(asked.headers)
            response.headers["Date"] = formatdate(self.state.now() / 1000, usegmt=True)
        return response

    def _break(self, request: web.Request, fault: int | str | None) -> None:
        """Raise the answer that a fault, or a base that has moved, is."""
        if self.redirect is not None:
            raise web.HTTPMovedPermanently(self.redirect + request.path_qs)
        if isinstance(fault, int):
            raise Refusal(fault, "Too many requests" if fault == 429 else "An error occurred")
        if fault == HTML:
            raise Refusal(503, _PAGE, html=True)

    def _fault(self, method: str, path: str) -> int | str | None:
        for fault in self.faults:
            if fault.where in path and fault.times > 0 and fault.method in ("", method):
                fault.times -= 1
                return fault.how
        return None

    async def _silence(self, request: web.Request, how: int | str | None) -> web.StreamResponse:
        """Say nothing for ever, or close the connection without a word."""
        self.log.append(Request(request.method, request.path, str(how), 0))
        if how == HANG:
            await asyncio.sleep(3600)
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    def _note(self, request: web.Request, asked: _Asked, status: int) -> None:
        name = asked.account.name if asked.account else ""
        self.log.append(Request(request.method, request.path, name, status))

    def _who(self, asked: _Asked) -> None:
        """https://docs.joinmastodon.org/client/authorized/, /api/rate-limits/."""
        header = asked.request.headers.get("Authorization", "")
        given = header.removeprefix("Bearer ") if header.startswith("Bearer ") else None
        given = given or asked.request.query.get("access_token")
        if given is None:
            return
        token = self.state.tokens.get(given)
        if token is None or token.revoked:
            if self.state.differs.bad_token == 400:
                raise Refusal(400, "<h1>Bad Request</h1>", html=True)
            raise Refusal(401, "The access token is invalid")
        asked.token, asked.account = token, token.account
        if token.account is not None:
            asked.headers |= self._limit_headers(*self.state.ask(token.account))

    def _limit_headers(self, left: int, reset: int) -> dict[str, str]:
        """https://docs.joinmastodon.org/api/rate-limits/; ISO 8601 as recorded, epoch as others do."""
        kind = self.state.differs.rate_reset
        if not kind:
            return {}
        told = str(reset // 1000) if kind == "epoch" else iso(reset)
        return {"X-RateLimit-Limit": "300", "X-RateLimit-Remaining": str(left), "X-RateLimit-Reset": told}

    async def _routed(  # noqa: PLR0911 - a table of routes
        self, asked: _Asked, method: str, path: str
    ) -> web.StreamResponse:
        if path.startswith("/files/"):
            return self._file(path.removeprefix("/files/"))
        if path.startswith("/api/v1/streaming"):
            return await self._stream(asked)
        if path.startswith(("/oauth/", "/api/v1/apps")):
            return self.login.answer(method, path, asked.body, asked.request)
        parts = path.removeprefix("/api/").split("/")
        match method, *parts:
            case "GET", ("v1" | "v2") as version, "instance":
                return web.json_response(self._writer.instance(version))
            case _, "v1", "accounts", *rest:
                return self._accounts(asked, method, rest)
            case _, "v1", "statuses", *rest:
                return self._statuses(asked, method, rest)
            case _, ("v1" | "v2"), "notifications", *rest:
                return self._notifications(asked, method, rest)
            case ("POST", "v2", "media") | ("POST", "v1", "media"):
                return self._uploaded(asked)
            case "GET", "v1", "media", media_id:
                return self._processed(asked, media_id)
        raise Refusal(404, "Record not found")

    # -- accounts: https://docs.joinmastodon.org/methods/accounts/ ----------------------------------

    def _accounts(self, asked: _Asked, method: str, rest: list[str]) -> web.Response:
        write = self._writer
        match method, *rest:
            case "GET", "verify_credentials":
                return web.json_response(write.account(asked.need("read:accounts"), source=True))
            case "PATCH", "update_credentials":
                me = asked.need("write:accounts")
                me.bot = str(asked.body.get("bot", me.bot)).lower() in ("true", "1")
                me.note = str(asked.body.get("note", me.note))
                return web.json_response(write.account(me, source=True))
            case "GET", account_id, "statuses":
                viewer = asked.account
                posts = [
                    one
                    for one in self.state.statuses.values()
                    if one.author.id == account_id and self.state.sees(viewer, one)
                ]
                return self._paged(asked, posts, 20, 40, lambda one: write.status(one, viewer))
            case "GET", account_id if account_id in self.state.accounts:
                return web.json_response(write.account(self.state.accounts[account_id]))
        raise Refusal(404, "Record not found")

    # -- statuses: https://docs.joinmastodon.org/methods/statuses/ ----------------------------------

    def _statuses(  # noqa: PLR0911 - a table of routes
        self, asked: _Asked, method: str, rest: list[str]
    ) -> web.Response:
        state, write, viewer = self.state, self._writer, asked.account
        match method, *rest:
            case ("POST",):
                me = asked.need("write:statuses")
                left, reset = state.may_post(me)
                status = state.create(me, asked.body, asked.request.headers.get("Idempotency-Key"))
                asked.headers |= self._limit_headers(left - 1, reset)
                return web.json_response(write.status(status, me))
            case ("GET",):
                return self._many(asked)
            case "GET", status_id:
                return web.json_response(write.status(state.visible(viewer, status_id), viewer))
            case "GET", status_id, "context":
                status = state.visible(viewer, status_id)
                above, below = state.ancestors(viewer, status), state.descendants(viewer, status)
                shown = {"ancestors": above, "descendants": below}
                return web.json_response({k: [write.status(o, viewer) for o in v] for k, v in shown.items()})
            case "GET", status_id, "source":
                status = state.visible(asked.need("read:statuses"), status_id)
                return web.json_response(
                    {"id": status.id, "text": status.text, "spoiler_text": status.spoiler}
                )
            case "PUT", status_id:
                status = self._own(asked, status_id)
                text, spoiler = (str(asked.body.get(name) or "") for name in ("status", "spoiler_text"))
                if not text and not status.media:
                    raise Refusal(422, "Validierung ist fehlgeschlagen: Text darf nicht leer sein")
                state.check_length(text, spoiler)
                state.edit(status, text)
                status.spoiler = spoiler
                return web.json_response(write.status(status, viewer))
            case "DELETE", status_id:
                status = self._own(asked, status_id)
                shown_last = write.status(status, viewer) | {"text": status.text}
                state.delete(status)
                return web.json_response(shown_last)
        raise Refusal(404, "Record not found")

    def _many(self, asked: _Asked) -> web.Response:
        """https://docs.joinmastodon.org/methods/statuses/#index; what the asker cannot see is left out."""
        if not self.state.differs.reads_many:
            raise Refusal(404, "Record not found")
        ids = asked.request.query.getall("id[]", []) + asked.request.query.getall("id", [])
        if len(set(ids)) > MOST_AT_ONCE:
            raise Refusal(422, "Mastodon::ValidationError")
        found = [self.state.statuses[one] for one in ids if one in self.state.statuses]
        seen = [one for one in found if self.state.sees(asked.account, one)]
        return web.json_response([self._writer.status(one, asked.account) for one in seen])

    def _own(self, asked: _Asked, status_id: str) -> Any:
        me = asked.need("write:statuses")
        status = self.state.visible(me, status_id)
        if status.author.id != me.id:
            raise Refusal(404, "Record not found")
        return status

    # -- notifications: https://docs.joinmastodon.org/methods/notifications/ ------------------------

    def _notifications(self, asked: _Asked, method: str, rest: list[str]) -> web.Response:
        state = self.state
        if rest == ["policy"]:
            if not state.differs.has_policy:
                raise Refusal(404, "Record not found")
            me = asked.need("write:notifications" if method == "PATCH" else "read:notifications")
            if method == "PATCH":
                me.policy |= {k: str(v) for k, v in asked.body.items() if k in me.policy}
            waiting = {"pending_requests_count": 0, "pending_notifications_count": 0}
            return web.json_response({**me.policy, "summary": waiting})
        if rest or method != "GET":
            raise Refusal(404, "Record not found")
        me = asked.need("read:notifications")
        types = asked.request.query.getall("types[]", []) + asked.request.query.getall("types", [])
        mine = [one for one in state.notifications if one.to is me and (not types or one.kind in types)]
        return self._paged(asked, mine, 40, 80, self._writer.notification)

    def _paged(
        self, asked: _Asked, items: list[Any], usual: int, most: int, write: Callable[[Any], Json]
    ) -> web.Response:
        """https://docs.joinmastodon.org/api/guidelines/#pagination: newest first, `min_id` forward."""
        query = asked.request.query
        limit = min(int(query.get("limit", usual)), most)
        order = {one.id: at for at, one in enumerate(items)}
        low, high = 0, len(items)
        if "max_id" in query:
            high = order.get(query["max_id"], sum(one.id < query["max_id"] for one in items))
        after = query.get("min_id") or query.get("since_id")
        if after:
            low = order[after] + 1 if after in order else sum(one.id <= after for one in items)
        some = items[low:high]
        some = some[:limit] if query.get("min_id") else some[-limit:]
        return web.json_response([write(one) for one in reversed(some)])

    # -- media: https://docs.joinmastodon.org/methods/media/ ----------------------------------------

    def _uploaded(self, asked: _Asked) -> web.Response:
        me = asked.need("write:media")
        file = asked.body["file"]
        media = Media(self.state.new_id(), me, file.file.read(), file.content_type, polls=self.media_polls)
        media.description = str(asked.body.get("description", ""))
        self.state.media[media.id] = media
        if media.polls:
            return web.json_response(self._writer.media(media), status=202)
        media.url = f"{self.url}/files/{media.id}"
        return web.json_response(self._writer.media(media))

    def _processed(self, asked: _Asked, media_id: str) -> web.Response:
        asked.need("write:media")
        media = self.state.media.get(media_id)
        if media is None:
            raise Refusal(404, "Record not found")
        if media.polls:
            media.polls -= 1
            return web.json_response(self._writer.media(media), status=206)
        media.url = media.url or f"{self.url}/files/{media.id}"
        return web.json_response(self._writer.media(media))

    def _file(self, media_id: str) -> web.Response:
        media = self.state.media.get(media_id)
        if media is None:
            raise Refusal(404, "Record not found")
        return web.Response(body=media.data, content_type=media.media_type)

    # -- streams: https://docs.joinmastodon.org/methods/streaming/ ----------------------------------

    def _tell(self, to: Account, kind: str, payload: str) -> None:
        if kind == "notification":
            made = next(one for one in self.state.notifications if one.id == payload)
            payload = json.dumps(self._writer.notification(made))
        for account_id, queue in self._streams:
            if account_id == to.id and not self.silent:
                queue.put_nowait((kind, payload))

    async def _stream(self, asked: _Asked) -> web.StreamResponse:
        """Server-sent events, or a websocket where that is asked for; what happened before is lost."""
        me = asked.need("read:notifications")
        wants_socket = asked.request.headers.get("Upgrade", "").lower() == "websocket"
        kind = self.state.differs.streaming
        if not kind or (kind == "websocket" and not wants_socket):
            raise Refusal(404, "Not found")
        self._note(asked.request, asked, 200)
        queue: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        listening = (me.id, queue)
        self._streams.append(listening)
        try:
            return await (self._socket if wants_socket else self._events)(asked.request, queue)
        except ConnectionResetError:
            return web.Response()
        finally:
            self._streams.remove(listening)

    async def _events(
        self, request: web.Request, queue: asyncio.Queue[tuple[str, str]]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b":)\n")
        while True:
            try:
                kind, payload = await asyncio.wait_for(queue.get(), self._heartbeat)
            except TimeoutError:
                if not self.silent:
                    await response.write(b":thump\n")
                continue
            if not kind:
                return response
            await response.write(f"event: {kind}\ndata: {payload}\n\n".encode())

    async def _socket(
        self, request: web.Request, queue: asyncio.Queue[tuple[str, str]]
    ) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        reading = asyncio.create_task(_until_closed(socket))
        try:
            while not reading.done():
                getting = asyncio.create_task(queue.get())
                await asyncio.wait((reading, getting), return_when=asyncio.FIRST_COMPLETED)
                if not getting.done():
                    getting.cancel()
                    break
                kind, payload = getting.result()
                if not kind:
                    break
                await socket.send_json({"stream": ["user"], "event": kind, "payload": payload})
        finally:
            reading.cancel()
        return socket


async def _until_closed(socket: web.WebSocketResponse) -> None:
    async for message in socket:
        if message.type is WSMsgType.ERROR:
            return


def _refused(error: Refusal) -> web.Response:
    if error.html:
        return web.Response(status=error.status, text=error.error, content_type="text/html")
    return web.json_response({"error": error.error}, status=error.status)


async def _body(request: web.Request) -> Json:
    """JSON, a form or multipart: https://docs.joinmastodon.org/client/intro/#parameters. `x[]` is a list."""
    if request.content_type == "application/json":
        return dict(await request.json())
    if request.method in ("GET", "DELETE"):
        return dict(request.query)
    form = await request.post()
    body: Json = {}
    for name, value in form.items():
        if name.endswith("[]"):
            body.setdefault(name[:-2], []).append(value)
        else:
            body[name] = value
    return body
