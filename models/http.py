"""What the model servers have in common: where they listen, how they err, start and end.

Owns the address (a Unix socket of mode 0600, or loopback), the OpenAI error object and its HTTP
status, Server-Sent Events, and the life of the process. Promises that a socket file which nobody
serves is replaced and one that is served is not, that the file is gone after the end, and that a
refusal to start is `EX_CONFIG` with one line on stderr. Refuses web pages (`Origin`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import signal
import socket as sockets
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import structlog
from aiohttp import web

from models import leash
from models.desk import Full
from models.protocol import EX_CONFIG, EngineError, Unloadable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable, Mapping

log = structlog.get_logger(__name__)

T = TypeVar("T")

REPEAT_SECONDS = 5.0
"""How often somebody who waits hears about it even if nothing has changed."""

STATUS = {
    "audio_unreadable": 400,
    "context_length_exceeded": 400,
    "invalid_request_error": 400,
    "template_refused": 400,
    "model_not_found": 404,
    "forbidden": 403,
    "overloaded": 429,
    "shutting_down": 503,
    "audio_too_large": 413,
    "audio_too_long": 413,
    "request_too_large": 413,
    "timeout": 504,
}
"""HTTP status of each code; any other is 500."""


class Served(Protocol):
    """A server as an application, with the name of its model."""

    @property
    def app(self) -> web.Application:
        """What answers."""
        ...

    @property
    def name(self) -> str:
        """The model's name."""
        ...


# -- answers ---------------------------------------------------------------------------------------


def error_object(code: str, what: str) -> dict[str, object]:
    """Tell what went wrong, in the shape of the OpenAI API."""
    kind = "invalid_request_error" if STATUS.get(code, 500) in {400, 403, 404, 413} else "server_error"
    return {"message": what, "type": kind, "param": None, "code": code}


def event(data: Mapping[str, object]) -> bytes:
    """One Server-Sent Event."""
    return b"data: " + json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


END = b"data: [DONE]\n\n"
"""The last event of a stream that ended well."""


async def begin_stream(request: web.Request) -> web.StreamResponse:
    """Begin an answer of Server-Sent Events."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await response.prepare(request)
    return response


async def or_silence(hear: Callable[[], Awaitable[T]]) -> T | None:
    """Wait for the next thing that happens; None after a silence that is worth a sign of life."""
    try:
        async with asyncio.timeout(REPEAT_SECONDS):
            return await hear()
    except TimeoutError:
        return None


def _refusal(status: int, code: str, what: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"error": error_object(code, what)}, status=status, headers=headers)


@web.middleware
async def errors(request: web.Request, handler: Any) -> web.StreamResponse:
    """Answer every error of ours, and of aiohttp, with an OpenAI error object."""
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


def number(given: Mapping[str, Any], name: str, low: float, high: float) -> float | None:
    """Read a number of a request, None where it is not given.

    Raises `invalid_request_error` for anything but a number from `low` to `high`.
    """
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise EngineError("invalid_request_error", f"{name!r} must be a number from {low} to {high}")
    return value


# -- the process -----------------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that every model server has."""
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--socket", type=Path, help="Unix socket to listen on (mode 0600)")
    where.add_argument("--port", type=int, help="port on 127.0.0.1 instead")
    parser.add_argument("--name", help="what the model is called (default: the name of its file or folder)")
    parser.add_argument("--threads", type=int, default=0, help="0: all processors but one")
    parser.add_argument("--queue", type=int, default=64, help="requests that may wait")
    parser.add_argument(
        "--memory", type=int, default=0, help="bytes of memory beside the weights; 0: no limit"
    )
    parser.add_argument("--nice", type=int, default=0, help="give way to others, 0 to 19 (nice(2))")
    parser.add_argument("--parent", type=int, default=0, help="die with this process")


def run(options: argparse.Namespace, load: Callable[[], Served]) -> int:
    """Load a model and serve it until told to stop. Returns the exit status.

    `load` raises `Unloadable` for what cannot work: `EX_CONFIG` with a line on stderr that says why.
    """
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    leash.hold(parent=options.parent, memory=options.memory, nice=options.nice)
    try:
        served = load()
        listener = _listen(options)
    except Unloadable as error:
        sys.stderr.write(error.line() + "\n")
        return EX_CONFIG
    try:
        asyncio.run(_serve(options, served, listener))
    finally:
        if options.socket is not None:
            options.socket.unlink(missing_ok=True)
    return 0


def health(name: str, owner: int, waiting: int, running: int) -> web.Response:
    """Say who serves, for `models/host.py`."""
    state = {"status": "ok", "model": name, "pid": os.getpid(), "owner": owner}
    return web.json_response(state | {"waiting": waiting, "running": running})


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


async def _serve(options: argparse.Namespace, served: Served, listener: sockets.socket) -> None:
    runner = web.AppRunner(served.app, access_log=None, handler_cancellation=True, shutdown_timeout=2.0)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    if options.parent:
        leash.watch_stdin(loop, stop.set)
    log.info("model_ready", model=served.name)
    await stop.wait()
    await runner.cleanup()
