"""Chat: the answer streams, fits, and every failure of a model has its way."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bots
from bots import wording
from bots.base import Chunk, Draft, Reply, Waiting
from bots.chat import Chat, Persona, failure_of, parse_persona
from bots.prompt import FENCE_SENTENCE
from models.client import (
    ModelBusy,
    ModelError,
    ModelMisconfigured,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
)
from tests.bots.fakes import ADA, BEN, FakeTools, all_of, last_of, own, said, tokens, turn_of

PERSONA = Persona("Hearth", f"You are Hearth. {FENCE_SENTENCE}", max_tokens=50, context_messages=40)
PERSONAS = Path(bots.__file__).parent / "personas"
ASKED = turn_of(said(1, ADA, "Hearth: hello"))


async def test_drafts_grow_into_the_reply() -> None:
    """Each piece shows the answer so far, whole, and the reply has the sizes but none of the text."""
    tools = FakeTools(
        (
            Chunk(position=2),
            Chunk(position=0),
            Chunk("Hel"),
            Chunk("lo."),
            Chunk(usage={"prompt_tokens": 61, "completion_tokens": 2}),
            Chunk(finish="stop"),
        )
    )
    everything = await all_of(Chat(PERSONA), ASKED, tools)
    assert everything == [
        Waiting(2),
        Waiting(0),
        Draft("Hel"),
        Draft("Hello."),
        Reply(
            "Hello.",
            features={
                "prompt_tokens": 61,
                "context_left_out": 0,
                "completion_tokens": 2,
                "characters": 6,
                "finish": "stop",
            },
        ),
    ]
    assert tools.prompts == [
        [{"role": "system", "content": PERSONA.text}, {"role": "user", "content": "Ada: hello"}]
    ]
    assert (tools.max_tokens, tools.closed) == (50, 1)


async def test_a_model_that_goes_on_for_others_is_stopped() -> None:
    """The answer ends before the forged line, and the stream is closed there."""
    tools = FakeTools((Chunk("Yes.\n"), Chunk("Ada: more"), ModelTimeout("never asked for")))
    reply = await last_of(Chat(PERSONA), ASKED, tools)
    assert (reply.text, reply.features["finish"], tools.closed) == ("Yes.", "cut", 1)


async def test_an_answer_that_was_not_finished_shows_it() -> None:
    """Where the longest answer was reached, the end is marked."""
    reply = await last_of(Chat(PERSONA), ASKED, FakeTools((Chunk("Once upon"), Chunk(finish="length"))))
    assert reply.text == "Once upon …"


async def test_an_empty_answer_is_said_honestly() -> None:
    """No words of the model: words of ours, and no draft."""
    everything = await all_of(Chat(PERSONA), ASKED, FakeTools((Chunk(" \n"), Chunk(finish="stop"))))
    assert len(everything) == 1
    assert isinstance(everything[0], Reply)
    assert everything[0].text == wording.no_words()


@pytest.mark.parametrize("error", [ModelBusy("full"), ModelUnavailable("gone"), ModelTimeout("slow")])
async def test_what_may_pass_goes_to_the_router(error: ModelError) -> None:
    """Errors that may pass propagate, also in the middle of an answer, with the stream closed."""
    for chunks in ((error,), (Chunk("Hel"), error)):
        tools = FakeTools(chunks)
        with pytest.raises(type(error)):
            await all_of(Chat(PERSONA), ASKED, tools)
        assert tools.closed == 1


@pytest.mark.parametrize(
    "error", [ModelRefused("context_length_exceeded", "4097"), ModelMisconfigured("model.path", "set it")]
)
async def test_what_will_not_pass_becomes_words(error: ModelError) -> None:
    """A refused or misconfigured model ends the turn with what to do next."""
    reply = await last_of(Chat(PERSONA), ASKED, FakeTools((error,)))
    assert reply.text == wording.failed(failure_of(error).value)
    assert reply.features["failure"] == failure_of(error).value


def test_every_model_error_has_a_failure() -> None:
    """No family of errors falls through to `internal` but the unknown."""
    families = {family.__name__ for family in ModelError.__subclasses__()}
    errors = [ModelBusy(""), ModelUnavailable(""), ModelTimeout(""), ModelRefused("", "")]
    errors.append(ModelMisconfigured("", ""))
    assert {type(error).__name__ for error in errors} == families
    assert len({failure_of(error) for error in errors}) == len(families)
    assert failure_of(ModelError("")) is wording.Failure.INTERNAL


talk = st.lists(
    st.tuples(st.sampled_from(["ada", "ben", "own"]), st.text("abc <>/\n:", max_size=60)), max_size=30
)


@given(talk, st.integers(40, 400), st.text("word ", max_size=200))
async def test_prompt_and_answer_always_fit(context: list[tuple[str, str]], size: int, question: str) -> None:
    """The model is asked only for what fits, the most recent is kept, and one message more would not fit."""
    people = {"ada": ADA, "ben": BEN}
    messages = [
        own(at, text) if who == "own" else said(at, people[who], text)
        for at, (who, text) in enumerate(context)
    ]
    turn = turn_of(said("q", ADA, f"Q {question}"), messages)
    tools = FakeTools(context=size)
    chat = Chat(PERSONA)
    reply = await last_of(chat, turn, tools)
    assert len(tools.counted) <= 3 + len(messages).bit_length()
    if not tools.prompts:
        alone = chat._transcript(turn_of(turn.message)).messages()
        assert tokens(alone) + min(50, size // 4) > size
        assert reply.features["failure"] == "too_long"
        return
    assert tokens(tools.prompts[0]) + tools.max_tokens <= size
    assert reply.features.get("prompt_tokens", tokens(tools.prompts[0])) == tokens(tools.prompts[0])
    left_out = reply.features["context_left_out"]
    assert isinstance(left_out, int)
    transcript = chat._transcript(turn)
    assert tools.prompts[0] == transcript.messages(left_out)
    for earlier in range(left_out):
        assert tokens(transcript.messages(earlier)) + tools.max_tokens > size


async def test_a_60_kb_message_costs_no_model_call() -> None:
    """A question that cannot fit is told how long it may be; neither model nor tokenizer is bothered."""
    tools = FakeTools(context=4096)
    reply = await last_of(Chat(PERSONA), turn_of(said(1, ADA, "x" * 60_000)), tools)
    assert reply.text == wording.too_long(60_000, 11_000)
    assert (tools.prompts, tools.counted) == ([], [])


async def test_the_length_that_is_named_does_fit() -> None:
    """Who shortens the question to what was said gets an answer."""
    tools = FakeTools(context=200)
    reply = await last_of(Chat(PERSONA), turn_of(said(1, ADA, "ab " * 300)), tools)
    assert not tools.prompts
    limit = int(reply.text.split("about ")[1].split(" fit")[0].replace(",", ""))
    await last_of(Chat(PERSONA), turn_of(said(1, ADA, ("ab " * 300)[:limit])), tools)
    assert len(tools.prompts) == 1


async def test_a_huge_message_of_somebody_else_is_left_out() -> None:
    """What others paste never keeps a question from its answer, and is tokenised rarely."""
    paste = [said(at, BEN, "x " * 30_000) for at in range(10)]
    tools = FakeTools(context=4096)
    reply = await last_of(
        Chat(PERSONA), turn_of(said("q", ADA, "hello"), [*paste, said("l", BEN, "hm")]), tools
    )
    assert reply.text == "Yes."
    assert tools.prompts[0][-1]["content"] == "<room>\nBen: hm\n</room>\nAda: hello"
    assert max((tokens(one) for one in tools.counted), default=0) < 40_000


async def test_the_persona_bounds_the_context() -> None:
    """No more earlier messages than the persona says; none where it says 0."""
    turn = turn_of(said("q", ADA, "hello"), [said(1, BEN, "one"), said(2, BEN, "two")])
    for count, content in ((1, "<room>\nBen: two\n</room>\nAda: hello"), (0, "Ada: hello")):
        tools = FakeTools()
        await last_of(Chat(Persona("Hearth", "x", context_messages=count)), turn, tools)
        assert tools.prompts[0][-1]["content"] == content


@pytest.mark.parametrize("path", sorted(PERSONAS.glob("*.toml")), ids=lambda path: path.stem)
def test_each_persona_that_ships_reads(path: Path) -> None:
    """Its text is one line, names the bot, and has the sentence about fences that the small model knows."""
    persona = parse_persona(path.read_text(encoding="utf-8"))
    assert FENCE_SENTENCE in persona.text
    assert persona.text.startswith(f"You are {persona.name}, ")
    assert "\n" not in persona.text


def test_three_personas_ship() -> None:
    """Family, city and plain."""
    assert sorted(path.stem for path in PERSONAS.glob("*.toml")) == ["city", "family", "plain"]


def test_a_persona_without_the_sentence_gets_it() -> None:
    """Whoever writes a persona cannot forget what guards the room."""
    chat = Chat(Persona("Hearth", "You are Hearth."))
    assert chat._transcript(ASKED).messages()[0]["content"] == f"You are Hearth. {FENCE_SENTENCE}"


def test_a_persona_knows_words() -> None:
    """The names and terms that the speech model is told of are read as they are spelled."""
    persona = parse_persona('name = "H"\ntext = "x"\nwords = ["Elmfield", "Frau Nußbaum"]')
    assert persona.words == ("Elmfield", "Frau Nußbaum")


@pytest.mark.parametrize(
    ("toml", "what"),
    [
        ("", "'name' is missing"),
        ('name = "H"', "'text' is missing"),
        ('name = 3\ntext = "x"', "'name' must be text"),
        ('name = "H"\ntext = "x"\nmax_token = 3', "unknown key 'max_token'"),
        ('name = "H"\ntext = "x"\nmax_tokens = 0', "'max_tokens' must be"),
        ('name = "H"\ntext = "x"\ncontext_messages = true', "'context_messages' must be"),
        ('name = "H"\ntext = "x"\nwords = "Elmfield"', "'words' must be a list"),
        ('name = "H"\ntext = "x"\nwords = [1]', "'words' must be a list"),
        ("name = ", "Invalid value"),
    ],
)
def test_a_bad_persona_says_what_is_wrong(toml: str, what: str) -> None:
    """One kind of error, which names the key."""
    with pytest.raises(ValueError, match=what):
        parse_persona(toml)
