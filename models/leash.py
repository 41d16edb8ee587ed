"""How a model server is held by the process that started it, from the inside.

Promises that the server dies with its parent (by signal, and when its stdin ends) and cannot use
more anonymous memory than it was given. Linux only; elsewhere stdin alone holds it.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that this process gets when the thread that started it ends."""


def hold(*, parent: int, memory: int, nice: int = 0) -> None:
    """Die with the process `parent` (0: with nobody) and use at most `memory` bytes (0: no limit).

    The limit is RLIMIT_DATA: it counts private writable memory (the heap, the KV cache, the
    buffers), not weights that are mapped from their file. `nice` is what it gives way to others.
    """
    if parent and sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)
    if memory:
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    if nice > 0:
        os.nice(nice)


def watch_stdin(loop: asyncio.AbstractEventLoop, ended: Callable[[], None]) -> None:
    """Call `ended` once when the other end of stdin is closed, as it is when its holder is gone."""
    descriptor = sys.stdin.fileno()
    os.set_blocking(descriptor, False)

    def readable() -> None:
        try:
            if os.read(descriptor, 4096):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        loop.remove_reader(descriptor)
        ended()

    loop.add_reader(descriptor, readable)
