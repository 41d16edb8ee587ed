"""The documents of a place: what stands there, what of it is in force, and how it came to be.

A document that widens what a voting place allows is in force only as far as it narrows, until a vote of this
journal says all of it (`policies.document.effective`); so is a grant. What was in force is measured
against, not what stood: a document that nobody could read, or that was redacted, changes no `base`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from bots.conversation import Place
from bridge.journal import votes
from policies.document import PolicyDocument, Standing, Unreadable, base_of, effective, parsed, read, written
from policies.grant import Grant, read_grant
from policies.room import Mode, RoomPolicy

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping


_TOO_MUCH = '{"v": 1, "more_than_fits": true}'
"""Cannot be read, and says at which field."""
ACCOUNT = ""
"""The place of documents that hold wherever an account talks: where platforms keep none, we do."""


def with_those_of_account(db: sqlite3.Connection, place: Place) -> Place:
    """`place` with the documents of its account, where it has none of its own."""
    if place.policy is not None or place.grants:
        return place
    rows = db.execute(
        "SELECT * FROM documents d WHERE account = ? AND place = ? AND seq = (SELECT max(seq) FROM documents "
        "WHERE account = d.account AND place = d.place AND peer = d.peer) ORDER BY peer",
        [place.account, ACCOUNT],
    ).fetchall()
    found = {row["peer"]: Standing(row["text"], row["set_by"], row["set_at"]) for row in rows}
    policy = found.pop("", None)
    return replace(place, policy=policy, grants=tuple(found.items()))


def set_for_account(
    db: sqlite3.Connection, account: str, documents: Mapping[str, str], *, by: str, now: int
) -> None:
    """Set documents (by peer, `""` for the policy) for every place of `account`."""
    for peer, text in documents.items():
        _note(db, account, ACCOUNT, peer, Standing(text, by, now))
    for row in db.execute("SELECT * FROM places WHERE account = ?", [account]).fetchall():
        place = with_those_of_account(db, Place(account, row["id"]))
        held, base, grants = take(db, account, place, row)
        policy = None if place.policy is None else json.dumps(asdict(place.policy))
        db.execute(
            "UPDATE places SET policy = ?, held = ?, base = ?, grants = ? WHERE account = ? AND id = ?",
            [policy, held, base, grants, account, row["id"]],
        )


def take(
    db: sqlite3.Connection, account: str, place: Place, row: sqlite3.Row | None
) -> tuple[str | None, str | None, str]:
    """What is in force once the documents of `place` stand there: the columns `held`, `base`, `grants`.

    `row` is what was known of the place before.
    """
    base_text = None if row is None else row["base"]
    base = base_of(base_text)
    known = {} if row is None else {peer: Standing(**one) for peer, one in json.loads(row["grants"])}
    before = None if row is None or row["policy"] is None else Standing(**json.loads(row["policy"]))
    held = place.policy
    if row is not None and before == place.policy:
        # Nothing was written meanwhile; what a vote has decided may be in force before it stands in the room.
        held = None if row["held"] is None else Standing(**json.loads(row["held"]))
    elif place.policy is not None:
        _note(db, account, place.id, "", place.policy)
        found = parsed(place.policy.text)
        if isinstance(found, PolicyDocument):
            voted = _voted(db, account, place.id, found.decided_by, policy=found.policy())
            limits = effective(None if row is None else base, found.policy(), voted=voted)
            text = written(limits)
            if read(text) == limits:
                base, base_text = limits, text
                text = written(limits, found.decided_by)
            else:
                text = _TOO_MUCH  # both at once are more than a document holds: it denies, and `base` stays
            held = Standing(text, place.policy.set_by, place.policy.set_at)
    grants = _grants(db, account, place, known, base)
    return (
        None if held is None else json.dumps(asdict(held)),
        base_text,
        json.dumps([[peer, asdict(one)] for peer, one in sorted(grants.items())]),
    )


def _grants(
    db: sqlite3.Connection, account: str, place: Place, known: Mapping[str, Standing], base: RoomPolicy
) -> dict[str, Standing]:
    """The grants in force: those of an admin's room, of a vote, and whatever narrows one of them."""
    held: dict[str, Standing] = {}
    for peer, standing in place.grants:
        before = known.get(peer)
        if before != standing:
            _note(db, account, place.id, peer, standing)
        if votes.is_stopped(db, account, place.id, peer, standing.text):
            continue
        grant = read_grant(standing.text, peer)
        if isinstance(grant, Unreadable):
            held[peer] = standing  # it denies
        elif (
            base.mode is Mode.ADMIN
            or _is_known(grant, before, peer)
            or _voted(db, account, place.id, grant.decided_by, grant=grant)
        ):
            held[peer] = standing
        elif before is not None:
            held[peer] = before
    return held


def _is_known(grant: Grant, before: Standing | None, peer: str) -> bool:
    """Whether `grant` allows nothing that was not allowed `before`."""
    if before is None:
        return False
    old = read_grant(before.text, peer)
    return isinstance(old, Grant) and grant.is_within(old)


def _voted(
    db: sqlite3.Connection,
    account: str,
    place: str,
    poll: str,
    *,
    policy: RoomPolicy | None = None,
    grant: Grant | None = None,
) -> bool:
    """Whether the vote `poll` (its event) has passed here with just this result, and no later one did.

    An earlier decision is no licence to undo a later one: of the policy only the last vote counts, of a grant
    the last one about its peer.
    """
    row = db.execute(
        "SELECT v.* FROM votes v JOIN actions a ON a.key = v.poll_key "
        "WHERE v.account = ? AND v.place = ? AND a.remote_id = ? AND v.state = 'passed' "
        "AND NOT EXISTS (SELECT 1 FROM votes w WHERE w.account = v.account AND w.place = v.place "
        "AND w.state = 'passed' AND (w.closed_at, w.id) > (v.closed_at, v.id) "
        "AND (w.matter = v.matter OR ?))",
        [account, place, poll, policy is not None],
    ).fetchone()
    if row is None:
        return False
    if policy is not None:
        return row["policy_text"] is not None and read(row["policy_text"]) == policy
    return (
        row["grant_text"] is not None
        and grant is not None
        and read_grant(row["grant_text"], grant.peer) == grant
    )


def _note(db: sqlite3.Connection, account: str, place: str, peer: str, standing: Standing) -> None:
    """Keep a document, for the history and `!policy undo`; the room's state tells it to everybody anyway."""
    latest = db.execute(
        "SELECT text, set_at FROM documents WHERE account = ? AND place IN (?, ?) AND peer = ? "
        "ORDER BY seq DESC LIMIT 1",
        [account, place, ACCOUNT, peer],
    ).fetchone()
    if latest is not None and (latest["text"], latest["set_at"]) == (standing.text, standing.set_at):
        return
    db.execute(
        "INSERT INTO documents (account, place, peer, text, set_by, set_at) VALUES (?, ?, ?, ?, ?, ?)",
        [account, place, peer, standing.text, standing.set_by, standing.set_at],
    )


def history(db: sqlite3.Connection, account: str, place: str, limit: int) -> tuple[tuple[str, Standing], ...]:
    """The documents that stood in a place, newest first: (peer, `""` for the policy; document)."""
    rows = db.execute(
        "SELECT * FROM documents WHERE account = ? AND place IN (?, ?) ORDER BY seq DESC LIMIT ?",
        [account, place, ACCOUNT, limit],
    ).fetchall()
    return tuple((row["peer"], Standing(row["text"], row["set_by"], row["set_at"])) for row in rows)
