"""What goes between us and the bots of other communities. One per account that has link rooms.

    an envelope arrives --T1--> control --> opened, judged --> one transaction: what follows from it
    a turn asks, or answers, a peer ------> signed ----------> T3: the ask and its envelope
    delivery is about to send ------------> still allowed? --> sent | withdrawn, and whoever waits is told
    a peer is there, a grant has changed -> our card, our grant, or its end (`bridge.link_watch`)

Promises that nothing a peer sends is acted on before its signature, its time, its path and our policy are
looked at; that every envelope which arrives or leaves, allowed or not, is recorded; and that what is not
believed is answered by silence, longer each time.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import structlog

from bots.base import AnswerPeer, AskPeer, FromPeer, RefusePeer
from bots.conversation import SendEnvelope
from bridge.journal.crossings import Crossing
from bridge.journal.links import Closed, Step, Taken
from bridge.journal.peers import Ask
from bridge.letters import because, plain, replies_to, tag, words
from bridge.link import bodies, guard
from bridge.link.beside import is_agent
from bridge.link.codes import Code as Wrong
from bridge.link.opening import Known, Opened, Refusal, open_envelope
from bridge.link.pseudonym import asker_ref, room_ref
from bridge.link_agents import Agents
from bridge.link_news import News
from bridge.link_post import Post
from bridge.link_watch import Watch
from bridge.permits import Permits, decided_by
from policies.classes import Class
from policies.document import held
from policies.verdict import Code, Verdict

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from bots.base import Reply
    from bridge.delivery import Delivery
    from bridge.journal import Claimed, Control
    from bridge.link.community import Community
    from bridge.platform import Platform, StoredAction
    from bridge.tools import House

log = structlog.get_logger(__name__)

MOST_RECORDED: Final = 100
"""Entries of strangers in a minute, from all places together."""

_OVER: Final = ("cancelling", "cancelled")
"""States of an ask that whoever asked has ended."""
ERRORS: Final = frozenset(Wrong) - {
    Wrong.UNKNOWN_KEY, Wrong.KEY_CHANGED, Wrong.EXPIRED, Wrong.REPLAYED, Wrong.OUT_OF_ORDER, Wrong.NOT_OURS,
}  # fmt: skip
"""What an honest peer never sends. The others happen between honest ones: keys change, answers come late."""


class Links:
    """The links of one account."""

    def __init__(
        self,
        house: House,
        community: Community,
        platform: Platform,
        delivery: Delivery,
        *,
        rng: random.Random,
        names: Callable[[], str],
    ) -> None:
        self._house = house
        self._us = community
        self._journal = house.journal
        self._clock = house.clock
        self._platform = platform
        self._delivery = delivery
        self._rng = rng
        self._post = Post(house, community, platform, delivery, names)
        self._news = News(house, platform.account, community.home)
        self._permits = Permits(house, platform.account, community.home)
        self._guard = guard.Guard()
        self._held: dict[str, int] = {}
        """Until when each peer is held, as it was recorded last (ms)."""
        self._recorded: dict[tuple[str, str, str], int] = {}
        """When what is recorded once a minute was recorded last (ms)."""
        self._agents = Agents(house, self._news, platform.account, self._closing)
        self._watch = Watch(
            house, community, platform, delivery, post=self._post, news=self._news, permits=self._permits
        )
        self.on_work: Callable[[], None] = _nothing
        """Called when a turn has something new to do."""
        delivery.may_send = self.may_send

    @property
    def address(self) -> str:
        """Our own, `bot:server`."""
        return self._platform.account.removeprefix("@")

    def wants(self, peer: str) -> bool:
        """Whether an invitation to a link room by `peer` is accepted: one is enough."""
        return peer in self._watch.wanted and peer not in self._watch.linked

    def offered(self, peer: str) -> None:
        """The bot `peer` invites us to a link room that nobody here has asked for: our home is told."""
        self._watch.offered(peer)

    def ring(self) -> None:
        """Something may have to be told to a peer."""
        self._watch.ring()

    async def recover(self) -> None:
        """Before anything arrives: whose invitations are wanted."""
        await self._watch.recover()

    async def watch(self) -> None:
        """Tell peers what they have to know, for ever."""
        await self._watch.run()

    async def tell_again(self, peer: str) -> None:
        """Sign our card and our grant for `peer` anew: what it was told has ended."""
        await self._watch.tell_again(peer)

    # -- arriving ----------------------------------------------------------------------------------

    async def receive(self, control: Control) -> tuple[int, ...]:
        """Deal with an envelope that arrived; the turns whose runs are to be cancelled."""
        now = self._clock.now()
        sender = control.message.sender.id.removeprefix("@")
        try:
            taken = await self._taken(control, sender, now) if control.message.text else Taken()
        except sqlite3.Error:
            raise
        except Exception:
            # A bug about one envelope must cost neither the others nor the bridge: it is put aside, recorded.
            log.exception("envelope_bug", event_id=control.event)
            peer = sender if sender in (control.facts.links or ()) else ""
            failed = Crossing(
                at=now, peer=peer, place=control.place.id, way="in", kind="", envelope="", digest="",
                allowed=False, code=str(Code.FAILED), rule="link.envelope", policy="", bytes=0,
            )  # fmt: skip
            taken = Taken(crossings=(failed,))
        cancelled = await self._journal.take(control, taken, self._platform.device, now)
        for one in taken.crossings:
            log.info(
                "crossing", peer=one.peer, way=one.way, kind=one.kind, envelope=one.envelope,
                allowed=one.allowed, code=one.code, rule=one.rule, bytes=one.bytes,
            )  # fmt: skip
        self._delivery.ring()
        self.ring()
        return cancelled

    async def _taken(self, control: Control, sender: str, now: int) -> Taken:
        text = control.message.text
        said = Crossing(
            at=now, peer=sender, place=control.place.id, way="in", kind="", envelope="", digest="",
            allowed=False, code="", rule="", policy="", bytes=len(text.encode("utf-8", "replace")),
        )  # fmt: skip
        if sender not in (control.facts.links or ()):
            # Whoever it was is no community, and people are not recorded.
            stranger = replace(said, peer="", code="not_linked", rule="link.room")
            return Taken(crossings=self._once(stranger, now))
        if sender in await self._permits.refused():
            refused = replace(said, code="refused_by_operator", rule="link.operator")
            return Taken(crossings=self._once(refused, now))
        if is_agent(control.place.id):
            return await self._agents.heard(control, said, now)
        return await self._read(control, said, now)

    async def _read(self, control: Control, said: Crossing, now: int) -> Taken:
        """Whether what a peer sent is an envelope that is believed, and what follows from it."""
        text, sender = control.message.text, said.peer
        owed = await self._is_owed(text, sender)
        if owed:
            hold = guard.silenced(self._guard, sender, now)
        else:
            self._guard, hold = guard.admit(self._guard, sender, now)
        if hold is not None:
            return self._kept_back(said, hold)
        opened, card = await self._journal.link_known(
            self._platform.account, self.address, lambda known: _opened(text, known, sender, now)
        )
        if isinstance(opened, Refusal):
            if owed:  # it was none, and counts like anything else
                self._guard, hold = guard.admit(self._guard, sender, now)
                if hold is not None:
                    return self._kept_back(said, hold)
            if opened.code in ERRORS:
                self._guard = guard.erred(self._guard, sender, now, self._rng.random())
            claims = opened.claims
            kind, name = ("", "") if claims is None else (str(claims.kind), claims.id)
            wrong = replace(said, kind=kind, envelope=name, code=str(opened.code), rule="link.envelope")
            says = () if card is None else await self._news.shown(sender, card, control, changed=True)
            iat = 0 if claims is None else claims.iat
            # A changed key is kept as shown, so that nothing is asked or answered until it is pinned.
            return Taken(peer=sender, card=card, iat=iat, crossings=(wrong,), says=says)
        self._guard = guard.did_well(self._guard, sender)
        header = opened.header
        said = replace(
            said, kind=str(header.kind), envelope=header.id, digest=opened.signed.digest, allowed=True,
            code="allowed", rule="link.envelope",
        )  # fmt: skip
        taken = await self._judged(opened, control, said, now)
        return replace(taken, peer=sender, seen=(header.id, opened.keep_until), iat=header.iat)

    def _kept_back(self, said: Crossing, hold: guard.Held) -> Taken:
        """What is not looked at, or not answered: one line for a flood, not one for each of it."""
        known = self._held.get(said.peer) == hold.until
        self._held[said.peer] = hold.until
        return Taken(crossings=() if known else (replace(said, code=str(hold.why), rule="link.guard"),))

    async def _is_owed(self, text: str, sender: str) -> bool:
        """Whether it claims to be the reply to an ask of ours that is open: the ask was counted for both."""
        digest = replies_to(text)
        ask = await self._journal.ask(self._platform.account, digest=digest) if digest else None
        return ask is not None and ask.ours and ask.state == "open" and ask.peer == sender

    def _once(self, crossing: Crossing, now: int) -> tuple[Crossing, ...]:
        """The same thing is recorded once a minute for each peer and place, however often it comes."""
        key = (crossing.peer, crossing.place, crossing.code)
        self._recorded = {one: at for one, at in self._recorded.items() if now - at < guard.WINDOW_MS}
        if key in self._recorded or len(self._recorded) >= MOST_RECORDED:
            return ()
        self._recorded[key] = now
        return (crossing,)

    async def _judged(  # noqa: PLR0911 - a table of kinds
        self, opened: Opened, control: Control, said: Crossing, now: int
    ) -> Taken:
        """What follows from an envelope that is believed."""
        match opened.body:
            case bodies.Card() as card:
                return Taken(
                    card=card, says=await self._news.shown(said.peer, card, control), crossings=(said,)
                )
            case bodies.Granted() as granted:
                says = await self._news.allowed(said.peer, granted.grant, control)
                return Taken(grant=granted.grant, says=says, crossings=(said,))
            case bodies.Revoke():
                says = await self._news.allowed(said.peer, "", control)
                return Taken(grant="", says=says, crossings=(said,))
            case bodies.Ask() as body:
                return await self._asked(opened, body, control, said, now)
            case bodies.Answer() | bodies.Refuse() as reply:
                return await self._replied(opened, reply, said, now)
            case bodies.Cancel():
                return Taken(cancels=opened.header.prev, crossings=(said,))
            case bodies.Progress():
                return Taken(crossings=(said,))

    async def _asked(
        self, opened: Opened, body: bodies.Ask, control: Control, said: Crossing, now: int
    ) -> Taken:
        header, about = opened.header, body.metadata
        if header.exp <= now:  # our clocks differ by that much: nobody waits for what we would say
            over = replace(said, allowed=False, code=str(Code.EXPIRED), rule="link.exp")
            return Taken(crossings=(over,))
        question = "\n".join(part.text or "" for part in body.parts)
        verdict, policy = await self._permits.may_answer(
            header.sender, about.cls, question, hops=len(header.path), counted=True, now=now
        )
        ask = Ask(
            peer=header.sender, id=header.id, ours=False, digest=opened.signed.digest,
            room_ref=header.room_ref, place=control.place.id, person=about.asker, cls=str(about.cls),
            share=str(about.share), hops=header.hops, iat=now, exp=header.exp, signed=plain(opened.through),
        )  # fmt: skip
        said = replace(
            said, allowed=verdict.allowed, code=str(verdict.code), rule=verdict.rule, policy=policy
        )
        if verdict.allowed:
            waited: dict[str, object] = {
                "peer": header.sender, "id": header.id, "digest": opened.signed.digest,
                "class": str(about.cls),
                "share": str(about.share), "question": question, "language": about.language or "",
            }  # fmt: skip
            return Taken(ask=ask, waited=waited, crossings=(said,))
        sent, crossing, _ = self._post.reply(ask, because(verdict, now), control.event, now)
        return Taken(ask=replace(ask, state="refused"), sends=(sent,), crossings=(said, crossing))

    async def _replied(
        self, opened: Opened, reply: bodies.Answer | bodies.Refuse, said: Crossing, now: int
    ) -> Taken:
        header = opened.header
        ask = await self._journal.ask(self._platform.account, digest=header.prev)
        if ask is None:  # ended between the two reads
            return Taken(crossings=(replace(said, allowed=False, code=str(Wrong.NOT_OURS)),))
        came = FromPeer(
            end="refused",
            peer=header.sender,
            through=tuple(hop.community for hop in header.path),
            age_ms=max(0, now - header.iat),
            waited_ms=max(0, now - ask.iat),
        )
        if isinstance(reply, bodies.Refuse):
            why = reply.metadata
            came = replace(came, code=why.code, rule=why.rule, retry_after_ms=why.retry_after_ms)
        else:
            came = replace(came, end="answered", **words(reply))
        return await self._closing(ask, came, plain(opened.through), said, now)

    async def _closing(self, ask: Ask, came: FromPeer, proof: str, said: Crossing, now: int) -> Taken:
        """The end of an ask of ours. An answer is shown only if it could still be asked for."""
        if came.end == "answered":
            verdict, policy = await self._permits.may_still_ask(ask, now)
            said = replace(
                said, allowed=verdict.allowed, code=str(verdict.code), rule=verdict.rule, policy=policy
            )
            if not verdict.allowed:
                came = replace(
                    came, end="dropped", code=str(verdict.code), rule=verdict.rule, text="", passages=()
                )
        return Taken(closed=Closed(ask.digest, came.end, proof, came), crossings=(said,))

    async def may_fetch(self, ask: Ask) -> bool:
        """Whether the reply to an ask of a peer, which lies ready, may still go out; a refusal always may."""
        if ask.state == "refused":
            return ask.peer not in await self._permits.refused()
        verdict, _ = await self._permits.may_answer(
            ask.peer, Class(ask.cls), "", hops=0, counted=False, now=self._clock.now()
        )
        return verdict.allowed

    async def may_answer(self, claimed: Claimed) -> Verdict:
        """Whether a turn that a peer caused may be answered now; it has been counted."""
        now, waited = self._clock.now(), claimed.turn.waited
        ask = await self._journal.ask(self._platform.account, digest=str(waited.get("digest", "")))
        if ask is None or ask.state != "open" or ask.exp <= now:
            return Verdict(False, Code.EXPIRED, "link.exp")
        verdict, _ = await self._permits.may_answer(
            ask.peer, Class(ask.cls), claimed.turn.message.text, hops=0, counted=False, now=now
        )
        return verdict

    # -- leaving -----------------------------------------------------------------------------------

    async def step(self, claimed: Claimed, reply: Reply) -> Step | Verdict:
        """What `reply` does with a peer, signed; or why it cannot be."""
        try:
            return await self._step(claimed, reply)
        except sqlite3.Error:
            raise
        except Exception:
            # What no envelope can carry must cost its own turn, and not stop those that come after it.
            log.exception("letter_bug", turn=claimed.turn.id)
            return Verdict(False, Code.FAILED, "link.envelope", remedy="ask_operator")

    async def _step(self, claimed: Claimed, reply: Reply) -> Step | Verdict:
        turn, now = claimed.turn, self._clock.now()
        match reply.peer:
            case AskPeer() as asked:
                return await self._ask(claimed, asked, now)
            case AnswerPeer() | RefusePeer() as said:
                return await self.answer(turn.waited, said, turn.cause)
            case None:
                self._watch.wanted |= {reply.link}
                return Step(wanted=reply.link)

    async def _ask(self, claimed: Claimed, asked: AskPeer, now: int) -> Step | Verdict:
        place, peer = claimed.turn.place.id, asked.peer
        room = (await self._journal.link_rooms(self._platform.account)).get(peer)
        if room is None:
            return Verdict(False, Code.NO_PEER, "link.room", {"peer": peer}, "link")
        self._guard, hold = guard.admit(self._guard, peer, now)
        if hold is not None:
            return Verdict(False, Code.PEER_QUOTA, "link.guard", {"limit": guard.PAIR_BUDGET}, "wait")
        use = await self._journal.link_use(self._platform.account, place, peer, "", now)
        ref = room_ref(self._us.secret, peer=peer, room=place)
        asker = asker_ref(self._us.secret, peer=peer, room=place, person=claimed.turn.asker.id)
        rules = held(self._house.policy, claimed.turn.place.policy)
        name = self._post.name()
        body = bodies.Ask(
            message_id=name,
            context_id=ref,
            parts=(bodies.Part(text=asked.text),),
            metadata=bodies.About(
                asker=asker,
                cls=asked.cls,
                share=bodies.Share(asked.share),
                language=tag(rules.language) or tag(self._house.language),
            ),
        )
        sealed = self._post.seal(body, peer, name, now, asked.until, room_ref=ref)
        ask = Ask(
            peer=peer, id=name, ours=True, digest=sealed.signed.digest, room_ref=ref, place=place,
            person=claimed.turn.asker.id, cls=str(asked.cls), share=asked.share, hops=0, iat=now,
            exp=asked.until, signed=plain((sealed.signed,)), key=use.key,
        )  # fmt: skip
        policy = decided_by(claimed.facts, peer)
        sent, crossing = self._post.sent(sealed, room, claimed.turn.cause, now, policy, asked.cls)
        return Step(ask=ask, sends=(sent,), crossings=(crossing,))

    async def answer(self, waited: dict[str, object], said: AnswerPeer | RefusePeer, cause: str) -> Step:
        """The reply to an ask of a peer; nothing where it is over."""
        now = self._clock.now()
        ask = await self._journal.ask(self._platform.account, digest=str(waited.get("digest", "")))
        if ask is None or ask.state != "open" or ask.exp <= now:
            return Step()
        sent, crossing, signed = self._post.reply(ask, said, cause, now)
        state = "refused" if isinstance(said, RefusePeer) else "answered"
        return Step(closed=Closed(ask.digest, state, plain((signed,))), sends=(sent,), crossings=(crossing,))

    def refusal(self, verdict: Verdict, *, failed: bool) -> RefusePeer:
        """A verdict as what a peer is told of it."""
        return replace(because(verdict, self._clock.now()), failed=failed)

    async def may_send(self, action: StoredAction) -> bool:
        """Look once more, right before an envelope is sent, whether it may be; if not, it is withdrawn."""
        if not isinstance(action.action, SendEnvelope):
            return True
        now, account = self._clock.now(), self._platform.account
        header: dict[str, Any] = json.loads(action.action.envelope)["envelope"]
        kind, peer = header["kind"], header["to"]
        verdict, policy = Verdict(True, Code.ALLOWED, "link.envelope"), ""
        ask = await self._journal.ask(account, name=header["id"], peer=peer) if kind == "ask" else None
        if ask is not None and ask.state in _OVER:
            verdict = Verdict(False, Code.WITHDRAWN, "hearth.taken_back")
        elif peer in await self._permits.refused():
            verdict = Verdict(False, Code.NO_PEER, "policy.ask_peers", {"peer": peer})
        elif header["exp"] <= now:
            verdict = Verdict(False, Code.EXPIRED, "link.exp")
        elif ask is not None:
            verdict, policy = await self._permits.may_still_ask(ask, now)
        elif kind == "answer":
            verdict, policy = await self._may_send_answer(header, now)
        if verdict.allowed:
            return True
        await self._unsent(action, header, ask, verdict, policy)
        return False

    async def not_sent(self, action: StoredAction) -> None:
        """An envelope that can never be sent (the other bot has left the room): whoever waits is told."""
        if not isinstance(action.action, SendEnvelope):
            return
        header: dict[str, Any] = json.loads(action.action.envelope)["envelope"]
        account, name = self._platform.account, header["id"]
        asks = header["kind"] == "ask"
        ask = await self._journal.ask(account, name=name, peer=header["to"]) if asks else None
        await self._unsent(action, header, ask, Verdict(False, Code.FAILED, "link.room"), "")

    async def _unsent(
        self, action: StoredAction, header: dict[str, Any], ask: Ask | None, verdict: Verdict, policy: str
    ) -> None:
        now, envelope = self._clock.now(), getattr(action.action, "envelope", "")
        code, rule = str(verdict.code), verdict.rule
        end = "unclear" if action.attempts else "unsent"  # an attempt may have got there unheard
        came = FromPeer(end, header["to"], code=code, rule=rule)
        closed = None if ask is None else Closed(ask.digest, "dropped", told=came)
        crossing = Crossing(
            at=now, peer=header["to"], place=action.place, way="out", kind=header["kind"],
            envelope=header["id"], digest="", allowed=False, code=code, rule=rule, policy=policy,
            bytes=len(envelope.encode()),
        )  # fmt: skip
        await self._journal.unsent(self._platform.account, action.key, crossing, closed, now)
        log.info("envelope_not_sent", peer=header["to"], kind=header["kind"], code=code, rule=rule)
        self.on_work()

    async def _may_send_answer(self, header: dict[str, Any], now: int) -> tuple[Verdict, str]:
        ask = await self._journal.ask(self._platform.account, digest=header["prev"])
        if ask is None:
            return Verdict(False, Code.EXPIRED, "link.exp"), ""
        return await self._permits.may_answer(ask.peer, Class(ask.cls), "", hops=0, counted=False, now=now)


def _nothing() -> None:
    pass


# -- pure ------------------------------------------------------------------------------------------


def _opened(text: str, known: Known, sender: str, now: int) -> tuple[Opened | Refusal, bodies.Card | None]:
    """What arrived; beside a card whose key is not the pinned one, that card."""
    opened = open_envelope(text, known, sender=sender, now=now)
    if isinstance(opened, Refusal) and opened.code is Wrong.KEY_CHANGED:
        unpinned = open_envelope(text, replace(known, keys={}), sender=sender, now=now)
        if isinstance(unpinned, Opened) and isinstance(unpinned.body, bodies.Card):
            return opened, unpinned.body
    return opened, None
