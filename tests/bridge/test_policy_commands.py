"""`!policy set`, `preset`, `undo`, `history`, `why`, `rehearse`: what is typed, and what holds afterwards."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from bots.conversation import Person, PlaceKind
from policies.document import STATE_TYPE
from policies.grant import GRANT_TYPE
from policies.room import LOOSEST, Voice
from tests.bridge.family import (
    CITY,
    HEARTH,
    KEY,
    grants,
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
    assert "`yes`" in offer.text
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


async def test_a_thumb_is_an_answer(server: FakeServer, start: Start) -> None:
    """Up or down on what we offered, of somebody who may; anywhere else it is not even kept."""
    server.room(ROOM, PlaceKind.GROUP, ADA, MOD, HEARTH)
    process = await start(policy=LOOSEST)
    server.say("!policy preset school", by=MOD)
    await process.idle()
    server.react(server.shown()[-1].id, "👎", by=MOD)
    await process.idle()
    assert "Nothing was changed." in server.shown()[-1].text
    server.say("!policy preset school", by=MOD)
    await process.idle()
    offer = server.shown()[-1].id
    kept = server.react(offer, "👍🏽", by=MOD)
    await process.idle()
    assert not (await policy(process)).remote_model
    told = server.shown()[-1]
    assert told.reply_to == offer  # not the thumb: clients show no reply to one
    idle = [server.react(offer, "👍", by=ADA), server.react(offer, "✅", by=BEN)]
    await process.idle()
    assert server.shown()[-1].id == told.id
    assert await process.journal.decided(OWN, ROOM, kept) is not None
    for one in idle:
        assert await process.journal.decided(OWN, ROOM, one) is None


async def test_why_alone_is_about_what_it_replies_to(server: FakeServer, start: Start) -> None:
    """`!policy why` as a reply says which rule decided; with nothing to look at, how to use it."""
    process = await start(policy=LOOSEST)
    question = server.say("@hearth When does the pool open?", by=ADA)
    await process.idle()
    server.say("!policy why", by=ADA, reply_to=question)
    await process.idle()
    assert "`policy.askers`" in server.shown()[-1].text
    server.say("!policy why", by=ADA)
    await process.idle()
    assert "`!policy history`" in server.shown()[-1].text


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


async def test_set_up_raises_what_members_could_write(server: FakeServer, start: Start) -> None:
    """Where any member could write the rules, and we may change levels: shown, confirmed, set."""
    server.room(ROOM, PlaceKind.GROUP, ADA, MOD, HEARTH, policy_power=0, ruled_by_members=True)
    process = await start(policy=LOOSEST)
    server.say("!policy setup", by=ADA)
    await process.idle()
    offer = server.shown()[-1]
    assert "Any member could write one of them" in offer.text
    server.react(offer.id, "👍", by=ADA)
    await process.idle()
    assert "This takes the power level 50" in said(server)
    assert (ROOM, "m.room.power_levels", "") not in server.state
    server.say("!policy setup", by=MOD)
    await process.idle()
    server.react(server.shown()[-1].id, "👍", by=MOD)
    await process.idle()
    set_ = json.loads(server.state[ROOM, "m.room.power_levels", ""][1])
    assert set_ == {"events": {STATE_TYPE: 50, GRANT_TYPE: 50}}
    server.room(ROOM, PlaceKind.GROUP, ADA, MOD, HEARTH, policy_power=50)
    server.say("!policy setup", by=MOD)
    await process.idle()
    assert "That is all I need." in server.shown()[-1].text


async def test_set_up_offers_nothing_that_it_may_not_do(server: FakeServer, start: Start) -> None:
    """Without the power to change levels it only says what is missing."""
    weak = Person(OWN, "Hearth", power=50)
    server.room(ROOM, PlaceKind.GROUP, ADA, MOD, weak, policy_power=0, ruled_by_members=True)
    process = await start(policy=LOOSEST)
    server.say("!policy setup", by=MOD)
    await process.idle()
    assert "Any member could write one of them" in server.shown()[-1].text
    assert "\U0001f44d" not in server.shown()[-1].text


async def test_moderators_allow_a_peer_where_they_decide(server: FakeServer, start: Start) -> None:
    """`!policy allow`: the grant and what the policy has to say for it, marked as decided without a vote."""
    server.room(ROOM, PlaceKind.GROUP, ADA, MOD, HEARTH)
    process = await start(policy=LOOSEST)
    allow = f"!policy allow ask @{CITY} classes=local-knowledge until=3 months key={KEY}"
    server.say(allow, by=ADA)
    await process.idle()
    assert "This takes the power level 50" in said(server)
    assert not await grants(process)
    server.say(allow, by=MOD)
    await process.idle()
    assert "without a vote" in server.shown()[-1].text
    assert CITY in (await policy(process)).ask_peers
    assert (await grants(process))[CITY].decided_by == MOD.id
    server.say("!policy allow voice off", by=MOD)
    await process.idle()
    assert (await policy(process)).voice is Voice.ALL


async def test_nobody_allows_a_peer_alone_where_all_decide(family: FakeServer, start: Start) -> None:
    """Where the room votes, `!policy allow` says so and sets nothing."""
    process = await start(policy=LOOSEST)
    family.say(f"!policy allow ask @{CITY} key={KEY}", by=MOD)
    await process.idle()
    assert "this room decides that by vote" in said(family)
    assert not await grants(process)
    assert CITY not in (await policy(process)).ask_peers
