"""Whether peers may be asked and answered, by all that is known now. Reads the journal, changes nothing.

Looked at when a question is put, when its envelope leaves, when its answer arrives, and for a peer's question
when it comes in, when it is taken up and when our answer leaves: a permission that ends takes effect at once.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from bots.conversation import PlaceKind
from policies.classes import Class
from policies.decide import Deed, Request, decide
from policies.grant import Direction, Grant, grants_of, read_grant
from policies.screens import screen
from policies.verdict import Code, Verdict

if TYPE_CHECKING:
    from bridge.journal.peers import Ask
    from bridge.platform import PlaceFacts
    from bridge.tools import House


class Permits:
    """What one account may do with peers. `home` is the room by whose rules they are answered; `""`: none."""

    def __init__(self, house: House, account: str, home: str) -> None:
        self._house = house
        self._journal = house.journal
        self._account = account
        self._home = home

    async def home(self) -> PlaceFacts | None:
        """What is known of the room that is our home; None: there is none, or we are in it no longer."""
        facts = await self._journal.place(self._account, self._home) if self._home else None
        return facts if facts is not None and facts.joined else None

    async def refused(self) -> frozenset[str]:
        """The peers that whoever runs this has refused."""
        return await self._journal.refused_peers(self._account)

    async def may_answer(
        self, peer: str, cls: Class, question: str, *, hops: int, counted: bool, now: int
    ) -> tuple[Verdict, str]:
        """Whether the room that is our home lets `peer` be answered; and what decided that."""
        account = self._account
        home = await self.home()
        if home is None or peer in await self.refused():
            return Verdict(False, Code.NO_GRANT, "grant.missing", {"peer": peer}), ""
        request = Request(
            Deed.ANSWER_PEER,
            peer,
            asker_is_bot=True,
            peer=peer,
            peer_key=(await self._journal.link_use(account, "", peer, "", now)).key,
            cls=cls,
            screened=screen(question),
            hops=hops,
            peer_today=await self._journal.asked_us(account, peer, now, cls) if counted else 0,
            remote_model=self._house.model_is_remote,
            ruled_by_members=home.ruled_by_members,
        )
        grants = grants_of(home.place.grants)
        verdict = decide(self._house.policy, grants, request, now, room=home.place.policy)
        return verdict, decided_by(home, peer)

    async def may_still_ask(self, ask: Ask, now: int) -> tuple[Verdict, str]:
        """Whether what was asked may still go out, or its answer come in; and what decided that."""
        account = self._account
        facts = await self._journal.place(account, ask.place)
        if facts is None or not facts.joined:
            return Verdict(False, Code.NO_GRANT, "grant.missing", {"peer": ask.peer}), ""
        if ask.peer in await self.refused():
            return Verdict(False, Code.NO_PEER, "policy.ask_peers", {"peer": ask.peer}), ""
        person = next((one for one in facts.members if one.id == ask.person), None)
        use = await self._journal.link_use(account, ask.place, ask.peer, ask.person, now)
        request = Request(
            Deed.ASK_PEER,
            ask.person,
            power=0 if person is None else person.power,
            direct=facts.place.kind is PlaceKind.DIRECT,
            peer=ask.peer,
            peer_key=use.key,
            cls=Class(ask.cls),
            ruled_by_members=facts.ruled_by_members,
            asked_before=True,
        )
        grants = grants_of(facts.place.grants)
        theirs = use.granted(self._account.removeprefix("@"), grants.get(ask.peer))
        verdict = decide(self._house.policy, grants, request, now, room=facts.place.policy, theirs=theirs)
        return verdict, decided_by(facts, ask.peer)


def decided_by(facts: PlaceFacts, peer: str) -> str:
    """What decided about `peer` here: the event of the vote behind its grant, else the grant's digest."""
    standing = dict(facts.place.grants).get(peer)
    if standing is None:
        return ""
    grant = read_grant(standing.text, peer)
    vote = grant.decided_by if isinstance(grant, Grant) else ""
    if vote.startswith("$"):
        return vote
    # The name of whoever wrote it has no place in the record.
    return f"sha256:{hashlib.sha256(standing.text.encode()).hexdigest()[:16]}"


def without_names(grant: Grant) -> Grant:
    """A grant as a peer is told it: the vote that decided it, but not the person who did."""
    return grant if grant.decided_by.startswith("$") else grant.model_copy(update={"decided_by": ""})


def grant_for(home: PlaceFacts | None, peer: str, now: int) -> Grant | None:
    """What our home lets `peer` ask, if it does."""
    standing = None if home is None else dict(home.place.grants).get(peer)
    grant = None if standing is None else read_grant(standing.text, peer)
    if not isinstance(grant, Grant) or not grant.is_in_force(now):
        return None
    return grant if grant.direction.covers(Direction.ANSWER) else None
