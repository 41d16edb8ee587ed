"""Messages that nobody gave us the key of: after a while their sender is told, once for each key.

The journal keeps them sealed and opens them when the key comes (`bridge.matrix.sync`); this only says so.
Promises at most one notice for each Megolm session, one for each person and a few for each room in an
hour: whoever sends garbage makes us say little.
"""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Final

import structlog

from bots import wording_keys
from bots.conversation import Keyed, Role, Say
from bots.language import speaking
from bridge.schedule import Doorbell
from policies.document import held

if TYPE_CHECKING:
    from bridge.delivery import Delivery
    from bridge.journal.rows import Unread
    from bridge.platform import Platform
    from bridge.tools import House

log = structlog.get_logger(__name__)

PATIENCE_MS: Final = 60_000
"""How long a key may be under way before anybody is told."""
LATEST_MS: Final = 86_400_000
"""What is older is not spoken of any more."""
HOUR_MS: Final = 3_600_000
IN_A_ROOM: Final = 3
"""Notices in a room in an hour."""
AGAIN_MS: Final = 30_000


class Sealed:
    """What one account cannot read."""

    def __init__(self, house: House, platform: Platform, delivery: Delivery) -> None:
        self._house = house
        self._journal = house.journal
        self._clock = house.clock
        self._platform = platform
        self._delivery = delivery
        self._bell = Doorbell(house.clock)
        self._done: set[tuple[str, str]] = set()
        """(room, session) that were dealt with in this process."""
        self._said: list[tuple[int, str, str]] = []
        """(when, room, person) of the last hour."""

    def ring(self) -> None:
        """Something came that cannot be read."""
        self._bell.ring()

    async def watch(self) -> None:
        """Tell people for ever."""
        while True:
            try:
                until = await self.look()
            except sqlite3.Error as error:
                log.error("sealed_unreadable", error=str(error), remedy="free space on the disk")
                until = self._clock.now() + AGAIN_MS
            await self._bell.wait(until)

    async def look(self) -> int | None:
        """Say what is due; when to look again (ms), or None."""
        now = self._clock.now()
        again: int | None = None
        for one in await self._journal.unread(self._platform.account, now - LATEST_MS):
            session = _session(one)
            if (one.place, session) in self._done:
                continue
            due = one.admitted_at + PATIENCE_MS
            if due > now:
                again = due if again is None else min(again, due)
                continue
            self._done.add((one.place, session))
            if self._may_say(one.place, one.sender, now):
                await self._say(one, session, now)
        return again

    def _may_say(self, place: str, person: str, now: int) -> bool:
        self._said = [said for said in self._said if now - said[0] < HOUR_MS]
        here = [said[2] for said in self._said if said[1] == place]
        if person in here or len(here) >= IN_A_ROOM:
            return False
        self._said.append((now, place, person))
        return True

    async def _say(self, one: Unread, session: str, now: int) -> None:
        account = self._platform.account
        facts = await self._journal.place(account, one.place)
        policy = held(self._house.policy, None if facts is None else facts.place.policy)
        code = self._platform.withheld(one.place, session)
        with speaking(policy.language or self._house.language):
            words = wording_keys.unreadable(one.name or one.sender, code)
        said = Say(words, one.event, one.thread, mentions=(one.sender,))
        cause = f"sealed:{session}"
        await self._journal.say(
            account, one.place, cause, Keyed(said, Role.ANSWER), self._platform.device, now
        )
        log.warning("undecryptable", place=one.place, session=session, withheld=code or None)
        self._delivery.ring()


def _session(one: Unread) -> str:
    """The Megolm session; an event that names none stands for itself."""
    try:
        session = json.loads(one.sealed)["content"]["session_id"]
    except (ValueError, KeyError, TypeError):
        return one.event
    return session if isinstance(session, str) and session else one.event
