"""The speech server over HTTP, with the echo ear: real containers, real limits, no model."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import stat
import sys
import threading
from typing import TYPE_CHECKING, Any

import httpx2
import openai
import pytest
from aiohttp import web

from models import http
from models.echo_ear import EchoEar, echo_transcript
from models.protocol import EX_CONFIG, Ended, HearingWish, Reached
from models.sound import look
from models.speech import SpeechServer
from models.transcript import Segment, Transcript, render
from tests.models.voice import pack, silence, tone

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator
    from pathlib import Path

    from models.protocol import Ear
    from models.sound import Sound

NOTE = pack(tone(4.5), "flac", "flac")
HEARD = echo_transcript(4.5)
PATH = "/v1/audio/transcriptions"


@contextlib.asynccontextmanager
async def listening(
    folder: Path, ear: Ear[Sound] | None = None, *, server: SpeechServer | None = None, **options: Any
) -> AsyncGenerator[httpx2.AsyncClient]:
    """The server in this loop, on a socket, with a client."""
    server = server or SpeechServer(ear or EchoEar(), **options)
    runner = web.AppRunner(server.app, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    path = str(folder / "speech.sock")
    await web.UnixSite(runner, path).start()
    transport = httpx2.AsyncHTTPTransport(uds=path)
    try:
        async with httpx2.AsyncClient(transport=transport, base_url="http://model", timeout=30) as client:
            yield client
    finally:
        await runner.cleanup()


async def ask(client: httpx2.AsyncClient, data: bytes = NOTE, **fields: Any) -> httpx2.Response:
    form = {"model": "echo", **fields}
    return await client.post(PATH, data=form, files={"file": ("voice.ogg", data)})


@contextlib.asynccontextmanager
async def events(
    client: httpx2.AsyncClient, data: bytes = NOTE, **fields: Any
) -> AsyncGenerator[AsyncGenerator[dict[str, Any]]]:
    """The events of a stream, as they come; the stream closes with the block."""
    form = {"model": "echo", "stream": "true", **fields}
    async with client.stream("POST", PATH, data=form, files={"file": ("voice.ogg", data)}) as answer:
        assert answer.status_code == 200, await answer.aread()

        async def read() -> AsyncGenerator[dict[str, Any]]:
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    yield json.loads(line.removeprefix("data: "))

        async with contextlib.aclosing(read()) as stream:
            yield stream


async def kinds(client: httpx2.AsyncClient, data: bytes = NOTE, **fields: Any) -> list[dict[str, Any]]:
    async with events(client, data, **fields) as stream:
        return [event async for event in stream]


# -- the protocol ----------------------------------------------------------------------------------


async def test_plain_answers(folder: Path) -> None:
    """Every form is the transcript as `render` writes it; `json` is what comes without asking."""
    async with listening(folder) as client:
        plain = (await ask(client)).json()
        assert plain["text"] == HEARD.text
        assert plain["usage"]["seconds"] == 4.5
        for form, media in (("text", "text/plain"), ("srt", "application/x-subrip"), ("vtt", "text/vtt")):
            answer = await ask(client, response_format=form)
            assert answer.text == render(HEARD, form)
            assert answer.headers["content-type"] == f"{media}; charset=utf-8"
        assert (await ask(client, response_format="md")).text == render(HEARD, "md")
        verbose = (await ask(client, response_format="verbose_json")).json()
        assert verbose.pop("usage")["type"] == "duration"
        assert (verbose.pop("task"), verbose.pop("truncated")) == ("transcribe", False)
        assert verbose == json.loads(render(HEARD, "verbose_json"))


async def test_words(folder: Path) -> None:
    """Times of words are given where they are asked for, and language and task are taken."""
    async with listening(folder) as client:
        answer = await client.post(
            "/v1/audio/translations",
            data={
                "model": "echo",
                "response_format": "verbose_json",
                "timestamp_granularities[]": ["word", "segment"],
                "language": "de-CH",
            },
            files={"file": NOTE},
        )
        said = echo_transcript(4.5, words=True)
        whole = answer.json()
        assert (whole["task"], whole["language"]) == ("translate", "de")
        assert [word["word"] for word in whole["words"]] == said.text.split()
        assert whole["words"][0]["start"] == 0.0


async def test_wire_snapshot(folder: Path) -> None:
    """A stream is OpenAI's events with ours between them, and ends with [DONE]."""
    async with listening(folder) as client:
        data = {"model": "echo", "stream": "true"}
        answer = await client.post(PATH, data=data, files={"file": pack(tone(2.5), "flac", "flac")})
        assert answer.headers["content-type"] == "text/event-stream"
        lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
        assert lines.pop() == "[DONE]"
        found = [json.loads(line) for line in lines]
        assert found[-1]["usage"].pop("queue_seconds") >= 0
        assert found[-1]["usage"].pop("engine_seconds") > 0
        fields = {"language": "en", "doubtful": False}
        assert found == [
            {"type": "hearth.progress", "done": 0.0, "total": 2.5},
            {
                "type": "transcript.text.segment",
                "id": 0,
                "start": 0.0,
                "end": 2.0,
                "text": "echo: 2.5 seconds of sound",
                **fields,
            },
            {"type": "transcript.text.delta", "delta": "echo: 2.5 seconds of sound"},
            {"type": "hearth.progress", "done": 2.0, "total": 2.5},
            {
                "type": "transcript.text.segment",
                "id": 1,
                "start": 2.0,
                "end": 2.5,
                "text": "echo: second 2",
                **fields,
            },
            {"type": "transcript.text.delta", "delta": " echo: second 2"},
            {"type": "hearth.progress", "done": 2.5, "total": 2.5},
            {
                "type": "transcript.text.done",
                "text": "echo: 2.5 seconds of sound echo: second 2",
                "language": "en",
                "duration": 2.5,
                "truncated": False,
                "usage": {"type": "duration", "seconds": 2.5},
            },
        ]


async def test_openai_client(folder: Path) -> None:
    """The plain OpenAI client understands us, streamed and not."""
    async with listening(folder) as http_client:
        client = openai.AsyncOpenAI(
            api_key="x", base_url="http://model/v1", http_client=http_client, max_retries=0
        )
        create = client.audio.transcriptions.create
        assert (await create(model="echo", file=("v.ogg", NOTE))).text == HEARD.text
        verbose = await create(
            model="echo",
            file=("v.ogg", NOTE),
            response_format="verbose_json",
            timestamp_granularities=["word"],
        )
        assert verbose.words is not None
        assert verbose.duration == 4.5
        stream = await create(model="echo", file=("v.ogg", NOTE), stream=True)
        text, done = "", ""
        async for event in stream:
            if event.type == "transcript.text.delta":
                text += event.delta
            elif event.type == "transcript.text.done":
                done = event.text
        assert text == done == HEARD.text
        assert [model.id async for model in client.models.list()] == ["echo"]


async def test_silence_is_no_error(folder: Path) -> None:
    """Nobody spoke: an empty transcript."""
    async with listening(folder) as client:
        answer = await ask(client, pack(silence(3.0), "flac", "flac"), response_format="verbose_json")
        assert answer.status_code == 200
        assert (answer.json()["text"], answer.json()["segments"]) == ("", [])
        assert answer.json()["duration"] == 3.0


async def test_going_on(folder: Path) -> None:
    """What was heard before is passed over."""
    async with listening(folder) as client:
        whole = (await ask(client, response_format="verbose_json", start_seconds="2.0")).json()
        assert [one["start"] for one in whole["segments"]] == [2.0, 4.0]
        assert whole["duration"] == 4.5


async def test_a_truncated_recording(folder: Path) -> None:
    """What is there of a broken upload is heard, and it is said to be truncated."""
    data = pack(tone(8.0))
    async with listening(folder) as client:
        done = (await kinds(client, data[: len(data) // 2]))[-1]
        assert (done["type"], done["truncated"]) == ("transcript.text.done", True)
        assert 1 < done["duration"] < 7


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "data", "status", "code"),
    [
        ({"model": "whisper-1"}, NOTE, 404, "model_not_found"),
        ({"response_format": "docx"}, NOTE, 400, "invalid_request_error"),
        ({"temperature": "hot"}, NOTE, 400, "invalid_request_error"),
        ({"temperature": "nan"}, NOTE, 400, "invalid_request_error"),
        ({"language": "../../etc"}, NOTE, 400, "invalid_request_error"),
        ({"timestamp_granularities[]": "letter"}, NOTE, 400, "invalid_request_error"),
        ({"prompt": "x" * 20_000}, NOTE, 400, "invalid_request_error"),
        ({f"field{at}": "x" for at in range(70)}, NOTE, 400, "invalid_request_error"),
        ({"max_seconds": "-1"}, NOTE, 400, "invalid_request_error"),
        ({"max_seconds": "4"}, NOTE, 413, "audio_too_long"),
        ({"max_seconds": "9999"}, pack(tone(70.0), "flac", "flac"), 413, "audio_too_long"),
        ({}, b"", 400, "audio_unreadable"),
        ({}, b"Dear diary\n" * 99, 400, "audio_unreadable"),
        ({}, b"\x89PNG\r\n\x1a\n" + bytes(999), 400, "audio_unreadable"),
        ({}, random.Random(3).randbytes(9999), 400, "audio_unreadable"),
        ({}, bytes(3 << 20), 413, "audio_too_large"),
        ({"prompt": "echo:fail"}, NOTE, 500, "engine_failed"),
    ],
)
async def test_refusals(folder: Path, fields: dict[str, str], data: bytes, status: int, code: str) -> None:
    """Whatever is wrong is told in an OpenAI error object with a stable code, and the next one is heard."""
    async with listening(folder, largest=2 << 20, longest=60.0) as client:
        answer = await ask(client, data, **fields)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert (await ask(client)).is_success


async def test_refusals_of_nonsense(folder: Path) -> None:
    """What is no form, forms that break off, two files, no file, and web pages."""
    boundary = {"Content-Type": "multipart/form-data; boundary=x"}
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc\r\n'
    async with listening(folder) as client:
        for content, headers in (
            (b"{}", {"Content-Type": "application/json"}),
            (b"abc", {"Content-Type": "multipart/form-data"}),
            (b"abc", boundary),
            (b"--x\r\nContent-Disposition: form-data\r\n\r\nabc\r\n--x--\r\n", boundary),
            (part + part + b"--x--\r\n", boundary),
            (b"--x\r\n" + b"A" * 20_000 + b"\r\n\r\n--x--\r\n", boundary),
        ):
            answer = await client.post(PATH, content=content, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request_error")
        answer = await client.post(PATH, data={"model": "echo"}, files={"other": NOTE})
        assert answer.json()["error"]["code"] == "invalid_request_error"
        answer = await client.post(
            PATH, data={"model": "echo"}, files={"file": NOTE}, headers={"Origin": "x"}
        )
        assert answer.status_code == 403


async def test_a_failure_in_the_middle(folder: Path) -> None:
    """An error after the first words is the last event of the stream."""
    async with listening(folder) as client:
        found = await kinds(client, prompt="echo:break")
        assert [event.get("type", "error") for event in found] == [
            "hearth.progress",
            "transcript.text.segment",
            "transcript.text.delta",
            "error",
        ]
        assert found[-1]["error"]["code"] == "engine_failed"


# -- who goes first, and who goes away -------------------------------------------------------------


class Gated:
    """An ear that hears one second a step, each when it is let; it notes who made each step."""

    def __init__(self) -> None:
        self.name = "echo"
        self.gate = threading.Semaphore(0)
        self.steps: list[str] = []
        self.files: list[Any] = []

    look = staticmethod(look)

    def hear(
        self, sound: Sound, wish: HearingWish, alone: Callable[[], bool]
    ) -> Iterator[Reached | Segment | Ended]:
        self.files.append(sound.file)
        for second in range(round(sound.announced)):
            yield Reached(second, sound.announced)
            assert self.gate.acquire(timeout=20)
            self.steps.append(wish.hotwords)
        yield Ended(Transcript((Segment(0, 1, wish.hotwords),), "en", sound.announced))

    def close(self) -> None:
        pass


async def standing(client: httpx2.AsyncClient, waiting: int, running: int = 1) -> None:
    """Until so many wait and run."""
    async with asyncio.timeout(20):
        while True:
            health = (await client.get("/health")).json()
            if (health["waiting"], health["running"]) == (waiting, running):
                return


async def test_a_note_goes_before_a_recording(folder: Path) -> None:
    """A voice note that arrives in the middle of a long recording is heard between two of its steps."""
    ear = Gated()
    async with listening(folder, ear) as client, asyncio.TaskGroup() as group:
        recording = group.create_task(kinds(client, prompt="long", service_tier="flex"))
        await standing(client, 0)
        second = group.create_task(kinds(client, prompt="later", service_tier="flex"))
        await standing(client, 1)
        note = group.create_task(kinds(client, prompt="note", service_tier="priority"))
        await standing(client, 2)
        ear.gate.release(100)
    assert ear.steps == ["long", *["note"] * 4, *["long"] * 3, *["later"] * 4]
    positions = [
        [event["position"] for event in task.result() if event["type"] == "hearth.queue"]
        for task in (recording, note, second)
    ]
    assert positions == [[1], [1], [1, 2, 1]]
    assert [task.result()[-1]["text"] for task in (recording, note, second)] == ["long", "note", "later"]


async def test_keys_take_turns(folder: Path) -> None:
    """A second room is heard before the second recording of the first."""
    ear = Gated()
    async with listening(folder, ear) as client, asyncio.TaskGroup() as group:
        for count, (name, key) in enumerate([("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b")]):
            group.create_task(ask(client, prompt=name, prompt_cache_key=key))
            await standing(client, count)
        ear.gate.release(100)
    assert list(dict.fromkeys(ear.steps)) == ["a1", "b1", "a2", "a3"]


async def test_the_line_is_bounded(folder: Path) -> None:
    """Beyond the bound a recording is refused with when to come back, and its file is gone."""
    ear = Gated()
    async with listening(folder, ear, bound=1) as client, asyncio.TaskGroup() as group:
        for count in range(2):
            group.create_task(ask(client, prompt=str(count), prompt_cache_key=str(count)))
            await standing(client, count)
        late = await ask(client, prompt_cache_key="late")
        assert (late.status_code, late.json()["error"]["code"]) == (429, "overloaded")
        assert 1 <= int(late.headers["Retry-After"]) <= 60
        ear.gate.release(100)


@pytest.mark.parametrize("tier", ["priority", "flex"])
async def test_going_away(folder: Path, tier: str) -> None:
    """Whoever goes away, running or waiting or set aside, is heard no further, and its file is closed."""
    ear = Gated()
    async with listening(folder, ear) as client:
        async with events(client, prompt="gone", service_tier="flex") as running:
            assert (await anext(running))["type"] == "hearth.progress"
            async with events(client, prompt="second", service_tier=tier) as waiting:
                assert (await anext(waiting))["position"] == 1
                ear.gate.release()
                if tier == "priority":
                    assert (await anext(waiting))["type"] == "hearth.progress"
                    await standing(client, 1)
            if tier == "flex":
                await standing(client, 0)
            ear.gate.release()
        ear.gate.release()
        await standing(client, 0, running=0)
        ear.gate.release(100)
        assert (await ask(client, prompt="next")).json()["text"] == "next"
        assert ear.steps.count("gone") < 4
        assert ear.steps.count("second") < 4
        assert ear.steps.count("next") == 4
    assert all(file.closed for file in ear.files)


async def test_signs_of_life(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing happens for a while, the last sign is repeated."""
    monkeypatch.setattr(http, "REPEAT_SECONDS", 0.01)
    ear = Gated()
    async with listening(folder, ear) as client, events(client, prompt="x") as stream:
        seen = [await anext(stream) for _ in range(4)]
        assert seen == [{"type": "hearth.progress", "done": 0, "total": 4.5}] * 4
        ear.gate.release(100)
        assert [event async for event in stream][-1]["type"] == "transcript.text.done"


async def test_stopping_tells_everybody(folder: Path) -> None:
    """A server that stops says so to who runs and who waits."""
    ear = Gated()
    server = SpeechServer(ear)
    async with listening(folder, server=server) as client:
        async with events(client, prompt="a") as first, events(client, prompt="b") as second:
            await anext(first)
            await anext(second)
            server.jobs.give_up()
            for stream in (first, second):
                assert [event async for event in stream][-1]["error"]["code"] == "shutting_down"
        ear.gate.release(100)


# -- the process -----------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def process(*options: str) -> AsyncGenerator[asyncio.subprocess.Process]:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-m", "models.speech", *options), stderr=asyncio.subprocess.PIPE
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


async def test_a_process_of_its_own(folder: Path) -> None:
    """The server starts as a process, on a socket of ours alone, and ends when it is told to."""
    path = folder / "s"
    async with process("--model", "echo", "--socket", str(path)) as child, asyncio.timeout(30):
        assert child.stderr is not None
        assert b"model_ready" in await child.stderr.readline()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        transport = httpx2.AsyncHTTPTransport(uds=str(path))
        async with httpx2.AsyncClient(transport=transport, base_url="http://model") as client:
            assert (await ask(client)).json()["text"] == HEARD.text
            health = (await client.get("/health")).json()
            assert (health["status"], health["model"], health["pid"]) == ("ok", "echo", child.pid)
        child.terminate()
        assert await child.wait() == 0
        assert not path.exists()


async def test_a_model_that_is_none_is_one_line(folder: Path) -> None:
    """A folder that is no model ends the server with status 78 and one line: folder, reason, remedy."""
    (folder / "diary").mkdir()
    (folder / "diary" / "model.bin").write_bytes(b"Dear diary")
    command = ("--model", str(folder / "diary"), "--socket", str(folder / "s"))
    async with process(*command) as child, asyncio.timeout(30):
        _, said = await child.communicate()
        assert child.returncode == EX_CONFIG
    (line,) = said.decode().splitlines()
    assert line == (
        f"hearth models: {folder}/diary: lacks config.json, preprocessor_config.json, tokenizer.json, "
        "vocabulary.json Remedy: name the folder of a Whisper model in CTranslate2 form, with all its files"
    )
