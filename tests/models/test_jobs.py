"""Jobs made of steps: every end releases once, and one job's trouble is its own."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from models.desk import Full
from models.jobs import Job, Jobs
from models.line import Tier
from models.protocol import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Work:
    """A job of words that counts how often it is released, and in which thread."""

    def __init__(self, *steps: str | Exception) -> None:
        self.steps = steps
        self.released: list[str] = []
        self.gate = threading.Semaphore(0)
        self.ended = False

    def begin(self, _alone: Callable[[], bool]) -> Iterator[str]:
        try:
            for step in self.steps:
                if isinstance(step, Exception):
                    raise step
                if step == "wait":
                    assert self.gate.acquire(timeout=20)
                yield step
        finally:
            self.ended = True

    def release(self) -> None:
        self.released.append(threading.current_thread().name)


async def all_of(job: Job[str], count: int) -> list[Any]:
    """The next things that happen to a job, its positions left out."""
    found: list[Any] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            heard = await job.hear()
            found += [] if isinstance(heard, int) else [heard]
    return found


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - what is waited for happens in another thread
            await asyncio.sleep(0)


async def until_released(work: Work) -> None:
    await until(lambda: bool(work.released))
    assert len(work.released) == 1
    assert work.released[0].startswith("engine")


async def test_a_job() -> None:
    """Steps are heard in order, and what the job holds is released in the engine's thread."""
    closed = threading.Event()
    async with Jobs[str](closed.set) as jobs:
        work = Work("a", "b", "c")
        with jobs.ask(work.begin, work.release, "key") as job:
            assert await all_of(job, 3) == ["a", "b", "c"]
        await until_released(work)
    assert closed.is_set()


@pytest.mark.parametrize(
    ("trouble", "code"),
    [(EngineError("audio_unreadable", "no"), "audio_unreadable"), (ValueError("my secret"), "engine_failed")],
)
async def test_trouble(trouble: Exception, code: str) -> None:
    """A job that fails ends with an error that quotes nobody, and the next one is done."""
    with structlog.testing.capture_logs() as logs:
        async with Jobs[str](lambda: None) as jobs:
            bad, good = Work("a", trouble), Work("b")
            with (
                jobs.ask(bad.begin, bad.release, "a") as one,
                jobs.ask(good.begin, good.release, "b") as other,
            ):
                assert await all_of(one, 1) == ["a"]
                (error,) = await all_of(one, 1)
                assert isinstance(error, EngineError)
                assert error.code == code
                assert await all_of(other, 1) == ["b"]
            await until_released(bad)
            await until_released(good)
    assert "secret" not in repr(logs) + str(error)


async def test_a_step_that_hangs() -> None:
    """A step has a deadline: its job ends with `timeout`, and is released when the step is over."""
    async with Jobs[str](lambda: None, longest=0.05) as jobs:
        stuck = Work("wait", "a")
        with jobs.ask(stuck.begin, stuck.release, "a") as job:
            (error,) = await all_of(job, 1)
            assert isinstance(error, EngineError)
            assert error.code == "timeout"
            assert not stuck.released
            stuck.gate.release()
            await until_released(stuck)


async def test_every_way_out_releases_once() -> None:
    """Refused, left while waiting, left while set aside, left while running, and the end of the desk."""
    works = {name: Work("wait", "wait") for name in ("refused", "waiting", "aside", "running", "last")}
    async with Jobs[str](lambda: None, bound=1) as jobs:

        def ask(name: str, tier: Tier) -> Any:
            return jobs.ask(works[name].begin, works[name].release, name, tier)

        with ask("aside", Tier.FLEX) as aside:
            await until(lambda: bool(jobs.running))
            with ask("running", Tier.PRIORITY) as running:
                with pytest.raises(Full), ask("refused", Tier.FLEX):
                    pass
                works["aside"].gate.release()
                assert await all_of(aside, 1) == ["wait"]
                with ask("waiting", Tier.FLEX) as waiting:
                    assert await waiting.hear() == 2
                works["running"].gate.release()
                assert await all_of(running, 1) == ["wait"]
            works["running"].gate.release()
            await until_released(works["running"])
        works["aside"].gate.release()
        await until_released(works["aside"])
        with ask("last", Tier.FLEX):
            await until(lambda: bool(jobs.running))
            works["last"].gate.release(2)
    for work in works.values():
        await until_released(work)
