"""Model servers as children: started, watched, restarted, limited, adopted, ended with their parent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.client import ChatClient, ModelMisconfigured, ModelUnavailable
from models.hearing import SpeechClient
from models.host import (
    BACKOFF_CAP,
    NICE,
    ModelHost,
    ServeSpec,
    State,
    anonymous_memory,
    delay_before,
    shares,
    trouble,
)
from models.protocol import Unloadable
from tests.models.conftest import user, whole
from tests.models.test_hearing import all_of, tone
from tests.models.test_hearing import whole as heard_in

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


async def at_once(_seconds: float) -> None:
    await asyncio.sleep(0.01)


async def until(host: ModelHost, *states: State) -> None:
    async with asyncio.timeout(30), host._changed:
        await host._changed.wait_for(lambda: host.state in states)


def start_of(path: Path) -> bytes:
    return path.read_bytes()[:30_000]


def client_of(spec: ServeSpec) -> ChatClient:
    return ChatClient(spec.served_name, socket=spec.socket)


async def test_a_killed_server_comes_back(folder: Path) -> None:
    """SIGKILL in the middle of an answer ends that answer with an error; the next one is answered."""
    spec = ServeSpec("echo", folder / "s", echo_delay=0.05)
    client = client_of(spec)
    async with ModelHost(spec) as host:
        await host.ready()
        pid = host.pid
        assert pid is not None
        stream = client.chat(user("x " * 100), max_tokens=1000)
        await anext(stream)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ModelUnavailable):
            await whole(stream)
        await until(host, State.RESTARTING)
        assert "SIGKILL" in host.reason
        await host.ready()
        assert (await whole(client.chat(user("again"), max_tokens=9)))[0] == "Echo: again"
        assert host.restarts == 1
        assert host.pid != pid
    assert host.state is State.STOPPED
    await client.close()


async def test_a_killed_ear_comes_back(folder: Path) -> None:
    """SIGKILL in the middle of a recording ends that one with an error; the same is heard afterwards."""
    spec = ServeSpec("echo", folder / "s", kind="speech", echo_delay=0.05)
    client = SpeechClient(spec.served_name, socket=spec.socket)
    async with ModelHost(spec) as host:
        await host.ready()
        assert host.pid is not None
        signs = client.transcribe(tone(8))
        while (await anext(signs)).segment is None:
            pass
        os.kill(host.pid, signal.SIGKILL)
        with pytest.raises(ModelUnavailable):
            await all_of(signs)
        await until(host, State.RESTARTING)
        assert "SIGKILL" in host.reason
        await host.ready()
        assert heard_in(await all_of(client.transcribe(tone(8)))).duration == 8.0
        assert host.restarts == 1
    await client.close()


async def test_hearing_gives_way_to_answering(folder: Path) -> None:
    """The process that listens is niced, the one that answers is not."""
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    for kind, nice in (("chat", 0), ("speech", NICE)):
        async with ModelHost(ServeSpec("echo", folder / kind, kind=kind)) as host:  # type: ignore[arg-type] # a str
            await host.ready()
            assert host.pid is not None
            assert os.getpriority(os.PRIO_PROCESS, host.pid) == min(19, ours + nice)


@pytest.mark.parametrize("model", ["missing", "empty", "file"])
async def test_a_folder_that_is_no_speech_model_fails_once(folder: Path, model: str) -> None:
    """A folder that is missing, empty or a file fails at once with path and remedy, and nothing loops."""
    (folder / "empty").mkdir()
    (folder / "file").write_bytes(b"not a model")
    async with ModelHost(ServeSpec(str(folder / model), folder / "s", kind="speech")) as host:
        with pytest.raises(ModelMisconfigured) as told:
            await host.ready()
        assert told.value.path.startswith(str(folder / model))
        assert host.state is State.FAILED
        assert host.restarts == 0


@given(st.integers(1, 512))
def test_cores_are_dealt_out(cores: int) -> None:
    """Both kinds have a thread, and together no more than there are cores, where there are two."""
    chat, speech = shares(cores)
    assert min(chat, speech) >= 1
    assert chat + speech == max(2, cores)
    assert chat >= speech


@pytest.mark.parametrize("model", ["garbage.gguf", "missing.gguf", "cut.gguf"])
async def test_a_model_that_is_none_fails_once(folder: Path, tiny: Path, model: str) -> None:
    """Garbage, a missing and a truncated file fail at once with path and remedy, and nothing loops."""
    files = {"garbage.gguf": b"not a model", "cut.gguf": start_of(tiny)}
    if model in files:
        (folder / model).write_bytes(files[model])
    async with ModelHost(ServeSpec(str(folder / model), folder / "s")) as host:
        with pytest.raises(ModelMisconfigured) as told:
            await host.ready()
        assert told.value.path == str(folder / model)
        assert "; " in told.value.remedy
        assert host.state is State.FAILED
        assert host.failure is told.value
        assert host.restarts == 0
        assert host.pid is None


async def test_memory_limit_kills_and_is_given_up(folder: Path) -> None:
    """A server above its memory limit is killed; if it is so at each start, that is said, with the limit."""
    delays: list[float] = []

    async def sleep(seconds: float) -> None:
        if seconds > 0.06:
            delays.append(seconds)
        await at_once(seconds)

    spec = ServeSpec("echo", folder / "s", memory=4 << 20)
    async with ModelHost(spec, sleep=sleep, jitter=lambda: 1.0) as host:
        with pytest.raises(ModelMisconfigured, match="the limit is 4 MiB"):
            await host.ready(60)
        assert host.state is State.FAILED
        assert delays == [1.0, 2.0, 4.0, 8.0]


async def test_memory_limit_kills_a_running_server(folder: Path) -> None:
    """A server that grows past the limit while it runs is killed and started again."""
    spec = ServeSpec("echo", folder / "s", memory=1 << 30)
    async with ModelHost(spec, sleep=at_once) as host:
        await host.ready()
        assert host.pid is not None
        used = await asyncio.to_thread(anonymous_memory, host.pid)
        assert used is not None
        assert 1 << 20 < used < 1 << 30
        host.spec = ServeSpec("echo", folder / "s", memory=used // 2)
        await until(host, State.RESTARTING)
        assert "memory" in host.reason


async def test_no_memory_for_the_context(folder: Path, heavy: Path) -> None:
    """Where the context does not fit the limit, llama.cpp's failure is told with a remedy."""
    # 8 layers of width 512, 8192 tokens: 128 MiB for one conversation, 512 for four.
    async with ModelHost(ServeSpec(str(heavy), folder / "s", memory=64 << 20)) as host:
        with pytest.raises(ModelMisconfigured, match=r"no memory.*smaller context"):
            await host.ready()
        assert host.restarts == 0


async def test_a_service_is_adopted(folder: Path) -> None:
    """A server without an owner is adopted and left running; when it goes for good, a child replaces it."""
    command = [sys.executable, "-m", "models.server", "--socket", str(folder / "s"), "--model", "echo"]
    service = await asyncio.create_subprocess_exec(*command)
    spec = ServeSpec("echo", folder / "s")
    client = client_of(spec)
    try:
        async with asyncio.timeout(20):
            while not (folder / "s").exists():  # noqa: ASYNC110 - another process makes it
                await asyncio.sleep(0.01)
        async with ModelHost(spec, poll=0.05) as host:
            await host.ready()
            assert host.adopted
            assert host.pid is None
        assert (await whole(client.chat(user("on"), max_tokens=9)))[0] == "Echo: on"
        async with ModelHost(spec, poll=0.05) as host:
            await host.ready()
            service.terminate()
            assert await service.wait() == 0
            await until(host, State.RESTARTING)
            await host.ready()
            assert not host.adopted
            assert host.pid is not None
    finally:
        await client.close()
        if service.returncode is None:
            service.kill()
            await service.wait()


PARENT = """
import asyncio, pathlib, sys
from models.host import ModelHost, ServeSpec
async def main():
    async with ModelHost(ServeSpec("echo", pathlib.Path(sys.argv[1]))) as host:
        await host.ready()
        print(host.pid, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


@contextlib.asynccontextmanager
async def another_hearth(folder: Path) -> AsyncGenerator[tuple[asyncio.subprocess.Process, int]]:
    """Another process that keeps a server on our socket: the process, and its child's id."""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(folder / "s"), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    words = b""
    async with asyncio.timeout(30):
        while not words.strip().isdigit():
            words = await parent.stdout.readline()  # log lines come before
    try:
        yield parent, int(words)
    finally:
        if parent.returncode is None:
            parent.kill()
            await parent.wait()


async def test_the_child_of_another_is_refused(folder: Path) -> None:
    """The server of a second Hearth is not used: that is said after a while, with a remedy."""
    async with another_hearth(folder) as (_, child):
        async with ModelHost(ServeSpec("echo", folder / "s"), sleep=at_once) as host:
            with pytest.raises(ModelMisconfigured, match="child of another process; stop that one"):
                await host.ready()
            assert not host.adopted
        os.kill(child, 0)  # it is still there


async def test_the_child_dies_with_its_parent(folder: Path) -> None:
    """When the parent is killed, the server is gone too, and its socket can be used again."""
    loop = asyncio.get_running_loop()
    async with another_hearth(folder) as (parent, pid), asyncio.timeout(30):
        child = os.pidfd_open(pid)
        gone = asyncio.Event()
        loop.add_reader(child, gone.set)
        parent.kill()
        await parent.wait()
        await gone.wait()
        loop.remove_reader(child)
        os.close(child)
    async with ModelHost(ServeSpec("echo", folder / "s")) as host:
        await host.ready()
        assert not host.adopted


async def test_the_child_knows_nothing_of_us(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment and open files of the parent do not reach the child."""
    monkeypatch.setenv("HEARTH_TOKEN", "secret")
    (folder / "credential").write_text("secret")
    with (folder / "credential").open() as secret:
        os.set_inheritable(secret.fileno(), True)
        async with ModelHost(ServeSpec("echo", folder / "s")) as host:
            await host.ready()
            proc = Path(f"/proc/{host.pid}")
            assert b"secret" not in (proc / "environ").read_bytes()
            files = [str(file.readlink()) for file in (proc / "fd").iterdir()]
            assert files
            assert not [file for file in files if "credential" in file]
            assert (proc / "cwd").readlink() == Path("/")


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_backoff_is_bounded(failures: int, jitter: float) -> None:
    """Delays are positive, never above the cap, and never shrink with failures."""
    delay = delay_before(failures, jitter)
    assert 0 < delay <= BACKOFF_CAP
    assert delay <= delay_before(failures + 1, jitter)


def test_trouble_reads_what_the_server_wrote() -> None:
    """The line on stderr comes back as path, reason and remedy, whatever stands around it."""
    error = Unloadable("/m/x.gguf", "is not\na GGUF model", "get another")
    told = trouble(["warning", error.line(), "more"], "x")
    assert told is not None
    assert (told.path, told.remedy) == ("/m/x.gguf", "is not a GGUF model; get another")
    assert trouble(["Traceback"], "x") is None
