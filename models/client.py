"""The one client for local and remote models: the OpenAI HTTP API through the `openai` package.

Owns the connection to one model. Promises that every failure is one of the errors below, that
every wait has a deadline, and that closing the iterator of `chat` closes the HTTP stream, which
is how an answer is cancelled. Never retries (that is the router's), never asks any host but the
one it was given, never reads proxies or keys from the environment, sends no telemetry headers.

    ModelError
     |- ModelBusy(after)                too many wait; ask again in `after` seconds
     |- ModelUnavailable(after)         not there, restarting or broken off; may come back
     |- ModelTimeout                    a deadline of this request passed
     |- ModelRefused(code, what)        this request will never work (`context_length_exceeded`)
     `- ModelMisconfigured(path, remedy)   the operator must change something
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import httpx2
import openai
from openai import AsyncOpenAI, Omit
from openai._exceptions import SubjectTokenProviderError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
    from pathlib import Path

    from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam


class ModelError(Exception):
    """Anything that a model can fail with."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class ModelBusy(ModelError):
    """Too many requests wait. `after` (seconds) is when to ask again, if the server said so."""

    def __init__(self, what: str, after: float | None = None) -> None:
        super().__init__(what)
        self.after = after


class ModelUnavailable(ModelError):
    """The model is not there, is being restarted, or broke off. The same request may work later."""

    def __init__(self, what: str, after: float | None = None) -> None:
        super().__init__(what)
        self.after = after


class ModelTimeout(ModelError):
    """The first word or the whole answer took longer than its deadline."""


class ModelRefused(ModelError):
    """The model cannot answer this request, now or later; `code` is stable."""

    def __init__(self, code: str, what: str) -> None:
        super().__init__(what)
        self.code = code


class ModelMisconfigured(ModelError):
    """The operator must change the setting or file at `path`; `remedy` says how."""

    def __init__(self, path: str, remedy: str) -> None:
        super().__init__(f"{path}: {remedy}")
        self.path = path
        self.remedy = remedy


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


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long to wait, in seconds.

    `total` bounds a request from start to end, queue included. `silence` bounds the wait for the
    next sign of life, before the first word and between words; a position in the queue and
    progress in reading the prompt are signs of life. `connect` bounds connecting, `question`
    the small requests (`count_tokens`, `context_size`).
    """

    total: float = 300.0
    silence: float = 120.0
    connect: float = 5.0
    question: float = 30.0


SMALLEST_CONTEXT: Final = 4096
"""Tokens assumed of a server that does not say."""

ANONYMOUS: Final = {
    name: Omit()
    for name in (
        "User-Agent",
        "X-Stainless-Lang",
        "X-Stainless-Package-Version",
        "X-Stainless-OS",
        "X-Stainless-Arch",
        "X-Stainless-Runtime",
        "X-Stainless-Runtime-Version",
        "X-Stainless-Async",
    )
}
"""Headers in which the library describes this machine; no model needs them."""


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
        if (socket is None) == (base_url is None):
            raise ModelMisconfigured("model", "give either a socket or a base URL")
        self.model = model
        self.deadlines = deadlines or Deadlines()
        self._temperature = temperature
        self._context = context
        self._tokenizes = True
        self._base_url = (base_url or "http://model/v1").rstrip("/")
        # Nothing goes through the proxies of the environment, and redirects are not followed: the
        # operator named one host. Over plain HTTP no certificates are loaded at all.
        self._http = httpx2.AsyncClient(
            transport=httpx2.AsyncHTTPTransport(
                uds=None if socket is None else str(socket),
                verify=self._base_url.startswith("https:"),
                trust_env=False,
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=8),
            ),
            timeout=httpx2.Timeout(self.deadlines.total, connect=self.deadlines.connect),
            trust_env=False,
            follow_redirects=False,
        )
        self._openai = AsyncOpenAI(
            api_key=api_key or "none",
            base_url=self._base_url,
            max_retries=0,
            http_client=self._http,
            default_headers=cast("Any", ANONYMOUS),
        )
        self._openai.organization = None  # the environment has no say in where words go
        self._openai.project = None

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
            async with _border(self._wait(loop, ends)):
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
                async with _border(self._wait(loop, ends)):
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
        url = f"{self._base_url.removesuffix('/v1')}{path}"
        ends = asyncio.get_running_loop().time() + self.deadlines.question
        async with _border(ends):
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


# -- the border ------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _border(ends: float) -> AsyncGenerator[None]:
    """Until `ends` (loop time) at most, and with nothing but `ModelError` coming out."""
    try:
        async with asyncio.timeout_at(ends):
            yield
    except TimeoutError:
        raise ModelTimeout("the model did not answer in time") from None
    except (openai.OpenAIError, httpx2.HTTPError, httpx2.StreamError, json.JSONDecodeError) as error:
        raise mapped(error) from error


def mapped(error: Exception) -> ModelError:
    """Say what an exception of the `openai` or `httpx2` package means to us.

    Its words are about what happened, never about what was said: a server may quote the request
    in its message, so that is left out.
    """
    if isinstance(error, openai.APIStatusError):
        return _by_status(error)
    for kinds, meaning in MEANINGS:
        if isinstance(error, kinds):
            return meaning(error)
    if isinstance(error, openai.APIError):  # in the middle of a stream: an error object, no status
        return _by_code(error.code, ModelUnavailable(f"the model failed: {error.code or 'no code'}"))
    return ModelUnavailable(f"the model failed: {type(error).__name__}")


MEANINGS: Final[tuple[tuple[tuple[type[Exception], ...], Callable[[Exception], ModelError]], ...]] = (
    (
        (openai.APITimeoutError, httpx2.TimeoutException),
        lambda _: ModelTimeout("the model did not answer in time"),
    ),
    (
        (openai.APIConnectionError, httpx2.TransportError, httpx2.StreamError),
        lambda _: ModelUnavailable("the model server cannot be reached, or the connection broke"),
    ),
    (
        (openai.APIResponseValidationError, json.JSONDecodeError, httpx2.HTTPError),
        lambda _: ModelMisconfigured(
            "base_url", "the server does not speak the OpenAI API: check the address"
        ),
    ),
    (
        (SubjectTokenProviderError,),
        lambda _: ModelMisconfigured("api_key", "the credentials for the model's host do not work"),
    ),
    (
        (openai.ContentFilterFinishReasonError,),
        lambda _: ModelRefused("content_filter", "the model's own filter refused the answer"),
    ),
    (
        (openai.LengthFinishReasonError,),
        lambda _: ModelRefused("length", "the answer did not fit"),
    ),
)
"""What each exception without an HTTP status means; the first that fits."""

_FOREVER = {
    "context_length_exceeded": "the conversation is longer than the model's context",
    "invalid_request_error": "the model server did not understand the request",
    "template_refused": "the model's chat template refuses this conversation",
    "request_too_large": "the request is larger than the model server accepts",
}


def _by_code(code: str | None, otherwise: ModelError) -> ModelError:
    if code in _FOREVER:
        return ModelRefused(code, _FOREVER[code])
    return {
        "overloaded": ModelBusy("too many requests wait for the model"),
        "rate_limit_exceeded": ModelBusy("too many requests wait for the model"),
        "timeout": ModelTimeout("the model server gave up on the request"),
        "model_not_found": ModelMisconfigured("model", "the server has no model of this name"),
        "insufficient_quota": ModelMisconfigured("api_key", "the account at the model's host is used up"),
    }.get(code or "", otherwise)


def _by_status(error: openai.APIStatusError) -> ModelError:
    status, code, after = error.status_code, error.code, _retry_after(error.response)
    meaning: ModelError
    match status:
        case 401 | 403:
            meaning = ModelMisconfigured("api_key", f"the model server refuses the key (HTTP {status})")
        case 404 | 405:
            meaning = ModelMisconfigured("base_url", "the server has no such model or endpoint: check both")
        case 408 | 504:
            meaning = ModelTimeout("the model server gave up on the request")
        case 413:
            meaning = ModelRefused("request_too_large", _FOREVER["request_too_large"])
        case 429:
            meaning = ModelBusy("too many requests wait for the model")
        case 409 | 425:
            meaning = ModelUnavailable(f"the model server asks to try later (HTTP {status})")
        case _ if 400 <= status < 500:  # noqa: PLR2004 - the client errors of HTTP
            meaning = ModelRefused(code or f"http_{status}", f"the model refused the request (HTTP {status})")
        case _ if status < 400:  # noqa: PLR2004 - a redirect, which we do not follow
            meaning = ModelMisconfigured("base_url", "the server redirects: give the address it leads to")
        case _:
            meaning = ModelUnavailable(f"the model server failed (HTTP {status})")
    meaning = _by_code(code, meaning)
    if isinstance(meaning, ModelBusy | ModelUnavailable):
        meaning.after = after
    return meaning


def _retry_after(response: httpx2.Response) -> float | None:
    """Seconds of a `Retry-After` header (RFC 9110, 10.2.3); the form with a date is ignored."""
    with contextlib.suppress(ValueError):
        seconds = float(response.headers.get("retry-after", ""))
        if 0 <= seconds < math.inf:
            return seconds
    return None
