"""The deterministic double of a model: the same server, queue, cancellation and errors, no weights.

`python -m models.server --model echo` answers `Echo: <last line of the last user message>`, one
word at a time, `--echo-delay` seconds before each. Its answer is `echo_answer(messages)`, so a
test knows the whole text before it asks. A token is a word here.

A last line that begins with one of these words behaves differently:

    echo:fail    refused with HTTP 500, code `engine_failed`, before the first word
    echo:break   fails with the same code after its first word
    echo:slow    at least one second before each word
    echo:empty   answers nothing at all

One that ends with `echo:prompt` is answered with what the model was given: how many lines there were before
it, and the system prompt.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from models.protocol import Done, EngineError, Piece, Progress, Prompt

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Mapping, Sequence

    from models.protocol import Wish

PER_MESSAGE = 4
"""Tokens that the template is said to add to each message."""


def echo_answer(messages: Sequence[Mapping[str, str]]) -> str:
    """What the echo model answers to `messages` (`role`, `content`), if `max_tokens` allow."""
    said = [message["content"] for message in messages if message["role"] == "user"]
    lines = [line.strip() for line in (said[-1] if said else "").splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    if last.endswith("echo:prompt"):
        system = next((one["content"] for one in messages if one["role"] == "system"), "")
        before = sum(len(message["content"].splitlines()) for message in messages[1:]) - 1
        return f"Echo: {before} lines before. {system}"
    return "" if last.startswith("echo:empty") else f"Echo: {last}".rstrip()


class EchoEngine:
    """A model that says what it was told."""

    def __init__(self, *, name: str = "echo", context: int = 4096, delay: float = 0.0) -> None:
        """`delay` is seconds before each word."""
        self.name = name
        self.context = context
        self._delay = delay

    def prepare(self, messages: Sequence[Mapping[str, str]]) -> Prompt:
        """A prompt of one token a word and some for each message."""
        size = sum(len(message["content"].split()) + PER_MESSAGE for message in messages)
        return Prompt(tuple(messages), size)

    def count(self, text: str) -> int:
        """Words of a text."""
        return len(text.split())

    def generate(
        self, prompt: Prompt, wish: Wish, cancelled: threading.Event
    ) -> Iterator[Piece | Progress | Done]:
        """Say the answer word by word."""
        answer = echo_answer(prompt.messages)
        command = answer.removeprefix("Echo: ").split(" ", 1)[0]
        if command == "echo:fail":
            raise EngineError("engine_failed", "echo:fail was asked for")
        delay = max(self._delay, 1.0) if command == "echo:slow" else self._delay
        yield Progress(prompt.size, prompt.size)
        words = re.findall(r"\s*\S+", answer)
        room = self.context - prompt.size
        limit = min(len(words), room, room if wish.max_tokens is None else wish.max_tokens)
        started = time.perf_counter()
        for word in words[:limit]:
            if cancelled.wait(delay) if delay else cancelled.is_set():
                return
            yield Piece(word)
            if command == "echo:break":
                raise EngineError("engine_failed", "echo:break was asked for")
        yield Done(
            finish="stop" if limit == len(words) else "length",
            prompt_tokens=prompt.size,
            completion_tokens=limit,
            decode_seconds=time.perf_counter() - started,
        )

    def forget(self, key: str) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing to free."""
