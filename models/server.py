"""A local model behind the OpenAI HTTP API, on a Unix socket or on loopback.

Owns one engine (llama.cpp or the echo double), the line of those who wait for it, and the HTTP
around both. Promises: one request is answered at a time, in an order that is fair between
conversations; whoever waits is told how many are before; a caller that goes away stops its
request wherever it is (in the line, while the prompt is read, while words are made); every error
is an OpenAI error object with a stable `code`; what is asked is never written to a log.
Refuses any address but a socket file (mode 0600) and loopback, and connects to nothing.

    POST /v1/chat/completions   stream or not; extensions in docs/models.md
    GET  /v1/models             the one model, with its context size
    POST /tokenize              {messages} or {content} -> {count, max_model_len}
    POST /forget                {prompt_cache_key}: its kept prefix is dropped
    GET  /health                {status, model, pid, owner, waiting, running}
"""

from __future__ import annotations

import argparse
import json
import math
import secrets
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from models import http
from models.desk import Desk
from models.echo import EchoEngine
from models.line import Tier
from models.protocol import Done, EngineError, Piece, Progress, Unloadable, Wish

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from models.desk import Heard, Ticket
    from models.protocol import Engine

ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})


@dataclass(frozen=True, slots=True)
class Asked:
    """A chat request that was understood."""

    messages: tuple[dict[str, str], ...]
    wish: Wish
    tier: Tier
    stream: bool
    include_usage: bool


class ModelServer:
    """The HTTP side of one engine."""

    def __init__(self, engine: Engine, *, bound: int = 64, owner: int = 0, limit: int = 4 << 20) -> None:
        """Keep at most `bound` waiting; `limit` is the size of a body in bytes, `owner` our parent."""
        self.engine = engine
        self.desk = Desk(engine, bound=bound)
        self._owner = owner
        self.app = web.Application(client_max_size=limit, middlewares=[http.errors])
        self.app.add_routes(
            [
                web.post("/v1/chat/completions", self._chat),
                web.get("/v1/models", self._models),
                web.post("/tokenize", self._tokenize),
                web.post("/forget", self._forget),
                web.get("/health", self._health),
            ]
        )
        self.app.cleanup_ctx.append(self._working)
        self.app.on_shutdown.append(self._give_up)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.engine.name

    async def _working(self, _app: web.Application) -> AsyncIterator[None]:
        async with self.desk:
            yield

    async def _give_up(self, _app: web.Application) -> None:
        self.desk.give_up()

    async def _health(self, _request: web.Request) -> web.Response:
        return http.health(self.engine.name, self._owner, self.desk.waiting, self.desk.running)

    async def _models(self, _request: web.Request) -> web.Response:
        entry = {"id": self.engine.name, "object": "model", "created": 0, "owned_by": "hearth"}
        entry["context_size"] = self.engine.context
        return web.json_response({"object": "list", "data": [entry]})

    async def _tokenize(self, request: web.Request) -> web.Response:
        body = await _body(request)
        if "messages" in body:
            prompt = await self.desk.prepare(_messages(body["messages"]))
            count = prompt.size
        elif isinstance(content := body.get("content"), str):
            count = await self.desk.count(content)
        else:
            raise EngineError("invalid_request_error", "give 'messages' or 'content'")
        return web.json_response({"count": count, "max_model_len": self.engine.context})

    async def _forget(self, request: web.Request) -> web.Response:
        if not isinstance(key := (await _body(request)).get("prompt_cache_key"), str):
            raise EngineError("invalid_request_error", "give 'prompt_cache_key'")
        await self.desk.forget(key)
        return web.json_response({"forgotten": True})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        asked = _asked(await _body(request), self.engine.name)
        prompt = await self.desk.prepare(asked.messages)
        if prompt.size >= self.engine.context:
            raise EngineError(
                "context_length_exceeded",
                f"the prompt has {prompt.size} tokens, the context holds {self.engine.context}",
            )
        with self.desk.ask(prompt, asked.wish, asked.tier) as ticket:
            if asked.stream:
                return await self._stream(request, asked, ticket)
            return await self._whole(asked, ticket)

    async def _whole(self, asked: Asked, ticket: Ticket) -> web.Response:
        text: list[str] = []
        while True:
            match await ticket.hear():
                case Piece(text=more):
                    text.append(more)
                case EngineError() as error:
                    raise error
                case Done() as done:
                    break
                case _:
                    pass
        answer = self._envelope("chat.completion") | {
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "".join(text)},
                    "finish_reason": done.finish,
                    "logprobs": None,
                }
            ],
            "usage": _usage(done, ticket),
            "service_tier": asked.tier.name.lower(),
        }
        return web.json_response(answer)

    async def _stream(self, request: web.Request, asked: Asked, ticket: Ticket) -> web.StreamResponse:
        response = await http.begin_stream(request)
        envelope = self._envelope("chat.completion.chunk")
        role = {"role": "assistant"}
        async for heard in self._signs(ticket):
            match heard:
                case int() as position:
                    shown = [{"choices": [], "queue_position": position}]
                case Progress(processed=processed, total=total):
                    shown = [{"choices": [], "prompt_progress": {"processed": processed, "total": total}}]
                case Piece(text=text):
                    shown = [_choice({**role, "content": text}, None)]
                    role = {}
                case Done() as done:
                    shown = [_choice({}, done.finish)]
                    if asked.include_usage:
                        shown.append({"choices": [], "usage": _usage(done, ticket)})
                case EngineError() as error:
                    await response.write(http.event({"error": http.error_object(error.code, error.what)}))
                    return response
                case None:
                    shown = [{"choices": []}]  # alive, nothing new
            await response.write(b"".join(http.event(envelope | more) for more in shown))
        await response.write(http.END)
        return response

    async def _signs(self, ticket: Ticket) -> AsyncIterator[Heard | None]:
        """Give what a request hears up to its end; after a silence its position again, or None."""
        heard: Heard | None = None
        while not isinstance(heard, Done | EngineError):
            heard = await http.or_silence(ticket.hear)
            yield ticket.position if heard is None else heard

    def _envelope(self, kind: str) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "object": kind,
            "created": int(time.time()),
            "model": self.engine.name,
        }


# -- the shapes of the OpenAI API ------------------------------------------------------------------


def _choice(delta: Mapping[str, str], finish: str | None) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def _usage(done: Done, ticket: Ticket) -> dict[str, object]:
    return {
        "prompt_tokens": done.prompt_tokens,
        "completion_tokens": done.completion_tokens,
        "total_tokens": done.prompt_tokens + done.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": done.cached_tokens},
        "queue_seconds": round(ticket.queue_seconds, 6),
        "prefill_seconds": round(done.prefill_seconds, 6),
        "decode_seconds": round(done.decode_seconds, 6),
    }


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.read())
    except (ValueError, RecursionError):
        raise EngineError("invalid_request_error", "the body is not JSON") from None
    if not isinstance(body, dict):
        raise EngineError("invalid_request_error", "the body is not a JSON object")
    return body


def _messages(given: object) -> tuple[dict[str, str], ...]:
    """Read the messages of a request: roles of the API, text only (a string or text parts)."""
    if not isinstance(given, list) or not given:
        raise EngineError("invalid_request_error", "'messages' must be a list that is not empty")
    messages = []
    for message in given:
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ROLES:
            raise EngineError("invalid_request_error", "each message needs a role of the OpenAI API")
        content = message.get("content")
        if isinstance(content, list):
            texts = [part.get("text") if isinstance(part, dict) else None for part in content]
            known = [text for text in texts if isinstance(text, str)]
            content = "".join(known) if len(known) == len(texts) else None
        if not isinstance(content, str):
            raise EngineError("invalid_request_error", "each message needs text as its content")
        # Lone surrogates are legal in JSON, but no tokenizer takes them.
        content = content.encode("utf-8", "replace").decode()
        messages.append({"role": "system" if role == "developer" else role, "content": content})
    return tuple(messages)


def _asked(body: Mapping[str, Any], served: str) -> Asked:
    """Read a chat request. Unknown fields are ignored, as servers of this API do."""
    if body.get("model") != served:
        raise EngineError("model_not_found", f"this server has the model {served!r} and no other")
    stop = body.get("stop") or []
    stop = [stop] if isinstance(stop, str) else stop
    if not isinstance(stop, list) or not all(isinstance(s, str) and s for s in stop):
        raise EngineError("invalid_request_error", "'stop' must be a string or a list of strings")
    limit = http.number(body, "max_completion_tokens", 1, math.inf)
    limit = http.number(body, "max_tokens", 1, math.inf) if limit is None else limit
    seed = http.number(body, "seed", -(2**63), 2**64)
    options = body.get("stream_options")
    key = body.get("prompt_cache_key")
    tier = body.get("service_tier")
    return Asked(
        messages=_messages(body.get("messages")),
        wish=Wish(
            max_tokens=None if limit is None else int(limit),
            temperature=http.number(body, "temperature", 0, 2),
            top_p=http.number(body, "top_p", 0, 1),
            seed=None if seed is None else int(seed) % 2**32,
            stop=tuple(stop),
            key=key if isinstance(key, str) else "",
        ),
        tier=Tier.of(tier if isinstance(tier, str) else None),
        stream=body.get("stream") is True,
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
    )


# -- the process -----------------------------------------------------------------------------------


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m models.server", description="Serve one local model.")
    http.add_options(parser)
    parser.add_argument("--model", required=True, help="a GGUF file, or 'echo'")
    parser.add_argument("--context", type=int, default=0, help="tokens; 0: 8192; at most the model's own")
    parser.add_argument("--echo-delay", type=float, default=0.0, help="seconds before each word of echo")
    return parser.parse_args(argv)


def _engine(options: argparse.Namespace) -> Engine:
    if options.model == "echo":
        context = options.context or 4096
        return EchoEngine(name=options.name or "echo", context=context, delay=options.echo_delay)
    try:
        from models.engine import LlamaEngine  # noqa: PLC0415 - llama.cpp is an extra that echo does without
    except ImportError:
        raise Unloadable(
            options.model, "llama.cpp is not installed", "install hearth-bridge[local], or use a remote model"
        ) from None
    return LlamaEngine(
        Path(options.model),
        name=options.name,
        context=options.context,
        threads=options.threads,
        repack=not options.memory,  # a limit is on what is not mapped, so weights stay mapped
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to stop. Returns the exit status; `EX_CONFIG` with a line on stderr that says why."""
    options = _options(argv)
    return http.run(options, lambda: ModelServer(_engine(options), bound=options.queue, owner=options.parent))


if __name__ == "__main__":
    sys.exit(main())
