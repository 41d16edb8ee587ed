"""What must be true of a server and a journal when all is done, however often the process died."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from bots.base import Draft, Reply
from bots.conversation import Upload
from tests.fakes.platform import FakePlatform

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from bots.base import Tools, Waiting
    from bots.conversation import Turn
    from tests.fakes.server import FakeServer

FILE = "words.txt"
PART = 40
"""Characters of one part in the crash tests: every answer has several."""


class Fickle:
    """A bot that never says the same twice, as a language model does: each run has its own words.

    The words name the question and the run, and the number of parts changes from run to run. So an answer
    that was put together from two runs shows. What is spoken it answers with a file besides.
    """

    name = "chat"

    def __init__(self, steps: int = 0, pace: float = 0.0) -> None:
        self.steps = steps
        self.pace = pace
        self.runs: list[str] = []
        self.answers: dict[str, list[str]] = {}
        """Per question as it read: the answers of all runs."""
        self.drafts: dict[str, list[str]] = {}

    async def reply(self, turn: Turn, tools: Tools) -> AsyncGenerator[Draft | Waiting | Reply]:
        self.runs.append(turn.cause)
        run = len(self.runs)
        text, heard = turn.message.text, turn.heard
        if turn.about is not None and heard is None:
            async for sign in tools.hear(turn.about):
                heard = sign.transcript or heard
            assert heard is not None
            text = heard.text
        line = f"[run {run:03}] {text}"
        whole = "".join(f"{line} {part}".ljust(PART, ".") for part in range(3 - run % 3))
        self.answers.setdefault(text, []).append(whole)
        for step in range(1, self.steps + 1):
            await asyncio.sleep(self.pace)
            draft = whole[: len(whole) * step // (self.steps + 1)]
            self.drafts.setdefault(text, []).append(draft)
            yield Draft(draft)
        files = () if turn.about is None else (Upload(FILE, "text/plain", whole),)
        yield Reply(whole, heard=heard, files=files)


def wrongs(
    server: FakeServer,
    path: Path,
    bot: Fickle,
    expected: dict[str, str | None],
    deaths: int,
    unsure: frozenset[str] = frozenset(),
    beside: frozenset[str] = frozenset(),
) -> list[str]:
    """What is wrong. `expected`: each question's event, and the text whose answer must stand (None: none).

    `unsure` are questions in a room that we left meanwhile: answered whole or not at all. Replies to what is
    `beside` are judged by whoever calls.
    """
    found: list[str] = []
    with closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        for question, text in expected.items():
            found += _answer_wrong(server, db, bot, question, text)
        for question in unsure:
            found += _half_answered(server, bot, question)
        known = [*expected, *unsure, *beside, None]
        found += [f"words that nobody asked for: {e.text}" for e in server.shown() if e.reply_to not in known]
        found += [
            f"left over: {dict(row)}"
            for row in db.execute(
                "SELECT 'turn' AS what, id, state FROM turns WHERE state IN ('pending', 'running') UNION ALL "
                "SELECT 'action', key, state FROM actions WHERE state = 'pending' "
                "OR (state = 'parked' AND kind != 'redact')"
            )
        ]
    found += [
        f"{bot.runs.count(cause)} runs for {cause}"
        for cause in set(bot.runs)
        if bot.runs.count(cause) > 1 + deaths + _edits_while_running(server, cause)
    ]
    return found


def _edits_while_running(server: FakeServer, cause: str) -> int:
    """An edit of a running question costs one more run."""
    return sum(1 for shown in server.log.values() if shown.event.relates_to == cause)


def _half_answered(server: FakeServer, bot: Fickle, question: str) -> list[str]:
    answers = server.answers(question)
    parts = FakePlatform(server, part_size=PART).parts
    said = [parts(answer).shown for texts in bot.answers.values() for answer in texts]
    heads = [parts(text).shown[0] for texts in bot.drafts.values() for text in texts]
    if not answers or any(tuple(answers) == one[: len(answers)] for one in said) or answers[0] in heads:
        return []
    return [f"{question} shows {answers}, which no run said"]


def _answer_wrong(
    server: FakeServer, db: sqlite3.Connection, bot: Fickle, question: str, text: str | None
) -> list[str]:
    found = []
    answers = server.answers(question)
    turns = db.execute("SELECT * FROM turns WHERE message = ? ORDER BY id", [question]).fetchall()
    if text is None:
        if answers:
            found.append(f"{question} was taken back, and its answer stands: {answers}")
        if any(turn["outcome"] != "withdrawn" for turn in turns):
            found.append(f"{question} was taken back: {[turn['outcome'] for turn in turns]}")
        return found
    parts = FakePlatform(server, part_size=PART).parts
    whole = [list(parts(answer).shown) for answer in bot.answers.get(text, [])]
    for file in [one for one in server.shown() if one.reply_to == question and one.attachments]:
        answers.remove(FILE)
        if list(parts(server.read(file.attachments[0].source).decode()).shown) != answers:
            found.append(f"{question} shows a file of another run")
    if answers not in whole:
        found.append(f"{question} ({text}) shows {answers}, which no run said")
    if [turn["outcome"] for turn in turns if turn["kind"] == "message"] != ["answered"]:
        found.append(f"{question} has outcomes {[(turn['kind'], turn['outcome']) for turn in turns]}")
    if turns and (recorded := _recorded(db, turns[-1]["id"])) != answers:
        found.append(f"{question} shows {answers}, and the journal says {recorded}")
    return found


def _recorded(db: sqlite3.Connection, turn: int) -> list[str]:
    """The words that the last turn about a question settled on, in order."""
    rows = db.execute(
        "SELECT role, idx, payload FROM actions WHERE turn = ? AND kind IN ('say', 'revise') "
        "AND payload NOT LIKE ? ORDER BY idx",
        [turn, f"%{FILE}%"],
    ).fetchall()
    words: dict[int, str] = {}
    for row in rows:
        if row["role"] == "final" or row["idx"] not in words:
            words[row["idx"]] = json.loads(row["payload"])["text"]
    return [words[index] for index in sorted(words)]
