"""Words: complete, harmless, and with something to do next."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bots import wording, wording_voice
from bots.base import Decided, Status
from bots.commands import Command, CommandName
from bridge.journal import Outcome
from bridge.journal.rows import ActionState, TurnState
from policies.verdict import Code, Verdict

STATUS = Status(
    version="0.1.0",
    model="hearth-tiny.gguf",
    model_is_bundled=True,
    model_ready=True,
    pending=1,
    running=1,
    undelivered=0,
    parked=0,
    sealed=0,
    retention_days=30,
    encrypted=True,
)
PARAMS = st.dictionaries(
    st.sampled_from(["limit", "seconds", "asker", "minutes", "other"]), st.integers() | st.text(max_size=80)
)


@pytest.mark.parametrize("code", list(Code))
@given(params=PARAMS, remedy=st.sampled_from([*wording.REMEDIES, "", "unheard of"]))
def test_every_code_has_words(code: Code, params: dict[str, int | str], remedy: str) -> None:
    """Whatever the parameters of a verdict, there is a sentence, never an error or a placeholder."""
    words = wording.refusal(Verdict(code is Code.ALLOWED, code, "some.rule", params, remedy))
    assert words.endswith(".")
    if not params:
        assert "{" not in words


@given(st.text())
def test_a_users_text_pings_nobody(text: str) -> None:
    """What a user wrote stands in one code span on one line, which it cannot leave."""
    for attack in (
        text,
        f"`{text}`",
        f"@room {text}",
        f"[x](https://matrix.to/#/@ada:home) {text}",
        f"\n{text}",
    ):
        shown = wording.quoted(attack)
        assert shown[0] == shown[-1] == "`"
        assert shown.count("`") == 2
        assert "\n" not in shown
        assert len(shown) <= wording.QUOTED + 2
        assert "@room" not in shown.lower().split()


def test_a_refused_address_is_quoted() -> None:
    """The one refusal that repeats an address cannot be used to call somebody."""
    verdict = Verdict(False, Code.NOT_AN_ASKER, "policy.askers", {"asker": "@room"}, "ask_admin")
    assert "@room" not in wording.refusal(verdict)
    assert "`@ room`" in wording.refusal(verdict)


@pytest.mark.parametrize("failure", list(wording.Failure))
def test_every_failure_has_a_remedy(failure: wording.Failure) -> None:
    """Each failure says what happened and what to do next."""
    words = wording.failed(failure.value)
    assert words == wording.FAILURES[failure]
    assert "Please" in words or "Whoever runs me" in words


@given(st.text())
def test_an_unheard_of_failure_is_internal(reason: str) -> None:
    """A code of tomorrow still gets words."""
    assert wording.failed(f"x{reason}") == wording.FAILURES[wording.Failure.INTERNAL]


@given(st.sampled_from(TurnState), st.none() | st.sampled_from(Outcome), st.none() | st.sampled_from(Code))
@settings(max_examples=400)
def test_why_always_says_something(state: TurnState, outcome: Outcome | None, code: Code | None) -> None:
    """Every state, outcome and code of the journal has words of its own in `!why`."""
    verdict = None if code is None else Verdict(code is Code.ALLOWED, code, "policy.askers", {"limit": 3})
    decided = Decided(state.value, verdict, None if outcome is None else outcome.value, tuple(ActionState), 1)
    words = wording.why(decided)
    assert "Its state is" not in words
    assert outcome is None or wording.OUTCOMES[outcome] in words or state is TurnState.PARKED
    assert ("`policy.askers`" in words) == (verdict is not None)
    assert "1 sent" in words
    assert "twice" in words


def test_the_words_of_why() -> None:
    """`!why` says what was decided, by which rule and what would change it."""
    verdict = Verdict(False, Code.PERSON_QUOTA, "policy.per_person_day", {"limit": 5}, "tomorrow")
    assert wording.why(Decided("settled", verdict, "refused", ("sent",))) == (
        "It was not answered. It was refused by the rule `policy.per_person_day`. "
        "You have had your 5 answers of the last 24 hours. "
        "Older answers stop counting after 24 hours; whoever runs me can raise the number in the settings. "
        "Messages of mine: 1 sent."
    )


def test_status_says_that_the_bundled_model_is_a_toy() -> None:
    """Where the model is the bundled one, status says so and how to get a real one; else not a word of it."""
    assert "toy" in wording.status(STATUS)
    assert "`[model]` in `hearth.toml`" in wording.status(STATUS)
    assert "toy" not in wording.status(replace(STATUS, model_is_bundled=False))


def test_status_says_what_listens() -> None:
    """Voice is off, or a speech model is named; the bundled one is called a toy."""
    assert "I do not listen" in wording.status(STATUS)
    real = replace(STATUS, model_is_bundled=False, speech_model="small", speech_ready=True)
    assert "speech model: `small` (ready)" in wording.status(real)
    assert "toy" not in wording.status(real)
    bundled = wording.status(replace(real, speech_is_bundled=True, speech_ready=False))
    assert "toy" in bundled
    assert "under `[speech]` in `hearth.toml`" in bundled
    assert "speech model: `small` (not running" in bundled


@given(st.text(max_size=40))
def test_whatever_cannot_be_heard_has_words(code: str) -> None:
    """Each code says what to do next, and one of tomorrow is not a bare code."""
    assert wording_voice.hearing_failed(f"x{code}") == wording_voice.HEARING["model_refused"]
    assert wording_voice.hearing_failed("too_large") == wording_voice.HEARING["audio_too_large"]
    for known, words in wording_voice.HEARING.items():
        assert wording_voice.hearing_failed(known) == words
        assert "Please" in words or "Whoever runs me" in words


@pytest.mark.parametrize(
    ("done", "total", "words"),
    [
        (0.0, 60.0, "I am listening."),
        (0.0, 60.1, "I am listening: 0 of 2 min."),
        (750.0, 2820.0, "I am listening: 12 of 47 min."),
        (2820.0, 2820.0, "I am listening: 47 of 47 min."),
    ],
)
def test_listening_counts_minutes(done: float, total: float, words: str) -> None:
    """Whoever waits for a long recording sees the minutes that are done and those there are."""
    assert wording_voice.listening(done, total) == words


def test_status_names_what_is_stuck() -> None:
    """What is parked, sealed or undelivered shows when there is some, and only then."""
    stuck = wording.status(replace(STATUS, parked=2, sealed=3, undelivered=4, model_ready=False))
    for words in ("failing: 2", "key yet: 3", "server: 4", "not running"):
        assert words in stuck
        assert words not in wording.status(STATUS)


@given(st.text(max_size=30), st.booleans(), st.booleans(), st.integers(1, 400), st.booleans(), st.booleans())
def test_the_welcome_says_what_it_owes(
    name: str,
    encrypted: bool,  # noqa: FBT001 - drawn by Hypothesis, as are the others
    direct: bool,  # noqa: FBT001 - as above
    days: int,
    hears: bool,  # noqa: FBT001 - as above
    hears_all: bool,  # noqa: FBT001 - as above
) -> None:
    """One message: what is read and heard, what is kept and for how long, how to stop it."""
    words = wording.welcome(
        name, retention_days=days, encrypted=encrypted, direct=direct, hears=hears, hears_all=hears_all
    )
    assert ("every voice message" in words) == hears_all
    assert ("never the sound" in words) == (hears or hears_all)
    for owed in ("I read", f"{days} day", "`!forget`", "removing me", "`!help`"):
        assert owed in words
    assert ("mention me" in words) != direct
    assert len(words) < 700


def test_help_names_every_command() -> None:
    """A command that nobody is told about does not exist."""
    for name in CommandName:
        assert (f"`!{name.value}`" in wording.help_words()) == (name is not CommandName.UNKNOWN)


@pytest.mark.parametrize(("position", "words"), [(0, "next"), (1, "1 question is"), (2, "2 questions are")])
def test_waiting_counts(position: int, words: str) -> None:
    """People who wait are told how many are before them."""
    assert words in wording.waiting(position)


def test_an_unknown_command_is_quoted_with_its_guess() -> None:
    """What was typed, what was meant, and where to look."""
    assert wording.unknown_command(Command(CommandName.UNKNOWN, "hlep", "help")) == (
        "I do not know `!hlep`. Did you mean `!help`? `!help` shows what I understand."
    )
