"""Which room keys are in which backup, and which came out of one: a small SQLite file of the account.

Owns `key-backup.db` (0600). What has to be uploaded is never listed anywhere: it is what matrix-nio
has and this does not, so a crash can lose no key, only upload one twice. Holds ids and numbers, no keys.
Blocking: call it in a thread.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

FILE: Final = "key-backup.db"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS uploaded (
    version TEXT NOT NULL, session TEXT NOT NULL, first_index INTEGER NOT NULL, PRIMARY KEY (version, session)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS imported (session TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS restoring (version TEXT PRIMARY KEY) WITHOUT ROWID;
"""


class Ledger:
    """The record of one account. `read_only` never makes nor changes the file."""

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self._path = folder / FILE
        self._read_only = read_only

    def uploaded(self, version: str) -> dict[str, int]:
        """Of each session in that backup the first message index that it has there."""
        with self._open() as db:
            rows = db.execute("SELECT session, first_index FROM uploaded WHERE version = ?", (version,))
            return dict(rows.fetchall())

    def record(self, version: str, sessions: Mapping[str, int], *, imported: bool = False) -> None:
        """Note that these sessions are in the backup; only the newest version is remembered."""
        with self._open() as db:
            db.execute("DELETE FROM uploaded WHERE version <> ?", (version,))
            db.executemany(
                "INSERT OR REPLACE INTO uploaded VALUES (?, ?, ?)",
                [(version, session, index) for session, index in sessions.items()],
            )
            if imported:
                db.executemany("INSERT OR IGNORE INTO imported VALUES (?)", [(one,) for one in sessions])

    def imported(self) -> frozenset[str]:
        """The sessions that we have from a backup only: of the server's say-so (`room_keys`)."""
        with self._open() as db:
            return frozenset(row[0] for row in db.execute("SELECT session FROM imported"))

    def received(self, sessions: Iterable[str]) -> None:
        """Note that a device gave us these itself, whatever a backup had before."""
        with self._open() as db:
            db.executemany("DELETE FROM imported WHERE session = ?", [(one,) for one in sessions])

    def restoring(self, version: str) -> bool:
        """Whether a restore from that backup was begun and not finished."""
        with self._open() as db:
            return db.execute("SELECT 1 FROM restoring WHERE version = ?", (version,)).fetchone() is not None

    def begin_restore(self, version: str) -> None:
        """Note that all of that backup has to be read."""
        with self._open() as db:
            db.execute("INSERT OR IGNORE INTO restoring VALUES (?)", (version,))

    def end_restore(self) -> None:
        """Note that nothing has to be read."""
        with self._open() as db:
            db.execute("DELETE FROM restoring")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        if self._read_only:
            where = f"{self._path.absolute().as_uri()}?mode=ro"
            with closing(sqlite3.connect(where, uri=True)) as db:
                yield db
            return
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        with closing(sqlite3.connect(self._path)) as db:
            db.executescript(_SCHEMA)
            with db:
                yield db


def waiting(known: Iterable[str], uploaded: Mapping[str, int]) -> int:
    """How many of the `known` sessions are not in the backup."""
    return sum(session not in uploaded for session in known)
