"""Real servers in their own processes, on Unix sockets in a short-lived folder."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpcore2  # noqa: F401 - httpx2 imports it when a first client is made, which reads files
import pytest
from blockbuster import blockbuster_ctx

from models.client import ChatClient, Chunk, Deadlines
from models.host import ModelHost, ServeSpec
from tests.models.gguf_file import write_model


@pytest.fixture(autouse=True)
def _nothing_blocks() -> Iterator[None]:
    """A blocking call of ours on the event loop fails the test; tests themselves may read files."""
    with blockbuster_ctx("models"):
        yield


Serving = Callable[..., AbstractAsyncContextManager[ChatClient]]


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not tmp_path: the path of a Unix socket may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="hm-") as name:
        yield Path(name)


@pytest.fixture
def serving(folder: Path) -> Serving:
    @contextlib.asynccontextmanager
    async def start(
        model: str | Path = "echo", *, deadlines: Deadlines | None = None, **spec: Any
    ) -> AsyncGenerator[ChatClient]:
        served = ServeSpec(str(model), folder / "model.sock", **spec)
        async with ModelHost(served) as host:
            await host.ready(30)
            client = ChatClient(
                served.served_name, socket=served.socket, temperature=0.0, deadlines=deadlines
            )
            try:
                yield client
            finally:
                await client.close()

    return start


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that answers noise at once."""
    return write_model(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture(scope="session")
def heavy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes seconds to read a long prompt, on any machine of today."""
    return write_model(tmp_path_factory.mktemp("models") / "heavy.gguf", width=512, layers=8, context=8192)


def user(*texts: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text} for text in texts]


async def whole(stream: AsyncGenerator[Chunk]) -> tuple[str, dict[str, float], str | None, list[int]]:
    """Read an answer to its end: text, usage, finish, positions."""
    text, finish, positions = "", None, list[int]()
    usage: dict[str, float] = {}
    async with contextlib.aclosing(stream):
        async for chunk in stream:
            text += chunk.text
            usage = dict(chunk.usage) if chunk.usage else usage
            finish = chunk.finish or finish
            positions += [] if chunk.position is None else [chunk.position]
    return text, usage, finish, positions
