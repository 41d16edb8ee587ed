"""The client's border: every failure of the libraries and of the wire has one meaning here."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import Any

import httpx2
import openai
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from models import client as client_module
from models.client import (
    ChatClient,
    Deadlines,
    ModelBusy,
    ModelError,
    ModelMisconfigured,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
    estimate_tokens,
    mapped,
)
from tests.models.conftest import Serving, user, whole

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def kinds(base: type[BaseException]) -> Iterator[type[BaseException]]:
    yield base
    for kind in base.__subclasses__():
        yield from kinds(kind)


OPENAI_ERRORS = [k for k in dict.fromkeys(kinds(openai.OpenAIError)) if k.__module__.startswith("openai")]
HTTPX_ERRORS = list(dict.fromkeys([*kinds(httpx2.HTTPError), *kinds(httpx2.StreamError)]))
MEANS: dict[str, type[ModelError]] = {
    "OpenAIError": ModelUnavailable,
    "StreamAlreadyConsumed": ModelUnavailable,
    "MutuallyExclusiveAuthError": ModelUnavailable,
    "APIRemovedInV1": ModelUnavailable,
    "_AmbiguousModuleClientUsageError": ModelUnavailable,
    "SubjectTokenProviderError": ModelMisconfigured,
    "APIError": ModelUnavailable,
    "APIResponseValidationError": ModelMisconfigured,
    "APIStatusError": ModelUnavailable,
    "APIConnectionError": ModelUnavailable,
    "APITimeoutError": ModelTimeout,
    "BadRequestError": ModelRefused,
    "AuthenticationError": ModelMisconfigured,
    "OAuthError": ModelMisconfigured,
    "PermissionDeniedError": ModelMisconfigured,
    "NotFoundError": ModelMisconfigured,
    "ConflictError": ModelUnavailable,
    "UnprocessableEntityError": ModelRefused,
    "RateLimitError": ModelBusy,
    "InternalServerError": ModelUnavailable,
    "LengthFinishReasonError": ModelRefused,
    "ContentFilterFinishReasonError": ModelRefused,
    "WebSocketConnectionClosedError": ModelUnavailable,
    "WebSocketQueueFullError": ModelUnavailable,
}


def made(kind: type[BaseException]) -> Exception:
    """An error of this kind, as the library would raise it."""
    error = kind.__new__(kind)
    assert isinstance(error, Exception)
    status = getattr(kind, "status_code", 500)
    if isinstance(error, openai.APIStatusError):
        request = httpx2.Request("POST", "http://model/v1")
        response = httpx2.Response(status, request=request)
        openai.APIStatusError.__init__(error, "no", response=response, body=None)
        error.status_code = status
    elif isinstance(error, openai.APIError):
        openai.APIError.__init__(error, "no", httpx2.Request("POST", "http://model/v1"), body=None)
    return error


@pytest.mark.parametrize("kind", OPENAI_ERRORS, ids=lambda kind: kind.__name__)
def test_every_openai_error_is_mapped(kind: type[BaseException]) -> None:
    """Each exception class of the openai package means one of ours; a new class fails here until it is."""
    assert type(mapped(made(kind))) is MEANS[kind.__name__]


@pytest.mark.parametrize("kind", HTTPX_ERRORS, ids=lambda kind: kind.__name__)
def test_every_transport_error_is_mapped(kind: type[BaseException]) -> None:
    """Each exception class of httpx2 means one of ours: time, absence, or a wrong address."""
    error = made(kind)
    expected: type[ModelError] = ModelMisconfigured
    if isinstance(error, httpx2.TimeoutException):
        expected = ModelTimeout
    elif isinstance(error, httpx2.TransportError | httpx2.StreamError):
        expected = ModelUnavailable
    assert type(mapped(error)) is expected


@given(st.integers(300, 599), st.sampled_from([None, "overloaded", "context_length_exceeded", "odd"]))
def test_every_status_is_mapped(status: int, code: str | None) -> None:
    """Whatever a server answers, it is one of the families, and never repeats the server's words."""
    request = httpx2.Request("POST", "http://model/v1")
    response = httpx2.Response(status, request=request, headers={"Retry-After": "7"})
    error = openai.APIStatusError("my secret question", response=response, body={"code": code})
    meaning = mapped(error)
    assert isinstance(meaning, ModelError)
    assert type(meaning) is not ModelError
    assert "secret" not in str(meaning)
    if isinstance(meaning, ModelBusy | ModelUnavailable):
        assert meaning.after == 7


@pytest.mark.parametrize("header", ["Fri, 31 Dec 2027 23:59:59 GMT", "-1", "inf", "nan", ""])
def test_odd_retry_after_is_ignored(header: str) -> None:
    """A Retry-After that is not a number of seconds leaves the wait to the caller."""
    response = httpx2.Response(
        429, request=httpx2.Request("GET", "http://x"), headers={"Retry-After": header}
    )
    meaning = mapped(openai.RateLimitError("no", response=response, body=None))
    assert isinstance(meaning, ModelBusy)
    assert meaning.after is None


@given(st.lists(st.text(max_size=200), max_size=5))
def test_the_estimate_has_a_margin(texts: list[str]) -> None:
    """The estimate is more than a token for each three bytes, and more for each message."""
    estimate = estimate_tokens(
        [{"role": "user", "content": t.encode("utf-8", "replace").decode()} for t in texts]
    )
    assert estimate >= sum(len(t.encode("utf-8", "replace")) for t in texts) / 3 + 8 * len(texts)


# -- other people's servers ------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def remote(routes: dict[str, Handler], **options: Any) -> AsyncGenerator[ChatClient]:
    """A server on loopback that answers as told, and a client for it."""
    app = web.Application()
    app.add_routes([web.route("*", path, handler) for path, handler in routes.items()])
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    client = ChatClient("m", base_url=f"http://{host}:{port}/v1", **options)
    try:
        yield client
    finally:
        await client.close()
        await runner.cleanup()


def events(*chunks: dict[str, Any] | str, hang: bool = False) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for chunk in chunks:
            data = chunk if isinstance(chunk, str) else json.dumps(chunk)
            await response.write(f"data: {data}\n\n".encode())
        if hang:
            await asyncio.Event().wait()
        return response

    return answer


def piece(text: str, finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}


QUIET = {"choices": [], "queue_position": 3}


async def test_another_server_is_understood() -> None:
    """A server without our extensions works: text, end, usage without our fields, estimated tokens."""
    usage = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}
    routes = {"/v1/chat/completions": events(piece("a"), piece("b", "stop"), usage, "[DONE]")}
    async with remote(routes) as client:
        text, used, finish, _ = await whole(client.chat(user("x"), max_tokens=9))
        assert (text, finish) == ("ab", "stop")
        assert used == {"prompt_tokens": 3, "completion_tokens": 2}
        assert await client.count_tokens(user("hello")) == estimate_tokens(user("hello")) == 10
        assert await client.context_size() == client_module.SMALLEST_CONTEXT


async def test_a_llama_server_that_ignores_messages() -> None:
    """llama-server answers /tokenize with a list of tokens of nothing: that is not taken for a count."""

    async def tokenize(_request: web.Request) -> web.Response:
        return web.json_response({"tokens": []})

    async def models(_request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "m", "meta": {"n_ctx_train": 2048}}]})

    async with remote({"/tokenize": tokenize, "/v1/models": models}) as client:
        assert await client.count_tokens(user("hello")) == 10
        assert await client.context_size() == 2048


async def test_what_leaves_is_only_what_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys, proxies and organisations of the environment, and facts about this machine, are not sent."""
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "from-the-environment")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    seen: list[tuple[dict[str, str], dict[str, Any]]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        seen.append((dict(request.headers), await request.json()))
        return await events(piece("a", "stop"), "[DONE]")(request)

    async with remote({"/v1/chat/completions": answer}, api_key="given") as client:
        await whole(client.chat(user("x"), max_tokens=9, cache_key="k", priority="flex"))
    ((headers, body),) = seen
    assert headers["Authorization"] == "Bearer given"
    assert "from-the-environment" not in str(headers)
    stainless = {name for name in headers if name.lower().startswith(("x-stainless", "openai"))}
    assert stainless <= {"X-Stainless-Retry-Count", "x-stainless-retry-count", "x-stainless-read-timeout"}
    assert "linux" not in str(headers).lower()
    assert body == {
        "model": "m",
        "messages": user("x"),
        "max_tokens": 9,
        "stream": True,
        "stream_options": {"include_usage": True},
        "prompt_cache_key": "k",
        "service_tier": "flex",
    }


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ((piece("a"),), ModelUnavailable),
        ((piece("a"), "[DONE]"), ModelUnavailable),
        (("{nonsense",), ModelMisconfigured),
        (({"error": {"message": "m", "code": "overloaded"}},), ModelBusy),
        (({"error": {"message": "m", "code": "timeout"}},), ModelTimeout),
        (({"error": {"message": "m", "code": "context_length_exceeded"}},), ModelRefused),
        (({"error": {"message": "m"}},), ModelUnavailable),
    ],
)
async def test_streams_that_end_badly(chunks: tuple[Any, ...], expected: type[ModelError]) -> None:
    """A stream that breaks off, is nonsense or carries an error ends in the error that it means."""
    async with remote({"/v1/chat/completions": events(*chunks)}) as client:
        with pytest.raises(ModelError) as told:
            await whole(client.chat(user("x"), max_tokens=9))
        assert type(told.value) is expected


async def test_a_connection_that_breaks() -> None:
    """A connection that is cut in the middle of a chunk means: not available."""

    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(f"data: {json.dumps(piece('a'))}\n\ndata: {{".encode())
        assert request.transport is not None
        request.transport.abort()
        return response

    async with remote({"/v1/chat/completions": cut}) as client:
        with pytest.raises(ModelUnavailable):
            await whole(client.chat(user("x"), max_tokens=9))


async def test_nobody_there() -> None:
    """A socket that does not exist means: not available."""
    client = ChatClient("m", socket="/nonexistent/socket")
    for question in (whole(client.chat(user("x"), max_tokens=9)), client.count_tokens(user("x"))):
        with pytest.raises(ModelUnavailable):
            await question
    await client.close()


@pytest.mark.parametrize("first", [(), (QUIET,), (piece("a"),)])
async def test_silence_has_a_deadline(first: tuple[dict[str, Any], ...]) -> None:
    """Before and after the first sign of life, a server that says nothing more is given up."""
    hanging = {"/v1/chat/completions": events(*first, hang=True)}
    async with remote(hanging, deadlines=Deadlines(silence=0.2)) as client:
        with pytest.raises(ModelTimeout):
            await whole(client.chat(user("x"), max_tokens=9))


async def test_the_whole_has_a_deadline() -> None:
    """Signs of life postpone the silence deadline, never the total one."""

    async def chatter(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        while True:
            await response.write(f"data: {json.dumps(QUIET)}\n\n".encode())
            await asyncio.sleep(0.02)

    loop = asyncio.get_running_loop()
    async with remote(
        {"/v1/chat/completions": chatter}, deadlines=Deadlines(total=0.5, silence=0.2)
    ) as client:
        began = loop.time()
        with pytest.raises(ModelTimeout):
            await whole(client.chat(user("x"), max_tokens=9))
        assert 0.4 < loop.time() - began < 3


async def test_cancelling_the_task_closes_the_stream() -> None:
    """A cancelled caller is cancelled, not told of an error, and the server sees the stream close."""
    closed = asyncio.Event()
    begun = asyncio.Event()

    async def hang(request: web.Request) -> web.StreamResponse:
        begun.set()
        try:
            return await events(piece("a"), hang=True)(request)
        finally:
            closed.set()

    async with remote({"/v1/chat/completions": hang}) as client:
        task = asyncio.create_task(whole(client.chat(user("x"), max_tokens=9)))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(5):
            await closed.wait()


async def test_many_at_once(serving: Serving) -> None:
    """Fifty conversations at the same time each get their own answer."""
    async with serving() as client, asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(whole(client.chat(user(f"n {i}"), max_tokens=9, cache_key=str(i))))
            for i in range(50)
        ]
    assert [task.result()[0] for task in tasks] == [f"Echo: n {i}" for i in range(50)]
