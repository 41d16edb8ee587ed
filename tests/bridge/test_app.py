"""Several accounts in one process: each stands for itself, and an end is an end of all."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest

from bots.steward import Steward
from bridge.app import Account, App
from bridge.options import Options
from bridge.platform import Misconfigured
from tests.fakes.clock import VirtualClock
from tests.fakes.platform import FakePlatform
from tests.fakes.process import ANYONE, Parrot, Process, answer_to
from tests.fakes.server import FakeServer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable
    from pathlib import Path

    from bots.base import Bot
    from bridge.platform import Batch
    from bridge.tools import House


class Revoked(FakePlatform):
    """An account whose token is refused as soon as `revoked` is set."""

    account = "@hearth@revoked"

    def __init__(self, server: FakeServer, revoked: asyncio.Event) -> None:
        super().__init__(server)
        self._revoked = revoked

    async def events(self, *_: Any) -> AsyncGenerator[Batch, None]:
        await self._revoked.wait()
        raise Misconfigured("mastodon-token-hearth@revoked", "log in again")
        yield


class Defective(FakePlatform):
    """An adapter with a bug."""

    account = "@hearth@defective"

    async def events(self, *_: Any) -> AsyncGenerator[Batch, None]:
        raise KeyError("a bug")
        yield


@pytest.fixture
async def house(server: FakeServer, tmp_path: Path) -> AsyncIterator[House]:
    """A house without any account of its own."""
    async with Process(server, tmp_path / "house.db").housed() as house:
        yield house


def _app(house: House, *platforms: FakePlatform) -> App:
    accounts = [Account(platform, ANYONE, Options()) for platform in platforms]
    bots: dict[str, Bot] = {"chat": Parrot(), "scribe": Parrot(), "steward": Steward("Hearth")}
    return App(house, accounts, bots, rng=random.Random(1))


async def test_an_account_that_was_revoked_stops_alone(server: FakeServer, house: House) -> None:
    """The other one answers before and after; the end that was asked for is in order."""
    stop, revoked = asyncio.Event(), asyncio.Event()
    app = _app(house, FakePlatform(server), Revoked(FakeServer(VirtualClock().now), revoked))
    serving = asyncio.create_task(app.serve(stop))
    before = server.say("Before?")
    await _until(lambda: bool(server.answers(before)))
    revoked.set()
    await asyncio.sleep(60)
    after = server.say("After?")
    await _until(lambda: bool(server.answers(after)))
    stop.set()
    await serving
    assert server.answers(after) == [answer_to("After?")]


async def test_the_last_account_ends_the_process_with_its_remedy(house: House) -> None:
    """Nothing is left to do: what the operator must change is the end of the command."""
    revoked = asyncio.Event()
    revoked.set()
    app = _app(house, Revoked(FakeServer(VirtualClock().now), revoked))
    with pytest.raises(Misconfigured, match="log in again"):
        await app.serve(asyncio.Event())


async def test_a_defect_in_one_account_ends_all(server: FakeServer, house: House) -> None:
    """A bug must not go unseen behind an account that works."""
    app = _app(house, FakePlatform(server), Defective(FakeServer(VirtualClock().now)))
    with pytest.raises(KeyError):
        await app.serve(asyncio.Event())


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(600):
        while not true():  # noqa: ASYNC110 - virtual time: looking again costs nothing
            await asyncio.sleep(0.01)
