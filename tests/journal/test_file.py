"""The file on disk: who may read it, what it refuses, what a full disk does, what erasing leaves."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from bots.conversation import Keyed, Person, Place, PlaceKind, Role, Say, SendEnvelope
from bridge.journal import Admission, Journal, Outcome, Settlement
from bridge.journal.migrations import (
    _INITIAL,
    _LINKS,
    _MOVED,
    _POLICY,
    _RATCHET,
    _VOICE,
    _VOTES,
    migrations,
)
from bridge.platform import Batch, Event, EventKind, Misconfigured, PlaceFacts
from policies.verdict import Code, Verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bridge.journal import Known

OWN = "@hearth:home"
ADA = Person("@ada:home", "Ada")
FACTS = PlaceFacts(Place(OWN, "!r", PlaceKind.GROUP, "Family"), (ADA,))
SECRET = "the plumber sings at midnight"
ANSWERED = Verdict(True, Code.ALLOWED, "policy.askers")
DAY = 86_400_000


def judge(event: Event, known: Known) -> Admission:
    return Admission("chat", "lane") if event.addressed else Admission()


def question(number: int, text: str, *, by: Person = ADA) -> Event:
    return Event(f"${number}", "!r", EventKind.MESSAGE, by, 1, text=text, addressed=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hearth.db"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[Journal]:
    journal = await Journal.open(path)
    yield journal
    await journal.close()


async def answered(journal: Journal, *events: Event, now: int = 1) -> None:
    """Admit and answer `events` with the secret, and have the answer delivered."""
    await journal.admit(Batch(OWN, "1", events, (FACTS,)), judge, now)
    while claimed := await journal.claim(OWN, now, 1, 5):
        says = (Keyed(Say(f"You said {SECRET}"), Role.ANSWER),)
        assert await journal.settle(claimed[0], Settlement(Outcome.ANSWERED, ANSWERED, says), "D", now)
        for action in await journal.due(OWN, now, 9, frozenset()):
            await journal.acknowledge(action.key, f"${action.key}", now)


def on_disk(path: Path, words: str = SECRET) -> bool:
    """Whether `words` stand anywhere in the database or its log."""
    needle = words.encode()
    return any(needle in file.read_bytes() for file in path.parent.glob(path.name + "*"))


async def test_only_its_owner_may_read_it(path: Path, journal: Journal) -> None:
    """The journal holds what people said: nobody else on the machine may open it or its log."""
    await answered(journal, question(1, SECRET))
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.glob("hearth.db*")}
    assert set(modes.values()) == {0o600}, modes


async def test_retention_takes_the_words_from_the_disk_and_leaves_the_verdict(
    path: Path, journal: Journal
) -> None:
    """After `expire` the words are in no page of the file, while who asked and what was decided stay."""
    await answered(journal, question(1, SECRET))
    assert on_disk(path)
    assert await journal.expire(before=DAY) > 0
    assert not on_disk(path)
    (turn,) = await journal.turns()
    assert (turn.outcome, turn.code, turn.rule) == ("answered", "allowed", "policy.askers")


async def sent_envelope(journal: Journal) -> None:
    """An envelope with the secret went out for a question that has none."""
    await journal.admit(Batch(OWN, "1", (question(1, "Ask them"),), (FACTS,)), judge, 1)
    (claimed,) = await journal.claim(OWN, 1, 1, 5)
    envelope = Keyed(SendEnvelope(json.dumps({"text": SECRET}), f"asks {SECRET}"), Role.ENVELOPE)
    assert await journal.settle(claimed, Settlement(Outcome.ANSWERED, ANSWERED, (envelope,)), "D", 1)
    (action,) = await journal.due(OWN, 1, 9, frozenset())
    assert action.action == envelope.action
    await journal.acknowledge(action.key, "$envelope", 1)


@pytest.mark.parametrize("how", ["retention", "question", "envelope"])
async def test_an_envelope_goes_from_the_disk(path: Path, journal: Journal, how: str) -> None:
    """With its time, with the question that it was sent for, and when somebody takes it out of the room."""
    await sent_envelope(journal)
    assert on_disk(path)
    own = Event("$envelope", "!r", EventKind.ENVELOPE, Person(OWN), 1, text=SECRET, own=True)
    await journal.admit(Batch(OWN, "2", (own,)), judge, 1)
    if how == "retention":
        await journal.expire(before=DAY)
    else:
        by, target = (ADA, "$1") if how == "question" else (Person("@mod:home", power=50), "$envelope")
        gone = Event("$9", "!r", EventKind.REDACTION, by, 2, relates_to=target)
        await journal.admit(Batch(OWN, "3", (gone,)), judge, 2)
        if how == "question":
            (redact,) = await journal.due(OWN, 3, 9, frozenset())
            assert (redact.action.kind, redact.target) == ("redact", "$envelope")
            echo = Event("$10", "!r", EventKind.REDACTION, Person(OWN), 3, relates_to="$envelope")
            await journal.admit(Batch(OWN, "4", (echo,)), judge, 3)
        await journal.checkpoint()
    assert not on_disk(path)


@pytest.mark.parametrize("before", [True, False])
async def test_an_envelope_that_arrives_makes_no_turn(path: Path, journal: Journal, *, before: bool) -> None:
    """It is kept as it came, late ones too; once its sender has taken it back, nothing of it is left."""
    peer = Person("@hearth:city", is_bot=True)
    sealed = Event("$1", "!r", EventKind.SEALED, peer, 1, sealed="cipher")
    gone = Event("$2", "!r", EventKind.REDACTION, peer, 2, relates_to="$1")
    await journal.admit(Batch(OWN, "1", (sealed,), (FACTS,)), judge, 1)
    if before:
        await journal.admit(Batch(OWN, "2", (gone,)), judge, 2)
    opened = Event("$1", "!r", EventKind.ENVELOPE, peer, 1, text=SECRET)
    await journal.admit(Batch(OWN, "3", opened=(opened,)), judge, 3)
    assert await journal.turns() == []
    await journal.checkpoint()
    assert on_disk(path) is not before
    if not before:
        await journal.admit(Batch(OWN, "4", (gone,)), judge, 4)
        await journal.checkpoint()
        assert not on_disk(path)


async def test_an_envelope_taken_back_before_it_came_is_not_kept(path: Path, journal: Journal) -> None:
    """Over federation the order is not certain."""
    peer = Person("@hearth:city", is_bot=True)
    gone = Event("$2", "!r", EventKind.REDACTION, peer, 2, relates_to="$1")
    late = Event("$1", "!r", EventKind.ENVELOPE, peer, 1, text=SECRET)
    await journal.admit(Batch(OWN, "1", (gone,), (FACTS,)), judge, 1)
    await journal.admit(Batch(OWN, "2", (late,)), judge, 2)
    await journal.checkpoint()
    assert not on_disk(path)


async def test_retention_leaves_what_is_still_owed(path: Path, journal: Journal) -> None:
    """A question that is still open keeps its words, however old it is."""
    await journal.admit(Batch(OWN, "1", (question(1, SECRET),), (FACTS,)), judge, 1)
    await journal.expire(before=DAY)
    (claimed,) = await journal.claim(OWN, 2, 1, 5)
    assert claimed.turn.message.text == SECRET


@pytest.mark.parametrize("scope", ["mine", "room"])
async def test_forget_takes_the_words_from_the_disk(path: Path, journal: Journal, scope: str) -> None:
    """`!forget` and `!forget room` leave no words of the asker, nor of the answer, in the file."""
    await answered(journal, question(1, SECRET))
    await journal.admit(Batch(OWN, "2", (question(2, "!forget"),)), judge, 2)
    (claimed,) = await journal.claim(OWN, 2, 1, 5)
    assert await journal.settle(claimed, Settlement(Outcome.ANSWERED, ANSWERED, forget=scope), "D", 2)
    await journal.checkpoint()
    assert not on_disk(path)


async def test_forget_mine_leaves_the_words_of_others(path: Path, journal: Journal) -> None:
    """What somebody else said is theirs to take back."""
    ben = Person("@ben:home", "Ben")
    await answered(journal, question(1, SECRET), question(2, "my own words", by=ben))
    await journal.admit(Batch(OWN, "2", (question(3, "!forget"),)), judge, 2)
    (claimed,) = await journal.claim(OWN, 2, 1, 5)
    await journal.settle(claimed, Settlement(Outcome.ANSWERED, ANSWERED, forget="mine"), "D", 2)
    await journal.checkpoint()
    assert on_disk(path, "my own words")


async def test_a_redaction_takes_the_words_from_the_disk(path: Path, journal: Journal) -> None:
    """A redacted question leaves neither its words nor those of its answer behind."""
    await answered(journal, question(1, SECRET))
    redaction = Event("$9", "!r", EventKind.REDACTION, ADA, 2, relates_to="$1")
    await journal.admit(Batch(OWN, "2", (redaction,)), judge, 2)
    await journal.checkpoint()
    assert not on_disk(path)


async def test_a_database_from_the_future_is_refused(path: Path) -> None:
    """A migration that we do not know means a newer Hearth: refused with the remedy, nothing changed."""
    await (await Journal.open(path)).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) "
            "VALUES ('journal', 'm999_from_the_future', '2030-01-01')"
        )
        db.commit()
    with pytest.raises(Misconfigured, match="newer Hearth") as refused:
        await Journal.open(path)
    assert "m999_from_the_future" in str(refused.value)


async def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    """Garbage is not overwritten; the message names the file."""
    path.write_bytes(b"This is not a database. " * 100)
    with pytest.raises(Misconfigured, match=r"hearth\.db"):
        await Journal.open(path)
    assert path.read_bytes().startswith(b"This is not a database.")


M001 = "cae25feaa03f9054d39735184c475c9b2bfd27df774a46ec6226543b9ca3e641"
"""SHA-256 of the SQL of `m001_initial`."""
M004 = "9e07b9b1a40c5bc1d6ca93b255ea6b957e3079637bb40292b72789f2b794842b"
M006 = "52acd634bd143e2f0c99114247e202547e1528c29489a98a91b6a3482ed077da"
M007 = "7afb14df6b8547e30cc38a219b8a38860b3815a42b619d866cf7ad0d5a1fd81d"
M005 = "653cec0c9365755f7ebaff5884997f8ad2553a6be7dfc8d5caaf34e47ddbf493"
M002 = "33918f07df91650d72cc5672bfcf23bb9f6f5d3b373abd68c16cc54841d666dd"


def test_migrations_are_appended_and_never_edited() -> None:
    """A journal of any release can be opened by any later one, so what was released stays as it is."""
    names = [migration.name for migration in migrations._migrations]
    assert names == [
        *("m001_initial", "m002_voice", "m003_policy", "m004_votes", "m005_moved", "m006_links"),
        *("m007_ratchet", "m008_trust"),
    ]
    assert hashlib.sha256(" ".join(_INITIAL.split()).encode()).hexdigest() == M001
    assert hashlib.sha256(" ".join(_VOICE).encode()).hexdigest() == M002
    assert hashlib.sha256(" ".join(_VOTES).encode()).hexdigest() == M004
    assert hashlib.sha256(" ".join(_MOVED).encode()).hexdigest() == M005
    assert hashlib.sha256(" ".join(_LINKS).encode()).hexdigest() == M006
    assert hashlib.sha256(" ".join(_RATCHET).encode()).hexdigest() == M007
    assert _POLICY == "ALTER TABLE places ADD COLUMN policy TEXT"


FULL_DISK = """
import asyncio, json, sqlite3, sys
from pathlib import Path
from bridge.journal import Journal
from bridge.platform import Batch
from tests.journal.test_file import FACTS, OWN, judge, question

async def main():
    journal = await Journal.open(Path(sys.argv[1]))
    await journal.admit(Batch(OWN, "before", (question(1, "small"),), (FACTS,)), judge, 1)
    pages = await journal._store.write(lambda db: db.execute("PRAGMA page_count").fetchone()[0])
    limit = lambda n: (lambda db: db.execute(f"PRAGMA max_page_count = {n}").fetchone()[0])
    await journal._store._run(journal._store._writer, lambda: limit(pages)(journal._store._write_db))
    big = Batch(OWN, "after", tuple(question(n, "x" * 60_000) for n in range(2, 6)))
    said = []
    try:
        await journal.admit(big, judge, 2)
        said.append("admitted")
    except sqlite3.Error as error:
        said.append(str(error))
    said.append(await journal.cursor(OWN))
    said.append(len(await journal.turns()))
    await journal._store._run(journal._store._writer, lambda: limit(1_000_000)(journal._store._write_db))
    await journal.admit(big, judge, 3)
    said.append(await journal.cursor(OWN))
    said.append(len(await journal.turns()))
    await journal.close()
    print(json.dumps(said))

asyncio.run(main())
"""


def test_a_full_disk_changes_nothing_and_loses_nothing(path: Path) -> None:
    """T1 on a full disk fails as a whole: cursor and turns are as before; with room it succeeds."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, timeout=60, check=True
    )
    error, cursor, turns, later, all_turns = json.loads(done.stdout)
    assert "full" in error
    assert (cursor, turns) == ("before", 1)
    assert (later, all_turns) == ("after", 5)


async def test_history_stays_history_when_its_key_comes_after_a_restart(path: Path, journal: Journal) -> None:
    """An unreadable event from before the join is handed back as such, so that it is never answered."""
    sealed = Event("$1", "!r", EventKind.SEALED, ADA, 1, context_only=True, sealed="{}")
    await journal.admit(Batch(OWN, "1", (sealed,), (FACTS,)), judge, 1)
    assert await journal.sealed(OWN) == (sealed,)
