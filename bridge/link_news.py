"""What people are told of links: which key a peer shows, what the other community allows.

In the room that asked for the link, and of keys in the link room, too. Of a peer over HTTPS, which no room
may have asked for, our home is told. Each thing is said once, and of one peer a few in a day: `!peers` shows
what stands.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from bots import wording_links
from bots.base import Peer
from bots.conversation import Keyed, Role, Say
from bots.keywords import key_words
from bots.language import speaking
from bridge.journal.links import Sent
from bridge.link.beside import is_agent, peer_of
from policies.document import held
from policies.grant import DAY_MS, Grant, read_grant

if TYPE_CHECKING:
    from bridge.journal import Control
    from bridge.link import bodies
    from bridge.platform import PlaceFacts
    from bridge.tools import House

MOST_OFFERS: Final = 3
"""Invitations to link rooms of which people are told in a day."""
MOST_NEWS: Final = 3
"""Keys, and grants, of one peer of which people are told in a day: it can show another one every second."""


class News:
    """What to say of the links of one account. `home` is the room by whose rules peers are answered."""

    def __init__(self, house: House, account: str, home: str) -> None:
        self._house = house
        self._journal = house.journal
        self._clock = house.clock
        self._account = account
        self._home = home
        self._offered: set[tuple[str, int]] = set()
        """Who invited us on which day (days since the epoch), as far as our home was told."""
        self._told: Counter[tuple[str, str, int]] = Counter()
        """How often people were told of a peer's keys, or grants, on which day."""

    def _is_news(self, what: str, peer: str) -> bool:
        """Whether people are told once more today; if so, it counts."""
        day = self._clock.now() // DAY_MS
        self._told = Counter({one: count for one, count in self._told.items() if one[2] == day})
        if self._told[what, peer, day] >= MOST_NEWS:
            return False
        self._told[what, peer, day] += 1
        return True

    async def shown(
        self, peer: str, card: bodies.Card, control: Control, *, changed: bool = False
    ) -> tuple[Sent, ...]:
        """Say which key a peer shows, in the link room and where the link was asked for; once a key."""
        account, place = self._account, control.place.id
        before = next(
            (one for one in await self._journal.peers_of(account, place) if one.address == peer), None
        )
        if (before is not None and before.key == card.key) or not self._is_news("key", peer):
            return ()
        shown = Peer(peer, card.name, card.key)
        asked_in = await self._journal.wanted_in(account, peer)
        # Over HTTPS nobody reads along.
        told_in = [asked_in or self._home] if peer_of(place) else [place, asked_in]
        words = wording_links.agent if is_agent(place) else wording_links.shown_key
        words = wording_links.key_changed if changed else words
        said = []
        for where in dict.fromkeys(one for one in told_in if one):
            there = await self._journal.place(account, where)
            if there is None or not there.joined:
                continue  # `!link` shows the key to whoever asks for it there
            with speaking(await self._language(where)):
                text = words(shown, key_words(card.key))
            said.append(Sent(where, control.event, Keyed(Say(text, notice=True), Role.ANSWER)))
        return tuple(said)

    async def offered(self, peer: str, home: PlaceFacts | None, now: int) -> None:
        """Say at home that a bot invites us. Anybody can: at most a few in a day, and each but once."""
        day = now // DAY_MS
        self._offered = {one for one in self._offered if one[1] == day}
        if home is None or not home.joined or len(self._offered) >= MOST_OFFERS:
            return
        self._offered.add((peer, day))
        with speaking(await self._language(home.place.id)):
            said = Keyed(Say(wording_links.offered(Peer(peer)), notice=True), Role.ANSWER)
        cause = f"link_offered:{peer}:{day}"
        await self._journal.say(self._account, home.place.id, cause, said, "", now)

    async def allowed(self, peer: str, grant: str, control: Control) -> tuple[Sent, ...]:
        """Say in the room that asked for the link what the other community allows; once for each change."""
        account = self._account
        place = await self._journal.wanted_in(account, peer)
        if not place and peer_of(control.place.id):
            place = self._home
        use = await self._journal.link_use(account, place, peer, "", self._clock.now())
        if not place or use.theirs == grant or not self._is_news("grant", peer):
            return ()
        known = await self._journal.peers_of(account, place)
        shown = next((one for one in known if one.address == peer), Peer(peer))
        found = read_grant(grant, self._account.removeprefix("@")) if grant else None
        with speaking(await self._language(place)):
            words = wording_links.allowed_there(shown, found if isinstance(found, Grant) else None)
        return (Sent(place, control.event, Keyed(Say(words, notice=True), Role.ANSWER)),)

    async def _language(self, place: str) -> str:
        facts = await self._journal.place(self._account, place)
        policy = held(self._house.policy, None if facts is None else facts.place.policy)
        return policy.language or self._house.language
