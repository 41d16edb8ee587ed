"""The desk: one engine in its own thread, the line before it, and what each request hears from it.

Owns the engine's thread and a second one for tokenizing, so that the event loop never waits for
either. Promises that a request which nobody wants any more (`ask` was left) stops at the engine's
next look, and that an engine's failure ends one request and not the desk.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import structlog

from models.line import Line, Tier
from models.protocol import Done, EngineError, Piece, Progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.protocol import Engine, Prompt, Wish

log = structlog.get_logger(__name__)

Heard = Piece | Progress | Done | EngineError | int
"""What a request hears: positions, then the answer in pieces, then `Done` or an error."""


class Full(Exception):
    """The line is full: come back `after` seconds."""

    def __init__(self, after: float) -> None:
        super().__init__(f"the line is full, come back in {after:.0f} s")
        self.after = after


@dataclass(eq=False, slots=True)
class Ticket:
    """One request. `cancelled` is set when nobody wants the answer any more.

    `position` is how many are before it, the running one included; None when it need not wait.
    """

    prompt: Prompt
    wish: Wish
    joined: float
    position: int | None = None
    queue_seconds: float = 0.0
    cancelled: threading.Event = field(default_factory=threading.Event)
    # Bounded by what there is to say: positions in a bounded line, the pieces of one answer.
    said: asyncio.Queue[Heard] = field(default_factory=asyncio.Queue)

    async def hear(self) -> Heard:
        """Wait for the next thing that happens to this request."""
        return await self.said.get()


class Desk:
    """Serves one request at a time. An asynchronous context manager: inside it, it works."""

    def __init__(self, engine: Engine, *, bound: int = 64, longest: float = 1800.0) -> None:
        """Let at most `bound` wait. No answer takes more than `longest` seconds of the engine."""
        self._engine = engine
        self._line: Line[Ticket] = Line(bound)
        self._longest = longest
        self._current: Ticket | None = None
        self._more = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="tokenizer")
        self._typical = 1.0
        """Seconds that an answer takes here, lately."""
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._work(), name="desk")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        if self._current is not None:
            self._current.cancelled.set()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.close)
        self._thread.shutdown(wait=False)
        self._reader.shutdown(wait=False)

    @property
    def waiting(self) -> int:
        """How many stand in the line."""
        return len(self._line)

    @property
    def running(self) -> int:
        """How many are being answered: 0 or 1."""
        return int(self._current is not None)

    async def prepare(self, messages: Sequence[dict[str, str]]) -> Prompt:
        """Tokenize messages beside the event loop and beside the engine."""
        return await asyncio.get_running_loop().run_in_executor(self._reader, self._engine.prepare, messages)

    async def count(self, text: str) -> int:
        """Count the tokens of a text."""
        return await asyncio.get_running_loop().run_in_executor(self._reader, self._engine.count, text)

    def give_up(self) -> None:
        """Tell everybody that nothing more will come: the server stops."""
        for ticket in [*self._line.order(), *([self._current] if self._current else [])]:
            ticket.cancelled.set()
            ticket.said.put_nowait(EngineError("shutting_down", "the model server stops"))

    async def forget(self, key: str) -> None:
        """Drop what is kept of a conversation, after the answer that is being made."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.forget, key)

    @contextlib.contextmanager
    def ask(self, prompt: Prompt, wish: Wish, tier: Tier = Tier.DEFAULT) -> Iterator[Ticket]:
        """Queue up; leaving the block gives up what is left of the request. Raises `Full`."""
        loop = asyncio.get_running_loop()
        ticket = Ticket(prompt, wish, joined=loop.time())
        if not self._line.join(ticket, wish.key, tier):
            raise Full(min(60.0, max(1.0, self._typical * len(self._line))))
        self._more.set()
        if self.running or self.waiting > 1:
            self._moved()
        try:
            yield ticket
        finally:
            ticket.cancelled.set()
            if self._line.leave(ticket):
                self._moved()

    def _moved(self) -> None:
        """Tell everybody whose position has changed."""
        for position, ticket in enumerate(self._line.order(), start=self.running):
            if position != ticket.position:
                ticket.position = position
                ticket.said.put_nowait(position)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            ticket = self._line.next()
            if ticket is None:
                self._more.clear()
                await self._more.wait()
                continue
            self._current, ticket.position = ticket, None
            self._moved()
            started = loop.time()
            ticket.queue_seconds = started - ticket.joined
            try:
                async with asyncio.timeout(self._longest):
                    await loop.run_in_executor(self._thread, self._answer, ticket, loop)
            except TimeoutError:
                ticket.cancelled.set()
                ticket.said.put_nowait(EngineError("timeout", "the answer took too long"))
            finally:
                self._current = None
            self._typical += 0.2 * (loop.time() - started - self._typical)

    def _answer(self, ticket: Ticket, loop: asyncio.AbstractEventLoop) -> None:
        """Run the engine for one request, in its thread."""

        def say(heard: Heard) -> None:
            loop.call_soon_threadsafe(ticket.said.put_nowait, heard)

        if ticket.cancelled.is_set():
            return
        try:
            for heard in self._engine.generate(ticket.prompt, ticket.wish, ticket.cancelled):
                say(heard)
        except EngineError as error:
            say(error)
        except Exception as error:  # noqa: BLE001 - the border, see below
            # The border to llama.cpp: one request fails, the others go on. Only the kind and the
            # place are told, since the words of an exception may quote the request.
            at = traceback.extract_tb(error.__traceback__)[-1]
            log.error("engine_failed", kind=type(error).__name__, file=at.filename, line=at.lineno)
            say(EngineError("engine_failed", f"the engine failed ({type(error).__name__})"))
