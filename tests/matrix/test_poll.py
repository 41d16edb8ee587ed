"""Polls as clients send them, and as nobody should."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.matrix import poll
from policies.vote import Ballot, Choice

POLL = "$poll"
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def response(*chosen: object, stable: bool = False, **more: Any) -> dict[str, Any]:
    """What Element sends (unstable), and what the stable form of MSC3381 looks like."""
    said: dict[str, Any] = {"m.selections": [*chosen]} if stable else {poll.RESPONSE: {"answers": [*chosen]}}
    return {
        "type": "m.poll.response" if stable else poll.RESPONSE,
        "event_id": "$1",
        "sender": "@ada:home",
        "origin_server_ts": 7,
        "content": {"m.relates_to": {"rel_type": "m.reference", "event_id": POLL}, **said},
    } | more


@pytest.mark.parametrize("stable", [False, True])
@pytest.mark.parametrize("choice", Choice)
def test_both_forms_are_read(choice: Choice, *, stable: bool) -> None:
    """The one that clients send today and the one they will."""
    assert poll.ballot(response(str(choice), stable=stable), POLL) == Ballot("$1", "@ada:home", 7, choice)


@pytest.mark.parametrize("chosen", [(), ("maybe",), (7,), (None,), ("",)])
def test_what_says_nothing_takes_the_vote_back(chosen: tuple[object, ...]) -> None:
    """Spoiled or empty: a ballot, because it replaces the one before; without a choice."""
    assert poll.ballot(response(*chosen), POLL) == Ballot("$1", "@ada:home", 7, None)


def test_of_several_answers_the_first_counts() -> None:
    """One selection is allowed; what is too much is cut off, as MSC3381 has it."""
    found = poll.ballot(response("no", "yes", "nonsense"), POLL)
    assert found is not None
    assert found.choice is Choice.NO


@pytest.mark.parametrize(
    "change",
    [
        {"type": "m.room.message"},
        {"sender": None},
        {"event_id": 3},
        {"origin_server_ts": "soon"},
        {"origin_server_ts": True},
        {"content": "yes"},
        {"content": {poll.RESPONSE: {"answers": ["yes"]}}},
    ],
)
def test_what_is_no_answer_is_no_ballot(change: dict[str, Any]) -> None:
    """Wrong type, no sender, no time, no relation."""
    assert poll.ballot(response("yes", **change), POLL) is None
    assert poll.ballot(response("yes"), "$another") is None


@given(anything, anything, anything)
def test_nothing_that_arrives_raises(content: object, relation: object, answers: object) -> None:
    """Any JSON in any place."""
    for raw in (
        {"type": poll.RESPONSE, "content": content},
        {"type": content, "content": {}},
        response() | {"content": {"m.relates_to": relation}},
        response() | {"content": response()["content"] | {poll.RESPONSE: answers}},
        response() | {"content": response()["content"] | {poll.RESPONSE: {"answers": answers}}},
        said(content),
        said("!vote yes", **{"m.relates_to": relation}),
        response(stable=True) | {"content": response(stable=True)["content"] | {"m.selections": answers}},
    ):
        poll.ballot(raw, POLL)
        poll.spoken(raw, POLL)
        poll.is_end(raw, POLL)


def said(body: object, **more: Any) -> dict[str, Any]:
    """A message in the thread of the poll, as clients send it."""
    relation = {"rel_type": "m.thread", "event_id": POLL, "m.in_reply_to": {"event_id": POLL}}
    return {
        "type": "m.room.message",
        "event_id": "$2",
        "sender": "@ada:home",
        "origin_server_ts": 8,
        "content": {"msgtype": "m.text", "body": body, "m.relates_to": relation, **more},
    }


@pytest.mark.parametrize(
    ("body", "choice"),
    [
        *(("!vote yes", Choice.YES), ("!VOTE Yes!", Choice.YES), ("!vote y", Choice.YES)),
        *(("!vote ja.", Choice.YES), ("!vote nee", Choice.NO), ("!vote n", Choice.NO)),
        *(("!vote no, and here is why", Choice.NO), ("  !vote NO", Choice.NO)),
        *(("!vote objection", Choice.OBJECTION), ("!vote objection: they log it", Choice.OBJECTION)),
        *(("!vote oppose", Choice.OBJECTION), ("!vote object", Choice.OBJECTION)),
        *(("!vote abstain", Choice.ABSTAIN), ("!vote abstain.", Choice.ABSTAIN)),
        *(("!vote maybe", None), ("!vote", None), ("!vote ...", None), ("!vote yesterday", None)),
        ("Hearth, !vote yes", Choice.YES),
        ("> <@ben:home> I say no\n\n!vote yes", Choice.YES),
    ],
)
def test_a_vote_can_be_said(body: str, choice: Choice | None) -> None:
    """Below the poll, in words; what is no choice spoils the vote, because it replaces the one before."""
    found = poll.spoken(said(body), POLL, own_id="@hearth:home", own_name="Hearth")
    assert found == Ballot("$2", "@ada:home", 8, choice)


@pytest.mark.parametrize(
    "raw",
    [
        said("yes"),
        said("I will !vote yes"),
        said("!votes yes"),
        said("!recount"),
        said(7),
        said("!vote yes", msgtype="m.notice"),
        said("!vote yes", **{"community.hearth": {"bot": True}}),
        said("!vote yes", **{"m.relates_to": {"rel_type": "m.reference", "event_id": POLL}}),
        said("!vote yes", **{"m.relates_to": {"m.in_reply_to": {"event_id": POLL}}}),
        said("* !vote no", **{"m.relates_to": {"rel_type": "m.replace", "event_id": "$2"}}),
        said("!vote yes") | {"type": "m.room.encrypted"},
        said("!vote yes") | {"sender": None},
        said("!vote yes") | {"origin_server_ts": None},
    ],
)
def test_other_words_are_no_vote(raw: dict[str, Any]) -> None:
    """Talk about the vote, other commands, notices, bots, edits, and what is said elsewhere."""
    assert poll.spoken(raw, POLL) is None
    assert poll.spoken(said("!vote yes"), "$another") is None


def test_what_we_send_is_what_the_proposal_says() -> None:
    """The shape that Element reads, and words for clients that know no polls."""
    content = poll.start("May I ask the city's bot?", {Choice.YES: "Yes", Choice.NO: "No"})
    told = content["org.matrix.msc3381.poll.start"]
    assert told["kind"] == "org.matrix.msc3381.poll.disclosed"
    assert told["max_selections"] == 1
    assert told["question"]["org.matrix.msc1767.text"] == "May I ask the city's bot?"
    assert [one["id"] for one in told["answers"]] == ["yes", "no"]
    assert content["org.matrix.msc1767.text"] == "May I ask the city's bot?\n1. Yes\n2. No"


def test_an_end_is_recognised() -> None:
    """Ours, and the stable form of others; never of another poll."""
    ours = {"type": poll.END, "content": poll.end(POLL, "Passed.")}
    assert poll.is_end(ours, POLL)
    assert poll.is_end(ours | {"type": "m.poll.end"}, POLL)
    assert not poll.is_end(ours, "$another")
    assert not poll.is_end(response("yes"), POLL)
