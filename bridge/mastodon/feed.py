"""What arrives: mentions by their notifications, from a cursor on, a page at a time.

    poll --> page of 40, oldest first --> batch, the page's newest id as cursor --> committed --> next page
      ^                                                                                 |
      '---- doorbell, or a minute <---- answered posts are looked at again <---- short page

Owns the cursor, `{"account": id, "min_id": notification id}`; one of another account is a first start,
and a first start answers no backlog. Promises: no page is skipped and none is asked for again before it
was taken; the stream is a doorbell and polling is complete without it; an instance that is down is asked
ever more rarely. Refuses to compare ids: they are opaque, and the newest is the one that the server
puts first. Source: https://docs.joinmastodon.org/methods/notifications/#get, /api/guidelines/#pagination.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import structlog

from bridge.mastodon.translate import (
    dict_of,
    dicts_of,
    gone,
    mention,
    mentions_us,
    ms_of,
    not_ours,
    place_of,
    text_of,
)
from bridge.platform import Batch, Broken, Misconfigured, PlatformError, Refused, Retryable

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from bridge.mastodon.client import Client
    from bridge.platform import Event
    from bridge.schedule import Clock, Doorbell

log = structlog.get_logger(__name__)

POLL_EVERY: Final = 60.0
"""Seconds between polls that nothing asked for."""
PAGE: Final = 40
SHORT: Final = 15
"""A page with less is the last one: some servers give fewer than they are asked for, none gives so few."""
LOOK_EVERY: Final = 300.0
"""Seconds between looks at what was answered; each post is looked at again when its age has doubled."""
LOOK_FOR_MS: Final = 86_400_000
LOOKS: Final = 20
"""Requests of one such look."""
TOGETHER: Final = 20
"""Posts that one request reads, where the instance can."""
WATCHED: Final = 2000
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 120.0

_API_43: Final = 2
_FIRST_PAGES: Final = 25
_OPEN_AGAIN: Final = 8
_TOLD: Final = 1000
_GAPS: Final = ((150, 0.2), (50, 2.0), (0, 10.0))
"""Seconds between two polls, by how many requests are left."""
_NOTICES: Final[Mapping[str, str]] = {
    "moderation_warning": "moderators warned the bot's account: sign in there as the bot and read the notice",
    "severed_relationships": "the instance has cut off other servers: their people do not reach the bot now",
}


@dataclass(frozen=True, slots=True)
class _Watched:
    """A mention that was answered: watched since when, and due to be looked at when (ms)."""

    event: Event
    since: int
    due: int


class Feed:
    """What arrives for one account. `client` is open; `doorbell` is rung by whoever knows of news."""

    def __init__(
        self,
        client: Client,
        *,
        account: str,
        admins: frozenset[str],
        clock: Clock,
        rng: random.Random,
        doorbell: Doorbell,
        poll_every: float = POLL_EVERY,
        look_every: float = LOOK_EVERY,
    ) -> None:
        self._client = client
        self._account = account
        self._admins = admins
        self._clock = clock
        self._rng = rng
        self._doorbell = doorbell
        self._poll_every = poll_every
        self._look_every = look_every
        self._told: deque[Event] = deque(maxlen=_TOLD)
        self._watched: dict[str, _Watched] = {}
        self._min_id: str | None = None
        self._failures = 0

    # -- what others know --------------------------------------------------------------------------

    def tell(self, event: Event) -> None:
        """Put what was found elsewhere (a post that is gone, or reads otherwise) into the stream."""
        self._watched.pop(event.relates_to or "", None)
        if all(event.id != known.id for known in self._told):
            self._told.append(event)
        self._doorbell.ring()

    def watch(self, event: Event) -> None:
        """Look for a day whether a mention that was answered is still there, ever more rarely."""
        now = self._clock.now()
        self._watched.pop(event.id, None)
        self._watched[event.id] = _Watched(event, now, now + self._ms(self._look_every))
        while len(self._watched) > WATCHED:
            del self._watched[next(iter(self._watched))]

    # -- the loop ----------------------------------------------------------------------------------

    async def events(self, cursor: str | None, answered: Sequence[Event] = ()) -> AsyncGenerator[Batch, None]:
        """Yield what arrived after `cursor`, for ever; the consumer commits each batch before the next.

        `answered` are the mentions of the last day that were answered. Raises `Misconfigured` when only
        the operator can help; everything else is tried again.
        """
        for event in answered:
            self.watch(event)
        self._min_id, self._failures = self._read(cursor), 0
        polled = self._clock.now()
        poll_at, look_at = polled, polled + self._ms(self._look_every)
        while True:
            while self._told:
                told = tuple(self._told)
                yield Batch(self._account, None, events=told)
                self._told = deque((event for event in self._told if event not in told), _TOLD)
            if self._clock.now() >= poll_at:
                more = True
                while more:
                    batch, more, pause = await self._poll()
                    if batch is not None:
                        yield batch
                        self._min_id = self._read(batch.cursor)
                polled = self._clock.now()
                poll_at = polled + self._ms(pause)
            if self._clock.now() >= look_at and not self._failures:
                await self._look()
                look_at = self._clock.now() + self._ms(self._look_every)
                continue
            until = min(poll_at, look_at) if not self._failures else poll_at
            await self._doorbell.wait(until)
            if self._clock.now() < until and not self._failures:
                # The bell: at once, but not more often than the budget allows.
                poll_at = min(poll_at, max(self._clock.now(), polled + self._ms(self._gap())))

    def _ms(self, seconds: float) -> int:
        return int(seconds * 1000)

    def _gap(self) -> float:
        left = self._client.limits.requests_left(self._clock.now())
        return next(gap for least, gap in _GAPS if left >= least)

    def _read(self, cursor: str | None) -> str | None:
        """The notification id in a cursor of ours; `""`: there was none yet; None: a first start."""
        try:
            stored = dict_of(json.loads(cursor or "null"))
        except ValueError:
            return None
        min_id = stored.get("min_id")
        return min_id if stored.get("account") == self._client.me.id and isinstance(min_id, str) else None

    def _batch(self, min_id: str, events: Sequence[Event] = ()) -> Batch:
        cursor = json.dumps({"account": self._client.me.id, "min_id": min_id}, separators=(",", ":"))
        places = {event.place: place_of(event, self._client.me) for event in events}
        return Batch(self._account, cursor, events=tuple(events), places=tuple(places.values()))

    # -- one poll ----------------------------------------------------------------------------------

    async def _poll(self) -> tuple[Batch | None, bool, float]:
        """The next batch, whether there may be more at once, and the seconds until the next poll."""
        try:
            page = await self._page()
        except PlatformError as error:
            return None, False, await self._failed(error)
        if self._failures:
            log.info("instance_answers_again", url=self._client.url, attempts=self._failures + 1)
            self._failures = 0
        pause = self._poll_every * self._rng.uniform(0.9, 1.1)
        if self._min_id is None:
            newest = text_of(page[-1].get("id")) if page else ""
            log.info("first_start", account=self._account, backlog="not answered")
            return self._batch(newest), False, pause
        if not page or text_of(page[-1].get("id")) in ("", self._min_id):
            return None, False, pause
        return self._translated(page), len(page) >= SHORT, pause

    async def _page(self) -> list[Mapping[str, Any]]:
        """The notifications right after the cursor, oldest first; on a first start the newest one."""
        if self._min_id is None:
            return await self._notifications(limit=1)
        types = ["mention"]
        if self._client.instance.api_version >= _API_43:
            types += _NOTICES
        if self._min_id:
            return await self._notifications(types=types, limit=PAGE, min_id=self._min_id)
        # There was nothing at the first start, so all that there is now is new: walked from its end.
        page = found = await self._notifications(types=types, limit=PAGE)
        for _ in range(_FIRST_PAGES):
            if len(page) < SHORT:
                break
            page = await self._notifications(types=types, limit=PAGE, max_id=text_of(page[0].get("id")))
            found = [*page, *found]
        return found

    async def _notifications(self, **query: Any) -> list[Mapping[str, Any]]:
        answer = await self._client.call("notifications", **query)
        if not isinstance(answer, list):
            raise Retryable("notifications: the answer is no list")
        page = dicts_of(answer)
        newest_first = not page or ms_of(page[0].get("created_at")) >= ms_of(page[-1].get("created_at"))
        return page[::-1] if newest_first else page

    def _translated(self, page: Sequence[Mapping[str, Any]]) -> Batch:
        client = self._client
        found: dict[str, Event] = {}
        for notification in page:
            kind = text_of(notification.get("type"))
            if kind in _NOTICES:
                said = dict_of(notification.get("moderation_warning") or notification.get("event"))
                about = text_of(said.get("action")) or text_of(said.get("type"))
                log.warning(kind, account=self._account, about=about, remedy=_NOTICES[kind])
                continue
            reason = not_ours(notification, client.me)
            if reason is not None:
                log.info("notification_passed_over", reason=reason, id=text_of(notification.get("id")))
                continue
            event = mention(
                notification,
                instance=client.instance,
                me=client.me,
                admins=self._admins,
                now=client.server_now(),
            )
            if event is not None:
                found.setdefault(event.id, event)
        return self._batch(text_of(page[-1].get("id")), tuple(found.values()))

    async def _failed(self, error: PlatformError) -> float:
        """Seconds until the next try: doubling, jittered, capped; never less than the server asks for.

        Raises `Misconfigured`. A server that says no to a poll may mean the token, in words of its own
        (Takahe: 400 in HTML): then it is asked whose token this is. So it is now and then anyway: the
        instance may have moved.
        """
        if isinstance(error, Misconfigured):
            raise error
        if self._failures == 0:
            log.warning("instance_not_answering", url=self._client.url, error=str(error))
        if isinstance(error, Refused | Broken) or self._failures % _OPEN_AGAIN == _OPEN_AGAIN - 1:
            try:
                await self._client.open()
            except Misconfigured:
                raise
            except PlatformError as again:
                log.debug("instance_not_opened", error=str(again))
        most = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._failures, 16))
        self._failures += 1
        after = error.after if isinstance(error, Retryable) else None
        return max(after or 0.0, most * self._rng.uniform(0.5, 1.0))

    # -- what was answered -------------------------------------------------------------------------

    async def _look(self) -> None:
        """Read what was answered again, the least recently read first; who is gone is told."""
        now = self._clock.now()
        self._watched = {key: one for key, one in self._watched.items() if now < one.since + LOOK_FOR_MS}
        if self._client.limits.requests_left(now) < _GAPS[0][0]:
            return  # answering comes first
        most = LOOKS * (TOGETHER if self._client.instance.reads_many else 1)
        some = [key for key, one in self._watched.items() if one.due <= now][:most]
        found = await asyncio.gather(*map(self._client.status, some), return_exceptions=True)
        for status_id, status in zip(some, found, strict=True):
            if isinstance(status, Misconfigured):
                raise status
            if isinstance(status, PlatformError):
                continue
            if isinstance(status, BaseException):
                raise status
            known = self._watched.pop(status_id, None)
            if known is None:
                continue
            if status is None or not mentions_us(status, self._client.me):
                self.tell(gone(status_id, known.event.place, known.event.sender, now))
            else:
                pause = max(self._ms(self._look_every), now - known.since)
                self._watched[status_id] = replace(known, due=now + pause)
