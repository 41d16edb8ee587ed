"""`RoomPolicy`: `meet` is a meet, and addresses mean what they say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.room import RoomPolicy, Voice, covers, server_of

ADDRESSES = ("@ada:home", "@ben:home", "@eve:away:8448", "nobody", "")
patterns = st.sampled_from(["*", "home", "away:8448", *ADDRESSES[:-1]])
limits = st.none() | st.integers(0, 5)
policies = st.builds(
    RoomPolicy,
    askers=st.frozensets(patterns, max_size=5),
    per_person_day=limits,
    per_place_day=limits,
    voice=st.sampled_from(Voice),
)


@given(policies, policies)
def test_meet_is_commutative(one: RoomPolicy, other: RoomPolicy) -> None:
    """It does not matter whose limit comes first."""
    assert one.meet(other) == other.meet(one)


@given(policies, policies, policies)
def test_meet_is_associative(one: RoomPolicy, two: RoomPolicy, three: RoomPolicy) -> None:
    """It does not matter which limits are combined first."""
    assert one.meet(two).meet(three) == one.meet(two.meet(three))


@given(policies)
def test_meet_is_idempotent(policy: RoomPolicy) -> None:
    """A limit met with itself is the same limit."""
    assert policy.meet(policy) == policy


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


def test_voice_is_heard_when_asked_unless_somebody_says_otherwise() -> None:
    """The modes go from nothing to everything, and the default does not listen unasked."""
    assert [str(voice) for voice in Voice] == ["off", "asked", "named", "all"]
    assert RoomPolicy().voice is Voice.ASKED
    assert not RoomPolicy().voice.allows(Voice.NAMED)


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
