"""People with unique names, and a bot to look inside of."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest_asyncio

from bots.conversation import Say
from bridge.matrix.platform import MatrixPlatform
from bridge.platform import Event, PlatformError, StoredAction
from tests.human import Human

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from bots.conversation import Action
    from bridge.homeserver import Homeserver
    from bridge.platform import Batch, Gap, PlaceFacts

DEADLINE = 30.0


@dataclass
class Bot:
    """The adapter with its events collected, committed as they come."""

    platform: MatrixPlatform
    cursor: str | None = None
    batches: list[Batch] = field(default_factory=list)
    _task: asyncio.Task[None] | None = None
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def id(self) -> str:
        return self.platform.account

    @property
    def events(self) -> list[Event]:
        return [event for batch in self.batches for event in batch.events]

    @property
    def gaps(self) -> list[Gap]:
        return [gap for batch in self.batches for gap in batch.gaps]

    @property
    def opened(self) -> list[Event]:
        return [event for batch in self.batches for event in batch.opened]

    def facts(self, place: str) -> PlaceFacts:
        return [facts for batch in self.batches for facts in batch.places if facts.place.id == place][-1]

    def texts(self, place: str) -> list[str]:
        return [event.text for event in self.events if event.place == place and event.text]

    async def start(self, sealed: tuple[Event, ...] = ()) -> Bot:
        self._task = asyncio.create_task(self._pump(sealed))
        await self.until(lambda: bool(self.batches))
        return self

    async def _pump(self, sealed: tuple[Event, ...]) -> None:
        events = self.platform.events(self.cursor, sealed)
        try:
            async for batch in events:
                async with self._news:
                    self.batches.append(batch)
                    self.cursor = batch.cursor
                    self._news.notify_all()
        finally:
            await events.aclose()
            async with self._news:
                self._news.notify_all()

    async def until(self, true: Callable[[], bool], deadline: float = DEADLINE) -> None:
        async with asyncio.timeout(deadline), self._news:
            while not true():
                if self._task is not None and self._task.done():
                    self._task.result()
                await self._news.wait()

    async def heard(self, text: str) -> Event:
        await self.until(lambda: any(event.text == text for event in self.events))
        return next(event for event in self.events if event.text == text)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError, PlatformError):
                await self._task
        await self.platform.close()

    def action(self, place: str, action: Action, **more: Any) -> StoredAction:
        """What the outbox would hold now."""
        more = {"key": str(uuid.uuid4()), "created_at": int(time.time() * 1000), **more}
        return StoredAction(place=place, action=action, device=self.platform.device, **more)

    async def say(self, place: str, text: str, **more: Any) -> str:
        event_id = await self.platform.perform(self.action(place, Say(text, **more)))
        assert event_id is not None
        return event_id


class World:
    """Makes people and bots of one test, and takes them down after it."""

    def __init__(self, server: Homeserver, folder: Path, stack: AsyncExitStack) -> None:
        self.server = server
        self.folder = folder
        self._stack = stack
        self.mark = uuid.uuid4().hex[:8]

    async def human(self, name: str = "ada") -> Human:
        user = await self.server.register(f"{name}-{self.mark}", "pw", name=name.capitalize())
        return await self._stack.enter_async_context(Human(self.server.url, user, "pw"))

    async def account(self, name: str = "hearth") -> str:
        return await self.server.register(f"{name}-{self.mark}", "pw", name=name.capitalize())

    def platform(self, account: str, **more: Any) -> MatrixPlatform:
        more = {
            "homeserver": self.server.url,
            "password": "pw",
            "store": self.folder / account.partition(":")[0][1:],
            "pickle_key": "a key for tests",
            "may_invite": lambda user: not user.startswith("@mallory"),
            "rng": random.Random(1),
            **more,
        }
        return MatrixPlatform(user_id=account, **more)

    async def bot(self, account: str | None = None, cursor: str | None = None, **more: Any) -> Bot:
        bot = self.unstarted(account or await self.account(), cursor, **more)
        return await bot.start()

    def unstarted(self, account: str, cursor: str | None = None, **more: Any) -> Bot:
        bot = Bot(self.platform(account, **more), cursor)
        self._stack.push_async_callback(bot.stop)
        return bot

    async def room(self, person: Human, bot: Bot, *others: Human, **more: Any) -> str:
        """A room of `person` with the bot in it; the bot knows that it is."""
        room = await person.create_room("Family", invite=[bot.id, *(one.user_id for one in others)], **more)
        for one in others:
            await one.join(room)
        await person.until_joined(room, bot.id)
        await bot.until(lambda: any(event.place == room for event in bot.events))
        return room


@pytest_asyncio.fixture
async def world(synapse: Homeserver, tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        yield World(synapse, tmp_path, stack)
