"""One run of a bot: what people see while it thinks.

    0.25 s  a read receipt and typing (an answer that comes sooner needs neither)
    1 s     draft 0: stored (T2b), then sent like any other action
    then    progress edits: at most eleven, ever further apart, never stored, never retried

Whatever was being shown has ended when `reply` returns or raises, so nothing of it can arrive
after the final words.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from bots import wording
from bots.base import Draft, Reply, Waiting
from bots.conversation import Keyed, Role, TurnKind
from bridge import answer
from bridge.platform import Ephemeral
from bridge.tools import TurnTools

if TYPE_CHECKING:
    from bots.base import Bot
    from bridge.delivery import Delivery
    from bridge.journal import Claimed
    from bridge.options import Options
    from bridge.platform import Platform
    from bridge.tools import House

SHOW_QUEUE_AFTER = 3.0
"""Seconds in the model's queue before people are told their position."""
UNSHOWN = (TurnKind.REVISION, TurnKind.ASKED)
"""Of these nobody sees drafts: the old answer stands until the new one is whole; a peer gets the whole."""
TYPING_EVERY = 20.0
"""Seconds between renewals of the typing notice, which servers let lapse after thirty."""


class Run:
    """The run of one claimed turn. `draft_key` is set once a draft of it stands."""

    def __init__(
        self,
        claimed: Claimed,
        platform: Platform,
        delivery: Delivery,
        options: Options,
        house: House,
        presence: set[asyncio.Task[None]],
    ) -> None:
        self._claimed = claimed
        self._platform = platform
        self._journal = house.journal
        self._delivery = delivery
        self._options = options
        self._house = house
        self._clock = house.clock
        self._keep = presence
        self._edits = 0
        self._shown_at = 0.0
        self._progress: asyncio.Task[None] | None = None
        self.draft_key: str | None = claimed.draft_key

    async def reply(self, bot: Bot) -> Reply:
        """Run `bot` to its reply, showing drafts on the way."""
        presence = asyncio.create_task(self._presence())
        self._keep.add(presence)
        presence.add_done_callback(self._keep.discard)
        try:
            return await self._think(bot)
        finally:
            presence.cancel()  # not awaited: the answer does not wait for the end of the typing notice
            await self._end_progress()

    async def _think(self, bot: Bot) -> Reply:
        turn = self._claimed.turn
        started = self._seconds()
        reply: Reply | None = None
        async with aclosing(
            bot.reply(turn, TurnTools(self._house, self._claimed, self._platform, self._options.admins))
        ) as steps:
            async for step in steps:
                elapsed = self._seconds() - started
                match step:
                    case Reply():
                        reply = step
                    case Draft(text, done) if text.strip() and elapsed >= self._options.draft_after:
                        await self._show(text, done)
                    case Waiting(position) if elapsed >= SHOW_QUEUE_AFTER:
                        await self._show(wording.waiting(position))
        if reply is None:
            raise RuntimeError(f"the bot {bot.name} ended without a reply")
        return reply

    def _seconds(self) -> float:
        return self._clock.now() / 1000

    # -- drafts and progress ------------------------------------------------------------------------

    async def _show(self, text: str, done: float | None = None) -> None:
        turn = self._claimed.turn
        if not self._options.streaming or turn.kind in UNSHOWN or turn.unasked:
            return  # an edited question: the old answer stands until the new one is whole
        if self.draft_key is None:
            say = answer.say(turn, self._platform.parts(text, turn.message.id).shown[0])
            self.draft_key = await self._journal.draft(
                self._claimed, Keyed(say, Role.ANSWER), self._platform.device, self._clock.now()
            )
            self._shown_at = self._seconds()
            self._delivery.ring()
            return
        due = answer.edit_is_due(self._edits, self._seconds() - self._shown_at, done)
        idle = self._progress is None or self._progress.done()
        if not due or not idle:
            return
        remote_id = await self._journal.remote_id(self.draft_key)
        if remote_id is None:
            return  # the draft is still on its way
        self._edits += 1
        self._shown_at = self._seconds()
        shown = Ephemeral(
            place=turn.place.id,
            event_id=turn.cause,
            thread=turn.message.thread,
            answer=remote_id,
            text=self._platform.parts(text, turn.message.id).shown[0],
        )
        self._progress = asyncio.create_task(self._platform.progress(shown))

    async def _end_progress(self) -> None:
        """Let the last progress edit arrive, so that it cannot overtake the final words."""
        if self._progress is not None:
            await asyncio.wait([self._progress], timeout=10)
            self._progress.cancel()
            await asyncio.gather(self._progress, return_exceptions=True)

    # -- receipt and typing -------------------------------------------------------------------------

    async def _presence(self) -> None:
        turn = self._claimed.turn
        if turn.kind in (TurnKind.WELCOME, TurnKind.ASKED, TurnKind.VERIFICATION) or turn.unasked:
            return  # no message of anybody's
        typing = False
        try:
            await self._clock.sleep(self._options.presence_after)
            if self._options.receipts:
                await self._platform.acknowledge(turn.place.id, turn.message.id, turn.message.thread)
            while (
                self._options.typing and not self._claimed.long
            ):  # nobody types for an hour; progress is shown instead
                typing = True
                await self._platform.typing(turn.place.id, on=True)
                await self._clock.sleep(TYPING_EVERY)
        finally:
            if typing:
                await self._platform.typing(turn.place.id, on=False)
