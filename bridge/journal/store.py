"""The database file: one writer thread, one reader thread, transactions, migrations.

Promises: a `write` is one transaction, on disk when it returns (`synchronous=FULL`), or nothing.
Refuses: a database written by a newer Hearth, and a file that is not a database.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from sqlite_utils import Database

from bridge.journal.migrations import migrations
from bridge.platform import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")

BUSY_TIMEOUT_MS = 5_000


class Store:
    """Connections to one journal file. Made by `await Store.open(path)`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # One thread owns the one write connection (datasette's way): writes queue in order and
        # never see SQLITE_BUSY from each other. Reads go beside them, on WAL's last commit.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="journal-write")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="journal-read")
        self._write_db: sqlite3.Connection | None = None
        self._read_db: sqlite3.Connection | None = None

    @classmethod
    async def open(cls, path: Path) -> Store:
        """Open or create the journal at `path`, migrate it, and refuse one from the future.

        Raises `Misconfigured` with the path and the remedy.
        """
        store = cls(path)
        loop = asyncio.get_running_loop()
        try:
            store._write_db = await loop.run_in_executor(store._writer, _open_writer, path)
            store._read_db = await loop.run_in_executor(store._reader, _connect, path)
        except BaseException:
            store._writer.shutdown(wait=False)
            store._reader.shutdown(wait=False)
            raise
        return store

    async def write(self, work: Callable[[sqlite3.Connection], T], *, durable: bool = True) -> T:
        """Run `work` in a transaction of its own; committed when this returns, else rolled back.

        A cancelled caller does not stop a transaction that has begun: it commits or fails whole.
        One that is not `durable` survives the death of the process, but power loss may undo it; the
        next durable one takes it along.
        """
        return await self._run(self._writer, lambda: _transact(_opened(self._write_db), work, durable))

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on the last committed state. It must not write."""
        return await self._run(self._reader, lambda: work(_opened(self._read_db)))

    async def checkpoint(self) -> None:
        """Move the write-ahead log into the database and truncate it, so that erased text is gone."""

        def truncate() -> None:
            _opened(self._write_db).execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

        await self._run(self._writer, truncate)

    async def close(self) -> None:
        """Let the threads finish, checkpoint, close the file."""

        def close_writer() -> None:
            if self._write_db is not None:
                self._write_db.execute("PRAGMA optimize")
                self._write_db.close()

        def close_reader() -> None:
            if self._read_db is not None:
                self._read_db.close()

        await self._run(self._reader, close_reader)  # the last connection to close empties the log
        await self._run(self._writer, close_writer)
        # Nothing is queued any more; joining the threads here would block the event loop.
        self._reader.shutdown(wait=False)
        self._writer.shutdown(wait=False)

    @staticmethod
    async def _run(executor: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(executor, work)


def _opened(db: sqlite3.Connection | None) -> sqlite3.Connection:
    if db is None:
        raise RuntimeError("the journal is not open")
    return db


def _transact(db: sqlite3.Connection, work: Callable[[sqlite3.Connection], T], durable: bool) -> T:  # noqa: FBT001 - private
    # In WAL mode NORMAL leaves out the fsync of this commit and nothing else.
    db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
    # IMMEDIATE: `hearth turns retry` may write from another process, and a transaction that
    # starts by reading could otherwise not be upgraded (SQLITE_BUSY_SNAPSHOT).
    db.execute("BEGIN IMMEDIATE")
    try:
        result = work(db)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return result


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.row_factory = sqlite3.Row
    # First, so that the next pragma waits for another process instead of failing.
    db.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    # Readers beside the writer; one fsync per commit.
    db.execute("PRAGMA journal_mode = WAL")
    # NORMAL may lose the last commits on power loss: an acknowledged mention would be gone.
    db.execute("PRAGMA synchronous = FULL")
    # Erased words are overwritten in the file, not only unlinked.
    db.execute("PRAGMA secure_delete = ON")
    db.execute("PRAGMA foreign_keys = ON")
    return db


def _open_writer(path: Path) -> sqlite3.Connection:
    # Created by hand, so that no moment exists in which others may read it.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    try:
        db = _connect(path)
        _refuse_future(db, path)
        migrations.apply(Database(db))
    except sqlite3.DatabaseError as error:
        raise Misconfigured(
            str(path),
            f"cannot be used as a journal ({error}). Free space on the disk, restore a backup, or "
            "move the file away to start empty.",
        ) from error
    return db


def _refuse_future(db: sqlite3.Connection, path: Path) -> None:
    """sqlite-utils applies what is missing and ignores what it does not know; we must not."""
    known = {migration.name for migration in migrations._migrations}  # noqa: SLF001 - no public list
    exists = db.execute(
        "SELECT 1 FROM sqlite_master WHERE name = ?", [migrations.migrations_table]
    ).fetchone()
    if exists is None:
        return
    rows = db.execute(
        f"SELECT name FROM {migrations.migrations_table} WHERE migration_set = ?",
        [migrations.name],
    )
    unknown = sorted(row["name"] for row in rows if row["name"] not in known)
    if unknown:
        db.close()
        raise Misconfigured(
            str(path),
            f"was written by a newer Hearth (it has {', '.join(unknown)}). Install that version again, "
            "or restore the backup made before the upgrade: going back is not supported.",
        )
