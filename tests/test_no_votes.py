"""Where nobody can vote and nobody is linked: no poll, no state, no envelope, and the reason is said."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from bots.conversation import ClosePoll, OpenLink, OpenPoll, PutState, SendEnvelope
from bridge.console import ConsolePlatform
from bridge.mastodon.platform import MastodonPlatform
from bridge.platform import Broken, Found, StoredAction
from bridge.schedule import SystemClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bots.conversation import Action
    from bridge.platform import Platform


@pytest.fixture(params=["terminal", "mastodon"])
async def platform(request: pytest.FixtureRequest) -> AsyncIterator[Platform]:
    """Neither is connected to anything: to refuse takes nobody else."""
    found: Platform = ConsolePlatform("ada")
    if request.param == "mastodon":
        rng, account = random.Random(1), "@hearth@127.0.0.1"
        found = MastodonPlatform(
            url="http://127.0.0.1:1", account=account, token="t", clock=SystemClock(), rng=rng
        )
    yield found
    await found.close()


@pytest.mark.parametrize(
    ("action", "why"),
    [
        (OpenPoll("Yes?", {"yes": "Yes"}), "no votes"),
        (ClosePoll("k", "Passed."), "no votes"),
        (PutState("community.hearth.policy", "", "{}"), "no votes"),
        (SendEnvelope("{}", "asks"), "no link rooms|no other communities"),
        (OpenLink("bot:city.example"), "no link rooms|no other communities"),
    ],
)
async def test_it_is_broken_from_the_start(platform: Platform, action: Action, why: str) -> None:
    """It is not tried again, and a search says that it never happened."""
    stored = StoredAction("k2", "place", action, created_at=0, target="1")
    for _ in range(2):
        with pytest.raises(Broken, match=why):
            await platform.perform(stored)
    assert await platform.find(stored) is Found.ABSENT


async def test_nobody_has_voted(platform: Platform) -> None:
    """There is nothing to count."""
    assert await platform.ballots("place", "poll") == ()
