"""Jobs that are done in steps: one engine thread, and who may use it for the next step.

        join                 better tier waits
    o --------> in the line ------> running ------> set aside
                     ^   |             ^  |             |
               leave |   '-------------'  |             | nothing better waits
                     o      its turn      '-> ended     '--> running

A job runs until it ends or until somebody of a better tier waits: then it is set aside between two
of its steps, with all that it holds, and goes on afterwards where it was. Promises that a job
which nobody wants any more (`ask` was left) makes no further step, that what it holds is released
exactly once and never under the engine's hands, and that a failure ends one job and not the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Self, TypeVar

import structlog

from models.desk import Full
from models.line import Line, Tier
from models.protocol import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = structlog.get_logger(__name__)

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class Job(Generic[T]):
    """One job. `position` is how many are before it, the running one included; None when it runs.

    `said` ends with an `EngineError`, or with the last step of the job.
    """

    begin: Callable[[Callable[[], bool]], Iterator[T]]
    release: Callable[[], None]
    tier: Tier
    joined: float
    position: int | None = None
    queue_seconds: float = 0.0
    seconds: float = 0.0
    """Of the engine's time, so far."""
    cancelled: bool = False
    steps: Iterator[T] | None = None
    # Bounded by what there is to say: positions in a bounded line, the steps of one recording.
    said: asyncio.Queue[T | EngineError | int] = field(default_factory=asyncio.Queue)

    async def hear(self) -> T | EngineError | int:
        """Wait for the next thing that happens to this job: its position, a step, an error."""
        return await self.said.get()


class Jobs(Generic[T]):
    """Works off one job at a time. An asynchronous context manager: inside it, it works."""

    def __init__(self, close: Callable[[], None], *, bound: int = 64, longest: float = 900.0) -> None:
        """Let at most `bound` wait. No step takes more than `longest` seconds; `close` ends the engine."""
        self._close = close
        self._line: Line[Job[T]] = Line(bound)
        self._longest = longest
        self._current: Job[T] | None = None
        self._aside: list[Job[T]] = []
        """Jobs that made way, each of a worse tier than the one after it: the last goes on first."""
        self._more = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._typical = 1.0
        """Seconds that a job takes here, lately."""
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._work(), name="jobs")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        # In the engine's thread, and so after the step that it is making.
        ended = [self._thread.submit(_drop, job) for job in [*self._aside, *self._line.order()]]
        ended.append(self._thread.submit(self._close))
        await asyncio.wait([asyncio.wrap_future(future) for future in ended])
        self._thread.shutdown(wait=False)

    @property
    def waiting(self) -> int:
        """How many stand in the line or were set aside."""
        return len(self._line) + len(self._aside)

    @property
    def running(self) -> int:
        """How many are being worked on: 0 or 1."""
        return int(self._current is not None)

    def give_up(self) -> None:
        """Tell everybody that nothing more will come: the server stops."""
        for job in [*self._line.order(), *self._aside, *([self._current] if self._current else [])]:
            job.cancelled = True
            job.said.put_nowait(EngineError("shutting_down", "the model server stops"))

    @contextlib.contextmanager
    def ask(
        self,
        begin: Callable[[Callable[[], bool]], Iterator[T]],
        release: Callable[[], None],
        key: str,
        tier: Tier = Tier.DEFAULT,
    ) -> Iterator[Job[T]]:
        """Queue up; leaving the block gives up what is left of the job. Raises `Full`.

        `begin` makes the steps, each made in the engine's thread; it is given a question that says
        whether nobody else waits. `release` is called in that thread when the job has ended,
        however it did, and also where `Full` is raised (then at once).
        """
        loop = asyncio.get_running_loop()
        job = Job(begin, release, tier, joined=loop.time())
        if not self._line.join(job, key, tier):
            self._thread.submit(_drop, job)
            raise Full(min(60.0, max(1.0, self._typical * len(self._line))))
        self._more.set()
        if self.running or self.waiting > 1:
            self._moved()
        try:
            yield job
        finally:
            job.cancelled = True
            if self._line.leave(job):
                self._thread.submit(_drop, job)
                self._moved()
            self._more.set()  # one that was set aside is looked at, and ended

    def _moved(self) -> None:
        """Tell everybody whose position has changed. Who was set aside comes before its tier."""
        order: list[Job[T]] = sorted([*reversed(self._aside), *self._line.order()], key=lambda job: job.tier)
        for position, job in enumerate(order, start=self.running):
            if position != job.position:
                job.position = position
                job.said.put_nowait(position)

    def _alone(self) -> bool:
        """Whether nobody waits. Asked from the engine's thread: a number read a moment late is no harm."""
        return not len(self._line)

    def _next(self) -> Job[T] | None:
        """Take out whose turn it is: a better tier first, then the one that made way last."""
        best = self._line.best()
        if self._aside and (best is None or best >= self._aside[-1].tier):
            return self._aside.pop()
        return self._line.next()

    async def _work(self) -> None:
        while True:
            job = self._next()
            if job is None:
                self._more.clear()
                await self._more.wait()
                continue
            self._current, job.position = job, None
            self._moved()
            try:
                await self._run(job)
            finally:
                self._current = None

    async def _run(self, job: Job[T]) -> None:
        """Make steps until the job ends or must make way."""
        loop = asyncio.get_running_loop()
        if not job.seconds:
            job.queue_seconds = loop.time() - job.joined
        makes_way = False
        try:
            while not job.cancelled:
                best = self._line.best()
                if makes_way := best is not None and best < job.tier:
                    self._aside.append(job)
                    return
                started = loop.time()
                try:
                    async with asyncio.timeout(self._longest):
                        step = await loop.run_in_executor(self._thread, _step, job, self._alone)
                except TimeoutError:
                    step = EngineError("timeout", "a step of the work took too long")
                job.seconds += loop.time() - started
                if step is None:
                    return
                job.said.put_nowait(step)
                if isinstance(step, EngineError):
                    return
        finally:
            if not makes_way:
                self._thread.submit(_drop, job)
                self._typical += 0.2 * (job.seconds - self._typical)


def _step(job: Job[T], alone: Callable[[], bool]) -> T | EngineError | None:
    """Make one step, in the engine's thread. None: there is no other."""
    if job.steps is None:
        job.steps = job.begin(alone)
    try:
        return next(job.steps, None)
    except EngineError as error:
        return error
    except Exception as error:  # noqa: BLE001 - the border, see below
        # The border to the engine and to what people send: one job fails, the others go on. Only the
        # kind and the place are told, since the words of an exception may quote what was said.
        at = traceback.extract_tb(error.__traceback__)[-1]
        log.error("engine_failed", kind=type(error).__name__, file=at.filename, line=at.lineno)
        return EngineError("engine_failed", f"the engine failed ({type(error).__name__})")


def _drop(job: Job[T]) -> None:
    """End a job and release what it holds, in the engine's thread."""
    try:
        if isinstance(job.steps, Generator):
            job.steps.close()
    finally:
        job.release()
