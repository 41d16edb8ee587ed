"""The terminal behind the port: lines become messages, actions are shown once, nothing steers it."""

from __future__ import annotations

import asyncio
import io
import unicodedata
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bots.conversation import Attachment, PlaceKind, Redact, Revise, Say, Upload
from bridge.console import ACCOUNT, PLACE, SERVER, ConsolePlatform, printable
from bridge.platform import Ephemeral, EventKind, Found, Refused, StoredAction
from policies.room import RoomPolicy

if TYPE_CHECKING:
    from bridge.platform import Batch, Event

DEADLINE = 10.0


def _terminal(*, draws: bool = False) -> Console:
    return Console(file=io.StringIO(), force_terminal=draws, width=80, highlight=False)


def _printed(out: Console) -> str:
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def _say(key: str, text: str) -> StoredAction:
    return StoredAction(key=key, place=PLACE, action=Say(text), created_at=0)


async def _read(platform: ConsolePlatform) -> list[Event]:
    """All lines as events; the reading ends when the input has."""
    batches: list[Batch] = []

    async def consume() -> None:
        async for batch in platform.events(None):
            batches.append(batch)  # noqa: PERF401 - a comprehension would lose all when it is cancelled

    reading = asyncio.create_task(consume())
    await asyncio.wait_for(platform.ended.wait(), DEADLINE)
    assert not reading.done(), "an end of the events would end the house while answers are under way"
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert [batch.cursor for batch in batches] == [str(number) for number in range(len(batches))]
    assert batches[0].places[0].place.kind is PlaceKind.DIRECT
    return [event for batch in batches for event in batch.events]


async def test_each_line_is_a_message_to_us() -> None:
    """Every line that says something is one message from the person, in order, addressed to the bot."""
    lines = io.StringIO("Hello\n\n  \nWho are you?\nand you")
    events = await _read(ConsolePlatform("ada", lines=lines, out=_terminal()))
    assert [event.text for event in events] == ["Hello", "Who are you?", "and you"]
    assert {event.sender.id for event in events} == {"@ada:console"}
    assert all(event.addressed and event.kind is EventKind.MESSAGE for event in events)
    assert len({event.id for event in events}) == 3


async def test_a_question_on_the_command_line_is_the_only_line() -> None:
    """`hearth chat QUESTION` reads nothing from the input."""
    events = await _read(
        ConsolePlatform("ada", lines=io.StringIO("never read"), question="Hi", out=_terminal())
    )
    assert [event.text for event in events] == ["Hi"]


async def test_more_lines_than_the_queue_holds_arrive_all() -> None:
    """A long pipe waits for us; nothing of it is dropped."""
    lines = io.StringIO("".join(f"{number}\n" for number in range(500)))
    events = await _read(ConsolePlatform("ada", lines=lines, out=_terminal()))
    assert [event.text for event in events] == [str(number) for number in range(500)]


async def test_ids_are_new_in_every_session() -> None:
    """A second session's messages are not taken for those of the first, which the journal knows."""
    first, second = [await _read(ConsolePlatform("ada", question="Hi", out=_terminal())) for _ in range(2)]
    assert first[0].id != second[0].id


async def test_an_action_is_shown_once_per_key() -> None:
    """Delivery may repeat itself; the terminal does not, and it knows what it has shown."""
    out = _terminal()
    platform = ConsolePlatform("ada", question="Hi", out=out)
    action = _say("k1", "On Tuesday.")
    assert await platform.find(action) is Found.ABSENT
    assert await platform.perform(action) == await platform.perform(action) == "k1"
    assert await platform.find(action) == "k1"
    assert _printed(out) == "On Tuesday.\n"


async def test_what_is_revised_and_taken_back_is_said_so() -> None:
    """A terminal cannot unsay: a revision is shown below, and marked."""
    out = _terminal()
    platform = ConsolePlatform("ada", question="Hi", out=out)
    await platform.perform(_say("k1", "On Tuesday."))
    revise = replace(_say("k2", ""), action=Revise("k1", "On Wednesday."), target="k1")
    await platform.perform(revise)
    await platform.perform(replace(_say("k3", ""), action=Redact("k1"), target="k1"))
    assert _printed(out) == "On Tuesday.\n(revised)\nOn Wednesday.\n(revised)\n*(taken back)*\n"


async def test_a_file_is_named_and_goes_nowhere() -> None:
    """An upload shows nothing; the message that would show the file says so. Nothing can be fetched."""
    out = _terminal()
    platform = ConsolePlatform("ada", question="Hi", out=out)
    upload = replace(_say("k1", ""), action=Upload("note.txt", "text/plain", "said"))
    assert await platform.find(upload) is Found.ABSENT
    target = await platform.perform(upload)
    say = replace(_say("k2", ""), action=Say("note.txt", upload="k1"), target=target)
    await platform.perform(say)
    assert _printed(out) == "(note.txt would be sent as a file)\n"
    with pytest.raises(Refused, match="hearth transcribe"):
        await platform.fetch(Attachment("x"), io.BytesIO(), 100)


async def test_a_draft_that_grows_ends_as_one_text_on_a_terminal() -> None:
    """Spinner, draft, progress and final words share one region; only the final words stay."""
    out = _terminal(draws=True)
    platform = ConsolePlatform("ada", question="Hi", out=out)
    await platform.typing(PLACE, on=True)
    await platform.perform(_say("k1", "On"))
    await platform.progress(Ephemeral(PLACE, "$1", text="On Tues", answer="k1"))
    final = replace(_say("k2", ""), action=Revise("k1", "On Tuesday at nine."), target="k1")
    await platform.perform(final)
    platform.rest()
    shown = _printed(out)
    assert "On Tuesday at nine." in shown
    assert "(revised)" not in shown
    assert shown.endswith("\x1b[?25h"), "the cursor is given back"


async def test_in_a_pipe_drafts_and_spinners_are_never_printed() -> None:
    """What another program reads is the answers and nothing else."""
    out = _terminal()
    platform = ConsolePlatform("ada", question="Hi", out=out)
    platform.prompt()
    await platform.typing(PLACE, on=True)
    await platform.progress(Ephemeral(PLACE, "$1", text="On Tues"))
    await platform.typing(PLACE, on=False)
    await platform.close()
    assert _printed(out) == ""


async def test_a_conversation_ends_after_the_last_answer() -> None:
    """`converse` waits for the answer to the last line, not only for the end of the input."""
    out = _terminal()
    platform = ConsolePlatform("ada", lines=io.StringIO("one\ntwo\n"), out=out)
    asked: list[str] = []
    answered = asyncio.Event()

    async def house() -> None:
        async for batch in platform.events(None):
            asked.extend(event.text for event in batch.events)
            if len(asked) == 2:
                answered.set()

    living = asyncio.create_task(house())

    async def all_answered() -> None:
        await answered.wait()
        for text in asked:
            await platform.perform(_say(text, f"answer to {text}"))

    await asyncio.wait_for(platform.converse(all_answered), DEADLINE)
    living.cancel()
    assert _printed(out) == "answer to one\nanswer to two\n"


@pytest.mark.parametrize("draws", [False, True])
async def test_an_answer_cannot_steer_the_terminal(*, draws: bool) -> None:
    """Escape sequences of a model (or of somebody it quotes) arrive as harmless text."""
    out = _terminal(draws=draws)
    platform = ConsolePlatform("ada", question="Hi", out=out)
    await platform.perform(_say("k1", "title \x1b]0;owned\x07 clear \x1b[2J and \x9b31m [bold]tags[/bold]"))
    shown = _printed(out)
    assert "\x1b]0" not in shown
    assert "\x1b[2J" not in shown
    assert "\x9b" not in shown
    assert "[bold]tags[/bold]" in shown


@given(st.text())
def test_printable_keeps_words_and_drops_control(text: str) -> None:
    """No control character but newline and tab survives, and nothing else is lost."""
    assert printable(text) == "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")


def test_the_person_at_the_terminal_is_an_asker() -> None:
    """The rule is the one for everybody: allowed by the name of the server."""
    assert RoomPolicy(askers=frozenset({SERVER})).admits(f"@ada:{SERVER}")
    assert ACCOUNT.endswith(f":{SERVER}")
