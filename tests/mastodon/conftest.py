"""A loopback instance with people, for each test its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fakes.instance import LoopbackInstance
from tests.fakes.instance_state import MASTODON
from tests.mastodon.world import World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.fakes.instance_state import Differs


@pytest.fixture
async def world(tmp_path: Path, differs: Differs) -> AsyncIterator[World]:
    """An instance with people; start Hearth with `await world.start()`."""
    async with LoopbackInstance(differs) as server:
        world = World(server, tmp_path)
        try:
            yield world
        finally:
            await world.stop()


@pytest.fixture
def differs() -> Differs:
    """What kind of server it is; a test may override it."""
    return MASTODON
