"""What people may see of the journal: turns and actions without their words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from bots.base import Decided
from bridge.journal.rows import ActionRow, Counts, Legible, TurnDetail, TurnRow, Unread
from policies.verdict import Code, Verdict

if TYPE_CHECKING:
    import sqlite3

_TURN_COLUMNS = ", ".join(TurnRow.__dataclass_fields__)
MOST_UNREAD = 1_000
STUCK_AFTER_MS = 600_000
"""A turn that is open for longer than ten minutes is shown by `hearth turns stuck`."""


def turns(db: sqlite3.Connection, state: str | None, limit: int) -> list[TurnRow]:
    """The newest turns, newest first."""
    where, values = ("WHERE state = ?", [state]) if state else ("", [])
    rows = db.execute(
        f"SELECT {_TURN_COLUMNS} FROM turns {where} ORDER BY id DESC LIMIT ?",
        [*values, limit],
    )
    return [TurnRow(*row) for row in rows]


def unread(db: sqlite3.Connection, account: str, since: int) -> list[Unread]:
    """What people wrote since then (ms) and has no key here, oldest first; not from before we were there.

    Only in rooms of people: what another community's bot wrote in a link room it tells again itself.
    """
    rows = db.execute(
        "SELECT e.id, e.place, e.sender, e.sender_name, e.thread, e.sealed, e.admitted_at "
        "FROM events e JOIN places p ON p.account = e.account AND p.id = e.place "
        "WHERE e.account = ? AND e.sealed IS NOT NULL AND e.admitted_at > ? AND p.joined AND p.links IS NULL "
        "AND NOT e.context_only AND NOT e.own AND NOT e.sender_is_bot ORDER BY e.seq LIMIT ?",
        [account, since, MOST_UNREAD],
    )
    return [Unread(*row) for row in rows]


def legible(db: sqlite3.Connection, account: str) -> list[Legible]:
    """The encrypted places that we are in: what others wrote there that could be read, and what not."""
    rows = db.execute(
        "SELECT p.id, p.name, count(e.sealed), max(CASE WHEN e.sealed IS NOT NULL THEN e.admitted_at END), "
        "max(CASE WHEN e.kind = 'message' THEN e.admitted_at END) FROM places p "
        "LEFT JOIN events e ON e.account = p.account AND e.place = p.id AND NOT e.own AND NOT e.context_only "
        "WHERE p.account = ? AND p.joined AND p.must_encrypt GROUP BY p.id ORDER BY p.id",
        [account],
    )
    return [Legible(*row) for row in rows]


def turn(db: sqlite3.Connection, turn_id: int) -> TurnDetail | None:
    """One turn with its actions and the turns that continued it."""
    row = db.execute(f"SELECT {_TURN_COLUMNS} FROM turns WHERE id = ?", [turn_id]).fetchone()
    if row is None:
        return None
    children = db.execute(
        f"SELECT {_TURN_COLUMNS} FROM turns WHERE parent = ? ORDER BY id",
        [turn_id],
    )
    return TurnDetail(
        TurnRow(*row), actions(db, "turn = ?", [turn_id]), tuple(TurnRow(*child) for child in children)
    )


def actions(db: sqlite3.Connection, where: str, values: list[object]) -> tuple[ActionRow, ...]:
    """Actions that match, oldest first."""
    rows = db.execute(
        "SELECT key, kind, role, idx, state, attempts, remote_id, error, possible_duplicates, created_at, "
        f"done_at FROM actions WHERE {where} ORDER BY seq",
        values,
    )
    return tuple(ActionRow(*row) for row in rows)


def stuck(db: sqlite3.Connection, now: int) -> tuple[list[TurnRow], tuple[ActionRow, ...]]:
    """Turns that are parked or open for long, and actions that are parked or keep failing."""
    rows = db.execute(
        f"SELECT {_TURN_COLUMNS} FROM turns WHERE state = 'parked' "
        "OR (state IN ('pending', 'running') AND created_at < ?) ORDER BY id",
        [now - STUCK_AFTER_MS],
    )
    return (
        [TurnRow(*row) for row in rows],
        actions(db, "state = 'parked' OR (state = 'pending' AND attempts > 0)", []),
    )


def retry(db: sqlite3.Connection, turn_id: int) -> bool:
    """Give a parked turn, and the parked actions of any turn, another chance; False if nothing is parked."""
    turn_cursor = db.execute(
        "UPDATE turns SET state = 'pending', outcome = NULL, attempts = 0, deaths = 0, not_before = 0, "
        "settled_at = NULL WHERE id = ? AND state = 'parked'",
        [turn_id],
    )
    action_cursor = db.execute(
        "UPDATE actions SET state = 'pending', attempts = 0, not_before = 0, error = NULL "
        "WHERE turn = ? AND state = 'parked'",
        [turn_id],
    )
    return turn_cursor.rowcount + action_cursor.rowcount > 0


def counts(db: sqlite3.Connection) -> Counts:
    """How much is open."""
    row = db.execute(
        "SELECT "
        "(SELECT count(*) FROM turns WHERE state = 'pending'), "
        "(SELECT count(*) FROM turns WHERE state = 'running'), "
        "(SELECT count(*) FROM turns WHERE state = 'waiting'), "
        "(SELECT count(*) FROM turns WHERE state = 'parked'), "
        "(SELECT count(*) FROM actions WHERE state = 'pending'), "
        "(SELECT count(*) FROM actions WHERE state = 'parked'), "
        "(SELECT count(*) FROM events WHERE sealed IS NOT NULL)"
    ).fetchone()
    return Counts(*row)


def decided(db: sqlite3.Connection, account: str, place: str, event_id: str) -> Decided | None:
    """What was decided about a message of this place, or about the message that one of ours answers."""
    row = db.execute(
        "SELECT t.* FROM turns t WHERE t.account = ? AND t.place = ? AND (t.message = ? OR t.id = "
        "(SELECT turn FROM actions WHERE account = ? AND remote_id = ?)) ORDER BY t.id DESC LIMIT 1",
        [account, place, event_id, account, event_id],
    ).fetchone()
    if row is None:
        return _control(db, account, place, event_id)
    verdict = None
    if row["code"] is not None:
        verdict = Verdict(
            row["outcome"] in ("answered", "continued") or row["code"] == Code.ALLOWED,
            Code(row["code"]),
            row["rule"],
            json.loads(row["params"]),
            row["remedy"],
        )
    sent = actions(db, "turn = ?", [row["id"]])
    features = json.loads(row["features"] or "{}")
    return Decided(
        state=row["state"],
        verdict=verdict,
        outcome=row["outcome"],
        deliveries=tuple(action.state for action in sent),
        possible_duplicates=sum(action.possible_duplicates for action in sent),
        notes=str(features.get("notes", "")),
        chosen=str(features.get("chosen", "")),
        peer=str(features.get("peer", "")),
        among=int(features.get("among", 0)),
    )


def _control(db: sqlite3.Connection, account: str, place: str, event_id: str) -> Decided | None:
    row = db.execute(
        "SELECT * FROM audit WHERE account = ? AND place = ? AND cause = ? ORDER BY id DESC LIMIT 1",
        [account, place, event_id],
    ).fetchone()
    if row is None:
        return None
    verdict = Verdict(bool(row["allowed"]), Code(row["code"]), row["rule"], json.loads(row["params"]))
    return Decided(state="settled", verdict=verdict, outcome=None)


def asked(db: sqlite3.Connection, account: str, place: str, since: int) -> tuple[dict[str, object], ...]:
    """Features of the questions that were put to the model in a place since then (ms)."""
    rows = db.execute(
        "SELECT features FROM turns WHERE account = ? AND place = ? AND bot = 'chat' AND created_at >= ? "
        "AND state = 'settled' ORDER BY id DESC LIMIT 10000",
        [account, place, since],
    ).fetchall()
    return tuple(json.loads(row["features"]) for row in rows)
