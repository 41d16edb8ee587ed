"""What changes about peers, and about what is asked over links.

    peers   what we know of each bot of another community: its card (believed by nobody), its grant for us
    asks    questions in both directions: open --> answered | refused | dropped | ended | cancelled
    seen    what was opened before, so that nothing is taken twice

What is known of them is read in `peers`. Each function is a part of a transaction. What an envelope or a turn
changes here comes in as data (`Taken`, `Step`), worked out beforehand by `bridge.links`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Final

from bots.conversation import TurnKind
from bridge.journal import crossings, memory, outbox
from bridge.journal.admit import ENVOY, NOT_CONTINUED, close_turn
from bridge.journal.rows import Outcome
from policies.verdict import Code, Verdict

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping

    from bots.base import FromPeer
    from bots.conversation import Keyed
    from bridge.journal.crossings import Crossing
    from bridge.journal.peers import Ask
    from bridge.journal.rows import Control
    from bridge.link.bodies import Card

_CANCELLED: Final = Verdict(False, Code.WITHDRAWN, "hearth.taken_back")


@dataclass(frozen=True, slots=True)
class Sent:
    """An envelope to put into the outbox: in which link room, caused by what."""

    place: str
    cause: str
    keyed: Keyed


@dataclass(frozen=True, slots=True)
class Closed:
    """An open ask that ends. Of one of ours `told` is what its turn goes on with."""

    digest: str
    state: str
    reply: str | None = None
    told: FromPeer | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """What a turn that settles does with peers."""

    ask: Ask | None = None
    closed: Closed | None = None
    sends: tuple[Sent, ...] = ()
    crossings: tuple[Crossing, ...] = ()
    wanted: str = ""
    """The peer with which this place wants to share a link room."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What follows from an envelope that arrived. `waited` is what the turn that answers it is given."""

    peer: str = ""
    crossings: tuple[Crossing, ...] = ()
    seen: tuple[str, int] | None = None
    """Its id, and until when that is kept (ms)."""
    card: Card | None = None
    grant: str | None = None
    """The peer's grant for us (`""`: taken back)."""
    iat: int = 0
    ask: Ask | None = None
    waited: Mapping[str, object] = field(default_factory=dict)
    closed: Closed | None = None
    cancels: str = ""
    """Digest of the peer's ask that it takes back."""
    sends: tuple[Sent, ...] = ()
    says: tuple[Sent, ...] = ()


def apply(db: sqlite3.Connection, turn: sqlite3.Row, step: Step, *, device: str, now: int) -> None:
    """What a turn does with peers, in the transaction that settles it."""
    account = turn["account"]
    if step.wanted:
        _upsert(db, account, step.wanted, wanted_in=turn["place"])
    if step.ask is not None:
        _insert(db, account, step.ask, turn["id"])
    if step.closed is not None:
        _close(db, account, step.closed, now)
    _send(db, account, step.sends, turn["id"], device=device, now=now)
    _record(db, account, step.crossings)


def take(db: sqlite3.Connection, control: Control, taken: Taken, *, device: str, now: int) -> tuple[int, ...]:
    """What follows from an envelope, once; the turns whose runs are to be cancelled."""
    account = control.place.account
    cursor = db.execute(
        "UPDATE events SET handled_at = ? WHERE seq = ? AND handled_at IS NULL", [now, control.seq]
    )
    if cursor.rowcount == 0:
        return ()
    if taken.seen is not None:
        name, until = taken.seen
        db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?, ?, ?)", [account, taken.peer, name, until])
        db.execute("DELETE FROM seen WHERE account = ? AND until < ?", [account, now])
    if taken.card is not None:
        _card(db, account, taken.peer, taken.card, taken.iat)
    if taken.grant is not None:
        _upsert(db, account, taken.peer, theirs=taken.grant, newest=taken.iat)
    cancelled: tuple[int, ...] = ()
    if taken.ask is not None:
        turn = None if taken.ask.state != "open" else _asked(db, control, taken.waited, now)
        _insert(db, account, taken.ask, turn)
    if taken.closed is not None:
        row = _close(db, account, taken.closed, now)
        if row is not None and taken.closed.told is not None:
            go_on(db, row, taken.closed.told, control.event, now)
    if taken.cancels:
        cancelled = _cancelled(db, account, taken.cancels, now)
    _send(db, account, (*taken.sends, *taken.says), None, device=device, now=now)
    _record(db, account, taken.crossings)
    if not any(one.allowed for one in taken.crossings):
        memory.erase_event(db, account, control.event)  # a flood of what nobody believes fills no disk
    return cancelled


def refuse(db: sqlite3.Connection, account: str, peer: str, now: int, *, refuse: bool) -> None:
    """Refuse a peer, or no longer."""
    db.execute("INSERT OR IGNORE INTO peers (account, peer) VALUES (?, ?)", [account, peer])
    db.execute(
        "UPDATE peers SET refused_at = ? WHERE account = ? AND peer = ?",
        [now if refuse else None, account, peer],
    )


def tell(
    db: sqlite3.Connection,
    account: str,
    peer: str,
    sent: Sent,
    crossing: Crossing,
    *,
    device: str,
    now: int,
    **what: str,
) -> None:
    """Tell `peer` our card or grant; `what` is the column that remembers it, and what it was told."""
    _upsert(db, account, peer, **what)
    _send(db, account, (sent,), None, device=device, now=now)
    _record(db, account, (crossing,))


def untell(db: sqlite3.Connection, account: str, peer: str) -> None:
    """Forget what `peer` was told of us, so that it is told anew."""
    db.execute(
        "UPDATE peers SET told_card = '', told_grant = '' WHERE account = ? AND peer = ?", [account, peer]
    )


def cancel_told(
    db: sqlite3.Connection,
    account: str,
    one: Ask,
    told_it: tuple[Sent, Crossing] | None,
    *,
    device: str,
    now: int,
) -> None:
    """The peer is told that an ask of ours is over (None: it cannot be)."""
    db.execute(
        "UPDATE asks SET state = 'cancelled', closed_at = ? WHERE account = ? AND digest = ? "
        "AND state = 'cancelling'",
        [now, account, one.digest],
    )
    if told_it is not None:
        sent, crossing = told_it
        _send(db, account, (sent,), None, device=device, now=now)
        _record(db, account, (crossing,))


def unsent(
    db: sqlite3.Connection, account: str, key: str, crossing: Crossing, closed: Closed | None, now: int
) -> None:
    """An envelope may not be sent any more: it is withdrawn, and whoever waits for an answer is told."""
    db.execute(
        "UPDATE actions SET state = 'withdrawn', done_at = ? WHERE key = ? AND state = 'pending'", [now, key]
    )
    outbox.erase_payloads(db, "key = ?", [key])
    _record(db, account, (crossing,))
    row = None if closed is None else _close(db, account, closed, now)
    if row is not None and closed is not None and closed.told is not None:
        go_on(db, row, closed.told, f"unsent:{key}", now)


def end(db: sqlite3.Connection, turn: int, now: int) -> None:
    """A turn no longer waits: what it asked of a peer is over."""
    db.execute(
        "UPDATE asks SET state = 'ended', closed_at = ? WHERE turn = ? AND ours AND state = 'open'",
        [now, turn],
    )


def end_over(db: sqlite3.Connection, account: str, before: int) -> int:
    """End the asks whose time was over `before` (ms) and that nothing else has ended; how many."""
    return db.execute(
        "UPDATE asks SET state = 'ended', closed_at = exp WHERE account = ? AND state = 'open' AND exp < ?",
        [account, before],
    ).rowcount


def go_on(db: sqlite3.Connection, row: sqlite3.Row, told_: FromPeer, cause: str, now: int) -> None:
    """Start the turn that says how the ask of `row` ended, if somebody still waits for that."""
    turn = db.execute(
        f"SELECT * FROM turns t WHERE id = ? AND state = 'waiting' AND {NOT_CONTINUED}", [row["turn"]]
    ).fetchone()
    if turn is None:
        return
    db.execute(
        "UPDATE turns SET wait_state = json_set(wait_state, '$.from', json(?)) WHERE id = ?",
        [json.dumps(asdict(told_)), turn["id"]],
    )
    root = turn
    while root["kind"] in (TurnKind.ANSWERED, TurnKind.DEADLINE) and root["parent"] is not None:
        root = db.execute("SELECT * FROM turns WHERE id = ?", [root["parent"]]).fetchone()
    db.execute(
        "INSERT OR IGNORE INTO turns (account, place, thread, lane, kind, bot, cause, message, asker, "
        "parent, state, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending', ?)",
        [
            turn["account"], turn["place"], turn["thread"], turn["lane"], str(TurnKind.ANSWERED), ENVOY,
            cause, root["message"], root["asker"], turn["id"], now,
        ],
    )  # fmt: skip


def _asked(db: sqlite3.Connection, control: Control, waited: Mapping[str, object], now: int) -> int | None:
    """The turn that answers a peer."""
    place = control.place
    cursor = db.execute(
        "INSERT OR IGNORE INTO turns (account, place, lane, kind, bot, cause, message, asker, state, "
        "created_at, wait_state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'pending', ?, ?)",
        [
            place.account, place.id, f"{place.id}\x1f{control.event}", str(TurnKind.ASKED), ENVOY,
            control.event, control.event, control.message.sender.id, now, json.dumps(dict(waited)),
        ],
    )  # fmt: skip
    return cursor.lastrowid if cursor.rowcount else None


def _insert(db: sqlite3.Connection, account: str, one: Ask, turn: int | None) -> None:
    row = asdict(one) | {"account": account, "class": one.cls, "turn": turn}
    del row["cls"]
    columns, values = ", ".join(row), ", ".join(f":{name}" for name in row)
    db.execute(f"INSERT OR IGNORE INTO asks ({columns}) VALUES ({values})", row)


def _close(db: sqlite3.Connection, account: str, closed: Closed, now: int) -> sqlite3.Row | None:
    row: sqlite3.Row | None = db.execute(
        "SELECT * FROM asks WHERE account = ? AND digest = ? AND state = 'open'", [account, closed.digest]
    ).fetchone()
    if row is not None:
        db.execute(
            "UPDATE asks SET state = ?, reply = ?, closed_at = ? WHERE seq = ?",
            [closed.state, closed.reply, now, row["seq"]],
        )
    return row


def _cancelled(db: sqlite3.Connection, account: str, digest: str, now: int) -> tuple[int, ...]:
    row = _close(db, account, Closed(digest, "cancelled"), now)
    turn = (
        None
        if row is None
        else db.execute(
            "SELECT * FROM turns WHERE id = ? AND state IN ('pending', 'running')", [row["turn"]]
        ).fetchone()
    )
    if turn is None:
        return ()
    close_turn(db, turn["id"], Outcome.WITHDRAWN, _CANCELLED, now)
    return (turn["id"],)


def _card(db: sqlite3.Connection, account: str, peer: str, card: Card, iat: int) -> None:
    before = db.execute(
        "SELECT card_at FROM peers WHERE account = ? AND peer = ?", [account, peer]
    ).fetchone()
    if before is not None and before["card_at"] >= iat:
        return
    _upsert(
        db,
        account,
        peer,
        name=card.name,
        about=card.description,
        shown_key=card.key,
        capabilities=json.dumps(card.capabilities),
        languages=json.dumps(card.languages),
        card_at=iat,
        told_grant="",  # whoever shows a card may not have believed what it was told before
    )


def _upsert(db: sqlite3.Connection, account: str, peer: str, **values: str | int) -> None:
    db.execute("INSERT OR IGNORE INTO peers (account, peer) VALUES (?, ?)", [account, peer])
    columns = ", ".join(f"{name} = ?" for name in values)
    db.execute(
        f"UPDATE peers SET {columns} WHERE account = ? AND peer = ?", [*values.values(), account, peer]
    )


def _send(
    db: sqlite3.Connection, account: str, sends: Iterable[Sent], turn: int | None, *, device: str, now: int
) -> None:
    for one in sends:
        of = {"account": account, "place": one.place, "id": turn, "bot": ENVOY, "cause": one.cause}
        outbox.put(db, of, one.keyed, device=device, now=now)


def _record(db: sqlite3.Connection, account: str, found: Iterable[Crossing]) -> None:
    for crossing in found:
        crossings.append(db, account, crossing)
