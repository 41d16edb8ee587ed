"""Policies, grants and requests for Hypothesis: few values each, so that they meet."""

from __future__ import annotations

from hypothesis import strategies as st

from policies.classes import Class
from policies.decide import LOOP_BUDGET, Deed, Request
from policies.document import Unreadable
from policies.grant import Direction, Grant, Status
from policies.room import Answers, Mode, Preview, RoomPolicy, Trust, Voice

ADA = "@ada:home"
CITY = "bot:city.example"
KEY, OTHER_KEY = "A" * 43, "B" * 43
DAY = 86_400_000

addresses = st.sampled_from([ADA, "@ben:home", "@eve:away:8448", "nobody", ""]) | st.text(max_size=12)
patterns = st.sampled_from(["*", "home", "away:8448", ADA, "@ben:home", "nobody"])
peers = st.sampled_from(["*", CITY, "bot:club.example"])
limits = st.none() | st.integers(0, 4)
classes = st.frozensets(st.sampled_from(Class))
policies = st.builds(
    RoomPolicy,
    askers=st.frozensets(patterns, max_size=4),
    min_power=st.sampled_from([-10, 0, 50, 100]),
    asker_trust=st.sampled_from(Trust),
    answers=st.sampled_from(Answers),
    voice=st.sampled_from(Voice),
    per_person_day=limits,
    per_place_day=limits,
    quiet=st.frozensets(
        st.sampled_from(["22:00-07:00", "00:00-12:00 Europe/Amsterdam", "07:00-07:00"]), max_size=2
    ),
    answer_words=st.none() | st.integers(5, 50),
    memory_messages=limits,
    memory_hours=limits,
    notes=st.frozensets(st.sampled_from(["*", "pool", "board"]), max_size=2),
    remote_model=st.booleans(),
    language=st.sampled_from(["", "nl"]),
    ask_peers=st.frozensets(peers, max_size=2),
    answer_peers=st.frozensets(peers, max_size=2),
    classes_out=classes,
    classes_in=classes,
    with_summary=st.booleans(),
    preview=st.sampled_from(Preview),
    voice_may_leave=st.booleans(),
    max_hops=st.integers(0, 3),
    peer_per_day=limits,
    peer_per_person_day=limits,
    mode=st.sampled_from(Mode),
    voting_hours=st.integers(1, 200),
    min_member_hours=st.integers(0, 200),
    trial_days=st.integers(0, 180),
    term_days=st.integers(1, 180),
)
grants = st.builds(
    Grant,
    v=st.just(1),
    peer=st.just(CITY),
    app_ed25519=st.sampled_from(["", KEY, OTHER_KEY]),
    direction=st.sampled_from(Direction),
    classes=classes,
    notes=st.frozensets(st.sampled_from(["pool", "board"])),
    per_day=limits,
    not_before=st.sampled_from([0, 10 * DAY]),
    until=st.sampled_from([5 * DAY, 100 * DAY]),
    status=st.sampled_from(Status),
)
unreadable = st.just(Unreadable("v", "should be 1"))
held = st.dictionaries(st.sampled_from([CITY, "bot:club.example"]), grants | unreadable, max_size=2)
times = st.sampled_from([0, 7 * DAY, 50 * DAY, 120 * DAY, -1, 10**18])
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
    policy_power=st.sampled_from([0, 50, 100]),
    ruled_by_members=st.booleans(),
    remote_model=st.booleans(),
    trust=st.sampled_from(Trust),
    admin=st.booleans(),
    collection=st.sampled_from(["pool", "board", "*", ""]),
    peer=st.sampled_from([CITY, "bot:club.example", "*", ""]) | st.text(max_size=8),
    peer_key=st.sampled_from([KEY, OTHER_KEY, ""]),
    cls=st.none() | st.sampled_from(Class),
    screened=classes,
    summary=st.booleans(),
    spoken=st.booleans(),
    hops=st.integers(0, 4),
    peer_today=st.integers(0, 6),
    peer_person_today=st.integers(0, 6),
)
