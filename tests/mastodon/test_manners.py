"""How the account presents itself, and what it asks of its server: only what the settings say."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from bridge.mastodon.client import Client
from bridge.mastodon.login import NEEDED
from bridge.mastodon.manners import ACCEPT, FILTERS, examine, greet, wants_no_bots
from bridge.schedule import SystemClock
from tests.fakes.instance import LoopbackInstance
from tests.fakes.instance_state import GOTOSOCIAL, MASTODON, Differs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.fakes.instance_state import Account


@pytest.fixture
def differs() -> Differs:
    return MASTODON


@pytest.fixture
async def server(differs: Differs) -> AsyncIterator[LoopbackInstance]:
    async with LoopbackInstance(differs) as server:
        yield server


async def opened(server: LoopbackInstance, token: str) -> Client:
    client = Client(server.url, token, clock=SystemClock(), rng=random.Random(1))
    await client.open()
    return client


def held(account: Account) -> list[str]:
    """Which mentions are not let through."""
    return [name for name in FILTERS if account.policy.get(name) != ACCEPT]


@pytest.mark.parametrize(
    ("note", "wanted"),
    [
        ("<p>#nobot</p>", True),
        ("<p>tea <a class='mention hashtag'>#<span>NoBots</span></a></p>", True),
        ("<p>#no_bot</p>", True),
        ("<p>nobot</p>", False),
        ("<p>#nobottles</p>", False),
        ("", False),
        (None, False),
    ],
)
def test_who_wants_no_bots_says_so_in_the_profile(note: object, wanted: bool) -> None:  # noqa: FBT001 - a column
    """By hashtag, in any case, as HTML has it."""
    assert wants_no_bots(note) is wanted


async def test_mentions_are_let_through_only_where_the_settings_say_so(
    server: LoopbackInstance,
) -> None:
    """What the server holds back stays so, until the operator wants it otherwise."""
    bot = server.state.account("hearth", bot=True)
    client = await opened(server, server.state.token(bot))
    before = dict(bot.policy)
    assert held(bot)
    await greet(client, accepts=False)
    assert bot.policy == before
    await greet(client, accepts=True)
    assert held(bot) == []
    assert {k: v for k, v in bot.policy.items() if k not in FILTERS} == {
        k: v for k, v in before.items() if k not in FILTERS
    }
    asked = server.count()
    await greet(client, accepts=True)
    assert server.count() == asked + 1
    await client.close()


async def test_a_token_that_may_not_change_it_stops_nothing(server: LoopbackInstance) -> None:
    """Logged, with the remedy; the bot goes on with what it sees."""
    bot = server.state.account("hearth", bot=True)
    client = await opened(server, server.state.token(bot, " ".join(NEEDED)))
    await greet(client, accepts=True)
    assert held(bot)
    await client.close()


@pytest.mark.parametrize("differs", [GOTOSOCIAL])
async def test_a_server_without_such_a_policy_holds_nothing_back(server: LoopbackInstance) -> None:
    """404 is an answer: there is no filter."""
    client = await opened(server, server.state.token(server.state.account("hearth", bot=True)))
    await greet(client, accepts=True)
    (mentions,) = [one for one in await examine(client, accepts=True) if one.name == "mentions"]
    assert mentions.well
    await client.close()
