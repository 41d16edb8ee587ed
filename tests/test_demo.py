"""The demonstration, as a visitor starts it: it shows what it promises and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from typing import IO, TYPE_CHECKING

import pytest

from bridge.demo import ADA, BEN, BOT, NOTES, POSTED, QUESTIONS
from tests.human import Human

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEADLINE = 150.0
LOCK = "🔒"


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the demonstration takes for its own temporary one."""
    for name in list(os.environ):
        if name.startswith(("HEARTH_", "CREDENTIALS_DIRECTORY")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HEARTH_MODEL__PATH", "echo")
    monkeypatch.setenv("HEARTH_SPEECH__MODEL", "echo")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "bridge", *arguments]


def _done(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(_command(*arguments), capture_output=True, text=True, timeout=DEADLINE, check=False)


def _left(temporary: Path) -> list[Path]:
    """What a demonstration made and left in its temporary folder."""
    return sorted(temporary.glob("hearth-*"))


def _processes(temporary: Path) -> list[str]:
    """Command lines of processes that name the temporary folder: homeserver, bot, model."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                with open(f"{entry.path}/cmdline", "rb") as file:  # noqa: PTH123 - a path of the kernel's
                    line = file.read().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue  # it has ended meanwhile
            if str(temporary) in line:
                found.append(line)
    return found


@pytest.fixture
def started(temporary: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that a test starts; those that are left are ended, by their own id."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=DEADLINE)


def _start(started: list[subprocess.Popen[str]], *arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        _command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    started.append(process)
    return process


def _until(stream: IO[str] | None, words: str) -> str:
    """Read lines until one has `words`; all that was read."""
    assert stream is not None
    read = ""
    for line in stream:
        read += line
        if words in line:
            return read
    raise AssertionError(f"{words!r} was not said in:\n{read}")


def test_the_demonstration_shows_an_encrypted_conversation_in_time(temporary: Path) -> None:
    """Notes, questions, a voice message and answers: encrypted, in order, in a minute, and all is gone."""
    began = time.monotonic()
    done = _done("demo")
    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - began < 60
    said = [line for line in done.stdout.splitlines() if LOCK in line]
    expected = [*(f"Ben    {note}" for note in NOTES)]
    assert "From: `pool.md:3-4`" in done.stdout
    for question in QUESTIONS:
        expected += [f"Ada    {question}", "Hearth Echo: "]
    expected += ["Ben    🎤 a voice message of ", "Hearth > 🎙 echo: "]
    assert [words in line for words, line in zip(expected, said[1:], strict=True)] == [True] * len(expected)
    assert all(re.search(r"\d+\.\d s$", line) for line in said[1:] if re.search(f"{LOCK} +Hearth", line))
    assert "Echo: Ben: echo: " in done.stdout
    posts = done.stdout.partition("The same bot on Mastodon")[2]
    for words in (
        "loopback instance",
        "test double",
        f"Ada    {POSTED}",
        "Hearth @ada Echo: ",
        "Hearth @ada > 🎙 echo: ",
    ):
        assert words in posts
    assert "demo --keep" in done.stdout
    assert _left(temporary) == []
    assert _processes(temporary) == []


async def test_kept_running_it_can_be_used_looked_at_and_ended(
    temporary: Path, started: list[subprocess.Popen[str]]
) -> None:
    """With `--keep` a person logs in with what was printed; `check` and `turns` work; Ctrl-C ends all."""
    process = _start(started, "demo", "--keep")
    shown = _until(process.stdout, "turns list")
    config = re.search(r"--config (\S+) check", shown)
    url = re.search(r"homeserver +(http://\S+)", shown)
    password = re.search(rf"{BEN} +password (\S+)", shown)
    assert config and url and password  # noqa: PT018 - they are printed together

    async with Human(url[1], BEN, password[1]) as ben:
        room = await ben.create_room("Ben and the bot", invite=[BOT], direct=True)
        await ben.until_joined(room, BOT)
        asked = await ben.say(room, "Are you there?")
        answer = await ben.until(room, lambda said: said.sender == BOT and said.reply_to == asked)
        assert "Are you there?" in answer.text
        assert answer.encrypted

    looked = await asyncio.to_thread(_done, "--config", config[1], "check")
    assert looked.returncode == 0, looked.stdout
    for line in (
        "ok\t@hearth@127.0.0.1",
        "ok\tlogin\t",
        "ok\tcross-signing\t",
        "ok\tmodel\t",
        "note\trunning\t",
        "ok\tdata folder\t",
    ):
        assert line in looked.stdout
    listed = await asyncio.to_thread(_done, "--config", config[1], "turns", "list")
    assert len(re.findall(f"\tanswered\tallowed\t{ADA}\t", listed.stdout)) == len(QUESTIONS)
    second = await asyncio.to_thread(_done, "--config", config[1], "run")
    assert second.returncode == 78
    assert "another Hearth is running on this data folder" in second.stderr

    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "nothing is left behind" in rest
    assert _left(temporary) == []
    assert _processes(temporary) == []


def test_ended_in_the_middle_it_leaves_nothing_behind(
    temporary: Path, started: list[subprocess.Popen[str]]
) -> None:
    """SIGTERM while homeserver and bot are starting ends them too."""
    process = _start(started, "demo")
    _until(process.stdout, "starting `hearth run`")
    process.terminate()
    process.communicate(timeout=60)
    assert _left(temporary) == []
    assert _processes(temporary) == []


def test_a_failure_is_said_with_its_reason_and_the_logs_stay(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bot that cannot start is noticed at once, its last line is shown, and the folder is named."""
    monkeypatch.setenv("HEARTH_MODEL__CONTEXT", "much")
    done = _done("demo")
    assert done.returncode == 1
    assert "`hearth run` ended with 78: hearth: model.context" in done.stdout
    (folder,) = _left(temporary)
    assert f"The logs are in {folder}" in done.stdout
    assert "model.context" in (folder / "hearth.log").read_text()
    assert (folder / "synapse" / "homeserver.log").exists()
    assert _processes(temporary) == []


def test_two_communities_ask_each_other(temporary: Path) -> None:
    """Linked, voted, asked with a preview, answered from the notes, refused; no server could read it."""
    done = _done("demo", "--communities")
    assert (done.returncode, done.stderr) == (0, "")
    told = " ".join(done.stdout.split())
    steps = [
        *("!link @hearth:localhost:", "The key of `Family`", "The key of `City`"),
        *("decided this, without a vote", "!vote yes", "Passed", "has decided about us"),
        *("Nothing has left this room yet", "👍", "It is not from our bot", "pool.md:3-4"),
        *("grant.classes", "does not leave this room", "policy.classes_out"),
        *('"m.room.encrypted"', "family: ", "the chain is whole", "city: ", "the chain is whole"),
    ]
    at = 0
    for step in steps:
        found = told.find(step, at) if "key of" not in step else told.find(step)
        assert found >= 0, step
        at = max(at, found)
    assert (_left(temporary), _processes(temporary)) == ([], [])
