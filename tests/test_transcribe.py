"""`hearth transcribe`: what is written, what is left alone, and what goes on after an end in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import math
import os
import signal
import subprocess
import sys
import time
import wave
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bridge.sections import SpeechSettings
from bridge.settings import Settings
from bridge.transcribe import Options, Part, Unworkable, recordings, transcribe
from models.client import ModelMisconfigured
from models.echo_ear import echo_transcript
from models.transcript import Segment, Word, render

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

DEADLINE = 60.0


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setenv("HEARTH_SPEECH__MODEL", "echo")
    yield
    assert list(temporary.iterdir()) == [], "nothing is left in the folder for temporary files"


def _tone(name: str, seconds: float) -> Path:
    held = io.BytesIO()
    with wave.open(held, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        samples = (int(8000 * math.sin(n / 5)) for n in range(round(8000 * seconds)))
        file.writeframes(b"".join(sample.to_bytes(2, "little", signed=True) for sample in samples))
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(held.getvalue())
    return path


def _start(*arguments: str, delay: float = 0.0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bridge", "transcribe", *arguments],
        env=os.environ | {"HEARTH_SPEECH__ECHO_DELAY": str(delay)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _hearth(*arguments: str) -> tuple[int, list[str], list[str]]:
    """The real command in a process of its own: status, lines of output, lines of problems."""
    with _start(*arguments) as process:
        out, err = process.communicate(timeout=DEADLINE)
    return process.returncode, out.splitlines(), err.splitlines()


def _said(seconds: float) -> str:
    return render(echo_transcript(seconds), "txt")


def _until_heard(process: subprocess.Popen[str], part: Path, lines: int) -> None:
    """Wait until so many segments are kept."""
    until = time.monotonic() + DEADLINE
    while not part.exists() or part.read_bytes().count(b"\n") <= lines:
        assert process.poll() is None
        assert time.monotonic() < until


# -- what is written -------------------------------------------------------------------------------


def test_a_recording_becomes_files_beside_it() -> None:
    """Each form is a file beside the recording, named on standard output; nothing else is made."""
    _tone("meeting.wav", 5)
    forms = ("txt", "md", "srt", "vtt", "json")
    status, out, problems = _hearth(
        "meeting.wav", "--words", "--language", "de", *(f"--format={form}" for form in forms)
    )
    assert (status, problems) == (0, [])
    assert out == [f"meeting.wav.{form}" for form in forms]
    assert {path.name for path in Path().iterdir()} == {"meeting.wav", *out}
    assert Path("meeting.wav.txt").read_text() == _said(5)
    assert Path("meeting.wav.srt").read_text() == render(echo_transcript(5), "srt")
    told = json.loads(Path("meeting.wav.json").read_text())
    assert (told["text"], told["language"], told["duration"]) == (echo_transcript(5).text, "de", 5.0)
    assert told["words"][0]["word"] == "echo:"
    front = Path("meeting.wav.md").read_text().split("---")[1]
    assert 'title: "meeting"' in front
    assert 'model: "echo"' in front


def test_a_folder_is_searched_and_bad_files_do_not_stop_the_others() -> None:
    """Recordings below a folder are found by their names; each bad one has a line, the rest is written."""
    _tone("in/a.wav", 1)
    _tone("in/deep/B.WAV", 3)
    _tone("in/.hidden/c.wav", 1)
    Path("in/empty.mp3").touch()
    Path("in/diary.ogg").write_text("Dear diary")
    Path("in/notes.txt").write_text("left alone")
    status, out, problems = _hearth("in", "missing.wav", "--output-dir", "out")
    assert status == 1
    assert sorted(out) == ["out/a.wav.txt", "out/deep/B.WAV.txt"]
    assert sorted(str(path) for path in Path("out").rglob("*") if path.is_file()) == sorted(out)
    assert Path("out/deep/B.WAV.txt").read_text() == _said(3)
    assert [line.partition(":")[0] for line in problems] == ["missing.wav", "in/diary.ogg", "in/empty.mp3"]
    assert all("; " in line for line in problems), "each says what to do"


def test_what_is_written_is_left_alone_unless_forced() -> None:
    """A transcript that somebody corrected is not lost; another form of it is written all the same."""
    _tone("a.wav", 1)
    Path("a.wav.txt").write_text("corrected")
    status, out, problems = _hearth("a.wav")
    assert (status, out) == (0, [])
    assert "--force" in problems[0]
    assert _hearth("a.wav", "-f", "txt", "-f", "srt")[:2] == (0, ["a.wav.srt"])
    assert Path("a.wav.txt").read_text() == "corrected"
    assert _hearth("a.wav", "--force")[:2] == (0, ["a.wav.txt"])
    assert Path("a.wav.txt").read_text() == _said(1)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("a.wav", "--language", "German"), 2, "as its code"),
        (("a.wav", "--format", "pdf"), 2, "is not one of"),
        (("a.wav", "--model", "nowhere"), 78, "nowhere: is not a folder"),
        ((), 2, "Missing argument"),
        (("home",), 1, "home: no such file"),
    ],
)
def test_mistakes_say_what_to_do(arguments: tuple[str, ...], status: int, words: str) -> None:
    """Each mistake ends with its status and words, and makes no files."""
    _tone("a.wav", 1)
    ended, out, problems = _hearth(*arguments)
    assert (ended, out) == (status, [])
    assert words in "\n".join(problems)
    assert [path.name for path in Path().iterdir()] == ["a.wav"]


def test_without_a_model_the_settings_are_told_about(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where voice is off, that is said with the remedy, and `--model` goes before it."""
    monkeypatch.setenv("HEARTH_SPEECH__MODEL", "off")
    _tone("a.wav", 1)
    status, _, problems = _hearth("a.wav")
    assert status == 78
    assert "speech.model" in problems[-1]
    assert _hearth("a.wav", "--model", "echo")[:2] == (0, ["a.wav.txt"])


def test_two_recordings_never_share_an_output() -> None:
    """Where two files would be written to one place, the second one is named and not heard."""
    _tone("x/a.wav", 1)
    _tone("y/a.wav", 3)
    status, out, problems = _hearth("x/a.wav", "y/a.wav", "x/a.wav", "--output-dir", "out")
    assert (status, out) == (1, ["out/a.wav.txt"])
    assert problems[0].startswith("y/a.wav: would be written over that of x/a.wav")
    assert Path("out/a.wav.txt").read_text() == _said(1)


# -- an end in the middle --------------------------------------------------------------------------


def test_after_ctrl_c_it_goes_on_where_it_stopped() -> None:
    """Ctrl-C ends with 130 and one line; the same command then writes what one run would have written."""
    _tone("a.wav", 12)
    part = Path("a.wav.part.jsonl")
    with _start("a.wav", delay=0.3) as process:
        _until_heard(process, part, 2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, out) == (130, "")
    assert err == "hearth: stopped; the same command goes on where it stopped\n"
    kept = part.read_bytes().splitlines()
    assert len(kept) >= 3
    assert not Path("a.wav.txt").exists()
    # What was kept is believed: were it heard again, this would not be in the end.
    part.write_bytes(part.read_bytes().replace(b"12.0 seconds", b"twelve seconds"))
    assert _hearth("a.wav")[:2] == (0, ["a.wav.txt"])
    assert Path("a.wav.txt").read_text() == _said(12).replace("12.0 seconds", "twelve seconds")
    assert not part.exists()


def test_a_recording_that_changed_is_heard_anew() -> None:
    """What was heard of another recording of the same name is not mixed into this one."""
    _tone("a.wav", 12)
    part = Path("a.wav.part.jsonl")
    with _start("a.wav", delay=0.3) as process:
        _until_heard(process, part, 1)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=DEADLINE)
    _tone("a.wav", 3)
    assert _hearth("a.wav")[0] == 0
    assert Path("a.wav.txt").read_text() == _said(3)


def test_a_model_that_is_killed_is_started_again_and_goes_on() -> None:
    """SIGKILL of the model process in the middle costs nothing but time."""
    _tone("a.wav", 12)
    with _start("a.wav", delay=0.3) as process:
        _until_heard(process, Path("a.wav.part.jsonl"), 1)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        out, _ = process.communicate(timeout=DEADLINE)
    assert len(children) == 1
    assert (process.returncode, out) == (0, "a.wav.txt\n")
    assert Path("a.wav.txt").read_text() == _said(12)


# -- in this process -------------------------------------------------------------------------------


async def _inside(settings: Settings, *paths: str, terminal: bool = False) -> tuple[int, str, str]:
    """The command without its process: nothing of it blocks the event loop."""
    out, notes = io.StringIO(), io.StringIO()
    status = await transcribe(
        settings,
        [Path(path) for path in paths],
        Options(),
        out=Console(file=out, width=100, force_terminal=terminal),
        notes=Console(file=notes, width=100, force_terminal=terminal),
    )
    return status, out.getvalue(), notes.getvalue()


async def test_progress_is_shown_on_a_terminal() -> None:
    """The bar says how many minutes are heard of how many; names cannot steer the terminal."""
    _tone("a[red]\x1b[2J.wav", 5)
    status, _, notes = await _inside(Settings(), "a[red]\x1b[2J.wav", terminal=True)
    assert status == 0
    assert "0:05" in notes
    assert "a[red][2J.wav" in notes
    assert "\x1b[2J" not in notes


@contextlib.asynccontextmanager
async def _elsewhere(*answers: web.Response) -> AsyncGenerator[tuple[Settings, list[int]]]:
    """Settings of a server that answers so, one after the other; how many were asked for."""
    asked: list[int] = []

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        asked.append(1)
        return answers[min(len(asked), len(answers)) - 1]

    app = web.Application(client_max_size=1 << 24)
    app.add_routes([web.post("/v1/audio/transcriptions", answer)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield Settings().model_copy(update={"speech": SpeechSettings(base_url=address, name="m")}), asked
    finally:
        await runner.cleanup()


HEARD = json.dumps(
    {
        "text": "One. Two.",
        "duration": 2.0,
        "segments": [{"start": 0.0, "end": 1.0, "text": "One."}, {"start": 1.0, "end": 2.0, "text": "Two."}],
    }
)
BUSY = {"status": 429, "text": "{}", "headers": {"Retry-After": "0"}}


async def test_a_busy_server_is_asked_again_and_given_up() -> None:
    """What passes is waited for, three times; then the file is named, with what to do."""
    _tone("a.wav", 1)
    async with _elsewhere(web.Response(**BUSY), web.Response(text=HEARD)) as (settings, asked):  # type: ignore[arg-type] # a mapping of keywords
        assert (await _inside(settings, "a.wav"))[:2] == (0, "a.wav.txt\n")
        assert len(asked) == 2
    async with _elsewhere(*(web.Response(**BUSY) for _ in range(3))) as (settings, asked):  # type: ignore[arg-type] # as above
        Path("a.wav.txt").unlink()
        status, _, notes = await _inside(settings, "a.wav")
        assert (status, len(asked)) == (1, 3)
        assert "the same command goes on" in notes
    assert [path.name for path in Path().iterdir()] == ["a.wav"]


def _left(source: Path, heard: str) -> None:
    """A recording of which the first second was heard before."""
    status = source.stat()
    part = Part(
        source.with_name(f"{source.name}.part.jsonl"),
        {
            "size": status.st_size,
            "mtime_ns": status.st_mtime_ns,
            "model": "m",
            "language": "",
            "words": False,
        },
    )
    part.add(Segment(0.0, 1.0, heard))
    part.close()


async def test_a_server_that_begins_at_the_beginning_repeats_nothing() -> None:
    """Where a server knows nothing of going on, what was heard before is not written twice."""
    source = _tone("a.wav", 1)
    async with _elsewhere(web.Response(text=HEARD)) as (settings, _):
        await asyncio.to_thread(_left, source, "Uno.")
        assert (await _inside(settings, "a.wav"))[0] == 0
    assert Path("a.wav.txt").read_text() == "Uno. Two.\n"


async def test_a_server_that_refuses_the_key_stops_all() -> None:
    """What no recording would survive is not tried with the next one."""
    _tone("a.wav", 1)
    _tone("b.wav", 1)
    async with _elsewhere(web.Response(status=401)) as (settings, asked):
        with pytest.raises(ModelMisconfigured):
            await _inside(settings, "a.wav", "b.wav")
        assert len(asked) == 1


# -- what is kept ----------------------------------------------------------------------------------

WORDS = st.lists(st.builds(Word, st.floats(0, 9), st.floats(0, 9), st.text(max_size=5)), max_size=2)
SEGMENTS = st.lists(
    st.builds(
        Segment,
        start=st.floats(0, 1000),
        end=st.floats(1000, 2000),
        text=st.text(max_size=20).map(str.strip),
        doubtful=st.booleans(),
        language=st.sampled_from(["", "de"]),
        words=WORDS.map(tuple),
    ),
    max_size=5,
)


@given(SEGMENTS, st.integers(0, 400))
def test_a_part_that_was_cut_anywhere_gives_back_whole_segments(
    tmp_path_factory: pytest.TempPathFactory, segments: list[Segment], cut: int
) -> None:
    """Wherever the file ends, what is read is a beginning of what was heard, and it can be gone on with."""
    path = tmp_path_factory.mktemp("parts") / "part"
    part = Part(path, {"size": 1})
    for segment in segments:
        part.add(segment)
    part.close()
    if not segments:
        assert not path.exists()
        return
    path.write_bytes(path.read_bytes()[: max(0, path.stat().st_size - cut)])
    part = Part(path, {"size": 1})
    kept = list(part.segments)
    assert kept == segments[: len(kept)]
    for segment in segments[len(kept) :]:
        part.add(segment)
    part.close()
    part = Part(path, {"size": 1})
    assert part.segments == segments
    part.close()
    part = Part(path, {"size": 2})
    assert part.segments == []
    part.close()


def test_a_part_belongs_to_one_process(tmp_path: Path) -> None:
    """A second command on the same recording is told so, and leaves the first one's work alone."""
    part = Part(tmp_path / "part", {})
    part.add(Segment(0, 1, "x"))
    with pytest.raises(Unworkable, match="works on it"):
        Part(tmp_path / "part", {})
    part.close()
    assert Part(tmp_path / "part", {}).segments == [Segment(0, 1, "x")]


def test_an_empty_folder_is_said_and_links_are_not_followed(tmp_path: Path) -> None:
    """A folder without recordings is a problem with a remedy; a link to a folder is not entered."""
    Path("empty").mkdir()
    (Path("empty") / "loop").symlink_to(tmp_path)
    _tone("other/a.wav", 1)
    assert recordings([Path("empty")], None) == (
        [],
        ["empty: no recordings in this folder; name the files themselves"],
    )
