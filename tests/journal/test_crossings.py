"""The record of what crosses between communities: it grows, and whatever else is done to it is noticed."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from dataclasses import asdict, replace
from functools import cache
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sqlite_utils import Database

from bridge.journal import Journal
from bridge.journal.crossings import Crossing, append, of, verify
from bridge.journal.migrations import migrations
from bridge.link.canonical import sha256

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

OURS, OTHERS = "@hearth:home", "@hearth:elsewhere"
TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
NUMBER = st.integers(0, 2**53 - 1)
CROSSINGS = st.builds(
    Crossing,
    at=NUMBER,
    peer=TEXT,
    place=TEXT,
    way=st.sampled_from(["in", "out"]),
    kind=TEXT,
    envelope=TEXT,
    digest=TEXT,
    allowed=st.booleans(),
    code=TEXT,
    rule=TEXT,
    policy=TEXT,
    bytes=NUMBER,
)
RECORDS = st.lists(st.tuples(st.sampled_from([OURS, OURS, OTHERS]), CROSSINGS), min_size=2, max_size=8)
TEXTS = ("peer", "place", "way", "kind", "envelope", "digest", "code", "rule", "policy", "prev", "hash")
NUMBERS = ("at", "allowed", "bytes")
ASKED = Crossing(
    at=1_800_000_000_000,
    peer="bot:city.example",
    place="!link:home",
    way="out",
    kind="ask",
    envelope="0" * 22,
    digest="d" * 64,
    allowed=True,
    code="allowed",
    rule="grant.classes",
    policy="$poll",
    bytes=900,
)


@cache
def empty() -> bytes:
    db = sqlite3.connect(":memory:", isolation_level=None)
    migrations.apply(Database(db))
    return db.serialize()


def recorded(rows: Sequence[tuple[str, Crossing]]) -> sqlite3.Connection:
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.deserialize(empty())
    db.row_factory = sqlite3.Row
    for account, crossing in rows:
        append(db, account, crossing)
    return db


def opened(db: sqlite3.Connection) -> list[int]:
    """Take the triggers away, as somebody would who has the file; the numbers of our rows."""
    db.execute("DROP TRIGGER crossings_stay")
    db.execute("DROP TRIGGER crossings_last")
    return [row["seq"] for row in db.execute("SELECT seq FROM crossings WHERE account = ?", [OURS])]


def noticed(db: sqlite3.Connection) -> bool:
    return any(verify(db, account).broken is not None for account in (OURS, OTHERS))


@given(RECORDS)
def test_what_was_appended_is_whole_and_is_what_was_told(rows: list[tuple[str, Crossing]]) -> None:
    """Each account has a chain of its own, whoever else appends in between; every hash of it is found."""
    db = recorded(rows)
    for account in (OURS, OTHERS):
        told = [crossing for who, crossing in rows if who == account]
        proof = verify(db, account)
        assert (proof.count, proof.broken) == (len(told), None)
        assert list(of(db, account, "", 100)) == told[::-1]
        hashes = [one["hash"] for one in db.execute("SELECT * FROM crossings WHERE account = ?", [account])]
        assert proof.head == (hashes[-1] if hashes else "")
        assert all(verify(db, account, one).contains for one in hashes)
        assert not verify(db, account, "0" * 64).contains


def test_the_hash_is_the_one_that_is_documented() -> None:
    """SHA-256 over the canonical JSON of the row: anybody can work it out from docs/links.md."""
    db = recorded([(OURS, ASKED), (OURS, replace(ASKED, at=ASKED.at + 1))])
    prev = ""
    for at in (ASKED.at, ASKED.at + 1):
        fields = asdict(ASKED) | {"at": at, "account": OURS, "prev": prev}
        # Of ASCII without floats this is the canonical form, made by something else than what is tested.
        prev = hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    assert verify(db, OURS).head == prev


@pytest.mark.parametrize("change", ["UPDATE crossings SET allowed = 0", "DELETE FROM crossings"])
def test_the_database_refuses_to_change_what_is_recorded(change: str) -> None:
    """Not even by mistake: neither a change nor a removal passes, and the record is as it was."""
    db = recorded([(OURS, ASKED)])
    with pytest.raises(sqlite3.IntegrityError, match="append only"):
        db.execute(change)
    assert of(db, OURS, "", 9) == (ASKED,)


@given(RECORDS, st.data())
def test_a_changed_row_is_noticed(rows: list[tuple[str, Crossing]], data: st.DataObject) -> None:
    """Whichever field of whichever row, to whatever value."""
    db = recorded(rows)
    mine = opened(db)
    assume(mine)
    seq = data.draw(st.sampled_from(mine))
    name = data.draw(st.sampled_from(TEXTS + NUMBERS))
    before = db.execute(f"SELECT {name} FROM crossings WHERE seq = ?", [seq]).fetchone()[0]
    value = data.draw(TEXT if name in TEXTS else st.integers(-(2**63), 2**63 - 1))
    assume(value != before)
    db.execute(f"UPDATE crossings SET {name} = ? WHERE seq = ?", [value, seq])
    assert verify(db, OURS).broken == seq


def test_a_row_that_is_no_text_any_more_is_named() -> None:
    """Bytes that no text has do not end in an error of the database, but in the number of the row."""
    db = recorded([(OURS, ASKED)] * 3)
    _, second, _ = opened(db)
    db.execute("UPDATE crossings SET peer = CAST(x'ff' AS TEXT) WHERE seq = ?", [second])
    proof = verify(db, OURS)
    assert (proof.count, proof.broken) == (1, second)


@given(RECORDS, st.data())
def test_a_removed_row_is_noticed(rows: list[tuple[str, Crossing]], data: st.DataObject) -> None:
    """By the one after it. Of the end, only who wrote the last hash down knows."""
    db = recorded(rows)
    mine = opened(db)
    assume(len(mine) > 1)
    head = verify(db, OURS).head
    at = data.draw(st.integers(0, len(mine) - 1))
    db.execute("DELETE FROM crossings WHERE seq = ?", [mine[at]])
    proof = verify(db, OURS, head)
    if at == len(mine) - 1:
        assert (proof.broken, proof.contains) == (None, False)
    else:
        assert proof.broken == mine[at + 1]


@given(RECORDS, CROSSINGS, st.data())
def test_a_row_that_is_put_in_is_noticed(
    rows: list[tuple[str, Crossing]], forged: Crossing, data: st.DataObject
) -> None:
    """Even one whose own hash and link are right for where it stands."""
    db = recorded(rows)
    mine = opened(db)
    assume(mine)
    db.execute("UPDATE crossings SET seq = seq * -10")
    db.execute("UPDATE crossings SET seq = -seq")
    at = data.draw(st.integers(0, len(mine) - 1))
    before = db.execute(
        "SELECT hash FROM crossings WHERE account = ? AND seq < ? ORDER BY seq DESC LIMIT 1",
        [OURS, mine[at] * 10],
    ).fetchone()
    prev = "" if before is None else before["hash"]
    fields = asdict(forged) | {"account": OURS, "prev": prev}
    row = fields | {"hash": sha256(fields), "seq": mine[at] * 10 - 1}
    db.execute(
        f"INSERT INTO crossings ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", [*row.values()]
    )
    assert verify(db, OURS).broken == mine[at] * 10


@given(RECORDS, st.data())
def test_rows_that_change_places_are_noticed(rows: list[tuple[str, Crossing]], data: st.DataObject) -> None:
    """Any two of one account."""
    db = recorded(rows)
    mine = opened(db)
    assume(len(mine) > 1)
    one, other = sorted(data.draw(st.lists(st.sampled_from(mine), min_size=2, max_size=2, unique=True)))
    for seq, now in ((one, -1), (other, one), (-1, other)):
        db.execute("UPDATE crossings SET seq = ? WHERE seq = ?", [now, seq])
    assert verify(db, OURS).broken == one


@given(RECORDS, st.data())
def test_a_row_that_is_given_to_another_account_is_noticed(
    rows: list[tuple[str, Crossing]], data: st.DataObject
) -> None:
    """Where it went to, at the latest."""
    db = recorded(rows)
    mine = opened(db)
    assume(mine)
    seq = data.draw(st.sampled_from(mine))
    db.execute("UPDATE crossings SET account = ? WHERE seq = ?", [OTHERS, seq])
    assert noticed(db)


def test_a_record_that_was_written_anew_lacks_the_hash_that_was_noted() -> None:
    """Whoever has the file can write a whole new chain; the hash that the operator noted is not in it."""
    head = verify(recorded([(OURS, ASKED)] * 2), OURS).head
    anew = verify(recorded([(OURS, replace(ASKED, allowed=False))] * 3), OURS, head)
    assert (anew.broken, anew.contains) == (None, False)


async def test_the_journal_tells_the_record(tmp_path: Path) -> None:
    """The last ones first, of all peers or of one, and the proof; also to a second reader of the file."""
    journal = await Journal.open(tmp_path / "hearth.db")
    other = replace(ASKED, peer="bot:club.example", way="in")
    try:
        for one in (ASKED, other, replace(ASKED, at=9)):
            await journal._store.write(lambda db, one=one: append(db, OURS, one))  # type: ignore[misc]  # bound
        beside = await Journal.open(tmp_path / "hearth.db")
        try:
            assert await beside.crossed(OURS, "", 2) == (replace(ASKED, at=9), other)
            assert await beside.crossed(OURS, "bot:club.example", 9) == (other,)
            proof = await beside.verify_crossings(OURS)
            assert (proof.count, proof.broken) == (3, None)
            assert (await beside.verify_crossings(OURS, proof.head)).contains
        finally:
            await beside.close()
    finally:
        await journal.close()
