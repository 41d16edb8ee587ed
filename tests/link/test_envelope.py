"""An envelope survives the way unchanged, and nothing else survives at all."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.link.bodies import About, Ask, Kind, Part, Share
from bridge.link.canonical import NotCanonical, canonical, depth, parse
from bridge.link.codes import Code
from bridge.link.envelope import LARGEST, LONGEST_LIFE_MS, MOST_HOPS, SKEW_MS, seal
from bridge.link.opening import Opened, Refusal, open_envelope
from bridge.link.pseudonym import asker_ref, room_ref
from policies.classes import Class
from tests.link.samples import ASKER, CITY, CLUB, FAMILY, KEYS, NOW, ROOM_REF, ask, known, number, one_of_each

plain = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=200)


@given(
    words=plain,
    cls=st.sampled_from(Class),
    share=st.sampled_from(Share),
    iat=st.integers(NOW - LONGEST_LIFE_MS // 2, NOW + SKEW_MS),
    life=st.integers(LONGEST_LIFE_MS // 2 + 1, LONGEST_LIFE_MS),
    hops=st.integers(0, MOST_HOPS),
    count=st.integers(0, 10**20),
)
def test_what_is_sealed_is_opened(
    words: str, cls: Class, share: Share, iat: int, life: int, hops: int, count: int
) -> None:
    """With all of its fields, and its digest."""
    about = About(asker=ASKER, cls=cls, share=share)
    body = Ask(message_id=number(count), context_id=ROOM_REF, parts=(Part(text=words),), metadata=about)
    sent = seal(
        body, key=KEYS[FAMILY], id=number(count), sender=FAMILY, to=CITY, iat=iat, exp=iat + life,
        room_ref=ROOM_REF, hops=hops,
    )  # fmt: skip
    opened = open_envelope(sent.text, known(CITY), sender=FAMILY, now=NOW)
    assert isinstance(opened, Opened)
    assert (opened.body, opened.signed, opened.chain) == (body, sent.signed, ())
    assert opened.signed.digest == sent.signed.digest
    assert opened.keep_until == iat + life + SKEW_MS


@given(st.data())
def test_any_other_text_is_refused(data: st.DataObject) -> None:
    """One character changed, left out, added or moved: never opened, never an exception."""
    question = ask()
    sent = data.draw(st.sampled_from([question, *one_of_each(question.signed).values()]))
    text, header = sent.text, sent.signed.header
    at = data.draw(st.integers(0, len(text) - 1))
    char = data.draw(st.characters())
    other = data.draw(
        st.sampled_from(
            [
                text[:at] + text[at + 1 :],
                text[:at] + char + text[at:],
                text[:at] + char + text[at + 1 :],
                text[:at],
            ]
        )
    )
    found = open_envelope(other, known(header.to, question.signed), sender=header.sender, now=NOW)
    assert isinstance(found, Refusal) or other == text


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_garbage_is_malformed(text: str) -> None:
    """Total on any text."""
    found = open_envelope(text, known(CITY), sender=FAMILY, now=NOW)
    assert isinstance(found, Refusal)
    assert found.code in (Code.MALFORMED, Code.TOO_LARGE)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 30_000,
        '{"a":' * 6_000 + "1" + "}" * 6_000,
        '{"envelope":{"v":' + "9" * 30_000 + "}}",
        '{"a":"\\ud800"}',
        '{"a":NaN}',
        '{"a":1e999}',
        '{"a":-0}',
        "x" * 10_000_000,
        "\ud800" * 20_000,
    ],
    ids=["deep lists", "deep objects", "a long number", "half a character", "NaN", "infinity", "minus zero",
         "ten megabytes", "halves of characters"],
)  # fmt: skip
@pytest.mark.timeout(30)  # quadratic work would take minutes
def test_hostile_text_costs_little(text: str) -> None:
    """It is refused, and quickly enough that nobody can be kept busy with it."""
    assert isinstance(open_envelope(text, known(CITY), sender=FAMILY, now=NOW), Refusal)


@given(st.recursive(st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | plain, lambda inner: st.lists(
    inner, max_size=3) | st.dictionaries(plain, inner, max_size=3), max_leaves=8))  # fmt: skip
def test_a_value_has_one_spelling(value: Any) -> None:
    """What is written is read again, and no other spelling of it is."""
    text = canonical(value).decode()
    assert parse(text) == value
    assert depth(text) <= 12
    for other in (f"{text} ", json.dumps(value, indent=1), json.dumps(value)):
        if other != text:
            with pytest.raises(NotCanonical):
                parse(other)


@pytest.mark.parametrize(
    "wrong",
    [
        {"to": FAMILY},
        {"exp": NOW},
        {"hops": MOST_HOPS + 1},
        {"id": "short"},
        {"prev": "0" * 64},
        {"room_ref": "b" * 26},
        {"iat": -1},
    ],
)
def test_what_nobody_would_take_is_not_sealed(wrong: dict[str, Any]) -> None:
    """A mistake of ours is found here, not by the peer."""
    with pytest.raises(ValueError):  # noqa: PT011 - of which pydantic's is one
        ask(**wrong)


def test_the_largest_question_fits() -> None:
    """Four thousand characters of four bytes each; one more is no question."""
    about = About(asker=ASKER, cls=Class.GENERAL, share=Share.ANSWERS)
    body = Ask(message_id=number(1), context_id="", parts=(Part(text="\U0001f3ca" * 4_000),), metadata=about)
    sent = seal(body, key=KEYS[FAMILY], id=number(1), sender=FAMILY, to=CITY, iat=NOW, exp=NOW + 1)
    assert len(sent.text.encode()) <= LARGEST
    with pytest.raises(ValueError, match="so many characters"):
        Ask(message_id=number(1), context_id="", parts=(Part(text="x" * 4_001),), metadata=about)


def test_pseudonyms_tell_two_peers_nothing_in_common() -> None:
    """The same person is somebody else to each peer and in each room, and always the same there."""
    secret = bytes(32)
    names = {
        asker_ref(secret, peer=peer, room=room, person=person)
        for peer in (CITY, CLUB)
        for room in ("!a", "!b")
        for person in ("@ada:x", "@ben:x")
    } | {room_ref(secret, peer=peer, room=room) for peer in (CITY, CLUB) for room in ("!a", "!b")}
    assert len(names) == 12
    assert room_ref(secret, peer=CITY, room="!a") in names
    assert asker_ref(bytes(31) + b"x", peer=CITY, room="!a", person="@ada:x") not in names
    with pytest.raises(ValueError, match="32 bytes"):
        room_ref(b"short", peer=CITY, room="!a")


def test_a_kind_is_what_its_body_is() -> None:
    """The header names the body that was given."""
    question = ask()
    for kind, sent in one_of_each(question.signed).items():
        assert sent.signed.header.kind is kind
    assert question.signed.header.kind is Kind.ASK
