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
import asyncio
import contextlib
import json
import math
import os
import secrets
import signal
import socket as sockets
import stat
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import web

from models import leash
from models.desk import Desk, Full
from models.echo import EchoEngine
from models.line import Tier
from models.protocol import EX_CONFIG, Done, EngineError, Piece, Progress, Unloadable, Wish

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from models.desk import Heard, Ticket
    from models.protocol import Engine

log = structlog.get_logger(__name__)

ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
REPEAT_SECONDS = 5.0
"""How often somebody who waits hears about it even if nothing has changed."""

STATUS = {
    "context_length_exceeded": 400,
    "invalid_request_error": 400,
    "template_refused": 400,
    "model_not_found": 404,
    "forbidden": 403,
    "overloaded": 429,
    "shutting_down": 503,
    "request_too_large": 413,
    "timeout": 504,
}
"""HTTP status of each code; any other is 500."""


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
        self.app = web.Application(client_max_size=limit, middlewares=[_errors])
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

    async def _working(self, _app: web.Application) -> AsyncIterator[None]:
        async with self.desk:
            yield

    async def _give_up(self, _app: web.Application) -> None:
        self.desk.give_up()

    async def _health(self, _request: web.Request) -> web.Response:
        state = {"status": "ok", "model": self.engine.name, "pid": os.getpid(), "owner": self._owner}
        return web.json_response(state | {"waiting": self.desk.waiting, "running": self.desk.running})

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
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        await response.prepare(request)
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
                    await response.write(_event({"error": _error(error.code, error.what)}))
                    return response
                case None:
                    shown = [{"choices": []}]  # alive, nothing new
            await response.write(b"".join(_event(envelope | more) for more in shown))
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _signs(self, ticket: Ticket) -> AsyncIterator[Heard | None]:
        """Give what a request hears up to its end; after a silence its position again, or None."""
        heard: Heard | None = None
        while not isinstance(heard, Done | EngineError):
            try:
                async with asyncio.timeout(REPEAT_SECONDS):
                    heard = await ticket.hear()
            except TimeoutError:
                heard = ticket.position
            yield heard

    def _envelope(self, kind: str) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "object": kind,
            "created": int(time.time()),
            "model": self.engine.name,
        }


# -- the shapes of the OpenAI API ------------------------------------------------------------------


def _event(data: Mapping[str, object]) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def _choice(delta: Mapping[str, str], finish: str | None) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def _error(code: str, what: str) -> dict[str, object]:
    kind = "invalid_request_error" if STATUS.get(code, 500) in {400, 403, 404, 413} else "server_error"
    return {"message": what, "type": kind, "param": None, "code": code}


def _refusal(status: int, code: str, what: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"error": _error(code, what)}, status=status, headers=headers)


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


@web.middleware
async def _errors(request: web.Request, handler: Any) -> web.StreamResponse:
    if "Origin" in request.headers:  # a web page in somebody's browser, which can reach loopback too
        return _refusal(403, "forbidden", "this server does not talk to web pages")
    try:
        response: web.StreamResponse = await handler(request)
    except Full as full:
        after = {"Retry-After": str(math.ceil(full.after))}
        return _refusal(429, "overloaded", "too many requests wait for the model", after)
    except EngineError as error:
        return _refusal(STATUS.get(error.code, 500), error.code, error.what)
    except web.HTTPRequestEntityTooLarge:
        return _refusal(413, "request_too_large", "the request body is too large")
    except web.HTTPException as error:
        return _refusal(error.status, f"http_{error.status}", error.reason)
    return response


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
    limit = _number(body, "max_completion_tokens", 1, math.inf)
    limit = _number(body, "max_tokens", 1, math.inf) if limit is None else limit
    seed = _number(body, "seed", -(2**63), 2**64)
    options = body.get("stream_options")
    key = body.get("prompt_cache_key")
    tier = body.get("service_tier")
    return Asked(
        messages=_messages(body.get("messages")),
        wish=Wish(
            max_tokens=None if limit is None else int(limit),
            temperature=_number(body, "temperature", 0, 2),
            top_p=_number(body, "top_p", 0, 1),
            seed=None if seed is None else int(seed) % 2**32,
            stop=tuple(stop),
            key=key if isinstance(key, str) else "",
        ),
        tier=Tier.of(tier if isinstance(tier, str) else None),
        stream=body.get("stream") is True,
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
    )


def _number(body: Mapping[str, Any], name: str, low: float, high: float) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise EngineError("invalid_request_error", f"{name!r} must be a number from {low} to {high}")
    return value


# -- the process -----------------------------------------------------------------------------------


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m models.server", description="Serve one local model.")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--socket", type=Path, help="Unix socket to listen on (mode 0600)")
    where.add_argument("--port", type=int, help="port on 127.0.0.1 instead")
    parser.add_argument("--model", required=True, help="a GGUF file, or 'echo'")
    parser.add_argument("--name", help="what the model is called (default: the file's name)")
    parser.add_argument("--context", type=int, default=0, help="tokens; 0: 8192; at most the model's own")
    parser.add_argument("--threads", type=int, default=0, help="0: all processors but one")
    parser.add_argument("--queue", type=int, default=64, help="requests that may wait")
    parser.add_argument(
        "--memory", type=int, default=0, help="bytes of memory beside the weights; 0: no limit"
    )
    parser.add_argument("--echo-delay", type=float, default=0.0, help="seconds before each word of echo")
    parser.add_argument("--parent", type=int, default=0, help="die with this process")
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


def _listen(options: argparse.Namespace) -> sockets.socket:
    """Bind where we were told. A socket file that nobody serves is replaced, a served one is not."""
    if options.socket is None:
        return sockets.create_server(("127.0.0.1", options.port))
    path: Path = options.socket
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    listener = sockets.socket(sockets.AF_UNIX)
    try:
        if stat.S_ISSOCK(path.lstat().st_mode):
            with contextlib.closing(sockets.socket(sockets.AF_UNIX)) as probe:
                try:
                    probe.connect(str(path))
                except ConnectionRefusedError:
                    path.unlink()
                else:
                    raise Unloadable(str(path), "another server listens there", "stop it, or use it")
        else:
            raise Unloadable(str(path), "there is a file of this name", "name a path that is free")
    except FileNotFoundError:
        pass
    # Under another name until it listens: whoever finds the file finds a server behind it.
    aside = path.with_name(f"{path.name}~")
    umask = os.umask(0o177)
    try:
        aside.unlink(missing_ok=True)
        listener.bind(str(aside))
        listener.listen(128)
        aside.rename(path)
    except OSError as error:
        raise Unloadable(
            str(path), f"cannot listen there ({error})", "name a short path in a folder of ours"
        ) from None
    finally:
        os.umask(umask)
    return listener


async def _serve(options: argparse.Namespace, engine: Engine, listener: sockets.socket) -> None:
    server = ModelServer(engine, bound=options.queue, owner=options.parent)
    runner = web.AppRunner(server.app, access_log=None, handler_cancellation=True, shutdown_timeout=2.0)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if options.parent:
        leash.watch_stdin(loop, stop.set)
    log.info("model_ready", model=engine.name, context=engine.context)
    await stop.wait()
    await runner.cleanup()


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to stop. Returns the exit status; `EX_CONFIG` with a line on stderr that says why."""
    options = _options(argv)
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    leash.hold(parent=options.parent, memory=options.memory)
    try:
        engine = _engine(options)
        listener = _listen(options)
    except Unloadable as error:
        sys.stderr.write(error.line() + "\n")
        return EX_CONFIG
    try:
        asyncio.run(_serve(options, engine, listener))
    finally:
        if options.socket is not None:
            options.socket.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
