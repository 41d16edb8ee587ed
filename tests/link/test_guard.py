"""Budgets, pauses and silences: what is held back, for how long, and that waiting always helps."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.link.guard import (
    ALL_BUDGET,
    FIRST_SILENCE_MS,
    LONGEST_SILENCE_MS,
    PAIR_BUDGET,
    PAUSE_MS,
    WINDOW_MS,
    Guard,
    Held,
    Hold,
    admit,
    did_well,
    erred,
)

NOW = 1_800_000_000_000


def spent(guard: Guard, peer: str, now: int, count: int) -> tuple[Guard, Held | None]:
    held: Held | None = None
    for _ in range(count):
        guard, held = admit(guard, peer, now)
    return guard, held


def test_a_pair_has_a_budget_and_then_rests() -> None:
    """Twenty in a minute; the next waits a minute, and another peer does not."""
    guard, held = spent(Guard(), "a", NOW, PAIR_BUDGET)
    assert held is None
    guard, held = admit(guard, "a", NOW)
    assert held == Held(Hold.PAIR, NOW + PAUSE_MS)
    assert admit(guard, "b", NOW)[1] is None
    assert admit(guard, "a", NOW + PAUSE_MS - 1)[1] == held
    assert admit(guard, "a", NOW + PAUSE_MS)[1] is None


def test_all_together_have_a_budget() -> None:
    """Ten busy peers are enough at once."""
    guard = Guard()
    for peer in range(ALL_BUDGET // PAIR_BUDGET):
        guard, held = spent(guard, str(peer), NOW, PAIR_BUDGET)
        assert held is None
    _, held = admit(guard, "one more", NOW + 5)
    assert held == Held(Hold.ALL, NOW + WINDOW_MS)
    assert admit(guard, "one more", NOW + WINDOW_MS)[1] is None


def test_errors_are_met_with_silence_that_doubles() -> None:
    """Half of it at least; something right begins it anew."""
    guard, now = Guard(), NOW
    for doubled in range(3):
        guard = erred(guard, "a", now, jitter=0.0)
        until = now + FIRST_SILENCE_MS * 2**doubled
        assert admit(guard, "a", until - 1)[1] == Held(Hold.SILENCE, until)
        now = until
    assert admit(did_well(guard, "a"), "a", now)[1] is None
    begun = erred(did_well(guard, "a"), "a", now, jitter=1.0)
    assert admit(begun, "a", now)[1] == Held(Hold.SILENCE, now + FIRST_SILENCE_MS // 2)
    for _ in range(50):
        guard = erred(guard, "a", now, jitter=0.0)
    _, held = admit(guard, "a", now)
    assert held == Held(Hold.SILENCE, now + LONGEST_SILENCE_MS)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 200_000), st.booleans()), max_size=60))
def test_waiting_always_helps(steps: list[tuple[str, int, bool]]) -> None:
    """However it came to be held back: at its time, something may go on; and idle peers leave no trace."""
    guard, now = Guard(), NOW
    for peer, wait, errs in steps:
        now += wait
        guard = erred(guard, peer, now, 0.5) if errs else admit(guard, peer, now)[0]
    for peer in "abc":
        at, after, held = now, guard, None
        for _ in range(3):
            after, held = admit(after, peer, at)
            at = at if held is None else held.until
        assert held is None
    later, _ = admit(guard, "d", now + 3 * LONGEST_SILENCE_MS)
    assert set(later.pairs) == {"d"}
    back, held = admit(guard, "a", NOW - 10**12)
    assert held is None or held.until <= NOW - 10**12 + LONGEST_SILENCE_MS
    assert back is not guard
