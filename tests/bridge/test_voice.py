"""Voice from the event to the answer, in process: the real scribe and journal, a speech model that reads."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from bots.chat import Chat, Persona
from bots.scribe import Scribe
from bridge.options import Options
from bridge.platform import Retryable
from models.client import ModelUnavailable
from policies.room import RoomPolicy, Voice
from tests.fakes.process import ANYONE, FakeModel, FakeSpeech
from tests.fakes.server import ADA, BEN

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from pathlib import Path
    from typing import Any, BinaryIO

    from models.hearing import Heard
    from tests.fakes.process import Process
    from tests.fakes.server import FakeServer

    Start = Callable[..., Awaitable[Process]]

CHAT = Chat(Persona("Hearth", "You are Hearth."))
PLAIN = Options(streaming=False)


def voice_of(mode: Voice) -> RoomPolicy:
    return RoomPolicy(askers=ANYONE.askers, voice=mode)


@pytest.fixture
def listening(start: Start) -> Start:
    """A process with the real scribe and chat bots."""

    async def started(**kinds: Any) -> Process:
        return await start(**{"bot": CHAT, "scribe": Scribe(CHAT), "options": PLAIN, **kinds})

    return started


async def test_a_spoken_question_is_shown_and_answered(server: FakeServer, listening: Start) -> None:
    """What was heard stands before the answer; it is the model that reads it, as words of the speaker."""
    question = server.speak(b"When does the plumber come?")
    await (await listening()).idle()
    (answer,) = server.answers(question)
    heard, _, said = answer.partition("\n\n")
    assert "🎙" in heard
    assert "When does the plumber come?" in heard
    assert said == "Yes."


async def test_unasked_voice_is_left_alone(server: FakeServer, listening: Start) -> None:
    """In a room of many a voice message that is not for us is neither fetched nor heard nor answered."""
    speech = Deaf()
    server.speak(b"Hearth, when?", mention=False)
    process = await listening(speech=speech)
    await process.idle()
    assert server.texts() == []
    assert speech.asked == 0
    assert await process.journal.turns() == []


@pytest.mark.parametrize(
    ("mode", "words", "answers"),
    [
        (Voice.NAMED, b"Hearth, when does he come?", 1),
        (Voice.NAMED, b"See you on Tuesday.", 0),
        (Voice.ALL, b"See you on Tuesday.", 1),
    ],
)
async def test_what_the_room_wants_heard(
    server: FakeServer, listening: Start, mode: Voice, words: bytes, answers: int
) -> None:
    """`named` answers what begins with the name and says nothing else; `all` writes everything down."""
    question = server.speak(words, mention=False)
    process = await listening(policy=voice_of(mode))
    await process.idle()
    assert len(server.answers(question)) == answers
    (turn,) = await process.journal.turns()
    assert turn.outcome == "answered"


async def test_voice_that_is_off_says_so(server: FakeServer, listening: Start) -> None:
    """Asked, we say that voice is off here; nothing is fetched."""
    speech = Deaf()
    question = server.speak(b"Hello?")
    await (await listening(policy=voice_of(Voice.OFF), speech=speech)).idle()
    assert len(server.answers(question)) == 1
    assert speech.asked == 0


async def test_an_ear_writes_down_an_earlier_voice_message(server: FakeServer, listening: Start) -> None:
    """The reaction of anybody who may ask is enough; the transcript replies to the voice message."""
    voice = server.speak(b"The key is under the pot.", mention=False)
    server.react(voice, by=BEN)
    await (await listening()).idle()
    (transcript,) = server.answers(voice)
    assert "The key is under the pot." in transcript


async def test_a_transcript_is_made_once(server: FakeServer, listening: Start) -> None:
    """Other forms of it come from the journal; the file that is shown has its words and times."""
    speech = Deaf(deaf=0)
    voice = server.speak(b"The key is under the pot.")
    process = await listening(speech=speech)
    await process.idle()
    server.say("!transcript srt", reply_to=voice, mention=False)
    await process.idle()
    assert speech.asked == 1
    (file,) = [one for one in server.shown() if one.attachments]
    words = server.read(file.attachments[0].source).decode()
    assert "00:00:00,000 --> 00:00:02,000" in words
    assert "The key is under the pot." in words


async def test_what_was_heard_is_part_of_the_conversation(server: FakeServer, listening: Start) -> None:
    """The next question sees what was spoken before it, without our own quote of it."""
    model = Listener()
    server.speak(b"The plumber comes on Tuesday.")
    process = await listening(model=model)
    await process.idle()
    server.say("Hearth: when does he come?")
    await process.idle()
    prompt = "\n".join(message["content"] for message in model.asked[-1])
    assert prompt.count("The plumber comes on Tuesday.") == 1
    assert "🎙" not in prompt


async def test_taken_back_while_it_is_heard(server: FakeServer, listening: Start, tmp_path: Path) -> None:
    """The run ends, nothing is said, and no word of it is on the disk."""
    question = server.speak(b"the secret of the house")
    process = await listening(speech=Deaf(deaf=0, pace=5.0))
    await process.until(lambda: bool(process.router._running))
    server.redact(question)
    await process.idle()
    await process.stop()
    assert server.texts() == []
    for path in tmp_path.glob("journal.db*"):
        assert b"the secret of the house" not in path.read_bytes()


async def test_a_crash_of_the_speech_model_is_tried_once_more(server: FakeServer, listening: Start) -> None:
    """What passes on the second attempt is answered; what fails twice is told once, and parked."""
    for deaf, outcome in ((1, "answered"), (2, "failed")):
        speech = Deaf(deaf=deaf)
        question = server.speak(b"Hello?", by=ADA)
        process = await listening(speech=speech)
        await process.idle()
        assert len(server.answers(question)) == 1
        assert speech.asked == 2
        assert (await process.journal.turns())[0].outcome == outcome
        await process.stop()


async def test_unasked_voice_fails_in_silence(server: FakeServer, listening: Start) -> None:
    """Nobody is told that what nobody asked for did not work."""
    server.speak(b"Hello?", mention=False)
    process = await listening(speech=Deaf(), policy=voice_of(Voice.ALL))
    await process.idle()
    assert server.texts() == []
    assert (await process.journal.turns())[0].outcome == "failed"


async def test_a_file_that_cannot_be_fetched_for_a_moment(
    server: FakeServer, listening: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that does not answer costs an attempt, not the question."""
    question = server.speak(b"Hello?")
    process = await listening()
    fetch, tried = process.platform.fetch, 0

    async def flaky(*values: Any) -> None:
        nonlocal tried
        tried += 1
        if tried == 1:
            raise Retryable("the media server is down")
        await fetch(*values)

    monkeypatch.setattr(process.platform, "fetch", flaky)
    await process.idle()
    assert tried == 2
    assert len(server.answers(question)) == 1


@pytest.mark.parametrize("fault", ["gone", "too large"])
async def test_a_file_that_cannot_be_had(server: FakeServer, listening: Start, fault: str) -> None:
    """One clear sentence, no second attempt, and nothing is heard."""
    speech = Deaf()
    question = server.speak(b"x" * (2_000_000 if fault == "too large" else 9))
    if fault == "gone":
        server.files.clear()
    process = await listening(speech=speech)
    await process.idle()
    assert len(server.answers(question)) == 1
    assert speech.asked == 0
    (turn,) = await process.journal.turns()
    assert (turn.outcome, turn.attempts) == ("answered", 0)


async def test_talk_goes_past_a_long_recording(server: FakeServer, listening: Start) -> None:
    """While an hour is being heard, the same room's questions are answered."""
    recording = server.speak(b"A long meeting.", duration_ms=3_600_000)
    process = await listening(speech=Deaf(deaf=0, pace=300.0))
    await process.until(lambda: bool(process.router._running))
    question = server.say("Hearth: hello?")
    await process.until(lambda: bool(server.answers(question)), seconds=100)
    assert server.answers(recording) == []
    await process.idle()
    assert server.answers(recording) != []


async def test_the_journal_keeps_no_sound(server: FakeServer, listening: Start, tmp_path: Path) -> None:
    """After the transcript the file is nowhere; its words are in the journal, under their message."""
    voice = server.speak(b"The key is under the pot.")
    process = await listening()
    await process.idle()
    await process.stop()
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith("journal.db")] == []
    with closing(sqlite3.connect(tmp_path / "journal.db")) as db:
        assert db.execute("SELECT text FROM events WHERE id = ?", [voice]).fetchone() == (
            "The key is under the pot.",
        )


class Deaf(FakeSpeech):
    """Fails the first `deaf` times, and needs `pace` seconds."""

    def __init__(self, deaf: int = 99, pace: float = 0.0) -> None:
        super().__init__(pace)
        self.deaf = deaf
        self.asked = 0

    async def transcribe(self, sound: BinaryIO, **options: object) -> AsyncGenerator[Heard]:
        self.asked += 1
        if self.asked <= self.deaf:
            raise ModelUnavailable("the speech server died")
        async for heard in super().transcribe(sound, **options):
            yield heard


class Listener(FakeModel):
    """Remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Any] = []

    async def chat(self, messages: Any, **options: Any) -> AsyncGenerator[Any]:
        self.asked.append(messages)
        async for chunk in super().chat(messages, **options):
            yield chunk
