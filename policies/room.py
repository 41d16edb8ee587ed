"""`RoomPolicy`: what a room allows, as data. Room state will carry it; until then the settings do.

The fields here are those that already have an effect. Each permission has a `meet`, the stricter
of two, so that a room's wish and the operator's ceiling combine the same way in any order.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

ANYONE = "*"


class Voice(StrEnum):
    """What is listened to of what people speak, from the strictest on."""

    OFF = "off"
    """Nothing, whoever asks."""
    ASKED = "asked"
    """What is asked for: a mention, a reply to us, a direct room, a command, an ear."""
    NAMED = "named"
    """Every voice message; what begins with the bot's name is answered, of the rest nothing is said."""
    ALL = "all"
    """Every voice message is written down in the room."""

    def allows(self, other: Voice) -> bool:
        """Whether this allows at least as much as `other` does."""
        order = tuple(Voice)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True, slots=True)
class RoomPolicy:
    """Who may ask, how much, and what is listened to.

    `askers` holds full addresses (`@ada:example.org`, on Mastodon `@ada@example.org`), whole servers
    (`example.org`) or `*`.
    Quotas count answered questions in the last 24 hours; None is no limit.
    """

    askers: frozenset[str] = frozenset()
    per_person_day: int | None = None
    per_place_day: int | None = None
    voice: Voice = Voice.ASKED

    def meet(self, other: RoomPolicy) -> RoomPolicy:
        """Both limits at once: nobody is allowed whom either of the two refuses."""
        return RoomPolicy(
            askers=_meet_addresses(self.askers, other.askers),
            per_person_day=_meet_limit(self.per_person_day, other.per_person_day),
            per_place_day=_meet_limit(self.per_place_day, other.per_place_day),
            voice=other.voice if self.voice.allows(other.voice) else self.voice,
        )

    def admits(self, address: str) -> bool:
        """Whether `address` is named here, by itself, by its server or by `*`."""
        return any(covers(pattern, address) for pattern in self.askers)


def covers(pattern: str, address: str) -> bool:
    """Whether `pattern` (an address, a server or `*`) names at least all that `address` names."""
    # An empty pattern names nobody: it must not match the empty server of an address without one.
    return bool(pattern) and pattern in (ANYONE, address, server_of(address))


def server_of(address: str) -> str:
    """The server part of `@user:server` or `@user@server` (it may carry a port); `""` if there is none."""
    found = re.fullmatch(r"@[^:@]*[:@](.*)", address, re.DOTALL)
    return "" if found is None else found[1]


def _meet_addresses(ours: frozenset[str], theirs: frozenset[str]) -> frozenset[str]:
    return frozenset(
        {one for one in ours if any(covers(other, one) for other in theirs)}
        | {one for one in theirs if any(covers(other, one) for other in ours)}
    )


def _meet_limit(one: int | None, other: int | None) -> int | None:
    limits = [limit for limit in (one, other) if limit is not None]
    return min(limits, default=None)
