"""The port `bridge.platform.Platform` in process, in front of a `FakeServer`."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from bridge.platform import Batch, Broken, Event, Gap, Parts, Refused, Retryable
from tests.fakes.server import HANG, LOST, OWN

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from typing import BinaryIO

    from bots.conversation import Attachment, Turn
    from bridge.platform import Ephemeral, Found, Fresh, Reach, StoredAction, Verifying
    from policies.vote import Ballot
    from tests.fakes.server import FakeServer, Item

BATCH = 5
"""Items in one batch, so that a busy script makes several."""


class FakePlatform:
    """One session with the server. `cross` is told of each perform, before and after (crash tests).

    `key_memory` is what the platform believes of the server's.
    """

    account = OWN
    takes_votes = True

    def __init__(
        self,
        server: FakeServer,
        *,
        device: str = "DEVICE",
        part_size: int = 1000,
        part_limit: int = 1000,
        takes_files: bool = True,
        key_memory: float | None = None,
        latency: float = 0.0,
        progress_latency: float = 0.0,
        cross: Callable[[str], None] = lambda _boundary: None,
    ) -> None:
        self.server = server
        self.device = device
        self.key_memory = server.key_memory if key_memory is None else key_memory
        self.takes_files = takes_files
        self.verifying: Verifying | None = None
        self._part_size = part_size
        self._part_limit = part_limit
        self._latency = latency
        self._progress_latency = progress_latency
        self._cross = cross

    async def events(
        self, cursor: str | None, sealed: Sequence[Event] = (), answered: Sequence[Event] = ()
    ) -> AsyncGenerator[Batch, None]:
        at = int(cursor or 0)
        ciphers = {event.id for event in sealed}
        while True:
            self.server.news.clear()
            known = tuple(event for key, event in self.server.opened.items() if key in ciphers)
            ciphers.clear()
            items = self.server.stream[at : at + BATCH]
            if items or known:
                at += len(items)
                yield self._batch(str(at), items, known)
            else:
                await self.server.news.wait()

    def _batch(self, cursor: str, items: list[Item], known: tuple[Event, ...]) -> Batch:
        events = [self._aged(item) for item in items if isinstance(item, Event)]
        opened = [event for event in events if event.id in self.server.opened]
        return Batch(
            self.account,
            cursor,
            events=tuple(event for event in events if event not in opened),
            places=tuple(item for item in items if not isinstance(item, Event | Gap)),
            gaps=tuple(item for item in items if isinstance(item, Gap)),
            opened=(*(self._aged(event) for event in known), *opened),
        )

    def _aged(self, event: Event) -> Event:
        return replace(event, age_ms=self.server.now() - event.sent_at)

    async def fetch(self, attachment: Attachment, into: BinaryIO, limit: int) -> None:
        self._cross("before fetch")
        data = self.server.read(attachment.source)
        if len(data) > limit:
            raise Broken(f"the file has {len(data)} bytes, {limit} are allowed")
        await asyncio.to_thread(into.write, data)
        self._cross("after fetch")

    async def perform(self, action: StoredAction) -> str | None:
        self._cross("before perform")
        fault = self.server.fault(action)
        await asyncio.sleep(self._latency)
        if isinstance(fault, Exception):
            raise fault
        if fault == HANG:
            await asyncio.Event().wait()
        if not self.server.rooms[action.place].joined:
            raise Refused("M_FORBIDDEN", "invite me again")
        remote_id = self.server.put(action, self.device)
        self._cross("after perform")
        if fault == LOST:
            raise Retryable("the connection broke off")
        return remote_id

    async def find(self, action: StoredAction) -> str | Found:
        return self.server.find(action)

    def withheld(self, place: str, session: str) -> str:
        return self.server.withheld.get(session, "")

    def reach(self, place: str) -> Reach | None:
        return self.server.reach.get(place)

    @property
    def server_time(self) -> int | None:
        return self.server.now()

    async def ballots(self, place: str, poll: str) -> tuple[Ballot, ...]:
        await asyncio.sleep(self._latency)
        if not self.server.rooms[place].joined:
            raise Refused("M_FORBIDDEN", "invite me again")
        return self.server.ballots(place, poll)

    async def refresh(self, turn: Turn) -> Fresh:
        return await self.server.look(turn)

    def parts(self, text: str, reply_to: str | None = None) -> Parts:
        size = self._part_size
        shown = [text[at : at + size] for at in range(0, max(len(text), 1), size)]
        return Parts(tuple(shown[: self._part_limit]), "".join(shown[self._part_limit :]))

    async def acknowledge(self, place: str, event_id: str, thread: str | None) -> None:
        self.server.ephemeral.append((self.server.now(), "receipt", event_id))

    async def typing(self, place: str, *, on: bool) -> None:
        self.server.ephemeral.append((self.server.now(), "typing" if on else "typing_off", place))

    async def progress(self, shown: Ephemeral) -> None:
        assert shown.answer is not None
        await asyncio.sleep(self._progress_latency)
        self.server.show_progress(shown.place, shown.answer, shown.text)

    async def close(self) -> None:
        pass
