"""Votes against a real Synapse: opened and ended by us, answered by people, read back as they stand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from bots.conversation import ClosePoll, OpenPoll, PutState, Say
from bridge.matrix import votes
from bridge.matrix.poll import RESPONSE
from bridge.platform import Broken, EventKind, Found, Refused
from policies.document import STATE_TYPE
from policies.grant import GRANT_TYPE
from policies.vote import Choice, tally

if TYPE_CHECKING:
    from tests.human import Human
    from tests.matrix.conftest import Bot, World

ANSWERS = {str(choice): choice.capitalize() for choice in Choice}
PEER = "bot:city.example"


async def opened(bot: Bot, room: str) -> str:
    poll = await bot.platform.perform(bot.action(room, OpenPoll("May I ask the city?", ANSWERS)))
    assert poll is not None
    return poll


async def until_told(bot: Bot, *event_ids: str) -> None:
    await bot.until(lambda: {event.id for event in bot.events} >= set(event_ids))


async def by_hand(bot: Bot, room: str, poll: str) -> None:
    """Vote with the bot's own account, as its operator could with another client."""
    client = bot.platform._client
    assert client is not None
    relation = {"m.relates_to": {"rel_type": "m.reference", "event_id": poll}}
    path = ("v3", "rooms", room, "send", RESPONSE, "by hand")
    await client.call("PUT", path, relation | {RESPONSE: {"answers": ["yes"]}})


async def empowered(ada: Human, bot: Bot, room: str) -> None:
    """Let the bot write what the room decides."""
    levels = (await ada.client.room_get_state_event(room, "m.room.power_levels")).content
    await ada.put_state(room, "m.room.power_levels", levels | {"events": {STATE_TYPE: 0, GRANT_TYPE: 0}})
    await bot.until(lambda: bot.facts(room).policy_power == 0)


@pytest.mark.parametrize("encrypted", [True, False])
async def test_a_vote_from_its_poll_to_its_count(world: World, encrypted: bool) -> None:  # noqa: FBT001 - a case
    """Answers, words in the thread, a changed mind and one taken back: each stands as its person left it."""
    ada, ben, cleo = await world.human(), await world.human("ben"), await world.human("cleo")
    bot = await world.bot()
    room = await world.room(ada, bot, ben, cleo, encrypted=encrypted)
    opening = bot.action(room, OpenPoll("May I ask the city?", ANSWERS))
    poll = await bot.platform.perform(opening)
    assert poll is not None
    shown = await ada.until_poll(room)
    assert (shown.id, shown.sender, shown.question) == (poll, bot.id, "May I ask the city?")
    assert (shown.answers, shown.encrypted) == (ANSWERS, encrypted)
    assert (shown.mark, shown.result) == ({"bot": True, "key": opening.key}, None)
    assert await bot.platform.ballots(room, poll) == ()

    first = await ada.vote(room, poll, "no")
    changed = await ada.vote(room, poll, "yes")
    word = await ben.say(room, "!vote objection: they keep logs", thread=poll, mentions=[])
    stands = await cleo.vote(room, poll, "yes")
    taken_back = await cleo.vote(room, poll, "abstain")
    await cleo.redact(room, taken_back)
    # What is no vote: said elsewhere, or about something else, or edited into one.
    await ben.say(room, "!vote no", mentions=[])
    talk = await ben.say(room, "what is this about?", thread=poll, mentions=[])
    await ben.edit(room, talk, "!vote yes")
    await ben.edit(room, word, "!vote yes")
    await cleo.vote(room, talk, "no")
    await bot.say(room, "!vote yes", thread=poll)
    await by_hand(bot, room, poll)
    last = await ada.say(room, "done", mentions=[])
    await until_told(bot, last)

    ballots = await bot.platform.ballots(room, poll)
    assert {(one.event_id, one.voter, one.choice) for one in ballots} == {
        (first, ada.user_id, Choice.NO),
        (changed, ada.user_id, Choice.YES),
        (word, ben.user_id, Choice.OBJECTION),
        (stands, cleo.user_id, Choice.YES),
    }
    voters = frozenset({ada.user_id, ben.user_id, cleo.user_id})
    count = tally(ballots, voters, opened_at=0, closes_at=2**53)
    assert (count.yes, count.no, count.objections, count.silent) == (2, 0, 1, 0)
    assert count.counted == tuple(sorted((changed, word, stands)))

    told = [event for event in bot.events if event.kind is EventKind.BALLOT and event.relates_to == poll]
    assert {event.id for event in told} == {first, changed, stands, taken_back}
    assert all(not event.text and not event.context_only for event in told)
    spoken = next(event for event in bot.events if event.id == word)
    assert (spoken.kind, spoken.thread) == (EventKind.MESSAGE, poll)

    closing = bot.action(room, ClosePoll(opening.key, "Passed."), target=poll)
    end = await bot.platform.perform(closing)
    ended = await ben.until_poll(room, lambda one: one.result is not None)
    assert (ended.id, ended.result) == (poll, "Passed.")
    assert await bot.platform.find(closing) == end


async def test_every_page_of_the_ballots_is_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """More votes than fit one page are all there, once each; beyond the bound nothing is counted."""
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot, encrypted=False)
    poll = await opened(bot, room)
    await ada.catch_up()
    sent = [await ada.vote(room, poll, "yes", fresh=False) for _ in range(7)]
    monkeypatch.setattr(votes, "_PAGE", 2)
    ballots = await bot.platform.ballots(room, poll)
    assert [one.event_id for one in ballots] == sent
    monkeypatch.setattr(votes, "MOST", 4)
    with pytest.raises(Broken, match="more than 4"):
        await bot.platform.ballots(room, poll)


@pytest.mark.parametrize("encrypted", [True, False])
async def test_a_poll_whose_acknowledgement_was_lost_is_found(world: World, encrypted: bool) -> None:  # noqa: FBT001 - a case
    """After a restart, by its key; a plain one from another device too; one never opened is absent."""
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot, encrypted=encrypted)
    action = bot.action(room, OpenPoll("Yes?", ANSWERS))
    never = bot.action(room, OpenPoll("Yes?", ANSWERS))
    poll = await bot.platform.perform(action)
    await bot.stop()
    again = await world.bot(bot.id, bot.cursor)
    assert await again.platform.find(action) == poll
    assert await again.platform.find(never) is Found.ABSENT
    assert await again.platform.perform(action) == poll
    await again.stop()
    other = await world.bot(bot.id, store=world.folder / "another device")
    assert await other.platform.find(action) == (Found.UNKNOWN if encrypted else poll)


async def test_a_vote_counts_once_it_can_be_read(world: World) -> None:
    """Without its key a vote is sealed and not counted; when the key comes it is told, and counts."""
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot)
    poll = await opened(bot, room)
    await ada.catch_up()
    device = bot.platform.device
    key = await ada.key_kept_from(room, bot.id, device)
    cast = await ada.vote(room, poll, "yes", fresh=False)
    await until_told(bot, cast)
    assert next(event for event in bot.events if event.id == cast).kind is EventKind.SEALED
    assert await bot.platform.ballots(room, poll) == ()
    await ada.hand_over(key, bot.id, device)
    await bot.until(lambda: bool(bot.opened))
    told = bot.opened[0]
    assert (told.id, told.kind, told.relates_to) == (cast, EventKind.BALLOT, poll)
    (ballot,) = await bot.platform.ballots(room, poll)
    assert (ballot.event_id, ballot.voter, ballot.choice) == (cast, ada.user_id, Choice.YES)


async def test_what_a_room_decides_is_written_down(world: World) -> None:
    """A policy and a grant are set, told with their place, found again, and set once only."""
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot)
    await empowered(ada, bot, room)
    policy = bot.action(room, PutState(STATE_TYPE, "", '{"v": 1, "per_person_day": 20}'))
    grant = bot.action(room, PutState(GRANT_TYPE, PEER, '{"v": 1, "peer": "bot:city.example"}'))
    for action in (policy, grant):
        assert await bot.platform.find(action) is Found.ABSENT
        event_id = await bot.platform.perform(action)
        assert event_id is not None
        assert await bot.platform.find(action) == event_id
        assert await bot.platform.perform(action) == event_id
    changed = bot.action(room, PutState(GRANT_TYPE, PEER, '{"v": 1}'))
    assert await bot.platform.find(changed) is Found.ABSENT
    await bot.until(lambda: bot.facts(room).place.grants != () and bot.facts(room).place.policy is not None)
    place = bot.facts(room).place
    assert place.policy is not None
    assert json.loads(place.policy.text) == {"v": 1, "per_person_day": 20}
    ((peer, standing),) = place.grants
    assert (peer, json.loads(standing.text), standing.set_by) == (
        PEER,
        {"v": 1, "peer": PEER},
        bot.id,
    )
    told = next(event for event in bot.events if event.kind is EventKind.GRANT)
    assert (told.id, told.relates_to, told.own) == (f"grant:{event_id}", PEER, True)


async def test_power_levels_are_raised_and_the_rest_stays(world: World) -> None:
    """A merge changes what it names; where that stands already, it is found."""
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot)
    levels = (await ada.client.room_get_state_event(room, "m.room.power_levels")).content
    users = levels["users"] | {bot.id: 100}
    events = levels.get("events", {}) | {STATE_TYPE: 0}
    await ada.put_state(room, "m.room.power_levels", levels | {"users": users, "events": events})
    await bot.until(lambda: bot.facts(room).policy_power == 50)
    wanted = json.dumps({"events": {STATE_TYPE: 60, GRANT_TYPE: 60}})
    put = bot.action(room, PutState("m.room.power_levels", "", wanted, merge=True))
    assert await bot.platform.find(put) is Found.ABSENT
    event_id = await bot.platform.perform(put)
    assert await bot.platform.find(put) == event_id
    await bot.until(lambda: bot.facts(room).policy_power == 60)
    now = (await ada.client.room_get_state_event(room, "m.room.power_levels")).content
    assert now == levels | {"users": users, "events": events | {STATE_TYPE: 60, GRANT_TYPE: 60}}


async def test_a_redacted_grant_is_empty(world: World) -> None:
    """Whoever may redact can stop a grant; so it is after a restart, which sees only what is left of it."""
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot)
    event_id = await ada.put_state(room, GRANT_TYPE, {"v": 1}, PEER)
    await ada.put_state(room, GRANT_TYPE, {"v": 1}, ada.user_id)
    await bot.until(lambda: len(bot.facts(room).place.grants) == 1)
    redaction = await ada.redact(room, event_id)
    await until_told(bot, f"grant:{redaction}")
    told = [event for event in bot.events if event.kind is EventKind.GRANT]
    assert [(event.relates_to, json.loads(event.text)) for event in told] == [
        (PEER, {"was": None, "now": '{"v": 1}'}),
        (PEER, {"was": '{"v": 1}', "now": "{}"}),
    ]
    assert [(peer, one.text) for peer, one in bot.facts(room).place.grants] == [(PEER, "{}")]
    await bot.stop()
    again = await world.bot(bot.id, bot.cursor)
    assert [(peer, one.text) for peer, one in again.facts(room).place.grants] == [(PEER, "{}")]


async def test_without_the_power_it_is_refused_with_what_is_missing(world: World) -> None:
    """The remedy names the level and what it is for: state, and a poll in a room where only some speak."""
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot, encrypted=False)
    with pytest.raises(Refused, match=r"power level of 50 .*it has 0.*community\.hearth\.policy") as refused:
        await bot.platform.perform(bot.action(room, PutState(STATE_TYPE, "", '{"v": 1}')))
    assert refused.value.rule == "M_FORBIDDEN"
    levels = (await ada.client.room_get_state_event(room, "m.room.power_levels")).content
    polls = {"org.matrix.msc3381.poll.start": 30}
    await ada.put_state(room, "m.room.power_levels", levels | {"events": polls})
    with pytest.raises(Refused, match=r"power level of 30 .*poll\.start"):
        await bot.platform.perform(bot.action(room, OpenPoll("Yes?", ANSWERS)))
    await bot.platform.perform(bot.action(room, Say("words are allowed")))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ('{"v": 1', "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"v": "\\ud800"}', "not JSON"),
        ("[" * 20_000 + "]" * 20_000, "not JSON"),
        (json.dumps({"v": "ü" * 30_000}), "60,008 bytes"),
    ],
)
async def test_a_state_that_no_event_can_carry_is_broken(world: World, content: str, what: str) -> None:
    """Known before anything is sent; and it is not to be found."""
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot, encrypted=False)
    action = bot.action(room, PutState(STATE_TYPE, "", content))
    with pytest.raises(Broken, match=what):
        await bot.platform.perform(action)
    assert await bot.platform.find(action) is Found.ABSENT


async def test_the_largest_state_is_accepted(world: World) -> None:
    """What is let through fits an event of the server."""
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot, encrypted=False)
    await empowered(ada, bot, room)
    action = bot.action(room, PutState(STATE_TYPE, "", json.dumps({"v": "ü" * 29_990})))
    assert await bot.platform.perform(action) is not None


async def test_members_are_there_since_they_joined(world: World) -> None:
    """A new name does not make anybody younger; leaving and coming back does."""
    ada, ben, bot = await world.human(), await world.human("ben"), await world.bot()
    room = await world.room(ada, bot, ben, encrypted=False)

    def since(person: Human) -> int:
        return next((one.since for one in bot.facts(room).members if one.id == person.user_id), 0)

    await bot.until(lambda: since(ben) > 0)
    first = since(ben)
    assert 0 < since(ada) <= first
    await ben.set_name("Benjamin")
    await bot.until(lambda: any(one.name == "Benjamin" for one in bot.facts(room).members))
    assert since(ben) == first
    await ben.leave(room)
    await bot.until(lambda: since(ben) == 0)
    await ada.invite(room, ben.user_id)
    await ben.join(room)
    await bot.until(lambda: since(ben) > first)
