"""`hearth run` as a child process with the echo model, and what a second account finds in the rooms.

`Hearth` owns one data folder and at most one process on it; the process can be killed and started
again. `judge` is the oracle: pure, it sees only what a person's client shows.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Self

from models.echo import echo_answer
from models.echo_ear import echo_transcript

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from tests.human import Said

STOP_DEADLINE = 45.0
_LOG_TAIL = 3000
_ROOT = Path(__file__).parent.parent


class Hearth:
    """One household: settings and data in `folder`, the account `user` on the server at `url`.

    `settings` is more TOML, for instance `"[limits]\\nconcurrent_turns = 2"`; `model` and `speech`
    go into the tables of that name.
    """

    def __init__(
        self,
        folder: Path,
        url: str,
        user: str,
        *,
        model: str = "",
        speech: str = "",
        matrix: str = "",
        settings: str = "",
    ) -> None:
        self.folder = folder
        self.user = user
        self.config = folder / "hearth.toml"
        self.journal = folder / "data" / "hearth.db"
        self.log = folder / "hearth.log"
        self.starts = 0
        self._process: asyncio.subprocess.Process | None = None
        self._write(
            f"""\
data_dir = "data"
[matrix]
homeserver = {json.dumps(url)}
user = {json.dumps(user)}
allow = ["*"]
{matrix}
[model]
path = "echo"
{model}
[speech]
model = "echo"
{speech}
{settings}
"""
        )

    def _write(self, toml: str) -> None:
        credentials = self.folder / "data" / "credentials"
        credentials.mkdir(mode=0o700, parents=True)
        password = credentials / "matrix-password"
        password.touch(mode=0o600)
        password.write_text("pw\n", "utf-8")
        self.config.write_text(toml, "utf-8")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self.stop()
        else:
            await self.kill()

    async def start(self) -> None:
        """Start the process; it logs in and answers when it is ready, which nobody waits for here."""
        assert not self.running
        log = await asyncio.to_thread(self.log.open, "ab")
        with contextlib.closing(log):
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "bridge", "--config", str(self.config), "run"),
                cwd=_ROOT,
                env={name: value for name, value in os.environ.items() if not name.startswith("HEARTH_")},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.starts += 1

    async def kill(self) -> None:
        """SIGKILL, wherever it is. Returns when it is gone."""
        await self._signal(signal.SIGKILL)

    async def stop(self) -> None:
        """SIGTERM, and the orderly end must come. Fails if it does not, or is not clean."""
        status = await self._signal(signal.SIGTERM)
        assert status in (0, None), f"hearth run ended with {status}; its log ends:\n{self.tail()}"

    async def _signal(self, number: signal.Signals) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        try:
            return await asyncio.wait_for(process.wait(), STOP_DEADLINE)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise

    def tail(self) -> str:
        return self.log.read_text("utf-8", errors="replace")[-_LOG_TAIL:] if self.log.exists() else ""


def answer_to(name: str, question: str) -> str:
    """What the echo model answers when somebody shown as `name` asks a question of one line."""
    return echo_answer([{"role": "user", "content": f"{name}: {question}"}])


def answer_to_voice(name: str, seconds: float) -> str:
    """What is said to a voice message of so many seconds: what the echo ear heard, then the answer to it."""
    words = echo_transcript(seconds).text
    return f"> 🎙 {words}\n\n{answer_to(name, words)}"


def judge(said: Iterable[Said], bot: str, expected: Mapping[str, str]) -> list[str]:
    """What is wrong in a room, of which `expected` maps each question's event to its whole answer.

    Every question must have exactly one answer, readable, not redacted, whose latest edit is the
    whole text; and the bot must have answered nothing else. Its greeting replies to nothing.
    """
    answers = defaultdict[str, list[str]](list)
    wrong = []
    for one in said:
        if one.sender != bot or one.redacted:
            continue
        if not one.readable:
            wrong.append(f"{one.id}: cannot be read")
        elif one.reply_to is None and one.thread is None:
            answers[""].append(one.text)
        else:
            answers[one.reply_to or one.thread or ""].append(one.text)
    greetings = answers.pop("", [])
    if len(greetings) > 1:
        wrong.append(f"greeted {len(greetings)} times")
    for question, text in expected.items():
        given = answers.pop(question, [])
        if given != [text]:
            wrong.append(f"{question}: expected once {text!r}, got {given!r}")
    wrong += [f"{question}: nobody asked, answered {given!r}" for question, given in answers.items()]
    return wrong
