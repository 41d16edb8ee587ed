"""`!policy set`, `preset`, `undo`, `history`, `why`, `rehearse`: what is typed, and what holds afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bots.conversation import PlaceKind
from policies.room import LOOSEST, Voice
from tests.bridge.family import (
    CITY,
    HEARTH,
    policy,
    said,
)
from tests.fakes.server import ADA, BEN, MOD, OWN, ROOM, FakeServer

if TYPE_CHECKING:
    from tests.bridge.family import Start


async def test_a_moderator_sets_and_undoes(server: FakeServer, start: Start) -> None:
    """Where admins decide: one thing at a time, with what it was; mistakes get a guess; back again."""
    server.room(ROOM, PlaceKind.GROUP, ADA, MOD, HEARTH)
    process = await start(policy=LOOSEST)
    for words in ("!policy set voise off", "!policy set voice off", "!policy set voice off"):
        server.say(words, by=MOD)
        await process.idle()
    assert "There is no `voise` in a policy. Did you mean `voice`?" in said(server)
    assert "- What I listen to: nothing (was: every voice message, and I write it down)" in said(server)
    assert "That is how it is already." in said(server)
    assert (await policy(process)).voice is Voice.OFF
    server.say("!policy set language nl", by=MOD)
    await process.idle()
    server.say("!policy history", by=ADA)
    server.say("!policy undo", by=MOD)
    await process.idle()
    assert "`@mod:home`: `language`" in said(server) or "`@hearth:home`: `language`" in said(server)
    assert (await policy(process)).language == ""
    assert (await policy(process)).voice is Voice.OFF


async def test_a_preset_shows_what_it_changes_and_waits(server: FakeServer, start: Start) -> None:
    """Only a yes of somebody who may sets it."""
    server.room(ROOM, PlaceKind.GROUP, ADA, MOD, HEARTH)
    process = await start(policy=LOOSEST)
    server.say("!policy preset school", by=MOD)
    await process.idle()
    offer = server.shown()[-1]
    assert "What I listen to" in offer.text
    assert "Reply `yes`" in offer.text
    server.say("no", by=MOD, reply_to=offer.id)
    await process.idle()
    assert "Nothing was changed." in said(server)
    server.say("!policy preset school", by=MOD)
    await process.idle()
    server.say("yes", by=ADA, reply_to=server.shown()[-1].id)
    await process.idle()
    assert "This takes the power level 50" in said(server)
    server.say("!policy preset school", by=MOD)
    await process.idle()
    server.say("Yes!", by=MOD, reply_to=server.shown()[-1].id)
    await process.idle()
    assert not (await policy(process)).remote_model


async def test_why_is_a_dry_run(family: FakeServer, start: Start) -> None:
    """A question in quotes, with a peer or without: what would be decided, and nothing is asked."""
    process = await start(policy=LOOSEST)
    family.say('!policy why "When does the pool open?"', by=ADA)
    family.say(f'!policy why "When does the pool open?" peer=@{CITY}', by=ADA)
    await process.idle()
    assert "That would be allowed. The rule is `policy.askers`." in said(family)
    assert f"That would be refused. Nobody has allowed `{CITY}` here." in said(family)
    assert "The rule is `room.ask_peers`." in said(family)
    assert process.bot.runs == []  # type: ignore[attr-defined]  # a Parrot


async def test_rehearse_counts_and_keeps_no_words(family: FakeServer, start: Start) -> None:
    """Last month's questions by what was recorded of each."""
    process = await start(policy=LOOSEST)
    for words in (
        "When does the library open?",
        "My son has a fever, what now?",
        "Does Ben like the museum?",
    ):
        family.say(words, by=ADA)
        await process.idle()
    family.say(f"!policy rehearse ask @{CITY} classes=general", by=BEN)
    await process.idle()
    assert "Of 3 questions of the last 30 days, 2 would have been allowed to leave this room; 1 with" in said(
        family
    )
    assert any("screened" in one for one in await process.journal.asked(OWN, ROOM, 0))
    await process.journal.expire(process.clock.now() + 1)
    assert not any("screened" in one or "names" in one for one in await process.journal.asked(OWN, ROOM, 0))
