"""All of Hearth on a loopback instance: journal, router, delivery, adapter, and a bot that repeats."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bots.base import Draft, Reply
from bots.chat import Chat, Persona
from bots.scribe import Scribe
from bots.steward import Steward
from bridge.app import Account as Served
from bridge.app import App
from bridge.mastodon.platform import MastodonPlatform
from bridge.options import Options
from bridge.schedule import SystemClock
from tests.fakes.process import ANYONE, Process
from tests.fakes.server import FakeServer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from bots.base import Bot, Tools, Waiting
    from bots.conversation import Turn
    from bridge.tools import House
    from policies.room import RoomPolicy
    from tests.fakes.instance import LoopbackInstance
    from tests.fakes.instance_state import Account, Status

DEADLINE = 30.0
"""Seconds for what must happen; `World.deadline` shortens it where a test expects that it does not."""


class Mirror(Chat):
    """Says what it was given to read: `[what was said before] question`."""

    def __init__(self) -> None:
        super().__init__(Persona("Hearth", "You are Hearth."))
        self.says: Callable[[str], str] = lambda read: read
        self.waits: asyncio.Event | None = None
        """Set to hold back every answer until it is set."""
        self.turns = 0

    async def reply(self, turn: Turn, tools: Tools) -> AsyncGenerator[Draft | Waiting | Reply]:
        self.turns += 1
        if self.waits is not None:
            await self.waits.wait()
        before = " | ".join(said.text for said in turn.context)
        yield Reply(self.says(f"[{before}] {turn.message.text}"))


class World:
    """One instance with Hearth's account and some people, and at most one Hearth on it."""

    def __init__(self, server: LoopbackInstance, folder: Path) -> None:
        state = server.state
        self.server = server
        self.hearth = state.account("hearth", bot=True)
        self.hearth.policy["for_private_mentions"] = "accept"
        self.ada, self.ben = state.account("ada"), state.account("ben")
        self.far = state.account("carol", domain="far.example")
        self.token = state.token(self.hearth)
        self.bot = Mirror()
        self.deadline = DEADLINE
        self.policy: RoomPolicy = ANYONE
        self._folder = folder
        self._stack: AsyncExitStack | None = None
        self._stop = asyncio.Event()
        self.serving: asyncio.Task[None]
        self.platform: MastodonPlatform
        self.house: House

    async def start(self, *, options: dict[str, Any] | None = None, **platform: Any) -> World:
        self._stack = AsyncExitStack()
        process = Process(FakeServer(SystemClock().now), self._folder / "journal.db")
        house = await self._stack.enter_async_context(process.housed())
        self.house = replace(house, clock=SystemClock())
        usually: dict[str, Any] = {
            "url": self.server.url,
            "account": f"@hearth@{self.server.state.domain}",
            "token": self.token,
            "clock": SystemClock(),
            "rng": random.Random(1),
            "private_media": True,
            "poll_every": 0.3,
            "timeout": 5.0,
        }
        self.platform = MastodonPlatform(**(usually | platform))
        self._stack.push_async_callback(self.platform.close)
        usual = {"streaming": False, "receipts": False, "typing": False, "refusals_per_day": 1}
        account = Served(
            self.platform, self.policy, Options(**(usual | {"place_is_person": True} | (options or {})))
        )
        bots: dict[str, Bot] = {"chat": self.bot, "scribe": Scribe(self.bot), "steward": Steward("Hearth")}
        self._stop = asyncio.Event()
        app = App(self.house, [account], bots, rng=random.Random(1))
        self.serving = asyncio.create_task(app.serve(self._stop))
        # What was there before the first start is no question: wait until that has been looked at.
        async with asyncio.timeout(self.deadline):
            while not self.serving.done():
                if await self.house.journal.cursor(self.platform.account) is not None:
                    break
                await asyncio.sleep(0.01)
        return self

    async def stop(self) -> None:
        if self._stack is not None:
            stack, self._stack = self._stack, None
            self._stop.set()
            await asyncio.gather(self.serving, return_exceptions=True)
            await stack.aclose()

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(self.deadline):
            while not true():  # noqa: ASYNC110 - what others do is only seen by looking
                await asyncio.sleep(0.01)

    async def settled(self, count: int) -> None:
        """Wait until so many turns are settled and everything is delivered."""
        async with asyncio.timeout(self.deadline):
            while True:
                counts = await self.house.journal.counts()
                turns = await self.house.journal.turns(limit=1000)
                open_ = counts.pending + counts.running + counts.undelivered
                if not open_ and sum(one.state in ("settled", "waiting", "parked") for one in turns) >= count:
                    return
                await asyncio.sleep(0.01)

    async def answer(self, question: Status) -> Status:
        """The answer to a post, once it is there."""
        await self.until(lambda: bool(self.answers(question)))
        return self.answers(question)[0]

    def answers(self, question: Status) -> list[Status]:
        return [one for one in self.said() if one.reply_to is question]

    def said(self) -> list[Status]:
        """All that Hearth has posted and not taken back."""
        return [one for one in self.server.state.statuses.values() if one.author is self.hearth]

    def told(self, person: Account) -> int:
        """How many mentions somebody got."""
        return sum(one.to is person for one in self.server.state.notifications)

    def ask(self, text: str, *, by: Account | None = None, **more: Any) -> Status:
        """Somebody mentions the bot; privately unless said otherwise."""
        return (by or self.ada).post(f"@hearth {text}", **({"visibility": "direct"} | more))
