"""The journal on disk: turns a second, and whether a million stored turns slow an admission down.

Every commit is a real `synchronous=FULL` commit, so the disk is part of what is measured; the
two sizes are therefore measured in turns.
"""

from __future__ import annotations

import sqlite3
import statistics
import time
from typing import TYPE_CHECKING

from bots.conversation import Keyed, Person, Place, Role, Say
from bridge.journal import Admission, Event, EventKind, Journal, Known, Outcome, Settlement
from bridge.platform import Batch, PlaceFacts
from policies.verdict import Code, Verdict
from tests.bench.table import Row, at_most, seconds, spread

if TYPE_CHECKING:
    from pathlib import Path

ACCOUNT = "@hearth:bench.test"
ROOMS = 200
PEOPLE = 500
ALLOWED = Verdict(True, Code.ALLOWED, "hearth.bench")


def _facts(room: str) -> PlaceFacts:
    return PlaceFacts(Place(ACCOUNT, room), tuple(_person(number) for number in range(4)))


def _person(number: int) -> Person:
    return Person(f"@person{number}:bench.test", f"Person {number}")


def _judge(event: Event, _known: Known) -> Admission:
    return Admission("chat", event.place)


def _batch(name: str, number: int, now: int) -> Batch:
    event = Event(
        id=f"${name}{number}",
        place=f"!room{number % ROOMS}:bench.test",
        kind=EventKind.MESSAGE,
        sender=_person(number % PEOPLE),
        sent_at=now,
        text=f"Hearth, this is question {number}, as long as questions usually are.",
        addressed=True,
    )
    return Batch(ACCOUNT, f"s{number}", events=(event,))


async def _open(path: Path) -> Journal:
    journal = await Journal.open(path)
    places = tuple(_facts(f"!room{number}:bench.test") for number in range(ROOMS))
    await journal.admit(Batch(ACCOUNT, "s", places=places), _judge, now=1)
    return journal


async def _one_turn(journal: Journal, number: int, now: int) -> None:
    """T1 to T4 of one mention."""
    await journal.admit(_batch("t", number, now), _judge, now)
    (claimed,) = await journal.claim(ACCOUNT, now, 1, 20)
    say = Keyed(Say("An answer of the usual length, which is to say a short one."), Role.ANSWER)
    await journal.settle(claimed, Settlement(Outcome.ANSWERED, ALLOWED, (say,)), "DEVICE", now)
    (action,) = await journal.due(ACCOUNT, now, 8, frozenset())
    await journal.acknowledge(action.key, f"$answer{number}", now)


async def turns_a_second(folder: Path, turns: int) -> Row:
    """One turn after the other from T1 to T4: four transactions each."""
    journal = await _open(folder / "turns.db")
    now = time.time_ns() // 1_000_000
    started = time.perf_counter()
    for number in range(turns):
        await _one_turn(journal, number, now)
    took = time.perf_counter() - started
    await journal.close()
    floor = _commit_floor(folder / "floor.db", min(turns, 200))
    rate = turns / took
    return Row(
        "journal: turns a second, T1 to T4",
        f"{rate:.0f}/s ({seconds(took / turns)} each)",
        f"4 bare commits: {seconds(4 * floor)}",
        f"{took / turns / (4 * floor):.2f}x",
    )


def _commit_floor(path: Path, commits: int) -> float:
    """Seconds that one commit of one row takes on this disk, in plain SQLite with the same pragmas."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE one (id INTEGER PRIMARY KEY, text TEXT)")
    times = []
    for _ in range(commits):
        started = time.perf_counter()
        db.execute("INSERT INTO one (text) VALUES (?)", ["x" * 200])
        times.append(time.perf_counter() - started)
    db.close()
    return statistics.median(times)


async def admission(folder: Path, many: int, few: int = 1000, samples: int = 300) -> Row:
    """T1 of one mention with `many` stored turns beside T1 with `few`, alternating."""
    journals = {}
    for count in (few, many):
        path = folder / f"stored{count}.db"
        journal = await _open(path)
        await _one_turn(journal, 0, time.time_ns() // 1_000_000)
        await journal.close()
        bulk_insert(path, count)
        journals[count] = await Journal.open(path)
    now = time.time_ns() // 1_000_000
    times: dict[int, list[float]] = {few: [], many: []}
    for number in range(samples + 20):
        for count, journal in journals.items():
            started = time.perf_counter()
            await journal.admit(_batch("a", number, now), _judge, now)
            times[count].append(time.perf_counter() - started)
    for journal in journals.values():
        await journal.close()
    few_times, many_times = times[few][20:], times[many][20:]
    ratio = statistics.median(many_times) / statistics.median(few_times)
    return Row(
        f"journal: admit with {many:,} stored turns",
        spread(many_times),
        f"with {few:,}: {spread(few_times)}",
        f"{ratio:.2f}x",
        "<= 1.2x",
        at_most(ratio, 1.2),
    )


def bulk_insert(path: Path, turns: int) -> None:
    """Fill a journal that has one settled turn with copies of it: `turns` of them, spread over a year.

    Whatever columns the tables have, a copy has what a real turn has; only what must differ differs.
    """
    db = sqlite3.connect(path, isolation_level=None)
    db.row_factory = sqlite3.Row
    # Of this file nothing needs to survive a power cut; the measurement afterwards is with FULL.
    db.execute("PRAGMA synchronous = OFF")
    db.execute("PRAGMA cache_size = -400000")
    year = 365 * 86_400_000
    begin, step = time.time_ns() // 1_000_000 - year, year // turns
    when = f"({begin} + e.seq * {step})"
    # Ids are random, as those of Matrix are: consecutive ones would flatter the indices.
    event = {
        "id": "'$' || hex(randomblob(16))",
        "place": f"'!room' || (i % {ROOMS}) || ':bench.test'",
        "sender": f"'@person' || (i % {PEOPLE}) || ':bench.test'",
        "sent_at": f"{begin} + i * {step}",
        "admitted_at": f"{begin} + i * {step}",
        # Retention has erased the words of all but the last month.
        "text": f"CASE WHEN i > {turns * 11 // 12} THEN 'a question, or nearly' END",
    }
    turn = {
        **dict.fromkeys(("place", "lane"), "e.place"),
        **dict.fromkeys(("cause", "message"), "e.id"),
        "asker": "e.sender",
        **dict.fromkeys(("created_at", "claimed_at", "settled_at"), when),
    }
    action = {
        "key": "lower(hex(randomblob(16)))",
        "remote_id": "'$' || hex(randomblob(16))",
        "turn": "e.id",
        "place": "e.place",
        "payload": '\'{"text": ""}\'',
        **dict.fromkeys(("created_at", "done_at"), "e.created_at"),
    }
    db.execute("BEGIN")
    last_event, last_turn = (
        db.execute(f"SELECT max({key}) FROM {table}").fetchone()[0] for table, key in _KEYS
    )
    numbers = (
        f"(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {turns}) SELECT i FROM n)"
    )
    _copy(db, "events", "seq", event, numbers)
    _copy(db, "turns", "id", turn, f"events e WHERE e.seq > {last_event}")
    _copy(db, "actions", "seq", action, f"turns e WHERE e.id > {last_turn}")
    db.execute("COMMIT")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert db.execute("SELECT count(*) FROM turns WHERE state = 'settled'").fetchone()[0] > turns
    db.close()


_KEYS = (("events", "seq"), ("turns", "id"))


def _copy(db: sqlite3.Connection, table: str, key: str, changed: dict[str, str], source: str) -> None:
    """Insert one copy of the newest row of `table` for each row of `source`."""
    newest = dict(db.execute(f"SELECT * FROM {table} ORDER BY {key} DESC LIMIT 1").fetchone())
    del newest[key]
    values = [changed.get(name, f":{name}") for name in newest]
    bound = {name: value for name, value in newest.items() if name not in changed}
    db.execute(f"INSERT INTO {table} ({', '.join(newest)}) SELECT {', '.join(values)} FROM {source}", bound)


async def measure(folder: Path, *, quick: bool) -> list[Row]:
    """Both measurements of the journal."""
    return [
        await turns_a_second(folder, 200 if quick else 1000),
        await admission(folder, 20_000 if quick else 1_000_000),
    ]
