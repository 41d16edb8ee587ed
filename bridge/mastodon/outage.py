"""Whether an instance answers at all, and when it may be asked again. Pure.

    asked --fails--> asked --fails--> asked --fails--> held off, ever longer, at most a minute
      ^                                                    |
      '------------- the one call that is let through is answered

Promises: an instance that is down for an hour gets about one request a minute from us, however many
answers wait for it; one that is back is found within that minute. Refuses to hold anything off for a
single failure: a server may stumble over one post.
"""

from __future__ import annotations

from typing import Final

STUMBLES: Final = 3
"""Failures in a row that are no outage yet."""
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0


class Outage:
    """What the last calls to one instance say of it. Times are milliseconds since the epoch."""

    def __init__(self) -> None:
        self.failures = 0
        """Failures in a row; whoever asks remembers it for `failed`."""
        self._until = 0

    def before_request(self, now: int) -> float:
        """Seconds to wait before the next request; 0: go, and the others wait for what comes of it."""
        if self.failures < STUMBLES:
            return 0.0
        wait = self._until - now
        # A clock that was set back must not hold us off for longer than we wanted.
        if 0 < wait <= LONGEST_PAUSE * 1000:
            return wait / 1000
        self._until = now + int(self._pause() * 1000)
        return 0.0

    def answered(self) -> None:
        """The instance answered, if only to say no."""
        self.failures = 0

    def failed(self, known: int, now: int, jitter: float) -> None:
        """Nothing came, or an error of the server's own. `jitter` is in [0, 1).

        `known` are the failures when the request began: of requests that were under way together the
        first one counts, or ten of them would look like a long outage.
        """
        if known != self.failures:
            return
        self.failures += 1
        self._until = now + int(self._pause() * (0.5 + jitter / 2) * 1000)

    def _pause(self) -> float:
        return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(max(0, self.failures - STUMBLES), 16))
