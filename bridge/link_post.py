"""What goes out over a link: signed, as the outbox takes it, with its entry in the record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bots import wording_links
from bots.conversation import Keyed, Role, SendEnvelope
from bridge.journal.crossings import Crossing
from bridge.journal.links import Sent
from bridge.letters import reply_to
from policies.grant import DAY_MS

if TYPE_CHECKING:
    from collections.abc import Callable

    from bots.base import AnswerPeer, RefusePeer
    from bridge.delivery import Delivery
    from bridge.journal.peers import Ask
    from bridge.link.bodies import Body
    from bridge.link.community import Community
    from bridge.link.envelope import Sealed, Signed
    from bridge.platform import Platform
    from bridge.tools import House
    from policies.classes import Class

CARD_LIFE_MS: Final = 7 * DAY_MS
"""How long a card or a grant may be under way (`LONGEST_LIFE_MS`)."""


class Post:
    """The outgoing envelopes of one account. `names` draws the id of each: 128 bits at least, never twice."""

    def __init__(
        self, house: House, us: Community, platform: Platform, delivery: Delivery, names: Callable[[], str]
    ) -> None:
        self._journal = house.journal
        self._us = us
        self._platform = platform
        self._delivery = delivery
        self.name = names

    @property
    def address(self) -> str:
        """Our own, `bot:server`."""
        return self._platform.account.removeprefix("@")

    def reply(
        self, ask: Ask, said: AnswerPeer | RefusePeer, cause: str, now: int
    ) -> tuple[Sent, Crossing, Signed]:
        """Our answer to an ask of a peer, or its refusal."""
        name = self.name()
        body = reply_to(ask, said, name)
        sealed = self.seal(body, ask.peer, name, now, ask.exp, room_ref=ask.room_ref, prev=ask.digest)
        sent, crossing = self.sent(sealed, ask.place, cause, now)
        return sent, crossing, sealed.signed

    def seal(
        self,
        body: Body,
        peer: str,
        name: str,
        now: int,
        exp: int,
        *,
        room_ref: str = "",
        prev: str = "",
    ) -> Sealed:
        """`body`, signed by us, from now (ms) until `exp`."""
        return self._us.seal(
            body, id=name, sender=self.address, to=peer, iat=now, exp=exp, room_ref=room_ref, prev=prev
        )

    def sent(
        self, sealed: Sealed, room: str, cause: str, now: int, policy: str = "", cls: Class | None = None
    ) -> tuple[Sent, Crossing]:
        """An envelope as the outbox takes it, and the record of it."""
        header = sealed.signed.header
        words = wording_links.watch(str(header.kind), header.sender, header.to, cls)
        crossing = Crossing(
            at=now, peer=header.to, place=room, way="out", kind=str(header.kind), envelope=header.id,
            digest=sealed.signed.digest, allowed=True, code="allowed", rule="link.envelope", policy=policy,
            bytes=len(sealed.text.encode()),
        )  # fmt: skip
        keyed = Keyed(SendEnvelope(sealed.text, words), Role.ENVELOPE)
        return Sent(room, cause, keyed), crossing

    async def tell(self, body: Body, peer: str, room: str, now: int, **what: str) -> None:
        """Tell `peer` our card or grant; `what` is the column that remembers it, and what it was told."""
        name = self.name()
        sealed = self.seal(body, peer, name, now, now + CARD_LIFE_MS)
        sent, crossing = self.sent(sealed, room, f"tell:{name}", now)
        account, device = self._platform.account, self._platform.device
        await self._journal.tell_peer(account, peer, sent, crossing, device, now, **what)
        self._delivery.ring()
