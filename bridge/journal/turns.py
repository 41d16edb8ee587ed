"""Turns from claim to settlement: T2, T2b, T3, and what happens to them when the process dies."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from bots.conversation import Keyed, Person, Role, Say, Turn, TurnKind
from bridge.journal import documents, links, memory, outbox, votes
from bridge.journal.admit import ENVOY, NOT_CONTINUED, close_turn
from bridge.journal.rows import LONG, Claimed, Control, Counters, Outcome, Settlement
from bridge.platform import Event, EventKind
from policies.decide import LOOP_WINDOW_MS
from policies.room import Trust
from policies.verdict import Code, Verdict

if TYPE_CHECKING:
    import sqlite3

DAY_MS = 86_400_000
_ANSWERED = "(outcome = 'answered' OR state = 'waiting')"
"""SQL: what counts as answered. A turn that waits has had its answer, or a part of it."""
_ORPHAN = Verdict(False, Code.FAILED, "hearth.orphan", remedy="ask_operator")
MAX_DEATHS = 10
"""Deaths of the process during one turn before the turn is suspected and parked."""


def claim(
    db: sqlite3.Connection, account: str, now: int, limit: int, context_messages: int, long_at_once: int
) -> list[Claimed]:
    """T2: mark up to `limit` pending turns as running, one per lane, places with less running first.

    People here come before bots of other communities, however many of those have asked before them. Of
    the `long` lanes at most `long_at_once` run, so that talk always finds a place.
    """
    rows = db.execute(
        "WITH running AS (SELECT account, place, lane FROM turns WHERE state = 'running'), "
        "heads AS (SELECT min(id) AS id FROM turns WHERE state = 'pending' AND account = ? GROUP BY lane) "
        "SELECT t.id, t.lane FROM turns t JOIN heads h ON h.id = t.id WHERE t.not_before <= ? "
        "AND NOT EXISTS (SELECT 1 FROM running r WHERE r.account = t.account AND r.lane = t.lane) "
        "ORDER BY t.kind = 'asked', "
        "(SELECT count(*) FROM running r WHERE r.account = t.account AND r.place = t.place), t.id",
        [account, now],
    ).fetchall()
    long = db.execute(
        "SELECT count(*) AS count FROM turns WHERE state = 'running' AND account = ? AND lane LIKE ?",
        [account, f"%{LONG}"],
    ).fetchone()["count"]
    claimed: list[Claimed] = []
    for head in rows:
        if len(claimed) >= limit:
            break
        if head["lane"].endswith(LONG):
            if long >= long_at_once:
                continue
            long += 1
        row = db.execute("SELECT * FROM turns WHERE id = ?", [head["id"]]).fetchone()
        db.execute("UPDATE turns SET state = 'running', claimed_at = ? WHERE id = ?", [now, row["id"]])
        one = _claimed(db, row, now, context_messages)
        if one is None:  # nothing makes such a row; if one is there, it must not hold up the others
            close_turn(db, row["id"], Outcome.FAILED, _ORPHAN, now)
        else:
            claimed.append(one)
    return claimed


def _claimed(db: sqlite3.Connection, row: sqlite3.Row, now: int, context_messages: int) -> Claimed | None:
    """The turn with everything around it, or None where its place or message is missing."""
    account, place_id = row["account"], row["place"]
    facts = memory.place(db, account, place_id)
    message = memory.message(db, account, row["message"])
    if facts is None or message is None:
        return None
    kind = TurnKind(row["kind"])
    asked = kind is TurnKind.ASKED
    waited = (
        row if asked else db.execute("SELECT wait_state FROM turns WHERE id = ?", [row["parent"]]).fetchone()
    )
    told = json.loads(waited["wait_state"]) if waited and waited["wait_state"] else {}
    if asked:  # the message is the envelope
        message = replace(message, text=str(told.get("question", "")))
    cause = db.execute(
        "SELECT age_ms, admitted_at FROM events WHERE account = ? AND id = ?", [account, row["cause"]]
    ).fetchone()
    draft = outbox.first_key(db, row["id"])
    root = row["parent"] if kind is TurnKind.REVISION else None
    return Claimed(
        turn=Turn(
            id=row["id"],
            kind=kind,
            place=facts.place,
            cause=row["cause"],
            message=message,
            bot=row["bot"],
            context=()
            if asked
            else memory.context(db, account, place_id, row["thread"], row["message"], context_messages),
            waited=told,
            about=memory.message(db, account, row["about"]) if row["about"] else None,
            heard=memory.transcript(db, account, row["about"]) if row["about"] else None,
            unasked=bool(row["unasked"]),
        ),
        lane=row["lane"],
        revision=row["revision"],
        attempts=row["attempts"],
        age_ms=0 if cause is None else cause["age_ms"] + now - cause["admitted_at"],
        facts=facts,
        counters=counters(db, account, place_id, row["asker"], now),
        draft_key=draft,
        said=outbox.said(db, root) if root is not None else (),
        parent=row["parent"],
        waiting_key=None if row["parent"] is None else outbox.first_key(db, row["parent"]),
        trust=_trust(db, account, row["message"], row["cause"]),
    )


def _trust(db: sqlite3.Connection, account: str, message: str, cause: str) -> Trust:
    """What vouches for a question: the least of all devices that had a hand in its words.

    A server that is not to be believed can put an edit of its own behind what somebody encrypted.
    """
    rows = db.execute(
        "SELECT trust FROM events WHERE account = ?1 AND (id IN (?2, ?3) OR (kind = 'edit' "
        "AND relates_to = ?2 AND sender = (SELECT sender FROM events WHERE account = ?1 AND id = ?2)))",
        [account, message, cause],
    ).fetchall()
    found = {Trust(one["trust"]) for one in rows}
    return next((one for one in reversed(Trust) if one in found), Trust.UNSIGNED)


def counters(db: sqlite3.Connection, account: str, place_id: str, asker: str, now: int) -> Counters:
    """The facts that quotas and the loop budget look at."""
    row = db.execute(
        "SELECT "
        "(SELECT count(*) FROM turns WHERE account = :account AND asker = :asker "
        f" AND bot IN ('chat', 'scribe') AND {_ANSWERED} AND created_at > :day) AS asked_today, "
        "(SELECT count(*) FROM turns WHERE account = :account AND place = :place "
        f" AND bot IN ('chat', 'scribe') AND {_ANSWERED} AND created_at > :day) AS place_today, "
        "(SELECT count(*) FROM turns WHERE account = :account AND place = :place AND asker = :asker "
        # What came back from a peer is no message of whoever asked: it has the question for its message.
        " AND created_at > :minute AND NOT (kind = 'answered' AND bot = 'envoy' AND EXISTS "
        "(SELECT 1 FROM asks k WHERE k.turn = turns.parent AND k.ours))) AS recent, "
        "(SELECT count(*) FROM turns WHERE account = :account AND place = :place AND asker = :asker "
        " AND created_at > :minute AND code = 'loop') AS loop_notices, "
        "(SELECT count(*) FROM turns WHERE account = :account AND asker = :asker AND outcome = 'refused' "
        " AND created_at > :day AND EXISTS (SELECT 1 FROM actions a WHERE a.turn = turns.id)) "
        "AS refused_today",
        {
            "account": account,
            "asker": asker,
            "place": place_id,
            "day": now - DAY_MS,
            "minute": now - LOOP_WINDOW_MS,
        },
    ).fetchone()
    return Counters(
        row["asked_today"], row["place_today"], row["recent"], row["loop_notices"], row["refused_today"]
    )


def answered(db: sqlite3.Connection, account: str, since: int, limit: int) -> tuple[Event, ...]:
    """The messages admitted after `since` (ms) to which we said something, newest `limit`, oldest first."""
    rows = db.execute(
        "SELECT * FROM events e WHERE e.account = ? AND e.admitted_at > ? AND e.text IS NOT NULL "
        "AND EXISTS (SELECT 1 FROM turns t JOIN actions a ON a.turn = t.id WHERE t.account = e.account "
        "AND t.message = e.id AND a.state = 'sent') ORDER BY e.seq DESC LIMIT ?",
        [account, since, limit],
    ).fetchall()
    return tuple(
        Event(
            id=row["id"],
            place=row["place"],
            kind=EventKind(row["kind"]),
            sender=Person(row["sender"], row["sender_name"], row["sender_power"], bool(row["sender_is_bot"])),
            sent_at=row["sent_at"],
        )
        for row in reversed(rows)
    )


def draft(db: sqlite3.Connection, claimed: Claimed, keyed: Keyed, device: str, now: int) -> str | None:
    """T2b: store draft 0 before it is sent; its key, or None if the turn is no longer ours."""
    row = _ours(db, claimed)
    return None if row is None else outbox.put(db, row, keyed, device=device, now=now)


def settle(db: sqlite3.Connection, claimed: Claimed, settlement: Settlement, device: str, now: int) -> bool:
    """T3: outcome, verdict and actions of a running turn, at once.

    False (and nothing done) if the turn is no longer running under the revision that was claimed:
    its question was edited, taken back or stopped meanwhile.
    """
    row = _ours(db, claimed)
    if row is None:
        return False
    for keyed in settlement.actions:
        outbox.put(db, row, keyed, device=device, now=now)
    if settlement.vote is not None:
        votes.open_one(db, row, settlement.vote, device=device, now=now)
    if settlement.step is not None:
        links.apply(db, row, settlement.step, device=device, now=now)
    if settlement.documents:
        documents.set_for_account(db, row["account"], settlement.documents, by=row["asker"], now=now)
    verdict = settlement.verdict
    state = "waiting" if settlement.wait_until is not None else "parked" if settlement.park else "settled"
    db.execute(
        "UPDATE turns SET state = ?, outcome = ?, code = ?, rule = ?, params = ?, remedy = ?, features = ?, "
        "settled_at = ?, wait_until = ?, wait_state = ? WHERE id = ?",
        [
            state,
            None if state == "waiting" else str(settlement.outcome),
            str(verdict.code),
            verdict.rule,
            json.dumps(verdict.params),
            verdict.remedy,
            json.dumps(dict(settlement.features)),
            None if state == "waiting" else now,
            settlement.wait_until,
            None if settlement.wait_state is None else json.dumps(dict(settlement.wait_state)),
            row["id"],
        ],
    )
    if state != "waiting" and not settlement.leaves_wait:
        _continue_parents(db, row, verdict, now)
    if settlement.heard is not None and row["about"] is not None:
        memory.remember(db, row["account"], row["about"], settlement.heard, now)
    if settlement.forget == "mine":
        memory.forget_person(db, row["account"], row["asker"], now)
    elif settlement.forget == "room":
        memory.forget_place(db, row["account"], row["place"], now)
    audit(db, row["account"], row["place"], row["cause"], row["asker"], row["bot"], verdict, now)
    return True


def _continue_parents(db: sqlite3.Connection, child: sqlite3.Row, verdict: Verdict, now: int) -> None:
    """A turn that waited ends with the child that went on; a child that waits again keeps it open."""
    if child["kind"] not in (TurnKind.ANSWERED, TurnKind.DEADLINE):
        return
    waiting = db.execute("SELECT * FROM turns WHERE id = ?", [child["parent"]]).fetchone()
    while waiting is not None and waiting["state"] == "waiting":
        close_turn(db, waiting["id"], Outcome.CONTINUED, verdict, now)
        links.end(db, waiting["id"], now)
        waiting = db.execute("SELECT * FROM turns WHERE id = ?", [waiting["parent"]]).fetchone()


def _ours(db: sqlite3.Connection, claimed: Claimed) -> sqlite3.Row | None:
    row: sqlite3.Row | None = db.execute(
        "SELECT * FROM turns WHERE id = ? AND state = 'running' AND revision = ?",
        [claimed.turn.id, claimed.revision],
    ).fetchone()
    return row


def failed(db: sqlite3.Connection, claimed: Claimed, not_before: int) -> bool:
    """A run failed: pending again from `not_before` on, with one attempt more."""
    cursor = db.execute(
        "UPDATE turns SET state = 'pending', attempts = attempts + 1, not_before = ? "
        "WHERE id = ? AND state = 'running' AND revision = ?",
        [not_before, claimed.turn.id, claimed.revision],
    )
    return cursor.rowcount > 0


def release(db: sqlite3.Connection, turn: int) -> None:
    """A graceful stop: pending again, nothing counted."""
    db.execute("UPDATE turns SET state = 'pending' WHERE id = ? AND state = 'running'", [turn])


def recover(
    db: sqlite3.Connection, account: str, now: int, *, words: str = "", device: str = ""
) -> tuple[int, ...]:
    """At start: what was running is pending again, one death more; ten deaths park it. Ids of the parked.

    The asker of a parked turn is told `words`, in the draft if there is one.
    """
    db.execute(
        "UPDATE turns SET state = 'pending', deaths = deaths + 1 WHERE account = ? AND state = 'running'",
        [account],
    )
    rows = db.execute(
        "SELECT * FROM turns WHERE account = ? AND state = 'pending' AND deaths >= ?", [account, MAX_DEATHS]
    ).fetchall()
    verdict = Verdict(False, Code.FAILED, "hearth.deaths", {"deaths": MAX_DEATHS}, "ask_operator")
    for row in rows:
        close_turn(db, row["id"], Outcome.FAILED, verdict, now)
        db.execute("UPDATE turns SET state = 'parked' WHERE id = ?", [row["id"]])
        _continue_parents(db, row, verdict, now)
        if outbox.first_key(db, row["id"]) is not None:
            outbox.finish_draft(db, row, words, device=device, now=now)
        elif words and row["kind"] != TurnKind.ASKED:  # a peer waits until its ask ends
            told = Keyed(Say(words, reply_to=row["message"], thread=row["thread"]), Role.ANSWER)
            outbox.put(db, row, told, device=device, now=now)
    return tuple(row["id"] for row in rows)


def next_claim(db: sqlite3.Connection, account: str) -> int | None:
    """When the earliest pending turn or the earliest deadline is due (ms); None if there is neither."""
    row = db.execute(
        "SELECT min(at) AS at FROM ("
        "SELECT min(not_before) AS at FROM turns WHERE state = 'pending' AND account = ? AND not_before > 0 "
        "UNION ALL SELECT min(wait_until) FROM turns t "
        f"WHERE state = 'waiting' AND account = ? AND {NOT_CONTINUED})",
        [account, account],
    ).fetchone()
    at: int | None = row["at"]
    return at


def pass_deadlines(db: sqlite3.Connection, account: str, now: int) -> int:
    """Start a child turn for every waiting turn whose time is over; how many."""
    rows = db.execute(
        "SELECT * FROM turns t WHERE account = ? AND state = 'waiting' AND wait_until <= ? "
        f"AND {NOT_CONTINUED}",
        [account, now],
    ).fetchall()
    started = 0
    for row in rows:
        cursor = db.execute(
            "INSERT OR IGNORE INTO turns (account, place, thread, lane, kind, bot, cause, message, asker, "
            "parent, about, state, created_at) "
            "VALUES (?, ?, ?, ?, 'deadline', ?, ?, ?, ?, ?, ?, 'pending', ?)",
            [
                account,
                row["place"],
                row["thread"],
                row["lane"],
                ENVOY if "preview" in json.loads(row["wait_state"] or "{}") else row["bot"],
                f"deadline:{row['id']}",
                row["message"],
                row["asker"],
                row["id"],
                row["about"],
                now,
            ],
        )
        started += cursor.rowcount
    return started


# -- controls --------------------------------------------------------------------------------------


def controls(db: sqlite3.Connection, account: str) -> list[Control]:
    """Controls that nobody has handled yet, oldest first; ballots are counted elsewhere (`votes`)."""
    rows = db.execute(
        "SELECT seq, id, place, control FROM events "
        "WHERE control IS NOT NULL AND control != ? AND handled_at IS NULL AND account = ? ORDER BY seq",
        [votes.BALLOT, account],
    ).fetchall()
    found = []
    for row in rows:
        facts = memory.place(db, account, row["place"])
        message = memory.message(db, account, row["id"])
        if facts is not None and message is not None:
            found.append(Control(row["seq"], row["id"], row["control"], facts.place, message, facts))
    return found


def stoppable(
    db: sqlite3.Connection, account: str, place_id: str, thread: str | None, *, everywhere: bool
) -> list[tuple[int, str]]:
    """(turn, asker) of what `!stop` could end here (or `everywhere`), newest first: running, then the others.

    What waits for a peer is among them.
    """
    rows = db.execute(
        "SELECT id, asker FROM turns WHERE account = :account AND bot != 'steward' "
        "AND (:everywhere OR (place = :place AND thread IS :thread)) "
        "AND (state IN ('running', 'pending') "
        "OR (state = 'waiting' AND json_extract(wait_state, '$.asked') IS NOT NULL)) "
        "ORDER BY state = 'running' DESC, id DESC",
        {"account": account, "place": place_id, "thread": thread, "everywhere": everywhere},
    ).fetchall()
    return [(row["id"], row["asker"]) for row in rows]


def handle_stop(
    db: sqlite3.Connection,
    control: Control,
    stopped: tuple[int, ...],
    verdict: Verdict,
    reply: Keyed,
    drafts_to: Say,
    device: str,
    now: int,
) -> None:
    """Verdict, effect and reply of a `!stop`, at once. A draft that stands becomes `drafts_to`."""
    account, place_id = control.place.account, control.place.id
    for turn in stopped:
        close_turn(db, turn, Outcome.STOPPED, verdict, now)
        row = db.execute("SELECT * FROM turns WHERE id = ?", [turn]).fetchone()
        outbox.finish_draft(db, row, drafts_to.text, device=device, now=now)
        outbox.cancel_asked(db, turn, now)
        _continue_parents(db, row, verdict, now)
    cause = {"account": account, "place": place_id, "id": None, "bot": "steward", "cause": control.event}
    outbox.put(db, cause, reply, device=device, now=now)
    db.execute("UPDATE events SET handled_at = ? WHERE seq = ?", [now, control.seq])
    audit(db, account, place_id, control.event, control.message.sender.id, control.name, verdict, now)


def audit(
    db: sqlite3.Connection,
    account: str,
    place_id: str,
    cause: str,
    actor: str,
    deed: str,
    verdict: Verdict,
    now: int,
) -> None:
    """Write down what was decided, about whom, by which rule; never with words."""
    db.execute(
        "INSERT INTO audit (at, account, place, cause, actor, deed, allowed, code, rule, params) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            now,
            account,
            place_id,
            cause,
            actor,
            deed,
            verdict.allowed,
            str(verdict.code),
            verdict.rule,
            json.dumps(verdict.params),
        ],
    )
