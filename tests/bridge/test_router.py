"""From a mention to its answer: what people see while a turn runs, and what they are told when it cannot."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from bots import wording
from bots.base import Draft, Reply, Wait
from bots.conversation import Person, TurnKind
from bridge.options import Options
from models.client import ModelUnavailable
from policies.room import RoomPolicy
from tests.fakes.clock import EPOCH_MS, VirtualClock
from tests.fakes.process import ANYONE, Parrot, answer_to
from tests.fakes.server import ADA, BEN, MOD, OWN

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from bots.base import Tools, Waiting
    from bots.conversation import Turn
    from tests.fakes.process import Process
    from tests.fakes.server import FakeServer

    Start = Callable[..., Awaitable[Process]]


class Broken:
    """A bot whose model is away for its first `failures` runs."""

    name = "chat"

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.at: list[int] = []

    async def reply(self, turn: Turn, tools: Tools) -> AsyncGenerator[Draft | Waiting | Reply]:
        self.at.append(VirtualClock().now())
        if len(self.at) <= self.failures:
            raise ModelUnavailable("not there")
        yield Reply("At last.")


def shown_edits(server: FakeServer) -> list[int]:
    """When progress edits were shown (ms)."""
    return [at for at, what, _ in server.ephemeral if what == "progress"]


# -- streaming and presence ------------------------------------------------------------------------


async def test_a_fast_answer_is_one_message(server: FakeServer, start: Start) -> None:
    """An answer that comes at once is one message: no draft, no edit, no receipt, no typing."""
    question = server.say("Is it Tuesday?")
    process = await start(bot=Parrot(steps=5))
    await process.idle()
    assert server.answers(question) == [answer_to("Is it Tuesday?")]
    assert len(server.attempts) == 1
    assert server.ephemeral == []


async def test_a_slow_answer_streams(server: FakeServer, start: Start) -> None:
    """After `draft_after` the beginning is shown; at most eleven edits, ever rarer; then the whole."""
    question = server.say("Tell me a long story")
    process = await start(bot=Parrot(steps=400, pace=0.3))
    await process.until(lambda: bool(server.texts()))
    assert 1000 <= VirtualClock().now() - EPOCH_MS <= 1500
    assert answer_to("Tell me a long story").startswith(server.texts()[0])
    await process.idle()
    edits = shown_edits(server)
    spaces = [after - before for before, after in pairwise(edits)]
    assert len(edits) == 11
    assert all(space >= 1000 for space in spaces)
    assert spaces[-1] > 3 * spaces[0]
    assert server.answers(question) == [answer_to("Tell me a long story")]


async def test_progress_never_comes_after_the_final_words(server: FakeServer, start: Start) -> None:
    """A progress edit that is still on its way holds up the final words, so it cannot overtake them."""
    question = server.say("Tell me a story")
    process = await start(bot=Parrot(steps=5, pace=1.0), progress_latency=4.0)
    await process.idle()
    assert shown_edits(server)
    assert server.answers(question) == [answer_to("Tell me a story")]


async def test_presence_is_shown_and_ended(server: FakeServer, start: Start) -> None:
    """From a quarter of a second on: a receipt, typing, renewed while it takes, and ended with the answer."""
    server.say("Think hard")
    process = await start(bot=Parrot(steps=0, pace=50))
    await process.idle()
    what = [(at - EPOCH_MS, kind) for at, kind, _ in server.ephemeral]
    assert what[:2] == [(250, "receipt"), (250, "typing")]
    assert [kind for _, kind in what].count("typing") == 3
    assert what[-1][1] == "typing_off"


async def test_streaming_receipts_and_typing_can_be_off(server: FakeServer, start: Start) -> None:
    """The settings turn each of them off, and the answer comes all the same."""
    question = server.say("Tell me a story")
    off = Options(streaming=False, receipts=False, typing=False)
    process = await start(bot=Parrot(steps=5, pace=1.0), options=off)
    await process.idle()
    assert server.ephemeral == []
    assert len(server.attempts) == 1
    assert server.answers(question) == [answer_to("Tell me a story")]


async def test_only_the_asker_is_called_and_once(server: FakeServer, start: Start) -> None:
    """A long answer in a room of many mentions the asker in its first part, and nobody anywhere else."""
    server.say("Everything, please")
    process = await start(part_size=10)
    await process.idle()
    mentions = [action.action.mentions for _, action in server.attempts]  # type: ignore[union-attr]
    assert mentions == [(ADA.id,), *[()] * (len(mentions) - 1)]
    assert len(mentions) > 2


# -- failures --------------------------------------------------------------------------------------


async def test_a_model_that_comes_back_is_asked_again(server: FakeServer, start: Start) -> None:
    """Two failures, with growing pauses, are not told to anybody; the third run answers."""
    question = server.say("Hello?")
    bot = Broken(2)
    process = await start(bot=bot)
    await process.idle()
    assert server.answers(question) == ["At last."]
    assert bot.at[1] - bot.at[0] >= 1000
    assert bot.at[2] - bot.at[1] > bot.at[1] - bot.at[0]


async def test_three_failures_park_the_turn_and_tell_once(server: FakeServer, start: Start) -> None:
    """After the third failure the asker is told, once, and the turn waits for the operator."""
    question = server.say("Hello?")
    process = await start(bot=Broken(9))
    await process.idle()
    await asyncio.sleep(3600)
    assert server.answers(question) == [wording.failed(wording.Failure.MODEL_UNAVAILABLE)]
    (turn,) = await process.journal.turns()
    assert (turn.state, turn.outcome, turn.rule) == ("parked", "failed", "hearth.attempts")


async def test_a_bug_in_a_bot_costs_its_own_turn(server: FakeServer, start: Start) -> None:
    """A bot that raises is told of after three runs; the questions of others are answered."""

    def said(text: str) -> str:
        if "bug" in text:
            raise ZeroDivisionError
        return answer_to(text)

    bad = server.say("a bug", thread="$t")
    good = server.say("Hello?", by=BEN)
    process = await start(bot=Parrot(said=said))
    await process.idle()
    assert server.answers(good) == [answer_to("Hello?")]
    assert server.answers(bad) == [wording.failed(wording.Failure.INTERNAL)]


async def test_a_run_has_a_deadline(server: FakeServer, start: Start) -> None:
    """A bot that never ends is ended by `turn_deadline`, three times, and then told of."""
    question = server.say("Hello?")
    process = await start(bot=Parrot(pace=1e9), options=Options(turn_deadline=60))
    await process.idle()
    assert server.answers(question) == [wording.failed(wording.Failure.MODEL_TIMEOUT)]
    assert VirtualClock().now() - EPOCH_MS >= 180_000


# -- refusals --------------------------------------------------------------------------------------


async def test_a_refusal_is_told_with_its_rule(server: FakeServer, start: Start) -> None:
    """Who may not ask is told so in a notice; the journal says by which rule; no model runs."""
    bot = Parrot()
    question = server.say("Hello?", by=BEN)
    process = await start(bot=bot, policy=RoomPolicy(askers=frozenset({ADA.id})))
    await process.idle()
    assert len(server.answers(question)) == 1
    assert server.attempts[0][1].action.notice  # type: ignore[union-attr]
    assert bot.runs == []
    (turn,) = await process.journal.turns()
    assert (turn.outcome, turn.code, turn.rule) == ("refused", "not_an_asker", "policy.askers")


async def test_other_bots_are_refused_silently(server: FakeServer, start: Start) -> None:
    """A bot gets no word, so that two never talk without end."""
    server.say("I am a bot", by=Person("@other:home", is_bot=True))
    process = await start()
    await process.idle()
    assert server.texts() == []
    assert [turn.code for turn in await process.journal.turns()] == ["bot"]


async def test_a_question_from_long_ago_is_not_answered(server: FakeServer, start: Start) -> None:
    """After a long downtime nobody is answered about what no longer matters, and `!why` can say so."""
    server.say("Is dinner ready?")
    await asyncio.sleep(7200)
    process = await start()
    await process.idle()
    assert server.texts() == []
    assert [turn.code for turn in await process.journal.turns()] == ["expired"]


async def test_a_loop_is_noticed_once(server: FakeServer, start: Start) -> None:
    """Beyond twenty messages in a minute an account is told once, and then met with silence."""
    for number in range(25):
        server.say(f"{number}?")
    process = await start()
    await process.idle()
    notices = [text for text in server.texts() if text == wording.loop_notice()]
    assert len(notices) == 1
    codes = [turn.code for turn in await process.journal.turns()]
    assert codes.count("loop") == 25 - codes.count("allowed")
    assert len(server.texts()) == codes.count("allowed") + 1


# -- !stop -----------------------------------------------------------------------------------------

STOPPED = wording.stopped()


async def running(server: FakeServer, start: Start, **kinds: Any) -> tuple[Process, str]:
    """A process in the middle of a long answer, its draft shown."""
    question = server.say("Tell me a story")
    process = await start(bot=Parrot(steps=100, pace=0.5), **kinds)
    await process.until(lambda: bool(server.texts()))
    return process, question


@pytest.mark.parametrize("who", [ADA, MOD])
async def test_the_asker_and_a_moderator_can_stop(server: FakeServer, start: Start, who: Person) -> None:
    """`!stop` ends the run at once; its draft says that it was stopped, and the stopper is told."""
    process, question = await running(server, start)
    before = VirtualClock().now()
    stop = server.say("!stop", by=who, mention=False)
    await process.idle()
    assert VirtualClock().now() - before < 1000
    assert server.answers(question) == [STOPPED]
    assert server.answers(stop) == [STOPPED]
    (turn,) = await process.journal.turns()
    assert turn.outcome == "stopped"


async def test_others_cannot_stop(server: FakeServer, start: Start) -> None:
    """Somebody else's `!stop` is refused with its rule, and the answer goes on."""
    process, question = await running(server, start)
    stop = server.say("!stop", by=BEN, mention=False)
    await process.idle()
    assert server.answers(question) == [answer_to("Tell me a story")]
    assert len(server.answers(stop)) == 1
    assert "moderator" in server.answers(stop)[0]


async def test_nothing_to_stop(server: FakeServer, start: Start) -> None:
    """`!stop` where nothing runs says so."""
    stop = server.say("!stop")
    process = await start()
    await process.idle()
    assert server.answers(stop) == [wording.nothing_to_stop()]


async def test_an_unhandled_stop_is_handled_before_the_first_claim(server: FakeServer, start: Start) -> None:
    """A `!stop` that was stored when the process died ends its turn before anything is claimed again."""
    process, question = await running(server, start)
    process.journal.stop_turns = _dies(process)  # type: ignore[method-assign,assignment]  # this one dies
    server.say("!stop", mention=False)
    await process.boundaries.dead.wait()
    await process.kill()
    bot = Parrot()
    process = await start(bot=bot)
    await process.idle()
    assert bot.runs == []
    assert server.answers(question) == [STOPPED]


def _dies(process: Process) -> Callable[..., Awaitable[None]]:
    async def stop_turns(*values: Any) -> None:
        process.boundaries.dead.set()
        process.boundaries.cross("before stop_turns")

    return stop_turns


# -- waiting ---------------------------------------------------------------------------------------


class Asks:
    """A bot that asks back and goes on with the reply, or with the deadline."""

    name = "chat"

    def __init__(self, minutes: int = 10) -> None:
        self.minutes = minutes

    async def reply(self, turn: Turn, tools: Tools) -> AsyncGenerator[Draft | Waiting | Reply]:
        await asyncio.sleep(1)
        match turn.kind:
            case TurnKind.ANSWERED:
                yield Reply(f"So: {turn.message.text} ({turn.waited['for']})")
            case TurnKind.DEADLINE:
                yield Reply(f"Nobody said anything ({turn.waited['for']})")
            case _:
                until = VirtualClock().now() + self.minutes * 60_000
                yield Reply("Which one?", wait=Wait(until, {"for": turn.message.text}))


async def asked_back(server: FakeServer, start: Start) -> tuple[Process, str]:
    server.say("The usual")
    process = await start(bot=Asks())
    await process.until(lambda: bool(server.texts()))
    return process, server.shown()[0].id


async def test_a_waiting_turn_goes_on_with_the_reply(server: FakeServer, start: Start) -> None:
    """A reply to what a waiting turn said continues it with its state and settles both; no deadline comes."""
    process, asked = await asked_back(server, start)
    answer = server.say("the red one", reply_to=asked, mention=False)
    await process.idle()
    await asyncio.sleep(3600)
    process.router.ring()
    await process.idle()
    assert server.answers(answer) == ["So: the red one (The usual)"]
    assert len(server.texts()) == 2
    assert [t.outcome for t in await process.journal.turns()] == ["answered", "continued"]


async def test_a_waiting_turn_goes_on_at_its_deadline_also_after_a_restart(
    server: FakeServer, start: Start
) -> None:
    """The deadline is a row: a process that was down when it passed makes up for it, once."""
    process, _ = await asked_back(server, start)
    await process.stop()
    await asyncio.sleep(3600)
    process = await start(bot=Asks())
    await process.until(lambda: len(server.texts()) == 2)
    await process.idle()
    assert server.texts()[1] == "Nobody said anything (The usual)"
    assert [t.outcome for t in await process.journal.turns()] == ["answered", "continued"]


async def test_the_deadline_passes_while_the_reply_is_answered(server: FakeServer, start: Start) -> None:
    """Whichever comes first continues a waiting turn, and the other one does not."""
    process, asked = await asked_back(server, start)
    await asyncio.sleep(599)
    server.say("the red one", reply_to=asked, mention=False)
    await asyncio.sleep(10)
    await process.idle()
    assert len(server.texts()) == 2
    assert {t.kind for t in await process.journal.turns()} == {"message", "answered"}


async def test_two_replies_continue_once(server: FakeServer, start: Start) -> None:
    """The first reply continues the waiting turn; a second one is a question of its own."""
    process, asked = await asked_back(server, start)
    server.say("the red one", reply_to=asked, mention=False)
    server.say("no, the blue one", reply_to=asked, mention=False)
    await process.until(lambda: len(server.texts()) == 3)
    kinds = [turn.kind for turn in await process.journal.turns()]
    assert sorted(kinds) == ["answered", "message", "message"]


async def test_a_lane_keeps_its_order_and_lanes_run_side_by_side(server: FakeServer, start: Start) -> None:
    """Questions of one room are answered one after the other; those of a thread do not wait for them."""
    first = server.say("one")
    second = server.say("two", by=BEN)
    beside = server.say("three", thread="$t")
    process = await start(bot=Parrot(pace=10), options=Options(streaming=False))
    await process.idle()
    assert [event.reply_to for event in server.shown()] in (
        [first, beside, second],
        [beside, first, second],
    )
    assert VirtualClock().now() - EPOCH_MS < 25_000


async def test_a_graceful_stop_costs_no_answer(server: FakeServer, start: Start) -> None:
    """A turn that still runs after the grace is left pending, counts no death, and is answered later."""
    question = server.say("Tell me a story")
    process = await start(bot=Parrot(pace=100), options=Options(streaming=False))
    await asyncio.sleep(5)
    await process.stop(grace=20)
    assert server.texts() == []
    process = await start()
    await process.idle()
    assert server.answers(question) == [answer_to("Tell me a story")]
    (turn,) = await process.journal.turns()
    assert (turn.deaths, turn.attempts) == (0, 0)


async def test_joining_is_greeted_once(server: FakeServer, start: Start) -> None:
    """Where Hearth comes in it says once what it reads and keeps, whatever the policy says about asking."""
    server.join()
    process = await start(policy=RoomPolicy())
    await process.idle()
    assert len(server.texts()) == 1
    assert [turn.outcome for turn in await process.journal.turns()] == ["answered"]
    assert ANYONE.admits(OWN)
