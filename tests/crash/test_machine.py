"""Anything in any order, with deaths: what Hypothesis makes up, and what must be true after it.

Invariants: every question that stands has exactly one whole answer, to its latest words, of a single run;
what was taken back has none, and not a word of it is left in the file; the journal has one outcome for each
question and nothing left over.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, precondition, rule

from bots.conversation import PlaceKind
from bridge.options import Options
from bridge.platform import Gap, Retryable
from tests.crash.oracle import PART, Fickle, wrongs
from tests.fakes.clock import VirtualClock, VirtualLoop
from tests.fakes.process import Process
from tests.fakes.server import ADA, BEN, LOST, MOD, ROOM, FakeServer

if TYPE_CHECKING:
    from collections.abc import Coroutine

GUEST = "!guest:home"
"""The room that Hearth leaves and joins again."""
people = st.sampled_from([ADA, BEN])


class Community(RuleBasedStateMachine):
    questions = Bundle("questions")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="hearth-machine-"))
        self.loop = VirtualLoop()
        self.server = FakeServer(VirtualClock().now)
        self.bot = Fickle(steps=2, pace=0.4)
        self.process: Process | None = None
        self.lives = 0
        self.number = 0
        self.joins = 0
        self.expected: dict[str, str | None] = {}
        self.words: dict[str, str] = {}
        self.hidden: dict[str, str] = {}
        """Questions that have not arrived (held back) or cannot be read (sealed), with their latest text."""
        self.sealed: set[str] = set()
        self.unsure: set[str] = set()

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    @property
    def path(self) -> Path:
        return self.folder / "journal.db"

    # -- the process -------------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        async def rooms() -> None:
            self.server.room(ROOM)
            self.server.room(GUEST, PlaceKind.GROUP)

        self.do(rooms())
        self.do(self.up())

    async def up(self) -> None:
        """A process that lives: the one there is, or a new one on what the dead one left."""
        if self.process is not None and not self.process.dead:
            return
        if self.process is not None:
            await self.process.kill()
        self.lives += 1
        self.process = Process(
            self.server,
            self.path,
            bot=self.bot,
            part_size=PART,
            options=Options(draft_after=0.3, max_age_ms=None),
        )
        await self.process.start()

    async def all_done(self) -> None:
        while True:
            await self.up()
            assert self.process is not None
            self.process.boundaries.die_at = None
            if await self.process.idle():
                return

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.5, 2.0]))
    def time_passes(self, seconds: float) -> None:
        async def live() -> None:
            await self.up()
            await asyncio.sleep(seconds)

        self.do(live())

    @rule(boundaries=st.integers(1, 12))
    def will_die(self, boundaries: int) -> None:
        """The process dies at a boundary to come."""
        self.do(self.up())
        assert self.process is not None
        marks = self.process.boundaries
        marks.die_at = len(marks.crossed) + boundaries

    @rule()
    def is_killed(self) -> None:
        if self.process is not None and not self.process.dead:
            self.process.boundaries.dead.set()

    @rule()
    def is_restarted(self) -> None:
        async def restart() -> None:
            await self.up()
            assert self.process is not None
            self.process.boundaries.die_at = None
            await self.process.stop(grace=1)
            self.process = None
            await self.up()

        self.do(restart())

    @rule(fault=st.sampled_from([LOST, Retryable("503"), Retryable("429", 3.0)]))
    def sending_fails(self, fault: Any) -> None:
        self.server.faults.append(fault)

    # -- people ------------------------------------------------------------------------------------

    def said(self, text: str, **more: Any) -> str:
        async def say() -> str:
            return self.server.say(text, **more)

        return str(self.do(say()))

    def new_words(self) -> str:
        self.number += 1
        return f"word{self.number:03}x"

    @rule(
        target=questions,
        by=people,
        place=st.sampled_from([ROOM, GUEST]),
        thread=st.sampled_from([None, "$t"]),
    )
    def ask(self, by: Any, place: str, thread: str | None) -> str:
        if not self.server.rooms[place].joined:
            place = ROOM
        words = self.new_words()
        question = self.said(words, by=by, place=place, thread=thread)
        self.expected[question] = words
        self.words[question] = words
        return question

    @rule(target=questions, sealed=st.booleans())
    def ask_hidden(self, sealed: bool) -> str:  # noqa: FBT001 - Hypothesis passes it by name
        """A message whose edits may overtake it, or whose key is late."""
        words = self.new_words()
        question = self.said(words, sync=False)
        self.words[question] = words
        self.hidden[question] = words
        if sealed:
            self.sealed.add(question)
            self.server.seal(question)
        return question

    @precondition(lambda self: self.hidden)
    @rule(data=st.data())
    def shows(self, data: st.DataObject) -> None:
        """What was held back arrives; a late key comes."""
        question = data.draw(st.sampled_from(sorted(self.hidden)))
        if question in self.sealed:
            self.server.open(question)
        else:
            self.server.sync(question)
        words = self.hidden.pop(question)
        self.expected[question] = None if self.server.log[question].redacted else words

    def gone(self, question: str) -> bool:
        return not self.server.rooms[self.server.log[question].event.place].joined

    @rule(question=questions)
    def edit(self, question: str) -> None:
        if self.gone(question) or question in self.unsure or self.server.log[question].redacted:
            return
        self.number += 1
        text = f"{self.words[question]} edit {self.number}"

        async def change() -> None:
            self.server.edit(question, text)

        self.do(change())
        (self.hidden if question in self.hidden else self.expected)[question] = text

    @rule(question=questions, moderator=st.booleans())
    def take_back(self, question: str, moderator: bool) -> None:  # noqa: FBT001 - as above
        if self.gone(question) or self.server.log[question].redacted:
            return

        async def redact() -> None:
            self.server.redact(question, by=MOD if moderator else None)

        self.do(redact())
        if question not in self.hidden and question not in self.unsure:
            self.expected[question] = None

    @rule(data=st.data())
    def comes_again(self, data: st.DataObject) -> None:
        """A sync brings something a second time."""
        if self.server.stream:
            self.server.sync(data.draw(st.sampled_from(self.server.stream)))

    @rule()
    def gap(self) -> None:
        self.server.sync(Gap(ROOM, str(len(self.server.stream)), "limited"))

    @rule()
    def leave_or_join(self) -> None:
        async def move() -> None:
            if self.server.rooms[GUEST].joined:
                self.server.leave(GUEST)
            else:
                self.server.join(GUEST)

        self.do(move())
        self.joins += self.server.rooms[GUEST].joined
        there = {q for q in self.expected if self.server.log[q].event.place == GUEST}
        self.unsure |= {q for q in there if self.expected[q] is not None}
        for question in there:
            del self.expected[question]

    # -- the end -----------------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            self.do(self.all_done())
            assert self.process is not None
            self.do(self.process.stop())
            unsure = frozenset(q for q in self.unsure if not self.server.log[q].redacted)
            assert wrongs(self.server, self.path, self.bot, self.expected, self.lives, unsure) == []
            greeting = Counter(event.text for event in self.server.shown(GUEST) if event.reply_to is None)
            assert max(greeting.values(), default=0) <= self.joins  # each part of it once for each time
            kept = b"".join(file.read_bytes() for file in self.folder.iterdir())
            for question, words in self.words.items():
                taken_back = self.server.log[question].redacted
                assert not (taken_back and words.encode() in kept), f"{words} was taken back and is kept"
        finally:
            self.loop.close()
            shutil.rmtree(self.folder)


TestCommunity = Community.TestCase
TestCommunity.settings = settings(
    max_examples=80,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
