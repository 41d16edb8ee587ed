"""The line of requests that wait for the model: bounded, fair between conversations, pure.

Three tiers are served strictly one before the other (`priority`, `default`, `flex`). Within a
tier, conversations (keys) take turns: each is served once before any is served twice, and the
one that was served last lets newcomers go first; within a conversation, first come, first served.
A request that would exceed the bound is refused, and so is one whose conversation already holds
its share, so that one busy room cannot fill the line.

Knows no clock, no network and no randomness: `models/desk.py` asks who is next.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

T = TypeVar("T", bound="Hashable")


class Tier(IntEnum):
    """Who goes first (`service_tier` of the OpenAI API). Lower goes first."""

    PRIORITY = 0
    DEFAULT = 1
    FLEX = 2

    @classmethod
    def of(cls, service_tier: str | None) -> Tier:
        """The tier of a request; unknown and missing names (`auto`) are `default`."""
        return {"priority": cls.PRIORITY, "flex": cls.FLEX}.get(service_tier or "", cls.DEFAULT)


class Line(Generic[T]):
    """Tickets that wait. A ticket is in the line at most once."""

    def __init__(self, bound: int = 64, share: int | None = None) -> None:
        """At most `bound` tickets in all and `share` of one key (default: a quarter)."""
        self.bound = bound
        self.share = max(1, bound // 4) if share is None else share
        # Per tier: key -> its tickets; the order of the keys is the order of their turns.
        self._tiers: dict[Tier, dict[str, deque[T]]] = {tier: {} for tier in Tier}
        self._where: dict[T, tuple[Tier, str]] = {}
        self._last: str | None = None

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, ticket: T) -> bool:
        return ticket in self._where

    def join(self, ticket: T, key: str, tier: Tier = Tier.DEFAULT) -> bool:
        """Queue up. False: the line is full, or this key holds its share of it already."""
        held = sum(len(keys.get(key, ())) for keys in self._tiers.values())
        if len(self._where) >= self.bound or held >= self.share or ticket in self._where:
            return False
        self._tiers[tier].setdefault(key, deque()).append(ticket)
        self._where[ticket] = (tier, key)
        return True

    def leave(self, ticket: T) -> bool:
        """Give up waiting. False: it was not in the line (any more)."""
        if (where := self._where.pop(ticket, None)) is None:
            return False
        tier, key = where
        self._tiers[tier][key].remove(ticket)
        if not self._tiers[tier][key]:
            del self._tiers[tier][key]
        return True

    def next(self) -> T | None:
        """Take out whose turn it is."""
        for keys in self._tiers.values():
            if keys:
                key, ticket = _take(keys, self._last)
                self._last = key
                del self._where[ticket]
                return ticket
        return None

    def best(self) -> Tier | None:
        """The tier of whose turn it is; None where nobody waits."""
        return next((tier for tier, keys in self._tiers.items() if keys), None)

    def order(self) -> list[T]:
        """Foretell the order in which all would be served if nobody else came."""
        ordered: list[T] = []
        last = self._last
        for keys in self._tiers.values():
            copy = {key: deque(tickets) for key, tickets in keys.items()}
            while copy:
                last, ticket = _take(copy, last)
                ordered.append(ticket)
        return ordered


def _take(keys: dict[str, deque[T]], last: str | None) -> tuple[str, T]:
    """Take the next ticket of a tier: of the first key, but not of the key served last if others wait."""
    key = next((key for key in keys if key != last), None)
    if key is None:
        key = next(iter(keys))
    tickets = keys.pop(key)
    ticket = tickets.popleft()
    if tickets:
        keys[key] = tickets  # to the end: the others first
    return key, ticket
