"""What the journal knows of peers: who is linked, which keys are pinned, what was asked and told."""

from __future__ import annotations

import json
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from bots.base import Peer
from bridge.link.beside import is_agent
from bridge.link.envelope import Header, Signed
from bridge.link.opening import Asked, Known
from policies.classes import Class
from policies.grant import Direction, Grant, read_grant

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from policies.document import Unreadable

COUNTED: Final = 30
"""Our last questions to a peer, by which it is chosen."""
DAY_MS: Final = 86_400_000
_ALIKE: Final = f"AND (class = '{Class.SHARED_NOTES}') = (? = '{Class.SHARED_NOTES}') "
"""SQL: of the class of passages, or of any other, as the one that is given."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A question to a peer (`ours`), or from one.

    `person` is who asks: an address, or the pseudonym that the peer gives. `place` is where it was put: one
    of our rooms, or the link room. `iat` is when we sent it or got it, `exp` when it ends (ms). `signed` is a
    JSON list of signed headers, the last that of the ask; never words. `key` is the peer's, pinned then:
    a permission that ends meanwhile makes the answer one that is not shown, not one that nobody believes.
    """

    peer: str
    id: str
    ours: bool
    digest: str
    room_ref: str
    place: str
    person: str
    cls: str
    share: str
    hops: int
    iat: int
    exp: int
    signed: str
    key: str = ""
    turn: int | None = None
    state: str = "open"


@dataclass(frozen=True, slots=True)
class Use:
    """What was asked of a peer in 24 hours, the key that it shows, and its grant for us (`""`: none).

    An `agent` is no Hearth: it has no room that could decide, and its key is the fingerprint of its card.
    """

    peer_today: int = 0
    person_today: int = 0
    key: str = ""
    theirs: str = ""
    agent: bool = False
    pinned: str = ""
    """The key that our rooms pin for it."""

    def granted(self, us: str, ours: Grant | Unreadable | None) -> Grant | Unreadable | None:
        """What the peer grants us. For an agent nobody there decides: our own grant stands for both sides."""
        if self.agent:
            return ours.model_copy(update={"direction": Direction.BOTH}) if isinstance(ours, Grant) else ours
        return read_grant(self.theirs, us) if self.theirs else None


def peers(db: sqlite3.Connection, account: str, place: str) -> tuple[Peer, ...]:
    """The peers that `place` has a grant for, or that we share a link room with; sorted by address."""
    there = rooms(db, account)
    row = db.execute("SELECT grants FROM places WHERE account = ? AND id = ?", [account, place]).fetchone()
    granted = [] if row is None else [peer for peer, _ in json.loads(row["grants"])]
    return tuple(_peer(db, account, place, one, linked=one in there) for one in sorted({*granted, *there}))


def rooms(db: sqlite3.Connection, account: str) -> dict[str, str]:
    """The link room of each peer that is in one with us. Of several it is the same one on both sides."""
    rows = db.execute(
        "SELECT p.id, j.value AS peer FROM places p, json_each(p.links) j "
        "WHERE p.account = ? AND p.joined AND p.links IS NOT NULL ORDER BY p.id DESC",
        [account],
    )
    return {row["peer"]: row["id"] for row in rows}


def _peer(db: sqlite3.Connection, account: str, place: str, peer: str, *, linked: bool) -> Peer:
    row = db.execute("SELECT * FROM peers WHERE account = ? AND peer = ?", [account, peer]).fetchone()
    asks = db.execute(
        "SELECT iat, closed_at, state FROM asks WHERE account = ? AND peer = ? AND ours "
        "AND state != 'open' ORDER BY iat DESC LIMIT ?",
        [account, peer, COUNTED],
    ).fetchall()
    here = db.execute(
        "SELECT 1 FROM asks WHERE account = ? AND peer = ? AND ours AND place = ? LIMIT 1",
        [account, peer, place],
    ).fetchone()
    waits = [one["closed_at"] - one["iat"] for one in asks if one["state"] == "answered"]
    return Peer(
        address=peer,
        name="" if row is None else row["name"],
        key="" if row is None else row["shown_key"],
        capabilities=() if row is None else tuple(json.loads(row["capabilities"])),
        languages=() if row is None else tuple(json.loads(row["languages"])),
        linked=linked,
        asked_here=here is not None,
        asked=len(asks),
        answered=len(waits),
        wait_ms=round(median(waits)) if waits else None,
    )


def known(db: sqlite3.Connection, account: str, us: str) -> Known:
    """What we know when an envelope arrives: pinned keys, open asks, what was seen."""
    shown = db.execute("SELECT peer, shown_key, newest FROM peers WHERE account = ?", [account]).fetchall()
    asks = db.execute("SELECT * FROM asks WHERE account = ? AND state = 'open'", [account]).fetchall()
    return Known(
        us=us,
        keys={row["peer"]: row["key"] for row in asks if row["ours"] and row["key"]} | pinned(db, account),
        seen=_Seen(db, account),
        asks={
            row["digest"]: Asked(row["id"], row["room_ref"], row["peer"], bool(row["ours"]), row["hops"])
            for row in asks
        },
        newest={row["peer"]: row["newest"] for row in shown},
        shown={row["peer"]: row["shown_key"] for row in shown if row["shown_key"]},
    )


class _Seen:
    """`(from, id)` of what was opened before, asked of the database where it is needed."""

    def __init__(self, db: sqlite3.Connection, account: str) -> None:
        self._db = db
        self._account = account

    def __contains__(self, what: object) -> bool:
        peer, name = what if isinstance(what, tuple) else ("", "")
        found = self._db.execute(
            "SELECT 1 FROM seen WHERE account = ? AND peer = ? AND id = ?", [self._account, peer, name]
        )
        return found.fetchone() is not None


def pinned(db: sqlite3.Connection, account: str) -> dict[str, str]:
    """The key that our rooms pin for each peer; none where two of them pin different ones."""
    keys: dict[str, set[str]] = {}
    for row in db.execute("SELECT grants FROM places WHERE account = ? AND joined", [account]):
        for peer, standing in json.loads(row["grants"]):
            grant = read_grant(standing["text"], peer)
            if isinstance(grant, Grant) and grant.app_ed25519:
                keys.setdefault(peer, set()).add(grant.app_ed25519)
    return {peer: next(iter(of)) for peer, of in keys.items() if len(of) == 1}


def use(
    db: sqlite3.Connection, account: str, place: str, peer: str, person: str, now: int, cls: str = ""
) -> Use:
    """How often `place`, and `person`, asked `peer` in the last 24 hours; what the peer shows and grants.

    Questions of the class of passages are counted apart from all others, as `cls` is that class or not.
    """
    day = now - DAY_MS
    here = "SELECT count(*) FROM asks WHERE account = ? AND peer = ? AND ours AND iat > ? " + _ALIKE
    row = db.execute("SELECT * FROM peers WHERE account = ? AND peer = ?", [account, peer]).fetchone()
    key = "" if row is None else row["shown_key"]
    in_grants = pinned(db, account).get(peer, "")
    return Use(
        db.execute(here + "AND place = ?", [account, peer, day, cls, place]).fetchone()[0],
        db.execute(here + "AND person = ?", [account, peer, day, cls, person]).fetchone()[0],
        key or in_grants,
        "" if row is None else row["theirs"],
        is_agent(rooms(db, account).get(peer, "")),
        in_grants,
    )


def asked_us(db: sqlite3.Connection, account: str, peer: str, now: int, cls: str) -> int:
    """How often `peer` asked us in the last 24 hours and was not refused; counted as in `use`."""
    return int(
        db.execute(
            "SELECT count(*) FROM asks WHERE account = ? AND peer = ? AND NOT ours AND iat > ? "
            f"AND state != 'refused' {_ALIKE}",
            [account, peer, now - DAY_MS, cls],
        ).fetchone()[0]
    )


def ask(
    db: sqlite3.Connection, account: str, *, digest: str = "", name: str = "", peer: str = ""
) -> Ask | None:
    """The ask with that digest, or with that id (`name`) to or from that peer."""
    row = db.execute(
        "SELECT * FROM asks WHERE account = ? AND (digest = ? OR (id = ? AND peer = ?)) ORDER BY seq",
        [account, digest, name, peer],
    ).fetchone()
    return None if row is None else ask_of(row)


def cancelling(db: sqlite3.Connection, account: str) -> list[Ask]:
    """Asks of ours that are over, of which the peer has not been told."""
    rows = db.execute("SELECT * FROM asks WHERE account = ? AND state = 'cancelling'", [account])
    return [ask_of(row) for row in rows]


def ask_of(row: sqlite3.Row) -> Ask:
    """The ask in a row of `asks`."""
    values = {name: row[name] for name in row.keys() if name in Ask.__dataclass_fields__}  # noqa: SIM118 - a Row
    return Ask(**(values | {"ours": bool(row["ours"]), "cls": row["class"]}))


def proof(
    db: sqlite3.Connection, account: str, place: str, event_id: str
) -> tuple[tuple[Signed, ...], dict[str, str]]:
    """The signed headers behind what we said in `event_id`, of the ask and its reply; and the keys by peer.

    Of the peer that is the key that was pinned then: what was signed stays signed when a permission ends.
    """
    row = db.execute(
        "SELECT turn FROM actions WHERE account = ? AND place = ? AND remote_id = ?",
        [account, place, event_id],
    ).fetchone()
    turn = None if row is None else row["turn"]
    while turn is not None:
        one = db.execute("SELECT * FROM asks WHERE turn = ? AND ours", [turn]).fetchone()
        if one is not None:
            steps = [step for text in (one["signed"], one["reply"]) if text for step in json.loads(text)]
            then = {one["peer"]: one["key"]} if one["key"] else {}
            return tuple(_signed(step) for step in steps), pinned(db, account) | then
        turn = db.execute("SELECT parent FROM turns WHERE id = ?", [turn]).fetchone()["parent"]
    return (), {}


def _signed(step: Mapping[str, Any]) -> Signed:
    header = Header.model_validate_json(json.dumps(step["envelope"]), by_alias=True, by_name=False)
    return Signed(header, step["signature"])


def told(db: sqlite3.Connection, account: str) -> dict[str, tuple[str, str]]:
    """For each peer what it was told last: our card, our grant (`""`: nothing)."""
    rows = db.execute("SELECT peer, told_card, told_grant FROM peers WHERE account = ?", [account])
    return {row["peer"]: (row["told_card"], row["told_grant"]) for row in rows}


def wanted(db: sqlite3.Connection, account: str) -> frozenset[str]:
    """The peers with which some room wants to share a link room."""
    rows = db.execute("SELECT peer FROM peers WHERE account = ? AND wanted_in != ''", [account])
    return frozenset(row["peer"] for row in rows)


def wanted_in(db: sqlite3.Connection, account: str, peer: str) -> str:
    """The room that asked for the link with `peer`; `""`: none."""
    row = db.execute("SELECT wanted_in FROM peers WHERE account = ? AND peer = ?", [account, peer]).fetchone()
    return "" if row is None else str(row["wanted_in"])


def refused(db: sqlite3.Connection, account: str) -> frozenset[str]:
    """The peers that whoever runs this has refused."""
    rows = db.execute("SELECT peer FROM peers WHERE account = ? AND refused_at IS NOT NULL", [account])
    return frozenset(row["peer"] for row in rows)


def has_over(db: sqlite3.Connection, account: str, before: int) -> bool:
    """Whether there are open asks whose time was over `before` (ms)."""
    row = db.execute(
        "SELECT 1 FROM asks WHERE account = ? AND state = 'open' AND exp < ? LIMIT 1", [account, before]
    ).fetchone()
    return row is not None
