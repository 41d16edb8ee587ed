"""Bots of other communities: every document must allow, each refusal has its code, less allows no more."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.classes import SENSITIVE, Class
from policies.decide import RULES, Deed, Request, decide
from policies.document import Standing, Unreadable, written
from policies.grant import LONGEST_TERM_MS, TRIAL_PER_DAY, Direction, Grant, Status, read_grant
from policies.room import LOOSEST, Mode, RoomPolicy
from policies.verdict import Code, Verdict
from tests.policies.strategies import (
    ADA,
    CITY,
    DAY,
    KEY,
    OTHER_KEY,
    grants,
    held,
    policies,
    requests,
    times,
    unreadable,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

NOW = 7 * DAY
ROOM = RoomPolicy(
    ask_peers=frozenset({CITY}),
    answer_peers=frozenset({CITY}),
    classes_out=frozenset({Class.GENERAL, Class.LOCAL_KNOWLEDGE}),
    classes_in=frozenset({Class.GENERAL}),
    peer_per_day=10,
    peer_per_person_day=4,
)
GRANT = Grant(
    v=1,
    peer=CITY,
    app_ed25519=KEY,
    direction=Direction.BOTH,
    classes=frozenset({Class.GENERAL}),
    notes=frozenset({"pool"}),
    per_day=8,
    not_before=5 * DAY,
    until=100 * DAY,
    status=Status.ACTIVE,
    decided_by="$poll",
)
ASK = Request(Deed.ASK_PEER, ADA, peer=CITY, peer_key=KEY, cls=Class.GENERAL)
TELL = replace(ASK, deed=Deed.ANSWER_PEER, asker="@bot:city.example", asker_is_bot=True)
READ = replace(TELL, deed=Deed.READ_NOTES, collection="pool")
peer_requests = st.builds(
    replace,
    requests,
    deed=st.sampled_from([Deed.ASK_PEER, Deed.ANSWER_PEER, Deed.READ_NOTES]),
    recent=st.just(0),
)
deals = st.none() | grants | unreadable


def judge(
    request: Request,
    *,
    ceiling: RoomPolicy = LOOSEST,
    room: RoomPolicy = ROOM,
    ours: Mapping[str, Grant | Unreadable] | None = None,
    theirs: Grant | Unreadable | None = GRANT,
    now: int = NOW,
) -> Verdict:
    standing = Standing(written(room), "@ben:home", 3)
    return decide(
        ceiling, {CITY: GRANT} if ours is None else ours, request, now, room=standing, theirs=theirs
    )


def but(document: Any, **changes: Any) -> Any:
    return document.model_copy(update=changes)


def test_a_question_leaves_where_everybody_agrees() -> None:
    """The ceiling, the room, its grant and the peer's: both directions, with a preview."""
    told = judge(ASK)
    by: dict[str, int | str] = {"peer": CITY, "decided_by": GRANT.decided_by, "until": GRANT.until}
    assert (told.allowed, told.rule, told.params) == (True, "grant.classes", by | {"preview": "always"})
    assert judge(TELL).allowed
    assert judge(READ).allowed


REFUSALS: list[tuple[str, dict[str, Any], Request, Code, str]] = [
    ("nobody may be asked", {"room": but(ROOM, ask_peers=frozenset())}, ASK, Code.NO_PEER, "room.ask_peers"),
    ("no peer is named", {}, replace(ASK, peer=""), Code.NO_PEER, "policy.ask_peers"),
    ("not by the operator", {"ceiling": but(LOOSEST, ask_peers=frozenset())}, ASK, Code.NO_PEER,
     "policy.ask_peers"),
    ("may not ask us", {"room": but(ROOM, answer_peers=frozenset())}, TELL, Code.NO_PEER,
     "room.answer_peers"),
    ("no class", {}, replace(ASK, cls=None), Code.UNCLASSIFIED, "hearth.classes"),
    ("a class that stays", {}, replace(ASK, cls=Class.HEALTH), Code.CLASS_STAYS, "room.classes_out"),
    ("a class that is not ours to answer", {}, replace(TELL, cls=Class.LOCAL_KNOWLEDGE), Code.CLASS_STAYS,
     "room.classes_in"),
    ("what the screens have found", {}, replace(ASK, screened=frozenset({Class.CHILDREN})), Code.CLASS_STAYS,
     "room.classes_out"),
    ("a class beyond the grant", {}, replace(ASK, cls=Class.LOCAL_KNOWLEDGE), Code.CLASS_STAYS,
     "grant.classes"),
    ("a summary", {}, replace(ASK, summary=True), Code.SUMMARY_STAYS, "room.with_summary"),
    ("what was spoken", {}, replace(ASK, spoken=True), Code.VOICE_STAYS, "room.voice_may_leave"),
    ("passed on", {}, replace(ASK, hops=1), Code.TOO_MANY_HOPS, "room.max_hops"),
    ("passed on to us", {}, replace(TELL, hops=1), Code.TOO_MANY_HOPS, "room.max_hops"),
    ("often enough today", {}, replace(ASK, peer_today=10), Code.PEER_QUOTA, "room.peer_per_day"),
    ("this person often enough", {}, replace(ASK, peer_person_today=4), Code.PEER_QUOTA,
     "room.peer_per_person_day"),
    ("as often as granted", {}, replace(ASK, peer_today=8), Code.PEER_QUOTA, "grant.per_day"),
    ("no grant", {"ours": {}}, ASK, Code.NO_GRANT, "grant.missing"),
    ("none of theirs", {"theirs": None}, ASK, Code.NO_GRANT, "peer.missing"),
    ("not yet", {"now": 5 * DAY - 1}, ASK, Code.NOT_YET, "grant.not_before"),
    ("no longer", {"now": 100 * DAY}, ASK, Code.ENDED, "grant.until"),
    ("theirs no longer", {"theirs": but(GRANT, until=NOW)}, ASK, Code.ENDED, "peer.until"),
    ("suspended", {"ours": {CITY: but(GRANT, status=Status.SUSPENDED)}}, ASK, Code.SUSPENDED, "grant.status"),
    ("revoked", {"theirs": but(GRANT, status=Status.REVOKED)}, ASK, Code.SUSPENDED, "peer.status"),
    ("the other way only", {"ours": {CITY: but(GRANT, direction=Direction.ANSWER)}}, ASK,
     Code.OTHER_DIRECTION, "grant.direction"),
    ("theirs the other way", {"theirs": but(GRANT, direction=Direction.ASK)}, ASK, Code.OTHER_DIRECTION,
     "peer.direction"),
    ("a class that they do not take", {"theirs": but(GRANT, classes=frozenset())}, ASK, Code.CLASS_STAYS,
     "peer.classes"),
    ("another key", {}, replace(ASK, peer_key=OTHER_KEY), Code.KEY_CHANGED, "grant.app_ed25519"),
    ("no key pinned", {"ours": {CITY: but(GRANT, app_ed25519="")}}, replace(ASK, peer_key=""),
     Code.KEY_CHANGED, "grant.app_ed25519"),
    ("a grant that cannot be read", {"ours": {CITY: Unreadable("v", "should be 1")}}, ASK, Code.UNREADABLE,
     "grant.document"),
    ("a room that any member rules", {}, replace(ASK, ruled_by_members=True), Code.UNSAFE_ROOM,
     "hearth.policy_power"),
    ("notes that are not theirs", {}, replace(READ, collection="board"), Code.NOTES_STAY, "grant.notes"),
    ("notes that the room keeps", {"room": but(ROOM, notes=frozenset({"board"}))}, READ, Code.NOTES_STAY,
     "room.notes"),
    ("a bot may not ask in a room", {}, replace(ASK, asker_is_bot=True), Code.BOT,
     "hearth.bots_are_not_answered"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "request_", "code", "rule"), [one[1:] for one in REFUSALS], ids=[one[0] for one in REFUSALS]
)
def test_each_refusal_says_which_rule(
    facts: dict[str, Any], request_: Request, code: Code, rule: str
) -> None:
    """One thing is different from what is allowed, and the verdict names it."""
    told = judge(request_, **facts)
    assert (told.allowed, told.code, told.rule) == (False, code, rule)
    assert rule in RULES
    if rule.startswith("room."):
        assert told.params["set_by"] == "@ben:home"
    if rule.startswith("grant.") and code not in (Code.NO_GRANT, Code.UNREADABLE):
        assert told.params["decided_by"] == "$poll"


def test_the_remedy_is_one_that_helps() -> None:
    """A vote where the room votes, its moderators where they decide, the operator for the ceiling."""
    closed = but(ROOM, ask_peers=frozenset())
    assert judge(ASK, room=closed).remedy == "room_policy"
    assert judge(ASK, room=but(closed, mode=Mode.CONSENT)).remedy == "propose"
    assert judge(ASK, ceiling=but(LOOSEST, ask_peers=frozenset())).remedy == "ask_operator_policy"
    assert decide(LOOSEST, {}, Request(Deed.SET_POLICY, ADA), NOW).remedy == "propose"


def test_a_trial_is_small() -> None:
    """Five questions a day, whatever the grant says."""
    trial = {CITY: but(GRANT, status=Status.TRIAL)}
    assert judge(replace(ASK, peer_today=TRIAL_PER_DAY - 1), ours=trial).allowed
    assert judge(replace(ASK, peer_today=TRIAL_PER_DAY), ours=trial).rule == "grant.per_day"


@given(policies, policies, held, deals, peer_requests, times)
def test_total_and_explained(
    ceiling: RoomPolicy,
    room: RoomPolicy,
    ours: dict[str, Grant | Unreadable],
    theirs: Grant | Unreadable | None,
    request: Request,
    now: int,
) -> None:
    """Never raises; an explanation names a rule that exists."""
    told = judge(request, ceiling=ceiling, room=room, ours=ours, theirs=theirs, now=now)
    assert told.rule in RULES
    assert told.allowed == (told.code is Code.ALLOWED)


@given(policies, policies, policies, held, deals, peer_requests, times)
def test_less_never_allows_more(
    ceiling: RoomPolicy,
    room: RoomPolicy,
    less: RoomPolicy,
    ours: dict[str, Grant | Unreadable],
    theirs: Grant | Unreadable | None,
    request: Request,
    now: int,
) -> None:
    """Stricter room, stricter ceiling, fewer grants, none of theirs: nothing more is allowed."""

    def allowed(c: RoomPolicy, r: RoomPolicy, o: Any = ours, t: Any = theirs) -> bool:
        return judge(request, ceiling=c, room=r, ours=o, theirs=t, now=now).allowed

    whole = allowed(ceiling, room)
    assert whole >= allowed(ceiling.meet(less), room)
    assert whole >= allowed(ceiling, room.meet(less))
    assert whole >= allowed(ceiling, room, {})
    assert whole >= allowed(ceiling, room, ours, None)
    assert whole == allowed(room, ceiling)
    assert whole == allowed(LOOSEST, ceiling.meet(room))


@given(grants, st.sampled_from(list(Class)), st.sampled_from(list(Status)), times, peer_requests)
def test_a_smaller_grant_allows_less(
    grant: Grant, cls: Class, status: Status, now: int, request: Request
) -> None:
    """Whatever `is_within` calls narrower is narrower for `decide`."""
    other = but(grant, classes=grant.classes - {cls}, status=status, until=min(grant.until, 5 * DAY))
    for small, large in ((other, grant), (grant, other)):
        if small.is_within(large):
            allowed = [
                judge(request, room=LOOSEST, ours={CITY: one}, now=now).allowed for one in (small, large)
            ]
            assert allowed == sorted(allowed)


@given(policies, peer_requests)
def test_screens_only_raise(room: RoomPolicy, request: Request) -> None:
    """What is found in the words turns no refusal into a permission."""
    for cls in SENSITIVE:
        more = replace(request, screened=request.screened | {cls})
        assert judge(request, room=room).allowed >= judge(more, room=room).allowed


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"until": 5 * DAY + LONGEST_TERM_MS + 1}, ""),
        ({"until": None}, "until"),
        ({"peer": "@bot:city.example"}, "peer"),
        ({"peer": "b\u043et:city.example"}, "peer"),
        ({"app_ed25519": "short"}, "app_ed25519"),
        ({"classes": ["gossip"]}, "classes.0"),
        ({"status": "paused"}, "status"),
        ({"later": 1}, "later"),
        ({"v": 2}, "v"),
    ],
)
def test_what_a_grant_cannot_say(changes: dict[str, Any], where: str) -> None:
    """No end, another peer than its key (a look-alike too), a broken key, a later field: it denies."""

    document = json.loads(GRANT.model_dump_json()) | changes
    found = read_grant(json.dumps(document), CITY)
    assert isinstance(found, Unreadable)
    assert found.where == where
    assert judge(ASK, ours={CITY: found}).code is Code.UNREADABLE


@given(st.text() | st.recursive(st.none() | st.integers(), st.lists, max_leaves=4).map(str))
def test_any_grant_is_read_or_denies(text: str) -> None:
    """Total."""
    assert isinstance(read_grant(text, CITY), Unreadable)
