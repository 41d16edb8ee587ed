"""The pure decisions of the router: whatever came before, what is planned makes the answer true."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from bots.conversation import Message, Person, Place, PlaceKind, Redact, Revise, Role, Say, Turn, TurnKind
from bridge.answer import (
    CHAT,
    PROGRESS_EDITS,
    STEWARD,
    STOP,
    judge,
    lane_of,
    needs_no_request,
    next_edit,
    owner_to_stop,
    plan,
    request_for,
    say,
    speaks,
)
from bridge.journal import Admission, Claimed, Counters, Known
from bridge.platform import Event, EventKind, PlaceFacts
from policies.decide import Code, Deed, Verdict

if TYPE_CHECKING:
    from typing import Any

OWN = "@hearth:home"
ADA = Person("@ada:home", "Ada")
PLACE = Place(OWN, "!r", PlaceKind.GROUP)
NOTHING = Known(None, replies_to_us=False, waiting_turn=None)


def turn(kind: TurnKind = TurnKind.MESSAGE, place: Place = PLACE, **message: Any) -> Turn:
    return Turn(1, kind, place, "$q", Message("$q", ADA, "Hello?", **message), "chat")


def event(text: str = "Hello", kind: EventKind = EventKind.MESSAGE, **more: Any) -> Event:
    return Event("$e", "!r", kind, ADA, 1, text=text, **more)


def judged(one: Event, known: Known = NOTHING) -> Admission:
    return judge(one, known, own_id=OWN, own_name="Hearth")


# -- plan ------------------------------------------------------------------------------------------

words = st.lists(st.text("abc", min_size=1, max_size=3), max_size=4)


@given(parts=words, draft=st.booleans(), before=words, notice=st.booleans())
def test_a_plan_makes_the_visible_parts_the_answer(
    *, parts: list[str], draft: bool, before: list[str], notice: bool
) -> None:
    """Whatever stands (nothing, a draft, an answer), after the plan exactly `parts` are visible, in order."""
    standing = ["a draft"] if draft else before
    visible = {f"key {index}": text for index, text in enumerate(standing)}
    keys = list(visible)
    planned = plan(
        turn(), parts, notice=notice, draft_key=keys[0] if draft else None, said=() if draft else keys
    )
    for number, keyed in enumerate(planned):
        match keyed.action:
            case Say() as say:
                visible[f"new {number}"] = say.text
            case Revise() as revise:
                visible[revise.target] = revise.text
            case Redact() as redact:
                del visible[redact.target]
    assert list(visible.values()) == parts


@given(parts=words, draft=st.booleans(), before=words)
def test_the_actions_of_a_plan_have_keys_of_their_own(
    *, parts: list[str], draft: bool, before: list[str]
) -> None:
    """No two actions share role and index, and none takes that of draft 0 while a draft stands."""
    planned = plan(turn(), parts, draft_key="k" if draft else None, said=[] if draft else before)
    marks = [(keyed.role, keyed.index) for keyed in planned]
    assert len(set(marks)) == len(marks)
    assert not draft or (Role.ANSWER, 0) not in marks


def test_a_long_answer_calls_the_asker_once() -> None:
    """In a room of many only the first part mentions, in a conversation of two nothing does."""
    mentions = [keyed.action.mentions for keyed in plan(turn(), ["a", "b", "c"])]  # type: ignore[union-attr]
    assert mentions == [(ADA.id,), (), ()]
    two = turn(place=Place(OWN, "!d", PlaceKind.DIRECT))
    assert say(two, "a").mentions == ()


def test_words_belong_where_they_were_asked_for() -> None:
    """An answer replies to its question, in its thread; a greeting replies to nobody and calls nobody."""
    assert say(turn(thread="$t"), "a") == Say("a", reply_to="$q", thread="$t", mentions=(ADA.id,))
    assert say(turn(TurnKind.WELCOME), "a") == Say("a")
    assert say(turn(), "a", notice=True) == Say("a", reply_to="$q", notice=True)


# -- judge -----------------------------------------------------------------------------------------


def test_what_is_ours() -> None:
    """A mention, a reply to us and the reply that a turn waits for are work; other talk is context."""
    lane = lane_of("!r", None)
    assert judged(event(addressed=True)) == Admission(CHAT, lane)
    assert judged(event(), Known(None, replies_to_us=True, waiting_turn=None)) == Admission(CHAT, lane)
    assert judged(event(), Known(None, replies_to_us=False, waiting_turn=3)) == Admission(CHAT, lane)
    assert judged(event()) == Admission()
    assert judged(event("  \n", addressed=True)) == Admission()


def test_commands() -> None:
    """Known commands need no mention, unknown ones do; `!stop` is a control and never waits in a lane."""
    lane = lane_of("!r", None)
    assert judged(event("!help")) == Admission(STEWARD, lane)
    assert judged(event("!dance")) == Admission()
    assert judged(event("!dance", addressed=True)) == Admission(STEWARD, lane)
    assert judged(event("!stop")) == Admission(control=STOP)


def test_joining_is_work_unless_it_is_history() -> None:
    """A room that we join is greeted; one that we were in before the first start is not."""
    assert judged(event("", EventKind.JOINED)).bot == STEWARD
    assert judged(event("", EventKind.JOINED, context_only=True)) == Admission()


@given(st.text(), st.none() | st.text(min_size=1), st.text(), st.none() | st.text(min_size=1))
def test_lanes_do_not_meet(place: str, thread: str | None, other: str, other_thread: str | None) -> None:
    """Two places or threads never share a lane (Matrix ids hold no control characters)."""
    if all("\x1f" not in (one or "") for one in (place, thread, other, other_thread)):
        assert (lane_of(place, thread) == lane_of(other, other_thread)) == (
            (place, thread) == (other, other_thread)
        )


# -- requests and refusals -------------------------------------------------------------------------


def test_a_request_says_who_asks_for_what() -> None:
    """The facts of the claimed turn reach the policy unchanged; a command is its own deed."""
    counters = Counters(asked_today=3, place_today=5, recent=2, loop_notices=0)
    claimed = Claimed(turn(), "lane", 0, 0, 70, PlaceFacts(PLACE), counters)
    request = request_for(claimed, max_age_ms=100)
    assert (request.deed, request.asker, request.asked_today) == (Deed.ANSWER, ADA.id, 3)
    assert (request.place_today, request.recent, request.age_ms, request.max_age_ms) == (5, 2, 70, 100)
    command = Turn(1, TurnKind.MESSAGE, PLACE, "$q", Message("$q", ADA, "!why"), STEWARD)
    assert request_for(Claimed(command, "l", 0, 0, 0, PlaceFacts(PLACE), counters), max_age_ms=None).deed == (
        Deed.COMMAND
    )


def test_only_greetings_and_deadlines_need_no_request() -> None:
    """Whatever a person caused is asked of the policy."""
    assert {kind for kind in TurnKind if needs_no_request(turn(kind))} == {
        TurnKind.WELCOME,
        TurnKind.DEADLINE,
    }


def test_which_refusals_are_said_aloud() -> None:
    """Silence for bots and for what is long past; a loop is told once; everything else is told."""
    silent = {code for code in Code if not speaks(Verdict(False, code, "r"), loop_notices=0)}
    assert silent == {Code.BOT, Code.EXPIRED}
    assert not speaks(Verdict(False, Code.LOOP, "r"), loop_notices=1)


# -- progress and !stop ----------------------------------------------------------------------------


def test_progress_edits_slow_down() -> None:
    """Never less than a second apart, each pause longer than the one before, a minute for all of them."""
    pauses = [next_edit(number) for number in range(PROGRESS_EDITS)]
    assert pauses[0] >= 1
    assert pauses == sorted(set(pauses))
    assert 45 < sum(pauses) < 90


people = st.sampled_from(["@ada:home", "@ben:home", "@cyd:home"])


@given(
    candidates=st.lists(st.tuples(st.integers(), people), unique_by=lambda one: one[0]),
    moderator=st.booleans(),
)
def test_who_is_stopped(*, candidates: list[tuple[int, str]], moderator: bool) -> None:
    """One's own turns first; a moderator without own ones, all; anybody else is asked about another's."""
    turns, owner = owner_to_stop(Message("$s", ADA, "!stop"), candidates, may_stop_others=moderator)
    own = tuple(turn for turn, asker in candidates if asker == ADA.id)
    if own:
        assert (turns, owner) == (own, ADA.id)
    elif not candidates:
        assert (turns, owner) == ((), None)
    else:
        assert owner != ADA.id
        assert len(turns) == (len(candidates) if moderator else 1)
