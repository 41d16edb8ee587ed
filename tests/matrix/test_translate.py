"""From raw events to what they mean: total on any JSON, exact on the cases that matter."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bots.conversation import PlaceKind
from bridge.matrix.facts import CREATOR, LINK_TYPE, PEERS, RoomState, clean_name
from bridge.matrix.invites import inviter_of
from bridge.matrix.translate import ENVELOPE, Us, document_change, mentions, strip_reply_fallback, translate
from bridge.platform import Event, EventKind
from policies.document import STATE_TYPE, Standing
from policies.grant import GRANT_TYPE

ME, ADA, BEN = "@hearth:home.org", "@ada:home.org", "@ben:away.org"
US = Us(ME, frozenset({"@other-bot:home.org"}))

TYPES = [
    *("m.room.message", "m.room.encrypted", "m.room.redaction", "m.room.member", "m.room.power_levels"),
    *("m.room.create", "m.room.tombstone", "m.room.encryption", "m.room.name", "m.reaction"),
    *(STATE_TYPE, GRANT_TYPE, "org.matrix.msc3381.poll.response", LINK_TYPE, ENVELOPE),
]
KEYS = [
    *("type", "sender", "event_id", "content", "unsigned", "state_key", "origin_server_ts", "redacts"),
    *("body", "msgtype", "m.mentions", "user_ids", "m.relates_to", "rel_type", "m.new_content", "membership"),
    *("event_id", "m.in_reply_to", "is_falling_back", "community.hearth", "formatted_body", "displayname"),
    *("url", "file", "info", "filename", "key", "iv", "hashes", "mimetype", "size", "duration"),
    *("envelope", "v", "bots"),
    *("users", "users_default", "events", "room_version", "additional_creators", "predecessor", "age"),
]
LEAF = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([*TYPES, ME, ADA, "m.replace", "m.thread", "m.text", "join", "leave", "12", "bot"])
    | st.sampled_from(["\ud800", "$\udfff", "m.audio", "m.file", "m.annotation", "mxc://home.org/x", "👂"])
)
JSON = st.recursive(
    LEAF,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), inner)
    ),
    max_leaves=30,
)
OBJECT = st.dictionaries(st.sampled_from(KEYS), JSON, max_size=10)
SHAPED = st.fixed_dictionaries(
    {
        "type": st.sampled_from(TYPES),
        "sender": st.sampled_from([ME, ADA]),
        "event_id": st.just("$1"),
        "content": OBJECT,
    },
    optional={
        "state_key": st.sampled_from(["", ME, ADA, "bot:away.org", "\ud800"]),
        "unsigned": OBJECT,
        "redacts": JSON,
        "origin_server_ts": JSON,
    },
)


def room(*members: str, version: str = "12") -> RoomState:
    state = RoomState("!r", ME)
    state.apply(
        {"type": "m.room.create", "state_key": "", "sender": ADA, "content": {"room_version": version}}
    )
    for member in members or (ME, ADA, BEN):
        name = member[1:].partition(":")[0].capitalize()
        content = {"membership": "join", "displayname": name}
        state.apply({"type": "m.room.member", "state_key": member, "sender": member, "content": content})
    return state


def message(content: dict[str, Any], **more: Any) -> dict[str, Any]:
    content = {"msgtype": "m.text", "body": "", **content}
    return {
        "type": "m.room.message",
        "sender": ADA,
        "event_id": "$1",
        "content": content,
        "origin_server_ts": 5,
        **more,
    }


def read(content: dict[str, Any], state: RoomState | None = None, **more: Any) -> Event:
    event = translate(message(content, **more), None, state or room(), US)
    assert event is not None
    return event


@given(raw=OBJECT | SHAPED, clear=st.none() | OBJECT, before=st.booleans())
def test_any_json_gives_an_event_or_nothing(
    raw: dict[str, Any],
    clear: dict[str, Any] | None,
    before: bool,  # noqa: FBT001 - generated
) -> None:
    """No event of anybody can make the translation, the room state or the invitation parser raise."""
    state = room()
    changed = document_change(raw, state, US, before_join=before)
    if changed is not None:
        f"{changed.id}{changed.text}".encode()
    state.apply(raw)
    event = translate(raw, clear, state, US, before_join=before)
    assert event is None or (event.place == "!r" and event.context_only >= before)
    if event is not None:
        ids = (event.id, event.sender.id, event.relates_to, event.reply_to, event.thread, event.key)
        "".join(one or "" for one in (event.text, *ids)).encode()  # or the journal could not store it
    "".join(peer for peer, _ in state.facts(frozenset()).place.grants).encode()
    assert isinstance(state.readers, frozenset)
    inviter_of(raw, ME)
    inviter_of({"invite_state": {"events": [raw]}}, ME)


@given(st.lists(SHAPED, max_size=8))
def test_encryption_is_never_unset(events: list[dict[str, Any]]) -> None:
    """Once encrypted, no later state event makes a room plain."""
    state = room()
    state.apply({"type": "m.room.encryption", "state_key": "", "sender": ADA, "content": {}})
    for event in events:
        state.apply(event)
        assert state.encrypted


@pytest.mark.parametrize(
    ("content", "addressed"),
    [
        ({"body": "Hearth, hi", "m.mentions": {}}, False),
        ({"body": "Hearth, hi", "m.mentions": {"room": True}}, False),
        ({"body": "hi", "m.mentions": {"user_ids": [ME]}}, True),
        ({"body": "hi", "m.mentions": {"user_ids": [ADA]}}, False),
        ({"body": "hi", "m.mentions": {"user_ids": ME}}, False),
        ({"body": "hey HEARTH: what now"}, True),
        ({"body": "hearthstone"}, False),
        ({"body": "unhearth"}, False),
        ({"body": f"{ME} hi"}, True),
        ({"body": "h\u200bearth hi"}, True),
        ({"body": "hi", "formatted_body": f'<a href="https://matrix.to/#/{ME}">x</a> hi'}, True),
        (
            {"body": "hi", "formatted_body": '<a href="https://matrix.to/#/%40hearth%3Ahome.org">x</a> hi'},
            True,
        ),
        ({"body": "hi", "formatted_body": f'<a href="https://matrix.to/#/{ADA}">x</a>'}, False),
        ({"body": f"> <{ME}> I said so\n\nreally?"}, False),
        ({"body": "nothing"}, False),
    ],
)
def test_what_names_us_in_a_group(content: dict[str, Any], addressed: bool) -> None:  # noqa: FBT001 - a case
    """`m.mentions` alone decides where it is present; text is read only where it is absent."""
    assert read(content).addressed is addressed


@given(st.text(max_size=60), st.text(max_size=60))
def test_an_address_is_found_in_any_surroundings(before: str, after: str) -> None:
    """Our address between spaces is always a mention for clients without `m.mentions`."""
    state, text = room(), f"{before} {ME} {after}"
    assert mentions({"body": text}, text, state, US)


def test_who_is_there_decides_what_is_direct() -> None:
    """Direct is us and one other, invited ones counted; then every message is addressed."""
    assert room(ME, ADA).kind is PlaceKind.DIRECT
    assert room(ME).kind is PlaceKind.GROUP
    assert room(ADA, BEN).kind is PlaceKind.GROUP
    two = room(ME, ADA)
    assert read({"body": "hi", "m.mentions": {}}, two).addressed
    two.apply({"type": "m.room.member", "state_key": BEN, "sender": ADA, "content": {"membership": "invite"}})
    assert two.kind is PlaceKind.GROUP


def test_an_edit_is_read_from_its_new_content() -> None:
    """An edit carries the new words and their mentions, and points at what it replaces."""
    relation = {"rel_type": "m.replace", "event_id": "$0"}
    new = {"msgtype": "m.text", "body": "new", "m.mentions": {"user_ids": [ME]}}
    event = read({"body": "* new", "m.mentions": {}, "m.new_content": new, "m.relates_to": relation})
    assert (event.kind, event.text, event.relates_to, event.addressed) == (EventKind.EDIT, "new", "$0", True)


def test_own_events_carry_their_key() -> None:
    """Our key is in the content, else it is the server's transaction id; progress is nothing."""
    marked = {"body": "x", "community.hearth": {"bot": True, "key": "k"}}
    event = read(marked, sender=ME)
    assert (event.own, event.context_only, event.key, event.sender.is_bot) == (True, True, "k", False)
    assert read({"body": "x"}, sender=ME, unsigned={"transaction_id": "t"}).key == "t"
    assert read(marked).key is None
    progress = message({"body": "x", "community.hearth": {"bot": True, "progress": True}}, sender=ME)
    assert translate(progress, None, room(), US) is None


def test_bots_are_told_from_people() -> None:
    """Known bots are bots; markers and notices are context as well; media is context without words."""
    known = read({"body": "hearth?"}, sender="@other-bot:home.org")
    assert (known.sender.is_bot, known.context_only) == (True, False)
    marked = read({"body": "hearth?", "community.hearth": {"bot": True}})
    assert (marked.sender.is_bot, marked.context_only) == (True, True)
    notice = read({"body": "hearth?", "msgtype": "m.notice"})
    assert (notice.sender.is_bot, notice.context_only) == (True, True)
    image = read({"body": "hearth.jpg", "msgtype": "m.image"})
    assert (image.text, image.context_only, image.sender.is_bot) == ("", True, False)


def test_redactions_are_read_at_both_places() -> None:
    """Room version 11 moved `redacts` into the content; a redacted message is nothing."""
    base = {"type": "m.room.redaction", "sender": ADA, "event_id": "$2"}
    for more in ({"redacts": "$0", "content": {}}, {"content": {"redacts": "$0"}}):
        event = translate({**base, **more}, None, room(), US)
        assert event is not None
        assert (event.kind, event.relates_to) == (EventKind.REDACTION, "$0")
    gone = {"type": "m.room.message", "sender": ADA, "event_id": "$1", "content": {}}
    assert translate(gone, None, room(), US) is None


def test_a_change_of_policy_is_told_with_what_was_before() -> None:
    """Set, changed, redacted: each once; the same again, or the redaction of anything else, is no news."""

    def told(raw: dict[str, Any]) -> dict[str, Any] | None:
        event = document_change(raw, here, US)
        here.apply(raw)
        if event is None:
            return None
        assert (event.kind, event.sender.id) == (EventKind.POLICY, ADA)
        found: dict[str, Any] = json.loads(event.text)
        return found

    def rule(event_id: str, **content: Any) -> dict[str, Any]:
        same = {"type": STATE_TYPE, "state_key": "", "sender": ADA, "origin_server_ts": 7}
        return same | {"event_id": event_id, "content": content}

    def redaction(target: object) -> dict[str, Any]:
        same = {"type": "m.room.redaction", "sender": ADA, "event_id": "$r"}
        return same | {"content": {"redacts": target}, "redacts": target}

    here = room()
    assert told(redaction("")) is None
    assert told(rule("$1", v=1)) == {"was": None, "now": '{"v": 1}'}
    assert told(rule("$2", v=1)) is None
    assert told(redaction("$1")) is None
    assert told(redaction("$2")) == {"was": '{"v": 1}', "now": "{}"}
    assert here.policy is not None
    assert (here.policy.text, here.policy.set_by) == ("{}", ADA)
    assert told(redaction("$2")) is None
    assert told(rule("$3", v=1)) == {"was": "{}", "now": '{"v": 1}'}
    assert told(rule("$4") | {"state_key": "other"}) is None
    deep: list[Any] = []
    for _ in range(20_000):
        deep = [deep]
    assert told(rule("$5", deep=deep)) == {"was": '{"v": 1}', "now": "[]"}


def grant(peer: str, event_id: str, content: dict[str, Any] | None = None) -> dict[str, Any]:
    same = {"type": GRANT_TYPE, "sender": ADA, "origin_server_ts": 7, "state_key": peer}
    return same | {"event_id": event_id, "content": {"v": 1} if content is None else content}


def test_a_change_of_a_grant_is_told_with_its_peer() -> None:
    """Each peer for itself; a redaction leaves the empty grant, which denies, and says of whom."""

    def told(raw: dict[str, Any]) -> tuple[str, str | None, dict[str, Any]] | None:
        event = document_change(raw, here, US)
        here.apply(raw)
        if event is None:
            return None
        assert (event.kind, event.sender.id, event.context_only) == (EventKind.GRANT, ADA, False)
        return event.id, event.relates_to, json.loads(event.text)

    here = room()
    city, school = "bot:city.example", "bot:school.example"
    assert told(grant(school, "$1")) == ("grant:$1", school, {"was": None, "now": '{"v": 1}'})
    assert told(grant(school, "$2")) is None
    assert told(grant(city, "$3")) == ("grant:$3", city, {"was": None, "now": '{"v": 1}'})
    redaction = {"type": "m.room.redaction", "sender": ADA, "event_id": "$r", "origin_server_ts": 9}
    assert told(redaction | {"content": {"redacts": "$1"}}) is None
    gone = told(redaction | {"content": {"redacts": "$2"}})
    assert gone == ("grant:$r", school, {"was": '{"v": 1}', "now": "{}"})
    assert told(redaction | {"content": {"redacts": "$2"}}) is None
    found = here.facts(frozenset()).place
    assert found.grants == ((city, Standing('{"v": 1}', ADA, 7)), (school, Standing("{}", ADA, 9)))
    assert found.policy is None


@pytest.mark.parametrize("peer", ["", ADA, "x" * 256, "bot:\ud800", "bot:\n", "bot:\u202ecity"])
def test_what_names_no_peer_is_no_grant(peer: str) -> None:
    """A state key is the name of a bot: not of a person, not endless, not invisible."""
    here = room()
    assert document_change(grant(peer, "$1"), here, US) is None
    here.apply(grant(peer, "$1"))
    assert here.facts(frozenset()).place.grants == ()


def test_a_room_has_so_many_grants_and_no_more() -> None:
    """Beyond 200 peers a new one is not taken in; those that are known can still be changed."""
    here = room()
    for number in range(PEERS + 5):
        here.apply(grant(f"bot:{number:03}.example", f"${number}"))
    grants = here.facts(frozenset()).place.grants
    assert [peer for peer, _ in grants] == [f"bot:{number:03}.example" for number in range(PEERS)]
    here.apply(grant("bot:000.example", "$new", {}))
    assert here.facts(frozenset()).place.grants[0][1].text == "{}"


def test_the_power_over_documents_is_the_larger_of_two() -> None:
    """Whoever writes policies here can write grants too."""
    state = room(version="11")
    for events, power in (({}, 60), ({STATE_TYPE: 70}, 70), ({STATE_TYPE: 70, GRANT_TYPE: 90}, 90)):
        content = {"events": events, "state_default": 60, "events_default": 3}
        state.apply({"type": "m.room.power_levels", "state_key": "", "sender": ADA, "content": content})
        assert state.facts(frozenset()).policy_power == power
        assert state.power_to_say("m.room.message") == 3


def test_a_member_is_there_since_joining() -> None:
    """A new name moves nothing; leaving and coming back does; where only a new name is seen, that counts."""
    here = room(ME)

    def since(ts: object, now: str, before: str | None = None) -> int | None:
        unsigned = {} if before is None else {"prev_content": {"membership": before}}
        raw = {"type": "m.room.member", "state_key": BEN, "sender": BEN, "unsigned": unsigned}
        here.apply(raw | {"origin_server_ts": ts, "content": {"membership": now}})
        people = {member.id: member.since for member in here.facts(frozenset()).members}
        return people.get(BEN)

    assert since(5, "join", "join") == 5
    assert since(9, "join", "join") == 5
    assert since(11, "leave", "join") is None
    assert since(12, "invite", "leave") is None
    assert since(13, "join", "invite") == 13
    assert since(20, "join") == 13
    # They left and came back while nobody looked: a limited sync tells only of the last.
    assert since(30, "join", "leave") == 30
    assert since(40, "leave", "join") is None
    assert since("soon", "join") == 0
    assert since(50, "join", "join") == 50


VOTE = {
    "m.relates_to": {"rel_type": "m.reference", "event_id": "$poll"},
    "org.matrix.msc3381.poll.response": {"answers": ["yes"]},
}


@pytest.mark.parametrize("kind", ["org.matrix.msc3381.poll.response", "m.poll.response"])
def test_that_somebody_voted_is_told_and_not_what(kind: str) -> None:
    """In clear or decrypted, as it comes or once a late key opens it; the vote itself stays in the room."""
    plain = message({}, type=kind) | {"content": VOTE}
    raw = message({}, type="m.room.encrypted") | {"content": {"ciphertext": "c"}}
    sealed = translate(raw, None, room(), US)
    assert sealed is not None
    assert sealed.kind is EventKind.SEALED
    for event in (
        translate(plain, None, room(), US),
        translate(raw, {"type": kind, "content": VOTE}, room(), US),
    ):
        assert event is not None
        assert (event.kind, event.relates_to, event.text) == (EventKind.BALLOT, "$poll", "")
        assert (event.sender.id, event.context_only, event.own) == (ADA, False, False)


@pytest.mark.parametrize(
    "change",
    [
        {"sender": ME},
        {"sender": "@other-bot:home.org"},
        {"content": VOTE | {"community.hearth": {"bot": True}}},
        {"content": VOTE | {"m.relates_to": {"rel_type": "m.thread", "event_id": "$poll"}}},
        {"content": VOTE | {"m.relates_to": {"rel_type": "m.reference"}}},
        {"content": {}},
        {"unsigned": {"redacted_because": {}}},
        {"type": "org.matrix.msc3381.poll.start"},
        {"type": "org.matrix.msc3381.poll.end"},
    ],
)
def test_what_is_no_vote_of_a_person_is_nothing(change: dict[str, Any]) -> None:
    """Our own, bots', redacted ones, and what points at no poll."""
    raw = message({}, type="org.matrix.msc3381.poll.response") | {"content": VOTE}
    assert translate(raw | change, None, room(), US) is None


def test_sealed_events_keep_their_ciphertext_and_relations() -> None:
    """What cannot be read is kept whole; once clear it is the message that it was."""
    relation = {
        "rel_type": "m.thread",
        "event_id": "$root",
        "is_falling_back": True,
        "m.in_reply_to": {"event_id": "$x"},
    }
    raw = {
        "type": "m.room.encrypted",
        "sender": ADA,
        "event_id": "$1",
        "content": {"ciphertext": "c", "m.relates_to": relation},
    }
    event = translate(raw, None, room(), US)
    assert event is not None
    assert (event.kind, event.thread, event.reply_to, event.text) == (EventKind.SEALED, "$root", None, "")
    assert json.loads(event.sealed or "") == raw
    clear = {"type": "m.room.message", "content": {"msgtype": "m.text", "body": "hearth!"}}
    event = translate(raw, clear, room(), US)
    assert event is not None
    assert (event.kind, event.text, event.addressed) == (EventKind.MESSAGE, "hearth!", True)
    for fake in ("m.room.redaction", "m.room.member"):
        assert (
            translate(raw, {"type": fake, "content": {"redacts": "$0", "membership": "join"}}, room(), US)
            is None
        )


def test_our_own_membership_is_told_and_profile_changes_are_not() -> None:
    """Joining and leaving are events; a new display name or avatar is not a second join."""

    def member(now: str, before: str | None, who: str = ME) -> EventKind | None:
        unsigned = {} if before is None else {"prev_content": {"membership": before}}
        raw = {
            "type": "m.room.member",
            "state_key": who,
            "sender": ADA,
            "event_id": "$m",
            "unsigned": unsigned,
        }
        event = translate({**raw, "content": {"membership": now}}, None, room(), US)
        return None if event is None else event.kind

    assert member("join", "invite") is member("join", None) is EventKind.JOINED
    assert member("leave", "join") is member("ban", "join") is EventKind.LEFT
    assert member("join", "join") is member("leave", "invite") is member("join", None, ADA) is None


def test_powers_are_those_of_the_room_version() -> None:
    """Creators are above all levels from version 12 on; before, a room without levels gives them 100."""
    assert room().power_of(ADA) == CREATOR
    assert room(version="11").power_of(ADA) == 100
    assert room(version="1").power_of(BEN) == 0
    levels = {"users": {ADA: 50, BEN: "20"}, "users_default": 5, "state_default": 60}
    for version, power in (("11", 50), ("12", CREATOR)):
        state = room(version=version)
        state.apply({"type": "m.room.power_levels", "state_key": "", "sender": ADA, "content": levels})
        assert (state.power_of(ADA), state.power_of(BEN), state.power_of("@c:d")) == (power, 20, 5)
        assert state.power_needed("m.room.tombstone") == 60
        assert state.facts(frozenset()).default_power == 5


@pytest.mark.parametrize(
    ("levels", "by_members"),
    [
        ({}, False),
        ({"state_default": 40}, True),
        ({"events": {STATE_TYPE: 0, GRANT_TYPE: 50}}, True),
        ({"events": {STATE_TYPE: 50, GRANT_TYPE: 10}}, True),
        ({"users_default": 50}, True),
        ({"users_default": 50, "events": {STATE_TYPE: 60, GRANT_TYPE: 60}}, False),
    ],
)
def test_a_room_whose_members_write_its_rules(levels: dict[str, Any], *, by_members: bool) -> None:
    """One of the two documents is enough, and so is everybody being a moderator."""
    state = room(version="11")
    state.apply({"type": "m.room.power_levels", "state_key": "", "sender": ADA, "content": levels})
    assert state.facts(frozenset()).ruled_by_members is by_members


@pytest.mark.parametrize(("by", "moved_to"), [(ADA, "!new:server"), (BEN, "")])
def test_a_room_moves_where_somebody_who_may_says(by: str, moved_to: str) -> None:
    """A tombstone of somebody without the power for it moves nothing."""
    state = room(version="11")
    levels = {"users": {ADA: 100}, "events": {"m.room.power_levels": 90}}
    state.apply({"type": "m.room.power_levels", "state_key": "", "sender": ADA, "content": levels})
    content = {"replacement_room": "!new:server"}
    state.apply({"type": "m.room.tombstone", "state_key": "", "sender": by, "content": content})
    facts = state.facts(frozenset())
    assert (facts.moved_to, facts.levels_power) == (moved_to, 90)


def test_keys_go_to_the_invited_only_where_history_lets_them_read() -> None:
    """Invited people read along unless the room's history begins with joining."""
    state = room(ME, ADA)
    state.apply(
        {"type": "m.room.member", "state_key": BEN, "sender": ADA, "content": {"membership": "invite"}}
    )
    assert state.readers == {ME, ADA, BEN}
    content = {"history_visibility": "joined"}
    state.apply({"type": "m.room.history_visibility", "state_key": "", "sender": ADA, "content": content})
    assert state.readers == {ME, ADA}


def test_a_copied_name_is_shown_with_its_address() -> None:
    """Two members of one name can be told apart."""
    state = room()
    content = {"membership": "join", "displayname": "A\u200bda"}
    state.apply({"type": "m.room.member", "state_key": BEN, "sender": BEN, "content": content})
    names = {member.id: member.name for member in state.facts(frozenset()).members}
    assert names == {ADA: f"Ada ({ADA})", BEN: f"Ada ({BEN})", ME: "Hearth"}


@given(st.text())
def test_clean_names_are_one_short_visible_line(name: str) -> None:
    """No control, format or line-breaking character is shown, and cleaning again changes nothing."""
    clean = clean_name(name)
    assert clean == clean_name(clean)
    assert len(clean) <= 80
    assert clean == "".join(one for one in clean if one.isprintable())


@given(st.text(), st.text(alphabet=st.characters(exclude_characters="\n>")))
def test_only_the_reply_fallback_is_stripped(body: str, quoted: str) -> None:
    """Stripping removes the quoted lines and nothing of what was said."""
    if not body.startswith((">", "\n")):
        assert strip_reply_fallback(body) == body
        assert strip_reply_fallback(f"> <{ADA}> {quoted}\n> more\n\n{body}") == body
