"""The client of speech models: ours streams, others are taken as they are, every failure has one meaning."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import math
import tempfile
import wave
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from models.client import (
    Deadlines,
    ModelBusy,
    ModelError,
    ModelMisconfigured,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
)
from models.echo_ear import echo_transcript
from models.hearing import PROMPT_CHARACTERS, Gathered, Heard, SpeechClient, in_one_piece, prompt
from models.host import ModelHost, ServeSpec
from models.transcript import Segment, Transcript, Word
from tests.models import voice
from tests.models.voice import pack

if TYPE_CHECKING:
    from pathlib import Path

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
PATH = "/v1/audio/transcriptions"


def tone(seconds: float) -> io.BytesIO:
    """A WAV file of so many seconds."""
    held = io.BytesIO()
    with wave.open(held, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        samples = (int(8000 * math.sin(n / 5)) for n in range(round(8000 * seconds)))
        file.writeframes(b"".join(sample.to_bytes(2, "little", signed=True) for sample in samples))
    held.seek(0)
    return held


async def all_of(signs: AsyncGenerator[Heard]) -> list[Heard]:
    async with contextlib.aclosing(signs):
        return [sign async for sign in signs]


def whole(signs: list[Heard]) -> Transcript:
    """What was heard; it is the last sign, and the only one."""
    *others, last = signs
    assert all(sign.transcript is None for sign in others)
    assert last.transcript is not None
    return last.transcript


@contextlib.asynccontextmanager
async def ours(folder: Path, **spec: Any) -> AsyncGenerator[tuple[SpeechClient, ModelHost]]:
    served = ServeSpec("echo", folder / "s", kind="speech", **spec)
    async with ModelHost(served) as host:
        await host.ready(30)
        client = SpeechClient("echo", socket=served.socket)
        try:
            yield client, host
        finally:
            await client.close()


@contextlib.asynccontextmanager
async def remote(handler: Handler, **options: Any) -> AsyncGenerator[SpeechClient]:
    """A server on loopback that answers as told, and a client for it."""
    app = web.Application(client_max_size=1 << 24)
    app.add_routes([web.post(PATH, handler)])
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    client = SpeechClient("m", base_url=f"http://{host}:{port}/v1", **options)
    try:
        yield client
    finally:
        await client.close()
        await runner.cleanup()


def events(*data: dict[str, Any] | str, hang: bool = False) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for one in data:
            await response.write(f"data: {one if isinstance(one, str) else json.dumps(one)}\n\n".encode())
        if hang:
            await asyncio.Event().wait()
        return response

    return answer


def answers(body: object, status: int = 200) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        await request.read()
        if isinstance(body, str):
            return web.Response(text=body, status=status)
        return web.json_response(body, status=status)

    return answer


# -- our own server --------------------------------------------------------------------------------


async def test_a_recording_is_heard_piece_by_piece(folder: Path) -> None:
    """Segments and progress come while it is heard; the end is all of it, with the times of words."""
    async with ours(folder) as (client, _):
        signs = await all_of(client.transcribe(tone(5), words=True, language="de", priority="priority"))
    expected = echo_transcript(5.0, language="de", words=True)
    heard = whole(signs)
    assert [sign.segment for sign in signs if sign.segment] == list(heard.segments)
    assert heard.text == expected.text
    assert [one.words for one in heard.segments] == [one.words for one in expected.segments]
    assert (heard.language, heard.duration) == ("de", 5.0)
    done = [sign.done for sign in signs if sign.done is not None]
    assert done == sorted(done)
    assert done[-1] == 5.0


async def test_a_file_on_a_disk_is_sent_without_blocking(folder: Path) -> None:
    """A recording is read in a thread, from its beginning, however far it was read before; it stays open."""
    with tempfile.TemporaryFile() as file:
        file.write(tone(40).getvalue())
        async with ours(folder) as (client, _):
            for _ in range(2):
                assert whole(await all_of(client.transcribe(file))).duration == 40.0
        assert not file.closed


async def test_a_recording_that_was_cut_off(folder: Path) -> None:
    """Half an Ogg file: what is there comes, and that there should have been more."""
    data = pack(voice.tone(8.0))
    async with ours(folder) as (client, _):
        heard = whole(await all_of(client.transcribe(io.BytesIO(data[: len(data) // 2]))))
        assert heard.truncated
        assert heard.segments
        assert not whole(await all_of(client.transcribe(io.BytesIO(data)))).truncated


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "audio_unreadable"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "audio_unreadable"),
        (b"Dear diary, " * 100, "audio_unreadable"),
        (tone(11).getvalue(), "audio_too_long"),
        (tone(70).getvalue(), "audio_too_large"),
    ],
    ids=["empty", "png", "text", "long", "large"],
)
async def test_what_is_wrong_with_a_recording_has_a_code(folder: Path, content: bytes, code: str) -> None:
    """Each kind of bad file is told by its code, and the next recording is heard."""
    async with ours(folder, largest=1 << 20) as (client, _):
        with pytest.raises(ModelRefused) as told:
            await all_of(client.transcribe(io.BytesIO(content), max_seconds=10))
        assert told.value.code == code
        assert whole(await all_of(client.transcribe(tone(1)))).duration == 1.0


async def test_the_limits_of_the_server_hold_without_a_wish(folder: Path) -> None:
    """A recording longer than the server's own limit is refused, whatever the caller leaves out."""
    async with ours(folder, longest=3.0) as (client, _):
        with pytest.raises(ModelRefused) as told:
            await all_of(client.transcribe(tone(4)))
        assert told.value.code == "audio_too_long"


async def test_silence_is_an_empty_transcript(folder: Path) -> None:
    """Nothing said is nothing heard, and no error."""
    silent = tone(2).getvalue()[:44] + bytes(32_000)
    async with ours(folder) as (client, _):
        heard = whole(await all_of(client.transcribe(io.BytesIO(silent))))
    assert (heard.segments, heard.duration) == ((), 2.0)


async def test_giving_up_stops_the_server(folder: Path) -> None:
    """Closing the iterator in the middle of a recording ends its job."""
    async with ours(folder, echo_delay=0.2) as (client, host), asyncio.timeout(20):
        signs = client.transcribe(tone(60))
        while (await anext(signs)).segment is None:
            pass
        await signs.aclose()
        transport = httpx2.AsyncHTTPTransport(uds=str(host.spec.socket))
        async with httpx2.AsyncClient(transport=transport) as http:
            while (await http.get("http://m/health")).json()["running"]:
                pass


async def test_a_failure_in_the_middle_is_one(folder: Path) -> None:
    """The engine's failure after a segment means: not available now."""
    async with ours(folder) as (client, _):
        with pytest.raises(ModelUnavailable):
            await all_of(client.transcribe(tone(5), hotwords=["echo:break"]))


# -- other people's servers ------------------------------------------------------------------------


SEGMENTS = [
    {"id": 0, "start": 0.0, "end": 1.5, "text": " Hello there.", "avg_logprob": -0.2, "no_speech_prob": 0.1},
    {"id": 1, "start": 1.5, "end": 3.0, "text": " La la la", "avg_logprob": -1.7, "compression_ratio": 3.0},
]
VERBOSE = {"text": "Hello there. La la la", "language": "english", "duration": 3.0, "segments": SEGMENTS}
HEARD = (Segment(0.0, 1.5, "Hello there."), Segment(1.5, 3.0, "La la la", doubtful=True))
CHUNK = {"object": "transcription.chunk", "choices": [{"delta": {"content": "Hello"}, "finish_reason": None}]}
LAST = {"object": "transcription.chunk", "choices": [{"delta": {"content": " you"}, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        (answers(VERBOSE), Transcript(HEARD, "", 3.0)),
        (answers({"text": "Hello"}), Transcript((Segment(0.0, 0.0, "Hello"),))),
        (answers("Hello\n"), Transcript((Segment(0.0, 0.0, "Hello"),))),
        (answers({"text": ""}), Transcript()),
        (
            events(
                {"type": "transcript.text.delta", "delta": "Hel"},
                {"type": "transcript.text.delta", "delta": "lo", "logprobs": []},
                {"type": "transcript.text.done", "text": "Hello", "usage": {}},
            ),
            Transcript((Segment(0.0, 0.0, "Hello"),)),
        ),
        (
            events(CHUNK, LAST, {"choices": [], "usage": {}}, "[DONE]"),
            Transcript((Segment(0.0, 0.0, "Hello you"),)),
        ),
        (events(VERBOSE), Transcript(HEARD, "", 3.0)),
        (
            events({"text": "Hello"}, {"text": "you"}),
            Transcript((Segment(0.0, 0.0, "Hello"), Segment(0.0, 0.0, "you"))),
        ),
    ],
    ids=["whisper-1", "json", "text", "nothing", "gpt-4o", "vllm", "speaches", "speaches json"],
)
async def test_other_servers_are_understood(handler: Handler, expected: Transcript) -> None:
    """Whatever shape a server of this API answers in, what was said comes out, with the times that it has."""
    async with remote(handler) as client:
        assert whole(await all_of(client.transcribe(tone(1)))) == expected


def test_words_beside_the_segments_find_theirs() -> None:
    """OpenAI gives the words of a recording in one list; each goes to the segment it was said in."""
    words = [
        {"word": "Hello", "start": 0.1, "end": 0.4},
        {"word": "there.", "start": 0.5, "end": 0.9},
        {"word": "La", "start": 1.5, "end": 1.7},
    ]
    heard = in_one_piece(json.dumps(VERBOSE | {"words": words}))
    assert [[word.text for word in one.words] for one in heard.segments] == [["Hello", "there."], ["La"]]
    assert heard.segments[0].words[0] == Word(0.1, 0.4, "Hello")


@pytest.mark.parametrize(
    ("taken", "asked"),
    [
        ({"stream": None, "response_format": "verbose_json"}, 2),
        ({"stream": None, "response_format": "json"}, 3),
    ],
)
async def test_a_server_that_takes_less_is_asked_for_less(taken: dict[str, str | None], asked: int) -> None:
    """What a server refuses is left out until it answers, and that is remembered for the next recording."""
    requests = 0

    async def picky(request: web.Request) -> web.StreamResponse:
        nonlocal requests
        requests += 1
        form = await request.post()
        if {name: form.get(name) for name in taken} != taken:
            return web.json_response({"error": {"message": "unsupported", "code": None}}, status=400)
        return web.json_response({"text": "yes"})

    async with remote(picky) as client:
        assert whole(await all_of(client.transcribe(tone(1)))).text == "yes"
        assert requests == asked
        assert whole(await all_of(client.transcribe(tone(1)))).text == "yes"
        assert requests == asked + 1


async def test_what_is_sent_is_what_was_asked_and_no_name() -> None:
    """The form has the fields that were given; the file's name says no more than its type."""
    seen: list[tuple[dict[str, Any], web.FileField]] = []

    async def look(request: web.Request) -> web.StreamResponse:
        form = await request.post()
        file = form["file"]
        assert isinstance(file, web.FileField)
        fields = {name: form.getall(name) for name in form if name != "file"}
        seen.append((fields | {"sent": file.file.read()}, file))
        return web.json_response(VERBOSE)

    with tempfile.NamedTemporaryFile(prefix="grandmas-will-", suffix=".ogg") as file:
        file.write(tone(1).getvalue())
        async with remote(look, api_key="k") as client:
            signs = client.transcribe(
                file,  # type: ignore[arg-type] # a wrapper of a BinaryIO, which typeshed does not know as one
                media_type="audio/ogg; codecs=opus",
                language="de",
                hotwords=["Ada", "Ben\n Miller", "Ada"],
                words=True,
                priority="flex",
                cache_key="c",
                max_seconds=60,
                start_seconds=2.5,
            )
            await all_of(signs)
    ((fields, sent),) = seen
    assert sent.filename == "sound.ogg"
    assert "grandma" not in str(dict(sent.headers))
    assert fields == {
        "sent": tone(1).getvalue(),
        "model": ["m"],
        "language": ["de"],
        "prompt": ["Ada, Ben Miller"],
        "response_format": ["verbose_json"],
        "stream": ["true"],
        "timestamp_granularities[]": ["segment", "word"],
        "service_tier": ["flex"],
        "prompt_cache_key": ["c"],
        "max_seconds": ["60"],
        "start_seconds": ["2.500"],
    }


@pytest.mark.parametrize(
    "media_type", ["audio/ogg\r\nX-Evil: 1", "grandma's voice", "ü/x", "a/" + "b" * 999, ""]
)
async def test_an_odd_media_type_is_not_sent(media_type: str) -> None:
    """What a sender says of a file reaches no header unless it is a media type; a name may be broken."""
    seen: list[str] = []

    async def look(request: web.Request) -> web.StreamResponse:
        form = await request.post()
        file = form["file"]
        assert isinstance(file, web.FileField)
        seen.append(file.content_type)
        return web.json_response(VERBOSE)

    async with remote(look) as client:
        await all_of(client.transcribe(tone(1), media_type=media_type, hotwords=["A\ud800da"]))
    assert seen == ["application/octet-stream"]


@pytest.mark.parametrize(
    ("handler", "expected", "code"),
    [
        (answers({"error": {"code": None}}, 400), ModelRefused, "audio_unreadable"),
        (answers({"error": {"code": "audio_too_long"}}, 413), ModelRefused, "audio_too_long"),
        (answers({}, 413), ModelRefused, "audio_too_large"),
        (answers({}, 401), ModelMisconfigured, ""),
        (answers({}, 404), ModelMisconfigured, ""),
        (answers({}, 429), ModelBusy, ""),
        (answers({}, 500), ModelUnavailable, ""),
        (answers("<html>Welcome</html>"), ModelMisconfigured, ""),
        (answers({"hello": "there"}), ModelMisconfigured, ""),
        (answers([]), ModelMisconfigured, ""),
        (events(CHUNK), ModelUnavailable, ""),
        (events({"type": "transcript.text.delta", "delta": "Hel"}, "[DONE]"), ModelUnavailable, ""),
        (events("{nonsense"), ModelMisconfigured, ""),
        (events({"error": {"message": "m", "code": "audio_too_long"}}), ModelRefused, "audio_too_long"),
        (events({"error": {"message": "m", "code": "engine_failed"}}), ModelUnavailable, ""),
    ],
)
async def test_every_failure_has_one_meaning(handler: Handler, expected: type[ModelError], code: str) -> None:
    """Whatever goes wrong on the way or in the stream is one of the families, with its code."""
    async with remote(handler) as client:
        with pytest.raises(ModelError) as told:
            await all_of(client.transcribe(tone(1)))
    assert type(told.value) is expected
    assert getattr(told.value, "code", "") == code


async def test_nobody_there() -> None:
    """A socket that does not exist means: not available."""
    client = SpeechClient("m", socket="/nonexistent/socket")
    with pytest.raises(ModelUnavailable):
        await all_of(client.transcribe(tone(1)))
    await client.close()


# -- deadlines -------------------------------------------------------------------------------------

PROGRESS = {"type": "hearth.progress", "done": 0.0, "total": 9.0}
QUEUE = {"type": "hearth.queue", "position": 3}


@pytest.mark.parametrize("first", [(), (QUEUE,), (PROGRESS,)])
async def test_silence_has_a_deadline(first: tuple[dict[str, Any], ...]) -> None:
    """A server that says nothing more is given up."""
    async with remote(events(*first, hang=True), deadlines=Deadlines(silence=0.2)) as client:
        with pytest.raises(ModelTimeout):
            await all_of(client.transcribe(tone(1)))


def chatter(event: dict[str, Any], times: int | None = None) -> Handler:
    """A server that says the same again and again, and then the end."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        said = 0
        while times is None or said < times:
            await response.write(f"data: {json.dumps(event)}\n\n".encode())
            await asyncio.sleep(0.02)
            said += 1
        await response.write(b'data: {"type": "transcript.text.done", "text": "x"}\n\n')
        return response

    return answer


async def test_progress_does_not_postpone_the_end() -> None:
    """Signs of life postpone the silence deadline, never the one that is scaled to the recording."""
    small = io.BytesIO(b"x" * 10)
    async with remote(chatter(PROGRESS), deadlines=Deadlines(total=0.5, silence=0.2)) as client:
        began = asyncio.get_running_loop().time()
        with pytest.raises(ModelTimeout):
            await all_of(client.transcribe(small))
        assert 0.4 < asyncio.get_running_loop().time() - began < 5


async def test_the_line_is_not_counted() -> None:
    """Whoever stands in the line longer than a recording may take is still heard."""
    deadlines = Deadlines(total=0.3, silence=5)
    async with remote(chatter(QUEUE, times=30), deadlines=deadlines) as client:
        signs = await all_of(client.transcribe(io.BytesIO(b"x")))
    assert whole(signs).text == "x"
    assert [sign.position for sign in signs[:-1]] == [3] * 30


async def test_a_long_recording_may_take_longer() -> None:
    """The deadline grows with the size of the file, within `max_seconds`."""
    large = io.BytesIO(bytes(1 << 20))
    deadlines = Deadlines(total=0.1, silence=5)
    async with remote(chatter(PROGRESS, times=20), deadlines=deadlines) as client:
        assert whole(await all_of(client.transcribe(large))).text == "x"


async def test_cancelling_the_task_closes_the_stream() -> None:
    """A cancelled caller is cancelled, not told of an error, and the server sees the stream close."""
    closed, begun = asyncio.Event(), asyncio.Event()

    async def hang(request: web.Request) -> web.StreamResponse:
        begun.set()
        try:
            return await events(PROGRESS, hang=True)(request)
        finally:
            closed.set()

    async with remote(hang) as client:
        task = asyncio.create_task(all_of(client.transcribe(tone(1))))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(5):
            await closed.wait()


# -- properties ------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "text", "segments", "words", "word", "start", "end", "choices", "delta", "language"]
            )
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_no_answer_breaks_the_reading(answer: object) -> None:
    """Any JSON is read as a transcript with usable times, or refused as not of this API."""
    with contextlib.suppress(ModelMisconfigured):
        for one in in_one_piece(json.dumps(answer)).segments:
            assert 0 <= one.end - one.start < math.inf or one.start < 0


@given(st.lists(JSON, max_size=5))
def test_no_event_breaks_the_reading(received: list[object]) -> None:
    """Any JSON as an event is a sign or nothing; the end is then a transcript or "broke off"."""
    gathered = Gathered()
    for event in received:
        for sign in gathered.take(event):
            assert isinstance(sign, Heard)
    with contextlib.suppress(ModelUnavailable):
        assert [sign.transcript for sign in gathered.end()] == [gathered.transcript]


@given(st.lists(st.text(max_size=40), max_size=60))
def test_the_prompt_is_bounded_and_has_whole_words(hotwords: list[str]) -> None:
    """Hotwords make one line of whole entries, each once, within the bound."""
    line = prompt(hotwords)
    assert len(line) <= PROMPT_CHARACTERS
    words = dict.fromkeys(" ".join(word.split()).replace(",", ";") for word in hotwords)
    parts = prompt(list(words)).split(", ")
    assert set(parts) <= {*words, ""}
    assert len(parts) == len(set(parts))
