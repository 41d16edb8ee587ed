"""Votes from a proposal to what is in force: who counts, when it ends, who can stop it, and who cannot."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bots.conversation import Person, PlaceKind
from bots.keywords import spoken
from bridge.platform import Retryable
from policies.document import STATE_TYPE
from policies.grant import GRANT_TYPE, Grant, Status
from policies.room import LOOSEST, Voice
from policies.vote import EXTENSION_MS, Choice, electorate_hash
from tests.bridge.family import (
    ASK,
    BOT,
    CITY,
    DAY,
    EVE,
    HEARTH,
    KEY,
    grants,
    policy,
    propose,
    rule,
    said,
)
from tests.fakes.server import ADA, BEN, MOD, OWN, ROOM, FakeServer

if TYPE_CHECKING:
    from tests.bridge.family import Start


async def test_what_all_want_holds_at_once(family: FakeServer, start: Start) -> None:
    """The ballot shows what would change; when nobody is left to change it, the room is told and it holds."""
    process = await start(policy=LOOSEST)
    poll = await propose(process)
    ballot = family.polls[poll]
    assert "`voice` = `off`" in ballot.text
    assert "What I listen to: nothing (now: every voice message" in ballot.text
    assert "at least 3 yes of 3" in ballot.text
    assert list(ballot.answers) == [str(one) for one in Choice]
    assert electorate_hash([ADA.id, BEN.id, MOD.id])[:16] in said(family)
    family.vote(poll, by=ADA)
    family.vote(poll, by=BEN)
    await process.idle()
    assert (await policy(process)).voice is Voice.ALL
    family.vote(poll, by=MOD)
    await process.idle()
    assert (await policy(process)).voice is Voice.OFF
    assert family.polls[poll].result is not None
    assert "Passed: enough said yes." in said(family)
    assert "3 yes, 0 no, 0 with an objection, 0 abstained, 0 said nothing." in said(family)


async def test_the_last_vote_of_each_counts_and_of_nobody_else(family: FakeServer, start: Start) -> None:
    """Changed, taken back, redacted; outsiders, late joiners, bots and nonsense change nothing."""
    process = await start(policy=LOOSEST)
    poll = await propose(process)

    async def vote(choice: Choice | None, by: Person) -> str:
        await process.clock.sleep(1)
        return family.vote(poll, choice, by=by)

    no = await vote(Choice.NO, ADA)
    await vote(Choice.YES, ADA)
    family.redact(await vote(Choice.NO, ADA))  # the yes before it counts again
    await vote(Choice.NO, BEN)
    await vote(None, BEN)  # taken back
    family.redact(no)
    for stranger in (EVE, BOT):
        family.vote(poll, by=stranger)
    family.say("!vote perhaps", by=MOD, thread=poll, mention=False)
    await process.idle()
    family.say("!recount", by=ADA)
    await process.idle()
    assert "1 yes, 0 no, 0 with an objection, 0 abstained, 2 said nothing." in said(family)
    await process.clock.sleep(25 * 3600)
    await process.idle()
    assert "Not passed: too few said yes." in said(family)
    assert (await policy(process)).voice is Voice.ALL


async def test_words_are_as_good_as_a_poll(family: FakeServer, start: Start) -> None:
    """`!vote yes` in the thread, for clients without polls: noted, and counted once."""
    process = await start(policy=LOOSEST)
    poll = await propose(process)
    for person in (ADA, BEN, MOD):
        family.say("!vote yes", by=person, thread=poll, mention=False)
    family.say("!vote yes", by=EVE, thread=poll, mention=False)
    await process.idle()
    assert said(family).count("Noted: Yes.") == 3
    assert "you were not a member" in said(family)
    assert (await policy(process)).voice is Voice.OFF
    family.say("!vote no", by=ADA, thread=poll, mention=False)
    family.say("!vote no", by=ADA)
    await process.idle()
    assert "This vote is over." in said(family)
    assert "Please write that in the thread" in said(family)


async def test_votes_of_a_downtime_count_once(family: FakeServer, start: Start) -> None:
    """Nobody was there when they came; the count is made from the room, before and after its end."""
    process = await start(policy=LOOSEST)
    poll = await propose(process)
    family.vote(poll, by=ADA)
    await process.idle()
    await process.stop()
    family.vote(poll, by=BEN)
    family.vote(poll, by=MOD)
    await process.clock.sleep(30 * 3600)
    family.vote(poll, Choice.NO, by=BEN)  # too late
    again = await start(policy=LOOSEST)
    await again.idle()
    assert "3 yes, 0 no" in said(family)
    assert said(family).count("Passed") == 1
    assert (await policy(again)).voice is Voice.OFF
    await again.stop()
    third = await start(policy=LOOSEST)
    await third.idle()
    assert said(family).count("Passed") == 1


async def test_an_objection_gives_a_week_more_once(family: FakeServer, start: Start) -> None:
    """It goes on, everybody is told, and whoever objected can be convinced; otherwise it fails."""
    family.room(ROOM, PlaceKind.GROUP, ADA, BEN, MOD, EVE, HEARTH)
    rule(family, mode="consent", voting_hours=24, voice="named")
    process = await start(policy=LOOSEST)
    poll = await propose(process)
    for person in (ADA, BEN, MOD):
        family.vote(poll, by=person)
    family.vote(poll, Choice.OBJECTION, by=EVE)
    await process.idle()
    await process.clock.sleep(25 * 3600)
    await process.idle()
    assert "There is an objection, so the vote goes on" in said(family)
    assert family.polls[poll].result is None
    await process.clock.sleep(EXTENSION_MS / 1000)
    await process.idle()
    assert "Not passed: an objection stands." in said(family)
    second = await propose(process)
    for person in (ADA, BEN, MOD):
        family.vote(second, by=person)
    family.vote(second, Choice.OBJECTION, by=EVE)
    await process.clock.sleep(25 * 3600)
    await process.idle()
    family.vote(second, Choice.ABSTAIN, by=EVE)
    await process.idle()
    assert "Passed: enough said yes." in said(family)


async def test_an_admin_alone_widens_nothing(family: FakeServer, start: Start) -> None:
    """What narrows holds at once; what widens waits for a vote, and the room is told. So do commands."""
    process = await start(policy=LOOSEST)
    rule(family, mode="consent", voting_hours=24, voice="asked")
    await process.idle()
    assert (await policy(process)).voice is Voice.ASKED
    rule(family, mode="admin", voice="all", ask_peers=[CITY], classes_out=["general"], per_person_day=3)
    await process.idle()
    now = await policy(process)
    assert (now.voice, now.ask_peers, now.per_person_day, str(now.mode)) == (
        Voice.ASKED, frozenset(), 3, "consent",
    )  # fmt: skip
    assert "has no effect: this room decides that by vote" in said(family)
    family.say("!policy", by=BEN)
    family.say("!policy set voice all", by=MOD)
    family.say("!policy set voice off", by=ADA)
    await process.idle()
    assert said(family).count("has no effect") == 2
    assert "This would allow more (`voice`)" in said(family)
    assert "This takes the power level 50 in this room, and yours is 0." in said(family)
    family.put_state(GRANT_TYPE, _grant(), state_key=CITY)
    await process.idle()
    assert await grants(process) == {}
    assert f"wrote a permission for `{CITY}`. It has no effect" in said(family)


def _grant(**changes: Any) -> str:
    document = {
        "v": 1, "peer": CITY, "app_ed25519": KEY, "direction": "ask", "classes": ["local-knowledge"],
        "not_before": 0, "until": 90 * DAY, "status": "active",
    }  # fmt: skip
    return json.dumps(document | changes)


async def test_a_vote_cannot_be_borrowed(family: FakeServer, start: Start) -> None:
    """A document that cites a passed vote, but says more than it decided, is no more than any other."""
    process = await start(policy=LOOSEST)
    poll = await propose(process, "!propose voice off")
    for person in (ADA, BEN, MOD):
        family.vote(poll, by=person)
    await process.idle()
    rule(family, mode="consent", voting_hours=24, voice="all", decided_by=poll)
    await process.idle()
    assert (await policy(process)).voice is Voice.OFF
    rule(family, mode="consent", voting_hours=24, voice="off", ask_peers=[CITY], decided_by=poll)
    await process.idle()
    assert (await policy(process)).ask_peers == frozenset()


async def test_an_earlier_vote_does_not_undo_a_later_one(family: FakeServer, start: Start) -> None:
    """A document that the room once decided is a document like any other after the next vote."""
    process = await start(policy=LOOSEST)

    async def agree(words: str) -> str:
        poll = await propose(process, words)
        for person in (ADA, BEN, MOD):
            family.vote(poll, by=person)
        await process.idle()
        return family.state[ROOM, STATE_TYPE, ""][1]

    first = await agree("!propose voice named")
    await agree("!propose voice off")
    family.put_state(STATE_TYPE, first)
    await process.idle()
    assert (await policy(process)).voice is Voice.OFF


async def test_two_votes_that_end_together_both_hold(family: FakeServer, start: Start) -> None:
    """The second is about what the first has decided, before the room's state tells of it."""
    process = await start(policy=LOOSEST)
    polls = [await propose(process, words) for words in ("!propose voice off", "!propose answers direct")]
    for poll in polls:
        for person in (ADA, BEN):
            family.vote(poll, by=person)
    await process.idle()
    await process.stop()
    for poll in polls:
        family.vote(poll, by=MOD)
    again = await start(policy=LOOSEST)
    await again.idle()
    now = await policy(again)
    assert (now.voice, str(now.answers)) == (Voice.OFF, "direct")
    stands = json.loads(family.state[ROOM, STATE_TYPE, ""][1])
    assert (stands["voice"], stands["answers"]) == ("off", "direct")


async def test_a_room_has_only_so_many_votes_at_once(family: FakeServer, start: Start) -> None:
    """Ten are open; the eleventh has to wait. A ballot shows all of what it is about."""
    process = await start(policy=LOOSEST)
    persona = "Be kind. " * 100
    poll = await propose(process, f"!propose persona {persona}")
    assert persona.strip() in family.polls[poll].text
    for number in range(9):
        await process.clock.sleep(60)
        await propose(process, f"!propose ask @bot:c{number}.example")
    await process.clock.sleep(60)
    family.say("!propose voice off")
    await process.idle()
    assert "There are 10 votes open here already." in said(family)
    assert len(family.polls) == 10


async def test_a_peer_is_on_trial_renewed_and_lapses(family: FakeServer, start: Start) -> None:
    """Allowed for thirty days, the room is reminded, votes again for the whole term."""
    process = await start(policy=LOOSEST)

    async def agree() -> None:
        poll = await propose(process, ASK)
        for person in (ADA, BEN, MOD):
            family.vote(poll, by=person)
        await process.idle()

    await agree()
    now = await policy(process)
    assert now.ask_peers == frozenset({CITY})
    grant = (await grants(process))[CITY]
    assert isinstance(grant, Grant)
    assert (grant.status, grant.until - grant.not_before, grant.app_ed25519) == (Status.TRIAL, 30 * DAY, KEY)
    assert "The trial with" not in said(family)
    await process.clock.sleep(25 * 24 * 3600)
    await process.idle()
    await process.clock.sleep(24 * 3600)
    assert said(family).count("The trial with") == 1
    await agree()
    grant = (await grants(process))[CITY]
    assert (grant.status, grant.until - grant.not_before) == (Status.ACTIVE, 90 * DAY)
    family.say("!peers", by=BEN)
    await process.idle()
    assert f"- `{CITY}`: we may ask them, about local knowledge, until" in said(family)


async def test_the_brake_needs_a_moderator_or_two(family: FakeServer, start: Start) -> None:
    """It holds at once, and again after the next sync; no old vote brings it back."""
    process = await start(policy=LOOSEST)
    poll = await propose(process, ASK)
    for person in (ADA, BEN, MOD):
        family.vote(poll, by=person)
    await process.idle()
    family.say("!brake @bot:club.example", by=ADA)
    family.say(f"!brake @{CITY}", by=ADA)
    family.say(f"!brake @{CITY}", by=ADA)
    await process.idle()
    assert CITY in await grants(process)
    assert "Nothing is agreed or being voted on with that bot" in said(family)
    assert f"Stopping `{CITY}` takes 2 members, and so far there are 1" in said(family)
    family.say(f"!brake @{CITY}", by=BEN)
    await process.idle()
    assert "Stopped: nothing goes between this room and" in said(family)
    held = await grants(process)
    assert held.get(CITY) is None or held[CITY].status is Status.SUSPENDED
    stands = json.loads(family.state[ROOM, GRANT_TYPE, CITY][1])
    assert stands["status"] == "suspended"
    family.put_state(GRANT_TYPE, json.dumps(stands | {"status": "trial"}), state_key=CITY)
    await process.idle()
    held = await grants(process)
    assert held.get(CITY) is None or held[CITY].status is Status.SUSPENDED


async def test_a_brake_holds_where_we_may_not_write(server: FakeServer, start: Start) -> None:
    """A moderator alone; the grant that still stands in the room is not taken up again."""
    family = server
    family.room(ROOM, PlaceKind.GROUP, ADA, BEN, MOD, Person(OWN, "Hearth"))
    rule(family)
    family.put_state(GRANT_TYPE, _grant(), state_key=CITY)
    process = await start(policy=LOOSEST)
    await process.idle()
    assert CITY in await grants(process)
    family.say(f"!brake @{CITY}", by=MOD)
    await process.idle()
    assert await grants(process) == {}
    family.sync(family.rooms[ROOM])
    rule(family, voice="asked")
    await process.idle()
    assert await grants(process) == {}


async def test_a_result_that_we_may_not_write_can_be_set_by_hand(family: FakeServer, start: Start) -> None:
    """The room is told what to set; set just so, by anybody with the power, it holds."""
    family.room(ROOM, PlaceKind.GROUP, ADA, BEN, MOD, Person(OWN, "Hearth"))
    rule(family, mode="consent", voting_hours=24, voice="asked")
    process = await start(policy=LOOSEST)
    poll = await propose(process, "!propose voice named")
    for person in (ADA, BEN, MOD):
        family.vote(poll, by=person)
    await process.idle()
    assert (await policy(process)).voice is Voice.ASKED
    block = said(family).partition("```json\n")[2].partition("\n```")[0]
    _, _, content = block.partition("\n")
    family.put_state(STATE_TYPE, content)
    await process.idle()
    assert (await policy(process)).voice is Voice.NAMED


async def test_how_it_votes_is_voted_on_too(family: FakeServer, start: Start) -> None:
    """The hours of a vote are a rule like any other, shown before and after; they take a clearer majority."""
    process = await start(policy=LOOSEST)
    poll = await propose(process, "!propose voting_hours 48")
    assert "How you vote: for 48 hours" in family.polls[poll].text
    assert "(now: for 24 hours" in family.polls[poll].text
    assert "at least 3 yes for each vote against" in family.polls[poll].text
    for person in (ADA, BEN, MOD):
        family.vote(poll, by=person)
    await process.idle()
    assert (await policy(process)).voting_hours == 48
    family.say("!propose classes_out health", by=ADA)
    await process.idle()
    closed = LOOSEST.model_copy(update={"classes_out": frozenset()})
    await process.stop()
    again = await start(policy=closed)
    family.say("!propose classes_in general, health", by=ADA)
    family.say("!propose classes_out general", by=ADA)
    await again.idle()
    assert "so a vote is no use" in said(family)


async def test_one_matter_is_voted_on_once_at_a_time(family: FakeServer, start: Start) -> None:
    """A second proposal about the same is told so; about something else it opens its own."""
    process = await start(policy=LOOSEST)
    await propose(process)
    family.say("!propose voice asked", by=BEN)
    await process.idle()
    assert "There is a vote about that already." in said(family)
    assert len(family.polls) == 1
    await propose(process, "!propose answers direct", by=BEN)
    assert len(family.polls) == 2


async def test_a_proposal_that_is_taken_back_is_no_vote(family: FakeServer, start: Start) -> None:
    """Its poll goes with it, and nothing comes of it."""
    process = await start(policy=LOOSEST)
    question = family.say("!propose voice off")
    await process.idle()
    (poll,) = family.polls
    for person in (ADA, BEN):
        family.vote(poll, by=person)
    family.redact(question)
    family.vote(poll, by=MOD)
    await process.clock.sleep(30 * 3600)
    await process.idle()
    assert family.log[poll].redacted
    assert (await policy(process)).voice is Voice.ALL
    assert "Passed" not in said(family)


async def test_a_proposal_is_not_changed_by_editing_it(family: FakeServer, start: Start) -> None:
    """What people vote on stays what they voted on; deleting the message ends it, edited or not."""
    process = await start(policy=LOOSEST)
    question = family.say("!propose voice of")
    await process.idle()
    assert not family.polls
    family.edit(question, "!propose voice off")
    await process.idle()
    (poll,) = family.polls
    family.edit(question, "!propose preview never")
    await process.idle()
    assert list(family.polls) == [poll]
    assert "editing it changes nothing" in said(family)
    family.redact(question)
    for person in (ADA, BEN, MOD):
        family.vote(poll, by=person)
    await process.idle()
    assert (await policy(process)).voice is Voice.ALL


async def test_a_key_is_shown_as_words(family: FakeServer, start: Start) -> None:
    """On the ballot, with its letters, and by `!peers` once it is agreed on."""
    process = await start(policy=LOOSEST)
    poll = await propose(process, ASK)
    assert f"{spoken(KEY)} (`{KEY}`)" in family.polls[poll].text
    for person in (ADA, BEN, MOD):
        family.vote(poll, by=person)
    await process.idle()
    family.say("!peers", by=BEN)
    await process.idle()
    assert f"its key is {spoken(KEY)}" in said(family)


async def test_a_brake_ends_the_poll(family: FakeServer, start: Start) -> None:
    """People see that there is nothing more to vote on."""
    process = await start(policy=LOOSEST)
    poll = await propose(process, ASK)
    family.vote(poll, by=ADA)
    family.say(f"!brake @{CITY}", by=MOD)
    await process.idle()
    result = family.polls[poll].result
    assert result is not None
    assert "Stopped" in result
    family.vote(poll, by=BEN)
    family.vote(poll, by=MOD)
    await process.idle()
    assert CITY not in await grants(process)


async def test_everybody_may_propose_what_nobody_may_ask(family: FakeServer, start: Start) -> None:
    """Whoever was shut out of asking is not shut out of deciding."""
    rule(family, mode="consent", voting_hours=24, askers=[MOD.id])
    process = await start(policy=LOOSEST)
    poll = await propose(process, "!propose askers *", by=ADA)
    for person in (ADA, BEN, MOD):
        family.vote(poll, by=person)
    await process.idle()
    assert (await policy(process)).admits(ADA.id)


async def test_a_room_that_cannot_be_read_is_asked_again(family: FakeServer, start: Start) -> None:
    """The count waits for the server; nothing is lost meanwhile."""

    process = await start(policy=LOOSEST)
    poll = await propose(process)
    down = True
    whole = process.platform.ballots

    async def ballots(place: str, event: str) -> Any:
        if down:
            raise Retryable("the server is down")
        return await whole(place, event)

    process.platform.ballots = ballots  # type: ignore[assignment,method-assign]  # a test
    for person in (ADA, BEN, MOD):
        family.vote(poll, by=person)
    await process.clock.sleep(300)
    assert (await policy(process)).voice is Voice.ALL
    down = False
    await process.idle()
    assert (await policy(process)).voice is Voice.OFF


async def test_a_clock_that_jumps_ahead_ends_no_vote(family: FakeServer, start: Start) -> None:
    """Ours says that it is over, the server's that it is not: people can vote until both agree."""
    process = await start(policy=LOOSEST)
    poll = await propose(process)
    ours = family.now
    family.now = lambda: ours() - 3 * DAY
    await process.clock.sleep(3 * DAY / 1000)
    for person in (ADA, BEN):
        family.vote(poll, by=person)
    await process.clock.sleep(60)
    assert family.polls[poll].result is None
    await process.clock.sleep(25 * 3600)
    await process.idle()
    assert family.polls[poll].result is not None
    assert "2 yes, 0 no" in said(family)


async def test_a_thousand_votes_at_once_are_few_counts(server: FakeServer, start: Start) -> None:
    """A city's room: each ballot is read, none makes a request of its own, and the room is told once."""
    people = [Person(f"@person{number}:home") for number in range(1_000)]
    server.room(ROOM, PlaceKind.GROUP, *people, MOD, HEARTH)
    rule(server, mode="majority", voting_hours=24)
    process = await start(policy=LOOSEST)
    poll = await propose(process, "!propose voice off", by=people[0])
    assert "at least 48 yes of 1001" in server.polls[poll].text
    reads = 0
    whole = process.platform.ballots

    async def ballots(place: str, event: str) -> Any:
        nonlocal reads
        reads += 1
        return await whole(place, event)

    process.platform.ballots = ballots  # type: ignore[assignment,method-assign]  # counted
    for number, person in enumerate([*people, MOD]):
        server.vote(poll, Choice.YES if number % 3 else Choice.NO, by=person)
    await process.idle()
    assert "667 yes, 334 no" in said(server)
    assert said(server).count("Not passed: too many were against it.") + said(server).count("Passed") == 1
    assert reads < 100


async def test_a_ballot_that_a_moderator_deletes_ends_nothing_early(family: FakeServer, start: Start) -> None:
    """Without its poll there is nothing to count: it fails when it is due, and the room is told why."""
    process = await start(policy=LOOSEST)
    poll = await propose(process)
    family.vote(poll, by=ADA)
    await process.idle()
    family.redact(poll, by=MOD)
    await process.idle()
    assert "assed" not in said(family)
    await process.clock.sleep(25 * 3600)
    await process.idle()
    assert "Not passed" in said(family)
    assert (await policy(process)).voice is Voice.ALL


async def test_leaving_the_room_ends_its_votes_in_silence(family: FakeServer, start: Start) -> None:
    """What we cannot read we do not count; nothing is said or set in a room that we have left."""
    process = await start(policy=LOOSEST)
    poll = await propose(process)
    for person in (ADA, BEN):
        family.vote(poll, by=person)
    await process.idle()
    family.leave()
    family.vote(poll, by=MOD)
    await process.clock.sleep(25 * 3600)
    await process.idle()
    assert "assed" not in said(family)
    assert [vote.state for vote in await process.journal.votes(OWN, ROOM, 5)] == ["failed"]


async def test_a_vote_does_not_move_with_its_room(family: FakeServer, start: Start) -> None:
    """The room was upgraded: the new one is told once that the vote has ended, and nothing comes of it."""
    process = await start(policy=LOOSEST)
    poll = await propose(process)
    family.vote(poll, by=ADA)
    family.room(ROOM, PlaceKind.GROUP, ADA, BEN, MOD, HEARTH, moved_to="!new:home")
    await process.idle()
    assert [vote.state for vote in await process.journal.votes(OWN, ROOM, 5)] == ["open"]
    family.room("!new:home", PlaceKind.GROUP, ADA, BEN, MOD, HEARTH)
    await process.idle()
    told = [one for one in family.shown("!new:home") if "`voice` = `off`" in one.text]
    assert ["ended without a result" in one.text for one in told] == [True]
    for person in (BEN, MOD):
        family.vote(poll, by=person)
    await process.stop()
    again = await start(policy=LOOSEST)
    await again.clock.sleep(30 * 3600)
    await again.idle()
    assert [vote.reason for vote in await again.journal.votes(OWN, ROOM, 5)] == ["moved"]
    assert (await policy(again)).voice is Voice.ALL
    assert len([one for one in family.shown("!new:home") if "ended without" in one.text]) == 1
