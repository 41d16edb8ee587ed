"""What links over HTTPS look up: asks with their replies, as they lie ready or are waited for. Reads only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from bridge.journal.peers import ask_of
from bridge.link.beside import peer_of
from bridge.link.bodies import Kind

if TYPE_CHECKING:
    import sqlite3

    from bridge.journal.peers import Ask
    from bridge.journal.store import Store

_TELLINGS = 20
"""How many of the last envelopes are looked through for a card and a grant."""


class Beside:
    """The reads, each from one state of the database."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def places(self, account: str) -> dict[str, str]:
        """The places that are no rooms and in which we are, with their peers."""
        return await self._store.read(lambda db: _places(db, account))

    async def open(self, account: str, peer: str) -> list[tuple[Ask, str]]:
        """Our open asks of `peer`, oldest first, each with its task there (`""`: not known to be sent)."""
        return await self._store.read(lambda db: _open(db, account, peer))

    async def task(self, account: str, digest: str) -> str:
        """The task that an ask of ours became; `""`: it was not sent."""
        return await self._store.read(lambda db: _task(db, account, digest))

    async def asked_by(self, account: str, peer: str, name: str) -> tuple[Ask, str] | None:
        """The ask of `peer` with that id, and the sealed text that ended it (`""`: none lies ready)."""
        found = await self._store.read(lambda db: _asks(db, account, peer, "AND id = ?", [name]))
        return found[0] if found else None

    async def asks_by(self, account: str, peer: str, limit: int) -> list[tuple[Ask, str]]:
        """The newest asks of `peer`, likewise."""
        return await self._store.read(
            lambda db: _asks(db, account, peer, "ORDER BY seq DESC LIMIT ?", [limit])
        )

    async def told(self, account: str, place: str) -> list[str]:
        """The newest card, and the newest grant or revoke, that lie ready in `place`."""
        return await self._store.read(lambda db: _told(db, account, place))

    async def has_seen(self, account: str, peer: str, name: str) -> bool:
        """Whether an envelope of `peer` with that id was believed."""
        return await self._store.read(lambda db: _has_seen(db, account, peer, name))


def _places(db: sqlite3.Connection, account: str) -> dict[str, str]:
    rows = db.execute(
        "SELECT id FROM places WHERE account = ? AND joined AND links IS NOT NULL", [account]
    ).fetchall()
    return {row["id"]: peer for row in rows if (peer := peer_of(row["id"]))}


def _open(db: sqlite3.Connection, account: str, peer: str) -> list[tuple[Ask, str]]:
    rows = db.execute(
        "SELECT * FROM asks WHERE account = ? AND peer = ? AND ours AND state = 'open' ORDER BY seq",
        [account, peer],
    ).fetchall()
    return [(ask_of(row), _task(db, account, row["digest"])) for row in rows]


def _task(db: sqlite3.Connection, account: str, digest: str) -> str:
    row = db.execute(
        "SELECT a.remote_id FROM asks q JOIN actions a ON a.turn = q.turn AND a.kind = 'send_envelope' "
        "AND a.remote_id IS NOT NULL WHERE q.account = ? AND q.digest = ? AND q.ours",
        [account, digest],
    ).fetchone()
    return "" if row is None else str(row["remote_id"] or "")


def _asks(
    db: sqlite3.Connection, account: str, peer: str, which: str, values: list[object]
) -> list[tuple[Ask, str]]:
    rows = db.execute(
        f"SELECT * FROM asks WHERE account = ? AND peer = ? AND NOT ours {which}", [account, peer, *values]
    ).fetchall()
    return [(ask_of(row), _reply(db, account, row)) for row in rows]


def _reply(db: sqlite3.Connection, account: str, ask: sqlite3.Row) -> str:
    if ask["state"] not in ("answered", "refused"):
        return ""
    for text in _sent(db, account, ask["place"], ask["digest"]):
        header = json.loads(text)["envelope"]
        if header["prev"] == ask["digest"] and header["kind"] in (Kind.ANSWER, Kind.REFUSE):
            return text
    return ""


def _told(db: sqlite3.Connection, account: str, place: str) -> list[str]:
    newest: dict[str, str] = {}
    for text in _sent(db, account, place, "", _TELLINGS):
        match json.loads(text)["envelope"]["kind"]:
            case Kind.CARD:
                newest.setdefault("card", text)
            case Kind.GRANT | Kind.REVOKE:
                newest.setdefault("grant", text)
    return list(newest.values())


def _sent(db: sqlite3.Connection, account: str, place: str, within: str, limit: int = -1) -> list[str]:
    """The sealed texts that were let out in `place`, newest first; what was erased is not there."""
    rows = db.execute(
        "SELECT json_extract(payload, '$.envelope') AS text FROM actions WHERE account = ? AND place = ? "
        "AND kind = 'send_envelope' AND state = 'sent' AND instr(payload, ?) ORDER BY seq DESC LIMIT ?",
        [account, place, within, limit],
    )
    return [row["text"] for row in rows if row["text"]]


def _has_seen(db: sqlite3.Connection, account: str, peer: str, name: str) -> bool:
    found = db.execute("SELECT 1 FROM seen WHERE account = ? AND peer = ? AND id = ?", [account, peer, name])
    return found.fetchone() is not None
