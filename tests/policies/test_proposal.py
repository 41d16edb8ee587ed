"""Proposals: what becomes of the documents, by which rule, and what is in force without a vote."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.classes import Class
from policies.decide import Request, decide
from policies.document import LEAVING, UNSET, Standing, Unreadable, effective, inert, read, written
from policies.grant import DAY_MS, Direction, Grant, Status
from policies.proposal import Proposal
from policies.room import DECIDING, MEETS, WORDING, Mode, RoomPolicy, Voice
from policies.vote import Mode as Voting
from policies.vote import Rule
from tests.policies.strategies import CITY, held, policies, requests, times

CONSENT = UNSET.model_copy(update={"mode": Mode.CONSENT})


def test_a_peer_opens_what_it_needs_and_nothing_else() -> None:
    """Asking needs the peer and the classes in the policy; the other direction stays closed."""
    new = Proposal(peer=CITY, classes=(Class.GENERAL,)).policy(CONSENT)
    assert isinstance(new, RoomPolicy)
    assert (new.ask_peers, new.classes_out) == (frozenset({CITY}), frozenset({Class.GENERAL}))
    assert new.widens(CONSENT) == ("ask_peers", "classes_out")
    both = Proposal(peer=CITY, classes=(Class.GENERAL,), direction=Direction.BOTH).policy(CONSENT)
    assert isinstance(both, RoomPolicy)
    assert set(both.widens(CONSENT)) == {"ask_peers", "classes_out", "answer_peers", "classes_in"}


def test_a_permission_begins_with_a_trial_and_always_ends() -> None:
    """Thirty days at first; the whole term, but never more than the room's, once it is renewed."""
    base = CONSENT.model_copy(update={"term_days": 60})
    peer = Proposal(peer=CITY, classes=(Class.GENERAL,), days=90)
    first = peer.grant(base, 1_000, "$poll", renews=False)
    again = peer.grant(base, 1_000, "$poll", renews=True)
    assert first is not None
    assert again is not None
    assert (first.status, first.until) == (Status.TRIAL, 1_000 + 30 * DAY_MS)
    assert (again.status, again.until) == (Status.ACTIVE, 1_000 + 60 * DAY_MS)
    assert Proposal({"voice": "off"}).grant(base, 0, "", renews=False) is None


@pytest.mark.parametrize(
    ("changes", "mode", "members", "rule"),
    [
        ({"voice": "off"}, Mode.CONSENT, 12, Rule(Voting.CONSENT, 2)),
        ({"voice": "off"}, Mode.CONSENT, 13, Rule(Voting.MAJORITY, 2)),
        ({"voice": "off"}, Mode.MAJORITY, 5, Rule(Voting.MAJORITY, 2)),
        ({"voice": "off"}, Mode.ADMIN, 5, Rule(Voting.CONSENT, 2)),
        ({"mode": "admin"}, Mode.CONSENT, 5, Rule(Voting.CONSENT, 3)),
        ({"mode": "consent"}, Mode.MAJORITY, 5, Rule(Voting.CONSENT, 3)),
        ({"mode": "majority"}, Mode.CONSENT, 5, Rule(Voting.CONSENT, 3)),
        ({"voting_hours": 1}, Mode.MAJORITY, 50, Rule(Voting.MAJORITY, 3)),
    ],
)
def test_the_rule_of_a_vote(changes: dict[str, object], mode: Mode, members: int, rule: Rule) -> None:
    """Consent for few, a majority for many; to change the rule takes the stricter of old and new, at 3:1."""
    assert Proposal(changes).rule(UNSET.model_copy(update={"mode": mode}), members) == rule


@given(policies, policies, st.booleans())
def test_nothing_widens_without_a_vote(base: RoomPolicy, new: RoomPolicy, voted: bool) -> None:  # noqa: FBT001
    """Where a room votes: only what narrows holds, and the fields that wait are named. A vote: all of it."""
    now = effective(base, new, voted=voted)
    if voted or base.mode is Mode.ADMIN:
        assert (now, inert(new, now)) == (new, ())
        return
    assert now.widens(base) == ()
    assert DECIDING.issuperset(now.widens(new))
    assert all(getattr(now, name) == getattr(base, name) for name in DECIDING)
    assert all(getattr(now, name) == getattr(new, name) for name in WORDING)
    assert set(inert(new, now)) == {name for name in MEETS if getattr(now, name) != getattr(new, name)}


@given(policies, st.booleans())
def test_a_room_that_we_never_saw_lets_nothing_out(new: RoomPolicy, voted: bool) -> None:  # noqa: FBT001
    """A voting room whose votes we do not know: its own rules hold inside, and nothing leaves it."""
    now = effective(None, new, voted=voted)
    if voted or new.mode is Mode.ADMIN:
        assert now == new
    else:
        assert (now.ask_peers, now.answer_peers) == (frozenset(), frozenset())
        assert set(inert(new, now)) <= set(LEAVING)


@given(policies, policies, policies, held, requests, times)
def test_an_admin_alone_allows_no_more(
    ceiling: RoomPolicy,
    base: RoomPolicy,
    new: RoomPolicy,
    grants: dict[str, Grant | Unreadable],
    request: Request,
    now: int,
) -> None:
    """Whatever is asked: a document that nobody voted on allows nothing that was refused before."""
    if base.mode is Mode.ADMIN:
        base = base.model_copy(update={"mode": Mode.MAJORITY})
    after = effective(base, new, voted=False)
    allowed = [
        decide(ceiling, grants, request, now, room=Standing(written(one), "", 0)).allowed
        for one in (after, base)
    ]
    assert allowed == sorted(allowed)


@given(policies)
def test_what_is_written_is_read(policy: RoomPolicy) -> None:
    """A document says a policy and nothing else; what is as usual is left out."""
    text = written(policy, "$poll")
    assert read(text) == policy
    assert json.loads(written(UNSET)) == {"v": 1}


def test_values_that_make_no_policy_are_unreadable() -> None:
    """A proposal is data of before: a later version may know other values."""
    assert not isinstance(Proposal({"voice": "loud"}).policy(UNSET), RoomPolicy)
    off = Proposal({"voice": "off"}).policy(UNSET)
    assert isinstance(off, RoomPolicy)
    assert off.voice is Voice.OFF
    back = Proposal({"voice": None}).policy(off)
    assert back == UNSET
