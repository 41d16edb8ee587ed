"""Virtual time: an event loop on which waiting takes none, and the same script gives the same order.

`VirtualLoop.time()` stands still while a callback is ready; when everything waits for a timer, it jumps
there. So a backoff of five minutes costs nothing and always takes five minutes, and a test that waits for
what never comes fails at once. Work in threads (the journal's) is waited for where it is handed over, so
that no thread ever races the script; `tests/journal` runs the same journal on an ordinary loop.
"""

from __future__ import annotations

import asyncio
import selectors
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Executor

EPOCH_MS = 1_800_000_000_000
"""What the virtual clock starts from: in 2027."""


class _JumpingSelector(selectors.DefaultSelector):
    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if not found and timeout is None:
            raise RuntimeError("everything waits for something that nobody will do")
        if not found and timeout is not None:
            self.loop.elapsed += max(timeout, 0)
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that jumps to the next timer."""

    def __init__(self) -> None:
        selector = _JumpingSelector()
        selector.loop = self
        self.elapsed = 0.0
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="virtual")
        super().__init__(selector)

    def time(self) -> float:
        return self.elapsed

    def run_in_executor(  # type: ignore[override]  # typeshed has an overloaded generic here
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        work = (executor or self._pool).submit(func, *args)
        wait([work])
        return asyncio.wrap_future(work, loop=self)

    def close(self) -> None:
        self._pool.shutdown()
        super().close()


class VirtualClock:
    """`bridge.schedule.Clock` on the running loop's time."""

    def now(self) -> int:
        return EPOCH_MS + round(asyncio.get_running_loop().time() * 1000)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def run(scenario: Coroutine[Any, Any, Any]) -> Any:
    """`asyncio.run` in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(scenario)
