"""`MastodonPlatform`: the port on Mastodon.

Owns what belongs to one account on one instance, and nothing of what it does: arriving is `feed`,
looking is `thread`, posting is `post`. Promises: nothing is asked before the instance and the token are
known to work; an instance that is down at the start is waited for, and nothing is lost.
"""

from __future__ import annotations

import asyncio
import uuid
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

import structlog

from bots.conversation import ClosePoll, OpenLink, OpenPoll, Person, PutState, Say, SendEnvelope
from bridge.mastodon import manners, media, thread
from bridge.mastodon.client import Client
from bridge.mastodon.doorbell import Bell
from bridge.mastodon.feed import LOOK_EVERY, Feed
from bridge.mastodon.post import Poster
from bridge.mastodon.translate import gone
from bridge.platform import Broken, Event, EventKind, Found, Misconfigured, Refused, Retryable
from bridge.schedule import Doorbell
from policies.decide import MODERATOR_POWER

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncGenerator, Sequence
    from typing import BinaryIO

    from bots.conversation import Attachment, Turn
    from bridge.platform import Batch, Ephemeral, Fresh, Parts, Reach, StoredAction
    from bridge.schedule import Clock
    from policies.vote import Ballot

log = structlog.get_logger(__name__)

KEY_MEMORY: Final = 3600.0
"""Seconds for which Mastodon remembers an idempotency key."""
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 120.0
_READY_DEADLINE: Final = 10.0
_VOTES: Final = (OpenPoll, ClosePoll, PutState)


class MastodonPlatform:
    """One account behind `bridge.platform.Platform`.

    `account` is its full address (`@name@server`), `url` the instance, `admins` the addresses with a
    moderator's power; `language` is that of an answer to a post that names none. Times in seconds.
    """

    key_memory = KEY_MEMORY
    takes_files = False
    verifying = None
    takes_votes = False

    def __init__(
        self,
        *,
        url: str,
        account: str,
        token: str,
        clock: Clock,
        rng: random.Random,
        admins: frozenset[str] = frozenset(),
        language: str = "en",
        accept_private_mentions: bool = False,
        private_media: bool = False,
        poll_every: float = 60.0,
        look_every: float = LOOK_EVERY,
        timeout: float = 15.0,
    ) -> None:
        self.account = account
        self.device = str(uuid.uuid4())
        """New for each process: what an earlier one may have posted is looked for before it is posted."""
        self.client = Client(url, token, clock=clock, rng=rng, timeout=timeout)
        self._clock = clock
        self._rng = rng
        self._admins = admins
        self._accepts = accept_private_mentions
        self._private_media = private_media
        self._doorbell = Doorbell(clock)
        self._feed = Feed(
            self.client,
            account=account,
            admins=admins,
            clock=clock,
            rng=rng,
            doorbell=self._doorbell,
            poll_every=poll_every,
            look_every=look_every,
        )
        self._poster = Poster(self.client, clock=clock, language=language, gone=self._question_gone)
        self._ready = asyncio.Event()

    # -- what arrives ------------------------------------------------------------------------------

    async def events(
        self, cursor: str | None, sealed: Sequence[Event] = (), answered: Sequence[Event] = ()
    ) -> AsyncGenerator[Batch, None]:
        """Yield the mentions after `cursor`; see `Platform.events`."""
        del sealed  # nothing is encrypted here
        await self._open()
        bell = Bell(self.client, self._doorbell.ring, clock=self._clock, rng=self._rng)
        listening = asyncio.create_task(bell.run())
        try:
            async with aclosing(self._feed.events(cursor, answered)) as batches:
                async for batch in batches:
                    yield batch
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _open(self) -> None:
        """Wait for the instance; `Misconfigured` where only the operator can help."""
        failures = 0
        while not self._ready.is_set():
            try:
                await self.client.open()
                if self.client.me.address.casefold() != self.account.casefold():
                    told = f"the token is that of {self.client.me.address}; set mastodon.user to it"
                    raise Misconfigured(self.account, f"{told}, or log in again")
                await manners.greet(self.client, accepts=self._accepts)
                self._ready.set()
            except (Retryable, Refused) as error:
                wait = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures, 16))
                wait = max(getattr(error, "after", None) or 0.0, wait * self._rng.uniform(0.5, 1.0))
                failures += 1
                log.warning("instance_not_there", account=self.account, error=str(error), wait=round(wait, 1))
                await self._clock.sleep(wait)

    def _question_gone(self, status_id: str, place: str) -> None:
        """The instance says so, and it checked who may delete: that counts like a moderator's word."""
        server = Person(self.client.me.address, power=MODERATOR_POWER)
        self._feed.tell(gone(status_id, place, server, self._clock.now()))

    async def refresh(self, turn: Turn) -> Fresh:
        """Look how the question stands, and what was said before it; see `Platform.refresh`."""
        await self._opened()
        return await thread.refresh(self.client, turn, admins=self._admins)

    async def fetch(self, attachment: Attachment, into: BinaryIO, limit: int) -> None:
        """Write the file of `attachment` to `into`; see `Platform.fetch`."""
        await media.fetch(attachment, into, limit, allow_loopback=self._private_media)

    # -- what we do --------------------------------------------------------------------------------

    async def perform(self, action: StoredAction) -> str | None:
        """Do `action` under its key; see `Platform.perform`."""
        if isinstance(action.action, _VOTES):
            raise Broken(f"{action.action.kind}: there are no votes on Mastodon")
        if isinstance(action.action, SendEnvelope | OpenLink):
            raise Broken(f"{action.action.kind}: there are no link rooms on Mastodon")
        await self._opened()
        remote_id = await self._poster.perform(action)
        if isinstance(action.action, Say) and action.action.reply_to is not None:
            answered = action.action.reply_to
            author = Person(self.client.me.address, power=MODERATOR_POWER)
            now = self._clock.now()
            self._feed.watch(Event(answered, action.place, EventKind.MESSAGE, author, now))
        return remote_id

    async def find(self, action: StoredAction) -> str | Found:
        """Look for `action`; see `Platform.find`."""
        if isinstance(action.action, (*_VOTES, SendEnvelope, OpenLink)):
            return Found.ABSENT
        await self._opened()
        return await self._poster.find(action)

    def withheld(self, place: str, session: str) -> str:
        """Nothing is encrypted here."""
        del place, session
        return ""

    def reach(self, place: str) -> Reach | None:
        """Nothing is encrypted here."""
        del place
        return None

    @property
    def server_time(self) -> int | None:
        """None: nothing here ends at a time that others go by."""
        return None

    async def ballots(self, place: str, poll: str) -> tuple[Ballot, ...]:
        """None: there are no votes here. A poll of Mastodon does not say who answered what."""
        del place, poll
        return ()

    def parts(self, text: str, reply_to: str | None = None) -> Parts:
        """Cut Markdown into posts; see `Platform.parts`."""
        return self._poster.parts(text, reply_to)

    async def _opened(self) -> None:
        try:
            await asyncio.wait_for(self._ready.wait(), _READY_DEADLINE)
        except TimeoutError:
            raise Retryable("not connected to the instance") from None

    # -- what Mastodon does not show ---------------------------------------------------------------

    async def acknowledge(self, place: str, event_id: str, thread: str | None) -> None:
        """Nothing: there are no receipts."""

    async def typing(self, place: str, *, on: bool) -> None:
        """Nothing: nobody sees it."""

    async def progress(self, shown: Ephemeral) -> None:
        """Nothing: everybody who boosted a post is told of each edit of it."""

    async def close(self) -> None:
        """Let go of the connections."""
        await self.client.close()
