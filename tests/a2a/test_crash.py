"""Killed at every boundary between the yes to a question over HTTPS and its answer: asked once, told once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.a2a.test_client import POOL, City, city, met, previewed, reach

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bridge.a2a.beside import Peer
    from tests.a2a.conftest import House

    Family = Callable[..., Awaitable[House]]

__all__ = ["city", "reach"]

MOST = 60
"""Boundaries that are tried; `test_there_are_no_more` counts them."""


def asked_once(theirs: City, house: House) -> None:
    assert [one.body.parts[0].text for one in theirs.asks()] == [POOL]  # type: ignore[union-attr]
    assert sum("Tuesday at nine" in one for one in house.server.texts()) == 1


async def to_the_end(house: House) -> None:
    await house.until(lambda: "Tuesday at nine" in "".join(house.server.texts()) or house.process.dead)


@pytest.mark.parametrize("number", range(1, MOST + 1))
async def test_killed_anywhere(
    family: Family, city: tuple[City, str], reach: Callable[..., Peer], number: int
) -> None:
    """The next process goes on where the dead one was."""
    theirs, url = city
    house = await family(reach(url))
    await met(house)
    preview = await previewed(house)
    house.process.boundaries.die_at = len(house.process.boundaries.crossed) + number
    house.server.react(preview, "👍")
    await to_the_end(house)
    if house.process.dead:
        await house.process.kill()
        house = await family(reach(url))
        await to_the_end(house)
    await house.process.idle()
    asked_once(theirs, house)


async def test_there_are_no_more(family: Family, city: tuple[City, str], reach: Callable[..., Peer]) -> None:
    """Than were tried above: a new step of the way is killed, too."""
    _, url = city
    house = await family(reach(url))
    await met(house)
    preview = await previewed(house)
    before = len(house.process.boundaries.crossed)
    house.server.react(preview, "👍")
    await to_the_end(house)
    await house.process.idle()
    crossed = house.process.boundaries.crossed[before:]
    assert "after https" in crossed
    assert len(crossed) <= MOST, crossed
