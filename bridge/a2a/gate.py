"""What stands in front of the A2A server: who may speak at all, how much, how often. ASGI.

The public card may be read by anybody. Everything else takes the bearer token of a peer, in the constant time
of `hmac.compare_digest`, and at most `LARGEST_BODY` bytes, which are read here: what is behind never sees a
request that is too large, too slow, too often, or nobody's.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import math
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import structlog
from starlette.authentication import SimpleUser

from bridge.link.envelope import LARGEST

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping

    Scope = MutableMapping[str, Any]
    from starlette.types import ASGIApp, Receive, Send

log = structlog.get_logger(__name__)

CARD: Final = "/.well-known/agent-card.json"
RPC: Final = "/"
LARGEST_BODY: Final = 4 * LARGEST
"""An envelope as a JSON string inside JSON can be twice as long, and what it says stands beside it."""
BODY_DEADLINE: Final = 10.0
"""Seconds for a body to arrive."""
PER_MINUTE: Final = 120
"""Requests of one peer in a minute: it looks for its answers every second or two."""
STRANGERS_PER_MINUTE: Final = 300
"""Requests without a token, or with a wrong one, in a minute from everybody together."""
_WINDOW: Final = 60.0
_STRANGER: Final = ""


class Gate:
    """In front of `app`. `tokens` are those of the peers (`bot:server`), `clock` is monotonic (s)."""

    def __init__(self, app: ASGIApp, tokens: Mapping[str, str], clock: Callable[[], float]) -> None:
        self._app = app
        self._tokens = {peer: token.encode() for peer, token in tokens.items()}
        self._clock = clock
        self._recent: dict[str, deque[float]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through with its peer as the user, or answer it here."""
        if scope["type"] != "http":
            return
        public = scope["path"] == CARD and scope["method"] == "GET"
        peer = self._who(scope)
        wait = self._wait(peer)
        if wait:
            await _answer(send, 429, "too many requests", ("retry-after", str(wait)))
        elif public:
            await self._app(scope, receive, send)
        elif peer == _STRANGER:
            await _answer(send, 401, "a token is needed", ("www-authenticate", "Bearer"))
        elif scope["path"] != RPC or scope["method"] != "POST":
            await _answer(send, 404, "nothing is here")
        else:
            await self._let_in(peer, scope, receive, send)

    def _who(self, scope: Scope) -> str:
        """The peer whose token it is; every one is compared, so that the time tells nothing."""
        given = dict(scope["headers"]).get(b"authorization", b"")
        scheme, _, token = given.partition(b" ")
        found = _STRANGER
        for peer, known in self._tokens.items():
            if hmac.compare_digest(token.strip(), known) and scheme.lower() == b"bearer":
                found = peer
        return found

    def _wait(self, peer: str) -> int:
        """Seconds until this one may speak again; 0: now, and it is counted."""
        limit = STRANGERS_PER_MINUTE if peer == _STRANGER else PER_MINUTE
        now = self._clock()
        recent = self._recent.setdefault(peer, deque())
        while recent and now - recent[0] >= _WINDOW:
            recent.popleft()
        if len(recent) >= limit:
            return max(1, math.ceil(_WINDOW - (now - recent[0])))
        recent.append(now)
        return 0

    async def _let_in(self, peer: str, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(BODY_DEADLINE):
                body = await _body(receive)
        except TimeoutError:
            await _answer(send, 408, "the request did not arrive")
            return
        if body is None:
            await _answer(send, 413, f"a request has at most {LARGEST_BODY} bytes")
            return
        given = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Any:
            return given.pop() if given else await receive()

        try:
            await self._app({**scope, "user": SimpleUser(peer)}, again, send)
        except Exception:
            log.exception("a2a_bug", peer=peer)
            raise


async def _body(receive: Receive) -> bytes | None:
    """The body; None where it is too large, of which no more is read than that."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > LARGEST_BODY:
            return None
        if not message.get("more_body", False):
            return b"".join(parts)


async def _answer(send: Send, status: int, why: str, *headers: tuple[str, str]) -> None:
    body = json.dumps({"error": why}).encode()
    named = (("content-type", "application/json"), ("content-length", str(len(body))), *headers)
    start = {"type": "http.response.start", "status": status}
    await send({**start, "headers": [(name.encode(), value.encode()) for name, value in named]})
    await send({"type": "http.response.body", "body": body})
