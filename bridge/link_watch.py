"""What peers are told without being asked: our card, our grant, and that an ask of ours is over.

One look brings every peer that is there up to date; it is made when something has changed, and once an hour.
What it tells is signed, recorded and put into the outbox in one transaction.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Final

import structlog

from bridge.link import bodies
from bridge.link.beside import is_agent
from bridge.permits import grant_for, without_names
from bridge.schedule import Doorbell
from policies.grant import DAY_MS

if TYPE_CHECKING:
    from bridge.delivery import Delivery
    from bridge.journal.crossings import Crossing
    from bridge.journal.links import Sent
    from bridge.link.community import Community
    from bridge.link_news import News
    from bridge.link_post import Post
    from bridge.permits import Permits
    from bridge.platform import Platform
    from bridge.tools import House

log = structlog.get_logger(__name__)

LOOK_AGAIN_MS: Final = 3_600_000
ENDED_MS: Final = DAY_MS
"""After its end an ask is kept open for so long: whatever else ends it has had its time."""
AGAIN_MS: Final = 30_000
"""After the journal could not be read."""


class Watch:
    """What the peers of one account know of us."""

    def __init__(
        self,
        house: House,
        us: Community,
        platform: Platform,
        delivery: Delivery,
        *,
        post: Post,
        news: News,
        permits: Permits,
    ) -> None:
        self._us = us
        self._journal = house.journal
        self._clock = house.clock
        self._platform = platform
        self._delivery = delivery
        self._post = post
        self._news = news
        self._permits = permits
        self._bell = Doorbell(house.clock)
        self.wanted: frozenset[str] = frozenset()
        """Peers whose invitation to a link room is accepted."""
        self.linked: frozenset[str] = frozenset()
        """Peers with which we share a link room, as of the last look."""
        self._offers: set[str] = set()
        """Peers that invite us, of whom our home has still to be told."""

    def ring(self) -> None:
        """Something may have to be told to a peer."""
        self._bell.ring()

    def offered(self, peer: str) -> None:
        """The bot `peer` invites us to a link room that nobody here has asked for: our home is told."""
        self._offers.add(peer)
        self._bell.ring()

    async def recover(self) -> None:
        """Before anything arrives: whose invitations are wanted."""
        self.wanted = await self._journal.wanted(self._platform.account)
        self.linked = frozenset(await self._journal.link_rooms(self._platform.account))

    async def tell_again(self, peer: str) -> None:
        """Sign our card and our grant for `peer` anew: what it was told has ended."""
        await self._journal.untell(self._platform.account, peer)
        self._bell.ring()

    async def run(self) -> None:
        """Tell peers what they have to know, for ever."""
        while True:
            try:
                until = await self.look()
            except sqlite3.Error as error:
                log.error("links_unreadable", error=str(error), remedy="free space on the disk")
                until = self._clock.now() + AGAIN_MS
            await self._bell.wait(until)

    async def look(self) -> int:
        """Tell each peer that is there what it has not been told yet; when to look again (ms)."""
        account, now = self._platform.account, self._clock.now()
        self.wanted = await self._journal.wanted(account)
        await self._journal.end_asks(account, now - ENDED_MS)
        rooms = await self._journal.link_rooms(account)
        self.linked = frozenset(rooms)
        told, pinned, cancelling = await self._journal.links_to_tell(account)
        home = await self._permits.home()
        offers, self._offers = self._offers - self.wanted, set()
        for peer in sorted(offers):
            await self._news.offered(peer, home, now)
            self._delivery.ring()
        refused = await self._permits.refused()
        again = now + LOOK_AGAIN_MS
        for peer, room in rooms.items():
            if peer in refused or is_agent(room):
                continue
            card, grant = told.get(peer, ("", ""))
            # Whoever pins a new key has believed nothing of that peer yet: our card makes it tell us again.
            whole = f"{room} {pinned.get(peer, '')} {self._us.card.model_dump_json()}"
            if card != whole:
                await self._post.tell(self._us.card, peer, room, now, told_card=whole)
            ours = grant_for(home, peer, now)
            again = min(again, now + LOOK_AGAIN_MS if ours is None else max(now + 1, ours.until))
            text = "" if ours is None else without_names(ours).model_dump_json()
            if len(text) > bodies.LONGEST_GRANT:
                log.error("grant_not_told", peer=peer, remedy="name fewer collections of notes in it")
                text = ""
            whole = f"{room} {text}" if text else ""
            if grant != whole:
                body = bodies.Granted(grant=text) if text else bodies.Revoke(reason="")
                await self._post.tell(body, peer, room, now, told_grant=whole)
        for ask in cancelling:
            told_it: tuple[Sent, Crossing] | None = None
            if ask.peer in rooms and ask.exp > now:
                sealed = self._post.seal(
                    bodies.Cancel(id=ask.id), ask.peer, self._post.name(), now, ask.exp,
                    room_ref=ask.room_ref, prev=ask.digest,
                )  # fmt: skip
                told_it = self._post.sent(sealed, rooms[ask.peer], f"cancel:{ask.digest}", now)
            await self._journal.cancel_told(account, ask, told_it, self._platform.device, now)
            self._delivery.ring()
        return again
