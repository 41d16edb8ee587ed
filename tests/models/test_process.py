"""The server as a process: where it listens, how it starts, refuses and ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import stat
import sys
from typing import TYPE_CHECKING

import httpx2
import pytest

from models.client import ChatClient, ModelError, ModelUnavailable
from models.protocol import EX_CONFIG
from tests.models.conftest import user, whole

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path


@contextlib.asynccontextmanager
async def process(*options: str) -> AsyncGenerator[asyncio.subprocess.Process]:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "models.server", "--model", "echo", *options), stderr=asyncio.subprocess.PIPE
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


async def listening(child: asyncio.subprocess.Process) -> None:
    assert child.stderr is not None
    async with asyncio.timeout(20):
        assert b"model_ready" in await child.stderr.readline()


async def refusal(*options: str) -> str:
    """Start a server that must refuse: its one line."""
    async with process(*options) as child, asyncio.timeout(20):
        _, said = await child.communicate()
        assert child.returncode == EX_CONFIG
    (line,) = said.decode().splitlines()
    return line


async def test_a_model_that_is_none_is_one_line(folder: Path, tmp_path: Path) -> None:
    """A model that cannot be used ends the server with status 78 and one line: file, reason, remedy."""
    model = tmp_path / "diary.gguf"
    model.write_text("Dear diary")
    line = await refusal("--socket", str(folder / "s"), "--model", str(model))
    assert line == (
        f"hearth models: {model}: is not a GGUF model "
        "Remedy: give the path of a GGUF file (it begins with GGUF)"
    )


async def test_a_served_socket_is_not_taken(folder: Path) -> None:
    """A second server on the same socket says so and leaves the first one alone."""
    path = str(folder / "s")
    client = ChatClient("echo", socket=path)
    async with process("--socket", path) as first:
        await listening(first)
        assert "another server listens there" in await refusal("--socket", path)
        assert (await whole(client.chat(user("x"), max_tokens=9)))[0] == "Echo: x"
    await client.close()


async def test_a_dead_socket_is_replaced(folder: Path) -> None:
    """The socket file that a killed server left behind does not stop the next one."""
    path = folder / "s"
    async with process("--socket", str(path)) as first:
        await listening(first)
        first.kill()
        await first.wait()
    assert path.is_socket()
    async with process("--socket", str(path)) as second:
        await listening(second)


async def test_a_path_that_cannot_be(folder: Path) -> None:
    """A path that is too long for a socket, or taken by a file, is refused with a remedy."""
    assert "Remedy: name a short path" in await refusal("--socket", str(folder / ("x" * 120)))
    (folder / "notes.md").write_text("important")
    assert "Remedy: " in await refusal("--socket", str(folder / "notes.md"))
    assert (folder / "notes.md").read_text() == "important"


async def test_a_new_folder_is_ours_alone(folder: Path) -> None:
    """A folder that the server makes has mode 0700, whatever the umask."""
    before = os.umask(0)
    try:
        async with process("--socket", str(folder / "new" / "s")) as child:
            await listening(child)
            assert stat.S_IMODE((folder / "new").stat().st_mode) == 0o700
            assert stat.S_IMODE((folder / "new" / "s").stat().st_mode) == 0o600
    finally:
        os.umask(before)


async def test_loopback() -> None:
    """On a port the same protocol is spoken, on 127.0.0.1 only."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with process("--port", str(port)) as child:
        await listening(child)
        client = ChatClient("echo", base_url=f"http://127.0.0.1:{port}/v1")
        assert (await whole(client.chat(user("x"), max_tokens=9)))[0] == "Echo: x"
        await client.close()
        elsewhere = ChatClient("echo", base_url=f"http://127.0.0.2:{port}/v1")
        with pytest.raises(ModelUnavailable):
            await elsewhere.count_tokens(user("x"))
        await elsewhere.close()


async def test_sigterm_ends_it_in_order(folder: Path) -> None:
    """SIGTERM in the middle of an answer: the caller hears of it, the socket is gone, the status is 0."""
    path = folder / "s"
    client = ChatClient("echo", socket=path)
    async with process("--socket", str(path), "--echo-delay", "0.05") as child, asyncio.timeout(20):
        await listening(child)
        stream = client.chat(user("x " * 1000), max_tokens=1000)
        await anext(stream)
        child.send_signal(signal.SIGTERM)
        with pytest.raises(ModelError):
            await whole(stream)
        _, said = await child.communicate()
        assert child.returncode == 0
        assert said == b""
    assert not path.exists()
    await client.close()


async def test_nothing_that_was_asked_is_logged(folder: Path) -> None:
    """Neither answers, nor refusals, nor failures write words of a request to the log."""
    path = folder / "s"
    async with process("--socket", str(path)) as child:
        await listening(child)
        transport = httpx2.AsyncHTTPTransport(uds=str(path))
        async with httpx2.AsyncClient(transport=transport, base_url="http://m") as http:
            for messages in (user("SECRET"), user("echo:fail SECRET"), [{"role": "SECRET"}], "SECRET"):
                await http.post("/v1/chat/completions", json={"model": "echo", "messages": messages})
            await http.post("/v1/chat/completions", content=b"{SECRET")
        child.terminate()
        _, said = await child.communicate()
        assert b"SECRET" not in said
