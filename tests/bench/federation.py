"""A question across: from a room on one server to the other community's bot and back, beside bare clients.

Two real servers that federate over TLS on loopback; the models are echoes, so that the way is measured. The
bare way is what the fastest bot could do: two clients of matrix-nio send each other one encrypted message.
"""

from __future__ import annotations

import statistics
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from bridge.homeserver_pair import pair_of_homeservers
from tests.bench.table import Row, at_most
from tests.federation.test_links import Side, allowed, communities
from tests.human import Human

if TYPE_CHECKING:
    from pathlib import Path

    from bridge.homeserver import Homeserver

GOAL = 1.5
ASKS = 8
"""Within the budget of a pair: 20 events in a minute, two for each."""


async def measure(folder: Path, *, quick: bool) -> list[Row]:
    """All rows of this part."""
    times = ASKS if quick else 2 * ASKS
    async with pair_of_homeservers(folder / "pair") as servers:
        (folder / "sides").mkdir()
        async with communities(servers, folder / "sides") as (family, city):
            for side in (family, city):
                await side.asks("!policy set trial_days 0")
            await family.asks("!policy set preview never")
            await allowed(family, city)
            asks = [await _asked(family, number) for number in range(times)]
        bare = await _bare(servers, times)
    here, below = statistics.median(asks), statistics.median(bare)
    return [
        Row(
            f"links: a question across and its answer, p50 of {times}",
            f"{here * 1000:,.0f} ms",
            f"two bare messages: {below * 1000:,.0f} ms",
            f"{here / below:.2f}x",
            f"<= {GOAL}x",
            at_most(here / below, GOAL),
        )
    ]


async def _asked(family: Side, number: int) -> float:
    """Seconds from a question in the room to the other community's answer below it."""
    if number and number % ASKS == 0:
        # The budget of the pair, not its speed, would be measured.
        await family.human.catch_up(65_000)
    started = time.monotonic()
    asked = await family.says(f"!ask city When does pool {number} open?")
    await family.hears("not from our bot", reply_to=asked)
    return time.monotonic() - started


async def _bare(servers: tuple[Homeserver, Homeserver], times: int) -> list[float]:
    async with AsyncExitStack() as stack:
        people = []
        for server, name in zip(servers, ("bare-a", "bare-b"), strict=True):
            user = await server.register(name, "pw")
            people.append(await stack.enter_async_context(Human(server.url, user, "pw")))
        here, there = people
        room = await here.create_room("Bare", invite=[there.user_id])
        await there.join(room)
        await here.until_joined(room, there.user_id)
        found = []
        for number in range(times + 1):
            started = time.monotonic()
            await here.say(room, f"ask {number}")
            await there.until(room, lambda said, n=number: said.text == f"ask {n}")  # type: ignore[misc]
            await there.say(room, f"answer {number}")
            await here.until(room, lambda said, n=number: said.text == f"answer {n}")  # type: ignore[misc]
            found.append(time.monotonic() - started)
        return found[1:]  # the first one shares the keys
