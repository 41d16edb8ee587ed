"""What A2A agents say that are no Hearths: unsigned, and data like any peer's words.

It is believed to be theirs because our own wire had it, over TLS, from the address in the settings
(`bridge.a2a`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bots.base import FromPeer
from bridge.journal.links import Taken
from bridge.link import bodies
from bridge.link.agents import AgentCard, read
from bridge.link.codes import Code as Wrong
from policies.verdict import Code

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bridge.journal import Control
    from bridge.journal.crossings import Crossing
    from bridge.journal.peers import Ask
    from bridge.link_news import News
    from bridge.tools import House

    Closing = Callable[[Ask, FromPeer, str, Crossing, int], Awaitable[Taken]]


class Agents:
    """The agents beside one account. `closing` ends an ask of ours by what came of it."""

    def __init__(self, house: House, news: News, account: str, closing: Closing) -> None:
        self._journal = house.journal
        self._news = news
        self._account = account
        self._closing = closing

    async def heard(self, control: Control, said: Crossing, now: int) -> Taken:
        """What follows from what an agent said."""
        heard, peer, account = read(control.message.text), said.peer, self._account
        said = replace(said, allowed=True, code="allowed", rule="link.agent")
        if isinstance(heard, AgentCard):
            return await self._shown(heard, control, said, now)
        ask = None if heard is None else await self._journal.ask(account, digest=heard.ask)
        if heard is None or ask is None or not ask.ours or ask.peer != peer or ask.state != "open":
            return Taken(crossings=(replace(said, allowed=False, code=str(Wrong.NOT_OURS)),))
        came = FromPeer(end=heard.end, peer=peer, waited_ms=max(0, now - ask.iat), text=heard.text)
        said = replace(said, kind=str(bodies.Kind.ANSWER), envelope=ask.id)
        if heard.end != "answered":
            said = replace(said, kind=str(bodies.Kind.REFUSE))
            code = str(Code.FAILED) if heard.end == "failed" else ""  # it gives no code of ours
            came = replace(came, end="refused", code=code, rule="link.agent", text="")
        return await self._closing(ask, came, "[]", said, now)

    async def _shown(self, heard: AgentCard, control: Control, said: Crossing, now: int) -> Taken:
        """Its card: kept as shown, and compared with the one that people decided about."""
        try:
            card = heard.card()
        except ValueError:
            return Taken(crossings=(replace(said, allowed=False, code=str(Wrong.BAD_BODY)),))
        pinned = (await self._journal.link_use(self._account, "", said.peer, "", now)).pinned
        changed = bool(pinned) and pinned != card.key
        if changed:
            said = replace(said, allowed=False, code=str(Wrong.KEY_CHANGED))
        says = await self._news.shown(said.peer, card, control, changed=changed)
        said = replace(said, kind=str(bodies.Kind.CARD))
        return Taken(peer=said.peer, card=card, iat=heard.at, says=says, crossings=(said,))
