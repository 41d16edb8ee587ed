"""What may still be asked and posted: two sliding windows, corrected by what the server says. Pure.

    requests   300 in 5 minutes per account       (`before_request`, `requested`)
    statuses   300 in 3 hours per account         (`before_post`, `posted`)

Promises: never more than the limit in any window of that length; a server that reports less left is
believed; while plenty is left nobody waits, and when little is left an author who had more than an
equal share waits for the others. Time comes in as `now` (ms since the epoch); a clock that jumps
back blocks nothing. Source: https://docs.joinmastodon.org/api/rate-limits/ and, for the statuses,
`app/lib/rate_limiter.rb` of Mastodon.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Final

REQUESTS: Final = 300
REQUESTS_MS: Final = 300_000
POSTS: Final = 300
POSTS_MS: Final = 3 * 3_600_000

FEW: Final = POSTS // 4
"""Posts left below which they are shared out between authors."""
LOW: Final = POSTS // 10
"""Posts left below which people are told when there will be more."""


class _Window:
    """At most `limit` uses in any `length` ms, and what the server last said of it."""

    def __init__(self, limit: int, length: int) -> None:
        self.limit = limit
        self.length = length
        self._uses: deque[tuple[int, str]] = deque(maxlen=limit)
        self._told: int | None = None
        self._told_until = 0

    def use(self, who: str, now: int) -> None:
        self._forget(now)
        self._uses.append((now, who))
        if self._told is not None:
            self._told = max(0, self._told - 1)

    def correct(self, left: int, reset_ms: int, now: int) -> None:
        """The server says that `left` uses are left, and that all are back after `reset_ms`."""
        self._told = max(0, left)
        self._told_until = now + min(max(0, reset_ms), self.length)

    def left(self, now: int) -> int:
        self._forget(now)
        own = self.limit - len(self._uses)
        return own if self._told is None else min(own, self._told)

    def by(self, who: str | None = None) -> list[int]:
        """When the uses in the window were made (by `who`), oldest first."""
        return [at for at, user in self._uses if who is None or user == who]

    def users(self) -> Counter[str]:
        return Counter(user for _, user in self._uses)

    def free_in(self, wanted: int, now: int) -> int:
        """Milliseconds until at least `wanted` uses are left (at most the limit); 0: they are."""
        if self.left(now) >= wanted:
            return 0
        wait = 0
        missing = min(wanted, self.limit) - (self.limit - len(self._uses))
        if missing > 0:
            wait = self._uses[missing - 1][0] + self.length - now
        if self._told is not None and self._told < wanted:
            wait = max(wait, self._told_until - now)
        return max(wait, 1)

    def _forget(self, now: int) -> None:
        if self._uses and self._uses[-1][0] > now:
            # The clock was set back: what was used counts as used now, and not for days.
            self._uses = deque(((min(at, now), who) for at, who in self._uses), maxlen=self.limit)
        while self._uses and self._uses[0][0] <= now - self.length:
            self._uses.popleft()
        if self._told is not None and not now < self._told_until <= now + self.length:
            self._told = None


class Limits:
    """What one account on one instance may still do."""

    def __init__(
        self,
        *,
        requests: int = REQUESTS,
        requests_ms: int = REQUESTS_MS,
        posts: int = POSTS,
        posts_ms: int = POSTS_MS,
    ) -> None:
        self._requests = _Window(requests, requests_ms)
        self._posts = _Window(posts, posts_ms)
        self._few = min(FEW, posts // 4)
        self._low = min(LOW, posts // 10)

    # -- requests ----------------------------------------------------------------------------------

    def before_request(self, now: int) -> float:
        """Seconds to wait before the next request; 0: go."""
        return self._requests.free_in(1, now) / 1000

    def requests_left(self, now: int) -> int:
        """How many requests may be sent now."""
        return self._requests.left(now)

    def requested(self, now: int) -> None:
        """Count a request that is about to be sent."""
        self._requests.use("", now)

    def told(self, remaining: int, reset: float, now: int, *, posting: bool = False) -> None:
        """The server said that `remaining` are left, and all of them again after `reset` seconds.

        `posting`: it spoke of the statuses (Mastodon does, in the answer to a post), not of requests.
        """
        window = self._posts if posting else self._requests
        window.correct(remaining, int(reset * 1000), now)

    # -- posts -------------------------------------------------------------------------------------

    def before_post(self, author: str, now: int) -> float:
        """Seconds that an answer to `author` (account id) waits; 0: post it.

        Nobody waits while more than a quarter of the limit is left. Below that, who has had an equal
        share of the window or more waits until the share or the window has room again.
        """
        if self._posts.left(now) > self._few:
            return 0.0
        wait = self._posts.free_in(1, now)
        had = self._posts.by(author)
        share = max(1, self._posts.limit // len(self._posts.users().keys() | {author}))
        if len(had) >= share:
            own = had[len(had) - share] + self._posts.length - now
            wait = max(wait, min(own, self._posts.free_in(self._few + 1, now)))
        return wait / 1000

    def posted(self, author: str, now: int) -> None:
        """Count a post in answer to `author`; one that may have happened counts too."""
        self._posts.use(author, now)

    def low(self, now: int) -> float | None:
        """Seconds until there is room for posts again, where the limit is nearly used up; else None."""
        if self._posts.left(now) > self._low:
            return None
        return self._posts.free_in(self._low + 1, now) / 1000
