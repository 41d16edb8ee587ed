"""Empties the outbox: in order within a place, side by side between places, each action under its key.

    pending --perform--> sent            the server took it (or had it already)
       |  ^
       |  +-- Retryable: jittered backoff, at most two days
       +----- Refused, Broken: parked, visible in `hearth turns stuck`

An action that the server may have forgotten the key of (older than the platform's `key_memory`, or
stored under another device), or that may have been done by an attempt of which nothing was heard
(`Unclear`), is looked for before it is sent. If even that cannot say, it is sent
and counted as a possible duplicate.
"""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Protocol

import structlog

from bots.conversation import ClosePoll, Redact, Revise, Say
from bridge.platform import Broken, Found, Misconfigured, Refused, Retryable, Unclear
from bridge.schedule import Doorbell

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from bridge.journal import Journal
    from bridge.platform import Platform, StoredAction
    from bridge.schedule import Clock

log = structlog.get_logger(__name__)

AT_ONCE = 8
"""Places served at the same time."""
DEADLINE = 60.0
"""Seconds that one attempt may take; what comes later is a lost acknowledgement."""
FIRST_BACKOFF = 1.0
MAX_BACKOFF = 60.0
"""Seconds; a server that is back is found within a minute."""
MAX_WAIT = 600.0
"""Seconds that a server may ask for."""
GIVE_UP_AFTER_MS = 2 * 86_400_000


class Before(StrEnum):
    """What to do before an action is performed."""

    SEND = "send"
    LOOK = "look"
    PARK = "park"


def before(
    action: StoredAction, *, device: str, key_memory: float, now: int, unclear: bool = False
) -> Before:
    """Whether `action` may be sent as it is, must be looked for first, or can never be sent."""
    match action.action:
        case Revise() | Redact() | ClosePoll():
            needs = True
        case Say(upload=upload, follows=follows):
            needs = upload is not None or follows is not None
        case _:
            needs = False
    if needs and action.target is None:
        return Before.PARK
    old = now - action.created_at > key_memory * 1000
    return Before.LOOK if old or unclear or action.device != device else Before.SEND


def backoff(attempts: int, after: float | None, jitter: float) -> float:
    """Seconds until the next attempt: doubling, capped, times 0.5 to 1; `after` of the server is honoured."""
    own = min(MAX_BACKOFF, FIRST_BACKOFF * 2.0 ** min(attempts, 16)) * (0.5 + jitter / 2)
    return max(own, min(after or 0.0, MAX_WAIT))


@dataclass(slots=True)
class _Counts:
    sent: int = 0
    retried: int = 0
    parked: int = 0


class Carrier(Protocol):
    """Delivers to places of an account that its platform does not reach; a key may be sent again for ever."""

    def carries(self, place: str) -> bool:
        """Whether it is such a place."""
        ...

    async def perform(self, action: StoredAction) -> str | None:
        """As `Platform.perform`."""
        ...


class Delivery:
    """The loop that empties the outbox of one account."""

    def __init__(self, journal: Journal, platform: Platform, clock: Clock, rng: random.Random) -> None:
        self._journal = journal
        self._platform = platform
        self._clock = clock
        self._rng = rng
        self._bell = Doorbell(clock)
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._unclear: set[str] = set()
        """Keys of actions that an attempt of this process may have done."""
        self.counts = _Counts()
        self.may_send: Callable[[StoredAction], Awaitable[bool]] | None = None
        """Asked right before an action is done; what it says no to, it has withdrawn."""
        self.beside: Carrier | None = None
        self.on_parked: Callable[[StoredAction], Awaitable[None]] | None = None
        """Told of what could not be done, before anything else is done in that place."""

    def ring(self) -> None:
        """Something was put into the outbox."""
        self._bell.ring()

    async def run(self) -> None:
        """Deliver for ever. Cancelling stops new attempts; `finish` waits for those under way."""
        while True:
            try:
                await self._start_due()
                until = None if len(self._busy) >= AT_ONCE else await self._next()
            except sqlite3.Error as error:
                # A full disk, most likely: nothing is sent that could not be acknowledged.
                log.error("outbox_unreadable", error=str(error), remedy="free space on the disk")
                until = self._clock.now() + 5_000
            await self._bell.wait(until)

    async def finish(self, seconds: float) -> None:
        """Give attempts under way `seconds` to end, then cancel them (their keys make that safe)."""
        tasks = list(self._busy.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def drain(self, seconds: float) -> None:
        """At stop: deliver what is due now, for at most `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                while await self._start_due() or self._busy:
                    await asyncio.wait(list(self._busy.values()), return_when=asyncio.FIRST_COMPLETED)
        except (TimeoutError, sqlite3.Error):
            await self.finish(0)

    async def _next(self) -> int | None:
        # What is due but whose place is busy comes with the bell of the attempt under way.
        return await self._journal.next_due(self._platform.account, frozenset(self._busy))

    async def _start_due(self) -> int:
        room = AT_ONCE - len(self._busy)
        if room <= 0:
            return 0
        actions = await self._journal.due(
            self._platform.account, self._clock.now(), room, frozenset(self._busy)
        )
        for action in actions:
            task = asyncio.create_task(self._deliver(action), name=f"deliver {action.key}")
            self._busy[action.place] = task
            task.add_done_callback(partial(self._done, action.place))
        return len(actions)

    def _done(self, place: str, task: asyncio.Task[None]) -> None:
        del self._busy[place]
        self._bell.ring()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("delivery_failed", place=place, error=repr(error))

    async def _deliver(self, action: StoredAction) -> None:
        try:
            await self._attempt_and_store(action)
        except sqlite3.Error as error:
            # Sent, perhaps, but not acknowledged here: the same key goes out again after a pause.
            log.error(
                "delivery_not_stored", key=action.key, error=str(error), remedy="free space on the disk"
            )
            await self._clock.sleep(backoff(3, None, self._rng.random()))

    async def _attempt_and_store(self, action: StoredAction) -> None:
        try:
            async with asyncio.timeout(DEADLINE):
                await self._attempt(action)
        except Retryable as error:
            if isinstance(error, Unclear):
                self._unclear.add(action.key)
            await self._retry(action, str(error), error.after)
        except TimeoutError:
            await self._retry(action, f"no answer within {DEADLINE:.0f} s", None)
        except Misconfigured as error:
            await self._retry(action, str(error), MAX_BACKOFF)
        except (Refused, Broken) as error:
            await self._park(action, str(error))
        except sqlite3.Error:
            raise
        except Exception as error:
            # A bug of an adapter must not become a loop without pauses, nor stop the other places.
            log.exception("delivery_bug", key=action.key, place=action.place)
            await self._retry(action, f"a bug: {type(error).__name__}", None)
        else:
            self.counts.sent += 1

    async def _attempt(self, action: StoredAction) -> None:
        if self.may_send is not None and not await self.may_send(action):
            return
        if self.beside is not None and self.beside.carries(action.place):
            await self._acknowledge(action, await self.beside.perform(action))
            return
        what = before(
            action,
            device=self._platform.device,
            key_memory=self._platform.key_memory,
            now=self._clock.now(),
            unclear=action.key in self._unclear,
        )
        match what:
            case Before.PARK:
                raise Broken("the message that this belongs to was never delivered")
            case Before.LOOK:
                found = await self._platform.find(action)
                if found is Found.UNKNOWN:
                    await self._journal.count_possible_duplicate(action.key)
                    log.warning("possible_duplicate", key=action.key, place=action.place)
                remote_id = await self._platform.perform(action) if isinstance(found, Found) else found
            case Before.SEND:
                remote_id = await self._platform.perform(action)
        await self._acknowledge(action, remote_id)

    async def _acknowledge(self, action: StoredAction, remote_id: str | None) -> None:
        await self._journal.acknowledge(action.key, remote_id, self._clock.now())
        self._unclear.discard(action.key)

    async def _retry(self, action: StoredAction, error: str, after: float | None) -> None:
        now = self._clock.now()
        if now - action.created_at > GIVE_UP_AFTER_MS:
            await self._park(action, f"given up after two days: {error}")
            return
        wait = backoff(action.attempts, after, self._rng.random())
        self.counts.retried += 1
        log.warning("delivery_retry", key=action.key, place=action.place, error=error, wait=round(wait, 1))
        await self._journal.retry_action(action.key, error, now + int(wait * 1000))

    async def _park(self, action: StoredAction, error: str) -> None:
        self.counts.parked += 1
        self._unclear.discard(action.key)
        log.error("delivery_parked", key=action.key, place=action.place, error=error)
        await self._journal.park_action(action.key, error, self._clock.now())
        if self.on_parked is not None:
            await self.on_parked(action)
