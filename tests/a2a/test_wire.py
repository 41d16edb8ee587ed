"""Envelopes as A2A messages and tasks: what is carried is what was signed, and nothing else passes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from a2a.types import AgentCard, Message, Task, TaskState
from hypothesis import given
from hypothesis import strategies as st

from bridge.a2a.card import card_of, envelopes_on, extended, fingerprint, line
from bridge.a2a.wire import ENVELOPE, NoEnvelope, cancel_in, envelope_in, message_of, reply_in, task_of
from bridge.journal.peers import Ask
from bridge.link import agents, bodies
from bridge.link.agents import AgentReply
from bridge.link.envelope import LARGEST, seal
from policies.classes import Class
from tests.bridge.city import CITY, CITY_KEY, COMMUNITY, FAMILY

NAME = "n" * 22
NOW = 1_800_000_000_000


def sealed(body: Any, **more: Any) -> str:
    usual: dict[str, Any] = {
        "key": CITY_KEY, "id": NAME, "sender": CITY, "to": FAMILY, "iat": NOW, "exp": NOW + 1000,
    }  # fmt: skip
    return seal(body, **(usual | more)).text


def ask(words: str = "When?") -> str:
    body = bodies.Ask(
        message_id=NAME,
        context_id="a" * 26,
        parts=(bodies.Part(text=words),),
        metadata=bodies.About(asker="b" * 26, cls=Class.GENERAL, share=bodies.Share.ANSWERS),
    )
    return sealed(body, room_ref="a" * 26)


def reply(*parts: bodies.Part) -> str:
    said = bodies.Said(message_id=NAME, parts=parts)
    by = bodies.By(share=bodies.Share.ANSWERS, model="m")
    body = bodies.Answer(id=NAME, context_id="a" * 26, status=bodies.Completed(message=said), metadata=by)
    return sealed(body, room_ref="a" * 26, prev="0" * 64)


def row(state: str) -> Ask:
    return Ask(
        peer=CITY, id=NAME, ours=False, digest="0" * 64, room_ref="a" * 26, place="", person="", cls="",
        share="", hops=0, iat=0, exp=0, signed="", state=state,
    )  # fmt: skip


WORDS = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\t"), min_size=1, max_size=300
)


@given(WORDS)
def test_what_is_carried_is_what_was_signed(words: str) -> None:
    """Any words a question can have, through protobuf and back, letter by letter."""
    text = ask(words)
    wire = Message.FromString(message_of(text).SerializeToString())
    assert envelope_in(wire, CITY) == text
    assert wire.parts[0].text == words


@given(WORDS)
def test_a_task_says_what_its_envelope_says(words: str) -> None:
    """An answer with its passages; refused and failed ones likewise."""
    text = reply(bodies.Part(text=words), bodies.Part(data=bodies.Passage(passage=words, source="pool.md:3")))
    task = Task.FromString(task_of(row("answered"), text).SerializeToString())
    assert reply_in(task) == text
    assert task.status.message.parts[0].text == words


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        ("open", TaskState.TASK_STATE_WORKING),
        ("answered", TaskState.TASK_STATE_WORKING),
        ("refused", TaskState.TASK_STATE_WORKING),
        ("cancelled", TaskState.TASK_STATE_CANCELED),
        ("ended", TaskState.TASK_STATE_FAILED),
        ("dropped", TaskState.TASK_STATE_FAILED),
    ],
)
def test_how_an_ask_without_a_reply_stands(state: str, shown: TaskState) -> None:
    """What is answered and not yet let out is still being worked on."""
    assert task_of(row(state), "").status.state == shown


def _changed(**fields: Any) -> Message:
    message = message_of(ask())
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def _with(text: str) -> Message:
    message = message_of(ask())
    message.metadata.update({ENVELOPE: text})
    return message


def _more_parts() -> Message:
    message = message_of(ask())
    message.parts.add(text="and this")
    return message


def bare(**header: Any) -> str:
    """A header and a body with hardly anything in them, in canonical form."""
    whole = {"body": {}, "envelope": {"from": CITY, **header}}
    return json.dumps(whole, separators=(",", ":"), sort_keys=True)


@pytest.mark.parametrize(
    "message",
    [
        Message(), _changed(message_id="other"), _more_parts(), _with(ask("Why?")), _with(""), _with("{}"),
        _with("[]"), _with("null"), _with(ask() + " "), _with(json.dumps({"envelope": {"from": CITY}})),
        _with(bare()), _with("{" * 10_000), _with("x" * (LARGEST + 1)),
        _with(bare(id=7, kind="ask")),
    ],
)  # fmt: skip
def test_a_message_that_says_something_else_is_refused(message: Message) -> None:
    """Than its envelope, or that has none that can be read: one error, whatever is wrong."""
    with pytest.raises(NoEnvelope):
        envelope_in(message, CITY)


def test_an_envelope_of_somebody_else_is_refused() -> None:
    """The token says who speaks; whose envelope it is has to be the same."""
    with pytest.raises(NoEnvelope):
        envelope_in(message_of(ask()), "bot:village.example")


@pytest.mark.parametrize("task", ["", "other", "n" * 23])
def test_a_cancel_names_its_task(task: str) -> None:
    """Signed for this one and for no other."""
    text = sealed(bodies.Cancel(id=NAME), room_ref="a" * 26, prev="0" * 64)
    metadata = message_of(text).metadata
    assert cancel_in(metadata, CITY, NAME) == text
    with pytest.raises(NoEnvelope):
        cancel_in(metadata, CITY, task)
    with pytest.raises(NoEnvelope):
        cancel_in(message_of(ask()).metadata, CITY, NAME)


def test_a_task_that_ends_without_our_envelope_ends_nothing() -> None:
    """Anybody at that address can say that it is done; only the signature counts."""
    task = Task(id=NAME)
    task.status.state = TaskState.TASK_STATE_WORKING
    assert reply_in(task) == ""
    task.status.state = TaskState.TASK_STATE_COMPLETED
    with pytest.raises(NoEnvelope):
        reply_in(task)


def test_what_is_shown_to_one_is_not_on_the_card_of_all() -> None:
    """The extended card is a copy."""
    card = card_of(COMMUNITY.card, "https://family.example/", "1")
    assert envelopes_on(extended(card, ["x"])) == ["x"]
    assert envelopes_on(card) == []
    assert envelopes_on(AgentCard()) == []


def test_a_fingerprint_is_of_the_whole_card_but_its_signatures() -> None:
    """Whatever it says of itself is what people decided about; who signed it is no part of that."""
    card = card_of(COMMUNITY.card, "https://family.example/", "1")
    before = fingerprint(card)
    card.signatures.add(protected="x", signature="y")
    assert fingerprint(card) == before
    card.skills[0].description += "."
    assert fingerprint(card) != before


@given(st.text())
def test_what_an_agent_says_is_kept_as_words(text: str) -> None:
    """Whatever it is: no controls, no longer than an answer, one line where one line is meant."""
    assert len(agents.cleaned(text)) <= bodies.LONGEST_ANSWER
    assert "\n" not in line(text)
    assert agents.read(agents.written(AgentReply("0" * 64, "answered", "x"))) == AgentReply(
        "0" * 64, "answered", "x"
    )
    json.dumps(agents.cleaned(text))


@given(
    st.text() | st.sampled_from(["{}", "[]", "null", '{"AgentReply": 7}', '{"Other": {}}', '{"a":1,"b":2}'])
)
def test_nothing_else_is_taken_for_an_agent(text: str) -> None:
    """Total: what we did not write is nothing."""
    assert agents.read(text) is None
