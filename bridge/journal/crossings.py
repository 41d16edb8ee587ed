"""The record of what crosses between communities: appended, chained by hashes, never changed.

    hash = SHA-256 of the canonical JSON (RFC 8785) of the row with `prev`, the hash of the row before it

Allowed and refused alike; who, when, what kind, by which rule, how large; never words, never people. The
database refuses changes (triggers); `verify` notices those that were made past it: a row that was changed,
taken out, put in or moved. What no chain notices by itself is that its end is missing: so the last hash is
shown, and whoever wrote it down earlier can ask whether it is still in there.
"""

from __future__ import annotations

import sqlite3
from dataclasses import asdict, dataclass, fields

from bridge.link.canonical import NotCanonical, sha256


@dataclass(frozen=True, slots=True)
class Crossing:
    """An envelope that came `in` or went `out`, or was kept from it, at `at` (ms since the epoch).

    `place` is the link room; `kind`, `envelope` (its id) and `digest` are empty where it could not be read.
    `policy` is what decided: the event of the vote, else the digest of the grant. `bytes` is its size.
    """

    at: int
    peer: str
    place: str
    way: str
    kind: str
    envelope: str
    digest: str
    allowed: bool
    code: str
    rule: str
    policy: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Proof:
    """What `verify` found: how many rows, the hash of the last one, the first row that breaks the chain."""

    count: int
    head: str
    broken: int | None = None
    contains: bool = True
    """Whether the hash that was asked for is in the chain."""


_COLUMNS = tuple(one.name for one in fields(Crossing))


def append(db: sqlite3.Connection, account: str, crossing: Crossing) -> None:
    """Record one crossing after the last one of `account`."""
    last = db.execute(
        "SELECT hash FROM crossings WHERE account = ? ORDER BY seq DESC LIMIT 1", [account]
    ).fetchone()
    prev = "" if last is None else last["hash"]
    names = ("account", *_COLUMNS, "prev", "hash")
    values = [account, *asdict(crossing).values(), prev, _hash(account, crossing, prev)]
    marks = ", ".join("?" * len(names))
    db.execute(f"INSERT INTO crossings ({', '.join(names)}) VALUES ({marks})", values)


def of(
    db: sqlite3.Connection, account: str, peer: str, limit: int, asked_in: str = ""
) -> tuple[Crossing, ...]:
    """The last `limit` crossings, with one peer or (`""`) with all; newest first.

    `asked_in`: only the questions that were asked in that room.
    """
    rows = db.execute(
        "SELECT * FROM crossings WHERE account = ? AND ? IN ('', peer) AND (? = '' OR envelope IN "
        "(SELECT id FROM asks WHERE account = ? AND place = ? AND ours)) ORDER BY seq DESC LIMIT ?",
        [account, peer, asked_in, account, asked_in, limit],
    )
    return tuple(_crossing(row) for row in rows)


def verify(db: sqlite3.Connection, account: str, head: str = "") -> Proof:
    """Work out every hash anew. `head`: a hash that was written down earlier."""
    prev, count, seq, contains = "", 0, 0, not head
    try:
        for row in db.execute("SELECT * FROM crossings WHERE account = ? ORDER BY seq", [account]):
            if not _holds(account, row, prev):
                return Proof(count, prev, row["seq"], contains)
            prev, count, seq = row["hash"], count + 1, row["seq"]
            contains = contains or prev == head
    except sqlite3.OperationalError as error:
        if "UTF-8" not in str(error):  # the disk, not the row
            raise
        after = "SELECT min(seq) FROM crossings WHERE account = ? AND seq > ?"
        return Proof(count, prev, db.execute(after, [account, seq]).fetchone()[0], contains)
    return Proof(count, prev, None, contains)


def _holds(account: str, row: sqlite3.Row, prev: str) -> bool:
    """Whether a row is what was written after the one whose hash is `prev`. Total."""
    # Any number but 0 would be hashed as true.
    if row["prev"] != prev or row["allowed"] not in (0, 1):
        return False
    try:
        return bool(row["hash"] == _hash(account, _crossing(row), prev))
    except NotCanonical:  # a number that no JSON has
        return False


def _crossing(row: sqlite3.Row) -> Crossing:
    return Crossing(**{name: row[name] for name in _COLUMNS} | {"allowed": bool(row["allowed"])})


def _hash(account: str, crossing: Crossing, prev: str) -> str:
    return sha256({**asdict(crossing), "account": account, "prev": prev})
