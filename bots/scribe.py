"""The scribe: voice messages and recordings become text, and spoken questions their answers.

A voice message that was addressed to us is written down and answered: what was heard is shown
first, marked as heard. What is longer than a minute is a recording: it gets time marks and no
answer, unless it begins with the bot's name, or is said to the bot alone in under two minutes. What
nobody addressed to us is answered if it begins with the name; else it is written down where the
policy of the place says so, and of the rest nothing is said. `!transcribe` and the ear write down
without answering, `!transcript` makes a file, `!summary` the points, `!alt` a description to paste.
Where a platform takes no files, the whole transcript is said.

Promises that what was said is never executed (a spoken "!forget" is words), calls nobody, and is
listened to once: the transcript is in the `Reply`. What may pass goes to the router, which tries
again, but not after a long recording was heard: then its words are shown with what failed.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from bots import heard, wording, wording_public, wording_voice
from bots.base import Draft, Reply, Unfetchable, Waiting
from bots.chat import failure_of
from bots.commands import FORMS, CommandName, parse, strip_spoken_name
from bots.conversation import PlaceKind, Upload
from bots.prompt import speaker
from bots.summary import Summary, closable
from models.client import (
    ModelBusy,
    ModelError,
    ModelMisconfigured,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
)
from models.transcript import MEDIA_TYPES, Transcript, clock, render
from policies.decide import Deed, Request

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from bots.base import Tools
    from bots.chat import Chat
    from bots.commands import Command
    from bots.conversation import Message, Turn

ALONE: Final = 120.0
"""Seconds that a question to the bot alone may take."""

LONG: Final = 3_000
"""Characters of a transcript that a message holds; a longer one is a file with a short head."""

HEAD: Final = 600
"""Characters of such a head."""

PASSING: Final = (ModelBusy, ModelUnavailable, ModelTimeout)


@dataclass(frozen=True, slots=True)
class _Job:
    """One turn: the message with sound, and what was heard in it (`fresh`: just now)."""

    turn: Turn
    about: Message
    transcript: Transcript
    fresh: bool

    @property
    def is_long(self) -> bool:
        return self.transcript.duration > wording_voice.SHORT

    def ended(self, reply: Reply) -> Reply:
        """`reply` with the transcript and its sizes."""
        if not self.fresh:
            return reply
        segments = self.transcript.segments
        sizes: dict[str, float | int | str] = {
            "seconds": round(self.transcript.duration, 1),
            "segments": len(segments),
            "doubtful": sum(one.doubtful for one in segments),
            "language": self.transcript.language[:8],
            "words": len(self.transcript.text.split()),
        }
        return replace(reply, heard=self.transcript, features={**reply.features, **sizes})


class Scribe:
    """Listens, and lets `chat` answer. Its name and the persona's words are what it expects to hear."""

    name = "scribe"

    def __init__(self, chat: Chat) -> None:
        self.chat = chat
        self.own_name = chat.own_name
        self.hotwords = (self.own_name, *chat.persona.words)

    async def reply(self, turn: Turn, tools: Tools) -> AsyncGenerator[Draft | Waiting | Reply]:
        """Yield how far it has heard and answered, then the words.

        Raises `ModelBusy`, `ModelUnavailable` and `ModelTimeout` of both models.
        """
        command = parse(_written(turn), own_id=turn.place.account, own_name=self.own_name)
        about = turn.about
        if about is None:
            yield Reply("" if turn.unasked else wording.nothing_to_hear())
            return
        if command is not None and command.argument and command.argument not in FORMS:
            yield Reply(wording_voice.unknown_form(command.argument))
            return
        transcript = turn.heard
        if transcript is None:
            async with aclosing(self._listen(about, tools)) as steps:
                async for step in steps:
                    if isinstance(step, Transcript):
                        transcript = step
                    elif not turn.unasked:
                        yield step
                    elif isinstance(step, Reply):
                        yield replace(step, text="")
                    if isinstance(step, Reply):
                        return
        assert transcript is not None
        job = _Job(turn, about, transcript, fresh=turn.heard is None)
        async with aclosing(self._write(job, command, tools)) as steps_:
            async for said in steps_:
                yield job.ended(said) if isinstance(said, Reply) else said

    async def _listen(
        self, about: Message, tools: Tools
    ) -> AsyncGenerator[Draft | Waiting | Reply | Transcript]:
        """What is heard so far, then the transcript, or the reply that says why there is none."""
        transcript: Transcript | None = None
        try:
            async with aclosing(closable(tools.hear(about, hotwords=self.hotwords))) as signs:
                async for sign in signs:
                    if sign.position is not None:
                        yield Waiting(sign.position)
                    if sign.done is not None:
                        yield _progress(sign.done, sign.total)
                    transcript = sign.transcript or transcript
        except Unfetchable as error:
            yield _deaf(error.code)
        except ModelRefused as error:
            yield _deaf(error.code)
        except ModelMisconfigured:
            status = await tools.status()
            yield _deaf("model_misconfigured" if status.speech_model else "no_model")
        else:
            if transcript is None:
                raise ModelUnavailable("the speech model ended without a transcript")
            yield transcript

    async def _write(
        self, job: _Job, command: Command | None, tools: Tools
    ) -> AsyncGenerator[Draft | Waiting | Reply]:
        turn = job.turn
        name = None if command is None else command.name
        if not job.transcript.text:
            status = await tools.status()
            yield Reply("" if turn.unasked else wording_voice.nothing_heard(bundled=status.speech_is_bundled))
        elif name is CommandName.TRANSCRIPT:
            assert command is not None
            upload = _file(job, command.argument)
            if tools.takes_files:
                yield Reply(wording_voice.transcript_file(command.argument), files=(upload,))
            else:
                yield Reply(upload.text)
        elif name is CommandName.ALT:
            status = await tools.status()
            advice = wording_public.alt_advice(bundled=status.speech_is_bundled)
            yield Reply(f"{advice}\n\n{heard.plain(wording_public.alt(job.transcript))}")
        elif name is CommandName.SUMMARY:
            async with aclosing(self._summary(job, tools)) as steps:
                async for step in steps:
                    yield step
        elif self._answers(job, command):
            async with aclosing(self._answer(job, tools)) as steps:
                async for step in steps:
                    yield step
        elif not turn.unasked:
            yield await _shown(job, tools)
        else:
            asker = turn.asker
            verdict = await tools.may(
                Request(Deed.SHOW_UNASKED, asker.id, asker_is_bot=asker.is_bot, unasked=True)
            )
            yield replace(await _shown(job, tools), notice=True) if verdict.allowed else Reply("")

    def _answers(self, job: _Job, command: Command | None) -> bool:
        """Whether what was heard is a question to us, and not only to be written down."""
        turn = job.turn
        if turn.message.id != job.about.id or (
            command is not None and command.name is CommandName.TRANSCRIBE
        ):
            return False
        if strip_spoken_name(job.transcript.text, self.own_name) is not None:
            return True
        if turn.unasked:
            return False
        alone = turn.place.kind is PlaceKind.DIRECT
        return not job.is_long or (alone and job.transcript.duration < ALONE)

    async def _answer(self, job: _Job, tools: Tools) -> AsyncGenerator[Draft | Waiting | Reply]:
        """What was heard, and below it what the chat bot says to it."""
        shown = await _shown(job, tools)
        yield Draft(shown.text)
        words = job.transcript.text
        words = strip_spoken_name(words, self.own_name) or words
        text = f"{_written(job.turn)}\n{words}".strip()
        question = replace(job.turn.message, text=text, attachments=())
        try:
            async with aclosing(self.chat.reply(replace(job.turn, message=question), tools)) as steps:
                async for step in steps:
                    match step:
                        case Draft(text):
                            yield Draft(f"{shown.text}\n\n{text}")
                        case Reply(text):
                            yield replace(step, text=f"{shown.text}\n\n{text}", files=shown.files)
                        case _:
                            yield step
        except PASSING as error:
            yield _failed(job, error, shown)

    async def _summary(self, job: _Job, tools: Tools) -> AsyncGenerator[Draft | Waiting | Reply]:
        """One point after the other."""
        status = await tools.status()
        summary = Summary(job.transcript, self.own_name)

        def words() -> str:
            return wording_voice.summary(
                clock(job.transcript.duration), summary.points, bundled=status.model_is_bundled
            )

        try:
            async with aclosing(summary.write(tools)) as steps:
                async for step in steps:
                    yield step or Draft(words(), len(summary.points) / summary.count)
            yield Reply(words(), features={"points": summary.count})
        except PASSING as error:
            yield _failed(job, error, None)
        except (ModelRefused, ModelMisconfigured) as error:
            failure = failure_of(error)
            so_far = f"{words()}\n\n" if summary.points else ""
            yield Reply(so_far + wording.failed(failure), features={"failure": failure.value})


def _written(turn: Turn) -> str:
    """What the asker wrote: once a message was heard, its text is what was heard."""
    heard_before = turn.heard is not None and turn.about is not None and turn.about.id == turn.message.id
    return "" if heard_before else turn.message.text


def _progress(done: float, total: float | None) -> Draft:
    total = max(0.0, total or 0.0)
    done = min(max(0.0, done), total)
    long = total > wording_voice.SHORT
    return Draft(wording_voice.listening(done, total), done / total if long else None)


def _deaf(code: str) -> Reply:
    return Reply(wording_voice.hearing_failed(code), features={"failure": code})


def _failed(job: _Job, error: ModelError, shown: Reply | None) -> Reply:
    """What is said of a model that may come back, if the recording is too long to be heard again."""
    if not (job.fresh and job.is_long):
        raise error
    failure = failure_of(error)
    words = wording.failed(failure)
    text = f"{words} {wording_voice.heard_and_kept()}" if shown is None else f"{shown.text}\n\n{words}"
    return Reply(text, files=() if shown is None else shown.files, features={"failure": failure.value})


async def _shown(job: _Job, tools: Tools) -> Reply:
    """The transcript as a quote; of a long one the beginning, and the file."""
    transcript = job.transcript
    lines = heard.lines(transcript)
    if not job.is_long:
        lines = [" ".join(one.text for one in heard.passages(transcript))]
    title = ", ".join(
        part
        for part in (
            "" if job.about.sender.id == job.turn.asker.id else speaker(job.about.sender),
            clock(transcript.duration) if job.is_long else "",
            transcript.language if job.is_long else "",
        )
        if part
    )
    note: list[str] = []
    if any(one.doubtful for one in transcript.segments):
        note.append(wording_voice.doubtful(bundled=(await tools.status()).speech_is_bundled))
    if transcript.truncated:
        note.append(wording_voice.truncated())
    whole = heard.quote([*lines, *note], title)
    if len(whole) <= LONG or not tools.takes_files:
        return Reply(whole)
    head = heard.quote([*heard.opening(lines, HEAD), "…", *note], title)
    return Reply(f"{head}\n\n{wording_voice.whole_in_file()}", files=(_file(job, "md"),))


def _file(job: _Job, form: str) -> Upload:
    date = _date(job.about.sent_at)
    who = speaker(job.about.sender)
    return Upload(
        name=f"transcript{'-' if date else ''}{date}.{form}",
        media_type=MEDIA_TYPES.get(form, "text/plain"),
        text=render(
            job.transcript, form, {"title": wording_voice.transcript_of(who), "date": date, "speaker": who}
        ),
    )


def _date(sent_at: int) -> str:
    """The day (UTC) of a time in ms since the epoch; `""` for what is no time."""
    try:
        return datetime.fromtimestamp(sent_at / 1000, UTC).date().isoformat() if sent_at > 0 else ""
    except (OverflowError, ValueError, OSError):
        return ""
