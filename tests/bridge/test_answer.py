"""The pure decisions of the router: whatever came before, what is planned makes the answer true."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from bots.conversation import (
    Attachment,
    Keyed,
    Message,
    Person,
    Place,
    PlaceKind,
    Redact,
    Revise,
    Role,
    Say,
    Turn,
    TurnKind,
    Upload,
    action_key,
)
from bridge.answer import (
    CHAT,
    PROGRESS_EDITS,
    SCRIBE,
    STEWARD,
    STOP,
    edit_is_due,
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
from policies.decide import Deed
from policies.room import Voice
from policies.verdict import Code, Verdict

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


def judged(one: Event, known: Known = NOTHING, voice: Voice = Voice.ASKED) -> Admission:
    return judge(one, known, own_id=OWN, own_name="Hearth", voice=voice)


def spoken(seconds: float | None = 9.0, size: int | None = None, event_id: str = "$e") -> Known:
    """What is known where `event_id` is a voice message, or points at one."""
    duration = None if seconds is None else int(seconds * 1000)
    sound = Attachment("mxc", "audio/ogg", size, duration_ms=duration, voice=True)
    return dataclasses.replace(NOTHING, about=Message(event_id, ADA, "", attachments=(sound,)))


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


def test_files_are_uploaded_then_shown() -> None:
    """Each file is put on the server and then shown by a message that names its key, calling nobody."""
    files = [Upload("a.srt", "text/plain", "1"), Upload("b.srt", "text/plain", "2")]
    planned = plan(turn(), ["words"], draft_key="draft", files=files)
    assert [one.action.kind for one in planned] == ["revise", "upload", "say", "upload", "say"]
    for number, (put, show) in enumerate(zip(planned[1::2], planned[2::2], strict=True)):
        assert put == Keyed(files[number], Role.FILE, number)
        key = action_key(OWN, "!r", "chat", "$q", Role.FILE, number)
        assert show == Keyed(Say(files[number].name, "$q", upload=key), Role.ANSWER, 1 + number)


# -- judge -----------------------------------------------------------------------------------------


def test_what_is_spoken() -> None:
    """Voice that is addressed to us is the scribe's; other voice only where the place wants it heard."""
    lane = lane_of("!r", None)
    message = event("")
    assert judged(dataclasses.replace(message, addressed=True), spoken()) == Admission(SCRIBE, lane)
    for voice, unasked in ((Voice.OFF, False), (Voice.ASKED, False), (Voice.NAMED, True), (Voice.ALL, True)):
        expected = Admission(SCRIBE, lane, unasked=True) if unasked else Admission()
        assert judged(message, spoken(), voice) == expected


def test_what_points_at_something_spoken() -> None:
    """An ear and the scribe's commands are work; another emoji is not, and a question about it is chat."""
    lane = lane_of("!r", None)
    known = spoken(event_id="$v")
    for text in ("\U0001f442", "\U0001f442\U0001f3fd"):
        assert judged(event(text, EventKind.REACTION), known) == Admission(SCRIBE, lane)
        assert judged(event(text, EventKind.REACTION)) == Admission()
    assert judged(event("\U0001f44d", EventKind.REACTION), known) == Admission()
    for text in ("!transcribe", "!transcript srt", "!summary"):
        assert judged(event(text), known) == Admission(SCRIBE, lane)
        assert judged(event(text)) == Admission(SCRIBE, lane)
    assert judged(event("What does he mean?", addressed=True), known) == Admission(CHAT, lane)


def test_a_recording_is_long_work() -> None:
    """Above a minute, or of unknown length and not small, it does not hold up the talk of its room."""
    for seconds, size, long in (
        (60, 9**9, False),
        (61, 9, True),
        (None, 500_000, False),
        (None, 500_001, True),
        (None, None, True),
    ):
        admission = judged(event("", addressed=True), spoken(seconds, size))
        assert admission == Admission(SCRIBE, lane_of("!r", None, long=long))


@given(ticks=st.lists(st.tuples(st.floats(0.1, 60), st.floats(0, 0.2)), max_size=200))
def test_progress_of_long_work_is_spread_over_it(ticks: list[tuple[float, float]]) -> None:
    """However the work goes, there are at most eleven edits, a second apart, never two in one twelfth."""
    done, since, shown = 0.0, 0.0, list[float]()
    for seconds, more in ticks:
        done, since = min(1.0, done + more), since + seconds
        if edit_is_due(len(shown), since, done):
            assert since >= 1
            shown.append(done)
            since = 0.0
    assert len(shown) <= PROGRESS_EDITS
    assert all(at * (PROGRESS_EDITS + 1) >= number for number, at in enumerate(shown, 1))


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
    assert judged(event("{}", EventKind.POLICY)).bot == STEWARD
    assert judged(event("{}", EventKind.POLICY, context_only=True)) == Admission()
    assert judged(event("{}", EventKind.POLICY, own=True)) == Admission()


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


def test_only_news_and_deadlines_need_no_request() -> None:
    """Whatever a person asks for is asked of the policy."""
    assert {kind for kind in TurnKind if needs_no_request(turn(kind))} == {
        TurnKind.WELCOME,
        TurnKind.POLICY,
        TurnKind.VERIFICATION,
        TurnKind.DEADLINE,
    }


def test_which_refusals_are_said_aloud() -> None:
    """Silence for bots and for what is long past; a loop is told once; everything else is told."""
    none = Counters(asked_today=0, place_today=0, recent=0, loop_notices=0)
    silent = {code for code in Code if not speaks(Verdict(False, code, "r"), none)}
    assert silent == {Code.BOT, Code.EXPIRED}
    assert not speaks(Verdict(False, Code.LOOP, "r"), dataclasses.replace(none, loop_notices=1))


def test_on_a_public_network_a_person_is_refused_aloud_so_many_times_a_day() -> None:
    """With a limit, what was told today counts, whatever the reason; without one it does not."""
    told = Counters(asked_today=0, place_today=0, recent=0, loop_notices=0, refused_today=1)
    refused = Verdict(False, Code.NOT_AN_ASKER, "policy.askers")
    assert speaks(refused, told)
    assert speaks(refused, told, refusals_per_day=2)
    assert not speaks(refused, told, refusals_per_day=1)


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
