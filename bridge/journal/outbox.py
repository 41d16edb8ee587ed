"""The outbox: actions with their keys and frozen payloads, delivered in order within a place.

T2b and T3 put actions in, T4 marks them sent. A withdrawn action that turns out to have been sent
after all (a late acknowledgement, or its echo in a later batch) queues its own redaction.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bots.conversation import (
    ACTIONS,
    Action,
    ClosePoll,
    Keyed,
    PutState,
    Redact,
    Revise,
    Role,
    Say,
    Upload,
    action_key,
)
from bridge.journal import crossings
from bridge.journal.crossings import Crossing
from bridge.platform import Event, EventKind, StoredAction
from policies.document import STATE_TYPE
from policies.grant import GRANT_TYPE
from policies.verdict import Code

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence


def put(
    db: sqlite3.Connection,
    turn: sqlite3.Row | Mapping[str, Any],
    keyed: Keyed,
    *,
    device: str,
    now: int,
) -> str:
    """Store one action of `turn` under the key of its cause; a key that exists already stays as it is."""
    action = keyed.action
    key = key_of(turn, keyed.role, keyed.index)
    _insert(db, key, turn["account"], turn["place"], turn["id"], keyed.role, keyed.index, action, device, now)
    return key


def key_of(turn: sqlite3.Row | Mapping[str, Any], role: Role, index: int) -> str:
    """The key of an action of `turn`."""
    return action_key(turn["account"], turn["place"], turn["bot"], turn["cause"], role, index)


def _insert(
    db: sqlite3.Connection,
    key: str,
    account: str,
    place: str,
    turn: int | None,
    role: Role,
    index: int,
    action: Action,
    device: str,
    now: int,
) -> None:
    target: str | None = None
    match action:
        case Revise() | Redact() | ClosePoll():
            target = action.target
        case Say():
            target = action.upload or action.follows
    db.execute(
        "INSERT OR IGNORE INTO actions "
        "(key, account, place, turn, kind, role, idx, payload, target, state, device, created_at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending', ?, ?)",
        [
            key,
            account,
            place,
            turn,
            action.kind,
            str(role),
            index,
            json.dumps(asdict(action)),
            target,
            device,
            now,
        ],
    )


def decode(kind: str, payload: str) -> Action:
    """The action that `put` froze."""
    fields = json.loads(payload)
    for name in ("mentions", "watchers"):
        if name in fields:
            fields[name] = tuple(fields[name])
    return ACTIONS[kind](**fields)


def due(
    db: sqlite3.Connection, account: str, now: int, limit: int, busy: frozenset[str]
) -> list[StoredAction]:
    """The first pending action of each place that is not `busy`, if its time has come."""
    heads = db.execute(
        "SELECT a.*, t.remote_id AS target_remote, t.state AS target_state, p.must_encrypt FROM actions a "
        "LEFT JOIN actions t ON t.key = a.target "
        "LEFT JOIN places p ON p.account = a.account AND p.id = a.place "
        "WHERE a.seq IN "
        "(SELECT min(seq) FROM actions WHERE account = ? AND state = 'pending' GROUP BY place) "
        "AND a.not_before <= ? ORDER BY a.seq",
        [account, now],
    ).fetchall()
    return [
        StoredAction(
            key=row["key"],
            place=row["place"],
            action=decode(row["kind"], row["payload"]),
            created_at=row["created_at"],
            device=row["device"],
            attempts=row["attempts"],
            target=row["target_remote"],
            must_encrypt=bool(row["must_encrypt"]),
        )
        for row in heads
        if row["place"] not in busy
    ][:limit]


def next_due(db: sqlite3.Connection, account: str, busy: frozenset[str]) -> int | None:
    """When the earliest pending head of a place that is not `busy` may be tried (ms), or None."""
    heads = db.execute(
        "SELECT place, not_before FROM actions WHERE seq IN "
        "(SELECT min(seq) FROM actions WHERE account = ? AND state = 'pending' GROUP BY place)",
        [account],
    )
    return min((row["not_before"] for row in heads if row["place"] not in busy), default=None)


def acknowledge(db: sqlite3.Connection, key: str, remote_id: str | None, now: int) -> bool:
    """T4: the server has it. True if that queued something (the redaction of a withdrawn action)."""
    row = db.execute("SELECT * FROM actions WHERE key = ?", [key]).fetchone()
    if row is None or row["remote_id"] is not None:
        return False
    if row["state"] == "withdrawn":
        db.execute("UPDATE actions SET remote_id = ?, done_at = ? WHERE key = ?", [remote_id, now, key])
        return _redact(db, row, now)
    db.execute(
        "UPDATE actions SET state = 'sent', remote_id = ?, done_at = ?, error = NULL WHERE key = ?",
        [remote_id, now, key],
    )
    return False


def echoed(db: sqlite3.Connection, account: str, key: str, event_id: str, now: int) -> bool:
    """One of our own events came back with its key: as good as the acknowledgement, if that got lost."""
    known = db.execute("SELECT 1 FROM actions WHERE account = ? AND key = ?", [account, key]).fetchone()
    return known is not None and acknowledge(db, key, event_id, now)


def retry(db: sqlite3.Connection, key: str, error: str, not_before: int) -> None:
    """This time it did not work: try again at `not_before`."""
    db.execute(
        "UPDATE actions SET attempts = attempts + 1, error = ?, not_before = ? "
        "WHERE key = ? AND state = 'pending'",
        [error, not_before, key],
    )


def park(db: sqlite3.Connection, key: str, error: str, now: int) -> None:
    """This will never work: out of the way, and visible in `hearth turns stuck`.

    In a place that we have left there is nothing to mend; it is withdrawn like the rest there.
    """
    db.execute(
        "UPDATE actions SET attempts = attempts + 1, error = ?, done_at = ?, "
        "state = CASE WHEN EXISTS (SELECT 1 FROM places p WHERE p.account = actions.account "
        "AND p.id = actions.place AND NOT p.joined) THEN 'withdrawn' ELSE 'parked' END "
        "WHERE key = ? AND state = 'pending'",
        [error, now, key],
    )


def count_possible_duplicate(db: sqlite3.Connection, key: str) -> None:
    """The server may have it and cannot say: it is sent again, counted and shown."""
    db.execute("UPDATE actions SET possible_duplicates = possible_duplicates + 1 WHERE key = ?", [key])


def withdraw(db: sqlite3.Connection, turn: int, now: int) -> bool:
    """The question of `turn` was taken back: unsent words go, sent words are redacted.

    True if it ended what a peer was asked.
    """
    ended = cancel_asked(db, turn, now)
    rows = db.execute("SELECT * FROM actions WHERE turn = ? AND kind != 'redact'", [turn]).fetchall()
    for row in rows:
        # What the room has decided, or an admin has set, is not undone by taking back the command for it.
        if row["state"] == "sent" and row["kind"] not in (Upload.kind, PutState.kind, ClosePoll.kind):
            _redact(db, row, now)
        elif row["state"] == "pending":
            db.execute("UPDATE actions SET state = 'withdrawn', done_at = ? WHERE key = ?", [now, row["key"]])
    erase_payloads(db, "turn = ?", [turn])
    return ended


def cancel_asked(db: sqlite3.Connection, turn: int, now: int) -> bool:
    """What a peer was asked for a turn is over: it is not sent any more, or `bridge.links` tells the peer.

    True if there was something.
    """
    keep_envelopes(db, "turn = ?", [turn], "hearth.taken_back", now)
    cursor = db.execute(
        "UPDATE asks SET state = 'cancelling' WHERE turn = ? AND ours AND state = 'open'", [turn]
    )
    return cursor.rowcount > 0


def keep_envelopes(db: sqlite3.Connection, where: str, values: Sequence[object], rule: str, now: int) -> None:
    """Send the matching envelopes no more, and record that: that they were to leave has its entry already."""
    rows = db.execute(
        "SELECT * FROM actions WHERE kind = 'send_envelope' AND state = 'pending' "
        f"AND ({where}) ORDER BY seq",
        values,
    ).fetchall()
    for row in rows:
        text = json.loads(row["payload"])["envelope"]
        header = json.loads(text)["envelope"]
        kept = Crossing(
            at=now, peer=header["to"], place=row["place"], way="out", kind=header["kind"],
            envelope=header["id"], digest="", allowed=False, code=str(Code.WITHDRAWN), rule=rule, policy="",
            bytes=len(text.encode()),
        )  # fmt: skip
        crossings.append(db, row["account"], kept)
        db.execute("UPDATE actions SET state = 'withdrawn', done_at = ? WHERE key = ?", [now, row["key"]])
        erase_payloads(db, "key = ?", [row["key"]])


def taken_back(db: sqlite3.Connection, account: str, remote_id: str, now: int) -> None:
    """One of our own messages was redacted: its words go, and nothing may bring them back by an edit."""
    row = db.execute(
        "SELECT * FROM actions WHERE account = ? AND remote_id = ?", [account, remote_id]
    ).fetchone()
    if row is None:
        return
    db.execute(
        "UPDATE actions SET state = 'withdrawn', done_at = ? "
        "WHERE target = ? AND kind = 'revise' AND state = 'pending'",
        [now, row["key"]],
    )
    erase_payloads(db, "key = ? OR (target = ? AND kind = 'revise')", [row["key"], row["key"]])


def overtaken(db: sqlite3.Connection, account: str, event: Event, now: int) -> None:
    """Somebody has written a document: what we were about to write there was decided before that."""
    of = {EventKind.POLICY: (STATE_TYPE, ""), EventKind.GRANT: (GRANT_TYPE, event.relates_to)}.get(event.kind)
    if of is not None:
        db.execute(
            "UPDATE actions SET state = 'withdrawn', done_at = ? WHERE account = ? AND place = ? "
            "AND kind = 'put_state' AND state = 'pending' AND json_extract(payload, '$.type') = ? "
            "AND json_extract(payload, '$.state_key') = ?",
            [now, account, event.place, *of],
        )


def erase_payloads(db: sqlite3.Connection, where: str, values: list[object]) -> None:
    """Blank the words of the matching actions that are done; what is still to be sent keeps its own.

    Of an upload the remote id goes too: it holds the key of the file.
    """
    db.execute(
        "UPDATE actions SET payload = CASE kind WHEN 'send_envelope' "
        "THEN json_set(payload, '$.envelope', '', '$.body', '') ELSE json_set(payload, '$.text', '') END, "
        "remote_id = CASE kind WHEN 'upload' THEN '' ELSE remote_id END "
        "WHERE state != 'pending' AND kind IN "
        "('say', 'revise', 'upload', 'open_poll', 'close_poll', 'send_envelope') "
        f"AND ({where})",
        values,
    )


def first_key(db: sqlite3.Connection, turn: int) -> str | None:
    """The key of draft 0 of a turn that ran before and did not settle."""
    row = db.execute(
        "SELECT key FROM actions WHERE turn = ? AND role = 'answer' AND idx = 0 AND state != 'withdrawn'",
        [turn],
    ).fetchone()
    return None if row is None else str(row["key"])


def finish_draft(db: sqlite3.Connection, turn: sqlite3.Row, text: str, *, device: str, now: int) -> None:
    """Give the draft of a turn that ends without an answer its last words, if there is a draft."""
    key = first_key(db, turn["id"])
    if key is not None:
        put(db, turn, Keyed(Revise(key, text), Role.FINAL), device=device, now=now)


def said(db: sqlite3.Connection, root: int) -> tuple[str, ...]:
    """Keys of what `root` and its revisions said and did not take back, in order."""
    rows = db.execute(
        "SELECT a.key FROM actions a JOIN turns t ON t.id = a.turn "
        "WHERE (t.id = ? OR (t.parent = ? AND t.kind = 'revision')) "
        "AND a.kind = 'say' AND json_extract(a.payload, '$.upload') IS NULL "
        "AND a.state IN ('pending', 'sent') "
        "AND NOT EXISTS (SELECT 1 FROM actions r WHERE r.target = a.key AND r.kind = 'redact') "
        "ORDER BY a.seq",
        [root, root],
    ).fetchall()
    return tuple(row["key"] for row in rows)


def _redact(db: sqlite3.Connection, row: sqlite3.Row, now: int) -> bool:
    """Queue the redaction of a sent action. Its cause is that action, so it is queued once."""
    key = action_key(row["account"], row["place"], "", row["key"], Role.REDACT, 0)
    _insert(
        db,
        key,
        row["account"],
        row["place"],
        row["turn"],
        Role.REDACT,
        0,
        Redact(row["key"]),
        row["device"],
        now,
    )
    return True
