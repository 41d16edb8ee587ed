"""A room's document: narrows and never widens, and denies where a single field cannot be read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.decide import ALWAYS, Deed, Request, decide
from policies.document import LONGEST, Standing, Unreadable, read, schema, written
from policies.room import LOOSEST, RoomPolicy, Trust, Voice
from policies.verdict import Code
from tests.policies.strategies import policies, requests
from tests.policies.test_decide import NOW, OPEN

documents = st.fixed_dictionaries(
    {"v": st.just(1)},
    optional={
        "askers": st.lists(st.sampled_from(["*", "home", "@ada:home", "@ben:home"]), max_size=3),
        "per_person_day": st.none() | st.integers(0, 4),
        "per_place_day": st.none() | st.integers(0, 4),
        "voice": st.sampled_from([str(voice) for voice in Voice]),
    },
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def allows(document: dict[str, Any] | None, request: Request, ceiling: RoomPolicy = OPEN) -> bool:
    standing = None if document is None else Standing(json.dumps(document), "@ben:home", 0)
    return decide(ceiling, {}, request, 0, room=standing).allowed


@given(policies, documents | anything, requests)
def test_no_document_allows_more(ceiling: RoomPolicy, document: Any, request: Request) -> None:
    """Whatever a room writes: what whoever runs the bot refuses stays refused."""
    if allows(document, request, ceiling):
        assert allows(None, request, ceiling)


@given(policies, documents, requests)
def test_the_order_of_the_two_does_not_matter(ceiling: RoomPolicy, document: Any, request: Request) -> None:
    """The room's rules and the ceiling meet: one policy of both judges as the two do one after the other."""
    room = read(json.dumps(document))
    assert isinstance(room, RoomPolicy)
    both = decide(ceiling.meet(room), {}, request, 0, room=Standing(written(LOOSEST), "", 0))
    assert allows(document, request, ceiling) == both.allowed


@given(st.text() | anything.map(json.dumps))
def test_any_text_is_read_or_denies(text: str) -> None:
    """Total; what is wrong with it is said without quoting what it says."""
    found = read(text)
    if isinstance(found, Unreadable):
        assert found.problem
        assert (
            decide(OPEN, {}, Request(Deed.ANSWER, "@ada:home"), 0, room=Standing(text, "", 0)).code
            is Code.UNREADABLE
        )


ASK = Request(Deed.ANSWER, "@ada:home", asked_today=2, place_today=2)
HEAR = Request(Deed.TRANSCRIBE, "@ada:home")


@pytest.mark.parametrize(
    ("field", "value", "request_", "rule"),
    [
        ("askers", ["@ben:home"], ASK, "room.askers"),
        ("per_person_day", 2, ASK, "room.per_person_day"),
        ("per_place_day", 2, ASK, "room.per_place_day"),
        ("voice", "off", HEAR, "room.voice"),
    ],
)
def test_each_field_has_its_effect(field: str, value: Any, request_: Request, rule: str) -> None:
    """Only this field is changed, and it is what the verdict names."""
    assert allows({"v": 1}, request_)
    document = Standing(json.dumps({"v": 1, field: value}), "@ben:home", 5)
    told = decide(OPEN, {}, request_, NOW, room=document)
    assert (told.allowed, told.rule, told.remedy) == (False, rule, "room_policy")
    assert (told.params["set_by"], told.params["set_at"]) == ("@ben:home", 5)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("{}", ""),
        ("", ""),
        ("[]", ""),
        ('{"v": 2}', "v"),
        ('{"voice": "off"}', "v"),
        ('{"v": 1, "voice": "loud"}', "voice"),
        ('{"v": 1, "askers": "home"}', "askers"),
        ('{"v": 1, "askers": ["home", 7]}', "askers.1"),
        ('{"v": 1, "askers": [""]}', "askers.0"),
        ('{"v": 1, "per_person_day": "5"}', "per_person_day"),
        ('{"v": 1, "per_person_day": -1}', "per_person_day"),
        ('{"v": 1, "per_person_day": 1e400}', "per_person_day"),
        ('{"v": 1, "ask_peers": true}', "ask_peers"),
        ('{"v": 1, "\U0001f468\\u0000`x`": 1}', "x"),
        ("[" * 100_000, ""),
        ('{"v": 1, "a": ' + "[" * 20_000 + "]" * 20_000 + "}", ""),
        ('{"v": 1, "askers": ["' + "x" * LONGEST + '"]}', ""),
    ],
)
def test_what_cannot_be_read_denies_and_says_where(text: str, where: str) -> None:
    """A later version's field, a wrong type, nothing at all: nobody is answered, and the field is named."""
    found = read(text)
    assert isinstance(found, Unreadable)
    assert found.where == where
    for deed in Deed:
        able: dict[str, Any] = {"power": 100, "owner": "@ada:home", "admin": True, "trust": Trust.SIGNED}
        request = Request(deed, "@ada:home", **able)
        explains = deed in ALWAYS
        assert decide(OPEN, {}, request, 0, room=Standing(text, "", 0)).allowed is explains


def test_the_schema_names_every_field() -> None:
    """docs/policy.schema.json is made from the model; each field says what it is."""
    told = json.loads(schema())
    assert set(told["properties"]) == {"v", "decided_by", *RoomPolicy.model_fields}
    assert all("description" in one for one in told["properties"].values())
    assert told["additionalProperties"] is False
