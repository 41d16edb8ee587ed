"""`decide`: total, default deny, and stricter facts never allow more."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.classes import Class
from policies.decide import LOOP_BUDGET, MODERATOR_POWER, RULES, Deed, Request, decide
from policies.document import Standing, written
from policies.grant import Direction, Grant, Status
from policies.room import LOOSEST, Answers, RoomPolicy, Trust, Voice
from policies.verdict import Code, Verdict
from tests.policies.strategies import ADA, CITY, KEY, limits, policies, requests

if TYPE_CHECKING:
    from collections.abc import Callable

OPEN = LOOSEST
NOW = 1_781_000_000_000
NOON = NOW - NOW % 86_400_000 + 43_200_000
SAYS_NOTHING = Standing(written(LOOSEST), "@ben:home", 0)
"""A room that leaves everything to whoever runs the bot."""


def but(policy: RoomPolicy, **changes: Any) -> RoomPolicy:
    return policy.model_copy(update=changes)


def judge(policy: RoomPolicy, request: Request) -> Verdict:
    return decide(policy, {}, request, NOW, room=SAYS_NOTHING)


@given(policies, requests)
def test_every_verdict_names_its_rule(policy: RoomPolicy, request: Request) -> None:
    """`decide` is total: it never raises, and `allowed` and the code always agree."""
    verdict = judge(policy, request)
    assert verdict.allowed == (verdict.code is Code.ALLOWED)
    assert verdict.rule in RULES


@given(policies, requests, st.text())
def test_an_unknown_deed_is_refused(policy: RoomPolicy, request: Request, deed: str) -> None:
    """What no rule allows is denied, whoever asks."""
    unknown = cast("Deed", f"x-{deed}")
    assert not judge(policy, replace(request, deed=unknown)).allowed


@given(policies, requests)
def test_fewer_askers_never_allow_more(policy: RoomPolicy, request: Request) -> None:
    """Taking any one asker out of the policy turns no refusal into a permission."""
    for asker in policy.askers:
        less = but(policy, askers=policy.askers - {asker})
        assert judge(policy, request).allowed >= judge(less, request).allowed


@given(policies, requests, limits, limits)
def test_lower_quotas_never_allow_more(
    policy: RoomPolicy, request: Request, person: int | None, place: int | None
) -> None:
    """Meeting the policy with any quota turns no refusal into a permission."""
    stricter = but(policy, per_person_day=0 if person is None else person, per_place_day=place)
    stricter = policy.meet(stricter)
    assert judge(policy, request).allowed >= judge(stricter, request).allowed


@pytest.mark.parametrize(
    "worse",
    [
        pytest.param(lambda r: replace(r, asked_today=r.asked_today + 1), id="asked more"),
        pytest.param(lambda r: replace(r, place_today=r.place_today + 1), id="place asked more"),
        pytest.param(lambda r: replace(r, recent=r.recent + 1), id="faster"),
        pytest.param(lambda r: replace(r, age_ms=r.age_ms + 1_000_000), id="older"),
        pytest.param(lambda r: replace(r, power=r.power - 60), id="less power"),
        pytest.param(lambda r: replace(r, asker_is_bot=True), id="a bot"),
        pytest.param(lambda r: replace(r, direct=False), id="in a group"),
        pytest.param(lambda r: replace(r, owner=None), id="owner of nothing"),
        pytest.param(lambda r: replace(r, unasked=True), id="unasked"),
        pytest.param(lambda r: replace(r, trust=Trust.UNSIGNED), id="vouched for by nothing"),
        pytest.param(lambda r: replace(r, admin=False), id="no admin"),
    ],
)
@given(policy=policies, request_=requests)
def test_worse_facts_never_allow_more(
    worse: Callable[[Request], Request], policy: RoomPolicy, request_: Request
) -> None:
    """Each fact has a direction in which it can only take permissions away."""
    assert judge(policy, request_).allowed >= judge(policy, worse(request_)).allowed


@given(policies, policies, requests)
def test_a_ceiling_never_widens(room: RoomPolicy, ceiling: RoomPolicy, request: Request) -> None:
    """What two limits allow together is exactly what each of them allows."""
    both = judge(room.meet(ceiling), request).allowed
    assert both == (judge(room, request).allowed and judge(ceiling, request).allowed)


CASES: dict[Code, tuple[RoomPolicy, Request]] = {
    Code.ALLOWED: (OPEN, Request(Deed.ANSWER, ADA)),
    Code.BOT: (OPEN, Request(Deed.ANSWER, ADA, asker_is_bot=True)),
    Code.LOOP: (OPEN, Request(Deed.ANSWER, ADA, recent=LOOP_BUDGET + 1)),
    Code.NOT_AN_ASKER: (but(OPEN, askers=frozenset()), Request(Deed.ANSWER, ADA)),
    Code.PERSON_QUOTA: (but(OPEN, per_person_day=2), Request(Deed.ANSWER, ADA, asked_today=2)),
    Code.PLACE_QUOTA: (but(OPEN, per_place_day=2), Request(Deed.ANSWER, ADA, place_today=2)),
    Code.VOICE_OFF: (but(OPEN, voice=Voice.OFF), Request(Deed.TRANSCRIBE, ADA)),
    Code.UNASKED: (but(OPEN, voice=Voice.ASKED), Request(Deed.TRANSCRIBE, ADA, unasked=True)),
    Code.NOT_VOUCHED: (but(OPEN, asker_trust=Trust.VERIFIED), Request(Deed.ANSWER, ADA, trust=Trust.SIGNED)),
    Code.NOT_AN_ADMIN: (OPEN, Request(Deed.VERIFY, ADA, trust=Trust.VERIFIED)),
    Code.NOT_YOURS: (OPEN, Request(Deed.STOP, ADA, owner="@ben:home")),
    Code.NOT_A_MODERATOR: (OPEN, Request(Deed.FORGET_ROOM, ADA)),
    Code.EXPIRED: (OPEN, Request(Deed.COMMAND, ADA, age_ms=2, max_age_ms=1)),
    Code.UNKNOWN: (OPEN, Request(cast("Deed", "dance"), ADA)),
    Code.NOT_ENOUGH_POWER: (OPEN, Request(Deed.SET_POLICY, ADA, power=49)),
    Code.NOT_HERE: (but(OPEN, answers=Answers.DIRECT), Request(Deed.ANSWER, ADA)),
    Code.QUIET: (but(OPEN, quiet=frozenset({"00:00-23:59"})), Request(Deed.ANSWER, ADA)),
    Code.NOTES_STAY: (
        but(OPEN, notes=frozenset({"pool"})),
        Request(Deed.READ_NOTES, ADA, collection="board"),
    ),
    Code.REMOTE_MODEL: (but(OPEN, remote_model=False), Request(Deed.ANSWER, ADA, remote_model=True)),
}


@pytest.mark.parametrize("deed", [Deed.ANSWER, Deed.TRANSCRIBE, Deed.SHOW_UNASKED])
def test_a_room_may_ask_what_vouches_for_askers(deed: Deed) -> None:
    """Verified is signed, too; by default nothing has to vouch; each refusal says what would."""
    order = [Trust.UNSIGNED, Trust.SIGNED, Trust.VERIFIED]
    for needed in order:
        for given_ in order:
            verdict = judge(but(OPEN, asker_trust=needed), Request(deed, ADA, trust=given_))
            assert verdict.allowed is (order.index(given_) >= order.index(needed))
            if not verdict.allowed:
                assert (verdict.code, verdict.rule) == (Code.NOT_VOUCHED, "policy.asker_trust")
                assert verdict.params == {"needed": str(needed), "trust": str(given_)}
                assert verdict.remedy == ("be_verified" if needed is Trust.VERIFIED else "be_signed")
    assert judge(OPEN, Request(deed, ADA)).allowed


def test_only_an_admin_whom_something_vouches_for_verifies() -> None:
    """Keys are compared because the server is not believed: it could write a yes in an admin's name."""
    for admin in (True, False):
        for given_ in Trust:
            verdict = judge(OPEN, Request(Deed.VERIFY, ADA, admin=admin, trust=given_))
            assert verdict.allowed is (admin and given_ is not Trust.UNSIGNED)
            assert verdict.rule == "hearth.verify"


ROOMS = {Code.UNREADABLE}
"""Codes of a room's own document: `test_document`."""
PEERS = {
    *(Code.NO_PEER, Code.UNCLASSIFIED, Code.CLASS_STAYS, Code.SUMMARY_STAYS, Code.VOICE_STAYS),
    *(Code.TOO_MANY_HOPS, Code.PEER_QUOTA, Code.NO_GRANT, Code.NOT_YET, Code.ENDED, Code.SUSPENDED),
    *(Code.OTHER_DIRECTION, Code.KEY_CHANGED, Code.UNSAFE_ROOM),
}
"""Codes about bots of other communities: `test_peers`."""
RECORDED = {Code.WITHDRAWN, Code.STOPPED, Code.FAILED}
"""Codes that the journal and the router write down themselves, when a turn ends without an answer."""


def test_every_code_has_a_case() -> None:
    """A new code needs a request that leads to it, or must be one that is only recorded."""
    assert CASES.keys() | RECORDED | ROOMS | PEERS == set(Code)
    assert not CASES.keys() & RECORDED


@pytest.mark.parametrize("code", list(CASES))
def test_every_code_is_reachable(code: Code) -> None:
    """There is a request for each code, so none of them is dead words."""
    policy, request = CASES[code]
    assert judge(policy, request).code is code


@pytest.mark.parametrize("deed", list(Deed))
def test_every_deed_can_be_allowed(deed: Deed) -> None:
    """No deed falls through to the default: an owner with power may do each of them."""
    able: dict[str, Any] = {"power": MODERATOR_POWER, "owner": ADA, "admin": True, "trust": Trust.VERIFIED}
    request = Request(deed, ADA, **able, peer=CITY, peer_key=KEY, cls=Class.GENERAL)
    grant = Grant(
        v=1,
        peer=CITY,
        app_ed25519=KEY,
        direction=Direction.BOTH,
        classes=frozenset(Class),
        not_before=NOW,
        until=NOW + 1,
        status=Status.ACTIVE,
    )
    assert decide(OPEN, {CITY: grant}, request, NOW, room=SAYS_NOTHING, theirs=grant).allowed


@given(policies, requests)
def test_less_voice_never_allows_more(policy: RoomPolicy, request: Request) -> None:
    """Each stricter mode turns no refusal into a permission."""
    allowed = [judge(but(policy, voice=voice), request).allowed for voice in Voice]
    assert allowed == sorted(allowed)


@given(policies, requests)
def test_to_listen_takes_what_an_answer_takes(policy: RoomPolicy, request: Request) -> None:
    """Nothing is heard for somebody who would get no answer; where all voice is open, that is all."""
    policy, request = but(policy, answers=Answers.ALL), replace(request, unasked=False)
    answer = judge(policy, replace(request, deed=Deed.ANSWER))
    for deed in (Deed.TRANSCRIBE, Deed.SHOW_UNASKED):
        assert judge(policy, replace(request, deed=deed)).allowed <= answer.allowed
        assert judge(but(policy, voice=Voice.ALL), replace(request, deed=deed)) == answer


@pytest.mark.parametrize(
    ("voice", "asked", "unasked", "shown"),
    [
        (Voice.OFF, Code.VOICE_OFF, Code.UNASKED, Code.UNASKED),
        (Voice.ASKED, Code.ALLOWED, Code.UNASKED, Code.UNASKED),
        (Voice.NAMED, Code.ALLOWED, Code.ALLOWED, Code.UNASKED),
        (Voice.ALL, Code.ALLOWED, Code.ALLOWED, Code.ALLOWED),
    ],
)
def test_what_each_mode_lets_hear(voice: Voice, asked: Code, unasked: Code, shown: Code) -> None:
    """Listening when asked, listening to all, and writing all of it down are three things."""
    policy = but(OPEN, voice=voice)
    assert judge(policy, Request(Deed.TRANSCRIBE, ADA)).code is asked
    assert judge(policy, Request(Deed.TRANSCRIBE, ADA, unasked=True)).code is unasked
    assert judge(policy, Request(Deed.SHOW_UNASKED, ADA, unasked=True)).code is shown


@given(st.integers(0, 3 * LOOP_BUDGET))
def test_the_loop_budget_is_exact(recent: int) -> None:
    """The budget is spent by its last message, and the next one falls silent, command or question."""
    for deed in Deed:
        verdict = judge(OPEN, Request(deed, ADA, recent=recent, power=100))
        assert (verdict.code is Code.LOOP) == (recent > LOOP_BUDGET)


def test_quotas_do_not_count_commands() -> None:
    """Somebody without answers left can still stop, forget and ask why."""
    spent = but(OPEN, per_person_day=0, per_place_day=0)
    for deed in (Deed.COMMAND, Deed.STOP, Deed.FORGET_ROOM):
        assert judge(spent, Request(deed, ADA, power=100, owner=ADA)).allowed
    assert not judge(spent, Request(Deed.ANSWER, ADA)).allowed
