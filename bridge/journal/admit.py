"""T1: a batch of events and the cursor behind it, in one transaction.

Edits and redactions take effect here, whatever order they come in: an edit or a redaction that
arrives before its message waits in the table and is applied when the message comes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import structlog

from bots.conversation import Person, TurnKind
from bridge.journal import documents, memory, outbox, votes
from bridge.journal.rows import Admission, Admitted, Known, Outcome, TurnState
from bridge.platform import Event, EventKind
from policies.decide import MODERATOR_POWER
from policies.verdict import Code, Verdict

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from bridge.platform import Batch, PlaceFacts


log = structlog.get_logger(__name__)


class Admit:
    """One T1. Collects on the way what the router has to hear about after the commit."""

    def __init__(
        self, db: sqlite3.Connection, account: str, judge: Callable[[Event, Known], Admission], now: int
    ) -> None:
        self.db = db
        self.account = account
        self.judge = judge
        self.now = now
        self.cancelled: list[int] = []
        self.erased: set[str] = set()
        self.work = False
        self.controls = False
        self.deliveries = False
        self.ballots = False

    def batch(self, batch: Batch) -> Admitted:
        """Store everything in `batch` that is new, and move the cursor."""
        for facts in batch.places:
            self._place(facts)
        for gap in batch.gaps:
            self.db.execute(
                "INSERT OR IGNORE INTO gaps (account, place, since, reason, found_at) VALUES (?, ?, ?, ?, ?)",
                [self.account, gap.place, gap.since, gap.reason, self.now],
            )
        for event in (*batch.opened, *batch.events):
            if not self._asks_nothing(event) and self._insert(event):
                self._apply(event)
        if batch.cursor is not None:
            self.db.execute(
                "INSERT INTO cursors (account, cursor, moved_at) VALUES (?, ?, ?) "
                "ON CONFLICT (account) DO UPDATE SET cursor = excluded.cursor, moved_at = excluded.moved_at",
                [self.account, batch.cursor, self.now],
            )
        return Admitted(
            cancelled=tuple(self.cancelled),
            erased=frozenset(self.erased),
            work=self.work,
            controls=self.controls,
            deliveries=self.deliveries,
            ballots=self.ballots,
        )

    def _asks_nothing(self, event: Event) -> bool:
        """Whether it is a reaction that is not meant for us; the journal would fill up with them."""
        if event.kind is not EventKind.REACTION or event.own:
            return False
        admission = self.judge(event, self._known(event))
        return event.context_only or not (admission.bot or admission.control)

    # -- rows -----------------------------------------------------------------------------------

    def _place(self, facts: PlaceFacts) -> None:
        row = self.db.execute(
            "SELECT * FROM places WHERE account = ? AND id = ?", [self.account, facts.place.id]
        ).fetchone()
        members = self._members(row, facts)
        # The other community may write the state of a link room: no rule of ours stands there, and no key.
        place = replace(facts.place, policy=None, grants=()) if facts.links is not None else facts.place
        place = documents.with_those_of_account(self.db, place)
        held = documents.take(self.db, self.account, place, row)
        self.db.execute(
            "INSERT INTO places (account, id, kind, name, joined, must_encrypt, default_power, members, "
            "policy, held, base, grants, policy_power, "
            "ruled_by_members, levels_power, moved_to, links) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (account, id) DO UPDATE SET "
            "kind = excluded.kind, name = excluded.name, joined = excluded.joined, "
            # Encryption is never unset: a server that loses the state must not get plaintext.
            "must_encrypt = max(must_encrypt, excluded.must_encrypt), "
            "default_power = excluded.default_power, members = excluded.members, "
            "policy = excluded.policy, held = excluded.held, base = excluded.base, "
            "grants = excluded.grants, policy_power = excluded.policy_power, "
            "ruled_by_members = excluded.ruled_by_members, levels_power = excluded.levels_power, "
            "moved_to = excluded.moved_to, links = excluded.links",
            [
                self.account,
                facts.place.id,
                str(facts.place.kind),
                facts.place.name,
                facts.joined,
                facts.must_encrypt,
                facts.default_power,
                json.dumps(members),
                None if place.policy is None else json.dumps(asdict(place.policy)),
                *held,
                facts.policy_power,
                facts.ruled_by_members,
                facts.levels_power,
                facts.moved_to,
                None if facts.links is None else json.dumps(facts.links),
            ],
        )
        # A vote goes on in neither: it ends once we are where the people went.
        self.ballots |= votes.are_left_behind(self.db, self.account)

    def _members(self, row: sqlite3.Row | None, facts: PlaceFacts) -> list[list[object]]:
        """The members as they are kept: who was there before has been there since then.

        The time of a join is what its sender's server says. Of one that we have seen happen, it is no earlier
        than now: nobody is to have been a member for longer than that (`min_member_hours`).
        """
        before = {} if row is None else {one.id: one.since for one in memory.members(row)}
        since = {
            one.id: before.get(one.id) or (one.since if not before else max(one.since, self.now))
            for one in facts.members
        }
        return [[one.id, one.name, one.power, one.is_bot, since[one.id]] for one in facts.members]

    def _insert(self, event: Event) -> bool:
        """Insert `event`, or open the sealed row of its ciphertext; False if it is known, or a replay."""
        if event.ratchet is not None and self._is_replayed(event):
            log.warning("replay_refused", place=event.place, event_id=event.id)
            memory.erase_event(self.db, self.account, event.id)
            return False
        text = event.text if event.kind in _WITH_WORDS else None
        row = {
            "account": self.account,
            "id": event.id,
            "place": event.place,
            "kind": str(event.kind),
            "sender": event.sender.id,
            "sender_name": event.sender.name,
            "sender_power": event.sender.power,
            "sender_is_bot": event.sender.is_bot,
            "text": text,
            "sealed": event.sealed,
            "sent_at": event.sent_at,
            "age_ms": event.age_ms,
            "admitted_at": self.now,
            "relates_to": event.relates_to,
            "reply_to": event.reply_to,
            "thread": event.thread,
            "own": event.own,
            "context_only": event.context_only,
            "key": event.key,
            "ratchet": event.ratchet,
            "trust": str(event.trust),
            "attachments": json.dumps([asdict(one) for one in event.attachments]),
        }
        columns = ", ".join(row)
        values = ", ".join(f":{name}" for name in row)
        opened = ", ".join(
            f"{name} = excluded.{name}" for name in row if name not in ("admitted_at", "place")
        )
        cursor = self.db.execute(
            f"INSERT INTO events ({columns}) VALUES ({values}) "
            f"ON CONFLICT (account, id) DO UPDATE SET {opened} "
            "WHERE events.kind = 'sealed' AND excluded.kind != 'sealed' AND events.sealed IS NOT NULL",
            row,
        )
        return cursor.rowcount > 0

    def _is_replayed(self, event: Event) -> bool:
        """Whether another event was encrypted at the same place: whoever has it sends its words again."""
        found = self.db.execute(
            "SELECT 1 FROM events WHERE account = ? AND ratchet = ? AND id != ?",
            [self.account, event.ratchet, event.id],
        )
        return found.fetchone() is not None

    # -- what an event does ---------------------------------------------------------------------

    def _apply(self, event: Event) -> None:  # noqa: C901, PLR0912 - a table of kinds
        if event.own and event.key:
            self.deliveries |= outbox.echoed(self.db, self.account, event.key, event.id, self.now)
            if memory.is_withdrawn(self.db, self.account, event.key):
                memory.erase_event(self.db, self.account, event.id)
        match event.kind:
            case EventKind.MESSAGE | EventKind.REACTION:
                self._message(event)
            case EventKind.EDIT:
                self._edit(event)
            case EventKind.REDACTION:
                self._redaction(event)
            case EventKind.BALLOT:
                self._ballot(event, event.relates_to)
            case EventKind.JOINED | EventKind.POLICY | EventKind.GRANT | EventKind.VERIFICATION:
                if not event.own:
                    outbox.overtaken(self.db, self.account, event, self.now)
                admission = self.judge(event, self._known(event))
                if admission.bot:
                    self._turn(event, _NEWS[event.kind], event.id, admission)
            case EventKind.LEFT:
                self._left(event)
            case EventKind.ENVELOPE:
                # It is kept as it came, and makes no turn: nobody has looked at its signature yet.
                if self._redacted(event.id, event.sender.id):
                    memory.erase_event(self.db, self.account, event.id)
                elif control := self.judge(event, self._known(event)).control:
                    self._control(event, control)
            case EventKind.SEALED:
                pass  # kept until a key comes; nothing is owed for what cannot be read

    def _message(self, event: Event) -> None:
        if self._redacted(event.id, event.sender.id):
            memory.erase_event(self.db, self.account, event.id)
            return
        if event.own or event.context_only:
            return
        known = self._known(event)
        admission = self.judge(event, known)
        if admission.control:
            self._control(event, admission.control)
        elif admission.bot:
            if admission.votes:
                self._ballot(event, event.thread)
            # A command about a preview is one by itself, and the preview stands.
            apart = known.waiting_bot == ENVOY and not (admission.takes_up or admission.bot == CHAT)
            parent = None if apart else known.waiting_turn
            kind = TurnKind.MESSAGE if parent is None else TurnKind.ANSWERED
            about = None if known.about is None else known.about.id
            self._turn(event, kind, event.id, admission, parent=parent, about=about)

    def _control(self, event: Event, control: str) -> None:
        self.db.execute(
            "UPDATE events SET control = ? WHERE account = ? AND id = ?", [control, self.account, event.id]
        )
        self.controls = True

    def _ballot(self, event: Event, poll: str | None) -> None:
        """Somebody who may vote did: it is counted anew. What was voted stays in the room."""
        if votes.is_ballot_of_ours(self.db, self.account, poll, event.sender.id):
            self._control(event, votes.BALLOT)
            self.ballots = True

    def _edit(self, event: Event) -> None:
        if any(self._redacted(one, event.sender.id) for one in (event.id, event.relates_to)):
            memory.erase_event(self.db, self.account, event.id)
            return
        target = self._event(event.relates_to)
        if target is None or target["sender"] != event.sender.id or target["own"]:
            return
        rows = self.db.execute(
            "SELECT * FROM turns WHERE account = ? AND message = ? ORDER BY id DESC",
            [self.account, target["id"]],
        ).fetchall()
        if not rows or any(row["outcome"] == Outcome.WITHDRAWN for row in rows):
            return
        # What went on from it, with the peer's answer for instance, goes with it.
        latest = next((row for row in rows if row["kind"] not in _GOING_ON), rows[0])
        match latest["state"]:
            case TurnState.PENDING:
                return  # the text is read when the turn is claimed
            case TurnState.RUNNING:
                self._run_again(latest["id"])
                return
            case TurnState.WAITING:
                self._supersede(latest["id"])
        root = rows[-1]
        self._turn(
            event,
            TurnKind.REVISION,
            target["id"],
            Admission(root["bot"], root["lane"]),
            parent=root["id"],
            thread=root["thread"],
            about=root["about"],
        )

    def _supersede(self, turn: int) -> None:
        """End a turn that waits, and what goes on from it: what was shown or is under way had other words."""
        rows = self.db.execute(
            "WITH RECURSIVE of(id) AS (VALUES (?) UNION SELECT t.id FROM turns t JOIN of ON t.parent = of.id "
            "AND t.kind IN ('answered', 'deadline') AND t.state IN ('pending', 'running', 'waiting')) "
            "SELECT * FROM turns WHERE id IN of ORDER BY id",
            [turn],
        ).fetchall()
        for row in rows:
            if row["state"] == TurnState.RUNNING:
                self.cancelled.append(row["id"])
            close_turn(self.db, row["id"], Outcome.SUPERSEDED, _EDITED, self.now)
            if row["bot"] == ENVOY:
                outbox.withdraw(self.db, row["id"], self.now)
                memory.erase_answers(self.db, self.account, row["id"])
                self.deliveries = True

    def _redaction(self, event: Event) -> None:
        target = self._event(event.relates_to)
        if target is None:
            # Not here yet: the row stays and is applied when its message comes. Edits of it may be here.
            for edit in self._related(event.relates_to, EventKind.EDIT):
                if self._may_redact(event.sender.id, event.sender.power, edit["sender"]):
                    memory.erase_event(self.db, self.account, edit["id"])
            return
        if not self._may_redact(event.sender.id, event.sender.power, target["sender"]):
            return
        memory.erase_event(self.db, self.account, target["id"])
        self.erased.add(event.place)
        if target["kind"] == EventKind.EDIT:
            self._edit_taken_back(target)
        elif target["kind"] in (EventKind.MESSAGE, EventKind.REACTION, EventKind.ENVELOPE):
            self._message_taken_back(target)

    def _edit_taken_back(self, edit: sqlite3.Row) -> None:
        """The text before it counts again."""
        running = self.db.execute(
            "SELECT id FROM turns WHERE account = ? AND message = ? AND state = 'running'",
            [self.account, edit["relates_to"]],
        ).fetchone()
        if running is not None:
            self._run_again(running["id"])

    def _message_taken_back(self, target: sqlite3.Row) -> None:
        if target["own"]:
            outbox.taken_back(self.db, self.account, target["id"], self.now)
            return
        # Also what others had written out of it: a transcript goes with the voice message.
        rows = self.db.execute(
            "WITH RECURSIVE of(id, whole) AS ("
            "SELECT id, kind NOT IN ('answered', 'deadline') FROM turns "
            "WHERE account = ?1 AND (message = ?2 OR about = ?2) "
            # What goes on from it goes with it, whoever said "send"; with a question also what a peer was
            # asked for it and has answered.
            "UNION SELECT t.id, of.whole FROM turns t JOIN of ON t.parent = of.id "
            "AND t.kind IN ('answered', 'deadline') "
            "AND (t.state IN ('pending', 'running', 'waiting') OR (of.whole AND t.bot = 'envoy'))) "
            "SELECT * FROM turns WHERE id IN (SELECT id FROM of) ORDER BY id",
            [self.account, target["id"]],
        ).fetchall()
        for row in rows:
            if row["state"] == TurnState.RUNNING:
                self.cancelled.append(row["id"])
            if row["state"] not in (TurnState.SETTLED, TurnState.PARKED):
                close_turn(self.db, row["id"], Outcome.WITHDRAWN, _TAKEN_BACK, self.now)
            else:
                self.db.execute("UPDATE turns SET outcome = ? WHERE id = ?", [Outcome.WITHDRAWN, row["id"]])
            if outbox.withdraw(self.db, row["id"], self.now):
                self._close_waiting(row["parent"])
            votes.withdraw(self.db, self.account, row["cause"], self.now)
            memory.erase_answers(self.db, self.account, row["id"])
            self.deliveries = True
        self.db.execute(
            "UPDATE events SET handled_at = ? WHERE account = ? AND id = ? AND control IS NOT NULL",
            [self.now, self.account, target["id"]],
        )

    def _close_waiting(self, turn: int | None) -> None:
        """What waited for a yes that was given has ended with what came of it."""
        while turn is not None:
            row = self.db.execute("SELECT * FROM turns WHERE id = ?", [turn]).fetchone()
            if row["state"] == TurnState.WAITING:
                close_turn(self.db, turn, Outcome.WITHDRAWN, _TAKEN_BACK, self.now)
            turn = row["parent"]

    def _run_again(self, turn: int) -> None:
        """The words under a running turn have changed: it begins anew, under the same keys."""
        self.db.execute("UPDATE turns SET state = 'pending', revision = revision + 1 WHERE id = ?", [turn])
        self.cancelled.append(turn)
        self.work = True

    def _left(self, event: Event) -> None:
        self.db.execute(
            "UPDATE places SET joined = 0 WHERE account = ? AND id = ?", [self.account, event.place]
        )
        rows = self.db.execute(
            "SELECT id, state FROM turns WHERE account = ? AND place = ? "
            "AND state IN ('pending', 'running', 'waiting')",
            [self.account, event.place],
        ).fetchall()
        for row in rows:
            if row["state"] == TurnState.RUNNING:
                self.cancelled.append(row["id"])
            close_turn(self.db, row["id"], Outcome.LEFT, _GONE, self.now)
        here = "account = ? AND place = ?"
        outbox.keep_envelopes(self.db, here, [self.account, event.place], _GONE.rule, self.now)
        self.db.execute(
            "UPDATE actions SET state = 'withdrawn', done_at = ? "
            "WHERE account = ? AND place = ? AND state IN ('pending', 'parked')",
            [self.now, self.account, event.place],
        )

    # -- lookups --------------------------------------------------------------------------------

    def _turn(
        self,
        event: Event,
        kind: TurnKind,
        message: str,
        admission: Admission,
        *,
        parent: int | None = None,
        thread: str | None = None,
        about: str | None = None,
    ) -> None:
        self.db.execute(
            "INSERT OR IGNORE INTO turns (account, place, thread, lane, kind, bot, cause, message, asker, "
            "parent, about, unasked, state, created_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending', ?)",
            [
                self.account,
                event.place,
                thread or event.thread,
                admission.lane,
                str(kind),
                admission.bot,
                event.id,
                message,
                event.sender.id,
                parent,
                about,
                admission.unasked,
                self.now,
            ],
        )
        self.work = True

    def _known(self, event: Event) -> Known:
        replies_to_us = False
        waiting = None
        about = event.id if any(one.has_sound for one in event.attachments) else None
        pointed_at = event.relates_to if event.kind is EventKind.REACTION else event.reply_to
        if about is None and pointed_at is not None:
            about = self._about(pointed_at)
        if event.reply_to is not None:
            target = self._event(event.reply_to)
            replies_to_us = target is not None and bool(target["own"])
        if pointed_at is not None:
            waiting = self.db.execute(
                # Where something was said below a preview, that is what waits; if it is about the same.
                "WITH RECURSIVE pointed(id, text) AS ("
                "SELECT t.id, json_extract(t.wait_state, '$.preview.text') "
                "FROM actions a JOIN turns t ON t.id = a.turn "
                "WHERE a.account = ? AND a.remote_id = ? AND t.place = ? AND t.state = 'waiting' "
                "UNION SELECT c.id, p.text FROM turns c JOIN pointed p ON c.parent = p.id "
                "AND c.state = 'waiting' AND json_extract(c.wait_state, '$.preview.text') = p.text) "
                # What was shown before it leaves is the envoy's, whoever showed it.
                "SELECT t.id, CASE WHEN json_extract(t.wait_state, '$.preview') IS NULL THEN t.bot "
                f"ELSE '{ENVOY}' END AS bot, "
                "json_extract(t.wait_state, '$.offered') IS NOT NULL AS offer "
                "FROM pointed p JOIN turns t ON t.id = p.id "
                # What waits for a peer is not continued by people.
                "WHERE json_extract(t.wait_state, '$.asked') IS NULL "
                f"AND {NOT_CONTINUED}",
                [self.account, pointed_at, event.place],
            ).fetchone()
        return Known(
            place=memory.place(self.db, self.account, event.place),
            replies_to_us=replies_to_us or waiting is not None,
            waiting_turn=None if waiting is None else waiting["id"],
            waiting_bot="" if waiting is None else waiting["bot"],
            waiting_offer=waiting is not None and bool(waiting["offer"]),
            about=None if about is None else memory.message(self.db, self.account, about),
        )

    def _about(self, event_id: str) -> str | None:
        """The message with sound that `event_id` is, or is our word about."""
        said = self.db.execute(
            "SELECT t.about FROM actions a JOIN turns t ON t.id = a.turn "
            "WHERE a.account = ? AND a.remote_id = ?",
            [self.account, event_id],
        ).fetchone()
        if said is not None:
            return None if said["about"] is None else str(said["about"])
        message = memory.message(self.db, self.account, event_id)
        sound = message is not None and any(one.has_sound for one in message.attachments)
        return event_id if sound else None

    def _event(self, event_id: str | None) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self.db.execute(
            "SELECT * FROM events WHERE account = ? AND id = ?", [self.account, event_id]
        ).fetchone()
        return row

    def _related(self, event_id: str | None, kind: EventKind) -> list[sqlite3.Row]:
        return self.db.execute(
            "SELECT * FROM events WHERE account = ? AND relates_to = ? AND kind = ?",
            [self.account, event_id, str(kind)],
        ).fetchall()

    def _redacted(self, event_id: str | None, author: str) -> bool:
        """Whether `event_id` (of `author`, here or still to come) was taken back."""
        redactions = self._related(event_id, EventKind.REDACTION)
        return any(self._may_redact(one["sender"], one["sender_power"], author) for one in redactions)

    def _may_redact(self, actor: str, power: int, author: str) -> bool:
        """The author, or somebody whom the room lets moderate; servers check it too (spec, auth rules)."""
        return actor == author or power >= MODERATOR_POWER


_WITH_WORDS = (
    EventKind.MESSAGE,
    EventKind.EDIT,
    EventKind.REACTION,
    EventKind.POLICY,
    EventKind.GRANT,
    EventKind.ENVELOPE,
    EventKind.VERIFICATION,
)
ENVOY = "envoy"
"""The bot that goes on with what was shown before it leaves."""
CHAT = "chat"
_NEWS = {
    EventKind.JOINED: TurnKind.WELCOME,
    EventKind.POLICY: TurnKind.POLICY,
    EventKind.GRANT: TurnKind.POLICY,
    EventKind.VERIFICATION: TurnKind.VERIFICATION,
}

_GOING_ON = (TurnKind.ANSWERED, TurnKind.DEADLINE)
NOT_CONTINUED = (
    "NOT EXISTS (SELECT 1 FROM turns c WHERE c.parent = t.id AND c.kind IN ('answered', 'deadline') "
    "AND c.state IN ('pending', 'running', 'waiting'))"
)
"""SQL: the waiting turn `t` has no open child yet. Only one of the answer and the deadline goes on."""

_TAKEN_BACK = Verdict(False, Code.WITHDRAWN, "hearth.taken_back")
_EDITED = Verdict(False, Code.WITHDRAWN, "hearth.edited")
_GONE = Verdict(False, Code.WITHDRAWN, "hearth.left")


def close_turn(db: sqlite3.Connection, turn: int, outcome: Outcome, verdict: Verdict, now: int) -> None:
    """Settle `turn` without a run of its own."""
    db.execute(
        "UPDATE turns SET state = 'settled', outcome = ?, code = ?, rule = ?, params = ?, remedy = ?, "
        "revision = revision + 1, settled_at = ?, wait_until = NULL, wait_state = NULL WHERE id = ?",
        [
            str(outcome),
            str(verdict.code),
            verdict.rule,
            json.dumps(verdict.params),
            verdict.remedy,
            now,
            turn,
        ],
    )


def sealed_event(row: sqlite3.Row) -> Event:
    """The stored event that could not be read, with its ciphertext."""
    return Event(
        id=row["id"],
        place=row["place"],
        kind=EventKind.SEALED,
        sender=Person(row["sender"], row["sender_name"], row["sender_power"], bool(row["sender_is_bot"])),
        sent_at=row["sent_at"],
        age_ms=row["age_ms"],
        context_only=bool(row["context_only"]),
        sealed=row["sealed"],
    )
