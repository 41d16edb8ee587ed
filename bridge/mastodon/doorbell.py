"""The stream of an instance, as a doorbell: it says that there is news, and nothing of what it says is read.

Promises: any event rings, a heartbeat does not; a stream that is silent (not even a heartbeat) or that
ends is opened again after a jittered, growing pause, also where it ends cleanly or at once, which is how
a revoked token looks; the token travels in a header, never in an address or a log. Refuses to be
believed: polling is complete without it, and says what became of the token.

Source: https://docs.joinmastodon.org/methods/streaming/ (`user:notification`, heartbeat every 15 s).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import aiohttp
import structlog

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from bridge.mastodon.client import Client
    from bridge.schedule import Clock

log = structlog.get_logger(__name__)

SILENCE: Final = 60.0
"""Seconds without a byte after which a stream is dead; Mastodon's heart beats every 15."""
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 300.0
GOOD_MS: Final = 60_000
"""A stream that lasted this long was a good one: the pauses start anew."""

_CONNECT: Final = 15.0
_OK, _LOGIN = 200, 401
_WORDS: Final = (b"event:", b"data:")
_SOCKET_DATA: Final = (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY)


class Bell:
    """Rings `ring` when the stream of `client` (which is open) has something, until it is cancelled."""

    def __init__(
        self,
        client: Client,
        ring: Callable[[], None],
        *,
        clock: Clock,
        rng: random.Random,
        silence: float = SILENCE,
    ) -> None:
        self._client = client
        self._ring = ring
        self._clock = clock
        self._rng = rng
        self._silence = silence
        self.opened = 0
        """Streams that were opened."""

    async def run(self) -> None:
        """Listen; returns where the instance has no streaming, or no longer takes the token."""
        base, failures = self._client.instance.streaming_url, 0
        if base is None:
            return
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=self._silence)
        headers = {"Authorization": f"Bearer {self._client.token}", "User-Agent": "Hearth"}
        async with aiohttp.ClientSession(
            headers=headers, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
        ) as session:
            listen = self._socket if self._client.instance.websocket_only else self._events
            while True:
                started, status, reason = self._clock.now(), 0, "ended"
                try:
                    status = await listen(session, base)
                except aiohttp.WSServerHandshakeError as error:
                    status = error.status
                except (aiohttp.ClientError, OSError, TimeoutError) as error:
                    reason = type(error).__name__
                if status == _LOGIN:
                    log.warning("stream_refused", status=status, url=self._client.url)
                    return
                failures = 0 if self._clock.now() - started >= GOOD_MS else failures
                pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0**failures) * self._rng.uniform(0.5, 1.0)
                log.debug("stream_ended", reason=reason, status=status, pause=round(pause, 1))
                failures = min(failures + 1, 16)
                await self._clock.sleep(pause)

    async def _events(self, session: aiohttp.ClientSession, base: str) -> int:
        """Server-sent events; the HTTP status when they end."""
        url = f"{base}/api/v1/streaming/user/notification"
        async with session.get(url, allow_redirects=False) as response:
            if response.status != _OK or response.content_type != "text/event-stream":
                return response.status
            self._open()
            async for data in response.content.iter_any():
                # Words cut in two are made up for by the next line of the same event.
                if any(word in data for word in _WORDS):
                    self._ring()
            return response.status

    async def _socket(self, session: aiohttp.ClientSession, base: str) -> int:
        """A websocket, pinged in both directions; the status of the handshake when it ends."""
        url = f"{base}/api/v1/streaming?stream=user:notification"
        async with session.ws_connect(url, heartbeat=self._silence / 2) as socket:
            self._open()
            async for message in socket:
                if message.type in _SOCKET_DATA:
                    self._ring()
            return _OK

    def _open(self) -> None:
        """A stream is open; what happened before that is found by a poll."""
        self.opened += 1
        self._ring()
