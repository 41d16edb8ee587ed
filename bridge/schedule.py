"""Time: what tells the loops of the bridge to look now. Deadlines themselves are rows in the journal.

APScheduler is the clock for what happens regularly (retention). A missed run is made up for once
(`coalesce`, no grace time: its default of one second skips late runs in silence).
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

from apscheduler.schedulers.asyncio import AsyncIOScheduler

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Clock(Protocol):
    """Where the time comes from, so that tests can bring their own."""

    def now(self) -> int:
        """Milliseconds since the Unix epoch."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        """Milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""
        await asyncio.sleep(seconds)


class Doorbell:
    """Wakes one loop: rung when there is something to do, or when a time has come."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """There is something to do."""
        self._rung.set()

    async def wait(self, until: int | None) -> None:
        """Return at the next ring (one that came before counts), or at `until` (ms since the epoch)."""
        if not self._rung.is_set():
            timeout = None if until is None else max(0.0, (until - self._clock.now()) / 1000)
            try:
                async with asyncio.timeout(timeout):
                    await self._rung.wait()
            except TimeoutError:
                return
        self._rung.clear()


def scheduler(
    *, retention: Callable[[], Awaitable[None]], look: Callable[[], None], look_every: float = 30.0
) -> AsyncIOScheduler:
    """The regular jobs: retention every hour (and at start), a look at everything every half minute.

    The look repairs nothing in particular: it bounds how long a lost wake-up can matter.
    """
    clock = AsyncIOScheduler(
        timezone="UTC",
        job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
    )
    clock.add_job(retention, "interval", hours=1, id="retention")
    clock.add_job(look, "interval", seconds=look_every, id="look")
    return clock
