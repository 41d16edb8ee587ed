"""Link rooms: what bots of two communities send each other, and the greeting that keeps servers in touch.

A link room is encrypted, and its state `community.hearth.link` (empty state key) names its bots, us among
them: `{"v": 1, "bots": ["@hearth:family.example", "@hearth:city.example"]}`. Two types of events pass in it,
both always encrypted:

* `community.hearth.link.envelope`: `envelope`, the JSON text of a signed envelope in unpadded base64, so that
  its size does not depend on its letters; and `body`, a few words for people who watch. It is sent when every
  device of the other bots that are there can read it, and waits in the outbox until then.
* `community.hearth.link.hello`: nothing but our mark. Ephemeral: a random id, never stored.

Why bots greet: a server that could not reach another waits for ten minutes, and later for days, before it
tries again; any event *from* there ends that at once, for all rooms that the two share (so Synapse 1.163).
So after every (re)connection each link room gets one event. It is also sent when a bot joins: both then
have an Olm session with the other before an outage can stand in its way.
"""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog

from bridge.matrix.errors import LoggedOut
from bridge.matrix.render import sendable
from bridge.matrix.translate import MARKER
from bridge.platform import Broken, PlatformError, Retryable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from bots.conversation import SendEnvelope
    from bridge.matrix.client import Client
    from bridge.matrix.facts import RoomState

log = structlog.get_logger(__name__)

HELLO: Final = "community.hearth.link.hello"

LIMIT: Final = 46_000
"""Bytes of the content before it is encrypted. Megolm and base64 make a third more of it, and servers add
about 2,000 to the 65,536 that an event may have (spec, "Size limits")."""

BETWEEN: Final = 10.0
"""Seconds at least between two greetings of a room: a connection that comes and goes must not fill it."""

_ATTEMPTS: Final = 8
_NOWHERE: Final[Mapping[str, RoomState]] = {}


def envelope_content(send: SendEnvelope, key: str) -> dict[str, Any]:
    """The content that carries an envelope, with our mark; `Broken` where no event can carry it."""
    content = {
        "envelope": base64.b64encode(send.envelope.encode()).decode().rstrip("="),
        "body": sendable(send.body),
        "m.mentions": {},
        MARKER: {"bot": True, "key": key},
    }
    size = len(json.dumps(content, separators=(",", ":")))
    if size > LIMIT:
        raise Broken(f"send_envelope: {size:,} bytes with its words; an event carries {LIMIT:,}")
    return content


def hello_content(key: str) -> dict[str, Any]:
    """The content of a greeting."""
    return {"m.mentions": {}, MARKER: {"bot": True, "key": key}}


class Links:
    """Which rooms are link rooms, and the greetings in them, in the background until `close`."""

    def __init__(
        self, client: Client, *, pause: Callable[[int], Awaitable[None]], clock: Callable[[], float]
    ) -> None:
        self._client = client
        self._pause = pause
        self._clock = clock
        self.rooms = _NOWHERE
        self._greeted: dict[str, frozenset[str]] = {}
        """The bots that were there when a room was last greeted, on this connection."""
        self._last: dict[str, float] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def follow(self, rooms: Mapping[str, RoomState]) -> None:
        """Look at these rooms from now on, as they change."""
        self.rooms = rooms

    def peers(self, place: str) -> frozenset[str]:
        """The other bots that have joined a link room; empty: nobody is linked there."""
        room = self.rooms.get(place)
        return frozenset() if room is None else room.peers

    def reconnected(self) -> None:
        """Our homeserver answers again: every link room is to be greeted."""
        self._greeted.clear()

    def greet(self) -> None:
        """Start the greetings that are due. Cheap; called after every answer of the server."""
        now = self._clock()
        for place, room in self.rooms.items():
            if not room.is_link:
                self._greeted.pop(place, None)
                continue
            here, known = room.peers, self._greeted.get(place)
            if known is not None and here <= known:
                self._greeted[place] = here  # who leaves and comes back is new
                continue
            if place in self._tasks or now - self._last.get(place, -BETWEEN) < BETWEEN:
                continue  # still due after the next answer
            self._greeted[place], self._last[place] = here, now
            self._tasks[place] = task = asyncio.create_task(self._say_hello(place))
            task.add_done_callback(partial(self._done, place))

    async def close(self) -> None:
        """Stop; the next connection greets anew."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, place: str, _task: asyncio.Task[None]) -> None:
        self._tasks.pop(place, None)

    async def _say_hello(self, place: str) -> None:
        key = str(uuid.uuid4())
        for tried in range(_ATTEMPTS):
            if place not in self._client.rooms:
                return  # we have left
            try:
                kind, content = await self._client.sealed_for(place, HELLO, hello_content(key))
                await self._client.call("PUT", ("v3", "rooms", place, "send", kind, key), content)
            except LoggedOut:
                return  # whoever logs in again greets again
            except Retryable:
                await self._pause(tried)
            except PlatformError as error:
                log.warning("not_greeted", place=place, error=str(error))
                return
            else:
                return
        log.warning("not_greeted", place=place, error="the homeserver does not take it")
