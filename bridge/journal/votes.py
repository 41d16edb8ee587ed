"""Votes as rows: opened with the turn that proposed them, counted from the room, closed once.

    open --> extended --> passed | failed        and: stopped (brake), withdrawn (the proposal was taken back)

What was voted is not here: it is read from the room when it is counted (`Platform.ballots`). Here is what a
count needs and nobody may change later: who may vote, until when, by which rule.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bots.base import Vote
from bots.conversation import ClosePoll, Keyed, Role
from bridge.journal import memory, outbox
from policies.proposal import proposed
from policies.vote import Mode, Rule

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping, Sequence

    from bots.base import Opening
    from bots.conversation import Place
    from bridge.journal.rows import Control
    from policies.verdict import Verdict

BALLOT = "ballot"
"""The control that says: somebody voted, look."""
_SELECT = (
    "SELECT v.*, a.remote_id AS poll, t.message FROM votes v LEFT JOIN actions a ON a.key = v.poll_key "
    "LEFT JOIN turns t ON t.id = a.turn "
    "WHERE v.account = ? "
)


@dataclass(frozen=True, slots=True)
class Closing:
    """How a vote goes on or ends: its new state, why, and what was counted; `due` where it is extended.

    `policy` and `grant` are the texts that it decides; `applies` says that we can write them down, so that
    the policy is in force from now on: the next vote that ends is about what this one has decided.
    `told_in` is where it is said, if not in the vote's own place. `seen` is the place as it was when this was
    worked out: if it is another one now, that has to be done again.
    """

    state: str
    reason: str
    tally: Mapping[str, object]
    due: int
    policy: str | None = None
    grant: str | None = None
    applies: bool = False
    told_in: str | None = None
    seen: Place | None = None


def open_one(
    db: sqlite3.Connection, turn: sqlite3.Row | Mapping[str, Any], opening: Opening, *, device: str, now: int
) -> bool:
    """Store a vote and its poll. False, and neither is, where one on the same matter is open."""
    poll_key = outbox.key_of(turn, Role.BALLOT, 0)
    cursor = db.execute(
        "INSERT OR IGNORE INTO votes (account, place, cause, proposer, matter, changes, mode, ratio, voters, "
        "opened_at, due, poll_key, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'open')",
        [
            turn["account"],
            turn["place"],
            turn["cause"],
            turn["asker"],
            opening.proposal.matter,
            opening.proposal.text(),
            str(opening.rule.mode),
            opening.rule.ratio,
            json.dumps(sorted(opening.voters)),
            now,
            opening.due,
            poll_key,
        ],
    )
    if cursor.rowcount == 0:
        return False
    outbox.put(db, turn, Keyed(opening.poll, Role.BALLOT), device=device, now=now)
    return True


def _vote(row: sqlite3.Row) -> Vote:
    return Vote(
        id=row["id"],
        place=row["place"],
        cause=row["cause"],
        proposer=row["proposer"],
        proposal=proposed(row["changes"]),
        rule=Rule(Mode(row["mode"]), row["ratio"]),
        voters=frozenset(json.loads(row["voters"])),
        opened_at=row["opened_at"],
        due=row["due"],
        extended=bool(row["extended"]),
        message=row["message"] or row["cause"],
        poll_key=row["poll_key"],
        poll=row["poll"],
        state=row["state"],
        reason=row["reason"],
        tally=None if row["tally"] is None else json.loads(row["tally"]),
        closed_at=row["closed_at"],
    )


def of_place(db: sqlite3.Connection, account: str, place: str, limit: int) -> tuple[Vote, ...]:
    """The votes of a place, newest first."""
    rows = db.execute(f"{_SELECT} AND v.place = ? ORDER BY v.id DESC LIMIT ?", [account, place, limit])
    return tuple(_vote(row) for row in rows.fetchall())


_LEFT_BEHIND = (
    "EXISTS (SELECT 1 FROM places p JOIN places n ON n.account = p.account AND n.id = p.moved_to "
    "AND n.joined WHERE p.account = v.account AND p.id = v.place)"
)


def are_left_behind(db: sqlite3.Connection, account: str) -> bool:
    """Whether a vote is open in a place that moved, and we are where it moved to."""
    row = db.execute(
        f"SELECT 1 FROM votes v WHERE v.account = ? AND v.state IN ('open', 'extended') AND {_LEFT_BEHIND}",
        [account],
    ).fetchone()
    return row is not None


def to_count(db: sqlite3.Connection, account: str, now: int) -> tuple[Vote, ...]:
    """Open votes that are due, in which somebody voted since the last count, or that were left behind."""
    rows = db.execute(
        f"{_SELECT} AND v.state IN ('open', 'extended') AND (v.due <= ? OR EXISTS (SELECT 1 FROM events e "
        "WHERE e.account = v.account AND e.control = ? AND e.handled_at IS NULL "
        f"AND coalesce(e.relates_to, e.thread) = a.remote_id) OR {_LEFT_BEHIND}) ORDER BY v.id",
        [account, now, BALLOT],
    ).fetchall()
    return tuple(_vote(row) for row in rows)


def next_due(db: sqlite3.Connection, account: str) -> int | None:
    """When the next open vote ends (ms)."""
    row = db.execute(
        "SELECT min(due) AS due FROM votes WHERE account = ? AND state IN ('open', 'extended')", [account]
    ).fetchone()
    due: int | None = row["due"]
    return due


def is_ballot_of_ours(db: sqlite3.Connection, account: str, poll: str | None, voter: str) -> bool:
    """Whether `poll` (an event) is the ballot of a vote that is open, and `voter` may vote."""
    row = db.execute(
        "SELECT v.voters FROM votes v JOIN actions a ON a.key = v.poll_key "
        "WHERE v.account = ? AND a.remote_id = ? AND v.state IN ('open', 'extended')",
        [account, poll],
    ).fetchone()
    return row is not None and voter in json.loads(row["voters"])


def newest_event(db: sqlite3.Connection, account: str) -> int:
    """The sequence number of the newest event: what is counted after this has at least seen that."""
    row = db.execute("SELECT max(seq) AS seq FROM events WHERE account = ?", [account]).fetchone()
    return row["seq"] or 0


def counted(db: sqlite3.Connection, account: str, vote: Vote, seen: int, now: int) -> None:
    """The votes admitted up to event `seen` are in the count."""
    db.execute(
        "UPDATE events SET handled_at = ? WHERE account = ? AND control = ? AND handled_at IS NULL "
        "AND seq <= ? AND coalesce(relates_to, thread) = ?",
        [now, account, BALLOT, seen, vote.poll],
    )


def close(
    db: sqlite3.Connection,
    account: str,
    vote: Vote,
    closing: Closing,
    actions: Sequence[Keyed],
    *,
    device: str,
    now: int,
) -> bool:
    """Extend or end a vote, with what is said and set because of it.

    False, and nothing is done: somebody else already did, or the place is not as it was `seen`.
    """
    extends = closing.state == "extended"
    if closing.seen is not None:
        facts = memory.place(db, account, vote.place)
        if facts is None or facts.place != closing.seen:
            return False
    cursor = db.execute(
        "UPDATE votes SET state = ?, reason = ?, tally = ?, due = ?, extended = max(extended, ?), "
        "policy_text = ?, grant_text = ?, closed_at = ? WHERE id = ? AND state = ? AND due = ?",
        [
            closing.state,
            closing.reason,
            json.dumps(dict(closing.tally)),
            closing.due,
            extends,
            closing.policy,
            closing.grant,
            None if extends else now,
            vote.id,
            vote.state,
            vote.due,
        ],
    )
    if cursor.rowcount == 0:
        return False
    if closing.grant is not None:
        # Who wanted to stop it before it was decided anew would have to say so again.
        db.execute(
            "DELETE FROM brakes WHERE account = ? AND place = ? AND peer = ?",
            [account, vote.place, vote.proposal.peer],
        )
    if not extends:
        counted(db, account, vote, newest_event(db, account), now)  # whoever votes now is too late
    if closing.policy is not None and closing.applies:
        held = {"text": closing.policy, "set_by": account, "set_at": now}
        db.execute(
            "UPDATE places SET base = ?, held = ? WHERE account = ? AND id = ?",
            [closing.policy, json.dumps(held), account, vote.place],
        )
    for keyed in actions:
        cause = cause_of(account, vote, closing.state) | {"place": closing.told_in or vote.place}
        outbox.put(db, cause, keyed, device=device, now=now)
    return True


def cause_of(account: str, vote: Vote, state: str) -> dict[str, Any]:
    """What the actions of a vote that changes its state are caused by."""
    return {
        "account": account,
        "place": vote.place,
        "id": None,
        "bot": "steward",
        "cause": f"{vote.cause}#{state}",
    }


def unwritten(db: sqlite3.Connection, account: str, place: str) -> str | None:
    """The policy that the last passed vote has decided, where it is still to be written down by hand."""
    row = db.execute(
        "SELECT v.policy_text FROM votes v JOIN places p ON p.account = v.account AND p.id = v.place "
        "WHERE v.account = ? AND v.place = ? AND v.state = 'passed' AND v.policy_text IS NOT NULL "
        "AND v.closed_at > coalesce(json_extract(p.policy, '$.set_at'), 0) "
        "ORDER BY v.closed_at DESC, v.id DESC",
        [account, place],
    ).fetchone()
    return None if row is None else row["policy_text"]


def withdraw(db: sqlite3.Connection, account: str, cause: str, now: int) -> None:
    """The proposal was taken back: the vote about it ends."""
    db.execute(
        "UPDATE votes SET state = 'withdrawn', closed_at = ? "
        "WHERE account = ? AND cause = ? AND state IN ('open', 'extended')",
        [now, account, cause],
    )


# -- the brake -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Braking:
    """What comes of a `!brake`: whether it stops the peer now, and what is said and set because of it.

    `ended` is said in the polls that are open about the peer. `documents` are set for the whole account.
    """

    stops: bool
    actions: tuple[Keyed, ...]
    ended: str = ""
    documents: Mapping[str, str] = field(default_factory=dict)


def handle_brake(
    db: sqlite3.Connection,
    control: Control,
    peer: str,
    verdict: Verdict,
    decide: Callable[[frozenset[str]], Braking],
    *,
    device: str,
    now: int,
) -> Braking:
    """Verdict, effect and reply of a `!brake`, at once. Nobody is counted twice."""
    account, place, member = control.place.account, control.place.id, control.message.sender.id
    known = verdict.allowed and _is_known(db, account, place, peer)
    polls = _open_polls(db, account, place, peer)
    if known:
        db.execute(
            "INSERT OR IGNORE INTO brakes (account, place, peer, member, at) VALUES (?, ?, ?, ?, ?)",
            [account, place, peer, member, now],
        )
    rows = db.execute(
        "SELECT member FROM brakes WHERE account = ? AND place = ? AND peer = ?", [account, place, peer]
    ).fetchall()
    braking = decide(frozenset(row["member"] for row in rows) if known else frozenset())
    if known and braking.stops:
        _stop(db, account, place, peer, now)
    cause = {"account": account, "place": place, "id": None, "bot": "steward", "cause": control.event}
    closings: list[Keyed] = []
    if known and braking.stops:
        closings = [
            Keyed(ClosePoll(key, braking.ended), Role.BALLOT, index) for index, key in enumerate(polls)
        ]
    for keyed in (*closings, *braking.actions):
        outbox.put(db, cause, keyed, device=device, now=now)
    db.execute("UPDATE events SET handled_at = ? WHERE seq = ?", [now, control.seq])
    return braking


def _is_known(db: sqlite3.Connection, account: str, place: str, peer: str) -> bool:
    """Whether anything is agreed with `peer`, or being voted on."""
    row = db.execute("SELECT grants FROM places WHERE account = ? AND id = ?", [account, place]).fetchone()
    if row is not None and any(one[0] == peer for one in json.loads(row["grants"])):
        return True
    found = db.execute(
        "SELECT 1 FROM votes WHERE account = ? AND place = ? AND matter = ? "
        "AND state IN ('open', 'extended', 'passed')",
        [account, place, f"peer:{peer}"],
    ).fetchone()
    return found is not None


def _open_polls(db: sqlite3.Connection, account: str, place: str, peer: str) -> list[str]:
    """The keys of the polls about `peer` in which people can still vote."""
    rows = db.execute(
        "SELECT poll_key FROM votes WHERE account = ? AND place = ? AND matter = ? "
        "AND state IN ('open', 'extended') ORDER BY id",
        [account, place, f"peer:{peer}"],
    ).fetchall()
    return [row["poll_key"] for row in rows]


def _stop(db: sqlite3.Connection, account: str, place: str, peer: str, now: int) -> None:
    """Nothing that was decided about `peer` counts any more; the brakes are released for the next time."""
    db.execute(
        "UPDATE votes SET state = 'stopped', closed_at = coalesce(closed_at, ?) "
        "WHERE account = ? AND place = ? AND matter = ? AND state IN ('open', 'extended', 'passed')",
        [now, account, place, f"peer:{peer}"],
    )
    db.execute("DELETE FROM brakes WHERE account = ? AND place = ? AND peer = ?", [account, place, peer])
    row = db.execute("SELECT grants FROM places WHERE account = ? AND id = ?", [account, place]).fetchone()
    held = json.loads(row["grants"])
    for one, standing in held:
        if one == peer:
            # It still stands in the room until somebody with the power changes it there.
            db.execute(
                "INSERT OR REPLACE INTO stopped (account, place, peer, text) VALUES (?, ?, ?, ?)",
                [account, place, peer, standing["text"]],
            )
    db.execute(
        "UPDATE places SET grants = ? WHERE account = ? AND id = ?",
        [json.dumps([one for one in held if one[0] != peer]), account, place],
    )


def is_stopped(db: sqlite3.Connection, account: str, place: str, peer: str, text: str) -> bool:
    """Whether just this grant was stopped by a brake."""
    row = db.execute(
        "SELECT 1 FROM stopped WHERE account = ? AND place = ? AND peer = ? AND text = ?",
        [account, place, peer, text],
    ).fetchone()
    return row is not None


def to_remind(db: sqlite3.Connection, account: str) -> list[tuple[str, str, str]]:
    """(place, peer, grant) of what is in force: whether it ends soon is for whoever reads it."""
    rows = db.execute(
        "SELECT id, grants FROM places WHERE account = ? AND joined AND grants != '[]'", [account]
    ).fetchall()
    return [
        (row["id"], peer, standing["text"]) for row in rows for peer, standing in json.loads(row["grants"])
    ]


def remind(
    db: sqlite3.Connection,
    account: str,
    place: str,
    peer: str,
    until: int,
    said: Keyed,
    *,
    device: str,
    now: int,
) -> bool:
    """Say once that what is allowed with `peer` ends at `until`."""
    cursor = db.execute(
        "INSERT OR IGNORE INTO reminders (account, place, peer, until) VALUES (?, ?, ?, ?)",
        [account, place, peer, until],
    )
    if cursor.rowcount:
        cause = {"account": account, "place": place, "id": None, "bot": "steward", "cause": f"{peer}#{until}"}
        outbox.put(db, cause, said, device=device, now=now)
    return bool(cursor.rowcount)
