"""Links: sealing and opening beside bare Ed25519, the record beside plain rows, and the choice among peers.

The floor of an envelope is the signature alone, over the bytes of its header; that of the record is the same
rows in a table without a chain.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import statistics
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sqlite_utils import Database

from bots.asking import ANSWERS, choose
from bots.conversation import Person, Place
from bridge.journal import Admission, Journal
from bridge.journal.crossings import Crossing, append, verify
from bridge.journal.migrations import migrations
from bridge.journal.peers import Ask
from bridge.link.canonical import canonical
from bridge.link.envelope import CONTEXT
from bridge.link.opening import Opened, open_envelope
from bridge.platform import Batch, PlaceFacts
from policies.classes import Class
from policies.decide import Deed, Request, decide
from policies.document import Standing
from policies.grant import DAY_MS, grants_of, read_grant
from policies.room import LOOSEST
from tests.bench.table import Row, at_most, seconds
from tests.bridge import city
from tests.fakes.clock import VirtualClock, run
from tests.fakes.process import Process
from tests.fakes.server import FakeServer
from tests.link.samples import CITY, FAMILY, HOUR, KEYS, NOW, PINNED, ask, known

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from bots.base import Peer
    from bridge.journal.peers import Use
    from policies.verdict import Verdict

ACCOUNT = "@hearth:bench.test"
ADA = "@ada:bench.test"
PEERS, ROOMS, ASKS_EACH = 50, 20, 30
"""Each room has a grant for each peer: 1,000. Each peer was asked as often as the choice looks back."""
GOAL_MS = 1.0
ENOUGH = f"{PEERS} peers, {PEERS * ROOMS:,} grants"


def _rate(took: float, times: int) -> str:
    return f"{times / took:,.0f}/s ({took / times * 1e6:.0f} us each)"


def _timed(work: Callable[[int], object], times: int) -> float:
    started = time.perf_counter()
    for number in range(times):
        work(number)
    return time.perf_counter() - started


# -- envelopes -------------------------------------------------------------------------------------


def envelopes(times: int) -> list[Row]:
    """A question of usual length, sealed and opened; each envelope another one."""
    sealed = [ask(number + 1) for number in range(times)]
    knows = known(CITY)
    signed = [CONTEXT + canonical(one.signed.header.plain()) for one in sealed]
    private, public = KEYS[FAMILY], KEYS[FAMILY].public_key()
    signatures = [private.sign(one) for one in signed]

    def opens(number: int) -> None:
        assert isinstance(open_envelope(sealed[number].text, knows, sender=FAMILY, now=NOW), Opened)

    found = []
    for what, ours, bare, floor in (
        ("sealed", lambda number: ask(number + 1), lambda number: private.sign(signed[number]), "sign"),
        ("opened", opens, lambda number: public.verify(signatures[number], signed[number]), "verify"),
    ):
        here, below = _timed(ours, times), _timed(bare, times)
        name = f"links: envelopes {what} ({len(sealed[0].text):,} bytes)"
        beside = f"bare {floor}: {_rate(below, times)}"
        found.append(Row(name, _rate(here, times), beside, f"{here / below:.1f}x"))
    return found


# -- the record ------------------------------------------------------------------------------------


def _crossing(number: int) -> Crossing:
    return Crossing(
        at=NOW + number,
        peer=_peer(number % PEERS),
        place="!link:bench.test",
        way="out",
        kind="ask",
        envelope=f"{number:022d}",
        digest=f"{number:064x}",
        allowed=True,
        code="allowed",
        rule="grant.classes",
        policy="$poll",
        bytes=900,
    )


def record(folder: Path, rows: int) -> list[Row]:
    """Rows of the record beside the same without hashes, within one transaction each; then the proof of all.

    In the bridge a row is a part of a transaction that is made anyway: its commit is not counted here.
    """
    db = sqlite3.connect(folder / "record.db", isolation_level=None)
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA journal_mode = WAL")
    migrations.apply(Database(db))
    names = [*asdict(_crossing(0)), "account", "prev", "hash"]
    db.execute(f"CREATE TABLE plain (seq INTEGER PRIMARY KEY AUTOINCREMENT, {', '.join(names)})")
    insert = f"INSERT INTO plain ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
    crossings = [_crossing(number) for number in range(rows)]
    empty = [ACCOUNT, "0" * 64, "0" * 64]
    took = []
    for work in (
        lambda number: append(db, ACCOUNT, crossings[number]),
        lambda number: db.execute(insert, [*asdict(crossings[number]).values(), *empty]),
    ):
        db.execute("BEGIN")
        took.append(_timed(work, rows))
        db.execute("COMMIT")
    ours, plain = took
    started = time.perf_counter()
    proof = verify(db, ACCOUNT)
    proving = time.perf_counter() - started
    assert (proof.count, proof.broken) == (rows, None)
    db.close()
    return [
        Row(
            f"links: crossings recorded ({rows:,}, commits left out)",
            _rate(ours, rows),
            f"plain rows: {_rate(plain, rows)}",
            f"{ours / plain:.1f}x",
        ),
        Row(
            f"links: record of {rows:,} proven",
            seconds(proving),
            "",
            f"{seconds(proving * 100_000 / rows)} per 100,000",
        ),
    ]


# -- the choice ------------------------------------------------------------------------------------


def _peer(number: int) -> str:
    return f"bot{number}:community{number}.example"


def _grant(peer: str, direction: str, poll: str = "$poll") -> str:
    fields = {
        "v": 1, "peer": peer, "app_ed25519": PINNED[CITY], "direction": direction,
        "classes": ["general", "local-knowledge"], "per_day": 10, "not_before": NOW - DAY_MS,
        "until": NOW + DAY_MS, "status": "active", "decided_by": poll,
    }  # fmt: skip
    return json.dumps(fields)


def _rooms() -> tuple[PlaceFacts, ...]:
    classes = ["general", "local-knowledge"]
    rules = json.dumps({"v": 1, "mode": "admin", "ask_peers": ["*"], "classes_out": classes})
    standing = Standing(rules, "@mod:bench.test", NOW)
    rooms = []
    for number in range(ROOMS):
        # Each room decided for itself, so that no two grants are the same text (reading them is cached).
        grants = tuple(
            (peer, Standing(_grant(peer, "ask", f"$poll{number}"), "@mod:bench.test", NOW))
            for peer in map(_peer, range(PEERS))
        )
        place = Place(ACCOUNT, f"!room{number}:bench.test", policy=standing, grants=grants)
        rooms.append(PlaceFacts(place, (Person(ADA, "Ada"),)))
    rooms += [
        PlaceFacts(Place(ACCOUNT, f"!link{number}:bench.test"), links=(_peer(number),))
        for number in range(PEERS)
    ]
    return tuple(rooms)


def _past(db: sqlite3.Connection) -> None:
    """What peers showed and granted, and what they were asked lately."""
    for number in range(PEERS):
        peer, theirs = _peer(number), _grant(ACCOUNT.removeprefix("@"), "answer", f"$poll{number}")
        db.execute(
            "INSERT INTO peers (account, peer, shown_key, theirs) VALUES (?, ?, ?, ?)",
            [ACCOUNT, peer, PINNED[CITY], theirs],
        )
        for count in range(ASKS_EACH):
            one = Ask(
                peer=peer, id=f"{count:022d}", ours=True, digest=f"{number * 1000 + count:064x}", room_ref="",
                place=f"!room{count % ROOMS}:bench.test", person=ADA, cls="general", share=ANSWERS, hops=0,
                iat=NOW - (count + 25) * HOUR, exp=NOW, signed="[]", key=PINNED[CITY], state="answered",
            )  # fmt: skip
            values = asdict(one) | {"account": ACCOUNT, "closed_at": one.iat + number * 100}
            values["class"] = values.pop("cls")
            marks = ", ".join(f":{name}" for name in values)
            db.execute(f"INSERT INTO asks ({', '.join(values)}) VALUES ({marks})", values)


async def _median(work: Callable[[int], Awaitable[Any]], times: int) -> tuple[float, float]:
    """p50 and p99, ms."""
    took = []
    for number in range(times):
        started = time.perf_counter()
        await work(number)
        took.append((time.perf_counter() - started) * 1000)
    took.sort()
    return statistics.median(took), took[int(0.99 * len(took))]


def _row(what: str, times: tuple[float, float], target: str = "") -> Row:
    p50, p99 = times
    met = at_most(p50, GOAL_MS) if target else None
    return Row(f"links: {what}", f"{p50:.3f} ms (p99 {p99:.3f} ms)", "", f"{p50:.3f} ms", target, met)


async def choice(folder: Path, times: int) -> list[Row]:
    """May this peer be asked, and whom do we ask: without and with what has to be read for it."""
    journal = await Journal.open(folder / "journal.db")
    await journal.admit(Batch(ACCOUNT, "1", places=_rooms()), lambda *_: Admission(), NOW)
    await journal._store.write(_past)
    facts = [await journal.place(ACCOUNT, f"!room{number}:bench.test") for number in range(ROOMS)]
    peers = await journal.peers_of(ACCOUNT, "!room0:bench.test")
    assert len(peers) == PEERS
    uses = [await journal.link_use(ACCOUNT, "", _peer(number), ADA, NOW) for number in range(PEERS)]

    def may(place: PlaceFacts | None, number: int, use: Use | None = None) -> Verdict:
        assert place is not None
        theirs = read_grant((use or uses[number % PEERS]).theirs, ACCOUNT.removeprefix("@"))
        request = Request(
            Deed.ASK_PEER, ADA, peer=_peer(number % PEERS), peer_key=PINNED[CITY], cls=Class.GENERAL
        )
        grants = grants_of(place.place.grants)
        return decide(LOOSEST, grants, request, NOW, room=place.place.policy, theirs=theirs)

    assert all(may(facts[number % ROOMS], number).allowed for number in range(PEERS))

    async def decides(number: int) -> object:
        return may(facts[number % ROOMS], number)

    async def chooses(_number: int) -> object:
        return choose(peers, ANSWERS, "en")

    async def reads(number: int) -> object:
        room = f"!room{number % ROOMS}:bench.test"
        place = await journal.place(ACCOUNT, room)
        return may(place, number, await journal.link_use(ACCOUNT, room, _peer(number % PEERS), ADA, NOW))

    async def acquainted(number: int) -> tuple[Peer, ...]:
        return await journal.peers_of(ACCOUNT, f"!room{number % ROOMS}:bench.test")

    async def arrives(number: int) -> object:
        # Whatever arrives, the peer's own grant is read beside the keys that our rooms pin.
        read_grant(uses[number % PEERS].theirs, ACCOUNT.removeprefix("@"))
        return await journal.link_known(ACCOUNT, "hearth:bench.test", lambda known: known.keys)

    goal = f"<= {GOAL_MS:.0f} ms"
    found = [
        _row(f"may this peer be asked ({ENOUGH})", await _median(decides, times), goal),
        _row(f"the choice among {PEERS} peers", await _median(chooses, times), goal),
        _row("may it be asked, with the grants read", await _median(reads, times), goal),
        _row(f"{PEERS} peers read for the choice", await _median(acquainted, max(20, times // 20))),
        _row("the keys read as an envelope arrives", await _median(arrives, max(20, times // 20))),
    ]
    await journal.close()
    return found


# -- what a question costs the journal --------------------------------------------------------------

WRITING = frozenset({"admit", "claim", "settle", "acknowledge", "take"})
"""Transactions that write something here; the others find nothing to do."""


async def transactions(folder: Path) -> list[Row]:
    """A question without a preview and its answer, and a question of the peer's: counted, in virtual time."""
    server = FakeServer(VirtualClock().now)
    city.linked(server)
    city.rules(server, preview="never")
    city.allow(server)
    other = city.City(server)
    process = Process(server, folder / "counted.db", policy=LOOSEST, community=city.COMMUNITY)
    await process.start()
    other.card()
    other.grants()
    await process.idle()
    found = []
    for what in ("asked and told", "answered"):
        begin, sent = len(process.boundaries.crossed), len(server.log)
        if what == "answered":
            other.ask("Who won?", Class.GENERAL)
        else:
            server.say("!ask city When does the pool open?")
            await process.idle()
            other.answer()
        await process.idle()
        crossed = [name.split() for name in process.boundaries.crossed[begin:]]
        count = sum(1 for when, name in crossed if when == "after" and name in WRITING)
        events = [one.event for one in list(server.log.values())[sent:] if one.event.place == city.LINK]
        told = f"{count} transactions, {len(events)} events in the link room"
        found.append(Row(f"links: a question {what}", told, "", str(count), "<= 10", count <= 10))
    await process.stop()
    return found


async def measure(folder: Path, *, quick: bool) -> list[Row]:
    """All rows of this part."""
    return [
        *envelopes(500 if quick else 5_000),
        *record(folder, 20_000 if quick else 100_000),
        *await choice(folder, 1_000 if quick else 10_000),
        # In a loop of its own: time is virtual there.
        *await asyncio.to_thread(lambda: run(transactions(folder))),
    ]
