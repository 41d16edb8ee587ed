"""Starts a model server as a child process, or adopts one that already listens; watches, restarts.

           .----------------------------- gone -----------------------------.
           v                                                                |
    STARTING --> answers /health --> READY --> died, too large --> RESTARTING
        |                                                               |
        '--> cannot work (exit 78), or died five times at start --> FAILED <'

Promises: a crash of llama.cpp never takes this process down; a child gets no environment, no
files and no credentials of ours, no more memory than its limit, and dies with us; restarts back
off (jittered, at most a minute apart). A model that cannot work is `failed` with its reason and a
remedy, at once and without a loop. Refuses to adopt the child of another process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import httpx2
import structlog

from models.border import ModelMisconfigured
from models.protocol import EX_CONFIG, REMEDY, TROUBLE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

log = structlog.get_logger(__name__)

BACKOFF_CAP: Final = 60.0
STARTS: Final = 5
"""Deaths in a row, without ever answering, after which a server is given up."""
STEADY_SECONDS: Final = 60.0
"""A server that was ready for so long starts its backoff anew."""

ENVIRONMENT: Final = {
    "PATH": os.defpath,
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "OPENBLAS_NUM_THREADS": "1",  # numpy comes with llama-cpp-python; its threads reserve memory for nothing
}
"""All that a child sees of our environment."""
RESERVED: Final = 256 * 2**20
"""Bytes that RLIMIT_DATA allows beyond the limit: it counts what is reserved (the stacks of threads),
while the limit is about what is used, which is watched. The kernel stops what is quicker than the watch."""


NICE: Final = 10
"""How much hearing gives way to answering: an answer is waited for, word by word."""


class State(StrEnum):
    """How a model server is doing."""

    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ServeSpec:
    """What to serve and where. `model` is a GGUF file (a folder for speech), or `echo`.

    `memory` (bytes; 0: no limit) limits what the server uses: beside the mapped weights for chat,
    with them for speech, whose weights are read into memory. `context` is for chat; `longest`
    (seconds) and `largest` (bytes) of a recording are for speech. `nice` is what the server gives
    way to others (nice(2)); None: nothing for chat, `NICE` for speech.
    """

    model: str
    socket: Path
    name: str | None = None
    context: int = 0
    threads: int = 0
    queue: int = 64
    memory: int = 0
    echo_delay: float = 0.0
    kind: Literal["chat", "speech"] = "chat"
    longest: float = 0.0
    largest: int = 0
    nice: int | None = None

    @property
    def served_name(self) -> str:
        """The name by which requests ask for this model."""
        path = Path(self.model)  # "echo" is its own name, a folder's may have dots in it
        return self.name or (path.name if self.kind == "speech" else path.stem)

    def command(self, parent: int) -> list[str]:
        """Compose the command line of the child of process `parent`."""
        model = self.model if self.model == "echo" else str(Path(self.model).absolute())
        speech = self.kind == "speech"
        command = [
            *(sys.executable, "-I", "-m", "models.speech" if speech else "models.server"),
            *("--socket", str(self.socket.absolute()), "--model", model, "--name", self.served_name),
            *("--threads", str(self.threads), "--queue", str(self.queue)),
            *("--memory", str(self.memory and self.memory + RESERVED)),
            *("--nice", str((NICE if speech else 0) if self.nice is None else self.nice)),
            *("--echo-delay", str(self.echo_delay), "--parent", str(parent)),
        ]
        if not speech:
            return [*command, "--context", str(self.context)]
        limits = {"--longest": self.longest, "--largest": self.largest}
        return command + [word for name, limit in limits.items() if limit for word in (name, str(limit))]


def shares(cores: int) -> tuple[int, int]:
    """Threads of chat and of speech where both are on this machine.

    llama.cpp waits at barriers, and is slower by far where it shares a core. So the cores are dealt
    out: a quarter to speech, which is niced and leaves its cores to the bridge when that needs one.
    """
    speech = max(1, cores // 4)
    return max(1, cores - speech), speech


def delay_before(failures: int, jitter: float) -> float:
    """Seconds to wait after so many failures in a row; `jitter` is from 0 to 1."""
    return min(BACKOFF_CAP, 0.5 * 2.0 ** min(failures, 10)) * (0.5 + 0.5 * jitter)


def trouble(lines: list[str], model: str) -> ModelMisconfigured | None:
    """Read the reason and the remedy that a dying server left on stderr."""
    for line in reversed(lines):
        if line.startswith(TROUBLE):
            what, _, remedy = line.removeprefix(TROUBLE).partition(REMEDY)
            path, colon, why = what.partition(": ")
            return ModelMisconfigured(path if colon else model, f"{why or what}; {remedy}")
    return None


class ModelHost:
    """One model server, kept alive. An asynchronous context manager; inside it, it watches.

    `state`, `restarts` and `reason` say how it is doing; `failure` is set with `State.FAILED`.
    """

    def __init__(
        self,
        spec: ServeSpec,
        *,
        ready_within: float = 120.0,
        poll: float = 1.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`ready_within` (seconds) bounds a start, `poll` is how often a ready server is looked at."""
        self.spec = spec
        self.state = State.STARTING
        self.restarts = 0
        self.reason = ""
        self.failure: ModelMisconfigured | None = None
        self.adopted = False
        self._ready_within = ready_within
        self._poll = poll
        self._sleep = sleep
        self._jitter = jitter
        self._child: asyncio.subprocess.Process | None = None
        self._said: deque[str] = deque(maxlen=20)
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self._http = httpx2.AsyncClient(
            transport=httpx2.AsyncHTTPTransport(uds=str(spec.socket), verify=False, trust_env=False),
            timeout=2.0,
            trust_env=False,
        )

    @property
    def pid(self) -> int | None:
        """The child's process id, if there is one."""
        return self._child.pid if self._child is not None else None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._keep(), name=f"model-host {self.spec.served_name}")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self._http.aclose()
        await self._become(State.STOPPED)

    async def ready(self, within: float | None = None) -> None:
        """Wait until the model answers, `within` seconds (default: the deadline of a start).

        Raises `ModelMisconfigured` once it is clear that it never will, and `TimeoutError`.
        """
        async with asyncio.timeout(self._ready_within if within is None else within), self._changed:
            await self._changed.wait_for(lambda: self.state in {State.READY, State.FAILED, State.STOPPED})
        if self.state is not State.READY:
            raise self.failure or ModelMisconfigured(self.spec.model, "the model server was stopped")

    async def _become(self, state: State, reason: str = "") -> None:
        async with self._changed:
            if state is not self.state:
                log.info("model_state", model=self.spec.served_name, state=str(state), reason=reason)
            self.state, self.reason = state, reason
            self._changed.notify_all()

    async def _keep(self) -> None:
        """Start or adopt, watch, and begin again, until cancelled or until it makes no sense."""
        loop = asyncio.get_running_loop()
        failures = never_answered = 0
        try:
            while True:
                health = await self._health()
                if health is not None and health.get("owner") not in {0, os.getpid()}:
                    # The child of a process that was killed a moment ago, or of a second Hearth.
                    reason = "the socket is served by the child of another process"
                    failure: ModelMisconfigured | None = ModelMisconfigured(
                        str(self.spec.socket), f"{reason}; stop that one, or name another socket"
                    )
                    was_ready = 0.0
                else:
                    since = loop.time()
                    reason, failure = await (self._watch_adopted() if health else self._run_child())
                    was_ready = loop.time() - since if self.state is State.READY else 0.0
                    if self.state is State.READY:
                        never_answered = 0
                    # If somebody answers now, our child was only late, and we adopt who was first.
                    if failure is not None and await self._health() is None:
                        await self._fail(failure)
                        return
                never_answered += not was_ready
                failures = 1 if was_ready > STEADY_SECONDS else failures + 1
                if never_answered >= STARTS:
                    await self._fail(
                        failure
                        or ModelMisconfigured(
                            self.spec.model,
                            f"the model server died {STARTS} times at start: {reason}; "
                            "try a smaller context or model, or another memory limit",
                        )
                    )
                    return
                self.restarts += 1
                await self._become(State.RESTARTING, reason)
                await self._sleep(delay_before(failures, self._jitter()))
        finally:
            await asyncio.shield(self._stop_child())

    async def _fail(self, failure: ModelMisconfigured) -> None:
        self.failure = failure
        log.error("model_failed", model=self.spec.served_name, path=failure.path, remedy=failure.remedy)
        await self._become(State.FAILED, str(failure))

    async def _watch_adopted(self) -> tuple[str, None]:
        """Watch a server that somebody else keeps (systemd), until it has been silent for a while."""
        self.adopted = True
        await self._become(State.READY, "adopted")
        missed = 0
        while missed < 3:  # noqa: PLR2004 - a restart by systemd is quicker than three looks
            await self._sleep(self._poll)
            missed = 0 if await self._health() is not None else missed + 1
        self.adopted = False
        return "the adopted server no longer answers", None

    # -- our own child -----------------------------------------------------------------------------

    async def _run_child(self) -> tuple[str, ModelMisconfigured | None]:
        """Run one child from start to death. Gives why it ended, and a failure if it is for good."""
        spec = self.spec
        self._said.clear()
        await asyncio.to_thread(spec.socket.parent.mkdir, mode=0o700, parents=True, exist_ok=True)
        self._child = child = await asyncio.create_subprocess_exec(
            *spec.command(os.getpid()),
            stdin=asyncio.subprocess.PIPE,  # its end tells the child that we are gone
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=ENVIRONMENT,
            cwd="/",
            umask=0o077,
            start_new_session=True,  # Ctrl-C is for us; we end the child in order
        )
        listening = asyncio.create_task(self._listen(child))
        watching = asyncio.create_task(self._watch(child))
        try:
            status = await child.wait()
            await listening
        finally:
            watching.cancel()
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
        self._child = None
        lines = list(self._said)
        if status == EX_CONFIG:
            known = trouble(lines, spec.model)
            return "cannot work", known or ModelMisconfigured(spec.model, "the model server refuses to start")
        if self.reason.startswith("killed: "):
            return self.reason, None
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        last = f" ({lines[-1]})" if lines and status > 0 else ""
        return f"the model server ended with {how}{last}", None

    async def _listen(self, child: asyncio.subprocess.Process) -> None:
        """Keep the last lines that the child writes."""
        assert child.stderr is not None
        while True:
            try:
                line = await child.stderr.readline()
            except ValueError:  # a line longer than the reader's bound: dropped
                continue
            if not line:
                return
            self._said.append(line.decode("utf-8", "replace").strip()[:500])
            log.debug("model_server_says", model=self.spec.served_name, line=self._said[-1])

    async def _watch(self, child: asyncio.subprocess.Process) -> None:
        """See the child become ready, and kill it when it is late, mute or too large."""
        try:
            async with asyncio.timeout(self._ready_within):
                while (health := await self._health()) is None or health.get("pid") != child.pid:
                    if await self._too_large(child):
                        return
                    await self._sleep(0.05)
        except TimeoutError:
            await self._kill(child, f"killed: not ready within {self._ready_within:.0f} s")
            return
        await self._become(State.READY)
        missed = 0
        while not await self._too_large(child):
            missed = 0 if await self._health() is not None else missed + 1
            if missed >= 10:  # noqa: PLR2004 - its event loop never waits for the model, so this is a hang
                await self._kill(child, "killed: it stopped answering")
                return
            await self._sleep(self._poll)

    async def _too_large(self, child: asyncio.subprocess.Process) -> bool:
        """Kill the child if its anonymous memory passes the limit. True: it was killed."""
        if not self.spec.memory or (used := await asyncio.to_thread(anonymous_memory, child.pid)) is None:
            return False
        if used <= self.spec.memory:
            return False
        mib = 2**20
        await self._kill(
            child,
            f"killed: it used {used // mib} MiB of memory beside the weights, "
            f"the limit is {self.spec.memory // mib} MiB",
        )
        return True

    async def _kill(self, child: asyncio.subprocess.Process, reason: str) -> None:
        self.reason = reason
        with contextlib.suppress(ProcessLookupError):
            child.kill()

    async def _stop_child(self) -> None:
        """End the child in order, or after five seconds without."""
        child = self._child
        if child is None or child.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        try:
            async with asyncio.timeout(5.0):
                await child.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
        self._child = None

    async def _health(self) -> Mapping[str, Any] | None:
        """Ask the socket who is there; None where nobody answers."""
        try:
            answer = await self._http.get("http://model/health")
            body = answer.json() if answer.is_success else None
        except (httpx2.HTTPError, OSError, ValueError):
            return None
        return body if isinstance(body, dict) else None


def anonymous_memory(pid: int) -> int | None:
    """Bytes of memory of a process that no file stands behind (proc_pid_status(5), RssAnon).

    None where it cannot be read: the process is gone, or this is not Linux.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return None
