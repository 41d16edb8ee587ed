"""The protocol, spoken to a real server process through the `openai` package and by hand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import stat
from typing import TYPE_CHECKING, Any

import httpx2
import openai
import pytest

from models.client import ChatClient, ModelBusy, ModelMisconfigured, ModelRefused, ModelUnavailable
from models.echo import echo_answer
from tests.models.conftest import Serving, user, whole

if TYPE_CHECKING:
    from pathlib import Path

RAW = {"model": "echo", "messages": user("one two three")}


def raw(folder: Path) -> httpx2.AsyncClient:
    transport = httpx2.AsyncHTTPTransport(uds=str(folder / "model.sock"))
    return httpx2.AsyncClient(transport=transport, base_url="http://model", timeout=20)


async def test_stream(serving: Serving) -> None:
    """A streamed answer is the whole answer, with an end and with its usage."""
    messages = [{"role": "system", "content": "Be brief."}, *user("Grüße, 你好 🙂\nand then?")]
    async with serving() as client:
        text, usage, finish, positions = await whole(client.chat(messages, max_tokens=100))
        assert text == echo_answer(messages) == "Echo: and then?"
        assert finish == "stop"
        assert positions == []  # nobody was before
        assert usage["prompt_tokens"] == await client.count_tokens(messages) == 15
        assert usage["completion_tokens"] == 3
        assert {"queue_seconds", "prefill_seconds", "decode_seconds", "cached_tokens"} <= set(usage)
        assert await client.context_size() == 4096


async def test_openai_client_unstreamed(serving: Serving, folder: Path) -> None:
    """The plain OpenAI client gets a plain answer, and the one model in the list."""
    async with serving(), raw(folder) as http:
        client = openai.AsyncOpenAI(api_key="x", base_url="http://model/v1", http_client=http, max_retries=0)
        answer = await client.chat.completions.create(
            model="echo", messages=[{"role": "user", "content": "hi"}]
        )
        assert answer.choices[0].message.content == "Echo: hi"
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage is not None
        assert answer.usage.total_tokens == 7
        assert [model.id async for model in client.models.list()] == ["echo"]


async def test_wire_snapshot(serving: Serving, folder: Path) -> None:
    """What goes over the wire is Server-Sent Events of the OpenAI shape, ended by [DONE]."""
    async with serving(), raw(folder) as http:
        body = RAW | {"stream": True, "max_tokens": 2, "stream_options": {"include_usage": True}}
        answer = await http.post("/v1/chat/completions", json=body)
        assert answer.headers["content-type"] == "text/event-stream"
        events = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
        assert events.pop() == "[DONE]"
        chunks = [json.loads(event) for event in events]
        for chunk in chunks:
            assert chunk.pop("id").startswith("chatcmpl-")
            assert chunk.pop("created") > 0
            assert chunk.pop("object") == "chat.completion.chunk"
            assert chunk.pop("model") == "echo"
        usage = chunks.pop()["usage"]
        assert chunks == [
            {"choices": [], "prompt_progress": {"processed": 7, "total": 7}},
            {
                "choices": [
                    {"index": 0, "delta": {"role": "assistant", "content": "Echo:"}, "finish_reason": None}
                ]
            },
            {"choices": [{"index": 0, "delta": {"content": " one"}, "finish_reason": None}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]},
        ]
        assert usage["prompt_tokens_details"] == {"cached_tokens": 0}


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"model": "gpt-9"}, 404, "model_not_found"),
        ({"messages": []}, 400, "invalid_request_error"),
        ({"messages": "hi"}, 400, "invalid_request_error"),
        ({"messages": [{"role": "wizard", "content": "hi"}]}, 400, "invalid_request_error"),
        ({"messages": [{"role": "user", "content": None}]}, 400, "invalid_request_error"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            400,
            "invalid_request_error",
        ),
        ({"messages": user("x " * 5000)}, 400, "context_length_exceeded"),
        ({"messages": user("x" * (5 << 20))}, 413, "request_too_large"),
        ({"max_tokens": 0}, 400, "invalid_request_error"),
        ({"max_tokens": "many"}, 400, "invalid_request_error"),
        ({"temperature": -1}, 400, "invalid_request_error"),
        ({"temperature": True}, 400, "invalid_request_error"),
        ({"stop": [""]}, 400, "invalid_request_error"),
        ({"messages": user("echo:fail")}, 500, "engine_failed"),
    ],
)
async def test_refusals(
    serving: Serving, folder: Path, change: dict[str, Any], status: int, code: str
) -> None:
    """Whatever is wrong with a request is told in an OpenAI error object with a stable code."""
    async with serving(), raw(folder) as http:
        answer = await http.post("/v1/chat/completions", json=RAW | change)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert (await http.post("/v1/chat/completions", json=RAW)).is_success


async def test_refusals_of_nonsense(serving: Serving, folder: Path) -> None:
    """A body that is not a JSON object, a path that does not exist, and web pages are refused."""
    async with serving(), raw(folder) as http:
        for content in (b"{", b"[]", b"\xff\xfe", b"[" * 100_000):
            answer = await http.post("/v1/chat/completions", content=content)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request_error")
        assert (await http.get("/nowhere")).json()["error"]["code"] == "http_404"
        assert (await http.post("/tokenize", json={})).status_code == 400
        web_page = await http.post("/v1/chat/completions", json=RAW, headers={"Origin": "http://evil"})
        assert web_page.status_code == 403


async def test_surrogates_and_parts(serving: Serving, folder: Path) -> None:
    """A lone surrogate is legal JSON and must not break anything; text parts are joined."""
    async with serving(), raw(folder) as http:
        body = b'{"model":"echo","messages":[{"role":"user","content":"a\\ud800b"}]}'
        answer = await http.post("/v1/chat/completions", content=body)
        assert answer.json()["choices"][0]["message"]["content"] == "Echo: a?b"
        parts = [{"role": "user", "content": [{"type": "text", "text": t} for t in ("x", "y")]}]
        answer = await http.post("/v1/chat/completions", json=RAW | {"messages": parts})
        assert answer.json()["choices"][0]["message"]["content"] == "Echo: xy"


async def test_tokenize(serving: Serving, folder: Path) -> None:
    """/tokenize counts messages with the template and text without."""
    async with serving(), raw(folder) as http:
        assert (await http.post("/tokenize", json={"messages": user("a b")})).json()["count"] == 6
        assert (await http.post("/tokenize", json={"content": "a b"})).json()["count"] == 2


async def test_the_socket_is_ours_alone(serving: Serving, folder: Path) -> None:
    """The socket has mode 0600, and a folder that the server makes has 0700."""
    async with serving():
        assert stat.S_IMODE((folder / "model.sock").stat().st_mode) == 0o600


# -- the line --------------------------------------------------------------------------------------


async def waiting(http: httpx2.AsyncClient, count: int, running: int = 1) -> None:
    """Until so many requests wait and run in the server; bounded by the test's own timeout."""
    async with asyncio.timeout(20):
        while True:
            health = (await http.get("/health")).json()
            if (health["waiting"], health["running"]) == (count, running):
                return


async def test_positions_and_fairness(serving: Serving, folder: Path) -> None:
    """A second conversation is answered before the second question of a first, and sees its place move."""
    finished: list[str] = []

    async def one(client: ChatClient, name: str, key: str) -> list[int]:
        _, _, _, positions = await whole(client.chat(user(name + " x x x"), max_tokens=9, cache_key=key))
        finished.append(name)
        return positions

    async with serving(echo_delay=0.05) as client, raw(folder) as http, asyncio.TaskGroup() as group:
        tasks = []
        for count, (name, key) in enumerate([("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b")]):
            tasks.append(group.create_task(one(client, name, key)))
            await waiting(http, count)
    assert finished == ["a1", "b1", "a2", "a3"]
    assert [task.result() for task in tasks] == [[], [1, 2, 1], [2, 3, 2, 1], [1]]


async def test_priority(serving: Serving, folder: Path) -> None:
    """`service_tier` priority goes before default, flex after."""
    finished: list[str] = []

    async def one(client: ChatClient, name: str, tier: str) -> None:
        await whole(client.chat(user(name), max_tokens=9, priority=tier, cache_key=name))
        finished.append(name)

    async with serving(echo_delay=0.1) as client, raw(folder) as http, asyncio.TaskGroup() as group:
        for count, tier in enumerate(["default", "flex", "default", "priority"]):
            group.create_task(one(client, f"{tier}{count}", tier))
            await waiting(http, count)
    assert finished == ["default0", "priority3", "default2", "flex1"]


async def test_the_line_is_bounded(serving: Serving, folder: Path) -> None:
    """Beyond the bound a request is refused with when to come back, and the others are still answered."""
    async with serving(queue=2, echo_delay=0.1) as client, raw(folder) as http, asyncio.TaskGroup() as group:
        tasks = []
        for count in range(3):
            tasks.append(group.create_task(whole(client.chat(user("x"), max_tokens=9, cache_key=str(count)))))
            await waiting(http, count)
        with pytest.raises(ModelBusy) as busy:
            await whole(client.chat(user("late"), max_tokens=9, cache_key="late"))
        assert busy.value.after is not None
        assert 1 <= busy.value.after <= 60
    assert [task.result()[0] for task in tasks] == ["Echo: x"] * 3


# -- going away ------------------------------------------------------------------------------------


async def test_leaving_while_speaking_frees_the_model(serving: Serving) -> None:
    """Closing the iterator in the middle of a long answer lets the next one begin at once."""
    loop = asyncio.get_running_loop()
    async with serving(echo_delay=0.2) as client:
        stream = client.chat(user("w " * 100), max_tokens=1000)
        assert (await anext(stream)).text == "Echo:"
        await stream.aclose()
        started = loop.time()
        text, usage, _, _ = await whole(client.chat(user("x"), max_tokens=9))
        assert text == "Echo: x"
        assert usage["queue_seconds"] < 1
        assert loop.time() - started < 5  # the whole of the first would have taken 20 s


async def test_leaving_while_waiting_leaves_the_line(serving: Serving, folder: Path) -> None:
    """Whoever goes away while waiting is never answered, and nobody waits for it."""
    async with serving(echo_delay=0.2) as client, raw(folder) as http:
        first = client.chat(user("w " * 100), max_tokens=1000)
        await anext(first)
        second = client.chat(user("w " * 100), max_tokens=1000)
        assert (await anext(second)).position == 1  # nobody else waits, so it hears one position
        await waiting(http, 1)
        await second.aclose()
        await waiting(http, 0)
        third = client.chat(user("x"), max_tokens=9)
        assert (await anext(third)).position == 1
        await first.aclose()
        assert (await anext(third)).text == "Echo:"
        await third.aclose()


async def test_leaving_an_unstreamed_request(serving: Serving, folder: Path) -> None:
    """A connection that closes cancels a request that is not streamed, too."""
    async with serving(echo_delay=0.2), raw(folder) as http:
        asked = asyncio.create_task(
            http.post("/v1/chat/completions", json=RAW | {"messages": user("w " * 100)})
        )
        await waiting(http, 0, running=1)
        asked.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asked
        await waiting(http, 0, running=0)


async def test_errors_reach_the_caller(serving: Serving) -> None:
    """Errors before and in the middle of an answer are of the family that tells what to do."""
    async with serving() as client:
        with pytest.raises(ModelUnavailable):
            await whole(client.chat(user("echo:fail"), max_tokens=9))
        with pytest.raises(ModelUnavailable):
            await whole(client.chat(user("echo:break a b"), max_tokens=9))
        with pytest.raises(ModelRefused) as refused:
            await whole(client.chat(user("x " * 5000), max_tokens=9))
        assert refused.value.code == "context_length_exceeded"
        client.model = "another"
        with pytest.raises(ModelMisconfigured):
            await whole(client.chat(user("x"), max_tokens=9))
