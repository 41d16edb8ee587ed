"""Real llama.cpp: prompts, prefixes, cancellation, characters, and files that are not models."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.client import ModelRefused
from models.engine import LlamaEngine, Writer, shared
from models.prompt import ChatTemplate, alternating
from models.protocol import Done, Piece, Progress, Prompt, Unloadable, Wish
from tests.models.conftest import Serving, user, whole
from tests.models.gguf_file import CHATML, END, SPECIAL, START, write_model

if TYPE_CHECKING:
    from pathlib import Path

GREEDY = Wish(max_tokens=24, temperature=0.0)


@pytest.fixture(scope="module")
def engine(tiny: Path) -> LlamaEngine:
    return LlamaEngine(tiny, threads=1)


def answer(engine: LlamaEngine, prompt: Prompt, wish: Wish = GREEDY) -> tuple[str, Done]:
    heard = list(engine.generate(prompt, wish, threading.Event()))
    assert isinstance(heard[-1], Done)
    return "".join(piece.text for piece in heard if isinstance(piece, Piece)), heard[-1]


# -- what people write is never a special token ----------------------------------------------------


@given(st.text(), st.lists(st.sampled_from([*SPECIAL, "<think>", "<|im_", "start|>", "<", "x", " "])))
def test_special_tokens_in_words_are_inert(engine: LlamaEngine, text: str, bits: list[str]) -> None:
    """Whatever a person writes, the prompt holds only the special tokens of the template itself."""
    said = text.encode("utf-8", "replace").decode() + "".join(bits)
    prompt = engine.prepare([{"role": "user", "content": said}])
    thought = 259
    assert [t for t in prompt.tokens if t in {0, 1, 2, thought}] == [START, END, START]
    written = b"".join(engine._bytes(token) for token in prompt.tokens)
    assert written.decode() == f"user\n{said}\nassistant\n"


def test_special_tokens_across_the_border_are_inert() -> None:
    """Words that complete a special token begun by the template do not make one."""
    template = ChatTemplate("<|im_{{ messages[0]['content'] }}", bos="", eos="", special=SPECIAL)
    parts = template.parts(user("start|>"))
    assert [part.text for part in parts if part.special] == ["<|im_"]
    assert "".join(part.text for part in parts) == "<|im_start|>"


def test_harmless_words_are_one_part_with_the_template() -> None:
    """Ordinary words are tokenized together with what stands around them, as the whole text would be."""
    template = ChatTemplate(CHATML, bos="", eos="", special=SPECIAL)
    (part,) = template.parts(user("1 < 2, and a | b"))
    assert part.special
    assert part.text == "<|im_start|>user\n1 < 2, and a | b<|im_end|>\n<|im_start|>assistant\n"


def test_placeholders_cannot_be_forged() -> None:
    """The characters that mark placeholders are ordinary in what people write."""
    template = ChatTemplate(CHATML, bos="", eos="", special=SPECIAL)
    (part,) = template.parts([*user("\ue0000:1\ue001"), {"role": "assistant", "content": "secret"}])
    assert "\ue0000:1\ue001" in part.text
    assert part.text.count("secret") == 1


@pytest.mark.parametrize("source", ["[{{ messages[0]['content'] | trim }}]", "[{{ messages[0].content }}]"])
def test_a_template_that_trims_is_obeyed(source: str) -> None:
    """Blanks around the words are cut if and only if the template cuts them."""
    (part,) = ChatTemplate(source, bos="", eos="", special=()).parts(user(" x "))
    assert part.text == ("[x]" if "trim" in source else "[ x ]")


def test_a_template_that_knows_no_system() -> None:
    """Where a template wants user and assistant in turn, the system's words go into the first question."""
    source = (
        "{% for m in messages %}"
        "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('in turn') }}{% endif %}"
        "{{ m.role }}:{{ m.content }};{% endfor %}"
    )
    messages = [{"role": "system", "content": "S"}, *user("a", "b")]
    (part,) = ChatTemplate(source, bos="", eos="", special=()).parts(messages)
    assert part.text == "user:S\n\na\n\nb;"
    assert alternating(messages) == user("S\n\na\n\nb")


def test_a_template_cannot_reach_python() -> None:
    """The template comes with the file and runs in a sandbox."""
    source = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    with pytest.raises(Exception, match="template refuses"):
        ChatTemplate(source, bos="", eos="", special=()).parts(user("x"))


# -- what the model says ---------------------------------------------------------------------------


@given(
    st.text(max_size=30) | st.text("ab<", max_size=10),
    st.lists(st.text("ab<", min_size=1, max_size=4), max_size=3),
    st.data(),
)
def test_characters_are_never_split(text: str, stops: list[str], data: st.DataObject) -> None:
    """However bytes are cut into tokens, pieces are whole characters up to the first stop to be complete."""
    text = text.encode("utf-8", "replace").decode()
    raw = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    writer = Writer(stops)
    shown = ""
    for begin, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        piece = writer.write(raw[begin:end])
        piece.encode()  # whole characters
        shown += piece
        if writer.stopped:
            break
    shown += writer.rest()
    found = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    assert shown == (text[: min(found)[1]] if found else text)


def test_half_a_character_at_the_end_is_dropped() -> None:
    """An answer that ends within a character ends before it."""
    writer = Writer(())
    assert writer.write("né".encode()[:-1]) == "n"
    assert writer.rest() == ""


def test_the_context_is_at_most_the_models_own(tiny: Path) -> None:
    """More context than a model was trained on is not given: its answers there are noise."""
    for asked, held in ((0, 1024), (512, 512), (4096, 1024)):
        engine = LlamaEngine(tiny, context=asked)
        assert engine.context == held
        engine.close()


def test_greedy_and_seeds_repeat(engine: LlamaEngine) -> None:
    """Temperature 0 always says the same; with a temperature the seed decides."""
    prompt = engine.prepare(user("hello"))
    assert answer(engine, prompt)[0] == answer(engine, prompt)[0]
    warm = [answer(engine, prompt, Wish(max_tokens=24, temperature=1.5, seed=seed))[0] for seed in (1, 1, 2)]
    assert warm[0] == warm[1] != warm[2]


def test_limits(engine: LlamaEngine) -> None:
    """`max_tokens` and the context end an answer with `length`, a stop string with `stop`."""
    prompt = engine.prepare(user("x" * 900))
    text, done = answer(engine, prompt, Wish(max_tokens=5, temperature=0.0))
    assert (done.completion_tokens, done.finish) == (5, "length")
    _, full = answer(engine, prompt, Wish(temperature=0.0))
    assert full.prompt_tokens + full.completion_tokens == engine.context
    letters = [letter for letter in text if letter != "\ufffd"]
    stopped, done = answer(engine, prompt, Wish(temperature=0.0, stop=(letters[0],)))
    assert done.finish == "stop"
    assert stopped == text[: text.index(letters[0])]


@given(st.lists(st.text("ab", max_size=40), min_size=1, max_size=6), st.lists(st.sampled_from("pqrstu")))
def test_a_kept_prefix_changes_nothing(engine: LlamaEngine, texts: list[str], keys: list[str]) -> None:
    """Answers are the same whether the prompt's beginning was in the cache or not."""
    fresh: dict[str, str] = {}
    for number, text in enumerate(texts * 2):
        key = keys[number % len(keys)] if keys else ""
        prompt = engine.prepare([{"role": "system", "content": "p" * 60}, *user(text)])
        said, done = answer(engine, prompt, Wish(max_tokens=4, temperature=0.0, key=key))
        assert done.cached_tokens < prompt.size
        assert fresh.setdefault(text, said) == said


def test_prefixes_are_reused(engine: LlamaEngine) -> None:
    """A follow-up reads only what is new, and another room shares the persona that it begins with."""
    persona = {"role": "system", "content": "You live with a family. " * 10}
    first = engine.prepare([persona, *user("hello")])
    said, _ = answer(engine, first, Wish(max_tokens=8, temperature=0.0, key="room one"))
    follow = engine.prepare(
        [persona, *user("hello"), {"role": "assistant", "content": said}, *user("and then?")]
    )
    _, done = answer(engine, follow, Wish(max_tokens=8, temperature=0.0, key="room one"))
    assert done.cached_tokens >= shared(first.tokens, follow.tokens) == first.size
    other = engine.prepare([persona, *user("something else")])
    _, done = answer(engine, other, Wish(max_tokens=8, temperature=0.0, key="room two"))
    assert done.cached_tokens == shared(first.tokens, other.tokens) > 200
    _, done = answer(engine, follow, Wish(max_tokens=8, temperature=0.0, key="room one"))
    assert done.cached_tokens == follow.size - 1


def test_a_cancelled_prompt_is_gone_on_with(heavy: Path) -> None:
    """Cancelled during prefill, an engine stops after one batch, keeps what it read, and answers right."""
    engine = LlamaEngine(heavy, threads=1)
    try:
        prompt = engine.prepare(user("word " * 60))
        cancelled = threading.Event()
        heard = []
        for sign in engine.generate(prompt, GREEDY, cancelled):
            heard.append(sign)
            cancelled.set()
        assert [type(sign) for sign in heard] == [Progress]
        wish = Wish(max_tokens=4, temperature=0.0)
        resumed, done = answer(engine, prompt, wish)
        assert 0 < done.cached_tokens < prompt.size
        again, done = answer(engine, prompt, wish)
        assert (again, done.cached_tokens) == (resumed, prompt.size - 1)
    finally:
        engine.close()


# -- through the server ----------------------------------------------------------------------------


async def test_the_server_speaks_llama(serving: Serving, tiny: Path) -> None:
    """Through client and server: the text arrives whole, counts are exact, reuse shows in the usage."""
    messages = user("Grüße <|im_end|> 🙂")
    async with serving(tiny) as client:
        assert await client.context_size() == 1024
        count = await client.count_tokens(messages)
        text, usage, finish, _ = await whole(client.chat(messages, max_tokens=30, cache_key="k"))
        assert (finish, usage["prompt_tokens"], usage["completion_tokens"]) == ("length", count, 30)
        again, usage, _, _ = await whole(client.chat(messages, max_tokens=30, cache_key="k"))
        assert again == text
        assert usage["cached_tokens"] == count - 1
        with pytest.raises(ModelRefused) as refused:
            await whole(client.chat(user("x" * 2000), max_tokens=30))
        assert refused.value.code == "context_length_exceeded"


async def test_a_forgotten_conversation_is_read_anew(serving: Serving, tiny: Path) -> None:
    """After /forget nothing of a conversation is reused, and others are untouched."""
    async with serving(tiny) as client:
        for key in ("a", "b"):
            await whole(client.chat(user(key * 20), max_tokens=1, cache_key=key))
        await client.forget("a")
        cached = {}
        for key in ("a", "b"):
            _, usage, _, _ = await whole(client.chat(user(key * 20), max_tokens=1, cache_key=key))
            cached[key] = usage["cached_tokens"]
        size = await client.count_tokens(user("a" * 20))
        assert cached["b"] == size - 1
        assert cached["a"] < 10  # what both templates begin with


async def test_leaving_during_prefill_frees_the_model(serving: Serving, heavy: Path) -> None:
    """Closing while a long prompt is read lets the next answer begin at once.

    The measure is the time to the next request's first word, against the time that the machine
    needs to read the whole prompt.
    """
    loop = asyncio.get_running_loop()
    async with serving(heavy) as client:
        _, usage, _, _ = await whole(client.chat(user("measure " * 20), max_tokens=1))
        speed = usage["prompt_tokens"] / usage["prefill_seconds"]
        whole_prompt = 7500 / speed  # and more: attention grows with length
        leaving = asyncio.create_task(whole(client.chat(user("abcd " * 1500), max_tokens=5)))
        await asyncio.wait([leaving], timeout=whole_prompt / 10)
        assert not leaving.done()
        leaving.cancel()
        await asyncio.wait([leaving])
        left = loop.time()
        _, usage, _, _ = await whole(client.chat(user("x"), max_tokens=1))
        assert loop.time() - left < whole_prompt / 2
        assert usage["queue_seconds"] < whole_prompt / 4


async def test_leaving_during_decode_frees_the_model(serving: Serving, heavy: Path) -> None:
    """Closing after the first word of a long answer lets the next one begin at once."""
    async with serving(heavy) as client:
        stream = client.chat(user("x"), max_tokens=5000)
        while not (await anext(stream)).text:
            pass
        await stream.aclose()
        _, usage, _, _ = await whole(client.chat(user("y"), max_tokens=1))
        assert usage["queue_seconds"] < 2


# -- files that are not models ---------------------------------------------------------------------


def garbage(folder: Path, tiny: Path) -> dict[str, tuple[Path, str]]:
    files = {name: folder / f"{name}.gguf" for name in ("text", "empty", "header", "cut", "nothing")}
    files["text"].write_text("Dear diary, this is not a model.")
    files["empty"].touch()
    files["header"].write_bytes(b"GGUF" + b"\x03\0\0\0" + b"\xff" * 64)
    files["cut"].write_bytes(tiny.read_bytes()[:-4000])
    base = write_model(folder / "base.gguf", template=None)
    broken = write_model(folder / "broken.gguf", template="{% for")
    return {
        "text": (files["text"], "is not a GGUF model"),
        "empty": (files["empty"], "is not a GGUF model"),
        "header": (files["header"], "cannot load"),
        "cut": (files["cut"], "corrupted or incomplete"),
        "nothing": (files["nothing"], "cannot be read"),
        "folder": (folder, "cannot be read"),
        "base": (base, "no chat template"),
        "broken": (broken, "template is broken"),
    }


@pytest.mark.parametrize("kind", ["text", "empty", "header", "cut", "nothing", "folder", "base", "broken"])
def test_what_is_not_a_model_is_told(tmp_path: Path, tiny: Path, kind: str) -> None:
    """A file that cannot be used is named, with what is wrong and what to do."""
    path, what = garbage(tmp_path, tiny)[kind]
    with pytest.raises(Unloadable) as told:
        LlamaEngine(path)
    assert told.value.path == str(path)
    assert what in told.value.what
    assert told.value.remedy
    assert "\n" not in told.value.line()
