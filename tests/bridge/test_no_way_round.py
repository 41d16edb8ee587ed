"""Ways round a vote: each was open once, and stays closed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from bots.conversation import Person, PlaceKind, PutState
from bridge.platform import Refused, Retryable
from policies.document import STATE_TYPE, Unreadable, base_of, limits_of, read
from policies.grant import GRANT_TYPE, Grant, Status
from policies.room import LOOSEST, Answers, Mode, RoomPolicy, Voice
from policies.vote import Choice
from tests.bridge.family import ASK, CITY, DAY, HEARTH, HOUR, KEY, grants, policy, propose, rule, said
from tests.fakes.clock import EPOCH_MS
from tests.fakes.server import ADA, BEN, MOD, OWN, ROOM, FakeServer

if TYPE_CHECKING:
    from bots.conversation import Place
    from tests.bridge.family import Start
    from tests.fakes.process import Process

OPEN_TO_ALL: dict[str, Any] = {"ask_peers": ["*"], "classes_out": ["general", "health"], "preview": "never"}


async def place(process: Process) -> Place:
    facts = await process.journal.place(OWN, ROOM)
    assert facts is not None
    return facts.place


async def agreed(process: Process, words: str) -> str:
    """Everybody says yes to it."""
    poll = await propose(process, words)
    for person in (ADA, BEN, MOD):
        process.server.vote(poll, by=person)
    await process.idle()
    return poll


@pytest.mark.parametrize("stop", ["{}", '{"v": 1, "oops": 1}'])
async def test_stopping_the_bot_repeals_nothing(server: FakeServer, start: Start, stop: str) -> None:
    """A vote that was open when somebody stopped it lifts no stop; the next one keeps every other rule."""
    family = server
    family.room(ROOM, PlaceKind.GROUP, ADA, BEN, MOD, HEARTH)
    rules: dict[str, Any] = {"mode": "consent", "voting_hours": 500, "askers": ["home"], "per_person_day": 5}
    rule(family, **rules)
    process = await start(policy=LOOSEST)
    poll = await propose(process, "!propose answers direct")
    await process.clock.sleep(60)
    family.put_state(STATE_TYPE, stop, by=MOD)
    await process.idle()
    for person in (ADA, BEN, MOD):
        family.vote(poll, by=person)
    await process.idle()
    assert "Not passed: somebody stopped me meanwhile." in said(family)
    assert isinstance(limits_of((await place(process)).policy), Unreadable)
    await process.clock.sleep(60)
    await agreed(process, "!propose answers direct")
    expected = RoomPolicy(
        mode=Mode.CONSENT,
        voting_hours=500,
        askers=frozenset({"home"}),
        per_person_day=5,
        answers=Answers.DIRECT,
    )
    assert await policy(process) == expected
    rule(family, **OPEN_TO_ALL)
    await process.idle()
    assert (await policy(process)).ask_peers == frozenset()


async def test_a_stop_is_lifted_by_whoever_may_write(family: FakeServer, start: Start) -> None:
    """By command, to what held before and nothing more."""
    rule(family, mode="consent", per_person_day=5)
    process = await start(policy=LOOSEST)
    family.put_state(STATE_TYPE, "{}", by=MOD)
    family.say("!policy set preview never", by=MOD)
    await process.idle()
    assert "this room decides that by vote" in said(family)
    family.say("!policy set per_person_day 3", by=MOD)
    await process.idle()
    assert await policy(process) == RoomPolicy(mode=Mode.CONSENT, voting_hours=24, per_person_day=3)


async def test_two_documents_that_are_too_much_together_deny(family: FakeServer, start: Start) -> None:
    """What both at once would be no document could say: the rules before that stay the measure."""
    process = await start(policy=LOOSEST)
    windows = [f"{hour:02d}:{ten}0-{hour:02d}:{ten}5" for hour in range(20) for ten in (0, 1)]
    rule(family, mode="consent", quiet=windows[:20])
    rule(family, mode="consent", quiet=windows[20:])
    await process.idle()
    assert isinstance(limits_of((await place(process)).policy), Unreadable)
    rule(family, mode="admin", **OPEN_TO_ALL)
    await process.idle()
    assert (await policy(process)).mode is Mode.CONSENT
    assert (await policy(process)).ask_peers == frozenset()
    assert len((await policy(process)).quiet) == 20


@pytest.mark.parametrize(
    "rules", [{"min_member_hours": 50}, {"voting_hours": 2_000}, {"trial_days": 0}, {"mode": "majority"}]
)
async def test_nobody_chooses_who_decides(server: FakeServer, start: Start, rules: dict[str, Any]) -> None:
    """A stricter rule is one that suits somebody: how the room votes is changed by a vote alone."""
    family = server
    since = ((ADA, 10), (BEN, 10), (MOD, 100))
    people = [Person(one.id, one.name, one.power, since=EPOCH_MS - hours * HOUR) for one, hours in since]
    family.room(ROOM, PlaceKind.GROUP, *people, HEARTH)
    process = await start(policy=LOOSEST)
    rule(family, mode="consent", voting_hours=24)
    await process.idle()
    before = await policy(process)
    wanted: dict[str, Any] = {"mode": "consent", "voting_hours": 24, **rules}
    rule(family, **wanted)
    await process.idle()
    assert await policy(process) == before
    poll = await propose(process, "!propose mode admin", by=MOD)
    family.vote(poll, by=MOD)
    await process.idle()
    assert (await policy(process)).mode is Mode.CONSENT


async def test_a_stop_overtakes_what_was_still_to_be_written(family: FakeServer, start: Start) -> None:
    """A result that could not be written before somebody stopped it is not written after."""
    process = await start(policy=LOOSEST)
    poll = await propose(process, ASK)
    whole, down = process.platform.perform, True

    async def perform(action: Any) -> str | None:
        if down and isinstance(action.action, PutState):
            raise Retryable("the server is busy", 300)
        return await whole(action)

    process.platform.perform = perform  # type: ignore[method-assign]  # a test
    for person in (ADA, BEN, MOD):
        family.vote(poll, by=person)
    await process.clock.sleep(20)
    assert CITY in (await policy(process)).ask_peers
    family.put_state(STATE_TYPE, "{}", by=MOD)
    await process.clock.sleep(20)
    down = False
    await process.clock.sleep(900)
    await process.idle()
    assert family.state[ROOM, STATE_TYPE, ""][1] == "{}"
    assert isinstance(limits_of((await place(process)).policy), Unreadable)


async def test_what_changes_while_a_vote_ends_is_not_lost(family: FakeServer, start: Start) -> None:
    """A rule that is written between the count and its end is part of what the result begins from."""
    process = await start(policy=LOOSEST)
    poll = await propose(process, "!propose answers direct")
    whole = process.journal.close_vote
    written: list[str] = []

    async def close(*args: Any) -> bool:
        if not written:
            written.append(rule(family, mode="consent", voting_hours=24, voice="off"))
            await process.clock.sleep(1)
        return await whole(*args)

    process.journal.close_vote = close  # type: ignore[method-assign,assignment]  # a test
    for person in (ADA, BEN, MOD):
        family.vote(poll, by=person)
    await process.clock.sleep(10)
    await process.idle()
    now = await policy(process)
    assert (now.answers, now.voice) == (Answers.DIRECT, Voice.OFF)
    assert said(family).count("Passed: ") == 1


async def test_only_the_same_again_is_a_renewal(family: FakeServer, start: Start) -> None:
    """More than is allowed now begins on trial, and the ballot says which it is."""
    process = await start(policy=LOOSEST)
    await agreed(process, f"!propose ask @{CITY} classes=general,local-knowledge until=1 month key={KEY}")
    for more in (
        f"both @{CITY} classes=general",
        f"ask @{CITY} classes=general,health",
        f"ask @{CITY} classes=general notes=pool",
    ):
        poll = await agreed(process, f"!propose {more} until=6 months key={KEY}")
        assert "on trial" in family.polls[poll].text
        assert (await grants(process))[CITY].status is Status.TRIAL
    poll = await agreed(process, f"!propose ask @{CITY} classes=general until=6 months key={'B' * 43}")
    assert (await grants(process))[CITY].status is Status.TRIAL
    poll = await agreed(process, f"!propose ask @{CITY} classes=general until=6 months key={'B' * 43}")
    assert "on trial" not in family.polls[poll].text
    assert (await grants(process))[CITY].status is Status.ACTIVE


async def test_the_reminder_renews_what_there_is(family: FakeServer, start: Start) -> None:
    """Whoever copies its words proposes the same again: key, classes, quota, notes, term."""
    process = await start(policy=LOOSEST)
    await agreed(
        process,
        f"!propose both @{CITY} classes=local-knowledge notes=pool quota=4 until=60 days key={KEY}",
    )
    first = (await grants(process))[CITY]
    await process.clock.sleep(25 * DAY / 1000)
    await process.idle()
    words = said(family).rpartition("put it to the vote again: `")[2].partition("`")[0]
    await agreed(process, words)
    second = (await grants(process))[CITY]
    assert isinstance(second, Grant)
    times = {"not_before": 0, "until": 0, "status": Status.ACTIVE, "decided_by": ""}
    assert second.model_copy(update=times) == first.model_copy(update=times)
    assert second.status is Status.ACTIVE
    assert second.until - second.not_before == 60 * DAY


async def test_results_by_hand_contain_each_other(family: FakeServer, start: Start) -> None:
    """Where we may not write, the second result has the first one in it."""
    family.room(ROOM, PlaceKind.GROUP, ADA, BEN, MOD, Person(OWN, "Hearth"))
    rule(family, mode="consent", voting_hours=24, voice="asked", answers="direct")
    process = await start(policy=LOOSEST)
    for words in ("!propose voice named", "!propose answers mention"):
        await agreed(process, words)
        await process.clock.sleep(10)
    texts = [part.partition("\n```")[0] for part in said(family).split("```json\n")[1:]]
    for text in texts:
        family.put_state(STATE_TYPE, text.partition("\n")[2])
        await process.idle()
    now = await policy(process)
    assert (now.voice, now.answers) == (Voice.NAMED, Answers.MENTION)


async def test_a_recount_ends_where_the_count_did(family: FakeServer, start: Start) -> None:
    """Who answers after the end changes no recount; a vote that was taken back does."""
    process = await start(policy=LOOSEST)
    poll = await propose(process)
    votes = [family.vote(poll, by=person) for person in (ADA, BEN, MOD)]
    await process.idle()
    await process.clock.sleep(60)
    family.vote(poll, Choice.NO, by=ADA)
    family.say("!recount", by=BEN)
    await process.idle()
    assert "That is what was counted at the end." in family.shown()[-1].text
    family.redact(votes[0])
    family.say("!recount", by=BEN)
    await process.idle()
    assert "That is not what was counted at the end" in family.shown()[-1].text


async def test_many_answers_are_few_counts(family: FakeServer, start: Start) -> None:
    """Who may not vote makes none; who changes their mind all the time makes one in two seconds."""
    process = await start(policy=LOOSEST)
    poll = await propose(process)
    whole, reads = process.platform.ballots, 0

    async def ballots(place: str, event: str) -> Any:
        nonlocal reads
        reads += 1
        return await whole(place, event)

    process.platform.ballots = ballots  # type: ignore[method-assign,assignment]  # a test
    for number in range(50):
        family.vote(poll, by=Person(f"@stranger{number}:home"))
        await process.clock.sleep(1)
    assert reads == 0
    for _ in range(100):
        family.vote(poll, by=ADA)
        await process.clock.sleep(0.1)
    await process.idle()
    assert 1 <= reads <= 8


async def test_a_brake_finds_what_was_written_with_capitals(server: FakeServer, start: Start) -> None:
    """The name of a server may have them; what is typed is compared without."""
    peer = "bot:City.example"
    server.room(ROOM, PlaceKind.GROUP, ADA, BEN, MOD, HEARTH)
    rule(server)
    grant = {"v": 1, "peer": peer, "app_ed25519": KEY, "direction": "ask", "classes": ["general"]}
    times = {"not_before": EPOCH_MS, "until": EPOCH_MS + 90 * DAY, "status": "active"}
    server.put_state(GRANT_TYPE, json.dumps(grant | times), state_key=peer)
    process = await start(policy=LOOSEST)
    await process.idle()
    assert peer in await grants(process)
    server.say(f"!brake @{peer}", by=MOD)
    await process.idle()
    held = (await grants(process)).get(peer)
    assert held is None or held.status is Status.SUSPENDED


async def test_a_new_decision_forgets_old_brakes(family: FakeServer, start: Start) -> None:
    """Who wanted to stop it, and then decided it anew with the others, does not count as wanting it still."""
    process = await start(policy=LOOSEST)
    await agreed(process, ASK)
    family.say(f"!brake @{CITY}", by=ADA)
    await process.idle()
    await agreed(process, ASK)
    family.say(f"!brake @{CITY}", by=BEN)
    await process.idle()
    assert (await grants(process))[CITY].status is Status.ACTIVE
    assert "takes 2 members, and so far there are 1" in family.shown()[-1].text


def test_a_base_that_cannot_be_read_allows_nothing() -> None:
    """Whatever became of the journal, a room that voted does not become one that its admins rule."""
    shut = base_of('{"v": 2}')
    assert (shut.mode, shut.askers, shut.ask_peers) == (Mode.CONSENT, frozenset(), frozenset())
    assert base_of(None) == read('{"v": 1}')


async def test_a_result_that_the_server_refuses_is_told(family: FakeServer, start: Start) -> None:
    """We lost the power meanwhile: the room is told once what to set, and what it sets so counts."""
    process = await start(policy=LOOSEST)
    poll = await propose(process, ASK)
    whole = process.platform.perform

    async def perform(action: Any) -> str | None:
        if isinstance(action.action, PutState):
            raise Refused("M_FORBIDDEN", "give the bot more power")
        return await whole(action)

    process.platform.perform = perform  # type: ignore[method-assign]  # a test
    for person in (ADA, BEN, MOD):
        family.vote(poll, by=person)
    await process.idle()
    told = [one.text for one in family.shown() if "I may not write this down here" in one.text]
    assert [GRANT_TYPE in one for one in told] == [False, True]
    assert CITY not in await grants(process)
    grant = told[1].partition(f"{GRANT_TYPE} {CITY}\n")[2].partition("\n```")[0]
    family.put_state(GRANT_TYPE, grant, state_key=CITY)
    await process.idle()
    assert (await grants(process))[CITY].status is Status.TRIAL
