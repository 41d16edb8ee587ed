"""`decide`: total, default deny, and stricter facts never allow more."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.decide import LOOP_BUDGET, MODERATOR_POWER, Code, Deed, Request, Verdict, decide
from policies.room import RoomPolicy, Voice

if TYPE_CHECKING:
    from collections.abc import Callable

ADA = "@ada:home"
OPEN = RoomPolicy(askers=frozenset({"*"}), voice=Voice.ALL)

addresses = st.sampled_from([ADA, "@ben:home", "@eve:away:8448", "nobody", ""]) | st.text(max_size=12)
patterns = st.sampled_from(["*", "home", "away:8448", ADA, "@ben:home", "nobody", ""])
limits = st.none() | st.integers(0, 4)
policies = st.builds(
    RoomPolicy,
    askers=st.frozensets(patterns, max_size=4),
    per_person_day=limits,
    per_place_day=limits,
    voice=st.sampled_from(Voice),
)
requests = st.builds(
    Request,
    deed=st.sampled_from(Deed),
    asker=addresses,
    asker_is_bot=st.booleans(),
    power=st.integers(-10, 110),
    direct=st.booleans(),
    asked_today=st.integers(0, 6),
    place_today=st.integers(0, 6),
    recent=st.integers(0, 2 * LOOP_BUDGET),
    age_ms=st.integers(0, 10_000_000),
    max_age_ms=st.none() | st.integers(0, 10_000_000),
    owner=st.none() | addresses,
    unasked=st.booleans(),
)


def judge(policy: RoomPolicy, request: Request) -> Verdict:
    return decide(policy, (), request, 0)


@given(policies, requests)
def test_every_verdict_names_its_rule(policy: RoomPolicy, request: Request) -> None:
    """`decide` is total: it never raises, and `allowed` and the code always agree."""
    verdict = judge(policy, request)
    assert verdict.allowed == (verdict.code is Code.ALLOWED)
    assert verdict.rule


@given(policies, requests, st.text())
def test_an_unknown_deed_is_refused(policy: RoomPolicy, request: Request, deed: str) -> None:
    """What no rule allows is denied, whoever asks."""
    unknown = cast("Deed", f"x-{deed}")
    assert not judge(policy, replace(request, deed=unknown)).allowed


@given(policies, requests)
def test_fewer_askers_never_allow_more(policy: RoomPolicy, request: Request) -> None:
    """Taking any one asker out of the policy turns no refusal into a permission."""
    for asker in policy.askers:
        less = replace(policy, askers=policy.askers - {asker})
        assert judge(policy, request).allowed >= judge(less, request).allowed


@given(policies, requests, limits, limits)
def test_lower_quotas_never_allow_more(
    policy: RoomPolicy, request: Request, person: int | None, place: int | None
) -> None:
    """Meeting the policy with any quota turns no refusal into a permission."""
    stricter = policy.meet(RoomPolicy(policy.askers, person, place, Voice.ALL))
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
    Code.NOT_AN_ASKER: (RoomPolicy(), Request(Deed.ANSWER, ADA)),
    Code.PERSON_QUOTA: (replace(OPEN, per_person_day=2), Request(Deed.ANSWER, ADA, asked_today=2)),
    Code.PLACE_QUOTA: (replace(OPEN, per_place_day=2), Request(Deed.ANSWER, ADA, place_today=2)),
    Code.VOICE_OFF: (replace(OPEN, voice=Voice.OFF), Request(Deed.TRANSCRIBE, ADA)),
    Code.UNASKED: (replace(OPEN, voice=Voice.ASKED), Request(Deed.TRANSCRIBE, ADA, unasked=True)),
    Code.NOT_YOURS: (OPEN, Request(Deed.STOP, ADA, owner="@ben:home")),
    Code.NOT_A_MODERATOR: (OPEN, Request(Deed.FORGET_ROOM, ADA)),
    Code.EXPIRED: (OPEN, Request(Deed.COMMAND, ADA, age_ms=2, max_age_ms=1)),
    Code.UNKNOWN: (OPEN, Request(cast("Deed", "dance"), ADA)),
}


ROOMS = {Code.UNREADABLE}
"""Codes of a room's own document: `test_document`."""
RECORDED = {Code.WITHDRAWN, Code.STOPPED, Code.FAILED}
"""Codes that the journal and the router write down themselves, when a turn ends without an answer."""


def test_every_code_has_a_case() -> None:
    """A new code needs a request that leads to it, or must be one that is only recorded."""
    assert CASES.keys() | RECORDED | ROOMS == set(Code)
    assert not CASES.keys() & RECORDED


@pytest.mark.parametrize("code", list(CASES))
def test_every_code_is_reachable(code: Code) -> None:
    """There is a request for each code, so none of them is dead words."""
    policy, request = CASES[code]
    assert judge(policy, request).code is code


@pytest.mark.parametrize("deed", list(Deed))
def test_every_deed_can_be_allowed(deed: Deed) -> None:
    """No deed falls through to the default: an owner with power may do each of them."""
    request = Request(deed, ADA, power=MODERATOR_POWER, owner=ADA)
    assert judge(OPEN, request).allowed


@given(policies, requests)
def test_less_voice_never_allows_more(policy: RoomPolicy, request: Request) -> None:
    """Each stricter mode turns no refusal into a permission."""
    allowed = [judge(replace(policy, voice=voice), request).allowed for voice in Voice]
    assert allowed == sorted(allowed)


@given(policies, requests)
def test_to_listen_takes_what_an_answer_takes(policy: RoomPolicy, request: Request) -> None:
    """Nothing is heard for somebody who would get no answer; where all voice is open, that is all."""
    answer = judge(policy, replace(request, deed=Deed.ANSWER))
    for deed in (Deed.TRANSCRIBE, Deed.SHOW_UNASKED):
        assert judge(policy, replace(request, deed=deed)).allowed <= answer.allowed
        assert judge(replace(policy, voice=Voice.ALL), replace(request, deed=deed)) == answer


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
    policy = replace(OPEN, voice=voice)
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
    spent = RoomPolicy(frozenset({"*"}), per_person_day=0, per_place_day=0)
    for deed in (Deed.COMMAND, Deed.STOP, Deed.FORGET_ROOM):
        assert judge(spent, Request(deed, ADA, power=100, owner=ADA)).allowed
    assert not judge(spent, Request(Deed.ANSWER, ADA)).allowed
