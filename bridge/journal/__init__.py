"""The truth: what arrived, what was decided, what is to be done, what was done.

`Journal` is the whole of it for the rest of the bridge: each method is one transaction of
DESIGN.md section 3 (T1 `admit`, T2 `claim`, T2b `draft`, T3 `settle`, T4 `acknowledge`) or one
read. Time comes in as `now` (milliseconds since the Unix epoch). Errors of SQLite (a full disk)
come out as `sqlite3.Error` with nothing changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from bridge.journal import admit as t1
from bridge.journal import crossings, documents, inspect, links, memory, outbox, peers, turns, votes
from bridge.journal.beside import Beside
from bridge.journal.rows import (
    LONG,
    ActionRow,
    ActionState,
    Admission,
    Admitted,
    Claimed,
    Control,
    Counters,
    Counts,
    Known,
    Legible,
    Outcome,
    Settlement,
    TurnDetail,
    TurnRow,
    TurnState,
    Unread,
)
from bridge.journal.store import Store
from bridge.platform import Event, EventKind

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Self

    from bots.base import Decided, Peer, Vote
    from bots.conversation import Keyed, Place, Say
    from bridge.journal.votes import Braking, Closing
    from bridge.link import opening
    from bridge.link.envelope import Signed
    from bridge.platform import Batch, PlaceFacts, StoredAction
    from policies.document import Standing
    from policies.verdict import Verdict

T = TypeVar("T")


class Journal:
    """The journal of one data folder. Made by `await Journal.open(path)`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.beside = Beside(store)
        """What the links over HTTPS look up."""

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Open or create the journal at `path`. Raises `Misconfigured` where it cannot be used."""
        return cls(await Store.open(path))

    async def close(self) -> None:
        """Finish what is being written and close."""
        await self._store.close()

    async def checkpoint(self) -> None:
        """Truncate the write-ahead log, so that what was erased is erased there too."""
        await self._store.checkpoint()

    # -- T1 ---------------------------------------------------------------------------------------

    async def admit(self, batch: Batch, judge: Callable[[Event, Known], Admission], now: int) -> Admitted:
        """T1: every new event of `batch` and the cursor, or nothing."""
        return await self._store.write(lambda db: t1.Admit(db, batch.account, judge, now).batch(batch))

    async def cursor(self, account: str) -> str | None:
        """Where to go on, or None before the first batch."""
        row = await self._store.read(
            lambda db: db.execute("SELECT cursor FROM cursors WHERE account = ?", [account]).fetchone()
        )
        return None if row is None else row["cursor"]

    async def unread(self, account: str, since: int) -> list[Unread]:
        """What people wrote since then (ms) and has no key here, oldest first."""
        return await self._store.read(lambda db: inspect.unread(db, account, since))

    async def legible(self, account: str) -> list[Legible]:
        """The encrypted places that we are in, with what could be read there and what not."""
        return await self._store.read(lambda db: inspect.legible(db, account))

    async def sealed(self, account: str, limit: int = 1000) -> tuple[Event, ...]:
        """Events that could not be read yet, newest `limit`, oldest first."""
        rows = await self._store.read(
            lambda db: db.execute(
                "SELECT * FROM events WHERE account = ? AND sealed IS NOT NULL ORDER BY seq DESC LIMIT ?",
                [account, limit],
            ).fetchall()
        )
        return tuple(t1.sealed_event(row) for row in reversed(rows))

    async def answered(self, account: str, since: int, limit: int = 1000) -> tuple[Event, ...]:
        """Messages admitted after `since` (ms) to which we said something, oldest first."""
        return await self._store.read(lambda db: turns.answered(db, account, since, limit))

    # -- T2, T2b, T3 -------------------------------------------------------------------------------

    async def recover(self, account: str, now: int, *, words: str = "", device: str = "") -> tuple[int, ...]:
        """At start: running turns are pending again. Ids of those parked for killing the process."""
        return await self._store.write(lambda db: turns.recover(db, account, now, words=words, device=device))

    async def claim(
        self, account: str, now: int, limit: int, context_messages: int, *, long_at_once: int = 1
    ) -> list[Claimed]:
        """T2: up to `limit` turns to run now, at most one per lane and `long_at_once` in `long` lanes.

        Not durable: a claim that power loss undoes is a pending turn, which is what it would be
        after the next start anyway.
        """
        return await self._store.write(
            lambda db: turns.claim(db, account, now, limit, context_messages, long_at_once), durable=False
        )

    async def draft(self, claimed: Claimed, keyed: Keyed, device: str, now: int) -> str | None:
        """T2b: the key of the stored draft, or None if the turn is no longer ours."""
        return await self._store.write(lambda db: turns.draft(db, claimed, keyed, device, now))

    async def settle(self, claimed: Claimed, settlement: Settlement, device: str, now: int) -> bool:
        """T3: False if the turn is no longer ours, and then nothing was done."""
        return await self._store.write(lambda db: turns.settle(db, claimed, settlement, device, now))

    async def failed(self, claimed: Claimed, not_before: int) -> bool:
        """A run failed: try again from `not_before` on."""
        return await self._store.write(lambda db: turns.failed(db, claimed, not_before))

    async def release(self, turn: int) -> None:
        """A graceful stop leaves the turn pending."""
        await self._store.write(lambda db: turns.release(db, turn))

    async def pass_deadlines(self, account: str, now: int) -> int:
        """Start the child turns of the waits that are over."""
        return await self._store.write(lambda db: turns.pass_deadlines(db, account, now))

    async def next_claim(self, account: str) -> int | None:
        """When to look for turns again (ms), if nothing else happens before."""
        return await self._store.read(lambda db: turns.next_claim(db, account))

    # -- controls ----------------------------------------------------------------------------------

    async def controls(self, account: str) -> list[Control]:
        """Controls that nobody has handled yet."""
        return await self._store.read(lambda db: turns.controls(db, account))

    async def stoppable(self, control: Control, *, everywhere: bool = False) -> list[tuple[int, str]]:
        """(turn, asker) of what a `!stop` could end: in its place and thread, or on the whole account."""
        place, thread = control.place, control.message.thread
        return await self._store.read(
            lambda db: turns.stoppable(db, place.account, place.id, thread, everywhere=everywhere)
        )

    async def stop_turns(
        self,
        control: Control,
        stopped: tuple[int, ...],
        verdict: Verdict,
        reply: Keyed,
        drafts_to: Say,
        device: str,
        now: int,
    ) -> None:
        """Verdict, effect and reply of a `!stop`, at once."""
        await self._store.write(
            lambda db: turns.handle_stop(db, control, stopped, verdict, reply, drafts_to, device, now)
        )

    async def counters(self, account: str, place: str, asker: str, now: int) -> Counters:
        """The facts that quotas and the loop budget look at."""
        return await self._store.read(lambda db: turns.counters(db, account, place, asker, now))

    # -- votes and documents -----------------------------------------------------------------------

    async def peers_of(self, account: str, place: str) -> tuple[Peer, ...]:
        """The peers that a place has a grant for, or that we are linked with; sorted by address."""
        return await self._store.read(lambda db: peers.peers(db, account, place))

    async def link_known(self, account: str, us: str, of: Callable[[opening.Known], T]) -> T:
        """What `of` makes of what we know when an envelope arrives."""
        return await self._store.read(lambda db: of(peers.known(db, account, us)))

    async def link_rooms(self, account: str) -> dict[str, str]:
        """The link room of each peer that is in one with us."""
        return await self._store.read(lambda db: peers.rooms(db, account))

    async def link_use(
        self, account: str, place: str, peer: str, person: str, now: int, cls: str = ""
    ) -> peers.Use:
        """How often a place and a person asked a peer in 24 hours; what that peer shows and grants."""
        return await self._store.read(lambda db: peers.use(db, account, place, peer, person, now, cls))

    async def asked_us(self, account: str, peer: str, now: int, cls: str) -> int:
        """How often a peer asked us in 24 hours and was not refused."""
        return await self._store.read(lambda db: peers.asked_us(db, account, peer, now, cls))

    async def ask(
        self,
        account: str,
        *,
        digest: str = "",
        name: str = "",
        peer: str = "",
    ) -> peers.Ask | None:
        """The ask with that digest, or with that id (`name`) to or from that peer."""
        return await self._store.read(lambda db: peers.ask(db, account, digest=digest, name=name, peer=peer))

    async def proof(
        self, account: str, place: str, event_id: str
    ) -> tuple[tuple[Signed, ...], dict[str, str]]:
        """The signed headers behind what we said in `event_id`, in order; and the keys by peer."""
        return await self._store.read(lambda db: peers.proof(db, account, place, event_id))

    async def links_to_tell(
        self, account: str
    ) -> tuple[dict[str, tuple[str, str]], dict[str, str], list[peers.Ask]]:
        """What each peer was told last (card, grant), the key that is pinned for it, the asks to cancel."""
        return await self._store.read(
            lambda db: (peers.told(db, account), peers.pinned(db, account), peers.cancelling(db, account))
        )

    async def refused_peers(self, account: str) -> frozenset[str]:
        """The peers that whoever runs this has refused, whatever rooms have decided."""
        return await self._store.read(lambda db: peers.refused(db, account))

    async def refuse_peer(self, account: str, peer: str, now: int, *, refuse: bool) -> None:
        """Refuse a peer, or no longer."""
        await self._store.write(lambda db: links.refuse(db, account, peer, now, refuse=refuse))

    async def crossed(
        self, account: str, peer: str, limit: int, asked_in: str = ""
    ) -> tuple[crossings.Crossing, ...]:
        """The last of what crossed, with one peer or (`""`) with all; newest first."""
        return await self._store.read(lambda db: crossings.of(db, account, peer, limit, asked_in))

    async def verify_crossings(self, account: str, head: str = "") -> crossings.Proof:
        """Whether the record of what crossed is whole, and still has the hash `head`."""
        return await self._store.read(lambda db: crossings.verify(db, account, head))

    async def wanted(self, account: str) -> frozenset[str]:
        """The peers with which some room wants to share a link room."""
        return await self._store.read(lambda db: peers.wanted(db, account))

    async def wanted_in(self, account: str, peer: str) -> str:
        """The room that asked for the link with `peer`; `""`: none."""
        return await self._store.read(lambda db: peers.wanted_in(db, account, peer))

    async def take(self, control: Control, taken: links.Taken, device: str, now: int) -> tuple[int, ...]:
        """What follows from an envelope, at once; the turns whose runs are to be cancelled."""
        return await self._store.write(lambda db: links.take(db, control, taken, device=device, now=now))

    async def tell_peer(
        self,
        account: str,
        peer: str,
        sent: links.Sent,
        crossing: crossings.Crossing,
        device: str,
        now: int,
        **what: str,
    ) -> None:
        """Tell a peer our card or our grant, and remember what it was told (`told_card`, `told_grant`)."""
        await self._store.write(
            lambda db: links.tell(db, account, peer, sent, crossing, device=device, now=now, **what)
        )

    async def untell(self, account: str, peer: str) -> None:
        """Forget what a peer was told of us, so that it is told anew."""
        await self._store.write(lambda db: links.untell(db, account, peer))

    async def cancel_told(
        self,
        account: str,
        one: peers.Ask,
        told_it: tuple[links.Sent, crossings.Crossing] | None,
        device: str,
        now: int,
    ) -> None:
        """The peer is told that an ask of ours is over."""
        await self._store.write(
            lambda db: links.cancel_told(db, account, one, told_it, device=device, now=now)
        )

    async def end_asks(self, account: str, before: int) -> int:
        """End the asks whose time was over `before` (ms); how many. Not durable: it can be done again."""
        if not await self._store.read(lambda db: peers.has_over(db, account, before)):
            return 0  # as it is nearly always: a read costs no place in the writer's queue
        return await self._store.write(lambda db: links.end_over(db, account, before), durable=False)

    async def unsent(
        self, account: str, key: str, crossing: crossings.Crossing, closed: links.Closed | None, now: int
    ) -> None:
        """An envelope may not be sent any more."""
        await self._store.write(lambda db: links.unsent(db, account, key, crossing, closed, now))

    async def votes(self, account: str, place: str, limit: int) -> tuple[Vote, ...]:
        """The votes of a place, newest first."""
        return await self._store.read(lambda db: votes.of_place(db, account, place, limit))

    async def votes_to_count(self, account: str, now: int) -> tuple[tuple[Vote, ...], int]:
        """Open votes that are due or have new ballots, and the newest event that was known then."""
        return await self._store.read(
            lambda db: (votes.to_count(db, account, now), votes.newest_event(db, account))
        )

    async def next_vote(self, account: str) -> int | None:
        """When the next open vote ends (ms)."""
        return await self._store.read(lambda db: votes.next_due(db, account))

    async def counted(self, account: str, vote: Vote, seen: int, now: int) -> None:
        """The ballots admitted up to event `seen` are in the count."""
        await self._store.write(lambda db: votes.counted(db, account, vote, seen, now))

    async def close_vote(
        self,
        account: str,
        vote: Vote,
        closing: Closing,
        actions: Sequence[Keyed],
        seen: int,
        device: str,
        now: int,
    ) -> bool:
        """Extend or end a vote and store what follows from it, at once; False as for `votes.close`."""

        def close(db: sqlite3.Connection) -> bool:
            done = votes.close(db, account, vote, closing, actions, device=device, now=now)
            if done:
                votes.counted(db, account, vote, seen, now)
            return done

        return await self._store.write(close)

    async def handle_brake(
        self,
        control: Control,
        peer: str,
        verdict: Verdict,
        decide: Callable[[frozenset[str]], Braking],
        device: str,
        now: int,
    ) -> Braking:
        """Verdict, effect and reply of a `!brake`, at once; `decide` is told who wants `peer` stopped."""

        def handle(db: sqlite3.Connection) -> Braking:
            braking = votes.handle_brake(db, control, peer, verdict, decide, device=device, now=now)
            if braking.documents:
                who, account = control.message.sender.id, control.place.account
                documents.set_for_account(db, account, braking.documents, by=who, now=now)
            return braking

        return await self._store.write(handle)

    async def unwritten(self, account: str, place: str) -> str | None:
        """The policy of the last passed vote that somebody has yet to write down."""
        return await self._store.read(lambda db: votes.unwritten(db, account, place))

    async def say(self, account: str, place: str, cause: str, said: Keyed, device: str, now: int) -> None:
        """Say something that no turn is about; the same `cause` says it once."""
        of = {"account": account, "place": place, "id": None, "bot": "steward", "cause": cause}
        await self._store.write(lambda db: outbox.put(db, of, said, device=device, now=now))

    async def grants(self, account: str) -> list[tuple[str, str, str]]:
        """(place, peer, text) of the grants in force."""
        return await self._store.read(lambda db: votes.to_remind(db, account))

    async def remind(
        self, account: str, place: str, peer: str, until: int, said: Keyed, device: str, now: int
    ) -> bool:
        """Say once that what is agreed with `peer` ends at `until`."""
        return await self._store.write(
            lambda db: votes.remind(db, account, place, peer, until, said, device=device, now=now)
        )

    async def documents(self, account: str, place: str, limit: int) -> tuple[tuple[str, Standing], ...]:
        """What stood in a place as its policy (`""`) or grant (the peer), newest first."""
        return await self._store.read(lambda db: documents.history(db, account, place, limit))

    async def asked(self, account: str, place: str, since: int) -> tuple[dict[str, object], ...]:
        """Features of the questions of a place since then (ms); never words."""
        return await self._store.read(lambda db: inspect.asked(db, account, place, since))

    # -- delivery ----------------------------------------------------------------------------------

    async def due(self, account: str, now: int, limit: int, busy: frozenset[str]) -> list[StoredAction]:
        """The first pending action of each place that is not `busy`."""
        return await self._store.read(lambda db: outbox.due(db, account, now, limit, busy))

    async def next_due(self, account: str, busy: frozenset[str]) -> int | None:
        """When to look at the outbox again (ms), if nothing else happens before; `busy` places ring."""
        return await self._store.read(lambda db: outbox.next_due(db, account, busy))

    async def acknowledge(self, key: str, remote_id: str | None, now: int) -> bool:
        """T4. True if it queued the redaction of something withdrawn meanwhile."""
        return await self._store.write(lambda db: outbox.acknowledge(db, key, remote_id, now))

    async def retry_action(self, key: str, error: str, not_before: int) -> None:
        """Try an action again at `not_before`."""
        await self._store.write(lambda db: outbox.retry(db, key, error, not_before))

    async def park_action(self, key: str, error: str, now: int) -> None:
        """An action that will never work."""
        await self._store.write(lambda db: outbox.park(db, key, error, now))

    async def count_possible_duplicate(self, key: str) -> None:
        """Shown by `!why` and `hearth turns show`."""
        await self._store.write(lambda db: outbox.count_possible_duplicate(db, key))

    async def remote_id(self, key: str) -> str | None:
        """The event that an action became, once acknowledged."""
        row = await self._store.read(
            lambda db: db.execute("SELECT remote_id FROM actions WHERE key = ?", [key]).fetchone()
        )
        return None if row is None else row["remote_id"]

    # -- memory ------------------------------------------------------------------------------------

    async def places(self) -> tuple[Place, ...]:
        """Every place that we are in, on any account."""
        return await self._store.read(memory.places)

    async def place(self, account: str, place: str) -> PlaceFacts | None:
        """What is known of a place."""
        return await self._store.read(lambda db: memory.place(db, account, place))

    async def expire(self, before: int) -> int:
        """Retention: erase what was said before `before` (ms) and empty the log behind it."""
        erased = await self._store.write(lambda db: memory.expire(db, before))
        await self._store.checkpoint()
        return erased

    # -- for people --------------------------------------------------------------------------------

    async def turns(self, state: str | None = None, limit: int = 50) -> list[TurnRow]:
        """The newest turns."""
        return await self._store.read(lambda db: inspect.turns(db, state, limit))

    async def turn(self, turn_id: int) -> TurnDetail | None:
        """One turn with what it did."""
        return await self._store.read(lambda db: inspect.turn(db, turn_id))

    async def stuck(self, now: int) -> tuple[list[TurnRow], tuple[ActionRow, ...]]:
        """What does not move."""
        return await self._store.read(lambda db: inspect.stuck(db, now))

    async def retry(self, turn_id: int) -> bool:
        """Give what is parked another chance."""
        return await self._store.write(lambda db: inspect.retry(db, turn_id))

    async def counts(self) -> Counts:
        """How much is open."""
        return await self._store.read(inspect.counts)

    async def decided(self, account: str, place: str, event_id: str) -> Decided | None:
        """What was decided about a message."""
        return await self._store.read(lambda db: inspect.decided(db, account, place, event_id))


__all__ = [
    "LONG",
    "ActionRow",
    "ActionState",
    "Admission",
    "Admitted",
    "Claimed",
    "Control",
    "Counters",
    "Counts",
    "Event",
    "EventKind",
    "Journal",
    "Known",
    "Outcome",
    "Settlement",
    "Store",
    "TurnDetail",
    "TurnRow",
    "TurnState",
]
