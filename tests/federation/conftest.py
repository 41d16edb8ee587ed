"""Two servers that federate, started once for this folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest_asyncio

from bridge.homeserver_pair import pair_of_homeservers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

    from bridge.homeserver import Homeserver


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def servers(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[Homeserver, Homeserver]]:
    """Ours, and the one of another community."""
    async with pair_of_homeservers(tmp_path_factory.mktemp("pair")) as pair:
        yield pair
