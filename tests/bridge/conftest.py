"""Virtual time (`tests.fakes.clock`), a scripted server, and as many processes as a test wants."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from bots.conversation import PlaceKind
from tests.bridge.family import BOT, HEARTH, rule
from tests.fakes.clock import VirtualClock, VirtualLoop
from tests.fakes.process import Process
from tests.fakes.server import ADA, BEN, MOD, ROOM, FakeServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from pathlib import Path


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], VirtualLoop]]:
    return {"virtual": VirtualLoop}


@pytest.fixture
async def server() -> FakeServer:
    """A server with one room of many."""
    server = FakeServer(VirtualClock().now)
    server.room(ROOM, PlaceKind.GROUP)
    return server


@pytest.fixture
async def start(server: FakeServer, tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Process]]]:
    """Start a process on the one journal of the test; what still runs at the end is stopped."""
    async with AsyncExitStack() as stack:

        async def started(**kinds: Any) -> Process:
            process = Process(server, tmp_path / "journal.db", **kinds)
            stack.push_async_callback(_over, process)
            return await process.start()

        yield started


async def _over(process: Process) -> None:
    if not process.over:
        await process.stop()


@pytest.fixture
async def family(server: FakeServer) -> FakeServer:
    """Ada, Ben and a moderator, who decide by consent, within a day."""
    server.room(ROOM, PlaceKind.GROUP, ADA, BEN, MOD, HEARTH, BOT)
    rule(server, mode="consent", voting_hours=24)
    return server
