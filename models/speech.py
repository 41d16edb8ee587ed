"""A local speech model behind the OpenAI HTTP API, on a Unix socket or on loopback.

Owns the HTTP around one ear (faster-whisper or the echo double) and the desk that decides who is
heard next. Promises: an upload goes to an unnamed temporary file while it arrives and nowhere else;
one recording is heard at a time, in pieces, and between two pieces a voice note (`priority`) goes
before an hour-long recording (`flex`); a caller that goes away stops its job; every error is an
OpenAI error object with a stable `code`; neither a word that was said nor the name of a file is
ever written to a log. Refuses any address but a socket file (mode 0600) and loopback, and connects
to nothing.

    POST /v1/audio/transcriptions   what was said, in its language
    POST /v1/audio/translations     the same in English
    GET  /v1/models                 the one model
    GET  /health                    {status, model, pid, owner, waiting, running}

Both POSTs take `multipart/form-data` with the fields of the OpenAI API: `file`, `model`,
`language` (ISO 639-1; none: detected, and per segment where the recording is long), `prompt`
(words that are spelled as they should be; used as hotwords and cut where they are too many),
`response_format` (`json`, the default, `text`, `verbose_json`, `srt`, `vtt`, and `md`),
`timestamp_granularities[]` (`segment`, `word`), `temperature` (left out: Whisper's ladder, from 0 up
where an answer looks wrong; given, 0 too: exactly this one), `stream` (`true`: Server-Sent
Events, whatever `response_format` says). Ours, all optional: `service_tier` (`priority`, `default`,
`flex`), `prompt_cache_key` (recordings of one key wait for each other, keys take turns),
`max_seconds` (a longer recording is refused; it can lower the server's own limit, not raise it),
`start_seconds` (what comes before was heard already and is passed over: a recording goes on where it
was left; all times stay those of the whole recording, and so do `done` and `duration`).

A stream is made of these events, each `data: {...}`, in this order but for the first two, which may
come at any time; OpenAI's own are marked with *:

    {"type": "hearth.queue", "position": n}              n are before this one; joined, moved, each 5 s
    {"type": "hearth.progress", "done": s, "total": s}   seconds heard so far, and as far as is known
    {"type": "transcript.text.segment", "id": n, "start": s, "end": s, "text": "...",
        "language": "de", "doubtful": false, "words": [{"word", "start", "end", "probability"}]?}
    {"type": "transcript.text.delta", "delta": "..."}  *  the text of that segment, with its space
    {"type": "transcript.text.done", "text": "...", "language": "de", "duration": s,
        "truncated": false, "usage": {"type": "duration", "seconds": s,
        "queue_seconds": s, "engine_seconds": s}}  *
    {"error": {"message", "type", "param", "code"}}      instead of the end
    data: [DONE]                                         after `done`

After 5 s without an event the last `hearth.queue` or `hearth.progress` is repeated. `text` of `done`
is that of all segments joined by a space; `duration` and `seconds` are what was decoded. `truncated`
says that the recording announced more than it had (a broken upload): what was there was heard.
`verbose_json` is {task, language, duration, text, truncated, segments: [{id, start, end, text,
language, doubtful}], words?: [...], usage}. Silence is not an error: its transcript is empty.

Errors before the stream begins have an HTTP status: `audio_unreadable` 400 (not sound, empty, cut
off before any sound), `audio_too_long` 413 (its duration, announced or decoded), `audio_too_large`
413 (bytes), `invalid_request_error` 400, `model_not_found` 404, `overloaded` 429 (`Retry-After`),
`engine_failed` 500, `shutting_down` 503, `timeout` 504. A stream begins once the file has been opened and has
a place in the line; what goes wrong later (`audio_too_long` of a container that lied,
`engine_failed`, `audio_unreadable` of data) comes as an `error` event.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from models import http
from models.jobs import Jobs
from models.line import Tier
from models.protocol import Ended, EngineError, HearingWish, Reached, Unloadable
from models.transcript import FORMS, MEDIA_TYPES, Segment, render, segment_fields, word_fields

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from models.jobs import Job
    from models.protocol import Ear
    from models.sound import Sound

    Heard = Reached | Segment | Ended

CHUNK: Final = 1 << 18
"""Bytes of an upload that are in memory at a time."""

FIELD: Final = 16 << 10
"""Bytes of a field that is not the file."""

FIELDS: Final = 64
"""Fields of a form at most."""

UPLOAD_SECONDS: Final = 600.0
"""How long an upload may take."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was understood, but for its file."""

    wish: HearingWish
    tier: Tier
    key: str
    form: str
    stream: bool


class SpeechServer:
    """The HTTP side of one ear."""

    def __init__(
        self,
        ear: Ear[Sound],
        *,
        bound: int = 64,
        owner: int = 0,
        largest: int = 512 << 20,
        longest: float = 4 * 3600.0,
    ) -> None:
        """Keep at most `bound` waiting; `owner` is our parent.

        `largest` is what an upload may have in bytes, `longest` a recording in seconds.
        """
        self.ear = ear
        self.jobs: Jobs[Heard] = Jobs(ear.close, bound=bound)
        self._owner = owner
        self._largest = largest
        self._longest = longest
        self.app = web.Application(middlewares=[http.errors])
        self.app.add_routes(
            [
                web.post("/v1/audio/transcriptions", self._transcribe),
                web.post("/v1/audio/translations", self._translate),
                web.get("/v1/models", self._models),
                web.get("/health", self._health),
            ]
        )
        self.app.cleanup_ctx.append(self._working)
        self.app.on_shutdown.append(self._give_up)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.ear.name

    async def _working(self, _app: web.Application) -> AsyncIterator[None]:
        async with self.jobs:
            yield

    async def _give_up(self, _app: web.Application) -> None:
        self.jobs.give_up()

    async def _health(self, _request: web.Request) -> web.Response:
        return http.health(self.name, self._owner, self.jobs.waiting, self.jobs.running)

    async def _models(self, _request: web.Request) -> web.Response:
        entry = {"id": self.name, "object": "model", "created": 0, "owned_by": "hearth"}
        return web.json_response({"object": "list", "data": [entry]})

    async def _transcribe(self, request: web.Request) -> web.StreamResponse:
        return await self._hear(request, translate=False)

    async def _translate(self, request: web.Request) -> web.StreamResponse:
        return await self._hear(request, translate=True)

    async def _hear(self, request: web.Request, *, translate: bool) -> web.StreamResponse:
        file: BinaryIO = await asyncio.to_thread(tempfile.TemporaryFile)
        handed_over = False
        try:
            async with asyncio.timeout(UPLOAD_SECONDS):
                fields = await _form(request, file, self._largest)
            asked = _asked(fields, self.name, self._longest, translate=translate)
            sound = await asyncio.to_thread(self.ear.look, file, asked.wish.longest)
            handed_over = True
            with self.jobs.ask(
                lambda alone: self.ear.hear(sound, asked.wish, alone), file.close, asked.key, asked.tier
            ) as job:
                if asked.stream:
                    return await self._stream(request, asked, job)
                return await self._whole(asked, job)
        except TimeoutError:
            raise EngineError("timeout", "the upload took too long") from None
        finally:
            if not handed_over:
                await asyncio.to_thread(file.close)

    async def _whole(self, asked: Asked, job: Job[Heard]) -> web.Response:
        while not isinstance(heard := await job.hear(), Ended):
            if isinstance(heard, EngineError):
                raise heard
        about: dict[str, object] = {}
        if asked.form in {"json", "verbose_json"}:
            about["usage"] = _usage(heard, job)
        if asked.form == "verbose_json":
            about["task"] = "translate" if asked.wish.translate else "transcribe"
            about["truncated"] = heard.truncated
        return web.Response(
            text=render(heard.transcript, asked.form, about),
            content_type=MEDIA_TYPES.get(asked.form, "text/plain"),
            charset="utf-8",
        )

    async def _stream(self, request: web.Request, asked: Asked, job: Job[Heard]) -> web.StreamResponse:
        response = await http.begin_stream(request)
        segments = 0
        last: bytes = b": nothing yet\n\n"
        while True:
            match await http.or_silence(job.hear):
                case int() as position:
                    last = shown = http.event({"type": "hearth.queue", "position": position})
                case Reached(done=done, total=total):
                    progress = {"type": "hearth.progress", "done": round(done, 2), "total": round(total, 2)}
                    last = shown = http.event(progress)
                case Segment() as segment:
                    shown = _segment_events(segments, segment, asked.wish)
                    segments += 1
                case Ended() as ended:
                    await response.write(http.event(_done(ended, job)) + http.END)
                    return response
                case EngineError() as error:
                    await response.write(http.event({"error": http.error_object(error.code, error.what)}))
                    return response
                case None:
                    shown = last
            await response.write(shown)


# -- the shapes of the OpenAI API ------------------------------------------------------------------


def _segment_events(number: int, segment: Segment, wish: HearingWish) -> bytes:
    fields = {"type": "transcript.text.segment", **segment_fields(number, segment, language=wish.language)}
    if wish.words:
        fields["words"] = word_fields(segment)
    # The deltas together are the text of `done`.
    delta = segment.text if number == 0 else f" {segment.text}"
    return http.event(fields) + http.event({"type": "transcript.text.delta", "delta": delta})


def _done(ended: Ended, job: Job[Heard]) -> dict[str, object]:
    return {
        "type": "transcript.text.done",
        "text": ended.transcript.text,
        "language": ended.transcript.language,
        "duration": round(ended.transcript.duration, 3),
        "truncated": ended.truncated,
        "usage": _usage(ended, job),
    }


def _usage(ended: Ended, job: Job[Heard]) -> dict[str, object]:
    return {
        "type": "duration",
        "seconds": round(ended.transcript.duration, 3),
        "queue_seconds": round(job.queue_seconds, 6),
        "engine_seconds": round(job.seconds, 6),
    }


async def _form(request: web.Request, file: BinaryIO, largest: int) -> dict[str, list[str]]:
    """Read a form: its file goes to `file`, its fields (each may come more than once) are given.

    Raises `audio_too_large` as soon as it is, `invalid_request_error` for what is no form.
    """
    if request.content_type != "multipart/form-data":
        raise EngineError("invalid_request_error", "the body must be multipart/form-data")
    if (request.content_length or 0) > largest + FIELD * FIELDS:
        raise _too_large(largest)
    fields: dict[str, list[str]] = {}
    try:
        parts = await request.multipart()
        for _ in range(FIELDS):
            part = await parts.next()
            if part is None:
                return fields
            if not isinstance(part, BodyPartReader) or not part.name:
                raise EngineError("invalid_request_error", "each part of the form needs a name")
            if part.name == "file":
                if "file" in fields:
                    raise EngineError("invalid_request_error", "one file at a time")
                fields["file"] = []
                await _spool(part, file, largest)
            else:
                fields.setdefault(part.name, []).append(await _field(part))
    except (ValueError, AssertionError, HttpProcessingError):
        raise EngineError("invalid_request_error", "the body is not a form that can be read") from None
    raise EngineError("invalid_request_error", "the form has too many fields")


async def _spool(part: BodyPartReader, file: BinaryIO, largest: int) -> None:
    size = 0
    while chunk := await part.read_chunk(CHUNK):
        size += len(chunk)
        if size > largest:
            raise _too_large(largest)
        try:
            await asyncio.to_thread(file.write, chunk)
        except OSError:
            raise EngineError("engine_failed", "there is no room for the recording") from None


def _too_large(largest: int) -> EngineError:
    return EngineError("audio_too_large", f"the file is larger than {largest} bytes")


async def _field(part: BodyPartReader) -> str:
    value = b""
    while chunk := await part.read_chunk(FIELD):
        value += chunk
        if len(value) > FIELD:
            raise EngineError("invalid_request_error", f"the field {part.name!r} is too long")
    return value.decode("utf-8", "replace")


def _asked(fields: Mapping[str, Sequence[str]], served: str, longest: float, *, translate: bool) -> Asked:
    """Read the fields of a form. Unknown ones are ignored, as servers of this API do."""

    def one(name: str) -> str:
        return next(iter(fields.get(name, ())), "").strip()

    if one("model") != served:
        raise EngineError("model_not_found", f"this server has the model {served!r} and no other")
    if "file" not in fields:
        raise EngineError("invalid_request_error", "the form has no 'file'")
    form = one("response_format") or "json"
    if form not in FORMS:
        raise EngineError("invalid_request_error", f"'response_format' must be one of {', '.join(FORMS)}")
    granularities = {*fields.get("timestamp_granularities[]", ()), *fields.get("timestamp_granularities", ())}
    if not granularities <= {"segment", "word"}:
        raise EngineError("invalid_request_error", "'timestamp_granularities[]' may be segment and word")
    limit = _number(one("max_seconds"), "max_seconds", 0, float("inf"))
    return Asked(
        wish=HearingWish(
            language=_language(one("language")),
            translate=translate,
            hotwords=one("prompt"),
            temperature=_number(one("temperature"), "temperature", 0, 1),
            words="word" in granularities,
            longest=longest if limit is None else min(longest, limit),
            start=_number(one("start_seconds"), "start_seconds", 0, 1e6) or 0.0,
        ),
        tier=Tier.of(one("service_tier")),
        key=one("prompt_cache_key"),
        form=form,
        stream=one("stream").lower() in {"true", "1"},
    )


def _number(text: str, name: str, low: float, high: float) -> float | None:
    try:
        given: Any = float(text) if text else None
    except ValueError:
        given = text  # is no number: refused with the same words
    return http.number({name: given}, name, low, high)


def _language(text: str) -> str:
    """The language of a tag like `de` or `de-CH`. The ear knows which there are."""
    code = text.lower().replace("_", "-").partition("-")[0]
    if code and not (code.isascii() and code.isalpha() and len(code) <= 3):  # noqa: PLR2004 - ISO 639
        raise EngineError("invalid_request_error", "'language' must be a code of ISO 639-1, like 'de'")
    return code


# -- the process -----------------------------------------------------------------------------------


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m models.speech", description="Serve one speech model.")
    http.add_options(parser)
    parser.add_argument("--model", required=True, help="folder of a Whisper model (CTranslate2), or 'echo'")
    parser.add_argument(
        "--batch", type=int, default=0, help="pieces heard at once where nobody waits; 0: by threads"
    )
    parser.add_argument("--longest", type=float, default=4 * 3600.0, help="seconds of a recording at most")
    parser.add_argument("--largest", type=int, default=512 << 20, help="bytes of a recording at most")
    parser.add_argument("--echo-delay", type=float, default=0.0, help="seconds before each segment of echo")
    return parser.parse_args(argv)


def _ear(options: argparse.Namespace) -> Ear[Sound]:
    if options.model == "echo":
        from models.echo_ear import EchoEar  # noqa: PLC0415 - one of two

        return EchoEar(name=options.name or "echo", delay=options.echo_delay)
    from models.ear import WhisperEar  # noqa: PLC0415 - seconds of imports that echo does without

    return WhisperEar(Path(options.model), name=options.name, threads=options.threads, batch=options.batch)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to stop. Returns the exit status; `EX_CONFIG` with a line on stderr that says why."""
    options = _options(argv)

    def load() -> SpeechServer:
        try:
            ear = _ear(options)
        except ImportError:
            raise Unloadable(
                options.model, "faster-whisper is not installed", "install hearth-bridge[local]"
            ) from None
        return SpeechServer(
            ear,
            bound=options.queue,
            owner=options.parent,
            largest=options.largest,
            longest=options.longest,
        )

    return http.run(options, load)


if __name__ == "__main__":
    sys.exit(main())
