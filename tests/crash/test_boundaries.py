"""The process dies at every boundary of DESIGN.md section 3, one after the other, and nothing shows it.

Each script runs once without a death, which counts its boundaries (before and after each commit and each
send), then once for each of them. After a death a new process starts on the same journal and the same
server, and the script goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from bots.conversation import Say, action_key
from bridge.options import Options
from bridge.platform import StoredAction
from bridge.router import Router
from tests.crash.oracle import PART, Fickle, wrongs
from tests.fakes.clock import VirtualClock, run
from tests.fakes.process import MortalJournal, Process
from tests.fakes.server import BEN, LOST, FakeServer

if TYPE_CHECKING:
    from pathlib import Path

    from bots.conversation import Action
    from bridge.journal import Admitted, Claimed, Settlement

OTHER = "!other:home"


@dataclass
class Life:
    """One community through one script: its server, and one process after the other."""

    path: Path
    die_at: int | None
    kinds: dict[str, Any] = field(default_factory=dict)
    bot: Fickle = field(default_factory=Fickle)
    deaths: int = 0
    crossed: list[str] = field(default_factory=list)
    expected: dict[str, str | None] = field(default_factory=dict)
    beside: set[str] = field(default_factory=set)
    """Events of which the script itself judges the replies, in `wrong`."""
    wrong: Callable[[], list[str]] = list
    server: FakeServer = field(init=False)
    process: Process = field(init=False)

    async def begin(self) -> None:
        self.server = FakeServer(VirtualClock().now)
        self.server.room()
        await self._start(self.die_at)

    async def _start(self, die_at: int | None) -> None:
        self.process = Process(
            self.server,
            self.path,
            bot=self.bot,
            die_at=die_at,
            options=Options(draft_after=0.5),
            **({"part_size": PART} | self.kinds),
        )
        await self.process.start()

    async def go_on(self, wait: Callable[[Process], Awaitable[object]]) -> None:
        """Wait; where the process dies meanwhile, start another and wait for that one."""
        while True:
            waiting = asyncio.ensure_future(wait(self.process))
            death = asyncio.ensure_future(self.process.boundaries.dead.wait())
            await asyncio.wait([waiting, death], return_when=asyncio.FIRST_COMPLETED)
            death.cancel()
            if not self.process.dead:
                await waiting
                return
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            self.crossed += self.process.boundaries.crossed
            self.deaths += 1
            await self._abandon()
            await self._start(None)

    async def _abandon(self) -> None:
        mine = asyncio.current_task()
        for task in asyncio.all_tasks() - {mine}:
            task.cancel()
        await asyncio.gather(*(asyncio.all_tasks() - {mine}), return_exceptions=True)
        await self.process.journal.close()

    async def idle(self) -> None:
        await self.go_on(lambda process: process.idle())

    async def draft_stands(self, count: int = 1) -> None:
        """Wait until a draft is shown (or the answer, where a death made it late)."""
        await self.go_on(lambda process: process.until(lambda: len(self.server.texts()) >= count))

    def ask(self, text: str, **more: Any) -> str:
        question = self.server.say(text, **more)
        self.expected[question] = text
        return question

    def speak(self, words: str, **more: Any) -> str:
        question = self.server.speak(words.encode(), **more)
        self.expected[question] = words
        return question

    async def end(self) -> list[str]:
        await self.idle()
        self.crossed += self.process.boundaries.crossed
        await self.process.stop()
        found = wrongs(
            self.server, self.path, self.bot, self.expected, self.deaths, beside=frozenset(self.beside)
        )
        return [*found, *self.wrong()]


Script = Callable[[Life], Awaitable[None]]


async def several(life: Life) -> None:
    """Three questions at once, in two rooms; answers of several parts."""
    life.server.room(OTHER)
    life.ask("One?")
    life.ask("Two?", by=BEN)
    life.ask("Three?", place=OTHER)
    await life.idle()


async def streamed(life: Life) -> None:
    """An answer whose beginning is shown while it is written."""
    life.bot.steps, life.bot.pace = 4, 0.6
    life.ask("Tell me a story")
    await life.idle()


async def lost(life: Life) -> None:
    """Acknowledgements get lost: the server has it, and we do not know."""
    life.server.faults.extend([LOST, LOST, None, LOST])
    life.ask("One?")
    life.ask("Two?")
    await life.idle()


async def edited_later(life: Life) -> None:
    """An answered question is edited: the answer of the latest text stands, in the same place."""
    question = life.ask("One?")
    await life.idle()
    life.server.edit(question, "One, two?")
    life.expected[question] = "One, two?"
    await life.idle()


async def edited_meanwhile(life: Life) -> None:
    """A question is edited while its draft is shown."""
    life.bot.steps, life.bot.pace = 3, 0.6
    question = life.ask("Long?")
    await life.draft_stands()
    life.server.edit(question, "Longer?")
    life.expected[question] = "Longer?"
    await life.idle()


async def taken_back_later(life: Life) -> None:
    """An answered question is redacted: its answer goes too."""
    question = life.ask("One?")
    await life.idle()
    life.server.redact(question)
    life.expected[question] = None
    await life.idle()


async def taken_back_meanwhile(life: Life) -> None:
    """A question is redacted while its draft is shown."""
    life.bot.steps, life.bot.pace = 3, 0.6
    question = life.ask("Long?")
    await life.draft_stands()
    life.server.redact(question)
    life.expected[question] = None
    life.ask("And this?", by=BEN)
    await life.idle()


async def spoken(life: Life) -> None:
    """A voice message is fetched, heard and answered with a file; another one is taken back after it."""
    life.bot.steps, life.bot.pace = 2, 0.6
    life.speak("Where is the key?")
    await life.idle()
    life.bot.steps = 0
    question = life.speak("And the password?", by=BEN)
    await life.idle()
    life.server.redact(question)
    life.expected[question] = None
    await life.idle()


SCRIPTS = [
    several,
    spoken,
    streamed,
    lost,
    edited_later,
    edited_meanwhile,
    taken_back_later,
    taken_back_meanwhile,
]


def live(path: Path, script: Script, die_at: int | None, **kinds: Any) -> tuple[list[str], list[str], int]:
    """One life; what was wrong, the boundaries crossed, the number of deaths."""

    async def scenario() -> tuple[list[str], list[str], int]:
        life = Life(path, die_at, kinds)
        await life.begin()
        await script(life)
        wrong = await life.end()
        return wrong, life.crossed, life.deaths

    result: tuple[list[str], list[str], int] = run(scenario())
    return result


def all_deaths(folder: Path, script: Script, **kinds: Any) -> dict[int, list[str]]:
    """Die at each boundary in turn; what was wrong where. Boundary 0 is no death."""
    wrong, crossed, _ = live(folder / "0.db", script, None, **kinds)
    found = {0: wrong} if wrong else {}
    for number in range(1, len(crossed) + 1):
        wrong, again, deaths = live(folder / f"{number}.db", script, number, **kinds)
        if deaths != 1:
            wrong.append(f"died {deaths} times")
        if wrong:
            found[number] = [again[number - 1], *wrong]
    return found


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_death_shows(tmp_path: Path, script: Script) -> None:
    """Wherever the process dies: one whole answer of one run per question, recorded once, and no more."""
    assert all_deaths(tmp_path, script) == {}


def test_a_script_crosses_every_kind_of_boundary(tmp_path: Path) -> None:
    """T1, T2, T2b, T3, the send and T4 are all there, so that `test_no_death_shows` means something."""
    _, crossed, _ = live(tmp_path / "j.db", streamed, None)
    for name in ("admit", "claim", "draft", "settle", "perform", "acknowledge"):
        assert f"before {name}" in crossed
        assert f"after {name}" in crossed


class SendsFirst(Router):
    """Wrong on purpose: T3's commit comes after the send."""

    async def _store(self, claimed: Claimed, settlement: Settlement) -> None:
        now = self._clock.now()
        turn = claimed.turn
        for keyed in settlement.actions:
            action: Action = keyed.action
            assert isinstance(action, Say)
            key = action_key(turn.place.account, turn.place.id, turn.bot, turn.cause, keyed.role, keyed.index)
            await self._platform.perform(StoredAction(key, turn.place.id, action, now, self._platform.device))
        await super()._store(claimed, settlement)


class MovesCursorFirst(MortalJournal):
    """Wrong on purpose: T1's cursor is committed before its events."""

    async def admit(self, batch: Any, judge: Any, now: int) -> Admitted:
        await super().admit(replace(batch, events=()), judge, now)
        return await super().admit(batch, judge, now)


@pytest.mark.parametrize("mutation", [{"router": SendsFirst}, {"journal": MovesCursorFirst}], ids=str)
def test_the_suite_can_fail(tmp_path: Path, mutation: dict[str, Any]) -> None:
    """Mutation check: with T3's commit behind the send, or T1's cursor before its events, a death shows.

    Sent before stored, a death between the two makes the model run again: its words are others, and the
    server keeps those of the first run for the keys that it knows. Without this test a matrix that never
    reaches the boundary in question would look just as green.
    """
    assert all_deaths(tmp_path, several, **mutation) != {}
