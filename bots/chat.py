"""The bot that converses: a question and its context to the local model, and back as an answer.

Owns the persona and the token budget. Promises that prompt and answer fit the model's context by
its own tokenizer, and that a question which cannot fit costs no model call. Errors that may pass
(`ModelBusy`, `ModelUnavailable`, `ModelTimeout`) go to the router, which tries again; the others
become words.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, fields
from itertools import islice
from typing import TYPE_CHECKING, Final

from bots import wording
from bots.base import Draft, Reply, Waiting
from bots.commands import strip_mention
from bots.prompt import Transcript, first_answer, neutral
from models.client import (
    ModelBusy,
    ModelError,
    ModelMisconfigured,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
)
from policies.document import UNSET

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from bots.base import Tools
    from bots.conversation import Turn
    from policies.room import RoomPolicy

BYTES_PER_TOKEN: Final = 8
"""No ordinary text has more bytes a token on average, so bytes / 8 is a lower bound of its tokens."""

TEMPLATE_TOKENS: Final = 32
"""More than any chat template puts around one message; a template with a preamble of its own only
makes the answer a little shorter."""

CHARACTERS_PER_TOKEN: Final = 3
"""What people are told where their text was not tokenised: rather too few characters than too many."""

MARGIN: Final = 0.9
"""The template and the name take a little too; what we say fits must fit."""

ANSWER_SHARE: Final = 4
"""An answer takes at most a quarter of the context, whatever the persona says."""


@dataclass(frozen=True, slots=True)
class Persona:
    """Who the bot is: `text` is the system prompt, `max_tokens` the longest answer.

    `context_messages` is how many earlier messages it is shown at most; `greeting` may open a
    conversation in the terminal; `words` are names and terms that the speech model should know how
    to spell.
    """

    name: str
    text: str
    greeting: str = ""
    max_tokens: int = 512
    context_messages: int = 24
    words: tuple[str, ...] = ()


def parse_persona(toml: str) -> Persona:
    """A persona from the text of its TOML file. Raises `ValueError` that says what is wrong."""
    data = tomllib.loads(toml)
    known = {one.name for one in fields(Persona)}
    if unknown := sorted(set(data) - known):
        raise ValueError(f"unknown key {unknown[0]!r}; a persona has {', '.join(sorted(known))}")
    for key in ("name", "text"):
        if not str(data.get(key, "")).strip():
            raise ValueError(f"{key!r} is missing or empty")
    for key in ("name", "text", "greeting"):
        if not isinstance(data.get(key, ""), str):
            raise ValueError(f"{key!r} must be text")  # noqa: TRY004 - one kind of error for a bad file
    for key, least in (("max_tokens", 1), ("context_messages", 0)):
        value = data.get(key, least)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{key!r} must be a whole number from {least} on")
    words = data.get("words", [])
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError("'words' must be a list of text")
    data |= {"name": data["name"].strip(), "text": data["text"].strip(), "words": tuple(words)}
    return Persona(**data)


@dataclass(frozen=True, slots=True)
class _Prompt:
    """What is sent, and what it takes (None: less than fits, not counted)."""

    messages: list[dict[str, str]]
    max_tokens: int
    tokens: int | None
    left_out: int


class Chat:
    """Converse in the words of `persona`. `own_name` is how the bot is shown, if not by its name."""

    name = "chat"

    def __init__(self, persona: Persona, own_name: str = "") -> None:
        self.persona = persona
        self.own_name = own_name or persona.name

    async def reply(self, turn: Turn, tools: Tools) -> AsyncGenerator[Draft | Waiting | Reply]:
        """Yield what `answer` yields, from the conversation alone."""
        async for step in self.answer(turn, tools):
            yield step

    async def answer(
        self, turn: Turn, tools: Tools, notes: Sequence[str] = ()
    ) -> AsyncGenerator[Draft | Waiting | Reply]:
        """Yield the place in the queue and drafts, then the answer. `notes` are given to the model as data.

        Raises `ModelBusy`, `ModelUnavailable` and `ModelTimeout` of the model.
        """
        policy = tools.policy
        transcript = self._transcript(turn, policy, notes)
        try:
            prompt = await self._fit(transcript, tools)
            if isinstance(prompt, Reply):
                yield prompt
                return
            answer = _Answer(tuple(transcript.names.values()), self.own_name, policy.answer_words)
            stream = tools.chat(prompt.messages, max_tokens=prompt.max_tokens)
            try:
                async for chunk in stream:
                    if chunk.position is not None:
                        yield Waiting(chunk.position)
                    answer.usage.update(chunk.usage or {})
                    answer.finish = chunk.finish or answer.finish
                    if chunk.text and answer.add(chunk.text):
                        yield Draft(answer.text)
                    if answer.ended:
                        break
            finally:
                # Closing the stream is what makes the model stop when the answer was cut or stopped.
                close = getattr(stream, "aclose", None)
                if close is not None:
                    await close()
            yield answer.reply(prompt)
        except ModelRefused as error:
            yield self._refused(error, turn)
        except ModelMisconfigured as error:
            yield Reply(wording.failed(failure_of(error)), features={"failure": failure_of(error).value})

    def _transcript(self, turn: Turn, policy: RoomPolicy = UNSET, notes: Sequence[str] = ()) -> Transcript:
        count = self.persona.context_messages
        return Transcript(
            system=_in_room(self.persona.text, policy),
            context=turn.context[-count:] if count else (),
            question=turn.message,
            own_id=turn.place.account,
            own_name=self.own_name,
            notes=notes,
        )

    async def _fit(self, transcript: Transcript, tools: Tools) -> _Prompt | Reply:
        """The longest part of the conversation that fits, found with few questions to the tokenizer."""
        context_size = await tools.context_size()
        max_tokens = max(1, min(self.persona.max_tokens, context_size // ANSWER_SHARE))
        room = context_size - max_tokens
        fixed = len(transcript.system.encode()) // BYTES_PER_TOKEN
        end = len(transcript)
        if fixed + transcript.size(end) // BYTES_PER_TOKEN > room:
            limit = (room - 3 * fixed) * CHARACTERS_PER_TOKEN
            return self._too_long(transcript, limit)
        start = next(at for at in range(end + 1) if fixed + transcript.size(at) // BYTES_PER_TOKEN <= room)
        messages = transcript.messages(start)
        if _most_tokens(messages) <= room:
            return _Prompt(messages, max_tokens, None, start)
        tokens = await tools.count_tokens(messages)
        if tokens <= room:
            return _Prompt(messages, max_tokens, tokens, start)
        best = await self._alone(transcript, tools, room, max_tokens)
        if isinstance(best, Reply):
            return best
        low, high = start + 1, end  # `high` fits; everything below `low` does not
        while low < high:
            middle = (low + high) // 2
            messages = transcript.messages(middle)
            tokens = await tools.count_tokens(messages)
            if tokens <= room:
                best, high = _Prompt(messages, max_tokens, tokens, middle), middle
            else:
                low = middle + 1
        return best

    async def _alone(
        self, transcript: Transcript, tools: Tools, room: int, max_tokens: int
    ) -> _Prompt | Reply:
        messages = transcript.messages(len(transcript))
        tokens = await tools.count_tokens(messages)
        if tokens <= room:
            return _Prompt(messages, max_tokens, tokens, len(transcript))
        before = await tools.count_tokens([{"role": "system", "content": transcript.system}])
        per_token = len(messages[-1]["content"]) / max(1, tokens - before)
        return self._too_long(transcript, int((room - before) * per_token * MARGIN))

    def _too_long(self, transcript: Transcript, limit: int) -> Reply:
        question = strip_mention(transcript.question.text, transcript.own_id, self.own_name)
        return Reply(
            wording.too_long(len(question), _rounded(min(limit, len(question) - 1))),
            features={"failure": "too_long", "characters": len(question)},
        )

    def _refused(self, error: ModelRefused, turn: Turn) -> Reply:
        features = {
            "failure": failure_of(error).value,
            "code": error.code,
            "characters": len(turn.message.text),
        }
        return Reply(wording.failed(failure_of(error)), features=features)


class _Answer:
    """What a model has said so far, of which `text` is ours to say."""

    def __init__(self, names: tuple[str, ...], own_name: str, most_words: int | None = None) -> None:
        self.names = names
        self.own_name = own_name
        self.most_words = most_words
        self.shortened = False
        self.raw = ""
        self.text = ""
        self.ended = False
        self.finish: str | None = None
        self.usage: dict[str, float | int] = {}

    def add(self, piece: str) -> bool:
        """Take the next piece; whether there is something new to show."""
        before = self.text
        self.raw += piece
        self.text, self.ended = first_answer(self.raw, self.names, self.own_name)
        end = None if self.most_words is None else _end_of_word(self.text, self.most_words)
        if end is not None:
            self.text, self.ended, self.shortened = self.text[:end], True, True
        return bool(self.text) and self.text != before

    def reply(self, prompt: _Prompt) -> Reply:
        """The end: what was said, with its sizes."""
        features: Mapping[str, float | int | str] = {
            **({} if prompt.tokens is None else {"prompt_tokens": prompt.tokens}),
            "context_left_out": prompt.left_out,
            **self.usage,
            "characters": len(self.text),
            "finish": "cut" if self.ended else self.finish or "",
        }
        if not self.text:
            return Reply(wording.no_words(), features=features)
        cut = self.shortened or (self.finish == "length" and not self.ended)
        return Reply(f"{self.text} …" if cut else self.text, features=features)


def _in_room(persona: str, policy: RoomPolicy) -> str:
    """The persona with what the room asks for: its own words, their number, the language."""
    asked = [persona, neutral(policy.persona).strip()]
    if policy.answer_words is not None:
        asked.append(f"Answer in at most {policy.answer_words} words.")
    if policy.language:
        asked.append(f'Answer in the language "{neutral(policy.language)}".')
    return " ".join(part for part in asked if part)


def _end_of_word(text: str, count: int) -> int | None:
    """Where word number `count` ends, if there are more; None: there are not."""
    words = list(islice(re.finditer(r"\S+", text), count + 1))
    return words[count - 1].end() if len(words) > count else None


def _most_tokens(messages: Sequence[Mapping[str, str]]) -> int:
    """An upper bound without a question to the tokenizer: no token is shorter than a byte."""
    return sum(len(one["content"].encode()) + TEMPLATE_TOKENS for one in messages)


def failure_of(error: ModelError) -> wording.Failure:
    """Which words an error of the model gets (`wording.failed`)."""
    match error:
        case ModelBusy():
            return wording.Failure.MODEL_BUSY
        case ModelUnavailable():
            return wording.Failure.MODEL_UNAVAILABLE
        case ModelTimeout():
            return wording.Failure.MODEL_TIMEOUT
        case ModelRefused():
            return wording.Failure.MODEL_REFUSED
        case ModelMisconfigured():
            return wording.Failure.MODEL_MISCONFIGURED
        case _:
            return wording.Failure.INTERNAL


def _rounded(limit: int) -> int:
    """Two digits are enough: nobody counts characters."""
    step = int("1".ljust(len(str(max(1, limit))) - 1, "0"))
    return max(1, limit // step * step)
