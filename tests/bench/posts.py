"""Mentions on a loopback instance: what an answer costs the server, how soon it comes, what it keeps.

Hearth and the instance run in this process, with real HTTP between them, and a bot that answers at once.
The limits of both sides are lifted where 500 mentions wait: with Mastodon's own (300 posts in three hours)
they would take four hours.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from mastodon import Mastodon, StreamListener

from bridge.mastodon.limits import Limits
from tests.bench.memory import FLAT, resident
from tests.bench.table import Row, at_most, seconds, spread
from tests.fakes.instance import LoopbackInstance
from tests.mastodon.world import World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.fakes.instance_state import Account, Status

EACH = 10
"""Questions of one person: half of what the bot answers within a minute."""
PLENTY = 10**9
DEADLINE = 600.0
QUIET = 0.3
"""Seconds between two questions whose answers are timed: one is over before the next one comes."""


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    """An instance without limits, on which Hearth has been once, so that what waits is not backlog."""
    folder.mkdir()
    async with LoopbackInstance(heartbeat=1.0) as server:
        server.state.requests = server.state.posts = PLENTY
        here = World(server, folder)
        here.deadline = DEADLINE
        await here.start()
        try:
            yield here
        finally:
            await here.stop()


def unlimited(here: World) -> None:
    """Lift Hearth's own limits."""
    here.platform.client.limits = Limits(requests=100_000, posts=100_000)


async def waiting(folder: Path, count: int, *, threads: bool) -> Row:
    """`count` mentions of people with `EACH` wait when Hearth comes back; requests until all are answered."""
    async with world(folder) as here:
        await here.stop()
        people = _people(here, count // EACH)
        note = here.ben.post("The plumber comes on Tuesday.", visibility="public") if threads else None
        asked = [
            here.ask(f"question {n}", by=people[n % len(people)], visibility="public", reply_to=note)
            for n in range(count)
        ]
        here.server.log.clear()
        started = time.monotonic()
        await here.start(poll_every=60.0)
        unlimited(here)
        await here.settled(count)
        took = time.monotonic() - started
        answered = sum(len(here.answers(one)) == 1 for one in asked)
        each = here.server.count() / answered
        kinds = {
            "posts": here.server.count("/api/v1/statuses", method="POST"),
            "contexts": here.server.count("/context"),
            "pages": here.server.count("/notifications"),
        }
    limit = 3.1 if threads else 2.1
    return Row(
        f"requests per answered mention, {'in a thread' if threads else 'top-level'}",
        ", ".join(f"{number} {kind}" for kind, number in kinds.items()),
        f"{answered} of {count} answered once, {seconds(took)}",
        f"{each:.2f}",
        f"<= {limit}",
        at_most(each, limit) and answered == count,
    )


def _people(here: World, count: int) -> list[Account]:
    return [here.server.state.account(f"person{number}") for number in range(count)]


class _Bare(StreamListener):
    """The shortest honest bot on Mastodon.py: a stream, and a reply to each mention. It keeps nothing."""

    def __init__(self, api: Mastodon) -> None:
        self._api = api

    def on_notification(self, notification: Any) -> None:
        """Answer a mention."""
        if notification["type"] == "mention":
            status = notification["status"]
            self._api.status_reply(status, "Echo", untag=True)


async def latency(folder: Path, count: int) -> Row:
    """From the moment the server has a mention until it has the answer; both bots in turn."""
    async with world(folder) as here:
        await here.stop()
        await here.start(poll_every=60.0)
        unlimited(here)
        bare = here.server.state.account("bare", bot=True)
        bare.policy["for_private_mentions"] = "accept"
        api = await asyncio.to_thread(
            Mastodon,
            access_token=here.server.state.token(bare),
            api_base_url=here.server.url,
            mastodon_version="4.4.0",
            version_check_mode="created",
        )
        handle = await asyncio.to_thread(api.stream_user, _Bare(api), run_async=True)
        try:
            await asyncio.sleep(1.0)  # both streams are open
            took: dict[str, list[float]] = {"hearth": [], "bare": []}
            for number, person in enumerate(_people(here, count)):
                for name, times in took.items():
                    post = person.post(f"@{name} question {number}", visibility="direct")
                    times.append(await _answered(here, post))
                    await asyncio.sleep(QUIET)
        finally:
            await asyncio.to_thread(handle.close)
    ratio = statistics.median(took["hearth"]) / statistics.median(took["bare"])
    return Row(
        "from mention to reply by stream, p50",
        spread(took["hearth"]),
        f"bare Mastodon.py bot {spread(took['bare'])}",
        f"{ratio:.2f}x",
    )


async def _answered(here: World, question: Status) -> float:
    started = time.perf_counter()
    async with asyncio.timeout(DEADLINE):
        while not any(one.reply_to is question for one in here.server.state.statuses.values()):  # noqa: ASYNC110 - looked at, as a client would
            await asyncio.sleep(0.001)
    return time.perf_counter() - started


async def memory(folder: Path, count: int, steps: int = 10) -> Row:
    """Memory of this process, the instance in it, over `count` answered mentions."""
    samples = []
    async with world(folder) as here:
        unlimited(here)
        people = _people(here, count // EACH)
        asked = 0
        for step in range(steps):
            goal = count * (step + 1) // steps
            while asked < goal:
                here.ask(f"question {asked}", by=people[asked % len(people)])
                asked += 1
            async with asyncio.timeout(DEADLINE):
                while len(here.said()) < goal:  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.05)
            samples.append(resident(os.getpid()))
    growth = samples[-1] / samples[0]
    return Row(
        f"memory with {count:,} mentions, the instance in the same process",
        " ".join(f"{sample:.0f}" for sample in samples) + " MB",
        "last tenth beside first",
        f"{growth:.2f}x",
        f"flat (<= {FLAT}x)",
        at_most(growth, FLAT),
    )


async def measure(folder: Path, *, quick: bool) -> list[Row]:
    """Requests, time, memory."""
    count = 100 if quick else 500
    return [
        await waiting(folder / "top", count, threads=False),
        await waiting(folder / "threads", count, threads=True),
        await latency(folder / "latency", 10 if quick else 50),
        await memory(folder / "memory", count if quick else 2_000),
    ]
