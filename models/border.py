"""The border to model servers: one way to connect, one meaning for every failure.

Owns the connection that the clients of chat and of speech have in common. Promises that every
failure of the wire and of its libraries is one of the errors below, and that every wait inside
`border` has a deadline. Never retries (that is the router's), never asks any host but the one it
was given, never reads proxies or keys from the environment, sends no telemetry headers.

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
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
    from pathlib import Path


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

UPLOAD_BLOCK: Final = 1 << 18
"""Bytes of a file that are read at once."""


def connected(
    *, socket: Path | str | None, base_url: str | None, api_key: str | None, timeout: httpx2.Timeout
) -> tuple[AsyncOpenAI, httpx2.AsyncClient]:
    """Connect to a Unix `socket` of ours, or to a `base_url` that ends in `/v1`; nothing is sent yet.

    Raises `ModelMisconfigured` unless exactly one of the two is given.
    """
    if (socket is None) == (base_url is None):
        raise ModelMisconfigured("model", "give either a socket or a base URL")
    url = (base_url or "http://model/v1").rstrip("/")
    # Nothing goes through the proxies of the environment, and redirects are not followed: the
    # operator named one host. Over plain HTTP no certificates are loaded at all.
    http = httpx2.AsyncClient(
        transport=_Transport(
            uds=None if socket is None else str(socket),
            verify=url.startswith("https:"),
            trust_env=False,
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=8),
        ),
        timeout=timeout,
        trust_env=False,
        follow_redirects=False,
    )
    client = AsyncOpenAI(
        api_key=api_key or "none",
        base_url=url,
        max_retries=0,
        http_client=http,
        default_headers=cast("Any", ANONYMOUS),
    )
    client.organization = None  # the environment has no say in where words go
    client.project = None
    return client, http


class _Transport(httpx2.AsyncHTTPTransport):
    """Reads what is uploaded in a thread: a disk may be slow, the event loop may not."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        is_upload = request.headers.get("content-type", "").startswith("multipart/")
        if is_upload and isinstance(request.stream, httpx2.SyncByteStream):
            request.stream = _Upload(iter(request.stream))
        return await super().handle_async_request(request)


class _Upload(httpx2.AsyncByteStream):
    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while block := await asyncio.to_thread(self._read):
            yield block

    def _read(self) -> bytes:
        block = bytearray()
        while len(block) < UPLOAD_BLOCK and (chunk := next(self._chunks, None)) is not None:
            block += chunk
        return bytes(block)


@contextlib.asynccontextmanager
async def border(ends: float) -> AsyncGenerator[None]:
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

FOREVER: Final = {
    "audio_too_large": "the recording is larger than the model server accepts",
    "audio_too_long": "the recording is longer than the model server accepts",
    "audio_unreadable": "the recording cannot be read as sound",
    "context_length_exceeded": "the conversation is longer than the model's context",
    "invalid_request_error": "the model server did not understand the request",
    "template_refused": "the model's chat template refuses this conversation",
    "request_too_large": "the request is larger than the model server accepts",
}
"""What each code means of a request that will never work."""
"""What each code means of a request that will never work."""
"""What each code means of a request that will never work."""


def _by_code(code: str | None, otherwise: ModelError) -> ModelError:
    if code in FOREVER:
        return ModelRefused(code, FOREVER[code])
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
            meaning = ModelRefused("request_too_large", FOREVER["request_too_large"])
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
