"""Votes: the count is the same in any order, only those who may count, and no way of voting backfires."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.vote import (
    EXTENSION_MS,
    Ballot,
    Choice,
    Judgement,
    Member,
    Mode,
    Reason,
    Rule,
    State,
    Tally,
    brake,
    electorate,
    electorate_hash,
    judge,
    required,
    tally,
)

OPENED, DUE = 1_000_000, 2_000_000
PEOPLE = frozenset({"@ada:home", "@ben:home", "@cleo:home", "@dan:away"})

choices = st.none() | st.sampled_from(Choice)
ballots = st.lists(
    st.builds(
        Ballot,
        event_id=st.integers(0, 10**6).map(lambda number: f"${number}"),
        voter=st.sampled_from([*sorted(PEOPLE), "@eve:outside"]),
        sent_at=st.integers(OPENED - 3, DUE + 3),
        choice=choices,
    ),
    max_size=30,
    unique_by=lambda one: one.event_id,
)
rules = st.builds(Rule, mode=st.sampled_from(Mode), ratio=st.sampled_from([2, 3]))


@st.composite
def counts(draw: st.DrawFn) -> Tally:
    """Any count that a room of up to forty can give."""
    members = draw(st.integers(0, 40))
    left = members
    numbers = []
    for _ in range(4):
        numbers.append(draw(st.integers(0, left)))
        left -= numbers[-1]
    return _count(members, *numbers)


def _count(members: int, yes: int = 0, no: int = 0, objections: int = 0, abstained: int = 0) -> Tally:
    return Tally(members, yes, no, objections, abstained, (), "")


def _counted(votes: list[Ballot], voters: frozenset[str] = PEOPLE) -> Tally:
    return tally(votes, voters, opened_at=OPENED, closes_at=DUE)


# -- who and what counts ---------------------------------------------------------------------------


def test_bots_and_newcomers_have_no_vote() -> None:
    """Who joined after the vote opened, or shortly before, was not here when the matter arose."""
    members = [
        Member("@ada:home", 0),
        Member("@ben:home", 900),
        Member("@late:home", 901),
        Member("@bot:home", 0, is_bot=True),
    ]
    assert electorate(members, opened_at=1_000, min_age_ms=100) == {"@ada:home", "@ben:home"}


def test_the_hash_of_the_electorate_can_be_made_by_hand() -> None:
    """`printf '@ada:home\\n@ben:home\\n' | sha256sum`, whatever the order."""
    told = "a2d5979b8d3de36f2827435dcac1a1e5a4fd632e4b4d1f0caa212b3b9038270b"
    assert electorate_hash(["@ben:home", "@ada:home", "@ben:home"]) == told


@given(ballots, st.randoms(use_true_random=False))
def test_the_order_in_which_ballots_arrive_does_not_matter(votes: list[Ballot], rng: object) -> None:
    """After an outage they come in any order: the same count, the same hash."""
    shuffled = votes[:]
    rng.shuffle(shuffled)  # type: ignore[attr-defined]  # Hypothesis gives a Random
    assert _counted(shuffled) == _counted(votes)


@given(ballots)
def test_what_must_not_count_changes_nothing(votes: list[Ballot]) -> None:
    """Outsiders, too early, too late: as if it had never been sent; each member counts at most once."""
    valid = [one for one in votes if one.voter in PEOPLE and OPENED <= one.sent_at < DUE]
    found = _counted(votes)
    assert found == _counted(valid)
    assert found.yes + found.against + found.abstained + found.silent == found.members == len(PEOPLE)
    assert found.silent >= 0
    assert len(found.counted) == len(PEOPLE) - found.silent


def _vote(number: int, choice: Choice | None, voter: str = "@ada:home") -> Ballot:
    return Ballot(f"${number}", voter, OPENED + number, choice)


def test_the_last_word_counts() -> None:
    """Changed, taken back, revived by redacting what came later: as MSC3381 has it."""
    yes, no, spoiled = _vote(1, Choice.YES), _vote(2, Choice.NO), _vote(3, None)
    assert _counted([yes, no]).no == 1
    assert _counted([yes, no, spoiled]).silent == 4
    assert _counted([yes]).yes == 1
    assert _counted([yes, no]).counted == ("$2",)


@given(ballots)
def test_the_hash_tells_counts_apart(votes: list[Ballot]) -> None:
    """Another choice on a ballot that counts is another hash; so is another electorate."""
    found = _counted(votes)
    if found.counted:
        changed = [
            replace(one, choice=Choice.NO if one.choice is not Choice.NO else Choice.YES)
            if one.event_id == found.counted[0]
            else one
            for one in votes
        ]
        assert _counted(changed).sha256 != found.sha256
    assert _counted(votes, PEOPLE | {"@fay:home"}).sha256 != found.sha256


# -- the rule --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "needed"),
    [
        (0, 0),
        (1, 1),
        (2, 2),
        (3, 3),
        (4, 3),
        (5, 4),
        (8, 5),
        (12, 6),
        (25, 8),
        (50, 11),
        (100, 15),
        (1000, 48),
    ],
)
def test_how_many_a_room_needs(members: int, needed: int) -> None:
    """The table of research/federation.md."""
    assert required(members) == needed


@given(st.integers(1, 10**9))
def test_the_whole_number_formula_is_the_formula(members: int) -> None:
    """min(N, ceil(1.5 sqrt N)), without the rounding of floating point."""
    needed = required(members)
    k = needed if needed < members else None
    if k is not None:
        assert 4 * k * k >= 9 * members > 4 * (k - 1) * (k - 1)
    else:
        assert math.ceil(1.5 * math.sqrt(members)) >= members


@given(rules, counts(), st.booleans())
def test_due_is_decided(rule: Rule, count: Tally, extended: bool) -> None:  # noqa: FBT001 - drawn
    """At its end a vote has passed, failed, or is extended once: never open, never twice."""
    found = judge(rule, count, now=DUE, due=DUE, extended=extended)
    assert found.state is not State.OPEN
    if found.state is State.EXTENDED:
        assert not extended
        assert (found.reason, found.due) == (Reason.OBJECTION, DUE + EXTENSION_MS)
    if found.state is State.PASSED:
        assert count.yes >= required(count.members) > 0
        assert count.yes >= rule.ratio * count.against
        assert count.objections == 0 or rule.mode is Mode.MAJORITY


def _passes(rule: Rule, count: Tally, *, extended: bool) -> bool:
    return judge(rule, count, now=DUE, due=DUE, extended=extended).state is State.PASSED


@given(rules, counts(), st.booleans())
def test_no_way_of_voting_backfires(rule: Rule, count: Tally, extended: bool) -> None:  # noqa: FBT001 - drawn
    """One more yes never makes a proposal fail; against it instead of silent never makes it pass."""
    if count.silent == 0:
        return
    now = _passes(rule, count, extended=extended)
    assert _passes(rule, replace(count, yes=count.yes + 1), extended=extended) >= now
    assert _passes(rule, replace(count, no=count.no + 1), extended=extended) <= now
    assert _passes(rule, replace(count, objections=count.objections + 1), extended=extended) <= now
    assert _passes(rule, replace(count, abstained=count.abstained + 1), extended=extended) == now


@given(rules, rules, counts(), st.booleans())
def test_the_stricter_of_two_rules_is(one: Rule, other: Rule, count: Tally, extended: bool) -> None:  # noqa: FBT001
    """What passes by the meet of two rules passes by each; the order does not matter."""
    both = one.meet(other)
    assert both == other.meet(one)
    if _passes(both, count, extended=extended):
        assert _passes(one, count, extended=extended)
        assert _passes(other, count, extended=extended)


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("members", [1, 2, 3, 4, 6])
def test_it_ends_early_only_where_nothing_is_in_doubt(mode: Mode, members: int, *, extended: bool) -> None:
    """Every count of a small room, with everything that the silent could still say, written out."""
    rule = Rule(mode)
    for cast in product(range(members + 1), repeat=4):
        count = _count(members, *cast)
        if count.silent < 0:
            continue
        early = judge(rule, count, now=DUE - 1, due=DUE, extended=extended)
        if early.state not in (State.PASSED, State.FAILED):
            continue
        for more in product(range(count.silent + 1), repeat=4):
            if sum(more) <= count.silent:
                final = _count(members, *(a + b for a, b in zip(cast, more, strict=True)))
                assert judge(rule, final, now=DUE, due=DUE, extended=extended).state is early.state


def test_an_objection_is_heard_before_it_is_overruled() -> None:
    """In a room of few it blocks until it is withdrawn; in one of many it asks for three to one."""
    few, many = Rule(Mode.usual(12)), Rule(Mode.usual(13))
    count = _count(12, yes=8, objections=1)
    week = judge(few, count, now=DUE, due=DUE)
    assert (week.state, week.due) == (State.EXTENDED, DUE + EXTENSION_MS)
    assert judge(few, count, now=week.due, due=week.due, extended=True) == Judgement(
        State.FAILED, Reason.OBJECTION, 6, week.due
    )
    withdrawn = _count(12, yes=8, abstained=1)
    assert judge(few, withdrawn, now=week.due, due=week.due, extended=True).state is State.PASSED
    large = _count(40, yes=11, no=3, objections=1)
    assert judge(many, large, now=DUE, due=DUE, extended=True).reason is Reason.TOO_MANY_AGAINST
    assert judge(many, replace(large, yes=12), now=DUE, due=DUE, extended=True).state is State.PASSED


def test_everybody_agreeing_need_not_wait() -> None:
    """A family of four that all said yes has decided, long before it is due."""
    assert judge(Rule(Mode.CONSENT), _count(4, yes=4), now=OPENED, due=DUE).state is State.PASSED
    assert judge(Rule(Mode.CONSENT), _count(4, yes=3), now=OPENED, due=DUE).state is State.OPEN


@pytest.mark.parametrize(("members", "needed"), [(1, 2), (2, 2), (20, 2), (21, 3), (100, 10), (101, 11)])
def test_a_few_can_always_stop(members: int, needed: int) -> None:
    """max(2, ceil(N / 10))."""
    assert brake(members) == needed
