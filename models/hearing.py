"""The client of a speech model, local or remote: one file in, what was heard out.

Owns the conversation with one speech model (`models.client` is that with a chat model). Promises
that every failure is one of the errors of `models.border`, that every wait has a deadline, and that
closing the iterator of `transcribe` closes the HTTP stream, which is how a recording is given up.
Never sends the name of a file. A server of ours streams what it hears (`models/speech.py`); any
other that has `/v1/audio/transcriptions` is taken as it is: with its own stream, or in one piece.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import math
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

import httpx2
import openai
from openai import AsyncStream

from models.border import (
    FOREVER,
    Deadlines,
    ModelMisconfigured,
    ModelRefused,
    ModelUnavailable,
    border,
    connected,
)
from models.doubt import COMPRESSION_RATIO, LOG_PROB, NO_SPEECH
from models.transcript import Segment, Transcript, Word

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
    from pathlib import Path

    from openai._response import AsyncAPIResponse

PACE: Final = 4.0
"""Seconds that a model may take for a second of sound. More is no use to anybody who waits."""
QUEUE_SECONDS: Final = 6 * 3600.0
"""How long a recording may stand in a line that moves, or that says at least that it is there."""
SPARSE: Final = 750
"""Bytes a second of the thinnest speech (Opus with 6 kbit/s): no more seconds are in a file."""
UPLOAD_SPEED: Final = 1 << 17
"""Bytes a second at which a file goes to a server, at least."""
PROMPT_CHARACTERS: Final = 700
"""Of hotwords. Whisper reads 223 tokens of them, and too many make it hear what was not said."""
MEDIA_TYPE: Final = re.compile(r"[\w.+-]{1,60}/[\w.+-]{1,60}", re.ASCII)
"""What may stand in a header; it comes from whoever sent the recording."""
CODE_LENGTHS: Final = (2, 3)
"""Of ISO 639-1 and 639-3."""
SUFFIXES: Final = {
    "audio/aac": ".aac",
    "audio/flac": ".flac",
    "audio/m4a": ".m4a",
    "audio/mp4": ".m4a",
    "audio/mpeg": ".mp3",
    "audio/ogg": ".ogg",
    "audio/opus": ".ogg",
    "audio/wav": ".wav",
    "audio/webm": ".webm",
    "audio/x-m4a": ".m4a",
    "audio/x-wav": ".wav",
    "video/mp4": ".mp4",
    "video/webm": ".webm",
}
"""Some servers go by the suffix of the file's name, so it gets one that says no more than its type."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One sign from the speech model; the fields that are set say which.

    `position` conversations are before this one; `done` of `total` seconds are heard; `segment` is
    new; `transcript` is all of it, and the end.
    """

    position: int | None = None
    done: float | None = None
    total: float | None = None
    segment: Segment | None = None
    transcript: Transcript | None = None


@dataclass(frozen=True, slots=True)
class Way:
    """A way to ask. Servers differ in what they take together."""

    stream: bool
    response_format: str


WAYS: Final = (Way(True, "verbose_json"), Way(False, "verbose_json"), Way(False, "json"))
"""Ours and whisper-1 take the first (the latter without the stream), vLLM the second, gpt-4o-transcribe
and others without times the third. The first that is taken is remembered."""


class SpeechClient:
    """One speech model behind one address. Made once, used for all recordings at the same time."""

    def __init__(
        self,
        model: str,
        *,
        socket: Path | str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        deadlines: Deadlines | None = None,
    ) -> None:
        """Talk to `model` on a Unix `socket` of ours, or at a `base_url` that ends in `/v1`.

        `deadlines.total` is what a recording may take beside `PACE` seconds for each of its own;
        `silence` bounds the wait for the next sign of life, which servers of ours give all the time.
        """
        self.model = model
        self.deadlines = deadlines or Deadlines()
        self._ours = socket is not None
        self._way: Way | None = None
        self._openai, _ = connected(
            socket=socket,
            base_url=base_url,
            api_key=api_key,
            timeout=httpx2.Timeout(None, connect=self.deadlines.connect),  # `border` has the others
        )

    async def transcribe(
        self,
        sound: BinaryIO,
        *,
        media_type: str = "",
        language: str = "",
        hotwords: Sequence[str] = (),
        words: bool = False,
        priority: str | None = None,
        cache_key: str = "",
        max_seconds: float | None = None,
        start_seconds: float = 0.0,
    ) -> AsyncGenerator[Heard]:
        """Listen to `sound`, a file that can seek, from its beginning; it is left open.

        `language` is ISO 639-1, empty to detect it. `hotwords` are spelled as they should be.
        `words` asks for the times of words. `priority` is `priority`, `default` or `flex`;
        `cache_key` is opaque (salted by the caller) and makes turns in the line fair. A recording
        longer than `max_seconds` is refused. `start_seconds` were heard before and are passed over
        (by servers of ours only); times stay those of the whole recording.

        Close the iterator to give up (`contextlib.aclosing`). Raises `ModelError`; `ModelRefused`
        with `audio_unreadable`, `audio_too_long` or `audio_too_large` is about the recording.
        """
        loop = asyncio.get_running_loop()
        size = await asyncio.to_thread(sound.seek, 0, io.SEEK_END)
        limit = math.inf if max_seconds is None else max_seconds
        allowed = self.deadlines.total + size / UPLOAD_SPEED + PACE * min(limit, size / SPARSE)
        last = loop.time() + QUEUE_SECONDS + allowed
        ends = loop.time() + allowed
        silence = self.deadlines.silence
        fields = {
            "prompt_cache_key": cache_key,
            "service_tier": priority or "",
            "max_seconds": "" if max_seconds is None else f"{max_seconds:g}",
            "start_seconds": f"{start_seconds:.3f}" if start_seconds else "",
        }
        kind = media_type.partition(";")[0].strip().lower()
        kind = kind if MEDIA_TYPE.fullmatch(kind) else "application/octet-stream"
        request = {
            "file": ("sound" + SUFFIXES.get(kind, ""), sound, kind),
            "model": self.model,
            "language": language or openai.omit,
            "prompt": prompt(hotwords) or openai.omit,
            "extra_body": {name: value for name, value in fields.items() if value},
        }
        begins = min(ends, loop.time() + silence + size / UPLOAD_SPEED) if self._ours else ends
        response = await self._asked(request, begins, words=words)
        try:
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                async with border(ends):  # nothing is heard of it until all of it is there
                    whole = await response.text()
                yield Heard(transcript=in_one_piece(whole))
                return
            stream = await response.parse(to=AsyncStream[object])
            gathered = Gathered()
            while gathered.transcript is None:
                async with border(min(ends, loop.time() + silence)):
                    received = await anext(stream, None)
                for sign in gathered.end() if received is None else gathered.take(received):
                    if sign.position is not None:  # to stand in the line is not to be slow
                        ends = min(last, loop.time() + allowed)
                    yield sign
        finally:
            with contextlib.suppress(httpx2.HTTPError, OSError):
                await response.close()

    async def close(self) -> None:
        """Let go of the connections."""
        await self._openai.close()

    async def _asked(self, request: Mapping[str, Any], ends: float, *, words: bool) -> AsyncAPIResponse[Any]:
        """Send the recording in the first way that this server takes; its answer, as it begins."""
        create = cast("Any", self._openai.audio.transcriptions.with_streaming_response.create)
        ways = WAYS[:1] if self._ours else WAYS if self._way is None else (self._way,)
        for way in ways:
            times = ["segment", "word"] if words else ["segment"]
            manager = create(
                **request,
                stream=way.stream or openai.omit,
                response_format=way.response_format,
                timestamp_granularities=openai.omit if way.response_format == "json" else times,
            )
            try:
                async with border(ends):
                    response = cast("AsyncAPIResponse[Any]", await manager.__aenter__())
            except ModelRefused as refused:
                if refused.code == "request_too_large":
                    raise ModelRefused("audio_too_large", FOREVER["audio_too_large"]) from refused
                if self._ours or refused.code.startswith("audio_"):
                    raise
                if way is ways[-1]:
                    # What is left to be wrong, for a server that takes this way or none, is the recording.
                    raise ModelRefused("audio_unreadable", FOREVER["audio_unreadable"]) from refused
            else:
                self._way = way
                return response
        raise AssertionError("unreachable: the last way returns or raises")


def prompt(hotwords: Sequence[str]) -> str:
    """The hotwords in one line, each once, as many as there is room for."""
    line = ""
    # A name in JSON may have lone surrogates, which no header and no tokenizer takes.
    hotwords = [word.encode("utf-8", "replace").decode() for word in hotwords]
    for word in dict.fromkeys(" ".join(word.split()) for word in hotwords):
        longer = f"{line}, {word}" if line else word
        if word and len(longer) <= PROMPT_CHARACTERS:
            line = longer
    return line


# -- what servers answer -----------------------------------------------------------------------------


@dataclass(slots=True)
class Gathered:
    """What was heard of a stream so far; `transcript` is set at its end."""

    transcript: Transcript | None = None
    segments: list[Segment] = field(default_factory=list)
    text: str = ""
    """Of servers that tell no segments."""
    ended: bool = False
    """Whether a server that has no event for it has said that this was all."""

    def take(self, event: object) -> Iterator[Heard]:
        """Read one event: ours, or one of OpenAI's."""
        match event:
            case {"type": "hearth.queue", "position": int(position)}:
                yield Heard(position=position)
            case {
                "type": "hearth.progress",
                "done": int() | float() as done,
                "total": int() | float() as total,
            }:
                yield Heard(done=float(done), total=float(total))
            case {"type": "transcript.text.segment", **fields} if (segment := segment_of(fields)) is not None:
                self.segments.append(segment)
                yield Heard(segment=segment)
            case {"type": "transcript.text.delta", "delta": str(delta)}:
                self.text += delta
            case {"type": "transcript.text.done", **fields}:
                self.text = str(fields.get("text") or self.text)
                yield self._done(fields)
            case {"type": str()}:
                pass  # an event that we do not know
            case _:
                yield from self._untyped(event)

    def _untyped(self, event: object) -> Iterator[Heard]:
        """Read an event of the other kinds: chunks of vLLM, pieces of speaches."""
        match event:
            case {"choices": [{"delta": dict(delta), **choice}]}:
                self.text += str(delta.get("content") or "")
                self.ended = choice.get("finish_reason") is not None
            case {"choices": _}:
                pass  # its usage
            case {"text": str()}:
                self.ended = True  # there is no sign of the end in these
                for segment in read(cast("Mapping[str, Any]", event)).segments:
                    self.segments.append(segment)
                    yield Heard(segment=segment)

    def end(self) -> Iterator[Heard]:
        """Read the end of the stream. Raises `ModelUnavailable` if it is too early."""
        if not self.ended:
            raise ModelUnavailable("what the model heard broke off")
        yield self._done({})

    def _done(self, fields: Mapping[Any, Any]) -> Heard:
        duration = number(fields.get("duration"))
        segments = tuple(self.segments) or _alone(self.text, duration)
        last = segments[-1].end if segments else 0.0
        cut = fields.get("truncated") is True
        self.transcript = Transcript(segments, code_of(fields.get("language")), duration or last, cut)
        return Heard(transcript=self.transcript)


def in_one_piece(body: str) -> Transcript:
    """Read an answer without a stream: `verbose_json`, `json`, or the bare words.

    Raises `ModelMisconfigured` for JSON of another shape.
    """
    try:
        answer = json.loads(body)
    except ValueError:
        if body.lstrip().startswith("<"):
            raise ModelMisconfigured(
                "base_url", "the server answers with a web page: check the address"
            ) from None
        answer = {"text": body}
    if not isinstance(answer, dict) or not isinstance(answer.get("text"), str):
        raise ModelMisconfigured("base_url", "the server does not speak the OpenAI API: check the address")
    return read(answer)


def read(answer: Mapping[str, Any]) -> Transcript:
    """Read a transcript as JSON has it, `json` or `verbose_json`."""
    given = answer.get("segments")
    segments = [s for s in map(segment_of, given if isinstance(given, list) else ()) if s is not None]
    if (words := words_of(answer.get("words"))) and not any(segment.words for segment in segments):
        segments = [
            replace(one, words=tuple(word for word in words if one.start <= word.start < one.end))
            for one in segments
        ]
    duration = number(answer.get("duration"))
    found = tuple(segments) or _alone(answer["text"], duration)
    last = found[-1].end if found else 0.0
    cut = answer.get("truncated") is True
    return Transcript(found, code_of(answer.get("language")), duration or last, cut)


def segment_of(given: object) -> Segment | None:
    """Read one segment; None for what is none. Servers that give only numbers are doubted by those."""
    if not isinstance(given, dict) or not isinstance(text := given.get("text"), str):
        return None
    start = number(given.get("start"))
    doubtful = given.get("doubtful") is True or (
        number(given.get("compression_ratio")) > COMPRESSION_RATIO
        or number(given.get("avg_logprob")) < LOG_PROB
        or number(given.get("no_speech_prob")) > NO_SPEECH
    )
    return Segment(
        start=start,
        end=max(start, number(given.get("end"))),
        text=text.strip(),
        doubtful=doubtful,
        language=code_of(given.get("language")),
        words=words_of(given.get("words")),
    )


def words_of(given: object) -> tuple[Word, ...]:
    """Read words with their times; what is none is left out."""
    return tuple(
        Word(
            start=number(one.get("start")),
            end=number(one.get("end")),
            text=one["word"],
            probability=number(one.get("probability", 1.0)),
        )
        for one in (given if isinstance(given, list) else ())
        if isinstance(one, dict) and isinstance(one.get("word"), str)
    )


def code_of(given: object) -> str:
    """Read a language: its ISO 639 code, `""` for anything else (some servers say `english`)."""
    return given if isinstance(given, str) and len(given) in CODE_LENGTHS else ""


def number(given: object) -> float:
    """Read a number that is one; 0 for anything else."""
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
        return 0.0
    return float(given)


def _alone(text: str, duration: float) -> tuple[Segment, ...]:
    """All that was said as one segment, of a server that tells no times."""
    return (Segment(0.0, duration, text.strip()),) if text.strip() else ()
