"""What is typed after `!policy set` and `!propose`: understood, or a mistake with a guess; never an error."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bots import wording_policy
from bots.proposing import Mistake, change, proposal
from policies.classes import Class
from policies.document import UNSET, Unreadable
from policies.grant import Direction
from policies.proposal import Proposal, proposed
from policies.room import RoomPolicy

CITY = "bot:city.example"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("voice asked", {"voice": "asked"}),
        ("Voice = ASKED", {"voice": "asked"}),
        ("per-person-day: 5", {"per_person_day": 5}),
        ("per_person_day none", {"per_person_day": None}),
        ("remote_model no", {"remote_model": False}),
        ("remote_model JA", {"remote_model": True}),
        ("askers @ada:home, home.example", {"askers": ["@ada:home", "home.example"]}),
        ("askers -", {"askers": []}),
        ("ask_peers @bot:city.example", {"ask_peers": [CITY]}),
        ("classes_out general, local-knowledge", {"classes_out": ["general", "local-knowledge"]}),
        (
            "quiet 22:00-07:00 Europe/Amsterdam, 12:00-13:00",
            {"quiet": ["22:00-07:00 Europe/Amsterdam", "12:00-13:00"]},
        ),
        ("persona Be kind, and brief.", {"persona": "Be kind, and brief."}),
    ],
)
def test_a_change_is_understood(text: str, expected: dict[str, Any]) -> None:
    """A field and what it should be, the way people type."""
    assert change(text) == expected


@pytest.mark.parametrize(
    ("text", "code", "guess"),
    [
        ("", "no_key", ""),
        ("voise off", "unknown_key", "voice"),
        ("\U0001f511 off", "unknown_key", ""),
        ("voice", "no_value", ""),
        ("voice loud", "bad_value", None),
        ("max_hops 9", "bad_value", None),
        ("ask_peers b\u043et:city.example", "bad_value", None),
        ("askers " + "x" * 300, "bad_value", None),
        ("quiet always", "bad_value", None),
    ],
)
def test_a_mistake_is_told_with_a_guess(text: str, code: str, guess: str | None) -> None:
    """Mistyped keys get a guess; a value that cannot be is named with what it should be."""
    found = change(text)
    assert isinstance(found, Mistake)
    assert found.code == code
    assert found.guess == guess if guess is not None else found.guess
    assert wording_policy.mistake(found)


def test_a_peer_is_proposed_with_all_its_terms() -> None:
    """The example of the issue, and one with everything."""
    found = proposal("ask @bot:city classes=general until=3 months")
    assert found == Proposal({}, "bot:city", Direction.ASK, (Class.GENERAL,), 90)
    whole = proposal(f"BOTH @{CITY}:8448 class=local-knowledge,general until=2 weeks quota=5 key={'A' * 43}")
    assert whole == Proposal(
        {}, f"{CITY}:8448", Direction.BOTH, (Class.GENERAL, Class.LOCAL_KNOWLEDGE), 14, 5, "A" * 43
    )
    assert proposal("voice off") == Proposal({"voice": "off"})


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("ask", "no_peer"),
        ("ask the city", "no_peer"),
        ("ask @bot:city classes=gossip", "unknown_class"),
        ("ask @bot:city classes=", "unknown_class"),
        ("ask @bot:city until=tomorrow", "bad_until"),
        ("ask @bot:city until=0 days", "bad_until"),
        ("ask @bot:city quota=many", "bad_quota"),
        ("ask @bot:city key=short", "bad_key"),
        ("ask @bot:city because=yes", "unknown_option"),
    ],
)
def test_terms_that_cannot_be(text: str, code: str) -> None:
    """Each has its own words."""
    found = proposal(text)
    assert isinstance(found, Mistake)
    assert (found.code, bool(wording_policy.mistake(found))) == (code, True)


_words = st.sampled_from(
    ["ask", "answer", "both", "@bot:city", "classes=", "until=", "quota=", "=", *RoomPolicy.model_fields]
)
_typed = st.text() | st.lists(_words | st.text(max_size=6)).map(" ".join)


@given(_typed)
def test_any_text_is_a_proposal_or_a_mistake(text: str) -> None:
    """Total; and what is understood makes a policy, or says which field does not."""
    for found in (change(text), proposal(text)):
        if isinstance(found, Mistake):
            assert wording_policy.mistake(found)
            continue
        whole = found if isinstance(found, Proposal) else Proposal(found)
        assert isinstance(whole.policy(UNSET), RoomPolicy | Unreadable)
        assert proposed(whole.text()) == whole
