"""Resident memory of the bridge process over ten thousand turns, through the homeserver double.

The model is a process of its own and not counted. The double runs in this process: people's
questions are put into its rooms directly, the bridge syncs and answers over HTTP as always.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.table import Row, at_most, seconds
from tests.fakes.homeserver import HomeserverDouble
from tests.hearth import Hearth

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fakes.rooms import Json, Rooms

ROOMS = 25
PEOPLE = 20
"""In each room. Each may ask 20 times a minute before the bot falls silent."""
IN_FLIGHT = 50
MB = 1024 * 1024
DEADLINE = 300.0
LIMIT_MB = 150.0
FLAT = 1.10
"""More than this between the first tenth of the turns and the last is growth."""


def resident(pid: int) -> float:
    """Resident memory of one process (without its children), in MB."""
    status = Path(f"/proc/{pid}/status").read_text("utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024 / MB


class Answers:
    """Counts the answers of one account as they come, without greetings and edits."""

    def __init__(self, rooms: Rooms, user: str) -> None:
        self.count = 0
        self._user = user
        self._news = asyncio.Event()
        rooms.listener = self._hear

    def _hear(self, event: Json) -> None:
        relation = event["content"].get("m.relates_to", {})
        if event["sender"] == self._user and "m.in_reply_to" in relation:
            self.count += 1
        self._news.set()

    async def reach(self, count: int) -> None:
        """Wait until so many answers were given."""
        await self.until(lambda: self.count >= count)

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until something is so; it is looked at after every event."""
        async with asyncio.timeout(DEADLINE):
            while not true():
                self._news.clear()
                await self._news.wait()


async def soak(folder: Path, turns: int, steps: int = 10) -> list[Row]:
    """Ask `turns` questions, at most `IN_FLIGHT` of them open; look at the memory after each tenth."""
    samples = []
    async with AsyncExitStack() as stack:
        double = await stack.enter_async_context(HomeserverDouble())
        people = [double.register(f"p{number}") for number in range(ROOMS * PEOPLE)]
        bot = double.register("hearth")
        answers = Answers(double.rooms, bot)
        (folder / "hearth").mkdir()
        hearth = await stack.enter_async_context(Hearth(folder / "hearth", double.url, bot))
        rooms = [_room(double.rooms, people[at::ROOMS], bot) for at in range(ROOMS)]
        await answers.until(lambda: all(double.rooms.rooms[room].membership(bot) == "join" for room in rooms))
        start = resident(hearth.pid)
        asked = 0
        started = time.monotonic()
        for step in range(steps):
            goal = turns * (step + 1) // steps
            while asked < goal:
                await answers.reach(asked - IN_FLIGHT + 1)
                content = {
                    "msgtype": "m.text",
                    "body": f"question {asked}, as long as questions usually are in such a room",
                    "m.mentions": {"user_ids": [bot]},
                }
                double.rooms.send(
                    rooms[asked % ROOMS], people[asked % len(people)], "m.room.message", content
                )
                asked += 1
            await answers.reach(goal)
            samples.append(resident(hearth.pid))
        took = time.monotonic() - started
        await hearth.stop()
    growth = samples[-1] / samples[0]
    return [
        Row(
            "memory of the bridge, at its start",
            f"{start:.0f} MB",
            "without models",
            f"{start:.0f} MB",
            f"<= {LIMIT_MB:.0f} MB",
            at_most(start, LIMIT_MB),
        ),
        Row(
            f"memory of the bridge, {turns:,} turns",
            f"most {max(samples):.0f} MB",
            f"{turns / took:.0f} turns/s, {seconds(took)}",
            f"{max(samples):.0f} MB",
            f"<= {LIMIT_MB:.0f} MB",
            at_most(max(samples), LIMIT_MB),
        ),
        Row(
            "memory of the bridge, growth",
            " ".join(f"{sample:.0f}" for sample in samples) + " MB",
            "last tenth beside first",
            f"{growth:.2f}x",
            f"flat (<= {FLAT}x)",
            at_most(growth, FLAT),
        ),
    ]


def _room(rooms: Rooms, people: list[str], bot: str) -> str:
    room = rooms.create_room(people[0], {"invite": [bot, *people[1:]]})
    for person in people[1:]:
        rooms.join(room, person)
    return room


async def measure(folder: Path, *, quick: bool) -> list[Row]:
    """The soak."""
    return await soak(folder, 500 if quick else 10_000)
