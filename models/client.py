"""The one client for local and remote models: the OpenAI HTTP API through the `openai` package.

Owns the conversation with one chat model (`models.hearing` is that with a speech model). Promises
that every failure is one of the errors of `models.border`, that every wait has a deadline, and that
closing the iterator of `chat` closes the HTTP stream, which is how an answer is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import httpx2
import openai

from models.border import (
    Deadlines,
    ModelBusy,
    ModelError,
    ModelMisconfigured,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
    border,
    connected,
    mapped,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence
    from pathlib import Path

    from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

__all__ = [
    "ChatClient",
    "Chunk",
    "Deadlines",
    "ModelBusy",
    "ModelError",
    "ModelMisconfigured",
    "ModelRefused",
    "ModelTimeout",
    "ModelUnavailable",
    "estimate_tokens",
    "mapped",
]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a model's answer. `position` is set while the request still queues.

    `position` is how many conversations are before this one. `usage` comes once, near the end:
    tokens (`prompt_tokens`, `completion_tokens`, `cached_tokens`) and, from a server of ours,
    seconds (`queue_seconds`, `prefill_seconds`, `decode_seconds`). `finish` is `stop`, `length`
    or another `finish_reason` of the OpenAI API.
    """

    text: str = ""
    position: int | None = None
    usage: Mapping[str, float | int] | None = None
    finish: str | None = None


SMALLEST_CONTEXT: Final = 4096
"""Tokens assumed of a server that does not say."""


def estimate_tokens(messages: Sequence[Mapping[str, str]]) -> int:
    """Tokens of a prompt for a model whose tokenizer we cannot ask, with a margin.

    Two and a half UTF-8 bytes a token and eight tokens a message: English takes about four bytes
    a token, German three and a half, Chinese three. Too high costs some context, too low would
    cost the answer.
    """
    return sum(math.ceil(len(message["content"].encode()) / 2.5) + 8 for message in messages)


class ChatClient:
    """One model behind one address. Made once, used by all conversations at the same time."""

    def __init__(
        self,
        model: str,
        *,
        socket: Path | str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        deadlines: Deadlines | None = None,
        temperature: float | None = None,
        context: int | None = None,
    ) -> None:
        """Talk to `model` on a Unix `socket` of ours, or at a `base_url` that ends in `/v1`.

        `temperature` None leaves it to the server; `context` (tokens) is for servers that do not
        say how much they hold.
        """
        self.model = model
        self.deadlines = deadlines or Deadlines()
        self._temperature = temperature
        self._context = context
        self._tokenizes = True
        self._openai, self._http = connected(
            socket=socket,
            base_url=base_url,
            api_key=api_key,
            timeout=httpx2.Timeout(self.deadlines.total, connect=self.deadlines.connect),
        )

    async def chat(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        max_tokens: int,
        cache_key: str | None = None,
        priority: str | None = None,
    ) -> AsyncGenerator[Chunk]:
        """Stream the answer to `messages` (`role`, `content`), of at most `max_tokens` tokens.

        `cache_key` is opaque (salted by the caller): conversations with the same key share a turn
        in the queue and a kept prefix. `priority` is `priority`, `default` or `flex`. Close the
        iterator to cancel (`contextlib.aclosing`). Raises `ModelError`.
        """
        loop = asyncio.get_running_loop()
        ends = loop.time() + self.deadlines.total
        stream: openai.AsyncStream[ChatCompletionChunk] | None = None
        finished = False
        try:
            async with border(self._wait(loop, ends)):
                stream = await self._openai.chat.completions.create(
                    model=self.model,
                    messages=[cast("ChatCompletionMessageParam", dict(m)) for m in messages],
                    max_tokens=max_tokens,
                    stream=True,
                    stream_options={"include_usage": True},
                    temperature=openai.omit if self._temperature is None else self._temperature,
                    prompt_cache_key=cache_key or openai.omit,
                    service_tier=cast("Any", priority or openai.omit),
                )
            while True:
                async with border(self._wait(loop, ends)):
                    received = await anext(stream, None)
                if received is None:
                    break
                for chunk in _chunks(received):
                    finished = finished or chunk.finish is not None
                    yield chunk
            if not finished:
                raise ModelUnavailable("the model's answer broke off")
        finally:
            if stream is not None:
                with contextlib.suppress(httpx2.HTTPError, OSError):
                    await stream.close()

    async def count_tokens(self, messages: Sequence[Mapping[str, str]]) -> int:
        """Tokens that `messages` take as a prompt, template included.

        Exact where the server has `/tokenize` as ours and vLLM have it; elsewhere an estimate
        with a margin (`estimate_tokens`). Raises `ModelError`.
        """
        if self._tokenizes:
            body = {"model": self.model, "messages": [dict(message) for message in messages]}
            answer = await self._ask("POST", "/tokenize", body)
            if isinstance(answer, dict) and isinstance(count := answer.get("count"), int):
                return count
            self._tokenizes = False
        return estimate_tokens(messages)

    async def context_size(self) -> int:
        """Tokens that prompt and answer may take together. Raises `ModelError`.

        As `/v1/models` of the server says it (ours, vLLM, llama-server), else as configured, else
        a small number.
        """
        if self._context is None:
            answer = await self._ask("GET", "/v1/models", None)
            entries = answer.get("data") if isinstance(answer, dict) else None
            found = [e for e in entries or () if isinstance(e, dict) and e.get("id") == self.model]
            self._context = _context_of(found[0]) if found else SMALLEST_CONTEXT
        return self._context

    async def forget(self, cache_key: str) -> None:
        """Drop what the server keeps of a conversation; no-op where servers do not know that.

        Waits for the answer that is being made. Raises `ModelError`.
        """
        await self._ask("POST", "/forget", {"prompt_cache_key": cache_key})

    async def close(self) -> None:
        """Let go of the connections."""
        await self._openai.close()

    def _wait(self, loop: asyncio.AbstractEventLoop, ends: float) -> float:
        return min(ends, loop.time() + self.deadlines.silence)

    async def _ask(self, method: str, path: str, body: object) -> object:
        """One small request beside the OpenAI API; None where the server does not know it."""
        url = f"{str(self._openai.base_url).rstrip('/').removesuffix('/v1')}{path}"
        ends = asyncio.get_running_loop().time() + self.deadlines.question
        async with border(ends):
            answer = await self._http.request(
                method, url, json=body, headers={"Authorization": f"Bearer {self._openai.api_key}"}
            )
            if answer.status_code in {404, 405, 501}:
                return None
            if not answer.is_success:
                with contextlib.suppress(ValueError):
                    body = answer.json()
                error = body.get("error", body) if isinstance(body, dict) else body
                raise self._openai._make_status_error(  # noqa: SLF001 - the library's own mapping by status
                    f"HTTP {answer.status_code}", body=error, response=answer
                )
            return cast("object", answer.json())


def _context_of(entry: Mapping[str, object]) -> int:
    """The context size in an entry of `/v1/models`, wherever that server puts it."""
    meta = entry.get("meta")
    places = (entry, meta) if isinstance(meta, dict) else (entry,)
    for name in ("context_size", "max_model_len", "context_length", "n_ctx", "n_ctx_train"):
        for place in places:
            if isinstance(size := place.get(name), int) and size > 0:
                return size
    return SMALLEST_CONTEXT


def _chunks(received: ChatCompletionChunk) -> list[Chunk]:
    """What one chunk of the OpenAI API tells: nothing, a position, words, the end, the usage."""
    chunks = []
    extra = received.model_extra or {}
    if not received.choices and isinstance(position := extra.get("queue_position"), int):
        chunks.append(Chunk(position=position))
    for choice in received.choices:
        text = choice.delta.content if choice.delta else None
        if text or choice.finish_reason:
            chunks.append(Chunk(text=text or "", finish=choice.finish_reason))
    if (usage := received.usage) is not None:
        numbers: dict[str, float | int] = {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
        }
        details = usage.prompt_tokens_details
        if details is not None and details.cached_tokens is not None:
            numbers["cached_tokens"] = details.cached_tokens
        numbers |= {
            name: value
            for name, value in (usage.model_extra or {}).items()
            if name.endswith("_seconds") and isinstance(value, int | float)
        }
        chunks.append(Chunk(usage=numbers))
    return chunks
