"""What is remembered of conversations, and how it is forgotten.

Memory is not a copy: it is the text of the admitted events, read as the latest edit has it. So
what a redaction, `!forget` or the retention erases there is gone everywhere.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from bots.conversation import Attachment, Message, Person, Place, PlaceKind
from bridge.journal import outbox
from bridge.platform import EventKind, PlaceFacts
from models.transcript import Segment, Transcript, Word
from policies.document import Standing

if TYPE_CHECKING:
    import sqlite3

_LATEST_TEXT = (
    "coalesce((SELECT x.text FROM events x WHERE x.account = e.account AND x.relates_to = e.id "
    "AND x.kind = 'edit' AND x.sender = e.sender AND x.text IS NOT NULL ORDER BY x.seq DESC LIMIT 1), e.text)"
)


def place(db: sqlite3.Connection, account: str, place_id: str) -> PlaceFacts | None:
    """What is known of a place, or None before its first batch."""
    row = db.execute("SELECT * FROM places WHERE account = ? AND id = ?", [account, place_id]).fetchone()
    if row is None:
        return None
    return PlaceFacts(
        place=Place(
            account,
            place_id,
            PlaceKind(row["kind"]),
            row["name"],
            policy=_standing(row["held"]),
            written=_standing(row["policy"]),
            base=row["base"],
            grants=tuple((peer, Standing(**one)) for peer, one in json.loads(row["grants"])),
        ),
        members=members(row),
        must_encrypt=bool(row["must_encrypt"]),
        joined=bool(row["joined"]),
        default_power=row["default_power"],
        policy_power=row["policy_power"],
        ruled_by_members=bool(row["ruled_by_members"]),
        levels_power=row["levels_power"],
        moved_to=row["moved_to"],
        links=None if row["links"] is None else tuple(json.loads(row["links"])),
    )


def members(row: sqlite3.Row) -> tuple[Person, ...]:
    """Who is in the place of `row`."""
    return tuple(Person(*member) for member in json.loads(row["members"]))


def places(db: sqlite3.Connection) -> tuple[Place, ...]:
    """Every place that we are in, by account and id."""
    rows = db.execute("SELECT account, id FROM places WHERE joined ORDER BY account, id").fetchall()
    found = [place(db, row["account"], row["id"]) for row in rows]
    return tuple(one.place for one in found if one is not None)


def _standing(text: str | None) -> Standing | None:
    return None if text is None else Standing(**json.loads(text))


def message(db: sqlite3.Connection, account: str, event_id: str) -> Message | None:
    """One message with its latest text (`""` once erased)."""
    row = db.execute(
        f"SELECT e.*, {_LATEST_TEXT} AS latest FROM events e WHERE e.account = ? AND e.id = ?",
        [account, event_id],
    ).fetchone()
    return None if row is None else _message(row)


def context(
    db: sqlite3.Connection, account: str, place_id: str, thread: str | None, before: str, limit: int
) -> tuple[Message, ...]:
    """The last `limit` messages before event `before`, oldest first: those of the thread, or of the room.

    Of our own words only the answers to questions, written or spoken, count; commands and their
    replies are left out. A voice message has the words that were heard in it.
    """
    rows = db.execute(
        f"SELECT e.*, {_LATEST_TEXT} AS latest FROM events e "
        "LEFT JOIN actions a ON a.key = e.key LEFT JOIN turns t ON t.id = a.turn "
        "WHERE e.account = :account AND e.place = :place AND e.kind = 'message' "
        "AND e.text IS NOT NULL AND e.text != '' "
        "AND e.seq < (SELECT seq FROM events WHERE account = :account AND id = :before) "
        "AND (e.thread IS :thread OR e.id = :thread) "
        "AND (e.own = 0 OR (t.outcome = 'answered' "
        "AND (t.bot = 'chat' OR (t.bot = 'scribe' AND t.about = t.message)))) "
        "AND NOT EXISTS (SELECT 1 FROM turns s WHERE s.account = e.account AND s.message = e.id "
        "AND (s.bot = 'steward' OR (s.bot = 'envoy' AND s.kind = 'message') "
        "OR (s.bot = 'scribe' AND s.about IS NOT s.message))) "
        "AND e.control IS NULL "
        "ORDER BY e.seq DESC LIMIT :limit",
        {"account": account, "place": place_id, "thread": thread, "before": before, "limit": limit},
    ).fetchall()
    return tuple(_message(row) for row in reversed(rows))


def _message(row: sqlite3.Row) -> Message:
    return Message(
        id=row["id"],
        sender=Person(row["sender"], row["sender_name"], row["sender_power"], bool(row["sender_is_bot"])),
        text=row["latest"] or "",
        sent_at=row["sent_at"],
        thread=row["thread"],
        reply_to=row["reply_to"],
        own=bool(row["own"]),
        attachments=tuple(Attachment(**one) for one in json.loads(row["attachments"])),
        sign_on=row["relates_to"] if row["kind"] == EventKind.REACTION else None,
    )


def transcript(db: sqlite3.Connection, account: str, event_id: str) -> Transcript | None:
    """What was heard in a message, or None if nobody listened or it was erased."""
    row = db.execute(
        "SELECT transcript FROM transcripts WHERE account = ? AND event = ?", [account, event_id]
    ).fetchone()
    if row is None:
        return None
    stored = json.loads(row["transcript"])
    segments = (
        Segment(**(one | {"words": tuple(Word(**word) for word in one["words"])}))
        for one in stored["segments"]
    )
    return Transcript(**(stored | {"segments": tuple(segments)}))


def remember(db: sqlite3.Connection, account: str, event_id: str, heard: Transcript, now: int) -> None:
    """Keep what was heard in a message as its words, unless the message was erased meanwhile."""
    kept = db.execute(
        "INSERT OR REPLACE INTO transcripts (account, event, transcript, made_at) "
        "SELECT account, id, ?, ? FROM events WHERE account = ? AND id = ? AND text IS NOT NULL",
        [json.dumps(asdict(heard)), now, account, event_id],
    )
    if kept.rowcount:
        db.execute(
            "UPDATE events SET text = ? WHERE account = ? AND id = ? AND text = ''",
            [heard.text, account, event_id],
        )


# -- erasing ---------------------------------------------------------------------------------------


def erase_event(db: sqlite3.Connection, account: str, event_id: str) -> None:
    """Erase the words of one event and of the edits of it."""
    db.execute(
        "UPDATE events SET text = NULL, sealed = NULL, sender_name = '' "
        "WHERE account = ? AND (id = ? OR (relates_to = ? AND kind = 'edit'))",
        [account, event_id, event_id],
    )


def erase_answers(db: sqlite3.Connection, account: str, turn: int) -> None:
    """Erase the echoes of what a turn said; the outbox erases its own copies."""
    db.execute(
        "UPDATE events SET text = NULL WHERE account = ? AND own "
        "AND key IN (SELECT key FROM actions WHERE turn = ?)",
        [account, turn],
    )


def is_withdrawn(db: sqlite3.Connection, account: str, key: str) -> bool:
    """Whether the action `key` was withdrawn, or the question that it answers was."""
    row = db.execute(
        "SELECT 1 FROM actions a LEFT JOIN turns t ON t.id = a.turn WHERE a.account = ? AND a.key = ? "
        "AND (a.state = 'withdrawn' OR t.outcome = 'withdrawn')",
        [account, key],
    ).fetchone()
    return row is not None


def forget_person(db: sqlite3.Connection, account: str, person: str, now: int) -> None:
    """Erase what `person` said anywhere on this account and what was answered to it.

    A question of theirs that is still open keeps its words until it is settled; what was held back of
    an answer is not kept for them any longer.
    """
    _end_waits(db, "account = ? AND asker = ?", [account, person], now)
    _erase_events(
        db,
        "account = ? AND (sender = ? "
        "OR reply_to IN (SELECT id FROM events WHERE account = ? AND sender = ?) "
        # Our own edits reply to nothing; their keys lead to the question.
        "OR key IN (SELECT a.key FROM actions a JOIN turns t ON t.id = a.turn "
        "WHERE t.account = ? AND t.asker = ?))",
        [account, person, account, person, account, person],
    )
    outbox.erase_payloads(
        db, "turn IN (SELECT id FROM turns WHERE account = ? AND asker = ?)", [account, person]
    )


def forget_place(db: sqlite3.Connection, account: str, place_id: str, now: int) -> None:
    """Erase everything that was said in a place."""
    _end_waits(db, "account = ? AND place = ?", [account, place_id], now)
    # What was asked of peers from there stands in their link rooms.
    turns = "SELECT id FROM turns WHERE account = ? AND place = ?"
    _erase_events(
        db,
        f"account = ? AND (place = ? OR key IN (SELECT key FROM actions WHERE turn IN ({turns})))",
        [account, place_id, account, place_id],
    )
    outbox.erase_payloads(
        db, f"account = ? AND (place = ? OR turn IN ({turns}))", [account, place_id, account, place_id]
    )


def expire(db: sqlite3.Connection, before: int) -> int:
    """Retention: erase words admitted before `before` (ms); the number of events erased.

    Verdicts and features stay. What is still to be answered or sent keeps its words.
    """
    erased = _erase_events(db, "admitted_at < ?", [before])
    words = "coalesce(json_extract(payload, '$.text'), json_extract(payload, '$.envelope'))"
    outbox.erase_payloads(db, f"created_at < ? AND {words} != ''", [before])
    return erased


def _end_waits(db: sqlite3.Connection, where: str, values: list[object], now: int) -> None:
    """Settle what waits for a reply: its state holds words. A wait that goes on already ends by itself.

    What a peer was asked for it is over, and the peer is told.
    """
    db.execute(
        "UPDATE asks SET state = 'cancelling' WHERE ours AND state = 'open' "
        f"AND turn IN (SELECT id FROM turns WHERE state = 'waiting' AND ({where}))",
        values,
    )
    over = "turn IN (SELECT turn FROM asks WHERE ours AND state = 'cancelling')"
    outbox.keep_envelopes(db, over, [], "hearth.taken_back", now)
    ended = 1
    while ended:  # whoever waited for the one that ended now
        ended = db.execute(
            "UPDATE turns AS t SET state = 'settled', outcome = 'continued', revision = revision + 1, "
            "settled_at = coalesce(settled_at, created_at), wait_until = NULL, wait_state = NULL "
            f"WHERE state = 'waiting' AND ({where}) AND NOT EXISTS (SELECT 1 FROM turns c "
            "WHERE c.parent = t.id AND c.kind IN ('answered', 'deadline') "
            "AND c.state IN ('pending', 'running', 'waiting'))",
            values,
        ).rowcount


def _erase_events(db: sqlite3.Connection, where: str, values: list[object]) -> int:
    # Also the edits of an erased message: `relates_to` finds them through their own row, which
    # the same condition (sender, place, age) covers.
    cursor = db.execute(
        "UPDATE events SET text = NULL, sealed = NULL, sender_name = '' "
        f"WHERE (text IS NOT NULL OR sealed IS NOT NULL) AND ({where}) "
        "AND NOT EXISTS (SELECT 1 FROM turns t WHERE t.account = events.account "
        "AND (t.message IN (events.id, events.relates_to) OR t.about = events.id) "
        "AND t.state IN ('pending', 'running', 'waiting'))",
        values,
    )
    return cursor.rowcount
