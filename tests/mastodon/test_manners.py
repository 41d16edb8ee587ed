"""How the account presents itself, and what it asks of its server: only what the settings say."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
import structlog

from bridge.mastodon.client import Client
from bridge.mastodon.login import NEEDED, TO_MARK
from bridge.mastodon.manners import ACCEPT, FILTERS, examine, greet, mark, wants_no_bots
from bridge.platform import Refused
from bridge.schedule import SystemClock
from tests.fakes.instance import LoopbackInstance
from tests.fakes.instance_state import GOTOSOCIAL, MASTODON, TAKAHE, Differs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bridge.mastodon.manners import Finding
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
        ("<p>tea<br/>#NOBOT.</p>", True),
        ("#nobot", True),
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


# -- what `hearth check` says ----------------------------------------------------------------------


async def found(client: Client, *, accepts: bool = False) -> dict[str, Finding]:
    return {one.name: one for one in await examine(client, accepts=accepts)}


async def test_looking_changes_nothing(server: LoopbackInstance) -> None:
    """Two reads, no write, whatever the settings would have done at the start."""
    bot = server.state.account("hearth")
    before = dict(bot.policy)
    client = await opened(server, server.state.token(bot))
    server.log.clear()
    await examine(client, accepts=True)
    assert (bot.policy, bot.bot, bot.note) == (before, False, "")
    assert [one.method for one in server.log] == ["GET", "GET"]
    await client.close()


@pytest.mark.parametrize(
    ("policy", "accepts", "well", "words"),
    [
        ({"for_private_mentions": "accept"}, False, True, "nobody's are held back"),
        ({}, False, False, "holds back private ones by strangers"),
        ({"for_not_following": "drop"}, False, False, "holds back those by strangers"),
        ({}, True, True, "the next start lets them in"),
    ],
)
async def test_what_is_held_back_is_said(
    server: LoopbackInstance,
    policy: dict[str, str],
    accepts: bool,  # noqa: FBT001 - a column
    well: bool,  # noqa: FBT001 - a column
    words: str,
) -> None:
    """Whose mentions never arrive, and what to set so that they do."""
    bot = server.state.account("hearth", bot=True)
    bot.policy |= policy
    client = await opened(server, server.state.token(bot))
    said = (await found(client, accepts=accepts))["mentions"]
    assert said.well is well
    assert words in said.found
    assert ("accept_private_mentions = true" in said.remedy) is not well
    await client.close()


async def test_a_policy_that_cannot_be_read_is_no_good_news(server: LoopbackInstance) -> None:
    """The token lacks the right to: that is said, with the remedy, and the rest is said too."""
    bot = server.state.account("hearth", bot=True, note="Ada runs me. What is kept is on her page.")
    client = await opened(server, server.state.token(bot, "read:accounts read:statuses write:statuses"))
    said = await found(client)
    assert {name: one.well for name, one in said.items()} == {
        "account": True,
        "bot mark": True,
        "profile": True,
        "mentions": False,
    }
    assert "hearth mastodon login" in said["mentions"].remedy
    await client.close()


@pytest.mark.parametrize(
    ("differs", "how"), [(MASTODON, "streaming"), (GOTOSOCIAL, "streaming"), (TAKAHE, "polling")]
)
async def test_an_account_is_named_with_its_server(server: LoopbackInstance, how: str) -> None:
    """Who, on what, and whether mentions are told of or asked for."""
    client = await opened(server, server.state.token(server.state.account("hearth")))
    said = (await found(client))["account"].found
    assert said.startswith(f"{client.me.address} on {client.instance.software} ")
    assert said.endswith(f", {how}")
    await client.close()


async def test_the_mark_is_set_with_the_right_to(server: LoopbackInstance) -> None:
    """Set once; nothing else of the profile is touched; without the right it is refused, and nothing set."""
    bot = server.state.account("hearth", note="Ada runs me.")
    weak = await opened(server, server.state.token(bot, " ".join(NEEDED)))
    with pytest.raises(Refused, match="hearth mastodon login"):
        await mark(weak)
    assert not bot.bot
    await weak.close()
    client = await opened(server, server.state.token(bot, f"read:accounts {TO_MARK}"))
    await mark(client)
    assert (bot.bot, bot.note) == (True, "Ada runs me.")
    await client.close()


async def test_what_is_held_back_is_logged_with_its_remedy(server: LoopbackInstance) -> None:
    """At every start, and as a warning: else nobody would ever know."""
    bot = server.state.account("hearth", bot=True)
    client = await opened(server, server.state.token(bot))
    with structlog.testing.capture_logs() as logged:
        await greet(client, accepts=False)
        await greet(client, accepts=True)
        await greet(client, accepts=True)
    assert [(one["event"], one["log_level"]) for one in logged] == [
        ("mentions_held_back", "warning"),
        ("mentions_accepted", "info"),
    ]
    assert "accept_private_mentions" in logged[0]["remedy"]
    assert logged[0]["policy"] == logged[1]["policy"] == ["for_private_mentions"]
    await client.close()
