"""A platform that has to be asked how a question stands: what it finds out, and what it is kept from."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from bots.base import Reply
from bots.conversation import Message, PlaceKind
from bridge.options import Options
from bridge.platform import Event, EventKind, Fresh, Retryable, Unclear
from bridge.router import MORE_MS
from policies.room import RoomPolicy
from tests.fakes.clock import VirtualClock
from tests.fakes.process import Parrot, answer_to
from tests.fakes.server import ADA, BEN, MOD, ROOM

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from bots.base import Draft, Tools, Waiting
    from bots.conversation import Turn
    from bridge.platform import StoredAction
    from tests.fakes.process import Process
    from tests.fakes.server import FakeServer

    Start = Callable[..., Awaitable[Process]]

LONG = "".join(f"<{number}>" for number in range(40))


class Reader:
    """A bot that says what it was given to read."""

    name = "chat"

    async def reply(self, turn: Turn, tools: Tools) -> AsyncGenerator[Draft | Waiting | Reply]:
        yield Reply(" | ".join(said.text for said in (*turn.context, turn.message)))


class Talker:
    """A bot that answers everything at length."""

    name = "chat"

    async def reply(self, turn: Turn, tools: Tools) -> AsyncGenerator[Draft | Waiting | Reply]:
        yield Reply(LONG if turn.message.text == "everything" else f"short: {turn.message.text}")


async def kept(process: Process, words: str) -> bool:
    """Whether `words` stand in the journal's file, once its log is empty."""
    await process.journal.checkpoint()
    return words.encode() in await asyncio.to_thread(process.path.read_bytes)


async def test_what_the_platform_knows_is_the_context(server: FakeServer, start: Start) -> None:
    """The words before a question are the last of those that the platform gives, not the journal's."""
    before = tuple(Message(f"$x{number}", BEN, f"word {number}") for number in range(30))

    async def look(turn: Turn) -> Fresh:
        return Fresh(context=before)

    server.look = look
    server.say("earlier", mention=False)
    question = server.say("And now?")
    process = await start(bot=Reader(), options=Options(context_messages=2))
    await process.idle()
    assert server.answers(question) == ["word 28 | word 29 | And now?"]


async def test_a_question_that_is_gone_is_withdrawn(server: FakeServer, start: Start) -> None:
    """What was taken back before a bot took it up is not answered, and its words are erased."""

    async def look(turn: Turn) -> Fresh:
        gone = Event(f"gone:{turn.message.id}", ROOM, EventKind.REDACTION, ADA, 0, relates_to=turn.message.id)
        return Fresh(changed=gone)

    server.look = look
    question = server.say("Never mind")
    process = await start()
    await process.idle()
    (turn,) = await process.journal.turns()
    assert (turn.state, turn.outcome) == ("settled", "withdrawn")
    assert server.answers(question) == []
    assert not await kept(process, "Never mind")


async def test_a_question_that_was_edited_is_answered_as_it_is(server: FakeServer, start: Start) -> None:
    """An edit that is found before the answer replaces the words; there is one answer, to the new ones."""
    looked: list[str] = []

    async def look(turn: Turn) -> Fresh:
        looked.append(turn.message.text)
        if turn.message.text == "Tuesday?":
            edit = Event("$e", ROOM, EventKind.EDIT, ADA, 0, text="Friday?", relates_to=turn.message.id)
            return Fresh(changed=edit)
        return Fresh()

    server.look = look
    question = server.say("Tuesday?")
    process = await start()
    await process.idle()
    assert server.answers(question) == [answer_to("Friday?")]
    assert looked == ["Tuesday?", "Friday?"]


async def test_a_server_that_is_down_costs_no_attempt(server: FakeServer, start: Start) -> None:
    """An hour in which nothing can be looked at: few requests, no failure, then the answer."""
    began = VirtualClock().now()
    asked: list[int] = []

    async def look(turn: Turn) -> Fresh:
        asked.append(VirtualClock().now())
        if VirtualClock().now() - began < 3_600_000:
            raise Retryable("503")
        return Fresh()

    server.look = look
    question = server.say("Are you there?")
    process = await start()
    await process.idle(7200)
    assert server.answers(question) == [answer_to("Are you there?")]
    assert len(asked) <= 130
    (turn,) = await process.journal.turns()
    assert (turn.attempts, turn.outcome) == (0, "answered")


async def test_a_stop_reaches_a_question_that_cannot_be_looked_at(server: FakeServer, start: Start) -> None:
    """`!stop` ends a turn whose server is down, like any other."""

    async def look(turn: Turn) -> Fresh:
        raise Retryable("503")

    server.look = look
    question = server.say("Are you there?")
    process = await start()
    await asyncio.sleep(100)
    server.say("!stop")
    await process.until(lambda: len(server.texts()) == 1)
    turns = {turn.cause: turn.outcome for turn in await process.journal.turns()}
    assert turns[question] == "stopped"


# -- long answers ----------------------------------------------------------------------------------


async def test_the_rest_of_a_long_answer_is_kept_for_who_asks(server: FakeServer, start: Start) -> None:
    """Six parts are shown; "more" as a reply gives what was held back, word for word, without the model."""
    question = server.say("everything")
    process = await start(bot=Talker(), part_size=10, part_limit=6)
    await process.until(lambda: len(server.answers(question)) == 6)
    last = server.shown()[-1]
    more = server.say("More!", reply_to=last.id)
    await process.until(lambda: len(server.answers(more)) == 6)
    again = server.say("go on", reply_to=server.shown()[-1].id)
    await process.idle()
    said = [*server.answers(question), *server.answers(more), *server.answers(again)]
    assert "".join(said) == LONG
    outcomes = [turn.outcome for turn in reversed(await process.journal.turns())]
    assert outcomes == ["continued", "continued", "answered"]


async def test_another_reply_to_a_long_answer_is_a_question(server: FakeServer, start: Start) -> None:
    """Only a word that asks for more gets the rest; anything else is answered."""
    question = server.say("everything")
    process = await start(bot=Talker(), part_size=10, part_limit=6)
    await process.until(lambda: len(server.answers(question)) == 6)
    other = server.say("more cake?", reply_to=server.shown()[-1].id)
    await process.until(lambda: bool(server.answers(other)))
    assert "".join(server.answers(other)) == "short: more cake?"


async def test_the_rest_is_not_kept_for_ever(server: FakeServer, start: Start) -> None:
    """After a day nobody is told anything, and the words that were held back are gone."""
    server.say("everything")
    process = await start(bot=Talker(), part_size=10, part_limit=6)
    await process.until(lambda: len(server.texts()) == 6)
    assert await kept(process, "<39>")
    await asyncio.sleep(MORE_MS / 1000 + 1)
    await process.idle()
    assert len(server.texts()) == 6
    assert not await kept(process, "<39>")
    assert {turn.state for turn in await process.journal.turns()} == {"settled"}


async def test_forget_takes_the_rest_too(server: FakeServer, start: Start) -> None:
    """What was held back of an answer is a copy of words, and `!forget` erases it."""
    server.say("everything")
    process = await start(bot=Talker(), part_size=10, part_limit=6)
    await process.until(lambda: len(server.texts()) == 6)
    server.say("!forget")
    await process.idle()
    assert not await kept(process, "<39>")
    assert {turn.state for turn in await process.journal.turns()} == {"settled"}


async def test_nobody_else_gets_the_rest(server: FakeServer, start: Start) -> None:
    """Where every asker has a place of their own, "more" of another person is a question like any other."""
    server.room("!ben:home", PlaceKind.DIRECT, BEN)
    question = server.say("everything")
    process = await start(bot=Talker(), part_size=10, part_limit=6)
    await process.until(lambda: len(server.answers(question)) == 6)
    foreign = server.say("more", by=BEN, place="!ben:home", reply_to=server.shown()[-1].id)
    await process.until(lambda: bool(server.answers(foreign)))
    assert "".join(server.answers(foreign)) == "short: more"


async def test_each_part_follows_the_one_before(server: FakeServer, start: Start) -> None:
    """A part names the one before it, by the id that this one got; the first names none."""
    server.say("everything")
    process = await start(bot=Talker(), part_size=10, part_limit=6)
    await process.until(lambda: len(server.texts()) == 6)
    says = [action for _, action in server.attempts]
    shown = [event.id for event in server.shown()]
    assert [one.target for one in says] == [None, *shown[:-1]]


# -- unclear sends ---------------------------------------------------------------------------------


async def test_a_send_whose_fate_is_unknown_is_looked_for(server: FakeServer, start: Start) -> None:
    """On a server that forgets every key at once, an answer that may have arrived is not sent twice."""
    server.key_memory = -1.0  # it remembers nothing
    server.echoes = False
    arrived: list[str] = []

    def fault_for(action: StoredAction) -> Any:
        if not arrived:
            arrived.append(str(server.put(action, "DEVICE")))
            return Unclear("the connection broke off")
        return None

    server.fault_for = fault_for
    question = server.say("Once?")
    process = await start(key_memory=3600.0)
    await process.idle()
    assert server.answers(question) == [answer_to("Once?")]
    assert len(server.attempts) == 1


@pytest.mark.parametrize(("place_is_person", "stopped"), [(True, 2), (False, 0)])
async def test_a_moderators_stop_where_every_asker_has_a_place(
    server: FakeServer, start: Start, *, place_is_person: bool, stopped: int
) -> None:
    """It ends what is written for anybody on the account; in rooms, only what is written in that room."""
    for person in (ADA, BEN):
        server.say(
            "Tell me a story", by=person, place=server.room(f"!{person.name}", PlaceKind.DIRECT, person)
        )
    server.room("!mod", PlaceKind.DIRECT, MOD)
    process = await start(bot=Parrot(pace=30), options=Options(place_is_person=place_is_person))
    await asyncio.sleep(5)
    server.say("!stop", by=MOD, place="!mod")
    await process.until(lambda: bool(server.texts("!mod")))
    assert [turn.outcome for turn in await process.journal.turns()].count("stopped") == stopped


# -- manners ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "told"), [(None, 3), (1, 1)])
async def test_refusals_are_said_aloud_so_often_a_day(
    server: FakeServer, start: Start, limit: int | None, told: int
) -> None:
    """With one a day, whoever may not ask is told once; every question is settled with its rule."""
    for number in range(3):
        server.say(f"Question {number}")
    process = await start(
        policy=RoomPolicy(askers=frozenset({BEN.id})), options=Options(refusals_per_day=limit)
    )
    await process.idle()
    assert len(server.texts()) == told
    assert [turn.code for turn in await process.journal.turns()] == ["not_an_asker"] * 3
