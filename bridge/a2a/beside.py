"""HTTPS beside a Matrix account: what arrives goes into its journal, what leaves comes out of its outbox.

Each peer of `[[a2a_peers]]` has a place of its own, which is linked with that peer as a link room is, so that
everything behind it (policy, grants, quotas, the record, votes) is the same. Of the two sides of a link one
asks and one is asked: asks, cards and grants are sent to the address of the peer; answers lie ready until the
peer fetches them, and ours are fetched here, soon at first and then more slowly.

Promises that an envelope is on disk before it is acknowledged, that the same one is taken once, and that
an answer is fetched only while the rules still let it go.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog
from a2a.types import Message, Part, Role, Task, TaskState

from bots.conversation import Person, Place, PlaceKind, SendEnvelope
from bridge.a2a.card import envelopes_on, fingerprint, line, where
from bridge.a2a.wire import ENVELOPE, TERMINAL, NoEnvelope, message_of, reply_in
from bridge.link.agents import AgentCard, AgentReply, End, cleaned, written
from bridge.link.beside import place_of
from bridge.link.bodies import Kind
from bridge.link.canonical import NotCanonical
from bridge.platform import (
    Batch,
    Event,
    EventKind,
    Misconfigured,
    PlaceFacts,
    PlatformError,
    Refused,
    Retryable,
)
from bridge.schedule import Doorbell

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from bridge.a2a.client import Client
    from bridge.journal import Journal
    from bridge.journal.peers import Ask
    from bridge.platform import StoredAction
    from bridge.schedule import Clock

log = structlog.get_logger(__name__)

TELLS_EVERY_MS: Final = 600_000
"""How often a peer is asked for its card and its grant, where nothing else makes us."""
AGENT_EVERY_MS: Final = 3_600_000
HURRIED: Final = 5
"""Looks at a card before its time: what a peer signs anew for each makes us tell it ours anew."""
FIRST_MS, SLOWEST_MS = 1_000, 30_000
"""How soon, and how late at most, we look again whether an ask is answered."""
PATIENCE: Final = 8
"""An ask that has waited for so long is looked at again after an eighth of that."""
LONGEST_NAME: Final = 255
"""Characters of the name that an agent gives a task."""
_FETCHED: Final = frozenset({Kind.ANSWER, Kind.REFUSE, Kind.PROGRESS})
"""What lies ready until it is fetched."""
_ENDS: Final[Mapping[TaskState, End]] = {
    TaskState.TASK_STATE_COMPLETED: "answered",
    TaskState.TASK_STATE_REJECTED: "refused",
}
"""Every other end is a failure."""
_STUCK: Final = frozenset({TaskState.TASK_STATE_INPUT_REQUIRED, TaskState.TASK_STATE_AUTH_REQUIRED})
"""States in which an agent waits for more of us, which it never gets."""


class Links(Protocol):
    """What `bridge.links` is asked here."""

    async def may_fetch(self, ask: Ask) -> bool:
        """Whether the answer to an ask of a peer may still go out."""
        ...

    async def tell_again(self, peer: str) -> None:
        """Sign our card and our grant for `peer` anew."""
        ...


@dataclass(slots=True)
class Peer:
    """One of `[[a2a_peers]]`. `client` is None where it has no address: it can ask us, and not be asked."""

    address: str
    client: Client | None
    agent: bool = False
    rpc: str = ""
    """Where it speaks JSON-RPC, once its card has said so."""
    look_at: int = 0
    """When its card is to be looked at (ms)."""
    hurried: int = 0
    """How often it was looked at before its time, since it was looked at in time."""
    troubled: bool = False
    shown: str = ""
    """The fingerprint of the card of an agent, as it was told last."""
    bell: Doorbell = field(init=False)
    taking: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def place(self) -> str:
        """Its place."""
        return place_of(self.address, agent=self.agent)


class Beside:
    """The peers over HTTPS of one account."""

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        account: str,
        peers: list[Peer],
        *,
        admit: Callable[[Batch], Awaitable[None]],
        links: Links,
        serve: Callable[[Beside], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self._journal = journal
        self._beside = journal.beside
        self._clock = clock
        self._account = account
        self._peers = {peer.place: peer for peer in peers}
        self._named = {peer.address: peer for peer in peers}
        self._admit = admit
        self._links = links
        self._serve = serve
        for peer in peers:
            peer.bell = Doorbell(clock)

    async def start(self) -> None:
        """Before anything is sent: the places of these peers are there, and of no others."""
        facts = [_facts(self._account, peer.place, peer.address) for peer in self._peers.values()]
        for place, peer in (await self._beside.places(self._account)).items():
            if place not in self._peers:
                facts.append(_facts(self._account, place, peer, joined=False))
        await self._admit(Batch(self._account, None, places=tuple(facts)))

    async def run(self) -> None:
        """Serve and fetch for ever. Raises `Misconfigured` where the port cannot be used."""
        try:
            async with asyncio.TaskGroup() as group:
                for peer in self._peers.values():
                    if peer.client is not None:
                        group.create_task(self._watch(peer))
                if self._serve is not None:
                    group.create_task(self._serve(self))
                await asyncio.Event().wait()  # also where nobody has an address and nothing is served
        except* Misconfigured as errors:
            raise errors.exceptions[0] from None

    async def close(self) -> None:
        """Hang up."""
        for peer in self._peers.values():
            if peer.client is not None:
                await peer.client.close()

    # -- out of the outbox -------------------------------------------------------------------------

    def carries(self, place: str) -> bool:
        """Whether what is sent there goes over HTTPS."""
        return place in self._peers

    async def perform(self, action: StoredAction) -> str | None:
        """Send an envelope, or let it lie ready; the id of the task where it became one."""
        peer, send = self._peers[action.place], action.action
        if not isinstance(send, SendEnvelope):
            return None  # nobody reads along here
        whole = json.loads(send.envelope)
        kind, name = whole["envelope"]["kind"], whole["envelope"]["id"]
        if kind in _FETCHED:
            return None
        if peer.client is None:
            if kind != Kind.ASK:
                return None  # it fetches our card and our grant; what it never asked needs no end
            raise Refused("no_address", "give its url in [[a2a_peers]]; without one it can only ask us")
        if peer.agent:
            return await self._send_to_agent(peer, peer.client, kind, whole)
        rpc = await self._rpc(peer, peer.client)
        if kind == Kind.CANCEL:
            await peer.client.cancel(rpc, whole["body"]["id"], {ENVELOPE: send.envelope})
            return None
        await peer.client.send(rpc, message_of(send.envelope))
        if kind != Kind.ASK and peer.hurried < HURRIED:
            peer.hurried += 1
            peer.look_at = 0  # who has heard of us has something to tell
        peer.bell.ring()
        return str(name) if kind == Kind.ASK else None

    async def _send_to_agent(
        self, peer: Peer, client: Client, kind: str, whole: dict[str, Any]
    ) -> str | None:
        header, body = whole["envelope"], whole["body"]
        if kind == Kind.CANCEL:
            task = await self._beside.task(self._account, header["prev"])
            if task:
                await client.cancel(await self._rpc(peer, client), task, {})
            return None
        if kind != Kind.ASK:
            return None
        decided = (await self._journal.link_use(self._account, "", peer.address, "", 0)).key
        await self._see_agent(peer, client)
        if peer.shown != decided:
            # It was let out to another card. When this is due again, the rules see the new one.
            raise Retryable(f"{peer.address}: its card has just changed")
        # An agent that does not know a message by its id may be asked twice, if we die before it answers.
        parts = [Part(text=part["text"]) for part in body["parts"]]
        message = Message(message_id=header["id"], role=Role.ROLE_USER, parts=parts)
        said = await client.send(await self._rpc(peer, client), message, extension=False)
        ask = await self._journal.ask(self._account, name=header["id"], peer=peer.address)
        if ask is not None and isinstance(said, Message):
            await self._heard(peer, AgentReply(ask.digest, "answered", _words(said)))
        elif ask is not None and isinstance(said, Task):
            await self._ended(peer, ask, said)
        peer.bell.ring()
        return str(said.id)[:LONGEST_NAME] if isinstance(said, Task) else None

    # -- into the journal --------------------------------------------------------------------------

    async def take(self, peer: str, text: str) -> bool:
        """Admit a sealed text of `peer`, once; whether it was believed. On disk when this returns."""
        known = self._named.get(peer)
        if known is None or known.agent:
            return False
        async with known.taking:  # whoever sends the same again waits until the first was dealt with
            await self._admit(self._arrived(known, text))
        name = json.loads(text)["envelope"].get("id")
        return await self._beside.has_seen(self._account, peer, str(name))

    async def asked_by(self, peer: str, name: str) -> tuple[Ask, str] | None:
        """The ask of `peer` with that id, and the sealed text that ended it, if that may still go out."""
        found = await self._beside.asked_by(self._account, peer, name)
        return None if found is None else await self._fetchable(*found)

    async def asks_by(self, peer: str, limit: int) -> list[tuple[Ask, str]]:
        """The newest asks of `peer`, likewise."""
        found = await self._beside.asks_by(self._account, peer, limit)
        fetchable = [await self._fetchable(*one) for one in found]
        return [one for one in fetchable if one is not None]

    async def _fetchable(self, ask: Ask, reply: str) -> tuple[Ask, str] | None:
        return (ask, reply) if not reply or await self._links.may_fetch(ask) else None

    async def told(self, peer: str) -> list[str]:
        """The sealed texts of our card and our grant for `peer`; signed anew soon where they have ended."""
        known = self._named.get(peer)
        texts = [] if known is None else await self._beside.told(self._account, known.place)
        now = self._clock.now()
        fresh = [text for text in texts if json.loads(text)["envelope"]["exp"] - now > TELLS_EVERY_MS]
        if known is not None and not any(json.loads(text)["envelope"]["kind"] == Kind.CARD for text in fresh):
            await self._links.tell_again(peer)
        return fresh

    def _arrived(self, peer: Peer, text: str) -> Batch:
        """What came, as an event that is the same however often it comes."""
        name = hashlib.sha256(f"{peer.place}\n{text}".encode()).hexdigest()
        sender = Person(f"@{peer.address}", is_bot=True)
        event = Event(f"a2a:{name}", peer.place, EventKind.ENVELOPE, sender, self._clock.now(), text=text)
        return Batch(self._account, None, events=(event,))

    async def _heard(self, peer: Peer, said: AgentCard | AgentReply) -> None:
        await self._admit(self._arrived(peer, written(said)))

    # -- fetching ----------------------------------------------------------------------------------

    async def _watch(self, peer: Peer) -> None:
        """Look for what `peer` has for us, for ever; one line in the log per outage."""
        failed = 0
        while True:
            try:
                until = await self._look(peer)
                failed = 0
                if peer.troubled:
                    peer.troubled = False
                    log.info("a2a_peer_answers_again", peer=peer.address)
            except (PlatformError, NoEnvelope, NotCanonical) as error:
                if not peer.troubled:
                    peer.troubled = True
                    log.warning("a2a_peer_not_answering", peer=peer.address, error=str(error))
                after = error.after if isinstance(error, Retryable) else None
                failed += 1
                wait = min(SLOWEST_MS, FIRST_MS * 2 ** min(failed, 5))
                until = self._clock.now() + max(wait, int((after or 0) * 1000))
            except sqlite3.Error as error:
                log.error("a2a_not_stored", error=str(error), remedy="free space on the disk")
                until = self._clock.now() + SLOWEST_MS
            await peer.bell.wait(until)

    async def _look(self, peer: Peer) -> int:
        """Fetch what is due; when to look again (ms)."""
        assert peer.client is not None
        now = self._clock.now()
        if peer.look_at <= now:
            peer.hurried = 0 if peer.look_at else peer.hurried
            await (self._see_agent if peer.agent else self._see_card)(peer, peer.client)
            peer.look_at = now + (AGENT_EVERY_MS if peer.agent else TELLS_EVERY_MS)
        again = peer.look_at
        for ask, task in await self._beside.open(self._account, peer.address):
            if task:
                await self._fetch(peer, peer.client, ask, task)
            waited = max(0, self._clock.now() - ask.iat)
            again = min(again, self._clock.now() + min(SLOWEST_MS, max(FIRST_MS, waited // PATIENCE)))
        return again

    async def _fetch(self, peer: Peer, client: Client, ask: Ask, task: str) -> None:
        """Take what ended an ask of ours, if something has."""
        found = await client.task(await self._rpc(peer, client), task, extension=not peer.agent)
        if found is not None and peer.agent:
            await self._ended(peer, ask, found)
        elif found is not None and (reply := reply_in(found)):
            await self._admit(self._arrived(peer, reply))

    async def _see_card(self, peer: Peer, client: Client) -> None:
        card = await client.extended_card(await self._rpc(peer, client))
        for text in envelopes_on(card):
            await self._admit(self._arrived(peer, text))

    async def _see_agent(self, peer: Peer, client: Client) -> None:
        card = await client.card()
        peer.rpc = where(card, client.url)
        print_ = fingerprint(card)
        if print_ == peer.shown:
            return
        description = f"{line(card.description)} ({client.url})"
        now = self._clock.now()
        await self._heard(peer, AgentCard(line(card.name) or peer.address, description, print_, now))
        peer.shown = print_

    async def _ended(self, peer: Peer, ask: Ask, task: Task) -> None:
        """Take what ends an agent's task; while it works on it there is nothing to take."""
        state = task.status.state
        if state not in TERMINAL and state not in _STUCK:
            return
        end = _ENDS.get(state, "failed")
        results = [text for artifact in task.artifacts if (text := _text(artifact.parts))]
        words = cleaned("\n\n".join(results) or _words(task.status.message)) if end == "answered" else ""
        await self._heard(peer, AgentReply(ask.digest, end, words))

    async def _rpc(self, peer: Peer, client: Client) -> str:
        if not peer.rpc:
            peer.rpc = where(await client.card(), client.url)
        return peer.rpc


def _facts(account: str, place: str, peer: str, *, joined: bool = True) -> PlaceFacts:
    return PlaceFacts(Place(account, place, PlaceKind.GROUP), joined=joined, links=(peer,))


def _words(message: Message) -> str:
    return _text(message.parts)


def _text(parts: Any) -> str:
    """The texts of parts. Files and links of an agent are left where they are."""
    return cleaned("\n".join(part.text for part in parts if part.text))
