"""Peers and what is asked over links, as the journal has it.

peers   what we know of each bot of another community: its card (believed by nobody), its grant for us
asks    questions in both directions: open --> answered | refused | ended | cancelled | dropped
seen    what was opened before, so that nothing is taken twice
"""

from __future__ import annotations

import json
from statistics import median
from typing import TYPE_CHECKING, Final

from bots.base import Peer

if TYPE_CHECKING:
    import sqlite3

COUNTED: Final = 30
"""Our last questions to a peer, by which it is chosen."""


def peers(db: sqlite3.Connection, account: str, place: str) -> tuple[Peer, ...]:
    """The peers that `place` has a grant for, or that we share a link room with; sorted by address."""
    there = linked(db, account)
    row = db.execute("SELECT grants FROM places WHERE account = ? AND id = ?", [account, place]).fetchone()
    granted = [] if row is None else [peer for peer, _ in json.loads(row["grants"])]
    return tuple(_peer(db, account, one, linked=one in there) for one in sorted({*granted, *there}))


def linked(db: sqlite3.Connection, account: str) -> dict[str, str]:
    """The link room of each peer that is in one with us. Of several it is the same one on both sides."""
    rows = db.execute(
        "SELECT p.id, j.value AS peer FROM places p, json_each(p.links) j "
        "WHERE p.account = ? AND p.joined AND p.links IS NOT NULL ORDER BY p.id DESC",
        [account],
    )
    return {row["peer"]: row["id"] for row in rows}


def _peer(db: sqlite3.Connection, account: str, peer: str, *, linked: bool) -> Peer:
    row = db.execute("SELECT * FROM peers WHERE account = ? AND peer = ?", [account, peer]).fetchone()
    asks = db.execute(
        "SELECT iat, closed_at, state FROM asks WHERE account = ? AND peer = ? AND ours "
        "AND state != 'open' ORDER BY iat DESC LIMIT ?",
        [account, peer, COUNTED],
    ).fetchall()
    waits = [one["closed_at"] - one["iat"] for one in asks if one["state"] == "answered"]
    return Peer(
        address=peer,
        name="" if row is None else row["name"],
        key="" if row is None else row["shown_key"],
        capabilities=() if row is None else tuple(json.loads(row["capabilities"])),
        languages=() if row is None else tuple(json.loads(row["languages"])),
        linked=linked,
        asked=len(asks),
        answered=len(waits),
        wait_ms=round(median(waits)) if waits else None,
    )
