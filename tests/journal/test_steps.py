"""T1 to T4 one by one (DESIGN.md section 3): each is a whole transaction, and each can come twice."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bots.conversation import Keyed, Person, Place, PlaceKind, Revise, Role, Say
from bridge.journal import Admission, Journal, Outcome, Settlement
from bridge.journal.turns import MAX_DEATHS
from bridge.platform import Batch, Event, EventKind, Gap, PlaceFacts
from policies.room import Trust
from policies.verdict import Code, Verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bridge.journal import Claimed, Known

OWN = "@hearth:home"
ADA = Person("@ada:home", "Ada")
BEN = Person("@ben:home", "Ben")
ALLOWED = Verdict(True, Code.ALLOWED, "policy.askers", {"limit": 3})
ANSWER = Keyed(Say("words"), Role.ANSWER)


def facts(place: str = "!r", *, must_encrypt: bool = False) -> PlaceFacts:
    return PlaceFacts(Place(OWN, place, PlaceKind.GROUP, "Family"), (ADA, BEN), must_encrypt=must_encrypt)


def judge(event: Event, known: Known) -> Admission:
    lane = f"{event.place} {event.thread}"
    if event.text.startswith("!"):
        return Admission(control=event.text[1:])
    return Admission("chat", lane) if event.addressed or known.waiting_turn else Admission()


def question(event_id: str, text: str = "Hello?", *, place: str = "!r", thread: str | None = None) -> Event:
    return Event(event_id, place, EventKind.MESSAGE, ADA, 1, text=text, addressed=True, thread=thread)


def batch(*events: Event, cursor: str = "c") -> Batch:
    return Batch(OWN, cursor, events, tuple(facts(place) for place in {event.place for event in events}))


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = await Journal.open(tmp_path / "journal.db")
    yield journal
    await journal.close()


async def claim(journal: Journal, limit: int = 9, now: int = 10) -> list[Claimed]:
    return await journal.claim(OWN, now, limit, 5)


def causes(claimed: list[Claimed]) -> list[str]:
    return [one.turn.cause for one in claimed]


async def settle(journal: Journal, claimed: Claimed, *actions: Keyed, now: int = 10, **more: object) -> bool:
    settlement = Settlement(Outcome.ANSWERED, ALLOWED, actions, **more)  # type: ignore[arg-type]  # its fields
    return await journal.settle(claimed, settlement, "D", now)


# -- T1 --------------------------------------------------------------------------------------------


async def test_a_batch_that_fails_changes_nothing(journal: Journal) -> None:
    """One event that cannot be judged takes the whole batch back, places, earlier events and cursor too."""

    def fails(event: Event, known: Known) -> Admission:
        if event.id == "$2":
            raise ZeroDivisionError
        return judge(event, known)

    with pytest.raises(ZeroDivisionError):
        await journal.admit(batch(question("$1"), question("$2")), fails, 1)
    assert await journal.cursor(OWN) is None
    assert await journal.place(OWN, "!r") is None
    assert await claim(journal) == []
    await journal.admit(batch(question("$1"), question("$2")), judge, 2)
    assert len(await journal.turns()) == 2
    assert await journal.cursor(OWN) == "c"


async def test_an_event_is_judged_once(journal: Journal) -> None:
    """The same event in a later batch, even with other words, is nothing new: ids decide, per account."""
    judged: list[str] = []

    def counting(event: Event, known: Known) -> Admission:
        judged.append(event.id)
        return judge(event, known)

    await journal.admit(batch(question("$1")), counting, 1)
    again = await journal.admit(batch(question("$1", "other words"), cursor="d"), counting, 2)
    assert judged == ["$1"]
    assert not again.work
    assert await journal.cursor(OWN) == "d"
    (claimed,) = await claim(journal)
    assert claimed.turn.message.text == "Hello?"


async def test_what_was_sealed_is_judged_when_it_opens_and_once(journal: Journal) -> None:
    """Ciphertext is kept, nothing is owed for it; its key makes it work, and a second key nothing more."""
    sealed = Event("$1", "!r", EventKind.SEALED, ADA, 1, sealed="cipher")
    await journal.admit(batch(sealed), judge, 1)
    assert [event.sealed for event in await journal.sealed(OWN)] == ["cipher"]
    assert await claim(journal) == []
    for _ in range(2):
        await journal.admit(Batch(OWN, "d", opened=(question("$1", "Open?"),)), judge, 2)
    assert await journal.sealed(OWN) == ()
    assert [one.turn.message.text for one in await claim(journal)] == ["Open?"]
    assert len(await journal.turns()) == 1


async def test_encryption_is_never_unset(journal: Journal) -> None:
    """A server that takes the state of a room back must not get plaintext out of us."""
    await journal.admit(Batch(OWN, "a", places=(facts(must_encrypt=True),)), judge, 1)
    await journal.admit(Batch(OWN, "b", places=(facts(must_encrypt=False),)), judge, 2)
    known = await journal.place(OWN, "!r")
    assert known is not None
    assert known.must_encrypt


async def test_a_gap_is_kept_once(journal: Journal) -> None:
    """Two batches with the same gap are one row; and a batch of a gap alone moves the cursor."""
    for cursor in ("a", "b"):
        await journal.admit(Batch(OWN, cursor, gaps=(Gap("!r", "a", "limited"),)), judge, 1)
    assert await journal.cursor(OWN) == "b"


# -- T2 --------------------------------------------------------------------------------------------


async def test_one_turn_of_a_lane_at_a_time_in_order(journal: Journal) -> None:
    """The oldest of each lane; the next one only when that has settled, also when it waits for its retry."""
    await journal.admit(batch(question("$1"), question("$2"), question("$3", thread="$t")), judge, 1)
    first = await claim(journal)
    assert causes(first) == ["$1", "$3"]
    assert await claim(journal) == []
    assert await journal.failed(first[0], not_before=1000)
    assert await claim(journal, now=999) == []
    assert await journal.next_claim(OWN) == 1000
    (again,) = await claim(journal, now=1000)
    assert (again.turn.cause, again.attempts) == ("$1", 1)
    assert await settle(journal, again)
    assert causes(await claim(journal)) == ["$2"]


async def test_claims_are_limited_and_fair_between_places(journal: Journal) -> None:
    """A room with many threads does not take every slot from a room with one question."""
    busy = [question(f"${number}", place="!busy", thread=f"$t{number}") for number in range(4)]
    await journal.admit(batch(*busy, question("$quiet", place="!quiet")), judge, 1)
    assert causes(await claim(journal, 2)) == ["$0", "$1"]
    assert causes(await claim(journal, 1)) == ["$quiet"]
    assert len(await claim(journal)) == 2


async def test_a_claim_brings_what_deciding_needs(journal: Journal) -> None:
    """The question with its context before it, oldest first; its age; the counters of asker and place."""
    await journal.admit(batch(*(question(f"${number}", f"text {number}") for number in range(3))), judge, 5)
    for number in range(2):
        (claimed,) = await claim(journal, now=100)
        assert claimed.turn.cause == f"${number}"
        await settle(journal, claimed)
    (claimed,) = await claim(journal, now=1005)
    assert [message.text for message in claimed.turn.context] == ["text 0", "text 1"]
    assert claimed.age_ms == 1000
    assert (claimed.counters.asked_today, claimed.counters.recent) == (2, 3)


# -- T2b, T3 ---------------------------------------------------------------------------------------


async def test_a_draft_is_immutable(journal: Journal) -> None:
    """A server answers a repeated key with the old event; so the stored words stay the first ones."""
    await journal.admit(batch(question("$1")), judge, 1)
    (claimed,) = await claim(journal)
    key = await journal.draft(claimed, ANSWER, "D", 2)
    assert await journal.draft(claimed, Keyed(Say("other"), Role.ANSWER), "E", 3) == key
    (action,) = await journal.due(OWN, 9, 9, frozenset())
    assert (action.action, action.device, action.created_at) == (Say("words"), "D", 2)
    await journal.recover(OWN, 4)
    (again,) = await claim(journal)
    assert again.draft_key == key


async def test_only_the_run_that_was_claimed_last_may_settle(journal: Journal) -> None:
    """An edit overtakes a run: its settlement and its draft are refused whole, those of the next count."""
    await journal.admit(batch(question("$1")), judge, 1)
    (old,) = await claim(journal)
    edit = Event("$e", "!r", EventKind.EDIT, ADA, 2, text="Edited?", relates_to="$1")
    admitted = await journal.admit(batch(edit), judge, 2)
    assert admitted.cancelled == (old.turn.id,)
    (new,) = await claim(journal)
    assert new.turn.message.text == "Edited?"
    assert await journal.draft(old, ANSWER, "D", 3) is None
    assert not await settle(journal, old, ANSWER)
    assert not await journal.failed(old, 0)
    assert await journal.due(OWN, 9, 9, frozenset()) == []
    assert await settle(journal, new, ANSWER)
    assert not await settle(journal, new, ANSWER)
    assert len(await journal.due(OWN, 9, 9, frozenset())) == 1


async def test_a_wait_is_continued_once(journal: Journal) -> None:
    """The deadline starts one child, which has the state and settles both; asking again starts no other."""
    await journal.admit(batch(question("$1")), judge, 1)
    (claimed,) = await claim(journal)
    await settle(journal, claimed, ANSWER, wait_until=500, wait_state={"for": "tea"})
    assert await journal.pass_deadlines(OWN, 499) == 0
    assert await journal.next_claim(OWN) == 500
    assert [await journal.pass_deadlines(OWN, 500) for _ in range(2)] == [1, 0]
    (child,) = await claim(journal, now=500)
    assert child.turn.waited == {"for": "tea"}
    assert await journal.next_claim(OWN) is None
    await settle(journal, child)
    assert [turn.outcome for turn in await journal.turns()] == ["answered", "continued"]
    assert await journal.pass_deadlines(OWN, 9999) == 0


# -- T4 --------------------------------------------------------------------------------------------


async def test_delivery_is_in_order_within_a_place(journal: Journal) -> None:
    """The next action of a place is due when the one before is acknowledged, parked or withdrawn."""
    await journal.admit(batch(question("$1")), judge, 1)
    (claimed,) = await claim(journal)
    await settle(journal, claimed, *(Keyed(Say(f"part {n}"), Role.ANSWER, n) for n in range(3)))
    seen = []
    for number in range(3):
        (action,) = await journal.due(OWN, 10, 9, frozenset())
        assert await journal.due(OWN, 10, 9, frozenset({"!r"})) == []
        seen.append(action.action.text)  # type: ignore[union-attr]  # Says
        if number == 1:
            await journal.park_action(action.key, "too large", 11)
        else:
            await journal.acknowledge(action.key, f"${number}", 11)
    assert seen == ["part 0", "part 1", "part 2"]
    assert (await journal.counts()).undeliverable == 1


async def test_an_echo_is_an_acknowledgement(journal: Journal) -> None:
    """Our own event in a batch, by its key: sent, and the late acknowledgement changes nothing."""
    await journal.admit(batch(question("$1")), judge, 1)
    (claimed,) = await claim(journal)
    await settle(journal, claimed, ANSWER)
    (action,) = await journal.due(OWN, 10, 9, frozenset())
    own = Event("$own", "!r", EventKind.MESSAGE, Person(OWN), 2, text="words", own=True, key=action.key)
    await journal.admit(batch(own), judge, 11)
    assert await journal.remote_id(action.key) == "$own"
    assert not await journal.acknowledge(action.key, "$late", 12)
    assert await journal.remote_id(action.key) == "$own"
    assert await journal.due(OWN, 13, 9, frozenset()) == []


async def test_a_revision_knows_what_it_revises(journal: Journal) -> None:
    """A `Revise` is handed out with the remote id of what it replaces."""
    await journal.admit(batch(question("$1")), judge, 1)
    (claimed,) = await claim(journal)
    key = await journal.draft(claimed, ANSWER, "D", 2)
    assert key is not None
    await journal.acknowledge(key, "$draft", 3)
    await settle(journal, claimed, Keyed(Revise(key, "all the words"), Role.FINAL))
    (action,) = await journal.due(OWN, 10, 9, frozenset())
    assert action.target == "$draft"


# -- when the process dies -------------------------------------------------------------------------


async def test_ten_deaths_park_a_turn(journal: Journal) -> None:
    """A question that kills the process each time is put aside, its asker told; it can be tried again."""
    await journal.admit(batch(question("$1"), question("$2")), judge, 1)
    for death in range(1, MAX_DEATHS + 1):
        (claimed,) = await claim(journal)
        assert claimed.turn.cause == "$1"
        parked = await journal.recover(OWN, 2, words="It did not work.", device="D")
        assert bool(parked) == (death == MAX_DEATHS)
    (told,) = await journal.due(OWN, 3, 9, frozenset())
    assert told.action == Say("It did not work.", reply_to="$1")
    assert causes(await claim(journal)) == ["$2"]
    turns, _ = await journal.stuck(3)
    assert [(turn.cause, turn.state, turn.outcome, turn.deaths) for turn in turns] == [
        ("$1", "parked", "failed", MAX_DEATHS)
    ]
    assert await journal.retry(turns[0].id)
    assert not await journal.retry(turns[0].id)


async def test_a_graceful_stop_counts_nothing(journal: Journal) -> None:
    """What is released is pending, with no death and no attempt against it."""
    await journal.admit(batch(question("$1")), judge, 1)
    (claimed,) = await claim(journal)
    await journal.release(claimed.turn.id)
    assert await journal.recover(OWN, 2) == ()
    (turn,) = await journal.turns()
    assert (turn.state, turn.deaths, turn.attempts) == ("pending", 0, 0)


# -- for people ------------------------------------------------------------------------------------


async def test_what_people_see_has_no_words(journal: Journal) -> None:
    """Turns, their actions and `!why` name states, rules and numbers, and nothing that anybody said."""
    await journal.admit(batch(question("$1", "a secret question")), judge, 1)
    (claimed,) = await claim(journal)
    await settle(journal, claimed, Keyed(Say("a secret answer"), Role.ANSWER))
    decided = await journal.decided(OWN, "!r", "$1")
    assert decided is not None
    assert decided.verdict == ALLOWED
    assert (decided.state, decided.outcome, decided.deliveries) == ("settled", "answered", ("pending",))
    assert await journal.decided(OWN, "!other", "$1") is None
    told = f"{await journal.turns()} {await journal.turn(1)} {decided} {await journal.counts()}"
    assert "secret" not in told
    assert await journal.turn(99) is None


async def test_controls_wait_until_they_are_handled(journal: Journal) -> None:
    """A control is handed out until its handling is stored, and a redacted one never."""
    await journal.admit(batch(question("$1", "!stop"), question("$2", "!stop")), judge, 1)
    taken_back = Event("$3", "!r", EventKind.REDACTION, ADA, 2, relates_to="$2")
    await journal.admit(batch(taken_back), judge, 2)
    (control,) = await journal.controls(OWN)
    assert (control.event, control.name) == ("$1", "stop")
    await journal.stop_turns(control, (), ALLOWED, ANSWER, Say("stopped"), "D", 3)
    assert await journal.controls(OWN) == []
    assert len(await journal.due(OWN, 9, 9, frozenset())) == 1


# -- what vouches ----------------------------------------------------------------------------------


@pytest.mark.parametrize("of_question", list(Trust))
@pytest.mark.parametrize("of_edit", [None, *Trust])
@pytest.mark.parametrize("claimed_before", [True, False])
async def test_the_least_of_question_and_edit_vouches(
    journal: Journal, of_question: Trust, of_edit: Trust | None, *, claimed_before: bool
) -> None:
    """A server could put an edit of its own behind what somebody encrypted; others' edits are not theirs."""
    asked = replace(question("$1"), trust=of_question)
    await journal.admit(batch(asked), judge, 1)
    if claimed_before:
        (claimed,) = await claim(journal)
        await settle(journal, claimed)
    if of_edit is not None:
        edit = Event("$e", "!r", EventKind.EDIT, ADA, 2, text="Edited?", relates_to="$1", trust=of_edit)
        await journal.admit(batch(edit, replace(edit, id="$b", sender=BEN, trust=Trust.UNSIGNED)), judge, 2)
    if claimed_before and of_edit is None:
        return
    (claimed,) = await claim(journal)
    found = {of_question, of_edit or of_question}
    assert claimed.trust is [one for one in Trust if one in found][-1]
