"""`RoomPolicy`: `meet` is a meet, and addresses mean what they say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.room import LOOSEST, WORDING, RoomPolicy, Voice, covers, server_of
from tests.policies.strategies import policies

ADDRESSES = ("@ada:home", "@ben:home", "@eve:away:8448", "nobody", "")


@given(policies, policies)
def test_meet_is_commutative(one: RoomPolicy, other: RoomPolicy) -> None:
    """It does not matter whose limit comes first; the wording, which permits nothing, is the second's."""
    assert one.meet(other) == other.meet(one).model_copy(
        update={name: getattr(other, name) for name in WORDING}
    )


@given(policies, policies, policies)
def test_meet_is_associative(one: RoomPolicy, two: RoomPolicy, three: RoomPolicy) -> None:
    """It does not matter which limits are combined first."""
    assert one.meet(two).meet(three) == one.meet(two.meet(three))


@given(policies)
def test_meet_is_idempotent(policy: RoomPolicy) -> None:
    """A limit met with itself is the same limit."""
    assert policy.meet(policy) == policy


@given(policies)
def test_nothing_is_looser_than_the_loosest(policy: RoomPolicy) -> None:
    """What forbids nothing changes nothing, and every policy is within it."""
    assert LOOSEST.meet(policy) == policy
    assert policy.widens(LOOSEST) == ()


@given(policies, policies)
def test_what_is_met_widens_neither(one: RoomPolicy, other: RoomPolicy) -> None:
    """`widens` names nothing exactly where one allows no more than the other."""
    met = one.meet(other)
    assert (met.widens(one), met.widens(other)) == ((), ())
    assert bool(one.widens(other)) == (met != one.model_copy(update={n: getattr(met, n) for n in WORDING}))


@given(policies, policies)
def test_meet_admits_whom_both_admit(one: RoomPolicy, other: RoomPolicy) -> None:
    """Nobody is admitted whom either refuses, and nobody is lost whom both admit."""
    met = one.meet(other)
    for address in ADDRESSES:
        assert met.admits(address) == (one.admits(address) and other.admits(address))


@given(policies, policies)
def test_meet_takes_the_lower_limit(one: RoomPolicy, other: RoomPolicy) -> None:
    """A limit is never higher than either of the two; None is no limit."""
    met = one.meet(other)
    for mine, theirs, both in (
        (one.per_person_day, other.per_person_day, met.per_person_day),
        (one.per_place_day, other.per_place_day, met.per_place_day),
    ):
        given_limits = [limit for limit in (mine, theirs) if limit is not None]
        assert both == (min(given_limits) if given_limits else None)


@given(policies, policies)
def test_meet_listens_to_what_both_let_hear(one: RoomPolicy, other: RoomPolicy) -> None:
    """Whatever is asked for is allowed by the met policy exactly if both allow it."""
    met = one.meet(other)
    for needed in Voice:
        assert met.voice.allows(needed) == (one.voice.allows(needed) and other.voice.allows(needed))


def test_the_modes_of_voice_have_an_order() -> None:
    """From nothing to everything."""
    assert [str(voice) for voice in Voice] == ["off", "asked", "named", "all"]
    assert not Voice.ASKED.allows(Voice.NAMED)


@pytest.mark.parametrize(
    ("pattern", "address", "expected"),
    [
        ("*", "@ada:home", True),
        ("home", "@ada:home", True),
        ("@ada:home", "@ada:home", True),
        ("ada", "@ada:home", False),
        ("me", "@ada:home", False),
        ("home", "@ada:home:8448", False),
        ("home:8448", "@ada:home:8448", True),
        ("home", "@ada:not.home", False),
        ("@ada:home", "@ada:home.evil", False),
        ("", "nobody", False),
        ("", "", False),
        ("home", "*", False),
        ("home", "@ada@home", True),
        ("home:8080", "@ada@home:8080", True),
        ("home", "@ada@home@else", False),
        ("@ada@home", "@ada:home", False),
    ],
)
def test_a_pattern_names_an_address_whole(pattern: str, address: str, *, expected: bool) -> None:
    """An address, its server or `*`; never a part, a suffix, or the empty string."""
    assert covers(pattern, address) is expected


@given(st.text())
def test_a_server_is_what_follows_the_first_sign(text: str) -> None:
    """`server_of` never raises, and an address without a server has none."""
    assert server_of(f"@ada:{text}") == text
    assert server_of(f"@ada@{text}") == text
    assert server_of(text.replace("@", "")) == ""
