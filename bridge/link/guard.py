"""How many events of a peer are taken, and when one is left in silence. Pure: state in, state out.

Three brakes, each for itself: a budget for each pair of communities, with a pause after it; one budget for
all peers together; and silence towards a peer whose envelopes are wrong, twice as long each time. They count
what a peer sends and what we ask of it, but not the reply to an open ask: that is owed, and comes once.

    state, hold = admit(state, peer, now)     hold is None: go on, and it is counted

Promises: what is held back counts nowhere, so waiting always helps; a clock that jumps back holds nobody
longer than one that does not; idle peers leave no trace in the state.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

WINDOW_MS: Final = 60_000
PAIR_BUDGET: Final = 20
"""Events of one pair within `WINDOW_MS`."""
PAUSE_MS: Final = 60_000
"""How long a pair rests once its budget is spent."""
ALL_BUDGET: Final = 200
"""Events of all pairs within `WINDOW_MS`: ten busy peers."""
FIRST_SILENCE_MS: Final = 10_000
LONGEST_SILENCE_MS: Final = 6 * 3_600_000
_MOST_DOUBLINGS: Final = 12


class Hold(StrEnum):
    """Why an event has to wait."""

    PAIR = "pair_budget"
    ALL = "all_budget"
    SILENCE = "silence"


@dataclass(frozen=True, slots=True)
class Held:
    """An event has to wait: why, and until when (ms since the epoch)."""

    why: Hold
    until: int


@dataclass(frozen=True, slots=True)
class Pair:
    """One peer: when its last events were (ms), until when it rests, and how often in a row it erred."""

    events: tuple[int, ...] = ()
    paused_until: int = 0
    errors: int = 0
    silent_until: int = 0


@dataclass(frozen=True, slots=True)
class Guard:
    """All peers."""

    pairs: Mapping[str, Pair] = field(default_factory=dict)


def admit(guard: Guard, peer: str, now: int) -> tuple[Guard, Held | None]:
    """Whether an event from or to `peer` may go on at `now` (ms); if it may, it is counted."""
    guard = _recent(guard, now)
    pair = guard.pairs.get(peer, Pair())
    if now < pair.silent_until:
        return guard, Held(Hold.SILENCE, pair.silent_until)
    if now < pair.paused_until:
        return guard, Held(Hold.PAIR, pair.paused_until)
    if len(pair.events) >= PAIR_BUDGET:
        paused = replace(pair, events=(), paused_until=now + PAUSE_MS)
        return _with(guard, peer, paused), Held(Hold.PAIR, paused.paused_until)
    together = sorted(event for one in guard.pairs.values() for event in one.events)
    if len(together) >= ALL_BUDGET:
        return guard, Held(Hold.ALL, together[-ALL_BUDGET] + WINDOW_MS)
    return _with(guard, peer, replace(pair, events=(*pair.events, now))), None


def silenced(guard: Guard, peer: str, now: int) -> Held | None:
    """Whether `peer` is left in silence at `now` (ms). For a reply that is owed: its ask was counted."""
    pair = _recent(guard, now).pairs.get(peer, Pair())
    return Held(Hold.SILENCE, pair.silent_until) if now < pair.silent_until else None


def erred(guard: Guard, peer: str, now: int, jitter: float) -> Guard:
    """`peer` sent what is not believed: silence, twice as long as last time.

    `jitter`, 0 to 1, takes off up to a half, so that two sides do not wake at the same moment for ever.
    """
    pair = guard.pairs.get(peer, Pair())
    whole = min(LONGEST_SILENCE_MS, FIRST_SILENCE_MS * 2 ** min(pair.errors, _MOST_DOUBLINGS))
    silence = round(whole * (1 - min(max(jitter, 0.0), 1.0) / 2))
    errors = min(pair.errors + 1, _MOST_DOUBLINGS)
    return _with(guard, peer, replace(pair, errors=errors, silent_until=now + silence))


def did_well(guard: Guard, peer: str) -> Guard:
    """`peer` sent what is believed: its next error is a first one. A silence that has begun goes on."""
    pair = guard.pairs.get(peer)
    return guard if pair is None or not pair.errors else _with(guard, peer, replace(pair, errors=0))


def _with(guard: Guard, peer: str, pair: Pair) -> Guard:
    return Guard({**guard.pairs, peer: pair})


def _recent(guard: Guard, now: int) -> Guard:
    """Without what is over: events out of the window, idle peers, ends that lie too far ahead to be real."""
    pairs = {}
    for peer, pair in guard.pairs.items():
        fresh = Pair(
            tuple(event for event in pair.events if now - WINDOW_MS < event <= now),
            min(pair.paused_until, now + PAUSE_MS),
            pair.errors,
            min(pair.silent_until, now + LONGEST_SILENCE_MS),
        )
        # Errors are remembered for as long as the longest silence after the last one ended.
        over = max(fresh.paused_until, fresh.silent_until + (LONGEST_SILENCE_MS if fresh.errors else 0))
        if fresh.events or now < over:
            pairs[peer] = fresh
    return Guard(pairs)
