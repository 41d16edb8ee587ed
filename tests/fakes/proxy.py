"""A reverse proxy on loopback in front of a homeserver: it counts requests, and breaks some of them.

A client gets `url` as its homeserver. Which request is broken is decided by rules and a seed, so that a
run can be repeated. Promises that a fault is what it says: LIMIT, ERROR and CUT never reach the
server, LOST reached it and was answered, only nobody hears of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Self

import aiohttp
from aiohttp import web
from yarl import URL

if TYPE_CHECKING:
    from types import TracebackType

DEADLINE = 120.0
_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "host", "content-length", "upgrade", "te"})
_ROOM = re.compile(r"^/_matrix/client/(?:v\d+|r0)/rooms/[^/]+/(\w+)")
_ELSE = re.compile(r"^/_matrix/client/(?:(?:v\d+|r0)/)?([\w.]+(?:/(?!@|!)[\w.]+)?)")


class Fault(StrEnum):
    """What becomes of a request."""

    LIMIT = "429"
    """Answered 429 `M_LIMIT_EXCEEDED` with `Retry-After`, not passed on."""
    ERROR = "5xx"
    """Answered 502 in HTML, as proxies do, not passed on."""
    CUT = "cut"
    """The connection breaks before the request is passed on."""
    LOST = "lost"
    """Passed on and answered; the connection breaks instead of the answer."""
    DELAY = "delay"
    """Answered properly, `seconds` later."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Of the requests of a kind (`kind_of`, as a regular expression), one in `every` suffers `faults`, each.

    Which ones is drawn from the seed, like cards: every `every` requests each fault comes once.
    `seconds` is the `Retry-After` of LIMIT (whole seconds are sent) or the length of DELAY.
    """

    kind: str
    faults: tuple[Fault, ...]
    every: int
    seconds: float = 1.0


def kind_of(method: str, path: str) -> str:
    """The kind of a request without ids: `PUT send`, `GET sync`, `POST keys/query`."""
    found = _ROOM.match(path) or _ELSE.match(path)
    return f"{method} {found[1] if found else path}"


class Deck:
    """The cards of one rule: `draw` gives what the next request of its kind suffers, None for nothing."""

    def __init__(self, rule: Rule, rng: random.Random) -> None:
        assert len(rule.faults) <= rule.every
        self.rule = rule
        self._rng = rng
        self._cards: list[Fault | None] = []

    def draw(self) -> Fault | None:
        if not self._cards:
            self._cards = [*self.rule.faults, *[None] * (self.rule.every - len(self.rule.faults))]
            self._rng.shuffle(self._cards)
        return self._cards.pop()


@dataclass
class Proxy:
    """One proxy to `target`; the first rule that fits a request counts. Counters are by kind and by fault."""

    target: str
    rules: tuple[Rule, ...] = ()
    seed: int = 0
    requests: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    url: str = ""

    async def __aenter__(self) -> Self:
        self._decks = [Deck(rule, random.Random(f"{self.seed} {rule.kind}")) for rule in self.rules]
        self._session = aiohttp.ClientSession(
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=DEADLINE),
            connector=aiohttp.TCPConnector(limit=0),
        )
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._pass)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        kind = kind_of(request.method, request.path)
        self.requests[kind] += 1
        deck = next((deck for deck in self._decks if re.fullmatch(deck.rule.kind, kind)), None)
        fault = deck.draw() if deck is not None else None
        if deck is None or fault is None:
            return await self._forward(request)
        self.faults[f"{fault} {kind}"] += 1
        match fault:
            case Fault.LIMIT:
                body = {"errcode": "M_LIMIT_EXCEEDED", "error": "Too Many Requests"}
                headers = {"Retry-After": str(round(deck.rule.seconds))}
                return web.json_response(body, status=429, headers=headers)
            case Fault.ERROR:
                return web.Response(status=502, text="<h1>Bad Gateway</h1>", content_type="text/html")
            case Fault.CUT:
                return _cut(request)
            case Fault.LOST:
                await self._forward(request)
                return _cut(request)
            case Fault.DELAY:
                answer = await self._forward(request)
                await asyncio.sleep(deck.rule.seconds)
                return answer

    async def _forward(self, request: web.Request) -> web.Response:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        url = f"{self.target}{request.raw_path}"
        body = await request.read()
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with self._session.request(
                request.method, URL(url, encoded=True), data=body, headers=headers
            ) as answer:
                kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP}
                return web.Response(status=answer.status, body=await answer.read(), headers=kept)
        # The server is down or restarting: what a proxy in front of it says then.
        return web.Response(status=502, text="<h1>Bad Gateway</h1>", content_type="text/html")


def _cut(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()
