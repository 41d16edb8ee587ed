"""The line of waiting requests, by property."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from models.line import Line, Tier

JOINS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(Tier)), max_size=40)


def filled(joins: list[tuple[str, Tier]], *, bound: int = 64, share: int | None = 64) -> Line[int]:
    line: Line[int] = Line(bound, share)
    for ticket, (key, tier) in enumerate(joins):
        line.join(ticket, key, tier)
    return line


def drained(line: Line[int]) -> list[int]:
    served: list[int] = []
    while (ticket := line.next()) is not None:
        served.append(ticket)
    return served


@given(JOINS)
def test_everybody_is_served_once(joins: list[tuple[str, Tier]]) -> None:
    """Every ticket that joined is served exactly once, and then the line is empty."""
    line = filled(joins)
    assert sorted(drained(line)) == list(range(len(joins)))
    assert len(line) == 0


@given(JOINS)
def test_order_foretells(joins: list[tuple[str, Tier]]) -> None:
    """`order` is the order in which tickets are served when nobody else comes."""
    line = filled(joins)
    foretold = line.order()
    assert foretold == drained(line)


@given(JOINS)
def test_tiers_are_strict_and_keys_keep_their_order(joins: list[tuple[str, Tier]]) -> None:
    """No lower tier is served before a higher one, and one key of a tier is first come, first served."""
    served = [(joins[ticket][1], joins[ticket][0], ticket) for ticket in drained(filled(joins))]
    assert [tier for tier, _, _ in served] == sorted(tier for tier, _, _ in served)
    for tier, key in {(tier, key) for tier, key, _ in served}:
        own = [ticket for t, k, ticket in served if (t, k) == (tier, key)]
        assert own == sorted(own)


@given(JOINS)
def test_keys_take_turns(joins: list[tuple[str, Tier]]) -> None:
    """While a key waits, no other key of its tier is served twice before it is served once."""
    served = [joins[ticket] for ticket in drained(filled(joins))]
    for at, (key, tier) in enumerate(served):
        until = next((i for i in range(at + 1, len(served)) if served[i] == (key, tier)), None)
        if until is not None:
            between = [k for k, t in served[at + 1 : until] if t == tier]
            waiting = {k for k, t in served[until:] if t == tier} - {key}
            assert waiting <= set(between), (served, key)
            assert len(between) == len(set(between))


@given(st.lists(st.sampled_from("abc"), max_size=30), st.integers(0, 10), st.integers(1, 4))
def test_bounds_hold(keys: list[str], bound: int, share: int) -> None:
    """The line never exceeds its bound, nor a key its share; a refusal changes nothing."""
    line: Line[int] = Line(bound, share)
    for ticket, key in enumerate(keys):
        held = sum(keys[other] == key for other in line.order())
        room = len(line) < bound and held < share
        before = line.order()
        assert line.join(ticket, key) is room
        assert room or line.order() == before
    assert len(line) <= bound


@given(JOINS, st.sets(st.integers(0, 39)))
def test_leaving_moves_nobody_back(joins: list[tuple[str, Tier]], leaving: set[int]) -> None:
    """Whoever leaves is not served, and nobody is further back than before."""
    line = filled(joins)
    for ticket in leaving:
        before = line.order()
        assert line.leave(ticket) is (ticket in before)
        after = line.order()
        assert sorted(after) == sorted(set(before) - {ticket})
        assert all(after.index(other) <= before.index(other) for other in after)


def test_a_ticket_stands_in_the_line_once() -> None:
    """A ticket that already waits cannot join again."""
    line = filled([("a", Tier.DEFAULT)])
    assert not line.join(0, "b")
    assert line.order() == [0]


def test_a_busy_key_cannot_fill_the_line() -> None:
    """By default one conversation holds at most a quarter of the line."""
    line = filled([("busy", Tier.DEFAULT)] * 40, bound=16, share=None)
    assert len(line) == 4
    assert line.join(99, "quiet")
    assert line.order()[1] == 99


def test_whoever_is_served_lets_newcomers_go_first() -> None:
    """A conversation with a long list of questions does not delay one that asks its first."""
    line: Line[str] = Line()
    line.join("a1", "a")
    assert line.next() == "a1"
    line.join("a2", "a")
    line.join("a3", "a")
    line.join("b1", "b")
    assert line.order() == ["b1", "a2", "a3"]


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=60))
def test_nobody_starves(keys: list[str]) -> None:
    """However many newcomers arrive, a waiting key is served within two turns of each other key."""
    line: Line[str] = Line(bound=1000, share=1000)
    line.join("mine", "z")
    served = []
    for number, key in enumerate(keys):
        line.join(f"{key}{number}", key)
        served.append(line.next())
    assert "mine" in served or len(keys) < 4
