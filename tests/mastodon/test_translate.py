"""What the API says becomes what was asked: whole, to the right person, at the right age."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bots.conversation import PlaceKind
from bridge.mastodon.translate import (
    edited,
    gone,
    mention,
    mentions_us,
    message,
    ms_of,
    not_ours,
    person,
    place_of,
    visible_to,
    words,
)
from bridge.platform import Event, EventKind
from tests.mastodon.posts import ADA, BEN, EVE, HOME, ME, NOW, US, account, media, notification, status

NOBODY: frozenset[str] = frozenset()


def read(said: dict[str, Any], now: int = NOW) -> Event | None:
    return mention(said, instance=HOME, me=ME, admins=frozenset({"@Ada@home.example"}), now=now)


def test_a_mention_is_a_message_in_its_authors_place() -> None:
    """The place is the author's account id, whatever the visibility; the event is the post."""
    event = read(notification("50", status("7", "what time is it?", by=BEN, in_reply_to_id="6")))
    assert event is not None
    assert (event.id, event.place, event.kind, event.text) == (
        "7",
        "3",
        EventKind.MESSAGE,
        "what time is it?",
    )
    assert (event.addressed, event.reply_to, event.thread) == (True, "6", None)
    assert event.sender.id == "@ben@far.example"
    facts = place_of(event, ME)
    assert (facts.place.account, facts.place.id, facts.place.kind) == (ME.address, "3", PlaceKind.DIRECT)
    assert facts.members == (event.sender,)


def test_people_are_known_by_address_and_admins_have_power() -> None:
    """A local `acct` gets our domain, a long one stays (Takahe); bots are marked; case is no difference."""
    ada = person(ADA, HOME, frozenset({"@ADA@home.example"}))
    assert (ada.id, ada.name, ada.power, ada.is_bot) == ("@ada@home.example", "Ada", 100, False)
    assert person({**ADA, "acct": "ada@home.example"}, HOME, NOBODY).id == "@ada@home.example"
    assert person(US, HOME, NOBODY).is_bot
    assert person({**ADA, "display_name": "\u202eA\n\ud800  b\u200b"}, HOME, NOBODY).name == "A b"
    assert person({**ADA, "display_name": ""}, HOME, NOBODY).name == "ada"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (notification("1", None), "no_status"),
        (notification("1", status("7"), type="quote"), "other_type"),
        (notification("1", status("7"), type="added_to_collection"), "other_type"),
        (notification("1", status("7"), type=None), "other_type"),
        (notification("1", status("7", by=US)), "own"),
        (notification("1", status("7", reblog=status("6"))), "boost"),
        (notification("1", status("7", to=(BEN,))), "mention_gone"),
        (notification("1", {"id": "7"}), "no_status"),
        ({}, "other_type"),
    ],
)
def test_what_asks_nothing_is_passed_over_with_a_reason(said: dict[str, Any], reason: str) -> None:
    """No status, other and unknown types, our own, boosts, mentions that were edited away."""
    assert read(said) is None
    assert not_ours(said, ME) == reason


def test_we_are_known_by_id_and_not_by_name() -> None:
    """Somebody with our name on another server is somebody else."""
    twin = account("66", "hearth@far.example")
    assert read(notification("1", status("7", by=twin))) is not None
    assert not mentions_us(status("7", to=(twin,)), ME)


def test_the_whole_question_is_there() -> None:
    """Content warning, words, options of a poll and what images show all belong to the question."""
    said = status(
        "7",
        "which one?",
        spoiler_text="soup",
        poll={"options": [{"title": "red", "votes_count": 0}, {"title": "blue\nsky"}]},
        media_attachments=[
            media("image", description="a bowl"),
            media("image"),
            media("gifv", description="a spoon turns"),
            media("audio", description="me, humming"),
            media("video"),
        ],
    )
    assert words(said, ME).split("\n") == [
        "soup",
        "which one?",
        "[poll]",
        "- red",
        "- blue sky",
        "[image: a bowl]",
        "[image without a description]",
        "[animation: a spoon turns]",
        "[audio: me, humming]",
    ]


@pytest.mark.parametrize(
    ("text", "more", "expected"),
    [
        ("help", {"visibility": "direct"}, "!help"),
        ("Stop", {"visibility": "direct"}, "!Stop"),
        ("!why", {"visibility": "direct"}, "!why"),
        ("help me", {"visibility": "direct"}, "help me"),
        ("transcribe", {"visibility": "direct"}, "transcribe"),
        ("help", {"visibility": "public"}, "help"),
        ("help", {"visibility": "direct", "spoiler_text": "please"}, "please\nhelp"),
        ("", {"visibility": "direct"}, "!help"),
    ],
)
def test_a_command_needs_no_mark_in_a_private_mention(text: str, more: dict[str, Any], expected: str) -> None:
    """One command word, alone and in private, is that command; everything else is what it says."""
    assert words(status("7", text, **more), ME) == expected


def test_the_fallback_of_a_quote_is_no_word() -> None:
    """`RE: link` is left out of a post that has the quote itself."""
    content = '<p class="quote-inline">RE: https://x.example/1</p><p>true?</p>'
    assert words(status("7", content=content, quote={"state": "accepted"}), ME) == "true?"
    assert words(status("7", content=content), ME).startswith("RE:")


@pytest.mark.parametrize("there", [-2 * 86_400_000, 0, 2 * 86_400_000])
def test_a_wrong_clock_makes_no_question_old(there: int) -> None:
    """The age is between two times of the instance; ours, and the author's, do not count."""
    post = status("7", created_at="2020-01-01T00:00:00Z")
    made = {"created_at": "2027-01-15T08:00:00.000Z"}
    event = read(notification("1", post, **made), now=NOW + 90_000)
    assert event is not None
    assert event.age_ms == 90_000
    shifted = read(notification("1", post, **made), now=NOW + there)
    assert shifted is not None
    assert shifted.age_ms == max(0, there)  # it is the instance's own time that is asked for


def test_a_notification_without_a_time_is_new() -> None:
    """What cannot be read makes nothing expired."""
    event = read(notification("1", status("7"), created_at="yesterday"))
    assert event is not None
    assert event.age_ms == 0


@pytest.mark.parametrize(
    ("file", "media_type"),
    [
        (media("audio"), "audio/mpeg"),
        (media("audio", "https://files.example/a.ogg?x=1"), "audio/ogg"),
        (media("audio", "https://files.example/proxy/9"), "audio/mpeg"),
        (media("video", "https://files.example/a.webm"), "video/webm"),
        (media("video", None, remote_url="https://far.example/a.mov"), "video/quicktime"),
        (media("unknown", None, remote_url="https://far.example/a.mp3"), "audio/mpeg"),
        (media("unknown", "https://x.example/9", pleroma={"mime_type": "audio/flac"}), "audio/flac"),
        (media("unknown", None, remote_url="https://far.example/a.jpg"), None),
        (media("image", "https://files.example/a.mp3"), None),
        (media("gifv", "https://files.example/a.mp4"), None),
        (media("audio", None), None),
        (media("hologram"), None),
    ],
)
def test_sound_is_what_somebody_may_be_heard_in(file: dict[str, Any], media_type: str | None) -> None:
    """Audio, video and what looks like it; not images, soundless loops, or files that are nowhere."""
    found = message(status("7", media_attachments=[file]), HOME, ME, NOBODY).attachments
    assert [one.media_type for one in found] == ([media_type] if media_type else [])
    for one in found:
        assert one.has_sound
        assert (one.voice, one.name, one.size) == (False, "", None)
        assert json.loads(one.source)["type"] == file["type"]


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        ({"original": {"duration": 12.5, "bitrate": 1}}, 12_500),
        ({"length": "0:01", "duration": 7}, 7_000),
        ({"original": {"duration": -1}}, None),
        ({"original": {"duration": float("nan")}}, None),
        ({"original": {"duration": "5"}}, None),
        ({"original": {"duration": True}}, None),
        (None, None),
    ],
)
def test_the_duration_is_read_where_it_is_one(meta: object, expected: int | None) -> None:
    """Seconds become milliseconds; nonsense becomes nothing."""
    found = message(status("7", media_attachments=[media("audio", meta=meta)]), HOME, ME, NOBODY).attachments
    assert [one.duration_ms for one in found] == [expected]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (status("7", by=EVE, visibility="public", to=()), True),
        (status("7", by=EVE, visibility="unlisted", to=()), True),
        (status("7", by=EVE, visibility="private", to=()), False),
        (status("7", by=EVE, visibility="direct", to=(US,)), False),
        (status("7", by=EVE, visibility="direct", to=(US, ADA)), True),
        (status("7", by=EVE, visibility="local", to=()), False),
        (status("7", by=ADA, visibility="private", to=()), True),
        ({}, False),
    ],
)
def test_only_what_the_asker_can_surely_read_is_visible(said: dict[str, Any], expected: bool) -> None:  # noqa: FBT001 - a column of the table
    """Public posts and those that the asker wrote or is mentioned in; followers-only is not ours to know."""
    assert visible_to(said, ADA["id"]) is expected


def test_gone_and_edited_are_events_about_the_post() -> None:
    """A deletion and an edit name the post, its author's place, and have ids of their own."""
    ada = person(ADA, HOME, NOBODY)
    lost = gone("7", "2", ada, NOW)
    assert (lost.id, lost.kind, lost.relates_to, lost.place, lost.sender) == (
        "gone:7",
        EventKind.REDACTION,
        "7",
        "2",
        ada,
    )
    post = status("7", "two", edited_at="2027-01-15T08:01:00.000Z")
    change = edited(post, "2", message(post, HOME, ME, NOBODY))
    assert change.id.startswith("edit:7:2027-01-15T08:01:00.000Z:")
    assert (change.kind, change.relates_to, change.text) == (EventKind.EDIT, "7", "two")
    assert change.sent_at == ms_of("2027-01-15T08:01:00.000Z")
    other = status("7", "three", edited_at=None)
    assert (
        edited(other, "2", message(other, HOME, ME, NOBODY)).id
        != edited(post, "2", message(post, HOME, ME, NOBODY)).id
    )


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "acct", "url", "type", "title", "options", "meta", "original"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(
    st.dictionaries(st.sampled_from(sorted(status("7"))), _JSON),
    st.dictionaries(st.sampled_from(sorted(ADA)), _JSON),
)
def test_any_post_is_read_without_an_error(fields: dict[str, Any], who: dict[str, Any]) -> None:
    """A post with anything in any field is a message, and a notification of it an event or nothing."""
    said = {**status("7"), **fields}
    if isinstance(said["account"], dict) and "account" not in fields:
        said["account"] = {**ADA, **who}
    read_ = message(said, HOME, ME, NOBODY)
    read_.text.encode()
    read_.sender.name.encode()
    read(notification("1", said))
    visible_to(said, "2")
