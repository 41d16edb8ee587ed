"""`hearth run` killed by SIGKILL again and again while people ask: each question answered once, none lost.

Real processes, a real Synapse, encrypted rooms, streaming on, one question in five spoken (and its
file encrypted), a model that speaks slowly, so that
many kills fall while a draft is shown and the answer is not settled. The judge is a second account
that reads the rooms afterwards. Where each kill fell is read from the journal and printed; the
seed is printed too, and `CRASH_SEED=…` takes it again (the questions and the moments; the scheduling of
real processes is their own).
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import time
from collections import Counter
from contextlib import AsyncExitStack, closing
from typing import TYPE_CHECKING

import pytest

from bridge.homeserver import Homeserver
from tests.hearth import Hearth, answer_to, answer_to_voice, judge
from tests.human import Human
from tests.models.voice import pack, tone

if TYPE_CHECKING:
    from pathlib import Path

ROOMS = 10
QUESTIONS = 10
SPOKEN = 5
"""One question in so many is a voice message."""
KILLS = 12
ASKING = 45.0
"""Seconds over which the questions of each room are spread, about."""
DEADLINE = 150.0
"""Seconds after the last kill for everything that is still open."""
WORDS = ("river", "stone", "lamp", "bread", "winter", "garden", "letter", "table", "north", "song", "field")

BETWEEN = {
    "T1..T2": "SELECT count(*) FROM turns WHERE state = 'pending'",
    "T2..T2b": (
        "SELECT count(*) FROM turns t WHERE t.state = 'running' AND NOT EXISTS "
        "(SELECT 1 FROM actions a WHERE a.turn = t.id)"
    ),
    "T2b..T3": (
        "SELECT count(*) FROM turns t WHERE t.state = 'running' AND EXISTS "
        "(SELECT 1 FROM actions a WHERE a.turn = t.id)"
    ),
    "T3..T4": (
        "SELECT count(DISTINCT t.id) FROM turns t JOIN actions a ON a.turn = t.id "
        "WHERE t.state = 'settled' AND a.state = 'pending'"
    ),
}
"""Where a kill fell, by what is open in the journal afterwards. Several turns run at once, so one kill may
fall between several."""

SETTLED = "SELECT count(*) FROM turns WHERE bot IN ('chat', 'scribe') AND state = 'settled'"
OPEN = "SELECT count(*) FROM actions WHERE state = 'pending'"


def fell(journal: Path) -> set[str]:
    """Between which boundaries the process died; `idle` if nothing was under way."""
    if not journal.exists():
        return {"before the journal"}
    with closing(sqlite3.connect(journal, timeout=10)) as db:
        if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'turns'").fetchone() is None:
            return {"before the journal"}
        found = {name for name, query in BETWEEN.items() if db.execute(query).fetchone()[0]}
    return found or {"idle"}


async def ask(person: Human, room: str, bot: str, rng: random.Random) -> dict[str, str]:
    """Ask ten questions, two of them aloud, at random moments; the whole answer due to each, by event."""
    name = person.user_id[1:].partition(":")[0].capitalize()
    due = {}
    for number in range(QUESTIONS):
        await asyncio.sleep(rng.uniform(0, 2 * ASKING / QUESTIONS))
        if number % SPOKEN == 1:
            seconds = 0.5 + number / 10
            note = await asyncio.to_thread(pack, tone(seconds), "wav", "pcm_s16le")
            event = await person.send_voice(room, note, mentions=[bot], media_type="audio/wav")
            due[event] = answer_to_voice(name, seconds)
            continue
        question = f"question {number} about {' '.join(rng.sample(WORDS, 6))}"
        due[await person.say(room, question, mentions=[bot], fresh=False)] = answer_to(name, question)
    return due


async def connected(hearth: Hearth, before: int) -> None:
    """Wait until this process has logged in for the first time."""
    async with asyncio.timeout(60):
        while hearth.log.read_text("utf-8").count('"event": "connected"') <= before:
            assert hearth.running, hearth.tail()
            await asyncio.sleep(0.05)


async def kill_often(hearth: Hearth, rng: random.Random) -> Counter[str]:
    """Kill and start again, at moments counted from the start and from the login in turn."""
    histogram = Counter[str]()
    for number in range(KILLS):
        if number % 3:
            before = hearth.log.read_text("utf-8").count('"event": "connected"') if number else 0
            if hearth.starts > before:
                await connected(hearth, before)
            await asyncio.sleep(rng.uniform(0.3, 5.0))
        else:
            await asyncio.sleep(rng.uniform(0.1, 4.0))
        assert hearth.running, f"it ended by itself; its log ends:\n{hearth.tail()}"
        await hearth.kill()
        histogram.update(fell(hearth.journal))
        await hearth.start()
    return histogram


@pytest.mark.timeout(420)
async def test_killed_again_and_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """100 questions in 10 encrypted rooms, 12 kills: each answered exactly once and whole, none lost."""
    seed = int(os.environ.get("CRASH_SEED") or random.SystemRandom().randrange(10**6))
    rng = random.Random(seed)
    started = time.monotonic()
    with capsys.disabled():
        print(f"\nCRASH_SEED={seed}")  # noqa: T201 - what a failure is repeated with
    async with AsyncExitStack() as stack:
        synapse = await stack.enter_async_context(Homeserver(tmp_path / "synapse"))
        people = [
            await stack.enter_async_context(Human(synapse.url, await synapse.register(f"p{n}", "pw"), "pw"))
            for n in range(ROOMS)
        ]
        oracle = await stack.enter_async_context(
            Human(synapse.url, await synapse.register("oracle", "pw"), "pw")
        )
        bot = await synapse.register("hearth", "pw")
        # Eleven words take about half a second, and the model speaks to one at a time: whoever waited
        # for it gets a draft with the first word.
        hearth = Hearth(
            tmp_path / "hearth", synapse.url, bot, model="echo_delay = 0.05", speech="echo_delay = 0.5"
        )
        await stack.enter_async_context(hearth)
        rooms = [await person.create_room("Family", invite=[bot, oracle.user_id]) for person in people]
        for person, room in zip(people, rooms, strict=True):
            await oracle.join(room)
            await person.until_joined(room, bot)
        asking = [
            asyncio.create_task(ask(person, room, bot, random.Random(f"{seed} {number}")))
            for number, (person, room) in enumerate(zip(people, rooms, strict=True))
        ]
        ready = time.monotonic()
        histogram = await kill_often(hearth, rng)
        killed = time.monotonic()
        due = dict(zip(rooms, await asyncio.gather(*asking), strict=True))
        await all_settled(hearth, ROOMS * QUESTIONS)
        await hearth.stop()
        wrong = {
            room: found for room in rooms if (found := judge(await oracle.history(room), bot, due[room]))
        }
    told = [
        f"{KILLS} kills fell {', '.join(f'{name}: {count}' for name, count in sorted(histogram.items()))}",
        numbers(hearth.journal),
        f"{ready - started:.0f} s to prepare, {killed - ready:.0f} s of kills",
        f"{time.monotonic() - killed:.0f} s for the rest",
    ]
    with capsys.disabled():
        print("; ".join(told))  # noqa: T201 - the run says what it did
    assert wrong == {}
    assert sum(map(len, due.values())) == ROOMS * QUESTIONS
    assert histogram["T2b..T3"], f"no kill fell while a draft was shown: {histogram}"


async def all_settled(hearth: Hearth, questions: int) -> None:
    """Return when the journal has nothing open any more, or when it had time enough; the judge decides."""
    until = time.monotonic() + DEADLINE
    with closing(sqlite3.connect(hearth.journal, timeout=10)) as db:
        while time.monotonic() < until:
            assert hearth.running, hearth.tail()
            if db.execute(SETTLED).fetchone()[0] >= questions and db.execute(OPEN).fetchone()[0] == 0:
                return
            await asyncio.sleep(0.2)


def numbers(journal: Path) -> str:
    """What the journal says about it."""
    with closing(sqlite3.connect(journal)) as db:
        turns = db.execute("SELECT state, outcome, count(*) FROM turns GROUP BY 1, 2").fetchall()
        deaths = db.execute("SELECT sum(deaths) FROM turns").fetchone()[0]
        duplicates = db.execute("SELECT sum(possible_duplicates) FROM actions").fetchone()[0]
    told = ", ".join(f"{count} {state}/{outcome}" for state, outcome, count in turns)
    return f"turns: {told}; {deaths} deaths in turns, {duplicates} possible duplicates"
