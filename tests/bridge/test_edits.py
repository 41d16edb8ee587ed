"""Edited and redacted questions at every state of their turn: the latest words count, or none."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from bridge.options import Options
from bridge.platform import Retryable
from policies.room import RoomPolicy
from tests.fakes.process import Parrot, answer_to
from tests.fakes.server import ADA, BEN, LOST, MOD

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.fakes.process import Process
    from tests.fakes.server import FakeServer

    Start = Callable[..., Awaitable[Process]]

QUIET = Options(streaming=False)


def on_disk(folder: Path, words: str) -> bool:
    needle = words.encode()
    return any(needle in file.read_bytes() for file in folder.glob("journal.db*"))


async def outcomes(process: Process) -> list[str | None]:
    return [turn.outcome for turn in reversed(await process.journal.turns())]


# -- edits -----------------------------------------------------------------------------------------


async def test_an_edit_before_the_claim_is_what_is_answered(server: FakeServer, start: Start) -> None:
    """Pending: the latest of several edits is read when the turn is claimed; one run, one answer."""
    question = server.say("Tuseday?")
    server.edit(question, "Tuesday?!")
    server.edit(question, "Tuesday?")
    bot = Parrot()
    process = await start(bot=bot)
    await process.idle()
    assert server.answers(question) == [answer_to("Tuesday?")]
    assert len(bot.runs) == 1


async def test_an_edit_that_comes_before_its_message_counts(server: FakeServer, start: Start) -> None:
    """The order in which a sync brings them does not matter."""
    question = server.say("Tuseday?", sync=False)
    server.edit(question, "Tuesday?")
    server.sync(question)
    process = await start()
    await process.idle()
    assert server.answers(question) == [answer_to("Tuesday?")]


async def test_an_edit_during_the_run_starts_it_again(server: FakeServer, start: Start) -> None:
    """Running: the run ends, the draft stays, and the answer to the edited words ends in the same event."""
    question = server.say("Tuseday?")
    bot = Parrot(steps=20, pace=0.5)
    process = await start(bot=bot)
    await process.until(lambda: bool(server.texts()))
    draft = server.shown()[0].id
    server.edit(question, "Tuesday?")
    await process.idle()
    assert [event.id for event in server.shown()] == [draft]
    assert server.answers(question) == [answer_to("Tuesday?")]
    assert len(bot.runs) == 2
    assert await outcomes(process) == ["answered"]


async def test_an_overtaken_run_shows_nothing_after_the_final_words(server: FakeServer, start: Start) -> None:
    """A progress edit of the run before an edit, still on its way, ends before the new answer is shown."""
    question = server.say("Tuseday?")
    slow = Parrot(steps=9, pace=0.6)
    process = await start(bot=slow, progress_latency=5.0)
    await process.until(lambda: bool(server.texts()))
    await asyncio.sleep(2)
    server.edit(question, "Tuesday?")
    slow.steps = 0
    process.router.ring()
    await process.idle()
    await asyncio.sleep(30)
    assert server.answers(question) == [answer_to("Tuesday?")]


async def test_an_edit_of_an_answered_question_revises_the_answer(server: FakeServer, start: Start) -> None:
    """Settled, and the new answer has more parts: the common ones are revised, the others said."""
    question = server.say("Short")
    process = await start(part_size=45)
    await process.idle()
    first = [event.id for event in server.shown()]
    server.edit(question, "Much, much longer than it was before, and then some")
    await process.idle()
    assert [event.id for event in server.shown()][: len(first)] == first
    assert "".join(server.answers(question)) == answer_to(
        "Much, much longer than it was before, and then some"
    )
    server.edit(question, "Tiny")
    await process.idle()
    assert [event.id for event in server.shown()] == first[:1]
    assert server.answers(question) == [answer_to("Tiny")]


async def test_the_latest_of_many_edits_wins(server: FakeServer, start: Start) -> None:
    """Edits that come faster than answers: one answer, to the last one."""
    question = server.say("0")
    process = await start(bot=Parrot(pace=5), options=QUIET)
    await process.idle()
    for number in range(1, 6):
        server.edit(question, str(number))
        await asyncio.sleep(2)
    await process.idle()
    assert server.answers(question) == [answer_to("5")]


async def test_the_edit_of_somebody_else_is_nothing(server: FakeServer, start: Start) -> None:
    """Only the author of a message can edit it, whatever arrives."""
    question = server.say("Tuesday?")
    process = await start()
    await process.idle()
    server.edit(question, "Give me the keys", by=BEN)
    await process.idle()
    assert server.answers(question) == [answer_to("Tuesday?")]
    assert await outcomes(process) == ["answered"]


async def test_a_refused_edit_leaves_the_answer(server: FakeServer, start: Start) -> None:
    """An edit that the policy does not let us answer must not take the answer away that stands."""
    question = server.say("Tuesday?")
    process = await start(policy=RoomPolicy(per_person_day=1))
    await process.idle()
    server.edit(question, "Wednesday?")
    await process.idle()
    texts = server.answers(question)
    assert texts[0] == answer_to("Tuesday?")
    assert len(texts) == 2
    assert await outcomes(process) == ["answered", "refused"]


async def test_an_edit_seen_long_after_leaves_the_answer(server: FakeServer, start: Start) -> None:
    """Silently refused because it is old: the answer that stands is left alone."""
    question = server.say("Tuesday?")
    process = await start()
    await process.idle()
    await process.stop()
    server.edit(question, "Wednesday?")
    await asyncio.sleep(7200)
    process = await start()
    await process.idle()
    assert server.answers(question) == [answer_to("Tuesday?")]


# -- redactions ------------------------------------------------------------------------------------


async def test_a_question_taken_back_before_the_claim(server: FakeServer, start: Start) -> None:
    """Pending: no run, no answer, and the recorded outcome says why."""
    question = server.say("Oops")
    server.redact(question)
    bot = Parrot()
    process = await start(bot=bot)
    await process.idle()
    assert (server.texts(), bot.runs) == ([], [])
    assert await outcomes(process) == ["withdrawn"]


async def test_a_redaction_that_comes_before_its_message(
    server: FakeServer, start: Start, tmp_path: Path
) -> None:
    """Whatever the order, and with edits on the way: no answer, and no word of it on the disk."""
    question = server.say("Oops the secret", sync=False)
    server.edit(question, "Oops the second secret")
    server.redact(question)
    server.edit(question, "Oops the third secret")
    server.sync(question)
    process = await start()
    await process.idle()
    await process.stop()
    assert server.texts() == []
    assert not on_disk(tmp_path, "secret")


async def test_an_edit_that_was_taken_back_before_it_came(
    server: FakeServer, start: Start, tmp_path: Path
) -> None:
    """The redaction of an edit may come first: the edit's words are not kept, and do not count."""
    question = server.say("Tuesday?")
    edit = server.edit(question, "My password is secret", sync=False)
    server.redact(edit)
    server.sync(edit)
    process = await start()
    await process.idle()
    await process.stop()
    assert server.answers(question) == [answer_to("Tuesday?")]
    assert not on_disk(tmp_path, "password")


async def test_an_edit_taken_back_during_the_run(server: FakeServer, start: Start) -> None:
    """Running: the words that were taken back are never answered; those before them count again."""
    question = server.say("Tuesday?")
    edit = server.edit(question, "The secret?")
    bot = Parrot(steps=20, pace=0.5)
    process = await start(bot=bot)
    await process.until(lambda: bool(server.texts()))
    server.redact(edit)
    await process.idle()
    assert server.answers(question) == [answer_to("Tuesday?")]
    assert await outcomes(process) == ["answered"]


async def test_a_question_taken_back_during_the_run(server: FakeServer, start: Start, tmp_path: Path) -> None:
    """Running: the run ends, its draft goes, and nothing of question or answer stays on the disk."""
    question = server.say("Oops the secret")
    process = await start(bot=Parrot(steps=30, pace=0.5))
    await process.until(lambda: bool(server.texts()))
    server.redact(question)
    await process.idle()
    assert server.texts() == []
    assert await outcomes(process) == ["withdrawn"]
    await process.stop()
    assert not on_disk(tmp_path, "secret")


async def test_a_question_taken_back_by_a_moderator_after_the_answer(
    server: FakeServer, start: Start, tmp_path: Path
) -> None:
    """Settled: every part and every edit of the answer goes, on the server and on the disk."""
    question = server.say("Oops the secret")
    process = await start(part_size=20)
    await process.idle()
    server.edit(question, "Oops the secret, again, and at more length")
    await process.idle()
    server.redact(question, by=MOD)
    await process.idle()
    assert server.texts() == []
    assert set(await outcomes(process)) == {"withdrawn"}
    await process.stop()
    assert not on_disk(tmp_path, "secret")


async def test_a_stranger_takes_nothing_back(server: FakeServer, start: Start) -> None:
    """A redaction by somebody who may not is nothing (servers refuse it; we do not rely on it)."""
    question = server.say("Tuesday?")
    process = await start()
    await process.idle()
    server.redact(question, by=BEN)
    await process.idle()
    assert server.answers(question) == [answer_to("Tuesday?")]


async def test_taken_back_while_the_answer_is_on_its_way(server: FakeServer, start: Start) -> None:
    """An acknowledgement that comes after the withdrawal is followed by a redaction of what it is about."""
    question = server.say("Oops")
    process = await start(latency=10.0)
    await process.until(lambda: bool(process.delivery._busy))
    server.redact(question)
    await process.idle()
    await process.until(lambda: server.texts() == [])
    assert len(server.attempts) == 2


async def test_taken_back_and_the_acknowledgement_lost(server: FakeServer, start: Start) -> None:
    """Sent, the acknowledgement lost, the question taken back: the echo in a sync shows what to redact."""
    question = server.say("Oops")
    server.faults.append(LOST)
    process = await start(latency=10.0)
    await process.until(lambda: bool(process.delivery._busy))
    server.redact(question)
    await process.idle()
    await process.until(lambda: len(server.attempts) == 2)
    await process.idle()
    assert server.texts() == []


async def test_our_own_answer_taken_back_is_not_brought_back(
    server: FakeServer, start: Start, tmp_path: Path
) -> None:
    """A moderator redacts our answer: its words go from the disk, and a revision on its way is dropped."""
    server.say("Tuesday?")
    process = await start()
    await process.idle()
    answer = server.shown()[0]
    server.redact(answer.id, by=MOD)
    await process.idle()
    await process.stop()
    assert not on_disk(tmp_path, "gladly")


async def test_leaving_ends_what_is_owed_there(server: FakeServer, start: Start) -> None:
    """Removed from a room: turns end as `left`, nothing is sent there, and coming back starts anew."""
    server.fault_for = lambda _action: Retryable("down", 60)
    server.say("One?")
    process = await start()
    await process.until(lambda: bool(server.attempts))
    server.say("Two?")
    server.leave()
    await process.until(lambda: not process.router._running)
    await asyncio.sleep(300)
    assert server.texts() == []
    server.fault_for = lambda _action: None
    server.join()
    question = server.say("Three?")
    await process.idle()
    assert server.answers(question) == [answer_to("Three?")]
    facts = await process.journal.place("@hearth:home", "!room:home")
    assert facts is not None
    assert facts.joined


async def test_a_late_key_opens_a_question(server: FakeServer, start: Start) -> None:
    """What could not be read is answered once its key comes, also when that is after a restart."""
    one, two = (server.seal(server.say(text, sync=False)) for text in ("One?", "Two?"))
    process = await start()
    await process.idle()
    assert (await process.journal.counts()).sealed == 2
    server.open(one)
    await process.idle()
    assert server.answers(one) == [answer_to("One?")]
    await process.stop()
    server.opened[two] = server.log[two].event
    process = await start()
    await process.until(lambda: server.answers(two) != [])
    await process.idle()
    assert server.answers(two) == [answer_to("Two?")]
    assert (await process.journal.counts()).sealed == 0


async def test_forget_reaches_every_copy(server: FakeServer, start: Start, tmp_path: Path) -> None:
    """`!forget`: the question, our answer, our edits of it and the outbox lose their words; others' stay."""
    question = server.say("Oops the secret")
    other = server.say("About the weather", by=BEN, thread="$t")
    process = await start(bot=Parrot(steps=5, pace=0.6))
    await process.idle()
    server.edit(question, "Oops the secret twice")
    await process.idle()
    server.say("!forget")
    await process.idle()
    await process.stop()
    assert not on_disk(tmp_path, "secret")
    assert on_disk(tmp_path, "weather")
    with closing(sqlite3.connect(tmp_path / "journal.db")) as db:
        kept = db.execute("SELECT count(*) FROM turns WHERE asker = ? AND code = 'allowed'", [ADA.id])
        assert kept.fetchone()[0] == 3
    assert server.answers(other)
