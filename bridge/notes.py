"""The community's notes: folders of Markdown files, and an index to find passages in them.

Owns one SQLite file that can be thrown away: it is made anew from the folders, which stay the truth, and is
therefore not the journal. Promises that a search sees the files as they were at most `LOOK_EVERY` before
it, that nothing outside the folders is read (no link is followed), and that reading and searching happen on
a thread of its own. Refuses files that are no text, or too large; they are named in the log.

Source: SQLite FTS5 (`unicode61 remove_diacritics 2`, `bm25()`).
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from bots.base import Passage
from bridge.passages import Term, best, covered, cut, rarity_of, terms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

T = TypeVar("T")

log = structlog.get_logger(__name__)

LOOK_EVERY: Final = 5.0
"""Seconds for which the folders are taken to be as they were."""
LARGEST: Final = 2 << 20
"""Bytes of a note."""
MOST_FILES: Final = 20_000
"""Of one collection."""
SUFFIXES: Final = (".md", ".markdown", ".txt")
CANDIDATES: Final = 50
"""Passages that are looked at closely."""
_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE files (
    id INTEGER PRIMARY KEY, collection TEXT NOT NULL, path TEXT NOT NULL,
    mtime_ns INTEGER NOT NULL, size INTEGER NOT NULL, UNIQUE (collection, path)
) STRICT;
CREATE TABLE passages (
    id INTEGER PRIMARY KEY, file INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL
) STRICT;
CREATE INDEX passages_of_file ON passages (file);
CREATE VIRTUAL TABLE texts USING fts5(trail, text, tokenize = 'unicode61 remove_diacritics 2');
"""


@dataclass(frozen=True, slots=True)
class Collection:
    """How a collection stands: its folder, how many notes and passages, and what is wrong with the folder."""

    name: str
    folder: Path
    notes: int = 0
    passages: int = 0
    problem: str = ""


@dataclass
class _Seen:
    """What was noticed of a folder, so that it is logged once."""

    problem: str = ""
    refused: set[str] = field(default_factory=set)


class Notes:
    """The index over `folders` (by collection), in the file `path`. Close it with `aclose`."""

    def __init__(self, path: Path, folders: Mapping[str, Path]) -> None:
        self._path = path
        self._folders = dict(folders)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="notes")
        self._db: sqlite3.Connection | None = None
        self._closed = False
        self._looked = -LOOK_EVERY
        self._seen = {name: _Seen() for name in folders}

    @property
    def collections(self) -> tuple[str, ...]:
        """The names of the collections."""
        return tuple(sorted(self._folders))

    async def search(self, collections: Sequence[str], question: str, limit: int) -> tuple[Passage, ...]:
        """The passages of `collections` that are about `question`, best first; none, if none is."""
        if not collections:
            return ()
        now = asyncio.get_running_loop().time()
        return await self._run(self._search, tuple(collections), question, limit, now)

    async def state(self) -> tuple[Collection, ...]:
        """How each collection stands, looked at now."""
        return await self._run(self._state)

    async def aclose(self) -> None:
        """Let go of the file, after what is under way."""
        if not self._closed:
            self._closed = True
            await self._run(self._close)
            self._thread.shutdown(wait=False)  # nothing is under way any more

    async def _run(self, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)

    # -- on the thread -----------------------------------------------------------------------------

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            try:
                self._db = _open(self._path)
            except sqlite3.DatabaseError:
                self._path.unlink(missing_ok=True)  # it is only an index
                self._db = _open(self._path)
        return self._db

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()

    def _look(self, now: float) -> None:
        if now - self._looked < LOOK_EVERY:
            return
        db = self._opened()
        with db:
            for name in db.execute("SELECT DISTINCT collection FROM files").fetchall():
                if name[0] not in self._folders:
                    _drop(db, "collection = ?", [name[0]])
            for name, folder in self._folders.items():
                self._read_folder(db, name, folder)
        self._looked = now

    def _read_folder(self, db: sqlite3.Connection, name: str, folder: Path) -> None:
        seen = self._seen[name]
        problem = "" if folder.is_dir() else "there is no such folder"
        if problem and problem != seen.problem:
            log.error("notes_unreadable", collection=name, folder=str(folder), problem=problem)
        seen.problem = problem
        known = {
            row[0]: (row[1], row[2])
            for row in db.execute(
                "SELECT path, mtime_ns, size FROM files WHERE collection = ?", [name]
            ).fetchall()
        }
        there: set[str] = set()
        for path, entry in files(folder):
            if len(there) >= MOST_FILES:
                self._refuse(name, path, f"more than {MOST_FILES:,} notes")
                break
            try:
                found = entry.stat(follow_symlinks=False)
                stamp = (found.st_mtime_ns, found.st_size)
                if known.get(path) == stamp:
                    there.add(path)
                    continue
                text = _text(Path(entry.path))
            except (OSError, ValueError) as error:
                self._refuse(name, path, type(error).__name__ if isinstance(error, OSError) else str(error))
                continue
            there.add(path)
            seen.refused.discard(path)
            _put(db, name, path, stamp, text)
        for path in known.keys() - there:
            _drop(db, "collection = ? AND path = ?", [name, path])

    def _refuse(self, name: str, path: str, why: str) -> None:
        if path not in self._seen[name].refused:
            self._seen[name].refused.add(path)
            log.warning("note_not_read", collection=name, path=path, why=why)

    def _state(self) -> tuple[Collection, ...]:
        self._looked = -LOOK_EVERY
        self._look(0.0)
        db = self._opened()
        counts = {
            row[0]: (row[1], row[2])
            for row in db.execute(
                "SELECT collection, count(DISTINCT f.id), count(p.id) FROM files f "
                "LEFT JOIN passages p ON p.file = f.id GROUP BY collection"
            ).fetchall()
        }
        return tuple(
            Collection(name, folder, *counts.get(name, (0, 0)), self._seen[name].problem)
            for name, folder in sorted(self._folders.items())
        )

    def _search(
        self, collections: tuple[str, ...], question: str, limit: int, now: float
    ) -> tuple[Passage, ...]:
        wanted = terms(question)
        if not wanted:
            return ()
        self._look(now)
        db = self._opened()
        marks = ", ".join("?" * len(collections))
        total = db.execute(
            f"SELECT count(*) FROM passages p JOIN files f ON f.id = p.file WHERE f.collection IN ({marks})",
            collections,
        ).fetchone()[0]

        def count(term: Term) -> int:
            found = db.execute(
                "SELECT count(*) FROM texts t JOIN passages p ON p.id = t.rowid "
                f"JOIN files f ON f.id = p.file WHERE texts MATCH ? AND f.collection IN ({marks})",
                [term.query, *collections],
            ).fetchone()
            return int(found[0])

        rarity = rarity_of(wanted, total, count)
        rows = db.execute(
            "SELECT f.collection, f.path, p.first, p.last, t.trail, t.text FROM texts t "
            "JOIN passages p ON p.id = t.rowid JOIN files f ON f.id = p.file "
            f"WHERE texts MATCH ? AND f.collection IN ({marks}) ORDER BY bm25(texts, 2.0, 1.0), p.id LIMIT ?",
            [" OR ".join(one.query for one in wanted), *collections, CANDIDATES],
        ).fetchall()
        scored = ((covered(wanted, rarity, f"{row[4]} {row[5]}"), row) for row in rows)
        return tuple(Passage(*row) for row in best(scored, limit))


def _open(path: Path) -> sqlite3.Connection:
    """The index, empty where it is of another version. Only its owner may read it: it has the words."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    db = sqlite3.connect(path, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = OFF")  # it can be made again
        db.execute("PRAGMA secure_delete = ON")
        if db.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
            for name in ("texts", "passages", "files"):
                db.execute(f"DROP TABLE IF EXISTS {name}")
            db.executescript(_SCHEMA)
            db.execute(f"PRAGMA user_version = {_VERSION}")
    except BaseException:
        db.close()
        raise
    return db


def files(folder: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """The notes below `folder` by relative path, sorted; links and what begins with a dot are passed over."""
    waiting = [folder]
    while waiting:
        try:
            with closing(os.scandir(waiting.pop())) as listing:
                entries = sorted(listing, key=lambda one: one.name)
        except OSError:
            continue
        for entry in entries:
            if entry.name.startswith(".") or entry.is_symlink():
                continue
            if entry.is_dir(follow_symlinks=False):
                waiting.append(Path(entry.path))
            elif entry.is_file(follow_symlinks=False) and entry.name.lower().endswith(SUFFIXES):
                yield Path(entry.path).relative_to(folder).as_posix(), entry


def _text(path: Path) -> str:
    """The words of a note. Raises `OSError`, and `ValueError` for what is none."""
    if not path.as_posix().isprintable():
        raise ValueError("its name cannot be shown")
    # A link that took the place of the file since it was listed is not followed either.
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as file:
        raw = file.read(LARGEST + 1)
    if len(raw) > LARGEST:
        raise ValueError(f"larger than {LARGEST >> 20} MB")
    if b"\0" in raw:
        raise ValueError("no text")
    return raw.decode("utf-8-sig", errors="replace")


def _put(db: sqlite3.Connection, collection: str, path: str, stamp: tuple[int, int], text: str) -> None:
    _drop(db, "collection = ? AND path = ?", [collection, path])
    file = db.execute(
        "INSERT INTO files (collection, path, mtime_ns, size) VALUES (?, ?, ?, ?)", [collection, path, *stamp]
    ).lastrowid
    for piece in cut(text):
        passage = db.execute(
            "INSERT INTO passages (file, first, last) VALUES (?, ?, ?)", [file, piece.first, piece.last]
        ).lastrowid
        db.execute(
            "INSERT INTO texts (rowid, trail, text) VALUES (?, ?, ?)",
            [passage, " > ".join(piece.trail), piece.text],
        )


def _drop(db: sqlite3.Connection, where: str, values: list[str]) -> None:
    files = f"SELECT id FROM files WHERE {where}"
    passages = f"SELECT id FROM passages WHERE file IN ({files})"
    db.execute(f"DELETE FROM texts WHERE rowid IN ({passages})", values)
    db.execute(f"DELETE FROM passages WHERE file IN ({files})", values)
    db.execute(f"DELETE FROM files WHERE {where}", values)
