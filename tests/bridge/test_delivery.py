"""The outbox against a server that fails in every way it can: once, in order, or parked and visible."""

from __future__ import annotations

import asyncio
import sqlite3
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bots.conversation import Redact, Revise, Say
from bridge.delivery import MAX_BACKOFF, MAX_WAIT, Before, backoff, before
from bridge.platform import Broken, Misconfigured, Refused, Retryable, StoredAction
from tests.fakes.clock import EPOCH_MS, VirtualClock
from tests.fakes.process import Parrot, answer_to
from tests.fakes.server import BEN, HANG, LOST, FakeServer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bridge.journal import ActionRow
    from tests.fakes.process import Process

    Start = Callable[..., Awaitable[Process]]

OTHER = "!other:home"


def now() -> int:
    return VirtualClock().now() - EPOCH_MS


async def actions(process: Process) -> list[ActionRow]:
    found: list[ActionRow] = []
    for turn in reversed(await process.journal.turns()):
        detail = await process.journal.turn(turn.id)
        assert detail is not None
        found += detail.actions
    return found


# -- pure ------------------------------------------------------------------------------------------


@given(st.integers(0, 100), st.none() | st.floats(0, 1e6), st.floats(0, 1))
def test_backoff_is_bounded_and_honours_the_server(attempts: int, after: float | None, jitter: float) -> None:
    """Never more than the cap, never sooner than the server said (up to the cap), always jittered."""
    wait = backoff(attempts, after, jitter)
    assert 0.5 <= wait <= max(MAX_BACKOFF, min(after or 0.0, MAX_WAIT))
    assert wait >= min(after or 0.0, MAX_WAIT)
    assert backoff(attempts + 1, None, jitter) >= backoff(attempts, None, jitter)


def test_what_to_do_before_a_send() -> None:
    """Young and of this device: send. Old, or of another device: look. An edit of what never was: park."""
    say = StoredAction("k", "!r", Say("a"), created_at=0, device="D")
    assert before(say, device="D", key_memory=10, now=10_000) is Before.SEND
    assert before(say, device="D", key_memory=10, now=10_001) is Before.LOOK
    assert before(say, device="E", key_memory=10, now=0) is Before.LOOK
    for action in (Revise("t", "a"), Redact("t")):
        assert before(StoredAction("k", "!r", action, 0), device="", key_memory=10, now=0) is Before.PARK


# -- retries ---------------------------------------------------------------------------------------


async def test_it_is_tried_until_it_works(server: FakeServer, start: Start) -> None:
    """Errors that may pass cost growing pauses and nothing else; one message in the end."""
    server.faults.extend([Retryable("503")] * 5)
    question = server.say("Hello?")
    process = await start()
    await process.idle()
    assert server.answers(question) == [answer_to("Hello?")]
    at = [when for when, _ in server.attempts]
    pauses = [after - earlier for earlier, after in pairwise(at)]
    assert len(pauses) == 5
    assert pauses[-1] > pauses[0]
    assert len({action.key for _, action in server.attempts}) == 1


async def test_retry_after_is_honoured(server: FakeServer, start: Start) -> None:
    """The server says 90 seconds: not a moment sooner."""
    server.faults.append(Retryable("429", after=90))
    server.say("Hello?")
    process = await start()
    await process.idle()
    (first, _), (second, _) = server.attempts
    assert second - first >= 90_000


async def test_a_lost_acknowledgement_shows_once(server: FakeServer, start: Start) -> None:
    """The server has it and the answer got lost: the same key again, one message."""
    server.faults.extend([LOST, LOST])
    question = server.say("Hello?")
    process = await start()
    await process.idle()
    assert server.answers(question) == [answer_to("Hello?")]


async def test_a_server_that_never_answers_is_tried_again(server: FakeServer, start: Start) -> None:
    """An attempt has a deadline of a minute."""
    server.faults.append(HANG)
    question = server.say("Hello?")
    process = await start()
    await process.idle()
    assert server.answers(question) == [answer_to("Hello?")]
    assert now() > 60_000


async def test_a_bug_of_an_adapter_is_no_busy_loop(server: FakeServer, start: Start) -> None:
    """An exception that no adapter should raise costs pauses like any other failure, and stops nobody."""
    server.faults.extend([ZeroDivisionError("bug")] * 3)  # type: ignore[list-item]  # that is the point
    question = server.say("Hello?")
    process = await start()
    await process.idle()
    assert server.answers(question) == [answer_to("Hello?")]
    assert len(server.attempts) == 4
    assert now() > 3_000


@pytest.mark.parametrize("error", [Refused("M_FORBIDDEN", "let me in"), Broken("too large")])
async def test_what_can_never_work_is_parked_and_visible(
    server: FakeServer, start: Start, error: Exception
) -> None:
    """Tried once, parked, shown by `stuck`, and out of the way of what comes after; `retry` tries again."""
    server.faults.append(error)  # type: ignore[arg-type]  # both are PlatformErrors
    first = server.say("One?")
    second = server.say("Two?")
    process = await start()
    await process.until(lambda: bool(server.answers(second)))
    assert server.answers(first) == []
    _, stuck = await process.journal.stuck(VirtualClock().now())
    assert [(one.state, one.error) for one in stuck] == [("parked", str(error))]
    (turn,) = [t.id for t in await process.journal.turns() if t.cause == first]
    assert await process.journal.retry(turn)
    process.delivery.ring()
    await process.until(lambda: bool(server.answers(first)))
    await process.idle()


async def test_what_only_the_operator_can_mend_is_kept(server: FakeServer, start: Start) -> None:
    """A wrong token is not the fault of the answer: it waits, long, and goes out once that is mended."""
    server.faults.append(Misconfigured("token", "log in again"))
    question = server.say("Hello?")
    process = await start()
    await process.idle()
    assert server.answers(question) == [answer_to("Hello?")]
    assert now() >= MAX_BACKOFF * 1000


async def test_after_two_days_it_is_given_up(server: FakeServer, start: Start) -> None:
    """A server that is away for days: parked in the end, not tried for ever."""
    server.fault_for = lambda _action: Retryable("503")
    server.say("Hello?")
    process = await start()
    await asyncio.sleep(2.05 * 86_400)
    await process.idle()
    assert [action.state for action in await actions(process)] == ["parked"]
    assert 2 * 86_400_000 < server.attempts[-1][0] - EPOCH_MS < 2.01 * 86_400_000


# -- order -----------------------------------------------------------------------------------------


async def test_order_within_a_place_holds_through_failures(server: FakeServer, start: Start) -> None:
    """Parts and answers of one room arrive in the order in which they were settled, whatever fails."""
    server.faults.extend([Retryable("x"), None, LOST, Retryable("x"), Retryable("x", 30)])
    first = server.say("One, please, in several parts")
    second = server.say("Two, please, in several parts", by=BEN)
    process = await start(part_size=20)
    await process.idle()
    shown = "".join(text for text in server.texts())
    assert shown == "".join(
        answer_to(server.log[question].event.text) for question in (first, second)
    ) or shown == "".join(answer_to(server.log[question].event.text) for question in (second, first))


async def test_places_do_not_wait_for_each_other(server: FakeServer, start: Start) -> None:
    """A room whose server part hangs, and one that has to be retried, hold up nobody."""
    server.room(OTHER)
    server.fault_for = lambda action: HANG if action.place == OTHER and now() < 300_000 else None
    server.faults.append(None)
    stuck = server.say("Stuck?", place=OTHER)
    process = await start()
    await process.until(lambda: len(server.attempts) >= 1)
    server.fault_for = lambda action: (
        HANG
        if action.place == OTHER and now() < 300_000
        else Retryable("later", 2)
        if action.place != OTHER and now() < 2_000
        else None
    )
    await asyncio.sleep(0.5)
    question = server.say("Hello?")
    await process.until(lambda: bool(server.answers(question)))
    assert now() < 10_000
    await process.idle()
    assert server.answers(stuck) == [answer_to("Stuck?")]


# -- look before resend ----------------------------------------------------------------------------


async def left_unsent(server: FakeServer, start: Start, fault: Any) -> str:
    """An answer whose first attempt failed, and whose process is gone."""
    server.echoes = False
    server.fault_for = lambda _action: fault
    question = server.say("Hello?")
    process = await start()
    await process.until(lambda: process.delivery.counts.retried > 0)
    await process.kill()
    server.fault_for = lambda _action: None
    return question


@pytest.mark.parametrize("device", ["DEVICE", "OTHER"])
@pytest.mark.parametrize("fault", [LOST, Retryable("503")])
async def test_past_the_memory_of_keys_it_is_looked_for(
    server: FakeServer, start: Start, device: str, fault: Any
) -> None:
    """Days later, or under another device: found is not sent again, absent is sent; never a duplicate."""
    question = await left_unsent(server, start, fault)
    await asyncio.sleep(1.5 * 86_400 if device == "DEVICE" else 1)
    process = await start(device=device)
    await process.idle()
    assert server.answers(question) == [answer_to("Hello?")]
    assert [one.possible_duplicates for one in await actions(process)] == [0]


async def test_a_server_that_cannot_say_gets_it_again_and_it_is_counted(
    server: FakeServer, start: Start
) -> None:
    """Where looking says nothing, losing it would be worse: sent, and shown as a possible duplicate."""
    server.blind = True
    question = await left_unsent(server, start, LOST)
    process = await start(device="OTHER")
    await process.idle()
    assert server.answers(question) == [answer_to("Hello?")] * 2
    assert [one.possible_duplicates for one in await actions(process)] == [1]


# -- the disk is full ------------------------------------------------------------------------------


def full(journal: Any, *names: str, times: int = 3) -> list[str]:
    """Make the next `times` of some writes fail as they do on a full disk."""
    failed: list[str] = []

    def failing(name: str) -> Callable[..., Awaitable[Any]]:
        write = getattr(journal, name)

        async def wrapped(*values: Any, **named: Any) -> Any:
            if failed.count(name) < times:
                failed.append(name)
                raise sqlite3.OperationalError("database or disk is full")
            return await write(*values, **named)

        return wrapped

    for name in names:
        setattr(journal, name, failing(name))
    return failed


@pytest.mark.parametrize(
    "write", ["admit", "claim", "draft", "settle", "acknowledge", "stop_turns", "retry_action"]
)
async def test_a_full_disk_is_waited_out(server: FakeServer, start: Start, write: str) -> None:
    """Whichever write fails for want of space: once there is some, everything is answered, once."""
    process = await start(bot=Parrot(steps=8, pace=0.4))
    failed = full(process.journal, write)
    server.faults.append(Retryable("503"))
    question = server.say("Hello?")
    beside = server.say("And here?", thread="$t")
    stop = server.say("!stop", thread="$u")
    await process.idle(3 * 3600)
    assert failed
    assert server.answers(question) == [answer_to("Hello?")]
    assert server.answers(beside) == [answer_to("And here?")]
    await process.until(lambda: len(server.answers(stop)) == 1)
