"""From a mention to its whole answer, through Synapse: Hearth beside a bare matrix-nio bot.

Both run as processes of their own, at the same time, on the same Synapse, in rooms of their own;
questions go to one and the other in turn. The time counts from the moment when the server has taken the
question until the asker's client has the whole text.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bridge.homeserver import Homeserver
from tests.bench.table import Row, at_most, seconds, spread
from tests.hearth import Hearth, answer_to
from tests.human import Human

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

DEADLINE = 120.0
PER_ASKER = 18
"""Questions of one person in one room within a minute at most: Hearth falls silent beyond 20."""
AT_ONCE = 8
"""Questions that are being sent at the same time in a burst."""


@dataclass
class Contender:
    """One of the two bots with its rooms, plain and encrypted."""

    name: str
    user: str
    rooms: dict[bool, list[str]] = field(default_factory=lambda: {False: [], True: []})


@dataclass
class Village:
    """Synapse, some people and both bots, in as many rooms each."""

    people: list[Human]
    hearth: Contender
    bare: Contender
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def contenders(self) -> tuple[Contender, Contender]:
        return self.hearth, self.bare


@asynccontextmanager
async def village(folder: Path, *, rooms: int, people: int) -> AsyncIterator[Village]:
    """Both bots running, known to everybody, in `rooms` plain and as many encrypted rooms each."""
    async with AsyncExitStack() as stack:
        synapse = await stack.enter_async_context(Homeserver(folder / "synapse"))
        humans = [
            await stack.enter_async_context(Human(synapse.url, await synapse.register(f"p{n}", "pw"), "pw"))
            for n in range(people)
        ]
        both = [Contender(name, await synapse.register(name, "pw")) for name in ("hearth", "bare")]
        (folder / "hearth").mkdir()
        (folder / "bare").mkdir()
        await stack.enter_async_context(Hearth(folder / "hearth", synapse.url, both[0].user))
        await stack.enter_async_context(_bare(folder / "bare", synapse.url, both[1].user))
        first, others = humans[0], humans[1:]
        for encrypted, contender, number in itertools.product((False, True), both, range(rooms)):
            # Everybody is in the first room, where many questions are asked in a minute.
            guests = others if number == 0 else others[-1:]
            invited = [contender.user, *(one.user_id for one in guests)]
            room = await first.create_room("Bench", encrypted=encrypted, invite=invited)
            contender.rooms[encrypted].append(room)
            for one in guests:
                await one.join(room)
        for contender in both:
            for room in (*contender.rooms[False], *contender.rooms[True]):
                await first.until_joined(room, contender.user, deadline=DEADLINE)
        for one in humans:
            await one.catch_up()
        yield Village(humans, both[0], both[1])


@asynccontextmanager
async def _bare(folder: Path, url: str, user: str) -> AsyncIterator[None]:
    log = (folder / "bare.log").open("wb")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.bare_bot", url, user, "pw", str(folder)), stdout=log, stderr=log
    )
    try:
        yield
    finally:
        process.kill()
        await process.wait()
        log.close()


async def one_answer(place: Village, contender: Contender, room: str, person: Human) -> float:
    """Seconds from a question that the server has taken to the whole answer at the asker's client."""
    question = f"question {next(place.numbers)} about the garden"
    whole = answer_to(_name(person), question)
    asked = await person.say(room, question, mentions=[contender.user], fresh=False)
    started = time.perf_counter()
    await person.until(room, lambda said: said.reply_to == asked and said.text == whole, deadline=DEADLINE)
    return time.perf_counter() - started


async def latency(place: Village, *, rooms: int, encrypted: bool, samples: int) -> Row:
    """One question at a time, to one bot and the other in turn, over the first `rooms` rooms."""
    times: dict[str, list[float]] = {contender.name: [] for contender in place.contenders}
    for contender in place.contenders:
        # Both bots meet every asker once before it counts: sharing keys for the first time is not the theme.
        for room in contender.rooms[encrypted][:rooms]:
            for person in _askers(place, rooms, samples):
                await one_answer(place, contender, room, person)
    for number in range(samples):
        askers = _askers(place, rooms, samples)
        for contender in place.contenders:
            room = contender.rooms[encrypted][number % rooms]
            person = askers[number // rooms % len(askers)]
            times[contender.name].append(await one_answer(place, contender, room, person))
    return _compared(
        f"mention to full reply, {rooms} room{'s'[: rooms > 1]}, {'encrypted' if encrypted else 'plain'}",
        times["hearth"],
        times["bare"],
        0.8,
    )


def _askers(place: Village, rooms: int, samples: int) -> list[Human]:
    # One for warming up comes on top; the last person is kept for the burst.
    needed = -(-samples // (rooms * PER_ASKER))
    assert needed < len(place.people), "more questions than people may ask"
    return place.people[:needed]


def _compared(what: str, ours: Sequence[float], theirs: Sequence[float], target: float) -> Row:
    ratio = statistics.median(ours) / statistics.median(theirs)
    return Row(what, spread(ours), spread(theirs), f"{ratio:.2f}x", f"<= {target}x", at_most(ratio, target))


async def burst(place: Village, *, rooms: int, each: int, encrypted: bool) -> Row:
    """`each` questions in each of `rooms` rooms as fast as they can be sent; until the last whole answer."""
    took = {}
    for contender in (place.bare, place.hearth):
        chosen = contender.rooms[encrypted][:rooms]
        started = time.perf_counter()
        due = await _send_all(place, contender, chosen, each)
        await _all_answered(place.people[-1], due)
        took[contender.name] = time.perf_counter() - started
    ratio = took["hearth"] / took["bare"]
    kind = "encrypted" if encrypted else "plain"
    return Row(
        f"{rooms * each} mentions in {rooms} rooms, {kind}, total",
        seconds(took["hearth"]),
        seconds(took["bare"]),
        f"{ratio:.2f}x",
        "<= 1.1x",
        at_most(ratio, 1.1),
    )


async def _send_all(
    place: Village, contender: Contender, rooms: Sequence[str], each: int
) -> dict[str, dict[str, str]]:
    person = place.people[-1]
    due: dict[str, dict[str, str]] = {room: {} for room in rooms}
    slots = asyncio.Semaphore(AT_ONCE)

    async def ask(room: str) -> None:
        async with slots:
            question = f"question {next(place.numbers)} about the garden"
            asked = await person.say(room, question, mentions=[contender.user], fresh=False)
            due[room][asked] = answer_to(_name(person), question)

    await asyncio.gather(*(ask(room) for _ in range(each) for room in rooms))
    return due


async def _all_answered(person: Human, due: dict[str, dict[str, str]]) -> None:
    open_rooms = {room: dict(questions) for room, questions in due.items()}
    async with asyncio.timeout(DEADLINE + 2.0 * sum(map(len, due.values()))):
        while open_rooms:
            for room in list(open_rooms):
                whole = {(said.reply_to, said.text) for said in person.seen(room)}
                left = {asked: text for asked, text in open_rooms[room].items() if (asked, text) not in whole}
                open_rooms[room] = left
                if not left:
                    del open_rooms[room]
            if open_rooms:
                await person.catch_up(500)


def _name(person: Human) -> str:
    return person.user_id[1:].partition(":")[0].capitalize()


async def measure(folder: Path, *, quick: bool) -> list[Row]:
    """Latencies and totals, one village for all of them."""
    rooms, samples, each = (5, 15, 5) if quick else (50, 50, 10)
    rows = []
    async with village(folder, rooms=rooms, people=2 + samples // PER_ASKER) as place:
        for encrypted, wide in itertools.product((False, True), (1, rooms)):
            rows.append(await latency(place, rooms=wide, encrypted=encrypted, samples=samples))
        rows.append(await burst(place, rooms=rooms, each=each, encrypted=False))
    return rows
